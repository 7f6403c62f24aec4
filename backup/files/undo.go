package files

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/holdfast-go/holdfast/backup"
)

var _ backup.Undoer = (*Target)(nil)

// Secure implements [backup.Undoer]: every path that a restore of v to d
// would touch is recorded as it is, with what is in it, or as absent. A file
// with a name outside of d comes back, by an Undo, as a file of its own.
func (t *Target) Secure(ctx context.Context, s *backup.Session, v *backup.View, d backup.Destination) error {
	if !filepath.IsAbs(d.Location) {
		return fmt.Errorf("destination: Location %q is relative; an undo may run elsewhere, so it has to be absolute", d.Location)
	}
	r, err := t.comparer(ctx, v, d)
	if err != nil {
		return err
	}
	if r.root != nil {
		defer r.root.Close()
	}
	k := &keeper{r: r, s: s, names: map[inode][]string{}, several: map[inode]uint64{}, ways: &dirCursor{root: r.root},
		w: &walker{t: t, root: r.root, links: map[inode]string{}, kept: map[inode]string{}, slots: make(chan struct{}, t.c.Readers), since: v.Point().Time}}
	defer k.w.stop()
	defer k.ways.close()
	err = compare(ctx, v, r.sel, r.root, func(rel string, e *expected, l *local) (bool, error) {
		return r.enters(rel, e, l), k.visit(ctx, rel, e, l)
	})
	if err == nil {
		err = k.w.drain(ctx, s, 0)
	}
	if err == nil {
		err = k.siblings(ctx)
	}
	return err
}

// Undo implements [backup.Undoer].
func (t *Target) Undo(ctx context.Context, safety *backup.View, d backup.Destination) error {
	return t.restore(ctx, safety, d.Location, options{overwrite: true, special: true, devices: true, undo: true})
}

// A keeper records what a restore would touch.
type keeper struct {
	r       *restorer
	s       *backup.Session
	w       *walker
	ways    *dirCursor
	above   []*entry           // directories we are in that are not recorded yet
	done    string             // nothing below this path is there
	names   map[inode][]string // of files with several, those recorded
	several map[inode]uint64   // how many they have
}

func (k *keeper) visit(ctx context.Context, rel string, e *expected, l *local) error {
	switch {
	case k.done != "" && (k.done == rootPath || strings.HasPrefix(rel, k.done+"/")):
		return nil
	case e != nil && !k.r.wanted(e.m):
		return nil
	case l == nil && rel == rootPath:
		k.done = rel
		return k.w.feed(ctx, k.s, &entry{rel: rel, gone: true})
	case l == nil:
		return k.missing(ctx, rel)
	case rel != rootPath && e == nil && !k.r.extra(rel, l):
		if l.fi.IsDir() {
			k.climb(rel)
			k.above = append(k.above, &entry{rel: rel, dir: l.dir, name: l.name, fi: l.fi})
		}
		return nil
	}
	if err := k.flush(ctx, rel); err != nil {
		return err
	}
	n := &entry{rel: rel, dir: l.dir, name: l.name, fi: l.fi, was: e}
	if !l.fi.IsDir() {
		k.done = rel
	}
	return k.feed(ctx, n)
}

func (k *keeper) feed(ctx context.Context, e *entry) error {
	if id, names := identify(e.fi); names > 1 && e.fi.Mode().IsRegular() {
		k.names[id] = append(k.names[id], e.rel)
		k.several[id] = names
	}
	return k.w.feed(ctx, k.s, e)
}

// climb forgets the directories that rel is not in.
func (k *keeper) climb(rel string) {
	for n := len(k.above); n > 0 && !strings.HasPrefix(rel, k.above[n-1].rel+"/"); n-- {
		k.above = k.above[:n-1]
	}
}

// flush records the directories that rel is in: something in them changes.
func (k *keeper) flush(ctx context.Context, rel string) error {
	k.climb(rel)
	for _, e := range k.above {
		if err := k.feed(ctx, e); err != nil {
			return err
		}
	}
	k.above = k.above[:0]
	return nil
}

// missing records that there is nothing at a path; or not even at one above.
func (k *keeper) missing(ctx context.Context, rel string) error {
	if err := k.flush(ctx, rel); err != nil {
		return err
	}
	for i := range len(rel) + 1 {
		if i < len(rel) && rel[i] != '/' {
			continue
		}
		dir, name, err := k.ways.of(rel[:i])
		if err != nil {
			return err
		}
		fi, err := dir.Lstat(name)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			k.done = rel[:i]
			return k.w.feed(ctx, k.s, &entry{rel: rel[:i], gone: true})
		case err != nil:
			return err
		case !fi.IsDir():
			k.done = rel[:i]
			return k.feed(ctx, &entry{rel: rel[:i], dir: dir, name: name, fi: fi})
		}
	}
	return nil
}

// siblings looks for names that a restore leaves alone of files that it
// replaces: an undo makes the replaced names those of the same file again.
func (k *keeper) siblings(ctx context.Context) error {
	for id, names := range k.several {
		if uint64(len(k.names[id])) >= names {
			delete(k.several, id)
		}
	}
	if len(k.several) == 0 {
		return nil
	}
	c := &comparison{ctx: ctx, visit: func(rel string, _ *expected, l *local) (bool, error) {
		id, _ := identify(l.fi)
		first, ours := k.w.kept[id]
		if _, open := k.several[id]; !open || !ours || !l.fi.Mode().IsRegular() {
			return true, nil
		}
		if slices.Contains(k.names[id], rel) {
			return true, nil
		}
		delete(k.several, id)
		m := describe(l.fi)
		m.Type, m.Link = typeLink, []byte(rel)
		f, err := l.dir.OpenFile(l.name, os.O_RDONLY|openFlags, 0)
		if err != nil {
			return false, err
		}
		defer f.Close()
		if m.Xattrs, err = fileXattrs(f); err != nil {
			return false, err
		}
		return true, k.s.Add(ctx, backup.Item{Path: first, Meta: m.encode()}, f)
	}}
	if err := c.below("", k.r.root); err != nil {
		return err
	}
	for range k.several {
		k.r.t.c.Logger.Warn("a file in the destination has a name outside of it; an undo cannot make the two one again")
	}
	return nil
}

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
