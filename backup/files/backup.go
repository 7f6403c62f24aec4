package files

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/holdfast-go/holdfast/backup"
)

const (
	smallFile = 64 << 10 // files up to this size are read ahead, several at once
	window    = 32       // how many entries the walk is ahead
	attempts  = 3        // to read a file that changes meanwhile
	maxMeta   = 256 << 10
)

var errChanged = errors.New("changed while it was read, and was kept as it was read last")

// An entry is something the walk has found, on its way to the session.
type entry struct {
	rel  string   // below the root, with slashes
	dir  *os.Root // that it is in, as name; open until the entry is looked at
	name string
	in   *directory  // the same, if the walk has opened it
	held bool        // in stays open until the entry is released
	fi   fs.FileInfo // nil if the walk found it, unless it is a directory
	status
	enc json.RawMessage // meta, encoded; nil if it is not yet, or meta is another
	err error

	looked  bool // at what it is: the status is set
	cropped bool // it has more extended attributes than are kept

	before backup.Item // what the parent has of that path
	had    bool        // before is set
	same   bool        // it says all there is to say, and enc is what it says

	was   *expected    // for a safety point: what the point to restore has
	gone  bool         // for a safety point: there is nothing
	reuse *backup.Item // what need not be read again, if the file is unchanged

	ready chan struct{}        // not nil for a file being read ahead; closed when data or dataErr is set
	buf   *[smallFile + 1]byte // of which data is the beginning
	data  []byte
	err2  error
	large bool // it turned out to be
}

// Backup implements [backup.Target].
func (t *Target) Backup(ctx context.Context, s *backup.Session) error {
	if t.c.Root == "" {
		return errors.New("files: Root is empty; this target can only restore")
	}
	root, err := os.OpenRoot(t.c.Root)
	if err != nil {
		return err
	}
	defer root.Close()
	fi, err := root.Stat(".")
	if err != nil {
		return err
	}
	w := &walker{t: t, root: root, links: map[inode]string{}, kept: map[inode]string{}, slots: make(chan struct{}, t.c.Readers)}
	if p := s.Parent(); p != nil {
		w.since = p.Point().Time
		w.parent = newCursor(ctx, p)
		defer w.parent.stop()
	}
	defer w.stop()
	for e := range w.ahead(fi) {
		if err := w.feed(ctx, s, e); err != nil {
			return err
		}
	}
	if err := w.drain(ctx, s, 0); err != nil {
		return err
	}
	return w.parent.failure()
}

// feed takes an entry in. It is given to the session when enough others have
// come, so that small files are read ahead.
func (w *walker) feed(ctx context.Context, s *backup.Session, e *entry) error {
	if ctx.Err() != nil {
		e.release()
		return context.Cause(ctx)
	}
	w.prepare(e)
	w.queue = append(w.queue, e)
	return w.drain(ctx, s, window-1)
}

// drain gives all but the last keep entries to the session.
func (w *walker) drain(ctx context.Context, s *backup.Session, keep int) error {
	for len(w.queue) > keep {
		head := w.queue[0]
		w.queue = slices.Delete(w.queue, 0, 1)
		if err := w.add(ctx, s, head); err != nil {
			return err
		}
	}
	return nil
}

// stop waits for what is being read.
func (w *walker) stop() {
	w.handle.Close()
	for _, e := range w.queue {
		e.wait()
		e.release()
	}
}

// prepare decides what to do with an entry.
func (w *walker) prepare(e *entry) {
	if !e.looked {
		w.look(e)
	}
	if e.err != nil || e.meta.Type != typeFile {
		return
	}
	if e.names > 1 {
		if first, ok := w.links[e.id]; ok {
			e.meta.Type, e.meta.Link, e.meta.Xattrs, e.enc, e.reuse = typeLink, []byte(first), nil, nil, nil
			return
		}
		w.links[e.id] = e.rel
	}
	if e.reuse != nil {
		return
	}
	if e.size <= smallFile {
		e.ready = make(chan struct{})
		go func() {
			defer close(e.ready)
			w.slots <- struct{}{}
			defer func() { <-w.slots }()
			e.readSmall(w.root)
		}()
	}
}

// buffers are those of files read ahead.
var buffers = sync.Pool{New: func() any { return new([smallFile + 1]byte) }}

// release gives back what the entry holds.
func (e *entry) release() {
	if e.buf != nil {
		buffers.Put(e.buf)
		e.buf, e.data = nil, nil
	}
	if e.held {
		e.in.release()
		e.held = false
	}
}

// encoded returns the description as it is now.
func (e *entry) encoded() json.RawMessage {
	if e.enc == nil {
		e.enc = e.meta.encode()
	}
	return e.enc
}

func (e *entry) wait() {
	if e.ready != nil {
		<-e.ready
	}
}

// add gives an entry to the session.
func (w *walker) add(ctx context.Context, s *backup.Session, e *entry) error {
	e.wait()
	defer e.release()
	switch {
	case errors.Is(e.err, fs.ErrNotExist) || errors.Is(e.err2, fs.ErrNotExist):
		return nil // deleted since it was found
	case e.err != nil:
		s.Warn(e.rel, e.err)
		return nil
	case e.err2 != nil && !errors.Is(e.err2, errChanged):
		s.Warn(e.rel, e.err2)
		return nil
	}
	if e.crop() {
		s.Warn(e.rel, errCropped)
	}
	if e.meta.Type == typeLink {
		w.resolve(e)
	}
	if e.meta.Type != typeFile {
		return s.Add(ctx, backup.Item{Path: e.rel, Meta: e.encoded()}, nil)
	}
	added, err := addFile(ctx, w.root, s, e)
	if added && e.names > 1 {
		if _, ok := w.kept[e.id]; !ok {
			w.kept[e.id] = e.rel
		}
	}
	return err
}

