package files

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"slices"
	"strings"

	"github.com/holdfast-go/holdfast/backup"
)

// What a restore does to a path.
const (
	Create = "create"
	Modify = "modify" // rewrite in part, replace, or set attributes
	Delete = "delete"
)

// A Change is what a restore would do to one path.
type Change struct {
	Path   string `json:"path"`
	Action string `json:"action"` // Create, Modify or Delete
	Bytes  int64  `json:"bytes"`  // to be written; of what is deleted, its size
}

// Plan tells what [Target.Restore] of v to d would change, in the order of
// [backup.ComparePaths]. It reads the files that are there and nothing of the
// point's content, and writes nothing. What changes later changes the plan.
func (t *Target) Plan(ctx context.Context, v *backup.View, d backup.Destination) iter.Seq2[Change, error] {
	return func(yield func(Change, error) bool) {
		if err := t.plan(ctx, v, d, func(c Change) bool { return yield(c, nil) }); err != nil && !errors.Is(err, errStop) {
			yield(Change{}, err)
		}
	}
}

var errStop = errors.New("the loop was left")

func (t *Target) plan(ctx context.Context, v *backup.View, d backup.Destination, yield func(Change) bool) error {
	r, err := t.comparer(ctx, v, d)
	if err != nil {
		return err
	}
	if r.root != nil {
		defer r.root.Close()
	}
	return compare(ctx, v, r.sel, r.root, func(rel string, e *expected, l *local) (bool, error) {
		c, err := r.change(ctx, rel, e, l)
		if err != nil {
			return false, err
		}
		if c.Action != "" && !yield(c) {
			return false, errStop
		}
		return r.enters(rel, e, l), nil
	})
}

// comparer returns a restorer that only compares. Its root is nil if there
// is no destination.
func (t *Target) comparer(ctx context.Context, v *backup.View, d backup.Destination) (*restorer, error) {
	o, err := parseOptions(d)
	if err != nil {
		return nil, err
	}
	sel, err := newSelection(o)
	if err == nil {
		err = errors.Join(mirrorable(o, v.Point()), sel.resolve(ctx, v))
	}
	if err != nil {
		return nil, err
	}
	r := &restorer{t: t, v: v, o: o, sel: sel, location: d.Location}
	r.root, err = os.OpenRoot(d.Location)
	if errors.Is(err, fs.ErrNotExist) {
		return r, nil
	}
	return r, err
}

// extra reports whether a restore deletes what is there and not in the point.
func (r *restorer) extra(rel string, l *local) bool {
	return r.o.mirror && rel != rootPath && r.sel.has(rel) && !r.t.excluded(rel, l.name) && !r.unread(rel)
}

// unread: a warning of the point is about this path or a directory above it, so
// that it may have been there, and could not be read.
func (r *restorer) unread(rel string) bool {
	return slices.ContainsFunc(r.v.Point().Warnings, func(w backup.Warning) bool {
		return rel == w.Path || strings.HasPrefix(rel, w.Path+"/") || w.Path == rootPath
	})
}

// mirrorable refuses a mirror of a point that misses more than it names.
func mirrorable(o options, p backup.Point) error {
	if !o.mirror || p.WarningCount <= int64(len(p.Warnings)) {
		return nil
	}
	return fmt.Errorf("destination: option mirror: %d parts are missing from the point, which names the first %d, so that what else is to be deleted is not known",
		p.WarningCount, len(p.Warnings))
}

// enters reports whether a restore may change what is in a directory.
func (r *restorer) enters(rel string, e *expected, l *local) bool {
	switch {
	case l == nil || !l.fi.IsDir():
		return false
	case rel == rootPath || e != nil || !r.sel.has(rel):
		return true
	}
	return r.extra(rel, l)
}

func (r *restorer) change(ctx context.Context, rel string, e *expected, l *local) (Change, error) {
	switch {
	case l == nil && e == nil, l != nil && e == nil && !r.extra(rel, l):
		return Change{}, nil
	case l == nil && r.wanted(e.m):
		return Change{rel, Create, e.it.Size}, nil
	case l == nil || (e != nil && !r.wanted(e.m)):
		return Change{}, nil
	case e == nil:
		c := Change{Path: rel, Action: Delete}
		if l.fi.Mode().IsRegular() {
			c.Bytes = l.fi.Size()
		}
		return c, nil
	}
	return r.modification(ctx, rel, e, l)
}

// modification tells what becomes of what is there.
func (r *restorer) modification(ctx context.Context, rel string, e *expected, l *local) (Change, error) {
	c := Change{Path: rel, Action: Modify}
	now := describe(l.fi)
	switch {
	case e.m.Type == typeLink:
		of, err := r.root.Lstat(string(e.m.Link))
		if err == nil && os.SameFile(of, l.fi) {
			return Change{}, nil
		}
		return c, nil
	case now.Type != e.m.Type:
		c.Bytes = e.it.Size
		return c, nil
	case now.Type == typeFile:
		if unchanged(l.fi.Size(), now, e.it, r.v.Point().Time) {
			return Change{}, nil
		}
		f, err := l.dir.OpenFile(l.name, os.O_RDONLY|openFlags, 0)
		if err != nil {
			return c, err
		}
		defer f.Close()
		if c.Bytes, err = r.missing(ctx, f, e.it, l.fi.Size()); err != nil {
			return c, err
		}
		if c.Bytes == 0 && l.fi.Size() == e.it.Size && sameAttributes(f, l.fi, e.m) {
			return Change{}, nil
		}
		if _, names := identify(l.fi); names > 1 {
			c.Bytes = e.it.Size
		}
		return c, nil
	case now.Type == typeDir:
		f, err := l.dir.OpenFile(l.name, os.O_RDONLY|openFlags, 0)
		if err != nil {
			return c, err
		}
		defer f.Close()
		if sameAttributes(f, l.fi, e.m) {
			return Change{}, nil
		}
		return c, nil
	}
	if sameSpecial(l.dir, l.name, l.fi, e.m) && now.ModTime.Equal(e.m.ModTime) && (now.Mode == e.m.Mode || now.Type == typeSymlink) {
		return Change{}, nil
	}
	return c, nil
}

// missing counts what of an item's content is not in f.
func (r *restorer) missing(ctx context.Context, f *os.File, it backup.Item, size int64) (n int64, err error) {
	for c, err := range r.v.Chunks(ctx, it) {
		if err != nil {
			return 0, err
		}
		same := false
		if c.Offset+int64(c.Size) <= size {
			if same, err = r.holds(f, c); err != nil {
				return 0, err
			}
		}
		if !same {
			n += int64(c.Size)
		}
	}
	return n, nil
}
