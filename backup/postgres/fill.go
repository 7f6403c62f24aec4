package postgres

import (
	"context"
	"errors"
	"io"
	"iter"
	"os"
	"sync"
	"sync/atomic"

	"github.com/holdfast-go/holdfast/backup"
)

// A batch is what is written at once of a file: with larger ones there is
// less for the kernel to do, and for several to wait for each other.
const batch = 1 << 20

// A batchBuffer has room for a batch, and for any chunk that is read.
type batchBuffer struct {
	content [batch]byte
	chunk   [1<<20 + 1]byte
}

var batchBuffers = sync.Pool{New: func() any { return new(batchBuffer) }}

// The kernel is told to write so much of a file at once, and that what is so
// far behind the last batch has been handed to it.
const (
	writeStep  = 8 << 20
	writeSlack = 8 << 20
)

// fill makes the content of a file that of an item, several batches at once,
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
	for chunks, err := range batches(r.v.Chunks(ctx, e.it)) {
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
		if at := chunks[0].Offset - writeSlack; at-behind >= writeStep && written.Load() > 0 {
			writeBehind(f, behind, at-behind)
			behind = at
		}
		wg.Go(func() {
			defer func() { <-r.slots }()
			n, err := r.put(ctx, f, chunks, fi.Size())
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

// batches gathers chunks, which follow each other.
func batches(chunks iter.Seq2[backup.Chunk, error]) iter.Seq2[[]backup.Chunk, error] {
	return func(yield func([]backup.Chunk, error) bool) {
		var gathered []backup.Chunk
		size := 0
		for c, err := range chunks {
			if err != nil {
				yield(nil, err)
				return
			}
			if size+c.Size > batch && size > 0 {
				if !yield(gathered, nil) {
					return
				}
				gathered, size = nil, 0
			}
			gathered, size = append(gathered, c), size+c.Size
		}
		if size > 0 {
			yield(gathered, nil)
		}
	}
}

// put writes those chunks of a batch that are not there.
func (r *restorer) put(ctx context.Context, f *os.File, chunks []backup.Chunk, have int64) (written int64, err error) {
	buf := batchBuffers.Get().(*batchBuffer)
	defer batchBuffers.Put(buf)
	last := chunks[len(chunks)-1]
	start, end := chunks[0].Offset, last.Offset+int64(last.Size)
	there := 0
	if have > start {
		there, err = f.ReadAt(buf.content[:min(end, have)-start], start)
		if err != nil && !errors.Is(err, io.EOF) {
			return 0, err
		}
	}
	var from, to int64 // of the batch: what is to be written
	flush := func() error {
		n, err := f.WriteAt(buf.content[from:to], start+from)
		written += int64(n)
		return err
	}
	for _, c := range chunks {
		at := c.Offset - start
		content := buf.content[at:][:c.Size]
		if at+int64(c.Size) <= int64(there) && r.v.Matches(c, content) {
			continue
		}
		b, err := r.v.Chunk(ctx, c, buf.chunk[:])
		if err != nil {
			return written, err
		}
		copy(content, b)
		if to < at {
			if err := flush(); err != nil {
				return written, err
			}
			from = at
		}
		to = at + int64(c.Size)
	}
	return written, flush()
}
