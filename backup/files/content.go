package files

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"

	"github.com/holdfast-go/holdfast/backup"
)

// leastHole is how long zeroes have to be to become a hole: a block of most
// file systems.
const leastHole = 4 << 10

// create writes a file that is not there. One that cannot be completed is
// removed.
func (r *restorer) create(ctx context.Context, w *dirCursor, dir *os.Root, name string, k expected) error {
	if one, err := r.createSmall(ctx, w, name, k); one || err != nil {
		return err
	}
	f, err := dir.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("write %q: %w", k.it.Path, err)
	}
	_, err = r.fill(ctx, f, k.it, 0)
	if err == nil {
		r.describe(f, k, true)
		err = syncFile(f)
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = setTime(dir, name, k.m)
	}
	if err != nil {
		return fmt.Errorf("write %q: %w", k.it.Path, errors.Join(err, dir.Remove(name)))
	}
	return nil
}

// createSmall is create for a file of no more than one chunk that is no hole;
// done is false if it is another.
func (r *restorer) createSmall(ctx context.Context, w *dirCursor, name string, k expected) (done bool, err error) {
	into := chunkBuffers.Get().(*chunkBuffer)
	defer chunkBuffers.Put(into)
	one, b, err := r.single(ctx, k.it, into[:])
	if err != nil || !one || len(b) >= leastHole && zero(b) {
		return false, err
	}
	if err := w.writeSmall(r, name, b, k); err != nil {
		return false, fmt.Errorf("write %q: %w", k.it.Path, err)
	}
	return true, nil
}

// single returns the content of an item that has no more than one chunk, in
// the memory of into.
func (r *restorer) single(ctx context.Context, it backup.Item, into []byte) (one bool, b []byte, err error) {
	var only backup.Chunk
	for c, err := range r.v.Chunks(ctx, it) {
		if err != nil {
			return false, nil, err
		}
		if int64(c.Size) != it.Size {
			return false, nil, nil
		}
		only = c
	}
	if it.Size == 0 {
		return true, nil, nil
	}
	b, err = r.v.Chunk(ctx, only, into)
	return true, b, err
}

// replace puts a new file in the place of what is there, at once.
func (r *restorer) replace(ctx context.Context, w *dirCursor, dir *os.Root, name string, k expected) error {
	temp := tempName()
	if err := r.create(ctx, w, dir, temp, k); err != nil {
		return err
	}
	if err := dir.Rename(temp, name); err != nil {
		return fmt.Errorf("write %q: %w", k.it.Path, errors.Join(err, dir.Remove(temp)))
	}
	r.done(k, k.it.Size)
	return nil
}

// update makes an existing file what it should be and writes only what
// differs. It is not done if the file has to be replaced: one with further
// names is, because what they show is not ours to change, and so is one that
// cannot be written to, as a program that is running.
func (r *restorer) update(ctx context.Context, dir *os.Root, name string, k expected, fi os.FileInfo) (done bool, err error) {
	if unchanged(fi.Size(), describe(fi), k.it, r.v.Point().Time) {
		r.done(k, 0)
		return true, nil
	}
	f, err := dir.OpenFile(name, os.O_RDWR|openFlags, 0)
	if err != nil {
		return false, nil
	}
	defer f.Close()
	now, err := f.Stat()
	if err != nil || !now.Mode().IsRegular() {
		return false, err
	}
	skip := r.o.times && now.Size() == k.it.Size && now.ModTime().Equal(k.m.ModTime)
	if _, names := identify(now); names > 1 {
		same, err := skip, error(nil)
		if !same {
			same, err = r.equal(ctx, f, k.it, now.Size())
		}
		if err != nil || !same || !sameAttributes(f, now, k.m) {
			return false, err
		}
		r.done(k, 0)
		return true, nil
	}
	var written int64
	if !skip {
		if written, err = r.fill(ctx, f, k.it, now.Size()); err != nil {
			return false, fmt.Errorf("rewrite %q, which is now partly as it was: %w", k.it.Path, err)
		}
	}
	r.describe(f, k, false)
	if err := syncFile(f); err != nil {
		return false, err
	}
	if err := setTime(dir, name, k.m); err != nil {
		return false, err
	}
	r.done(k, written)
	return true, nil
}

// A chunkBuffer has room for any chunk that is read.
type chunkBuffer [1<<20 + 1]byte

