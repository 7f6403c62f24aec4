package remote

import (
	"context"
	"fmt"
	"io"

	"golang.org/x/sync/errgroup"

	"github.com/holdfast-go/holdfast/provider"
)

// PartSize is the size of the parts of a body of size bytes: at least least,
// and so large that there are at most most of them.
func PartSize(size, least, most int64) int64 {
	return max(least, (size+most-1)/most)
}

// Parts is how many parts of so many bytes a body has.
func Parts(size, each int64) int { return int((size + each - 1) / each) }

// SendParts reads a body in parts of each bytes, of which the last may be
// shorter, one after the other. Every part is written to whole, and given to
// send with its number from 0 on: at most concurrency of them at the same time,
// with one more in memory. b is used again when send has returned. The first
// error ends the ctx of the other calls.
func SendParts(ctx context.Context, body provider.Body, each int64, concurrency int, whole io.Writer, send func(ctx context.Context, i int, b []byte) error) error {
	size := body.Size()
	buffers := make(chan []byte, concurrency+1)
	for range concurrency + 1 {
		buffers <- nil
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(concurrency)
	for i := range Parts(size, each) {
		off := int64(i) * each
		b := <-buffers // every one of them comes back
		if b == nil {
			b = make([]byte, min(each, size))
		}
		b = b[:min(each, size-off)]
		if err := ReadPart(ctx, body, b, off); err != nil {
			g.Go(func() error { return err })
			break
		}
		whole.Write(b)
		g.Go(func() error {
			defer func() { buffers <- b[:cap(b)] }()
			return send(ctx, i, b)
		})
	}
	return g.Wait()
}

// ReadPart fills b from a body, from the byte off on.
func ReadPart(ctx context.Context, body provider.Body, b []byte, off int64) error {
	const piece = 1 << 20 // so that an ended ctx is noticed
	for done := 0; done < len(b); {
		if err := ctx.Err(); err != nil {
			return err
		}
		part := b[done:min(done+piece, len(b))]
		n, err := body.ReadAt(part, off+int64(done))
		switch {
		case n == len(part):
		case err == nil || err == io.EOF:
			return fmt.Errorf("body ended at %d of %d bytes: %w", off+int64(done+n), body.Size(), io.ErrUnexpectedEOF)
		default:
			return fmt.Errorf("body at %d of %d bytes: %w", off+int64(done+n), body.Size(), err)
		}
		done += n
	}
	return ctx.Err()
}
