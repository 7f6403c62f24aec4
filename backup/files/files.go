// Package files backs up and restores a directory tree.
//
//	target, err := files.New(files.Config{Root: "/srv/app", Exclude: []string{"*.tmp", "cache"}})
//	point, err := repo.Backup(ctx, "app", target, backup.BackupOptions{Mode: backup.Incremental})
//	err = repo.Restore(ctx, point.ID, target, backup.Destination{Location: "/srv/restored"}, backup.RestoreOptions{})
//
// # What is kept
//
// Regular files, directories, symbolic links and hard links, with
// permissions, owner ids, modification times to the nanosecond and extended
// attributes (on Linux; POSIX ACLs are among them). FIFOs, sockets and
// devices are recorded, and restored when asked for (on Linux). Holes in
// sparse files are zeroes, which the repository stores once. Access times are
// not kept.
//
// # What is skipped in the Incremental and Differential modes
//
// A file is not read if its size, modification time, change time and inode
// are those recorded in the parent point, and if it had not been touched
// within two seconds before that point's backup began: a later change could
// otherwise have left the same times on a coarse file system. Its extended
// attributes are not read either: changing them changes the change time.
// Where the system tells none (Windows), size and modification time decide.
//
// # How files are cut
//
// By content, so that what is inserted in the middle of a file does not make
// the rest of it new. Files of PostgreSQL, SQLite and InnoDB are recognised
// by their headers and cut every 32 KiB (256 KiB if they are larger than 4
// GiB), so that a changed page costs little.
//
// # Consistency
//
// Each file is read as it is at its moment; the tree is not frozen. A file
// that changes while it is read is read again, and if it does not hold still
// it is kept as it was read last, with a warning. To freeze a tree, back up
// a snapshot of its file system. Whoever replaces directories by symbolic
// links while the tree is read cannot have files outside of Root read.
//
// # Restoring
//
// Destination.Location is a directory, made if it does not exist, and
// refused if it is not empty. Destination.Options:
//
//	include    patterns, one per line: only what matches one is restored.
//	exclude    patterns, one per line: what matches one is left alone.
//	overwrite  "true" allows a directory that is not empty: what is there
//	           becomes what the point says, and other files stay.
//	mirror     "true" deletes other files too, and directories that are in
//	           the way; it wants overwrite. What [Config].Exclude keeps out
//	           of backups is spared, and so is what is not selected, and
//	           what is missing from the point because it could not be read.
//	           A point that misses more than it names is refused.
//	compare    of a file that is there. "content", the default, reads it.
//	           "times" believes that it is right if size and modification
//	           time are.
//	verify     "true" reads everything again at the end.
//	special    "true" makes FIFOs and sockets.
//	devices    "true" makes devices. It takes a privilege, and a point from
//	           a stranger can open the machine's disks to anybody this way.
//	dry-run    "true" reads and verifies everything, counts it in the
//	           progress, and writes nothing. See [Target.Plan], too.
//
// A pattern selects what it matches and everything below that. One without a
// slash is matched against each name, one with a slash against the path from
// the root of the tree, where "**" stands for any number of directories:
// "*.conf", "/etc", "srv/app", "srv/**/*.conf". A pattern that matches
// nothing in the point is an error before anything is written. Directories on
// the way to what is selected are made as they are in the point, and left as
// they are if they exist. A further name of a file is restored as that file
// if the first name is not selected.
//
// A file that is there is compared chunk by chunk and only the chunks that
// differ are written, in place. So a restore that was killed goes on, with
// overwrite, where it was, and writes nothing again that is right. A file
// with several names, a link or a program that is running is not written to;
// a new file takes its place. A new file has its modification time last.
// Zeroes of 4 KiB and more become holes in it.
//
// Whatever a point says, and whoever renames things there meanwhile, nothing
// is written outside of Location: all access goes through directories that
// are open, as [os.Root] does, no symbolic link is followed, and paths that
// are not plain relative ones are refused. Owners are restored by root only.
// What is damaged is left out, or, if it was there, may be rewritten in part;
// the rest is restored, and the error names what is missing. When Restore
// returns nil, the content is on stable storage.
//
// # Undoing a restore
//
// With [backup.RestoreOptions].Safety set, everything that a restore is going
// to change, with whatever it is going to delete, is backed up first, and
// what it is going to create is noted. [backup.Repository.Undo] then makes the
// destination what it was: content, types, modes, owners, times, attributes
// and which names are of one file; not inode numbers, access and change
// times. What a restore made is removed, with everything that came into
// directories it made. What it left alone is left alone. It does not matter
// how far the restore came, or an earlier Undo.
package files

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/holdfast-go/holdfast/backup"
)

