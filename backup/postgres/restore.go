package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/holdfast-go/holdfast/backup"
)

// A restorer puts one point somewhere.
type restorer struct {
	t     *Target
	v     *backup.View
	o     options
	b     base
	rec   *recovery
	roots *roots
	slots chan struct{} // chunks in memory
	began time.Time

	dirs    []expected
	files   []expected
	auto    *expected // postgresql.auto.conf
	control *expected // pg_control, which comes last
	total   int64
}

// An expected is an item that is going to be a file or a directory.
type expected struct {
	it  backup.Item
	m   meta
	sum digest
}

// Restore implements [backup.Target].
func (t *Target) Restore(ctx context.Context, v *backup.View, d backup.Destination) error {
	o, err := parseOptions(d)
	if err != nil {
		return fmt.Errorf("postgres: %w", err)
	}
	r := &restorer{t: t, v: v, o: o, slots: make(chan struct{}, 2*max(2, runtime.GOMAXPROCS(0))), began: time.Now().UTC()}
	if err := r.run(ctx); err != nil {
		return fmt.Errorf("postgres: %w", err)
	}
	return nil
}

func (r *restorer) run(ctx context.Context) error {
	it, err := r.v.Lookup(ctx, basePath)
	if err != nil {
		return err
	}
	if r.b, err = decodeBase(it); err != nil {
		return err
	}
	places, err := placeSpaces(r.b, r.o)
	if err != nil {
		return err
	}
	if r.rec, err = planRecovery(ctx, r.v, r.b, r.o); err != nil {
		return err
	}
	if err := r.list(ctx); err != nil {
		return err
	}
	r.v.Expect(int64(len(r.files)), r.total)
	if r.o.dryRun {
		return r.parallel(ctx, r.files, r.try)
	}
	if r.roots, err = openRoots(r.b, r.o, places); err != nil {
		return err
	}
	defer r.roots.close()
	if err := r.write(ctx); err != nil {
		return fmt.Errorf("%w (%s now holds a part of the cluster; remove it, or go on with overwrite=true)", err, r.o.location)
	}
	if r.o.verify {
		return r.verify(ctx)
	}
	return nil
}

// list reads what the point has. Nothing in it is believed.
func (r *restorer) list(ctx context.Context) error {
	file := "" // the last one; what lies below it would follow at once
	for it, err := range r.v.Items(ctx) {
		if err != nil {
			return err
		}
		if it.Path == basePath {
			continue
		}
		e := expected{it: it}
		if err := checkPath(it.Path); err != nil {
			return err
		}
		if e.m, e.sum, err = decodeMeta(it); err != nil {
			return err
		}
		switch first, _, _ := cutPath(it.Path); {
		case first == ".holdfast" || first == markerPath:
			return fmt.Errorf("item %q is none that a cluster has", it.Path)
		case file != "" && strings.HasPrefix(it.Path, file+"/"):
			return fmt.Errorf("item %q lies below %q, which is a file", it.Path, file)
		case e.m.Type == typeDir:
			r.dirs = append(r.dirs, e)
			continue
		}
		file = it.Path
		switch it.Path {
		case "standby.signal", "recovery.signal":
			continue // of the source; what is restored is to recover as is said here
		case "postgresql.auto.conf":
			r.auto = &e
		case controlPath:
			r.control = &e
		}
		r.files = append(r.files, e)
		r.total += it.Size
	}
	if r.control == nil {
		return fmt.Errorf("%w: the point has no %s", backup.ErrDamaged, controlPath)
	}
	return nil
}

func cutPath(p string) (first, rest string, found bool) {
	for i := range len(p) {
		if p[i] == '/' {
			return p[:i], p[i+1:], true
		}
	}
	return p, "", false
}

// write makes the destination the cluster. pg_control, without which no server
// starts, is not there from before anything else is changed until everything
// else is durable.
func (r *restorer) write(ctx context.Context) error {
	marker := strconv.FormatUint(r.b.System, 10) + "\n"
	if err := writeFile(r.roots.data, markerPath, []byte(marker)); err != nil {
		return err
	}
	if err := r.sync(r.roots.data); err != nil {
		return err
	}
	if err := r.clear(); err != nil {
		return err
	}
	if err := r.rec.stage(ctx, r.roots.wal); err != nil {
		return err
	}
	if err := r.parallel(ctx, r.files, r.file); err != nil {
		return err
	}
	if err := r.settle(ctx); err != nil {
		return err
	}
	for _, root := range append(r.roots.all(), r.roots.wal) {
		if err := r.sync(root); err != nil {
			return err
		}
	}
	if err := r.place(ctx, *r.control); err != nil {
		return err
	}
	if err := r.roots.data.Remove(markerPath); err != nil {
		return err
	}
	return r.sync(r.roots.data)
}

