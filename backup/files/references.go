package files

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/provider"
)

// references makes links and special files, and describes directories from
// the bottom up.
func (r *restorer) references(ctx context.Context) error {
	w := r.cursor()
	defer w.close()
	var open []expected // directories we are in
	leave := func(next string) error {
		for len(open) > 0 && !strings.HasPrefix(next, open[len(open)-1].it.Path+"/") {
			last := open[len(open)-1]
			open = open[:len(open)-1]
			if err := r.directory(w, last); err != nil {
				return err
			}
		}
		return nil
	}
	var root *expected
	for e, err := range selected(ctx, r.v, r.sel) {
		if err != nil {
			return err
		}
		if e.it.Path == rootPath {
			root = &e
			continue
		}
		if err := leave(e.it.Path); err != nil {
			return err
		}
		switch e.m.Type {
		case typeDir:
			open = append(open, e)
		case typeSymlink, typeLink, typeFIFO, typeSocket, typeDevice:
			if err := r.reference(ctx, w, e); err != nil {
				return err
			}
		}
	}
	if err := leave(""); err != nil {
		return err
	}
	if err := r.ancestors(ctx, w); err != nil {
		return err
	}
	if root != nil && root.m.Type == typeDir {
		return r.directory(w, *root)
	}
	if r.gone {
		return r.leaveNothing()
	}
	return nil
}

