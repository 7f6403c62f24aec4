package postgres

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"time"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/backup/postgres/internal/wal"
)

// Items that are not files of the cluster.
const (
	ownPrefix = ".holdfast/"
	basePath  = ownPrefix + "base" // its Meta is a base
)

// manifestPath is the item that is the server's manifest, and the file.
const manifestPath = "backup_manifest"

// labelPath is the file that says where replaying begins.
const labelPath = "backup_label"

const (
	typeFile = "file"
	typeDir  = "dir"
)

// A meta is the description of an item.
type meta struct {
	Type    string    `json:"t"`
	Mode    uint32    `json:"m"` // permissions
	ModTime time.Time `json:"mt"`
	State   string    `json:"i,omitempty"` // of a file that has been left alone: as long as it is the same, so is the content
	CRC     string    `json:"c,omitempty"` // CRC-32C of a file's content, beside a sum of another kind; see fileCRC
	Sum     string    `json:"s,omitempty"` // of a file's content: hexadecimal digits of its digest
}

// encode leaves room for the sum, which is known when the content has been read.
func (m meta) encode() json.RawMessage {
	b, err := json.Marshal(m)
	if err != nil {
		panic(err) // it holds nothing that cannot be encoded
	}
	return b
}

// sumAt is where the sum of an encoded meta begins, of the length of another:
// it comes last.
func sumAt(encoded []byte, like digest) int { return len(encoded) - 2*len(like) - len(`"}`) }

// crcAt is where the CRC of an encoded meta begins: before the sum. It is
// negative if there is none.
func crcAt(encoded []byte, like digest) int {
	at := sumAt(encoded, like) - len(`"c":"00000000","s":"`)
	if at < 0 || string(encoded[at:at+5]) != `"c":"` {
		return -1
	}
	return at + 5
}

// spoil makes the state in an encoded meta one that no file has.
func spoil(encoded []byte) {
	_, rest, found := bytes.Cut(encoded, []byte(`"i":"`))
	for i := 0; found && rest[i] != '"'; i++ {
		rest[i] = '-'
	}
}

func decodeMeta(it backup.Item) (m meta, sum digest, err error) {
	if err := json.Unmarshal(it.Meta, &m); err != nil {
		return m, sum, fmt.Errorf("%q: description: %w: %v", it.Path, backup.ErrDamaged, err)
	}
	switch m.Type {
	case typeDir:
	case typeFile:
		var ok bool
		if sum, ok = parseDigest(m.Sum); !ok {
			return m, sum, fmt.Errorf("%q: description: %w: no checksum", it.Path, backup.ErrDamaged)
		}
	default:
		return m, sum, fmt.Errorf("%q: type %.20q is unknown", it.Path, m.Type)
	}
	return m, sum, nil
}

// A base describes a base backup.
type base struct {
	System      uint64       `json:"system,string"` // identifier
	Timeline    uint32       `json:"timeline"`
	Start       wal.LSN      `json:"start"` // where replaying begins
	Stop        wal.LSN      `json:"stop"`  // from where on the result is consistent
	Began       time.Time    `json:"began"` // by the clock of who read
	Ended       time.Time    `json:"ended"`
	Version     int          `json:"version"` // server_version_num
	Segment     uint64       `json:"segment"` // bytes of a WAL file
	Block       int          `json:"block"`   // bytes of a page
	Checksums   bool         `json:"checksums"`
	Standby     bool         `json:"standby,omitempty"` // was the source
	Reader      string       `json:"reader"`
	Whole       string       `json:"whole,omitempty"` // why all was read, though changes were asked for
	Tablespaces []tablespace `json:"tablespaces,omitempty"`
	Watermark   *watermark   `json:"watermark,omitempty"`
}

func (b base) encode() json.RawMessage {
	out, err := json.Marshal(b)
	if err != nil {
		panic(err)
	}
	return out
}

func decodeBase(it backup.Item) (base, error) {
	var b base
	if err := json.Unmarshal(it.Meta, &b); err != nil {
		return b, fmt.Errorf("%q: %w: %v", it.Path, backup.ErrDamaged, err)
	}
	if err := wal.CheckSegmentSize(b.Segment); err != nil {
		return b, fmt.Errorf("%q: %w", it.Path, err)
	}
	if b.System == 0 || b.Timeline == 0 || b.Start == 0 || b.Stop < b.Start {
		return b, fmt.Errorf("%q: it describes no base backup", it.Path)
	}
	return b, nil
}

// floor is where the WAL file begins that has a position: a server reads the
// first page of every file.
func (b base) floor(at wal.LSN) wal.LSN { return at &^ wal.LSN(b.Segment-1) }

// checkPath says whether a path is one of a file below a directory, on every
// system.
func checkPath(p string) error {
	if !fs.ValidPath(p) || p == "." || strings.ContainsAny(p, "\\:\x00") || !filepath.IsLocal(p) {
		return fmt.Errorf("path %.200q is none that a cluster has", p)
	}
	return nil
}

// tablespacePath takes a path below pg_tblspc apart: the OID, and what lies in
// the tablespace; inside is false for other paths.
func tablespacePath(p string) (oid uint32, rest string, inside bool) {
	below, ok := strings.CutPrefix(p, "pg_tblspc/")
	if !ok {
		return 0, "", false
	}
	number, rest, _ := strings.Cut(below, "/")
	oid, err := parseTimeline(number)
	if err != nil || fmt.Sprint(oid) != number {
		return 0, "", false
	}
	return oid, rest, true
}

// relationBlock is how the files of relations are cut. A changed page of 8 KiB
// stores that much anew; smaller blocks store less, and take the more memory in
// the index of the repository.
const relationBlock = 32 << 10

// isRelation reports whether a path is of a relation's fork: 16384, 16384.1,
// 16384_fsm, 16384_vm.2, below base, global or a tablespace.
func isRelation(p string) bool {
	dir, _, _ := strings.Cut(p, "/")
	if dir != "base" && dir != "global" && dir != "pg_tblspc" {
		return false
	}
	name := p[strings.LastIndexByte(p, '/')+1:]
	name, segment, more := strings.Cut(name, ".")
	name, fork, forked := strings.Cut(name, "_")
	return digits(name) && (!more || digits(segment)) && (!forked || fork == "fsm" || fork == "vm" || fork == "init")
}

func digits(s string) bool { return s != "" && strings.Trim(s, "0123456789") == "" }
