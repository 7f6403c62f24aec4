package postgres

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/holdfast-go/holdfast/backup/postgres/internal/wal"
)

const (
	controlPath = "global/pg_control"

	// markerPath is a file that a directory has until its restore has
	// succeeded: the system identifier of what it is becoming.
	markerPath = ".holdfast-restore"
)

// roots are the directories that a restore writes to.
type roots struct {
	data   *os.Root
	wal    *os.Root
	spaces map[uint32]*os.Root
	links  map[uint32]string // where they are
}

func (r *roots) close() {
	for _, root := range append(r.all(), r.wal) {
		if root != nil {
			root.Close()
		}
	}
}

// all are those with files of the cluster.
func (r *roots) all() []*os.Root {
	out := []*os.Root{r.data}
	for _, s := range r.spaces {
		out = append(out, s)
	}
	return out
}

// of returns the directory that an item is in, and its path there.
func (r *roots) of(path string) (*os.Root, string, error) {
	oid, rest, inside := tablespacePath(path)
	root, ok := r.spaces[oid]
	switch {
	case !inside || !ok:
		return r.data, path, nil
	case rest == "":
		return nil, "", fmt.Errorf("item %q is where a tablespace belongs", path)
	}
	return root, rest, nil
}

// placeSpaces says where each tablespace goes.
func placeSpaces(b base, o options) (map[uint32]string, error) {
	places, used := map[uint32]string{}, map[string]bool{}
	var errs []error
	for _, s := range b.Tablespaces {
		if !strings.HasPrefix(s.Location, "/") {
			continue // within the data directory
		}
		number := fmt.Sprint(s.OID)
		dir, key := o.spaces[number], number
		if dir == "" && s.Name != "" {
			dir, key = o.spaces[s.Name], s.Name
		}
		if dir == "" && o.allSpaces != "" {
			dir, key = filepath.Join(o.allSpaces, number), ""
		}
		if dir == "" {
			errs = append(errs, fmt.Errorf("tablespace %s %q wants a directory: option tablespace:%s=DIRECTORY (it was in %s)", number, s.Name, number, s.Location))
			continue
		}
		for _, other := range append(slices.Collect(maps.Values(places)), o.location, o.walDir) {
			if nested(dir, other) || nested(other, dir) {
				errs = append(errs, fmt.Errorf("tablespace %s: %s and %s lie within each other", number, dir, other))
			}
		}
		places[s.OID] = dir
		used[key] = true
	}
	for name := range o.spaces {
		if !used[name] {
			errs = append(errs, fmt.Errorf("option tablespace:%s: the backup has no such tablespace, or it is named twice", name))
		}
	}
	if nested(o.walDir, o.location) || nested(o.location, o.walDir) {
		errs = append(errs, fmt.Errorf("option wal-dir: %s and %s lie within each other", o.walDir, o.location))
	}
	return places, errors.Join(errs...)
}

// nested reports whether a directory is another, or below it.
func nested(dir, in string) bool {
	rel, err := filepath.Rel(in, dir)
	return err == nil && (rel == "." || filepath.IsLocal(rel))
}

// openRoots opens the directories, or says why they must not be written to.
// Nothing has been changed in them then.
func openRoots(b base, o options, places map[uint32]string) (r *roots, err error) {
	r = &roots{spaces: map[uint32]*os.Root{}, links: places}
	defer func() {
		if err != nil {
			r.close()
		}
	}()
	if r.data, err = openRoot(o.location, o); err != nil {
		return r, err
	}
	if err := fit(r.data, b, o); err != nil {
		return r, fmt.Errorf("destination %s: %w", o.location, err)
	}
	if r.wal, err = openRoot(o.walDir, o); err != nil {
		return r, err
	}
	if there, err := names(r.wal); err != nil || len(there) > 0 && !o.overwrite || slices.ContainsFunc(there, notWAL) {
		return r, errors.Join(err, fmt.Errorf("destination %s, for WAL, is not empty; choose another by wal-dir", o.walDir))
	}
	for oid, dir := range places {
		if r.spaces[oid], err = openRoot(dir, o); err != nil {
			return r, err
		}
		link, _ := r.data.Readlink(fmt.Sprintf("pg_tblspc/%d", oid))
		if there, err := names(r.spaces[oid]); err != nil || len(there) > 0 && (!o.overwrite || link != dir) {
			return r, errors.Join(err, fmt.Errorf("destination %s, for tablespace %d, is not empty; choose another", dir, oid))
		}
	}
	return r, nil
}

