package postgres

import (
	"context"
	"errors"
	"io"
	"os"
	"sync"
	"sync/atomic"

	"github.com/holdfast-go/holdfast/backup"
)

// A chunkBuffer has room for any chunk that is read.
type chunkBuffer [1<<20 + 1]byte

var chunkBuffers = sync.Pool{New: func() any { return new(chunkBuffer) }}

// The kernel is told to write so much of a file at once, and that what is so
// far behind the last chunk has been handed to it.
const (
	writeStep  = 8 << 20
	writeSlack = 1 << 20
)

// fill makes the content of a file that of an item, several chunks at once,
// and returns how many bytes it wrote.
func (r *restorer) fill(ctx context.Context, f *os.File, e expected) (int64, error) {
	fi, err := f.Stat()
	if err != nil {
		return 0, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	var written atomic.Int64
	var behind int64 // up to where writing has begun
	for c, err := range r.v.Chunks(ctx, e.it) {
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
		if at := c.Offset - writeSlack; at-behind >= writeStep && written.Load() > 0 {
			writeBehind(f, behind, at-behind)
			behind = at
		}
		wg.Go(func() {
			defer func() { <-r.slots }()
			n, err := r.put(ctx, f, c, fi.Size())
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
	if fi.Size() > e.it.Size {
		return written.Load(), f.Truncate(e.it.Size)
	}
	return written.Load(), nil
}

// put writes one chunk unless it is there.
func (r *restorer) put(ctx context.Context, f *os.File, c backup.Chunk, have int64) (int64, error) {
	buf := chunkBuffers.Get().(*chunkBuffer)
	defer chunkBuffers.Put(buf)
	if c.Offset+int64(c.Size) <= have {
		n, err := f.ReadAt(buf[:c.Size], c.Offset)
		if err != nil && !errors.Is(err, io.EOF) {
			return 0, err
		}
		if r.v.Matches(c, buf[:n]) {
			return 0, nil
		}
	}
	b, err := r.v.Chunk(ctx, c, buf[:])
	if err != nil {
		return 0, err
	}
	n, err := f.WriteAt(b, c.Offset)
	return int64(n), err
}
