package postgres

import (
	"context"
	"errors"
	"iter"

	"github.com/holdfast-go/holdfast/backup"
)

// unchanged adds directories, and the files that are as they were in the point
// before, without reading them. It returns the others.
//
// A file is as it was if its size, its times and its number are, and if in the
// point before it had been left alone for so long that it could not change
// without getting others: see margin and begin. A server writes pages without
// changing the size of a file, and a write can be as old as the clock is
// coarse. A full backup reads everything.
func (w *walker) unchanged(ctx context.Context, s *backup.Session) (rest []*found, err error) {
	c := &parentCursor{}
	if comparable, err := w.comparable(ctx, s.Parent()); err != nil {
		return nil, err
	} else if comparable {
		next, stop := iter.Pull2(s.Parent().Items(ctx))
		defer stop()
		c.next = next
	}
	for _, f := range w.list {
		if f.kind.IsDir() {
			it, m := w.item(f)
			it.Meta = m.encode()
			if err := s.Add(ctx, it, nil); err != nil {
				return nil, err
			}
			continue
		}
		kept, err := w.keep(ctx, s, c, f)
		if err != nil {
			return nil, err
		}
		if !kept {
			rest = append(rest, f)
		}
	}
	return rest, c.failure()
}

// comparable reports whether a point is of this cluster.
func (w *walker) comparable(ctx context.Context, parent *backup.View) (bool, error) {
	if parent == nil {
		return false, nil
	}
	it, err := parent.Lookup(ctx, basePath)
	if err != nil {
		return false, ctx.Err() // then it is no parent
	}
	b, err := decodeBase(it)
	return err == nil && b.System == w.src.system && b.Version/10000 == w.src.version/10000 && b.Reader == string(w.name), nil
}

// keep adds a file with the content that it had, if that is what it has.
func (w *walker) keep(ctx context.Context, s *backup.Session, c *parentCursor, f *found) (bool, error) {
	prev, ok := c.find(f.path)
	if !ok || f.state == "" || prev.Size != f.size {
		return false, nil
	}
	was, sum, err := decodeMeta(prev)
	if err != nil || was.Type != typeFile || was.State != f.state || !was.ModTime.Equal(f.time) {
		return false, nil
	}
	it, m := w.item(f)
	m.Sum = was.Sum
	it.Meta = m.encode()
	err = s.Reuse(ctx, prev, it)
	if errors.Is(err, backup.ErrDamaged) {
		return false, nil
	}
	if err == nil {
		w.manifest.add(f.path, m.ModTime, fileSum{prev.Size, sum})
	}
	return err == nil, err
}

// A parentCursor goes through the items of the parent beside a list in order.
type parentCursor struct {
	next func() (backup.Item, error, bool) // nil: there are none
	it   backup.Item
	err  error
}

func (c *parentCursor) find(path string) (backup.Item, bool) {
	for c.next != nil {
		switch n := backup.ComparePaths(c.it.Path, path); {
		case c.it.Path != "" && n == 0:
			return c.it, true
		case n > 0:
			return backup.Item{}, false
		}
		var ok bool
		if c.it, c.err, ok = c.next(); !ok || c.err != nil {
			c.next = nil
		}
	}
	return backup.Item{}, false
}

// failure is what went wrong with reading the parent, unless it is damaged:
// then files are read.
func (c *parentCursor) failure() error {
	if errors.Is(c.err, backup.ErrDamaged) {
		return nil
	}
	return c.err
}