// openRoot opens a directory, and makes it where it is not there. What is made
// for it above it belongs to the same owner, who could not get to it otherwise.
func openRoot(dir string, o options) (*os.Root, error) {
	var made []string
	for d := dir; ; d = filepath.Dir(d) {
		if _, err := os.Lstat(d); !errors.Is(err, fs.ErrNotExist) {
			break
		}
		made = append(made, d)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	for _, d := range made {
		if o.owner != nil {
			if err := os.Lchown(d, o.owner.user, o.owner.group); err != nil {
				return nil, err
			}
		}
	}
	return os.OpenRoot(dir)
}

func names(root *os.Root) ([]string, error) {
	d, err := root.Open(".")
	if err != nil {
		return nil, err
	}
	defer d.Close()
	return d.Readdirnames(-1)
}

// notWAL reports whether a restore does not put files of this name beside a
// cluster.
func notWAL(name string) bool {
	history, ok := strings.CutSuffix(name, ".history")
	if ok && len(history) == 8 {
		return false
	}
	_, _, err := wal.ParseSegmentName(name, 1<<20)
	return err != nil
}

// fit says why a directory must not be written to.
func fit(root *os.Root, b base, o options) error {
	there, err := names(root)
	if err != nil || len(there) == 0 {
		return err
	}
	if err := running(root); err != nil {
		return err
	}
	if !o.overwrite {
		return errors.New("it is not empty; choose another, or set overwrite=true")
	}
	marker, err := root.ReadFile(markerPath)
	if err == nil && string(bytes.TrimSpace(marker)) == strconv.FormatUint(b.System, 10) {
		return nil
	}
	control, err := root.ReadFile(controlPath)
	if err != nil || len(control) < 8 {
		return fmt.Errorf("it is not empty, and holds no cluster of PostgreSQL that could be told (%v)", err)
	}
	if system := binary.NativeEndian.Uint64(control); system != b.System {
		return fmt.Errorf("it holds another cluster: its system identifier is %d, that of the backup %d", system, b.System)
	}
	return nil
}

// running finds a server that runs on a data directory. What its file of
// process ids names may be in another container, so its socket is tried, too.
func running(root *os.Root) error {
	text, err := root.ReadFile("postmaster.pid")
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	lines := strings.Split(string(text), "\n")
	field := func(n int) string {
		if n < len(lines) {
			return strings.TrimSpace(lines[n])
		}
		return ""
	}
	pid, err := strconv.Atoi(field(0))
	if err != nil {
		return fmt.Errorf("postmaster.pid names no process; stop the server, or remove the file")
	}
	if pid = max(pid, -pid); alive(pid, root.Name()) {
		return fmt.Errorf("a server is running on it, process %d; stop it", pid)
	}
	if field(4) == "" {
		return nil
	}
	// The socket has a file beside it that says which directory it serves.
	socket := field(4) + "/.s.PGSQL." + field(3)
	lock, err := os.ReadFile(socket + ".lock")
	if serves := strings.Split(string(lock), "\n"); err != nil || len(serves) < 2 || strings.TrimSpace(serves[1]) != field(1) {
		return nil
	}
	if conn, err := net.DialTimeout("unix", socket, time.Second); err == nil {
		conn.Close()
		return fmt.Errorf("a server is running on it: it answers at %s; stop it", socket)
	}
	return nil
}