var chunkBuffers = sync.Pool{New: func() any { return new(chunkBuffer) }}

// fill makes the content of f that of an item, of which have bytes may be
// right already, and returns how many it wrote.
func (r *restorer) fill(ctx context.Context, f *os.File, it backup.Item, have int64) (int64, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	var written atomic.Int64
	for c, err := range r.v.Chunks(ctx, it) {
		if err != nil {
			cancel(err)
			break
		}
		select {
		case r.slots <- struct{}{}:
		case <-ctx.Done():
		}
		if ctx.Err() != nil {
			break
		}
		wg.Go(func() {
			defer func() { <-r.slots }()
			n, err := r.put(ctx, f, c, have)
			written.Add(n)
			if err != nil {
				cancel(err)
			}
		})
	}
	wg.Wait()
	if ctx.Err() != nil {
		return written.Load(), context.Cause(ctx)
	}
	if fi, err := f.Stat(); err != nil || fi.Size() != it.Size {
		return written.Load(), errors.Join(err, f.Truncate(it.Size))
	}
	return written.Load(), nil
}

// put writes one chunk unless it is there.
func (r *restorer) put(ctx context.Context, f *os.File, c backup.Chunk, have int64) (int64, error) {
	if c.Offset+int64(c.Size) <= have {
		if same, err := r.holds(f, c); same || err != nil {
			return 0, err
		}
	}
	buf := chunkBuffers.Get().(*chunkBuffer)
	defer chunkBuffers.Put(buf)
	b, err := r.v.Chunk(ctx, c, buf[:])
	if err != nil {
		return 0, err
	}
	if len(b) >= leastHole && zero(b) {
		if c.Offset >= have {
			return 0, nil // nothing was ever there
		}
		if c.Offset+int64(c.Size) <= have && punch(f, c.Offset, int64(c.Size)) == nil {
			return int64(len(b)), nil
		}
	}
	n, err := f.WriteAt(b, c.Offset)
	if end := (c.Offset + int64(n)) / stretch; end > c.Offset/stretch {
		startWriting(f, (end-1)*stretch, stretch)
	}
	return int64(n), err
}

// stretch is how many bytes of a file are sent to the disk together, while the
// restore goes on: what is left for the sync at its end is little then.
const stretch = 8 << 20

// holds reports whether f has a chunk at its place.
func (r *restorer) holds(f *os.File, c backup.Chunk) (bool, error) {
	buf := chunkBuffers.Get().(*chunkBuffer)
	defer chunkBuffers.Put(buf)
	n, err := f.ReadAt(buf[:c.Size], c.Offset)
	if err != nil && err != io.EOF {
		return false, err
	}
	return r.v.Matches(c, buf[:n]), nil
}

// equal reports whether f has the content of an item.
func (r *restorer) equal(ctx context.Context, f *os.File, it backup.Item, size int64) (bool, error) {
	if size != it.Size {
		return false, nil
	}
	for c, err := range r.v.Chunks(ctx, it) {
		if err != nil {
			return false, err
		}
		if same, err := r.holds(f, c); !same || err != nil {
			return false, err
		}
	}
	return true, nil
}

var zeroes [4 << 10]byte

func zero(b []byte) bool {
	for len(b) > len(zeroes) {
		if !bytes.Equal(b[:len(zeroes)], zeroes[:]) {
			return false
		}
		b = b[len(zeroes):]
	}
	return bytes.Equal(b, zeroes[:len(b)])
}

// verifyFile reads back what was written.
func (r *restorer) verifyFile(ctx context.Context, w *dirCursor, k expected) error {
	dir, name, err := w.of(k.it.Path)
	if err != nil {
		return err
	}
	f, err := dir.OpenFile(name, os.O_RDONLY|openFlags, 0)
	if err != nil {
		return fmt.Errorf("verify %q: %w", k.it.Path, err)
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return fmt.Errorf("verify %q: %w", k.it.Path, err)
	}
	dropCache(f)
	if same, err := r.equal(ctx, f, k.it, fi.Size()); err != nil {
		return fmt.Errorf("verify %q: %w", k.it.Path, err)
	} else if !same {
		return fmt.Errorf("verify %q: what is in the destination is not what was written; is something else writing there, or is the disk failing?", k.it.Path)
	}
	return nil
}
