package files

import (
	"context"
	"crypto/rand"
	"encoding/hex"
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
	r := &restorer{t: t, v: v, o: o}
	if !o.dryRun {
		if r.root, err = openDestination(d.Location, o); err != nil {
			return err
		}
		defer r.root.Close()
	}
	if err := r.run(ctx); err != nil {
		if !o.dryRun {
			err = fmt.Errorf("%w (%s now holds %d files of the point, each of them whole; remove it, or repeat with overwrite=true)", err, d.Location, r.files.Load())
		}
		return err
	}
	return nil
}

type options struct{ overwrite, dryRun bool }

func parseOptions(d backup.Destination) (o options, err error) {
	if d.Location == "" {
		return o, errors.New("destination: Location is empty, want a directory")
	}
	for k, v := range d.Options {
		if v != "true" && v != "false" {
			return o, fmt.Errorf("destination: option %s=%q, want true or false", k, v)
		}
		switch k {
		case "overwrite":
			o.overwrite = v == "true"
		case "dry-run":
			o.dryRun = v == "true"
		default:
			return o, fmt.Errorf("destination: unknown option %q; there are overwrite and dry-run", k)
		}
	}
	return o, nil
}

func openDestination(dir string, o options) (*os.Root, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	names, err := readNames(dir)
	if err != nil {
		return nil, err
	}
	if len(names) > 0 && !o.overwrite {
		return nil, fmt.Errorf("destination %s is not empty; choose another, or set overwrite=true", dir)
	}
	return os.OpenRoot(dir)
}

