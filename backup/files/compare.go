package files

import (
	"context"
	"errors"
	"io/fs"
	"iter"
	"os"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/provider"
)

// An expected is an item that a restore is going to put somewhere.
type expected struct {
	it backup.Item
	m  meta
}

// compare visits what of v is selected beside what is below root, which is
// nil if there is no destination yet.
func compare(ctx context.Context, v *backup.View, sel *selection, root *os.Root, visit visitor) error {
	next, stop := iter.Pull2(selected(ctx, v, sel))
	defer stop()
	c := &comparison{ctx: ctx, next: next, visit: visit}
	if err := c.advance(); err != nil {
		return err
	}
	if root != nil {
		fi, err := root.Stat(".")
		if err != nil {
			return err
		}
		enter, err := c.root(v, sel, &local{root, ".", fi})
		if err == nil && enter {
			err = c.below("", root)
		}
		if err != nil {
			return err
		}
	}
	if root == nil {
		if _, err := c.root(v, sel, nil); err != nil {
			return err
		}
	}
	for c.more {
		if err := c.missing(); err != nil {
			return err
		}
	}
	return nil
}

// root visits the root, which is first here and not in the order of paths.
func (c *comparison) root(v *backup.View, sel *selection, l *local) (enter bool, err error) {
	if !sel.has(rootPath) {
		return c.visit(rootPath, nil, l)
	}
	it, err := v.Lookup(c.ctx, rootPath)
	if errors.Is(err, provider.ErrNotFound) {
		return c.visit(rootPath, nil, l)
	}
	if err != nil {
		return false, err
	}
	m, err := checkItem(it)
	if err != nil {
		return false, err
	}
	return c.visit(rootPath, &expected{it, m}, l)
}

// selected yields what a restore puts at the destination: of the items of a
// point those that are selected, under their names, and directories on the
// way to them as they come.
func selected(ctx context.Context, v *backup.View, sel *selection) iter.Seq2[expected, error] {
	return func(yield func(expected, error) bool) {
		var late []expected // under another name, which comes later
		for it, err := range v.Items(ctx) {
			var e expected
			if err == nil {
				e.it = it
				e.m, err = checkItem(it)
			}
			if err != nil {
				yield(expected{}, err)
				return
			}
			if as, ok := sel.names[it.Path]; ok && e.m.Type == typeFile {
				late = append(late, e)
				e.it.Path = as
			}
			if !sel.has(it.Path) {
				continue
			}
			if e.m.Type == typeLink && !sel.has(string(e.m.Link)) {
				if e = sel.under(late, e); e.it.Path == "" {
					continue
				}
			}
			if !yield(e, nil) {
				return
			}
		}
	}
}

// under makes of a link whose file is not selected the file itself, or a link
// to the name that is.
func (s *selection) under(late []expected, e expected) expected {
	first := s.names[string(e.m.Link)]
	if first != e.it.Path {
		e.m.Link = []byte(first)
		return e
	}
	for _, l := range late {
		if l.it.Path == string(e.m.Link) {
			l.it.Path = first
			return l
		}
	}
	return expected{}
}

type comparison struct {
	ctx   context.Context
	next  func() (expected, error, bool)
	e     expected
	more  bool
	visit visitor
}

func (c *comparison) advance() (err error) {
	c.e, err, c.more = c.next()
	if err == nil && c.more && c.e.it.Path == rootPath {
		c.e, err, c.more = c.next()
	}
	return err
}

func (c *comparison) missing() error {
	e := c.e
	if _, err := c.visit(e.it.Path, &e, nil); err != nil {
		return err
	}
	return c.advance()
}

// meet visits what is at a path, after all that comes before it in the point.
func (c *comparison) meet(rel string, l *local) (enter bool, err error) {
	for c.more && backup.ComparePaths(c.e.it.Path, rel) < 0 {
		if err := c.missing(); err != nil {
			return false, err
		}
	}
	if !c.more || c.e.it.Path != rel {
		return c.visit(rel, nil, l)
	}
	e := c.e
	if err := c.advance(); err != nil {
		return false, err
	}
	return c.visit(rel, &e, l)
}

func (c *comparison) below(rel string, dir *os.Root) error {
	if err := c.ctx.Err(); err != nil {
		return context.Cause(c.ctx)
	}
	names, err := readDir(dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		path := name
		if rel != "" {
			path = rel + "/" + name
		}
		fi, err := dir.Lstat(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		enter, err := c.meet(path, &local{dir, name, fi})
		if err != nil {
			return err
		}
		if !enter || !fi.IsDir() {
			continue
		}
		next, err := openSame(dir, name, fi)
		if err != nil {
			return err
		}
		err = c.below(path, next)
		next.Close()
		if err != nil {
			return err
		}
	}
	return nil
}
