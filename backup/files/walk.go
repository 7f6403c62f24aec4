package files

import (
	"bytes"
	"cmp"
	"errors"
	"io/fs"
	"iter"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

type walker struct {
	t      *Target
	root   *os.Root         // all is read through it, so that nothing leads out of the tree
	links  map[inode]string // files with several names, by the first that was found
	kept   map[inode]string // those of them whose content is in the point, by the name it is under
	parent *cursor
	since  time.Time
	slots  chan struct{} // readers
	queue  []*entry
	in     *os.Root // the directory that handle is of
	handle *os.File
	room   []entry // for those to come
	head   []byte  // of a description, see recorded
}

// ahead is walk with every entry looked at, done by a goroutine that is some
// entries ahead: most of a tree is unchanged, and then finding it out is all
// there is to do.
func (w *walker) ahead(root fs.FileInfo) iter.Seq[*entry] {
	return func(yield func(*entry) bool) {
		batches := make(chan []*entry, 2)
		stop := make(chan struct{})
		var walking sync.WaitGroup
		walking.Go(func() {
			defer close(batches)
			var batch []*entry
			send := func() bool {
				select {
				case batches <- batch:
					batch = nil
					return true
				case <-stop:
					releaseAll(batch)
					return false
				}
			}
			for e := range w.walk(root) {
				w.look(e)
				if batch = append(batch, e); len(batch) == window && !send() {
					return
				}
			}
			send()
		})
		defer func() {
			close(stop)
			walking.Wait()
			for batch := range batches {
				releaseAll(batch)
			}
		}()
		for batch := range batches {
			for i, e := range batch {
				if !yield(e) {
					releaseAll(batch[i+1:])
					return
				}
			}
		}
	}
}

func releaseAll(batch []*entry) {
	for _, e := range batch {
		e.release()
	}
}

// look describes an entry. What the parent says of one that has not changed
// since is not found out again, and what is going to be opened is described
// more closely then.
func (w *walker) look(e *entry) {
	e.looked = true
	if e.gone {
		e.meta = meta{Type: typeAbsent}
	}
	if e.err != nil || e.gone {
		return
	}
	if e.fi != nil {
		e.set(e.fi)
	}
	if e.rel != rootPath { // which is not where it is in the order of paths
		e.before, e.had = w.parent.find(e.rel)
	}
	if e.had && w.recorded(e) {
		e.same, e.enc = true, e.before.Meta
		if e.meta.Type == typeFile {
			e.reuse = &e.before
		}
		return
	}
	if e.meta.Type == typeFile {
		switch {
		case e.had && unchanged(e.size, e.meta, e.before, w.since):
			e.reuse = &e.before
		case e.was != nil && unchanged(e.size, e.meta, e.was.it, w.since):
			e.reuse = &e.was.it
		default:
			e.hold()
			return
		}
	}
	if e.meta.Type == typeSymlink {
		link, err := e.dir.Readlink(e.name)
		e.meta.Link, e.err = []byte(link), err
	}
	if e.err == nil {
		e.meta.Xattrs, e.err = w.xattrs(e)
	}
}

// recorded reports whether what the parent says of an entry is still all
// there is to say. Whatever changes of it, a link's target and extended
// attributes among it, changes the change time.
func (w *walker) recorded(e *entry) bool {
	if e.meta.Change == 0 || e.meta.Inode == 0 || !time.Unix(0, e.meta.Change).Before(w.since.Add(-coarsest)) {
		return false
	}
	w.head = e.meta.appendHead(w.head[:0])
	rest, ok := bytes.CutPrefix(e.before.Meta, w.head)
	return ok && len(rest) > 0 && (rest[0] == '}' || rest[0] == ',') && (e.meta.Type != typeFile || e.size == e.before.Size)
}

// walk yields the root and everything below it that is not excluded, in the
// order of backup.ComparePaths.
func (w *walker) walk(root fs.FileInfo) iter.Seq[*entry] {
	return func(yield func(*entry) bool) {
		if !yield(&entry{rel: rootPath, dir: w.root, name: rootPath, fi: root}) {
			return
		}
		top, err := w.root.OpenRoot(".")
		if err != nil {
			yield(&entry{rel: rootPath, err: err})
			return
		}
		w.below("", top, yield)
	}
}

// entry returns memory for one.
func (w *walker) entry() *entry {
	if len(w.room) == 0 {
		w.room = make([]entry, window)
	}
	e := &w.room[0]
	w.room = w.room[1:]
	return e
}

// A directory is open for the walk, and for those of its entries that are yet
// to be read.
type directory struct {
	root  *os.Root
	file  *os.File // the same; nil if it cannot be read
	users atomic.Int32
}

func (d *directory) release() {
	if d.users.Add(-1) == 0 {
		d.file.Close()
		d.root.Close()
	}
}

// hold keeps the directory open until the entry is released.
func (e *entry) hold() {
	if e.in != nil {
		e.in.users.Add(1)
		e.held = true
	}
}

// below yields what is in a directory, and closes it.
func (w *walker) below(rel string, dir *os.Root, yield func(*entry) bool) bool {
	in := &directory{root: dir}
	in.users.Store(1)
	defer in.release()
	var err error
	var names []string
	if in.file, err = dir.Open("."); err == nil {
		names, err = in.file.Readdirnames(-1)
		slices.Sort(names)
	}
	if err != nil && !yield(&entry{rel: cmp.Or(rel, rootPath), err: err}) {
		return false
	}
	for _, name := range names {
		path := name
		if rel != "" {
			path = rel + "/" + name
		}
		if w.t.excluded(path, name) {
			continue
		}
		e := w.entry()
		e.rel, e.dir, e.in, e.name = path, dir, in, name
		e.err = e.lstat()
		if errors.Is(e.err, fs.ErrNotExist) {
			continue // deleted since the directory was read
		}
		fi, enter := e.fi, e.err == nil && e.fi != nil && e.fi.IsDir() // what is yielded may be read at once, and described anew
		if !yield(e) {
			return false
		}
		if enter && !w.enter(path, dir, name, fi, yield) {
			return false
		}
	}
	return true
}

// enter yields what is in the directory that was found as fi.
func (w *walker) enter(rel string, dir *os.Root, name string, fi fs.FileInfo, yield func(*entry) bool) bool {
	next, err := openSame(dir, name, fi)
	if errors.Is(err, fs.ErrNotExist) {
		return true
	}
	if err != nil {
		return yield(&entry{rel: rel, err: err})
	}
	return w.below(rel, next, yield)
}

func sortedNames(d *os.File) ([]string, error) {
	defer d.Close()
	names, err := d.Readdirnames(-1)
	slices.Sort(names)
	return names, err
}

// xattrs reads the extended attributes of an entry. If its directory is not
// open it is opened, once for all that is in it.
func (w *walker) xattrs(e *entry) (map[string][]byte, error) {
	if e.in != nil {
		return readXattrs(e.in.file, e.name)
	}
	if w.in != e.dir || e.dir == nil {
		w.handle.Close()
		f, err := e.dir.Open(".")
		if err != nil {
			w.in, w.handle = nil, nil
			return nil, err
		}
		w.in, w.handle = e.dir, f
	}
	return readXattrs(w.handle, e.name)
}