// ancestors describes the directories that were made on the way to what is
// selected, the deepest first.
func (r *restorer) ancestors(ctx context.Context, w *dirCursor) error {
	paths := slices.SortedFunc(maps.Keys(r.made), func(a, b string) int { return backup.ComparePaths(b, a) })
	for _, p := range paths {
		if r.sel.has(p) {
			continue
		}
		it, err := r.v.Lookup(ctx, p)
		if errors.Is(err, provider.ErrNotFound) {
			continue
		}
		if err != nil {
			return err
		}
		m, err := checkItem(it)
		if err == nil && m.Type == typeDir {
			err = r.directory(w, expected{it, m})
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// directory describes a directory once everything in it is done.
func (r *restorer) directory(w *dirCursor, k expected) error {
	dir, err := w.at(k.it.Path)
	if err != nil {
		return err
	}
	f, err := dir.Open(".")
	if err != nil {
		return fmt.Errorf("%q: %w", k.it.Path, err)
	}
	defer f.Close()
	if r.o.overwrite {
		if err := r.sweep(dir, k); err != nil {
			return fmt.Errorf("%q: %w", k.it.Path, err)
		}
	}
	r.describe(f, k, false)
	if err := setTime(dir, ".", k.m); err != nil {
		return fmt.Errorf("%q: %w", k.it.Path, err)
	}
	return nil
}

// sweep removes what a restore that was killed has left under names of its
// own.
func (r *restorer) sweep(dir *os.Root, k expected) error {
	names, err := readDir(dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		if !isTemp(name) {
			continue
		}
		full := name
		if k.it.Path != rootPath {
			full = k.it.Path + "/" + name
		}
		if _, err := r.v.Lookup(context.Background(), full); !errors.Is(err, provider.ErrNotFound) {
			continue
		}
		if err := dir.Remove(name); err != nil {
			return err
		}
	}
	return nil
}

// reference makes a link or a special file.
func (r *restorer) reference(ctx context.Context, w *dirCursor, e expected) error {
	if !r.wanted(e.m) {
		r.t.c.Logger.Warn("not restored: special files are made only when asked for", "path", e.it.Path, "type", e.m.Type)
		return nil
	}
	dir, name, err := w.of(e.it.Path)
	if err != nil {
		return err
	}
	fi, err := dir.Lstat(name)
	there := err == nil
	switch {
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return err
	case there && !r.o.overwrite:
		return fmt.Errorf("%q is there already, though the destination was empty", e.it.Path)
	case there && fi.IsDir():
		if err := r.removeDir(dir, name, e.it.Path); err != nil {
			return err
		}
		there = false
	}
	if e.m.Type == typeLink {
		return r.hardLink(ctx, w, dir, name, e, fi)
	}
	at := name
	if !there || !sameSpecial(dir, name, fi, e.m) {
		if there {
			at = tempName()
		}
		if err := makeSpecial(w, dir, at, e.m); err != nil {
			return fmt.Errorf("%q: %w", e.it.Path, err)
		}
	}
	if err := describeSpecial(w, dir, at, e.m); err != nil {
		r.t.c.Logger.Warn("restored without all of its attributes", "path", e.it.Path, "error", err)
	}
	if at != name {
		if err := dir.Rename(at, name); err != nil {
			return fmt.Errorf("%q: %w", e.it.Path, errors.Join(err, dir.Remove(at)))
		}
	}
	return nil
}

func (r *restorer) wanted(m meta) bool {
	switch m.Type {
	case typeFIFO, typeSocket:
		return r.o.special && specials
	case typeDevice:
		return r.o.devices && specials
	}
	return true
}

// sameSpecial reports whether a symbolic link or special file need not be
// made anew.
func sameSpecial(dir *os.Root, name string, fi fs.FileInfo, m meta) bool {
	now := describe(fi)
	if _, names := identify(fi); names > 1 || now.Type != m.Type || now.Device != m.Device || now.Format != m.Format {
		return false
	}
	if m.Type != typeSymlink {
		return true
	}
	to, err := dir.Readlink(name)
	return err == nil && to == string(m.Link)
}

// hardLink gives a restored file a further name. If that file was damaged
// and left out, so is this name of it. Fi is what has the name now, if
// anything does.
func (r *restorer) hardLink(ctx context.Context, w *dirCursor, dir *os.Root, name string, e expected, fi fs.FileInfo) error {
	target := string(e.m.Link)
	of, err := r.root.Lstat(filepath.FromSlash(target))
	if errors.Is(err, fs.ErrNotExist) && r.o.undo && e.it.Size > 0 {
		e.m.Type = typeFile
		return r.file(ctx, w, e)
	}
	if errors.Is(err, fs.ErrNotExist) {
		r.damage(fmt.Errorf("%q: %w: the file %q that it is another name of is missing", e.it.Path, backup.ErrDamaged, target))
		return nil
	}
	if err == nil && !of.Mode().IsRegular() {
		err = fmt.Errorf("%q, which it is another name of, is no regular file", target)
	}
	if err == nil && r.o.undo {
		same, serr := r.sibling(ctx, e, of)
		if serr == nil && !same {
			r.t.c.Logger.Warn("restored as a file of its own: the other name has become another file", "path", e.it.Path, "other", target)
			e.m.Type = typeFile
			return r.file(ctx, w, e)
		}
		err = serr
	}
	if err == nil && fi != nil && !fi.IsDir() {
		if os.SameFile(fi, of) {
			return nil
		}
		err = dir.Remove(name)
	}
	if err == nil {
		err = r.root.Link(filepath.FromSlash(target), filepath.FromSlash(e.it.Path))
	}
	if err != nil {
		return fmt.Errorf("%q: %w", e.it.Path, err)
	}
	return nil
}

// sibling reports whether a name that a restore has left alone is still one
// of the file it was when the safety point was made.
func (r *restorer) sibling(ctx context.Context, e expected, of fs.FileInfo) (bool, error) {
	_, err := r.v.Lookup(ctx, string(e.m.Link))
	if errors.Is(err, provider.ErrNotFound) {
		return describe(of).Inode == e.m.Inode, nil
	}
	return true, err
}

// describe sets owner, permissions, extended attributes and times. That they
// cannot be set is logged: the content matters more.
func (r *restorer) describe(f *os.File, k expected, fresh bool) {
	if err := describeFile(f, k.m, fresh); err != nil {
		r.t.c.Logger.Warn("restored without all of its attributes", "path", k.it.Path, "error", err)
	}
}