// Config says what tree to back up.
type Config struct {
	// Root is the directory. It is required for a backup; a target that
	// only restores may leave it empty.
	Root string

	// Exclude leaves out what matches, and everything below it. A pattern
	// with a slash is matched against the whole path below Root, one
	// without against each name; the syntax is that of [path.Match].
	Exclude []string

	Readers int          // how many small files are read at once; default 4
	Logger  *slog.Logger // told of metadata that could not be restored; default: discards
}

// Target is a [backup.Target] of kind "files".
type Target struct {
	c       Config
	entered func(dir string) // a seam for tests: a restore is about to use a directory
}

var _ backup.Target = (*Target)(nil)

// New returns a target. It does not touch the file system.
func New(c Config) (*Target, error) {
	var errs []error
	for _, p := range c.Exclude {
		if _, err := path.Match(p, ""); err != nil || p == "" {
			errs = append(errs, fmt.Errorf("field Exclude: bad pattern %q; see path.Match", p))
		}
	}
	if c.Readers < 0 || c.Readers > 1024 {
		errs = append(errs, fmt.Errorf("field Readers is %d, want 0 to 1024", c.Readers))
	}
	if len(errs) > 0 {
		return nil, fmt.Errorf("files config: %w", errors.Join(errs...))
	}
	if c.Readers == 0 {
		c.Readers = 4
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Root != "" {
		abs, err := filepath.Abs(c.Root)
		if err != nil {
			return nil, fmt.Errorf("files config: Root: %w", err)
		}
		c.Root = abs
	}
	return &Target{c: c}, nil
}

// Kind is "files".
func (t *Target) Kind() string { return "files" }

// excluded reports whether a path below the root is left out.
func (t *Target) excluded(rel, name string) bool {
	for _, p := range t.c.Exclude {
		s := name
		if strings.Contains(p, "/") {
			s = rel
		}
		if ok, _ := path.Match(p, s); ok {
			return true
		}
	}
	return false
}

// Types of entries, as recorded.
const (
	typeFile    = "file"
	typeDir     = "dir"
	typeSymlink = "symlink"
	typeLink    = "link" // a further name of a file that is recorded under another path
	typeFIFO    = "fifo"
	typeSocket  = "socket"
	typeDevice  = "device"

	// typeAbsent is in safety points only: there was nothing of that path.
	typeAbsent = "absent"
)

// charDevice is the format of a device that is not a block device.
const charDevice = "c"

// rootPath is the path of the item that describes the root itself.
const rootPath = "."

// A meta is the description of an item.
type meta struct {
	Type    string            `json:"t"`
	Mode    uint32            `json:"m"` // permissions, and 0o4000 set-uid, 0o2000 set-gid, 0o1000 sticky
	Owner   *owner            `json:"o,omitempty"`
	ModTime time.Time         `json:"mt"`
	Change  int64             `json:"ct,omitempty"` // change time, nanoseconds since 1970
	Inode   uint64            `json:"i,omitempty"`
	Link    []byte            `json:"l,omitempty"` // target of a symlink; path of the other name of a link
	Device  uint64            `json:"d,omitempty"` // device number
	Format  string            `json:"f,omitempty"` // of a device: "c" is a character device
	Xattrs  map[string][]byte `json:"x,omitempty"`
}

type owner struct {
	User  uint32 `json:"u"`
	Group uint32 `json:"g"`
}

// appendHead appends the beginning of what encode returns, up to the inode.
func (m *meta) appendHead(b []byte) []byte {
	b = append(append(append(b, `{"t":"`...), m.Type...), `","m":`...)
	b = strconv.AppendUint(b, uint64(m.Mode), 10)
	if m.Owner != nil {
		b = strconv.AppendUint(append(b, `,"o":{"u":`...), uint64(m.Owner.User), 10)
		b = strconv.AppendUint(append(b, `,"g":`...), uint64(m.Owner.Group), 10)
		b = append(b, '}')
	}
	b = m.ModTime.AppendFormat(append(b, `,"mt":"`...), time.RFC3339Nano)
	b = append(b, '"')
	if m.Change != 0 {
		b = strconv.AppendInt(append(b, `,"ct":`...), m.Change, 10)
	}
	if m.Inode != 0 {
		b = strconv.AppendUint(append(b, `,"i":`...), m.Inode, 10)
	}
	return b
}

func (m meta) encode() json.RawMessage {
	if len(m.Link) == 0 && m.Device == 0 && m.Format == "" && len(m.Xattrs) == 0 {
		return append(m.appendHead(make([]byte, 0, 160)), '}')
	}
	b, err := json.Marshal(m)
	if err != nil {
		panic(err) // it holds nothing that cannot be encoded
	}
	return b
}

func decodeMeta(it backup.Item) (meta, error) {
	var m meta
	if err := json.Unmarshal(it.Meta, &m); err != nil {
		return m, fmt.Errorf("%q: description: %w: %v", it.Path, backup.ErrDamaged, err)
	}
	return m, nil
}

// describe makes the meta of what fi shows.
func describe(fi fs.FileInfo) meta {
	m := meta{Mode: modeBits(fi.Mode()), ModTime: recordable(fi.ModTime())}
	switch mode := fi.Mode(); {
	case mode.IsRegular():
		m.Type = typeFile
	case mode.IsDir():
		m.Type = typeDir
	case mode&fs.ModeSymlink != 0:
		m.Type = typeSymlink
	case mode&fs.ModeNamedPipe != 0:
		m.Type = typeFIFO
	case mode&fs.ModeSocket != 0:
		m.Type = typeSocket
	default:
		m.Type = typeDevice
		if mode&fs.ModeCharDevice != 0 {
			m.Format = charDevice
		}
	}
	describeSys(fi, &m)
	return m
}

// recordable returns a time in UTC, or the nearest to it that the format of
// descriptions has: some file systems keep years of more than four digits.
func recordable(t time.Time) time.Time {
	t = t.UTC()
	switch y := t.Year(); {
	case y < 0:
		return time.Date(0, 1, 1, 0, 0, 0, 0, time.UTC)
	case y > 9999:
		return time.Date(9999, 12, 31, 23, 59, 59, 999_999_999, time.UTC)
	}
	return t
}

func modeBits(m fs.FileMode) uint32 {
	b := uint32(m.Perm())
	for _, x := range modeMap {
		if m&x.mode != 0 {
			b |= x.bit
		}
	}
	return b
}

var modeMap = []struct {
	mode fs.FileMode
	bit  uint32
}{{os.ModeSetuid, 0o4000}, {os.ModeSetgid, 0o2000}, {os.ModeSticky, 0o1000}}

// unchanged reports whether a file need not be read: it is what it was when
// the parent point's backup, which began at since, recorded it.
func unchanged(size int64, now meta, before backup.Item, since time.Time) bool {
	old, err := decodeMeta(before)
	if err != nil || old.Type != typeFile {
		return false
	}
	touched := old.ModTime
	if c := time.Unix(0, old.Change); old.Change != 0 {
		touched = c
	}
	return before.Size == size && old.ModTime.Equal(now.ModTime) && old.Change == now.Change && old.Inode == now.Inode &&
		touched.Before(since.Add(-coarsest))
}

// coarsest is the resolution of the coarsest file times in use, those of FAT.
const coarsest = 2 * time.Second
