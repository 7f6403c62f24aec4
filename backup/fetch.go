package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/holdfast-go/holdfast/provider"
)

// A blockCache reads packs in blocks, so that chunks that lie side by side,
// as those of small files and of neighbouring pages do, cost one request.
type blockCache struct {
	store provider.BlobStore
	mu    sync.Mutex
	m     map[blockKey]*block
	order []blockKey // oldest first
}

type blockKey struct {
	pack uint32
	n    int64
}

type block struct {
	done chan struct{}
	b    []byte
	err  error
}

const (
	blockSize   = 2 << 20
	cacheBlocks = 12
)

func newBlockCache(s provider.BlobStore) *blockCache {
	return &blockCache{store: s, m: map[blockKey]*block{}}
}

// read returns n bytes of a pack.
func (c *blockCache) read(ctx context.Context, num uint32, p packInfo, off, n int64) ([]byte, error) {
	first, last := off/blockSize, (off+n-1)/blockSize
	if first == last {
		b, err := c.block(ctx, blockKey{num, first}, p)
		if err != nil {
			return nil, err
		}
		return b[off-first*blockSize:][:n], nil
	}
	out := make([]byte, 0, n)
	for i := first; i <= last; i++ {
		b, err := c.block(ctx, blockKey{num, i}, p)
		if err != nil {
			return nil, err
		}
		from := max(off-i*blockSize, 0)
		to := min(off+n-i*blockSize, int64(len(b)))
		out = append(out, b[from:to]...)
	}
	return out, nil
}

// block returns one block; of several who want it one fetches.
func (c *blockCache) block(ctx context.Context, k blockKey, p packInfo) ([]byte, error) {
	for {
		c.mu.Lock()
		b, ok := c.m[k]
		if !ok {
			b = &block{done: make(chan struct{})}
			c.m[k] = b
			c.order = append(c.order, k)
			if len(c.order) > cacheBlocks {
				delete(c.m, c.order[0])
				c.order = append(c.order[:0], c.order[1:]...)
			}
			c.mu.Unlock()
			b.b, b.err = c.fetch(ctx, k, p)
			if b.err != nil {
				c.mu.Lock()
				if c.m[k] == b {
					delete(c.m, k)
				}
				c.mu.Unlock()
			}
			close(b.done)
			return b.b, b.err
		}
		c.mu.Unlock()
		select {
		case <-b.done:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
		if b.err != nil && ctx.Err() == nil && (errors.Is(b.err, context.Canceled) || errors.Is(b.err, context.DeadlineExceeded)) {
			continue // the one who fetched was cancelled, not we
		}
		return b.b, b.err
	}
}

func (c *blockCache) fetch(ctx context.Context, k blockKey, p packInfo) ([]byte, error) {
	off := k.n * blockSize
	return readRange(ctx, c.store, p.key(), off, min(blockSize, p.size-off))
}

// readRange reads exactly n bytes of an object from off.
func readRange(ctx context.Context, s provider.BlobStore, key string, off, n int64) ([]byte, error) {
	b := make([]byte, n)
	return b, readFull(ctx, s, key, off, b)
}

// readFull fills b with the bytes of an object from off.
func readFull(ctx context.Context, s provider.BlobStore, key string, off int64, b []byte) error {
	rc, _, err := s.Get(ctx, key, provider.GetOptions{Offset: off, Length: int64(len(b))})
	if errors.Is(err, provider.ErrNotFound) || errors.Is(err, provider.ErrRange) || errors.Is(err, provider.ErrCorrupt) {
		return fmt.Errorf("%w: %s: %w", ErrDamaged, key, err)
	}
	if err != nil {
		return fmt.Errorf("get %s: %w", key, err)
	}
	defer rc.Close()
	if _, err := io.ReadFull(rc, b); errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, provider.ErrCorrupt) {
		return fmt.Errorf("%w: %s: read %d bytes at %d: %w", ErrDamaged, key, len(b), off, err)
	} else if err != nil {
		return fmt.Errorf("get %s: %w", key, err)
	}
	return nil
}

// chunk reads and verifies a chunk, from any of the packs that hold it.
func (r *Repository) chunk(ctx context.Context, c *blockCache, kind string, want ref) ([]byte, error) {
	places := r.index.find(want.id)
	if len(places) == 0 {
		if err := r.search(ctx); err != nil {
			return nil, err
		}
		if places = r.index.find(want.id); len(places) == 0 {
			return nil, fmt.Errorf("%w: chunk %s is in no pack", ErrDamaged, want.id)
		}
	}
	b, err := r.chunkIn(ctx, c, kind, want, places)
	if !errors.Is(err, provider.ErrNotFound) || ctx.Err() != nil {
		return b, err
	}
	// A prune may have moved it meanwhile.
	if lerr := r.load(ctx); lerr != nil {
		return nil, errors.Join(err, lerr)
	}
	moved := slices.DeleteFunc(r.index.find(want.id), func(e indexEntry) bool { return slices.Contains(places, e) })
	if len(moved) == 0 {
		return nil, err
	}
	b, merr := r.chunkIn(ctx, c, kind, want, moved)
	if merr != nil {
		return nil, errors.Join(err, merr)
	}
	for _, e := range places {
		if p := r.index.pack(e.pack); r.gone(ctx, p.key()) {
			r.index.lose(p.sum)
		}
	}
	return b, nil
}

// gone reports whether it is certain that there is no such object.
func (r *Repository) gone(ctx context.Context, key string) bool {
	_, err := r.c.Store.Stat(ctx, key)
	return errors.Is(err, provider.ErrNotFound)
}

// chunkIn reads a chunk from the first of the places that has it.
func (r *Repository) chunkIn(ctx context.Context, c *blockCache, kind string, want ref, places []indexEntry) ([]byte, error) {
	var errs []error
	for _, e := range places {
		b, err := r.chunkAt(ctx, c, kind, want, e)
		if err == nil {
			return b, nil
		}
		errs = append(errs, err)
		if ctx.Err() != nil {
			break
		}
	}
	return nil, errors.Join(errs...)
}

func (r *Repository) chunkAt(ctx context.Context, c *blockCache, kind string, want ref, e indexEntry) ([]byte, error) {
	p := r.index.pack(e.pack)
	if p.kind != kind || e.plain != want.plain || e.stored < frameOverhead {
		return nil, fmt.Errorf("%w: %s: chunk %s is listed with another length or kind", ErrDamaged, p.key(), want.id)
	}
	frame, err := c.read(ctx, e.pack, p, int64(e.off), int64(e.stored))
	if err != nil {
		return nil, err
	}
	secret, err := r.secret(p.enc)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", p.key(), err)
	}
	ids := r.ids.Get().(*identifier)
	defer r.ids.Put(ids)
	b, err := openFrame(newAEAD(derive(secret, p.salt, p.kind+" frames")), r.zstd, ids, kind, want, frame)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", p.key(), err)
	}
	return b, nil
}

// secret returns a session's secret. Few sessions are open at once, and each
// is opened once.
func (r *Repository) secret(enc []byte) ([]byte, error) {
	if s, ok := r.secrets.Load(string(enc)); ok {
		return s.([]byte), nil
	}
	s, err := r.keys.openSession(enc)
	if err != nil {
		return nil, err
	}
	r.secrets.Store(string(enc), s)
	return s, nil
}
