package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
)

// A localSource is a data directory of this host. Only tablespaces are reached
// through links; nothing else outside of it is read.
type localSource struct {
	data   *os.Root
	device uint64 // of the file system; that of a tablespace may keep another time

	mu     sync.Mutex
	spaces map[uint32]*os.Root
}

// A handle is an open file of a localSource.
type handle struct {
	once sync.Once
	file *os.File
	err  error
}

func openLocal(dir string) (*localSource, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	l := &localSource{data: root, spaces: map[uint32]*os.Root{}}
	fi, err := root.Stat(".")
	if err != nil {
		root.Close()
		return nil, err
	}
	l.device, _, _ = inodeOf(fi)
	return l, nil
}

func (l *localSource) close() {
	l.data.Close()
	for _, s := range l.spaces {
		s.Close()
	}
}

// of returns the root that a path is below, and the path there.
func (l *localSource) of(path string) (*os.Root, string, error) {
	oid, rest, inside := tablespacePath(path)
	if !inside {
		return l.data, path, nil
	}
	if rest == "" {
		rest = "."
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if s, ok := l.spaces[oid]; ok {
		return s, rest, nil
	}
	link := fmt.Sprintf("pg_tblspc/%d", oid)
	to, err := l.data.Readlink(link)
	if err != nil {
		return l.data, path, nil // one within the data directory
	}
	if !filepath.IsAbs(to) {
		return nil, "", fmt.Errorf("%s: tablespace %d is at %q, want an absolute path", l.data.Name(), oid, to)
	}
	s, err := os.OpenRoot(to)
	if err != nil {
		return nil, "", fmt.Errorf("tablespace %d is not on this host as the server has it: %w", oid, err)
	}
	l.spaces[oid] = s
	return s, rest, nil
}

func (l *localSource) list(_ context.Context, dir string) ([]entry, error) {
	root, rel, err := l.of(dir)
	if err != nil {
		return nil, err
	}
	sub, err := root.OpenRoot(rel)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer sub.Close()
	f, err := sub.Open(".")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	names, err := f.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	entries := make([]entry, 0, len(names))
	for _, name := range names {
		fi, err := sub.Lstat(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		e := entry{name: name, kind: fi.Mode().Type(), perm: fi.Mode().Perm(), size: fi.Size(), time: fi.ModTime()}
		if device, number, changed := inodeOf(fi); !changed.IsZero() && device == l.device {
			e.state, e.moved = fmt.Sprintf("%x.%x", number, changed.UnixNano()), changed
		}
		entries = append(entries, e)
	}
	return entries, nil
}

func (l *localSource) read(_ context.Context, f *found, at int64, b []byte) (int, error) {
	h := &f.handle
	h.once.Do(func() {
		root, rel, err := l.of(f.path)
		if err != nil {
			h.err = err
			return
		}
		h.file, h.err = root.Open(rel)
	})
	if h.err != nil {
		return 0, h.err
	}
	n, err := h.file.ReadAt(b, at)
	if err == io.EOF {
		err = nil
	}
	return n, err
}

func (l *localSource) done(f *found) {
	if f.handle.file != nil {
		f.handle.file.Close()
		f.handle.file = nil
	}
}
