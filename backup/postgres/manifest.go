package postgres

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/holdfast-go/holdfast/backup/postgres/internal/wal"
)

// A fileSum is what a manifest says of a file.
type fileSum struct {
	size int64
	sum  digest
}

// parseManifest reads a backup_manifest, of version 1 or 2, with a checksum of
// every file, and SHA-256 of itself.
func parseManifest(text []byte) (map[string]fileSum, error) {
	var m struct {
		Version int `json:"PostgreSQL-Backup-Manifest-Version"`
		Files   []struct {
			Path      string
			Encoded   string `json:"Encoded-Path"`
			Size      int64
			Algorithm string `json:"Checksum-Algorithm"`
			Checksum  string
		}
		Own string `json:"Manifest-Checksum"`
	}
	if err := json.Unmarshal(text, &m); err != nil {
		return nil, fmt.Errorf("backup_manifest: %w", err)
	}
	if m.Version != 1 && m.Version != 2 {
		return nil, fmt.Errorf("backup_manifest: version %d is unknown", m.Version)
	}
	// The last line has the sum of all before it.
	before := bytes.LastIndexByte(bytes.TrimRight(text, "\n"), '\n') + 1
	if own := sha256.Sum256(text[:before]); hex.EncodeToString(own[:]) != m.Own {
		return nil, fmt.Errorf("backup_manifest: its own checksum is wrong")
	}
	files := make(map[string]fileSum, len(m.Files))
	for _, f := range m.Files {
		path := f.Path
		if f.Encoded != "" {
			b, err := hex.DecodeString(f.Encoded)
			if err != nil {
				return nil, fmt.Errorf("backup_manifest: path %.80q: %w", f.Encoded, err)
			}
			path = string(b)
		}
		sum, ok := parseDigest(f.Checksum)
		if !ok || f.Algorithm != sum.algorithm() {
			return nil, fmt.Errorf("backup_manifest: %q has neither SHA256 nor CRC32C but %.20s %.80q", path, f.Algorithm, f.Checksum)
		}
		if _, twice := files[path]; twice {
			return nil, fmt.Errorf("backup_manifest: %q is in it twice", path)
		}
		files[path] = fileSum{f.Size, sum}
	}
	return files, nil
}

// agree compares what was read with what the manifest says; each has to have
// every file of the other.
func agree(manifest, read map[string]fileSum) error {
	for path, want := range manifest {
		got, ok := read[path]
		switch {
		case !ok:
			return fmt.Errorf("%q is in the server's manifest and was not sent", path)
		case got.size != want.size:
			return fmt.Errorf("%q has %d bytes, %d in the server's manifest", path, got.size, want.size)
		case got.sum != want.sum:
			return fmt.Errorf("%q arrived with other content than the server's manifest says; is the connection damaging data? Use TLS, and try again", path)
		}
	}
	for path := range read {
		if _, ok := manifest[path]; !ok {
			return fmt.Errorf("%q was sent and is not in the server's manifest", path)
		}
	}
	return nil
}

// A manifestWriter makes a backup_manifest as a server does, of a backup that
// the server has sent none of.
type manifestWriter struct {
	files []listedFile
}

type listedFile struct {
	path string
	time time.Time
	fileSum
}

func (m *manifestWriter) add(path string, modified time.Time, sum fileSum) {
	m.files = append(m.files, listedFile{path, modified, sum})
}

// finish returns the manifest of a backup that needs the WAL of one timeline
// between two positions.
func (m *manifestWriter) finish(src *source, start position, stop wal.LSN) []byte {
	var b bytes.Buffer
	if src.version >= 170000 { // which wants to know whose backup it is
		fmt.Fprintf(&b, "{ \"PostgreSQL-Backup-Manifest-Version\": 2,\n\"System-Identifier\": %d,\n\"Files\": [", src.system)
	} else {
		b.WriteString("{ \"PostgreSQL-Backup-Manifest-Version\": 1,\n\"Files\": [")
	}
	for i, f := range m.files {
		if i > 0 {
			b.WriteByte(',')
		}
		if plain := strconv.QuoteToASCII(f.path); plain == `"`+f.path+`"` {
			fmt.Fprintf(&b, "\n{ \"Path\": %s, ", plain)
		} else {
			fmt.Fprintf(&b, "\n{ \"Encoded-Path\": \"%x\", ", f.path)
		}
		fmt.Fprintf(&b, "\"Size\": %d, \"Last-Modified\": \"%s GMT\", \"Checksum-Algorithm\": \"%s\", \"Checksum\": \"%v\" }",
			f.size, f.time.UTC().Format(time.DateTime), f.sum.algorithm(), f.sum)
	}
	fmt.Fprintf(&b, "\n],\n\"WAL-Ranges\": [\n{ \"Timeline\": %d, \"Start-LSN\": \"%v\", \"End-LSN\": \"%v\" }\n],\n", start.timeline, start.at, stop)
	own := sha256.Sum256(b.Bytes())
	fmt.Fprintf(&b, "\"Manifest-Checksum\": \"%x\"}\n", own)
	return b.Bytes()
}