func (r *restorer) sync(root *os.Root) error {
	if err := syncTree(root); err != nil {
		return fmt.Errorf("sync %s: %w", root.Name(), err)
	}
	return nil
}

// clear removes what is there and does not belong there, and makes
// directories.
func (r *restorer) clear() error {
	if err := r.roots.data.Remove(controlPath); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := r.extras(); err != nil {
		return err
	}
	for _, e := range r.dirs {
		root, p, err := r.roots.of(e.it.Path)
		if err != nil {
			return err
		}
		if err := r.makeDir(root, p); err != nil {
			return fmt.Errorf("directory %q: %w", e.it.Path, err)
		}
	}
	if err := r.makeDir(r.roots.data, "pg_tblspc"); err != nil {
		return err
	}
	for oid, dir := range r.roots.links {
		link := fmt.Sprintf("pg_tblspc/%d", oid)
		if now, err := r.roots.data.Readlink(link); err == nil && now == dir {
			continue
		}
		if err := r.roots.data.RemoveAll(link); err != nil {
			return err
		}
		if err := r.roots.data.Symlink(dir, link); err != nil {
			return err
		}
		if err := r.own(r.roots.data, link); err != nil {
			return err
		}
	}
	there, err := names(r.roots.wal)
	for _, name := range there {
		err = errors.Join(err, r.roots.wal.Remove(name))
	}
	return err
}

// makeDir makes a directory, in the place of whatever else is there.
func (r *restorer) makeDir(root *os.Root, p string) error {
	fi, err := root.Lstat(p)
	if err == nil && !fi.IsDir() {
		if err := root.Remove(p); err != nil {
			return err
		}
	}
	return root.MkdirAll(p, 0o700)
}

