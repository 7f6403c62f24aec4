package files

import (
	"context"
	"errors"
	"io/fs"
	"slices"
)

// extras deletes what is in the destination and not in the point: with
// patterns, only what they select; never what a backup with this target
// leaves out.
func (r *restorer) extras(ctx context.Context) error {
	var dirs []string
	err := compare(ctx, r.v, r.sel, r.root, func(rel string, e *expected, l *local) (bool, error) {
		switch {
		case l == nil:
			return false, nil
		case e != nil || !r.extra(rel, l):
			return r.enters(rel, e, l), nil
		case l.fi.IsDir():
			dirs = append(dirs, rel)
			return true, nil
		}
		return false, l.dir.Remove(l.name)
	})
	if err != nil {
		return err
	}
	// What is left in a directory was to be spared.
	w := &dirCursor{root: r.root}
	defer w.close()
	for _, rel := range slices.Backward(dirs) {
		dir, name, err := w.of(rel)
		if err != nil {
			return err
		}
		if err := dir.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) && !notEmpty(err) {
			return err
		}
	}
	return nil
}
