package files

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/holdfast-go/holdfast/backup"
)

// Restore implements [backup.Target].
func (t *Target) Restore(ctx context.Context, v *backup.View, d backup.Destination) error {
	o, err := parseOptions(d)
	if err != nil {
		return err
	}
	return t.restore(ctx, v, d.Location, o)
}

func (t *Target) restore(ctx context.Context, v *backup.View, location string, o options) error {
	sel, err := newSelection(o)
	if err == nil {
		err = errors.Join(mirrorable(o, v.Point()), sel.resolve(ctx, v))
	}
	if err != nil {
		return err
	}
	r := &restorer{t: t, v: v, o: o, sel: sel, location: location, slots: make(chan struct{}, 2*max(2, runtime.GOMAXPROCS(0)))}
	if !o.dryRun {
		if r.root, err = openDestination(location, o); err != nil {
			return err
		}
		defer r.root.Close()
	}
	if err := r.run(ctx); err != nil {
		if !o.dryRun && !o.undo {
			err = fmt.Errorf("%w (%s now holds %d files of the point, each of them whole; remove it, or go on with overwrite=true)", err, location, r.files.Load())
		}
		return err
	}
	return nil
}

func openDestination(dir string, o options) (*os.Root, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	names, err := readDir(root)
	if err == nil && len(names) > 0 && !o.overwrite {
		err = fmt.Errorf("destination %s is not empty; choose another, or set overwrite=true", dir)
	}
	if err != nil {
		root.Close()
		return nil, err
	}
	return root, nil
}

type restorer struct {
	t        *Target
	v        *backup.View
	o        options
	sel      *selection
	location string
	root     *os.Root
	files    atomic.Int64
	slots    chan struct{} // chunks in memory

	mu      sync.Mutex
	damaged []error
	count   int
	made    map[string]bool // directories made on the way to what is selected
	gone    bool            // an undo has found that there was no destination
}

const maxErrors = 20

// damage keeps an error that does not end the restore.
func (r *restorer) damage(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.count++; r.count <= maxErrors {
		r.damaged = append(r.damaged, err)
	}
}

// run restores in passes: files and directories first, in parallel; then
// what is too much is deleted; then come what refers to files, and the
// descriptions of directories, which writing into them would spoil. No
// symbolic link of the point is made while files are written.
func (r *restorer) run(ctx context.Context) error {
	if err := r.parallel(ctx, r.file, r.dispatch); err != nil {
		return err
	}
	if !r.o.dryRun {
		if err := r.rest(ctx); err != nil {
			return err
		}
	}
	if r.count > 0 {
		return fmt.Errorf("%d items are not restored, the rest is: %w", r.count, errors.Join(r.damaged...))
	}
	return nil
}

func (r *restorer) rest(ctx context.Context) error {
	if r.o.mirror && r.count == 0 {
		if err := r.extras(ctx); err != nil {
			return err
		}
	}
	if err := r.references(ctx); err != nil {
		return err
	}
	if err := syncTree(r.root); err != nil {
		return fmt.Errorf("sync: %w", err)
	}
	if r.o.verify {
		return r.parallel(ctx, r.verifyFile, r.dispatchFiles)
	}
	return nil
}

// parallel hands what dispatch sends to several workers, each with a cursor
// of its own.
func (r *restorer) parallel(ctx context.Context, do func(context.Context, *dirCursor, expected) error,
	dispatch func(context.Context, *dirCursor, func(expected) error) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	tasks := make(chan []expected, 4)
	var wg sync.WaitGroup
	for range max(2, runtime.GOMAXPROCS(0)) {
		wg.Go(func() {
			w := r.cursor()
			defer w.close()
			for batch := range tasks {
				for _, k := range batch {
					if ctx.Err() != nil {
						break
					}
					err := do(ctx, w, k)
					switch {
					case err == nil:
					case errors.Is(err, backup.ErrDamaged) && ctx.Err() == nil:
						r.damage(err)
					default:
						cancel(err)
					}
				}
			}
		})
	}
	w := r.cursor()
	b := &batches{to: tasks, done: ctx.Done()}
	err := dispatch(ctx, w, b.add)
	b.flush()
	w.close()
	close(tasks)
	wg.Wait()
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}

// batches puts small files of one directory together for one worker: two that
// make files in the same directory mostly wait for each other.
type batches struct {
	to    chan<- []expected
	done  <-chan struct{}
	batch []expected
}

const maxBatch = 256

// add fails only after done.
func (b *batches) add(e expected) error {
	large := e.it.Size > smallFile
	if n := len(b.batch); n > 0 && (large || n == maxBatch || !besides(b.batch[n-1].it.Path, e.it.Path)) {
		if err := b.flush(); err != nil {
			return err
		}
	}
	b.batch = append(b.batch, e)
	if large {
		return b.flush()
	}
	return nil
}

func (b *batches) flush() error {
	if len(b.batch) == 0 {
		return nil
	}
	select {
	case b.to <- b.batch:
		b.batch = nil
		return nil
	case <-b.done:
		return context.Canceled
	}
}