// extras removes what the point does not have: a file of WAL or of a relation
// that is left over would be replayed or read. In the directory of a
// tablespace, other versions of PostgreSQL may have theirs.
func (r *restorer) extras() error {
	keep := map[*os.Root]map[string]bool{}
	for _, root := range r.roots.all() {
		keep[root] = map[string]bool{}
	}
	for _, list := range [][]expected{r.dirs, r.files} {
		for _, e := range list {
			root, p, err := r.roots.of(e.it.Path)
			if err != nil {
				return err
			}
			for ; p != "."; p = path.Dir(p) {
				keep[root][p] = true
			}
		}
	}
	keep[r.roots.data][markerPath] = true
	keep[r.roots.data]["pg_tblspc"] = true
	for oid := range r.roots.links {
		keep[r.roots.data][fmt.Sprintf("pg_tblspc/%d", oid)] = true
	}
	for root, kept := range keep {
		err := fs.WalkDir(root.FS(), ".", func(p string, d fs.DirEntry, err error) error {
			first, _, _ := cutPath(p)
			switch {
			case err != nil:
				return err
			case p == "." || kept[p]:
				return nil
			case root != r.roots.data && !kept[first]:
				return skip(d)
			}
			if err := root.RemoveAll(p); err != nil {
				return err
			}
			return skip(d)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func skip(d fs.DirEntry) error {
	if d.IsDir() {
		return fs.SkipDir
	}
	return nil
}

// settle makes what is not in the point: settings, and the mode of
// directories, which the server insists on.
func (r *restorer) settle(ctx context.Context) error {
	var before []byte
	if r.auto != nil {
		in, err := r.v.Open(ctx, r.auto.it)
		if err != nil {
			return err
		}
		before, err = io.ReadAll(in)
		if err = errors.Join(err, in.Close()); err != nil {
			return err
		}
	}
	settings := annotated(r.rec.settings(before), note{Began: r.began, Until: r.o.recovery.at, Watermark: r.b.Watermark, Backup: r.b.Began, From: r.b.Start})
	for name, content := range map[string][]byte{"postgresql.auto.conf": settings, "recovery.signal": nil} {
		if err := writeFile(r.roots.data, name, content); err != nil {
			return err
		}
		if err := r.own(r.roots.data, name); err != nil {
			return err
		}
	}
	top := os.FileMode(0o700)
	for _, e := range r.dirs {
		root, p, err := r.roots.of(e.it.Path)
		if err == nil {
			err = root.Chmod(p, os.FileMode(e.m.Mode&0o777))
		}
		if err == nil {
			err = r.own(root, p)
		}
		if err != nil {
			return err
		}
		if e.it.Path == "global" {
			top |= os.FileMode(e.m.Mode & 0o050)
		}
	}
	there, err := names(r.roots.wal)
	for _, name := range there {
		err = errors.Join(err, r.own(r.roots.wal, name))
	}
	for _, root := range append(r.roots.all(), r.roots.wal) {
		err = errors.Join(err, root.Chmod(".", top), r.own(root, "."))
	}
	return err
}

func (r *restorer) own(root *os.Root, p string) error {
	if r.o.owner == nil {
		return nil
	}
	return root.Lchown(p, r.o.owner.user, r.o.owner.group)
}

// parallel does something with several files at once.
func (r *restorer) parallel(ctx context.Context, files []expected, do func(context.Context, expected) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	tasks := make(chan expected)
	var wg sync.WaitGroup
	for range r.t.c.Workers {
		wg.Go(func() {
			for e := range tasks {
				if ctx.Err() != nil {
					continue
				}
				if err := do(ctx, e); err != nil {
					cancel(fmt.Errorf("%q: %w", e.it.Path, err))
				}
			}
		})
	}
	for _, e := range files {
		select {
		case tasks <- e:
		case <-ctx.Done():
		}
		if ctx.Err() != nil {
			break
		}
	}
	close(tasks)
	wg.Wait()
	return context.Cause(ctx)
}

// try reads a file of the point, and compares it with what the server said of
// it.
func (r *restorer) try(ctx context.Context, e expected) error {
	in, err := r.v.Open(ctx, e.it)
	if err != nil {
		return err
	}
	defer in.Close()
	if err := compareSum(in, e); err != nil {
		return err
	}
	r.v.Kept(1, e.it.Size)
	return nil
}

func compareSum(in io.Reader, e expected) error {
	h := newSummer(e.sum.algorithm())
	n, err := io.Copy(h, in)
	if err != nil {
		return err
	}
	if n != e.it.Size || h.digest() != e.sum {
		return fmt.Errorf("%d bytes are not the content that the manifest has, of %d", n, e.it.Size)
	}
	return nil
}

// verify reads what was written.
func (r *restorer) verify(ctx context.Context) error {
	return r.parallel(ctx, r.files, func(ctx context.Context, e expected) error {
		if e.it.Path == "postgresql.auto.conf" {
			return nil // has more in it
		}
		root, p, err := r.roots.of(e.it.Path)
		if err != nil {
			return err
		}
		f, err := root.Open(p)
		if err != nil {
			return err
		}
		defer f.Close()
		if err := compareSum(f, e); err != nil {
			return fmt.Errorf("verify: %w; is something else writing there, or is the disk failing?", err)
		}
		return nil
	})
}

// file writes a file whose turn it is.
func (r *restorer) file(ctx context.Context, e expected) error {
	if e.it.Path == controlPath || e.it.Path == "postgresql.auto.conf" {
		return nil
	}
	return r.place(ctx, e)
}

// place makes a file what it should be. One that is there is compared, and
// only what differs is written; one with further names, which may be another
// cluster's, is left to them.
func (r *restorer) place(ctx context.Context, e expected) error {
	root, p, err := r.roots.of(e.it.Path)
	if err != nil {
		return err
	}
	if fi, err := root.Lstat(p); err == nil && (!fi.Mode().IsRegular() || shared(fi)) {
		if err := root.RemoveAll(p); err != nil {
			return err
		}
	}
	f, err := root.OpenFile(p, os.O_CREATE|os.O_RDWR, 0o600)
	if errors.Is(err, fs.ErrNotExist) {
		if err = root.MkdirAll(path.Dir(p), 0o700); err == nil {
			f, err = root.OpenFile(p, os.O_CREATE|os.O_RDWR, 0o600)
		}
	}
	if err != nil {
		return err
	}
	written, err := r.fill(ctx, f, e)
	if err == nil {
		err = f.Chmod(os.FileMode(e.m.Mode & 0o777))
	}
	if err == nil && r.o.owner != nil {
		err = f.Chown(r.o.owner.user, r.o.owner.group)
	}
	if err == nil {
		err = syncFile(f)
	}
	if err == nil && e.it.Path == controlPath {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if written == 0 && e.it.Size > 0 {
		r.v.Kept(1, e.it.Size)
	} else {
		r.v.Wrote(1, written)
		r.v.Kept(0, e.it.Size-written)
	}
	return root.Chtimes(p, time.Time{}, e.m.ModTime)
}