// resolve looks again at an entry that is a further name of a file. The first
// name may have been deleted, or have become another file, before it was read:
// then this one is where the content is.
func (w *walker) resolve(e *entry) {
	if first, ok := w.kept[e.id]; ok {
		e.meta.Link, e.enc = []byte(first), nil
		return
	}
	e.meta.Type, e.meta.Link, e.enc = typeFile, nil, nil
}

// crop leaves out extended attributes that are more than can be kept, and
// reports once whether it has done so.
func (e *entry) crop() bool {
	if len(e.encoded()) > maxMeta {
		e.meta.Xattrs, e.enc, e.cropped = nil, nil, true
	}
	cropped := e.cropped
	e.cropped = false
	return cropped
}

var errCropped = errors.New("has more extended attributes than can be kept; they are left out")

// addFile adds a regular file; added is false if it is gone or only a warning
// is left of it.
func addFile(ctx context.Context, root *os.Root, s *backup.Session, e *entry) (added bool, err error) {
	it := backup.Item{Path: e.rel, Meta: e.encoded()}
	if e.reuse != nil {
		if err := s.Reuse(ctx, *e.reuse, it); !errors.Is(err, backup.ErrDamaged) {
			return err == nil, err
		}
		return addLarge(ctx, root, s, e)
	}
	if e.ready == nil || e.large {
		return addLarge(ctx, root, s, e)
	}
	if e.err2 != nil {
		s.Warn(e.rel, e.err2)
	}
	err = s.Add(ctx, it, bytes.NewReader(e.data))
	return err == nil, err
}

// readSmall reads a file that should be small, again if it changes
// meanwhile.
func (e *entry) readSmall(root *os.Root) {
	for range attempts {
		f, err := openFile(root, e)
		if err != nil {
			e.err2 = err
			return
		}
		if e.buf == nil {
			e.buf = buffers.Get().(*[smallFile + 1]byte)
		}
		buf := e.buf[:min(e.size+1, smallFile+1)]
		n, err := io.ReadFull(f, buf)
		same, serr := stable(f, e, int64(n))
		f.Close()
		switch {
		case err == nil:
			e.large = true // it has grown
			return
		case err != io.EOF && err != io.ErrUnexpectedEOF:
			e.err2 = err
			return
		case serr != nil:
			e.err2 = serr
			return
		}
		e.data, e.err2 = buf[:n], nil
		if same {
			return
		}
		e.err2 = errChanged
	}
}

// addLarge reads a file straight into the session. Added is as with addFile.
func addLarge(ctx context.Context, root *os.Root, s *backup.Session, e *entry) (added bool, err error) {
	for i := range attempts {
		f, err := openFile(root, e)
		if errors.Is(err, fs.ErrNotExist) {
			return added, nil
		}
		if err != nil {
			s.Warn(e.rel, err)
			return added, nil
		}
		if e.crop() {
			s.Warn(e.rel, errCropped)
		}
		r := &fileReader{f: f}
		err = s.Add(ctx, backup.Item{Path: e.rel, Meta: e.encoded(), BlockSize: blockSize(f, e.size)}, r)
		same, serr := stable(f, e, r.n)
		f.Close()
		switch {
		case r.err != nil:
			s.Warn(e.rel, r.err)
			return added, nil
		case err != nil:
			return added, err
		}
		added = true
		switch {
		case serr != nil:
			s.Warn(e.rel, serr)
			return added, nil
		case same:
			return added, nil
		}
		if i == attempts-1 {
			s.Warn(e.rel, errChanged)
		}
	}
	return added, nil
}

// A fileReader remembers how much was read and why reading failed, so that
// the file's errors can be told from the session's.
type fileReader struct {
	f   *os.File
	n   int64
	err error
}

func (r *fileReader) Read(p []byte) (int, error) {
	n, err := r.f.Read(p)
	r.n += int64(n)
	if err != nil && err != io.EOF {
		r.err = err
	}
	return n, err
}

// openFile opens a file and describes what was opened, which need not be
// what the walk had seen.
func openFile(root *os.Root, e *entry) (*os.File, error) {
	name := filepath.FromSlash(e.rel)
	if e.held {
		root, name = e.in.root, e.name // which is nearer
	}
	f, err := root.OpenFile(name, os.O_RDONLY|openFlags, 0)
	if err != nil {
		return nil, err
	}
	fi, err := f.Stat()
	if err == nil && !fi.Mode().IsRegular() {
		err = errors.New("was replaced by something that is no regular file")
	}
	if err == nil {
		e.set(fi)
		e.enc = nil
		e.meta.Xattrs, err = fileXattrs(f)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// stable reports whether a file of which n bytes were read is still what it
// was when it was opened.
func stable(f *os.File, e *entry, n int64) (bool, error) {
	fi, err := f.Stat()
	if err != nil {
		return false, err
	}
	m := describe(fi)
	return fi.Size() == n && m.ModTime.Equal(e.meta.ModTime) && m.Change == e.meta.Change, nil
}
