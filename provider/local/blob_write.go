package local

import (
	"context"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"sync"
	"unsafe"

	"github.com/holdfast-go/holdfast/provider"
)

const (
	writeSize  = 1 << 20
	writeAlign = 4 << 10 // what a direct write has to begin at, in memory and in the file
	directFrom = 2 << 20 // objects of this size go past the page cache
)

// buffers are those of writers, each of writeSize and aligned.
var buffers = sync.Pool{New: func() any {
	b := make([]byte, writeSize+writeAlign)
	skip := -uintptr(unsafe.Pointer(&b[0])) & (writeAlign - 1)
	return (*[writeSize]byte)(b[skip:])
}}

// writeContent writes head and behind it the body of size bytes, which it
// hashes on the way. What is large goes past the page cache where the file
// system can do that: it is going to be synced anyway, the cache keeps what
// programs need more than a backup, and nobody has to copy it.
func writeContent(ctx context.Context, f *os.File, head []byte, body provider.Body, size int64, sum hash.Hash) error {
	buf := buffers.Get().(*[writeSize]byte)
	defer buffers.Put(buf)
	w := &bulkWriter{f: f, direct: size >= directFrom && setDirect(f, true) == nil}
	content := io.NewSectionReader(body, 0, size)
	have := copy(buf[:], head) // a description has less than maxJSON
	for done := int64(0); ; {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := io.ReadFull(content, buf[have:min(int64(writeSize), int64(have)+size-done)])
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return fmt.Errorf("body ended after %d of %d bytes: %w", done+int64(n), size, io.ErrUnexpectedEOF)
		}
		if err != nil {
			return fmt.Errorf("after %d of %d bytes: %w", done+int64(n), size, err)
		}
		sum.Write(buf[have : have+n])
		done += int64(n)
		if err := w.write(buf[:have+n]); err != nil {
			return err
		}
		if have = 0; done == size {
			return w.buffered()
		}
	}
}

// A bulkWriter writes aligned memory directly, as far as that is possible: all
// but what the last block has beyond whole units.
type bulkWriter struct {
	f      *os.File
	direct bool
}

func (w *bulkWriter) write(b []byte) error {
	if whole := len(b) &^ (writeAlign - 1); w.direct && whole > 0 {
		_, err := w.f.Write(b[:whole])
		switch {
		case err == nil:
			b = b[whole:]
		case !notDirect(err):
			return err
		}
		// What is left has no whole unit, or it is a file system that wants a
		// larger alignment, or none of it.
	}
	if len(b) == 0 {
		return nil
	}
	if err := w.buffered(); err != nil {
		return err
	}
	_, err := w.f.Write(b)
	return err
}

// buffered makes what is written from now on go through the page cache.
func (w *bulkWriter) buffered() error {
	if !w.direct {
		return nil
	}
	w.direct = false
	return setDirect(w.f, false)
}