// besides reports whether two paths are in the same directory.
func besides(a, b string) bool {
	return a[:strings.LastIndexByte(a, '/')+1] == b[:strings.LastIndexByte(b, '/')+1]
}

// cursor returns a cursor that makes directories.
func (r *restorer) cursor() *dirCursor {
	c := &dirCursor{root: r.root, make: true, clear: r.o.mirror || r.o.undo, each: r.t.entered, fix: writable}
	if r.sel.Includes() {
		c.made = func(parts []string) {
			r.mu.Lock()
			defer r.mu.Unlock()
			if r.made == nil {
				r.made = map[string]bool{}
			}
			r.made[strings.Join(parts, "/")] = true
		}
	}
	return c
}

// writable makes sure that the owner of a directory can write into it; what
// the point says of it comes at the end.
func writable(dir *os.Root) error {
	if os.Geteuid() == 0 {
		return nil
	}
	fi, err := dir.Stat(".")
	if err != nil || fi.Mode().Perm()&0o300 == 0o300 {
		return err
	}
	return dir.Chmod(".", fi.Mode().Perm()|0o700)
}

// dispatch makes the directories and hands out the files.
func (r *restorer) dispatch(ctx context.Context, w *dirCursor, send func(expected) error) error {
	for e, err := range selected(ctx, r.v, r.sel) {
		if err != nil {
			return err
		}
		switch e.m.Type {
		case typeFile:
			if err := send(e); err != nil {
				return err
			}
			continue
		case typeDir:
			if !r.o.dryRun {
				if _, err := w.at(e.it.Path); err != nil {
					return err
				}
			}
		case typeAbsent:
			if err := r.absent(e); err != nil {
				return err
			}
		}
		r.v.Wrote(1, 0)
	}
	return nil
}

// dispatchFiles hands out the files only.
func (r *restorer) dispatchFiles(ctx context.Context, _ *dirCursor, send func(expected) error) error {
	for e, err := range selected(ctx, r.v, r.sel) {
		if err != nil {
			return err
		}
		if e.m.Type != typeFile {
			continue
		}
		if err := send(e); err != nil {
			return err
		}
	}
	return nil
}

// checkItem refuses what no backup of this package makes: such a point was
// tampered with, and nothing of it deserves to be trusted.
func checkItem(it backup.Item) (meta, error) {
	m, err := decodeMeta(it)
	if err != nil {
		return m, err
	}
	if it.Path != rootPath || (m.Type != typeDir && m.Type != typeAbsent) {
		if err := checkPath(it.Path); err != nil {
			return m, err
		}
	}
	switch m.Type {
	case typeFile, typeDir, typeSymlink, typeFIFO, typeSocket, typeDevice, typeAbsent:
		return m, nil
	case typeLink:
		if err := checkPath(string(m.Link)); err != nil {
			return m, fmt.Errorf("%q: link: %w", it.Path, err)
		}
		return m, nil
	}
	return m, fmt.Errorf("%q: unknown type %.40q", it.Path, m.Type)
}

func checkPath(p string) error {
	local := filepath.FromSlash(p)
	if p == "." || path.Clean(p) != p || !filepath.IsLocal(local) || (filepath.Separator != '/' && strings.ContainsRune(p, filepath.Separator)) {
		return fmt.Errorf("path %.200q leads outside of the destination or is not plain; this point was not made by this package and is not restored", p)
	}
	return nil
}

// file puts one regular file in its place.
func (r *restorer) file(ctx context.Context, w *dirCursor, k expected) error {
	if r.o.dryRun {
		content, err := r.v.Open(ctx, k.it)
		if err != nil {
			return err
		}
		defer content.Close()
		if _, err := io.Copy(io.Discard, content); err != nil {
			return err
		}
		r.done(k, k.it.Size)
		return nil
	}
	dir, name, err := w.of(k.it.Path)
	if err != nil {
		return err
	}
	if r.o.overwrite {
		fi, err := dir.Lstat(name)
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return err
		case fi.IsDir():
			if err := r.removeDir(dir, name, k.it.Path); err != nil {
				return err
			}
		default:
			if fi.Mode().IsRegular() {
				if done, err := r.update(ctx, dir, name, k, fi); done || err != nil {
					return err
				}
			}
			return r.replace(ctx, w, dir, name, k)
		}
	}
	if err := r.create(ctx, w, dir, name, k); err != nil {
		return err
	}
	r.done(k, k.it.Size)
	return nil
}

func (r *restorer) done(k expected, written int64) {
	r.files.Add(1)
	r.v.Wrote(0, written)
	r.v.Kept(1, k.it.Size-written)
}

// removeDir makes way for what is no directory.
func (r *restorer) removeDir(dir *os.Root, name, full string) error {
	if r.o.mirror || r.o.undo {
		return dir.RemoveAll(name)
	}
	if err := dir.Remove(name); err != nil {
		return fmt.Errorf("%q is a directory in the destination and none in the point; with mirror=true it would be removed: %w", full, err)
	}
	return nil
}
