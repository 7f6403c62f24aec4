package gcp

import (
	"context"
	"fmt"
	"hash/crc32"
	"io"
	"sync/atomic"

	"cloud.google.com/go/storage"

	"github.com/holdfast-go/holdfast/provider"
)

// inPieces stores a body by a resumable upload, one piece after the other. The
// service is told the CRC-32C at the beginning and verifies it, and judges the
// condition, when the last piece has arrived. That one is not sent before all
// of the body has been read and has turned out to be what was summed; an upload
// that is not finished is seen by nobody, and the service forgets it after a
// week.
func (w *write) inPieces(ctx context.Context, body provider.Body) (*storage.ObjectAttrs, error) {
	var tries attempts
	within, cancel := context.WithCancel(tries.watch(ctx))
	defer cancel() // before Close: the upload is abandoned
	var failed atomic.Int64
	u := w.writer(within, w.s.c.PartSize, storage.WithPolicy(storage.RetryAlways), storage.WithBackoff(backoff()),
		storage.WithErrorFunc(func(err error) bool {
			return storage.ShouldRetry(err) && failed.Add(1) < int64(w.s.c.Attempts)
		}))
	u.ProgressFunc = func(int64) { failed.Store(0) }

	crc := crc32.New(castagnoli)
	var refused error // what the upload said while it was written to
	err := eachPiece(ctx, body, func(b []byte) error {
		crc.Write(b)
		if _, refused = u.Write(b); refused != nil {
			return refused
		}
		return nil
	})
	if err == nil && crc.Sum32() != w.sums.crc {
		err = fmt.Errorf("the body changed while it was read: %w", provider.ErrCorrupt)
	}
	if err != nil && refused == nil {
		cancel()
		u.Close()
		return nil, err
	}
	closeErr := u.Close()
	if refused == nil || closeErr != nil && refused == io.ErrClosedPipe {
		refused = closeErr
	}
	if refused != nil {
		return w.outcome(ctx, refused, &tries)
	}
	return w.committed(u)
}
