package files

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// absent removes what was not there when a safety point was made.
func (r *restorer) absent(e expected) error {
	if !r.o.undo {
		return fmt.Errorf("%q: unknown type %q", e.it.Path, e.m.Type)
	}
	if e.it.Path == rootPath {
		r.gone = true
		return nil
	}
	w := &dirCursor{root: r.root, each: r.t.entered, fix: writable}
	defer w.close()
	dir, name, err := w.of(e.it.Path)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, errNoDirectory) {
		return nil // what is not even in a directory is absent
	}
	if err == nil {
		err = dir.RemoveAll(name)
	}
	if err != nil {
		return fmt.Errorf("remove %q: %w", e.it.Path, err)
	}
	return nil
}

// leaveNothing removes the destination, which was not there.
func (r *restorer) leaveNothing() error {
	names, err := readDir(r.root)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := r.root.RemoveAll(name); err != nil {
			return err
		}
	}
	return os.Remove(r.location)
}
