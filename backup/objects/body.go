package objects

import (
	"context"
	"fmt"
	"io"
	"sort"
	"sync"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/provider"
)

// smallBody is how much of content is read before it is written; what is
// larger is read while it is.
const smallBody = partSize

// body returns the content of an item for a store to read.
func (r *restorer) body(ctx context.Context, it backup.Item) (provider.Body, error) {
	if it.Size > smallBody {
		return r.chunked(ctx, it)
	}
	content, err := r.v.Open(ctx, it)
	if err != nil {
		return nil, err
	}
	defer content.Close()
	b := make([]byte, it.Size)
	if _, err := io.ReadFull(content, b); err != nil {
		return nil, err
	}
	return provider.Bytes(b), nil
}

// A chunked body reads the chunks of an item as they are asked for. Stores
// read several parts beside each other, each from its beginning on, so the
// last chunks are kept.
type chunked struct {
	ctx  context.Context // of the Put that reads it, and no longer
	v    *backup.View
	all  []backup.Chunk
	size int64

	mu     sync.Mutex
	recent []held
	err    error
}

// held is a chunk in memory.
type held struct {
	n int
	b []byte
}

const keptChunks = 8

func (r *restorer) chunked(ctx context.Context, it backup.Item) (*chunked, error) {
	b := &chunked{ctx: ctx, v: r.v, size: it.Size}
	for c, err := range r.v.Chunks(ctx, it) {
		if err != nil {
			return nil, err
		}
		b.all = append(b.all, c)
	}
	return b, nil
}

// Size implements provider.Body.
func (b *chunked) Size() int64 { return b.size }

// ReadAt implements io.ReaderAt.
func (b *chunked) ReadAt(p []byte, off int64) (n int, err error) {
	if off < 0 {
		return 0, fmt.Errorf("offset %d is negative", off)
	}
	i := sort.Search(len(b.all), func(i int) bool { return b.all[i].Offset+int64(b.all[i].Size) > off })
	for ; n < len(p); i++ {
		if i >= len(b.all) {
			return n, io.EOF
		}
		content, err := b.chunk(i)
		if err != nil {
			return n, err
		}
		n += copy(p[n:], content[off+int64(n)-b.all[i].Offset:])
	}
	return n, nil
}

func (b *chunked) chunk(n int) ([]byte, error) {
	b.mu.Lock()
	for i, h := range b.recent {
		if h.n == n {
			copy(b.recent[1:i+1], b.recent[:i])
			b.recent[0] = h
			b.mu.Unlock()
			return h.b, nil
		}
	}
	b.mu.Unlock()
	content, err := b.v.Chunk(b.ctx, b.all[n], nil)
	b.mu.Lock()
	defer b.mu.Unlock()
	if err != nil {
		if b.err == nil {
			b.err = err
		}
		return nil, err
	}
	if len(b.recent) < keptChunks {
		b.recent = append(b.recent, held{})
	}
	copy(b.recent[1:], b.recent)
	b.recent[0] = held{n, content}
	return content, nil
}

// failure is the first error of reading.
func (b *chunked) failure() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.err
}