type restorer struct {
	t     *Target
	v     *backup.View
	o     options
	root  *os.Root
	files atomic.Int64

	mu      sync.Mutex
	damaged []error
	count   int
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

// run restores in two passes: files and directories first, in parallel; then
// what refers to them, and the descriptions of directories, which writing
// into them would spoil. No symbolic link of the point exists while files
// are written.
func (r *restorer) run(ctx context.Context) error {
	if err := r.content(ctx); err != nil {
		return err
	}
	if !r.o.dryRun {
		if err := r.references(ctx); err != nil {
			return err
		}
		if err := syncTree(r.root); err != nil {
			return fmt.Errorf("sync: %w", err)
		}
	}
	if r.count > 0 {
		return fmt.Errorf("%d items are not restored, the rest is: %w", r.count, errors.Join(r.damaged...))
	}
	return nil
}

type task struct {
	it backup.Item
	m  meta
}

func (r *restorer) content(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	tasks := make(chan task, 16)
	var wg sync.WaitGroup
	for range max(2, runtime.GOMAXPROCS(0)) {
		wg.Go(func() {
			w := &dirCursor{root: r.root}
			defer w.close()
			for k := range tasks {
				if ctx.Err() != nil {
					continue
				}
				err := r.file(ctx, w, k)
				switch {
				case err == nil:
				case errors.Is(err, backup.ErrDamaged) && ctx.Err() == nil:
					r.damage(err)
				default:
					cancel(err)
				}
			}
		})
	}
	err := r.dispatch(ctx, tasks)
	close(tasks)
	wg.Wait()
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}

// dispatch makes the directories and hands out the files.
func (r *restorer) dispatch(ctx context.Context, tasks chan<- task) error {
	w := &dirCursor{root: r.root}
	defer w.close()
	for it, err := range r.v.Items(ctx) {
		if err != nil {
			return err
		}
		m, err := r.check(it)
		if err != nil {
			return err
		}
		switch m.Type {
		case typeFile:
			select {
			case tasks <- task{it, m}:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
			continue
		case typeDir:
			if !r.o.dryRun {
				if _, err := w.at(it.Path); err != nil {
					return err
				}
			}
		case typeFIFO, typeSocket, typeDevice:
			r.t.c.Logger.Warn("not restored: special files are only recorded", "path", it.Path, "type", m.Type)
		}
		r.v.Wrote(1, 0)
	}
	return nil
}

// check refuses what no backup of this package makes: such a point was
// tampered with, and nothing of it deserves to be trusted.
func (r *restorer) check(it backup.Item) (meta, error) {
	m, err := decodeMeta(it)
	if err != nil {
		return m, err
	}
	if it.Path != rootPath || m.Type != typeDir {
		if err := checkPath(it.Path); err != nil {
			return m, err
		}
	}
	switch m.Type {
	case typeFile, typeDir, typeSymlink, typeFIFO, typeSocket, typeDevice:
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

// file writes one regular file.
func (r *restorer) file(ctx context.Context, w *dirCursor, k task) error {
	content, err := r.v.Open(ctx, k.it)
	if err != nil {
		return err
	}
	defer content.Close()
	if r.o.dryRun {
		if _, err := io.Copy(io.Discard, content); err != nil {
			return err
		}
	} else if err := r.write(w, k, content); err != nil {
		return err
	}
	r.files.Add(1)
	r.v.Wrote(1, k.it.Size)
	return nil
}

func (r *restorer) write(w *dirCursor, k task, content io.Reader) error {
	dirName, name := path.Split(k.it.Path)
	dir, err := w.at(strings.TrimSuffix(dirName, "/"))
	if err != nil {
		return err
	}
	temp := tempName()
	f, err := dir.OpenFile(temp, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, content)
	if err == nil {
		r.describe(f, k.it.Path, k.m)
		err = syncFile(f)
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = dir.Chtimes(temp, k.m.ModTime, k.m.ModTime)
	}
	if err == nil {
		err = r.free(dir, name, k.it.Path)
	}
	if err == nil {
		err = dir.Rename(temp, name)
	}
	if err != nil {
		dir.Remove(temp)
		return fmt.Errorf("write %q: %w", k.it.Path, err)
	}
	return nil
}

func tempName() string {
	var b [12]byte
	rand.Read(b[:])
	return ".holdfast-" + hex.EncodeToString(b[:])
}

// free makes sure that nothing is lost by creating name.
func (r *restorer) free(dir *os.Root, name, full string) error {
	if r.o.overwrite {
		return nil
	}
	if _, err := dir.Lstat(name); !errors.Is(err, fs.ErrNotExist) {
		return errors.Join(err, fmt.Errorf("%q is there already, though the destination was empty", full))
	}
	return nil
}

// describe sets owner, permissions and extended attributes. That they cannot
// be set is logged: the content matters more.
func (r *restorer) describe(f *os.File, p string, m meta) {
	var errs []error
	if m.Owner != nil && os.Geteuid() == 0 {
		errs = append(errs, f.Chown(int(m.Owner.User), int(m.Owner.Group)))
	}
	if len(m.Xattrs) > 0 {
		errs = append(errs, writeXattrs(f, m.Xattrs))
	}
	errs = append(errs, f.Chmod(fileMode(m.Mode))) // last: changing the owner clears set-uid
	if err := errors.Join(errs...); err != nil {
		r.t.c.Logger.Warn("restored without all of its attributes", "path", p, "error", err)
	}
}

// references makes links, and describes directories from the bottom up.
func (r *restorer) references(ctx context.Context) error {
	w := &dirCursor{root: r.root}
	defer w.close()
	var open []task // directories we are in
	leave := func(next string) error {
		for len(open) > 0 && !strings.HasPrefix(next, open[len(open)-1].it.Path+"/") {
			last := open[len(open)-1]
			open = open[:len(open)-1]
			if err := r.directory(last); err != nil {
				return err
			}
		}
		return nil
	}
	var root *task
	for it, err := range r.v.Items(ctx) {
		if err != nil {
			return err
		}
		m, err := r.check(it)
		if err != nil {
			return err
		}
		if it.Path == rootPath {
			root = &task{it, m}
			continue
		}
		if err := leave(it.Path); err != nil {
			return err
		}
		switch m.Type {
		case typeDir:
			open = append(open, task{it, m})
		case typeSymlink, typeLink:
			if err := r.link(w, it, m); err != nil {
				return err
			}
		}
	}
	if err := leave(""); err != nil {
		return err
	}
	if root != nil {
		return r.directory(*root)
	}
	return nil
}

// directory describes a directory once everything in it is done.
func (r *restorer) directory(k task) error {
	w := &dirCursor{root: r.root}
	defer w.close()
	dir, err := w.at(k.it.Path)
	if err != nil {
		return err
	}
	if err := dir.Chtimes(".", k.m.ModTime, k.m.ModTime); err != nil {
		return fmt.Errorf("%q: %w", k.it.Path, err)
	}
	f, err := dir.Open(".")
	if err != nil {
		return fmt.Errorf("%q: %w", k.it.Path, err)
	}
	defer f.Close()
	r.describe(f, k.it.Path, k.m)
	return nil
}

// link makes a symbolic or a hard link.
func (r *restorer) link(w *dirCursor, it backup.Item, m meta) error {
	dirName, name := path.Split(it.Path)
	dir, err := w.at(strings.TrimSuffix(dirName, "/"))
	if err != nil {
		return err
	}
	if err := r.free(dir, name, it.Path); err != nil {
		return err
	}
	if r.o.overwrite {
		if fi, err := dir.Lstat(name); err == nil && !fi.IsDir() {
			if err := dir.Remove(name); err != nil {
				return err
			}
		}
	}
	if m.Type == typeLink {
		return r.hardLink(it, m)
	}
	if err := dir.Symlink(string(m.Link), name); err != nil {
		return fmt.Errorf("%q: %w", it.Path, err)
	}
	var errs []error
	if m.Owner != nil && os.Geteuid() == 0 {
		errs = append(errs, dir.Lchown(name, int(m.Owner.User), int(m.Owner.Group)))
	}
	errs = append(errs, linkTimes(dir, name, m.ModTime))
	if err := errors.Join(errs...); err != nil {
		r.t.c.Logger.Warn("restored without all of its attributes", "path", it.Path, "error", err)
	}
	return nil
}

// hardLink gives a restored file a further name. If that file was damaged
// and left out, so is this name of it.
func (r *restorer) hardLink(it backup.Item, m meta) error {
	target := string(m.Link)
	fi, err := r.root.Lstat(filepath.FromSlash(target))
	if errors.Is(err, fs.ErrNotExist) {
		r.damage(fmt.Errorf("%q: %w: the file %q that it is another name of is missing", it.Path, backup.ErrDamaged, target))
		return nil
	}
	if err == nil && !fi.Mode().IsRegular() {
		err = fmt.Errorf("%q, which it is another name of, is no regular file", target)
	}
	if err == nil {
		err = r.root.Link(filepath.FromSlash(target), filepath.FromSlash(it.Path))
	}
	if err != nil {
		return fmt.Errorf("%q: %w", it.Path, err)
	}
	return nil
}

// A dirCursor keeps the directory open that was asked for last.
type dirCursor struct {
	root *os.Root
	path string
	cur  *os.Root
}

// at returns a directory below the root, made if need be; "" is the root. No
// symbolic link is followed on the way.
func (c *dirCursor) at(p string) (*os.Root, error) {
	if p == "" || p == rootPath {
		return c.root, nil
	}
	if c.cur != nil && c.path == p {
		return c.cur, nil
	}
	c.close()
	cur := c.root
	for name := range strings.SplitSeq(p, "/") {
		next, err := enter(cur, name)
		if cur != c.root {
			cur.Close()
		}
		if err != nil {
			return nil, fmt.Errorf("directory %q: %w", p, err)
		}
		cur = next
	}
	c.cur, c.path = cur, p
	return cur, nil
}

func enter(dir *os.Root, name string) (*os.Root, error) {
	fi, err := dir.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		if err := dir.Mkdir(name, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
		fi, err = dir.Lstat(name)
	}
	if err != nil {
		return nil, err
	}
	if !fi.IsDir() {
		return nil, fmt.Errorf("%q in the destination is no directory", name)
	}
	return dir.OpenRoot(name)
}

func (c *dirCursor) close() {
	if c.cur != nil {
		c.cur.Close()
		c.cur = nil
	}
}
