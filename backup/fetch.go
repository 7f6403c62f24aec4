package backup

import (
	"context"
	"crypto/cipher"
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
	order []*block // oldest first
	free  [][]byte // memory of blocks that nobody reads any more

	aeads map[frameKey]cipher.AEAD // of packs
}

type blockKey struct {
	pack uint32
	n    int64
}

// A frameKey is what the key of a pack's frames is derived from.
type frameKey struct {
	secret, salt [32]byte
	kind         string
}

type block struct {
	key     blockKey
	done    chan struct{} // closed when b and err are set
	b       []byte
	err     error
	users   int // who read b, and the cache itself; guarded by the cache
	dropped bool
}

const (
	blockSize   = 2 << 20
	cacheBlocks = 12
	cacheAEADs  = 64
)

func newBlockCache(s provider.BlobStore) *blockCache {
	return &blockCache{store: s, m: map[blockKey]*block{}, aeads: map[frameKey]cipher.AEAD{}}
}

// read passes n bytes of a pack to use, which must not keep them. scratch is
// where they are put together if they lie in several blocks; what it has
// become is returned.
func (c *blockCache) read(ctx context.Context, num uint32, p packInfo, off, n int64, scratch []byte, use func([]byte) error) ([]byte, error) {
	first, last := off/blockSize, (off+n-1)/blockSize
	scratch = scratch[:0]
	for i := first; i <= last; i++ {
		b, err := c.block(ctx, blockKey{num, i}, p)
		if err != nil {
			return scratch, err
		}
		if first == last {
			err = use(b.b[off-first*blockSize:][:n])
			c.release(b)
			return scratch, err
		}
		from := max(off-i*blockSize, 0)
		to := min(off+n-i*blockSize, int64(len(b.b)))
		scratch = append(scratch, b.b[from:to]...)
		c.release(b)
	}
	return scratch, use(scratch)
}

// block returns one block, which the caller releases; of several who want it
// one fetches.
func (c *blockCache) block(ctx context.Context, k blockKey, p packInfo) (*block, error) {
	for {
		c.mu.Lock()
		b, ok := c.m[k]
		if !ok {
			return c.fetch(ctx, k, p)
		}
		b.users++
		c.mu.Unlock()
		select {
		case <-b.done:
		case <-ctx.Done():
			c.release(b)
			return nil, context.Cause(ctx)
		}
		if b.err == nil {
			return b, nil
		}
		c.release(b)
		if ctx.Err() == nil && (errors.Is(b.err, context.Canceled) || errors.Is(b.err, context.DeadlineExceeded)) {
			continue // the one who fetched was cancelled, not we
		}
		return nil, b.err
	}
}

// fetch reads a block that is not there. The caller holds the lock, which
// fetch gives back.
func (c *blockCache) fetch(ctx context.Context, k blockKey, p packInfo) (*block, error) {
	b := &block{key: k, done: make(chan struct{}), users: 2}
	c.m[k] = b
	if c.order = append(c.order, b); len(c.order) > cacheBlocks {
		c.drop(c.order[0])
	}
	off := k.n * blockSize
	n := min(blockSize, p.size-off)
	var buf []byte
	if i := len(c.free) - 1; i >= 0 {
		buf, c.free = c.free[i], c.free[:i]
	}
	c.mu.Unlock()
	if int64(cap(buf)) < n {
		buf = make([]byte, n, max(n, min(blockSize, p.size)))
	}
	b.b = buf[:n]
	b.err = readFull(ctx, c.store, p.key(), off, b.b)
	close(b.done)
	if b.err != nil {
		c.mu.Lock()
		c.drop(b)
		c.mu.Unlock()
		c.release(b)
		return nil, b.err
	}
	return b, nil
}

// drop makes the cache forget a block, if it has not yet. The caller holds
// the lock.
func (c *blockCache) drop(b *block) {
	if b.dropped {
		return
	}
	b.dropped = true
	delete(c.m, b.key)
	c.order = slices.DeleteFunc(c.order, func(o *block) bool { return o == b })
	c.put(b)
}

// forget drops the blocks of a pack.
func (c *blockCache) forget(pack uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, b := range slices.Clone(c.order) {
		if b.key.pack == pack {
			c.drop(b)
		}
	}
}

func (c *blockCache) release(b *block) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.put(b)
}

// put counts one user less, and keeps the memory of what has none for the
// next block. The caller holds the lock.
func (c *blockCache) put(b *block) {
	if b.users--; b.users == 0 && len(c.free) < 2 {
		c.free = append(c.free, b.b[:0])
	}
}

// aead returns the cipher of a pack's frames. To make it anew for every
// chunk would take longer than to open one of the small.
func (c *blockCache) aead(secret []byte, p packInfo) cipher.AEAD {
	k := frameKey{[32]byte(secret), [32]byte(p.salt), p.kind}
	c.mu.Lock()
	defer c.mu.Unlock()
	a, ok := c.aeads[k]
	if !ok {
		if len(c.aeads) >= cacheAEADs {
			clear(c.aeads)
		}
		a = newAEAD(derive(secret, p.salt, p.kind+" frames"))
		c.aeads[k] = a
	}
	return a
}

// readRange reads exactly n bytes of an object from off.
func readRange(ctx context.Context, s provider.BlobStore, key string, off, n int64) ([]byte, error) {
	b := make([]byte, n)
	return b, readFull(ctx, s, key, off, b)
}

// readFull fills b with the bytes of an object from off. Whoever reads so
// verifies them: chunks by their ids, packs by their names, and the rest is
// sealed.
func readFull(ctx context.Context, s provider.BlobStore, key string, off int64, b []byte) error {
	rc, _, err := s.Get(ctx, key, provider.GetOptions{Offset: off, Length: int64(len(b)), Unverified: true})
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

// chunk reads and verifies a chunk. What indexes say may be lies, unless
// somebody who is trusted says it; the packs that the manifest names are what
// they are by their hash.
func (v *View) chunk(ctx context.Context, kind string, want ref, into []byte) ([]byte, error) {
	if v.own {
		return nil, ErrSealed
	}
	b, err := v.r.chunk(ctx, v.cache, v.m.by, kind, want, into)
	if err == nil || !isDamage(err) || ctx.Err() != nil {
		return b, err
	}
	if heard, aerr := v.ask(ctx); aerr != nil || !heard {
		return nil, errors.Join(err, aerr)
	}
	return v.r.chunk(ctx, v.cache, v.m.by, kind, want, into)
}

// ask learns from the packs that the manifest names what is in them, where so
// far only those have told who are not trusted. It reports whether that is
// worth another look.
func (v *View) ask(ctx context.Context) (heard bool, err error) {
	v.asking.Lock()
	defer v.asking.Unlock()
	if v.asked {
		return v.heard, nil
	}
	for _, p := range v.m.packs {
		if n, ok := v.r.index.packBySum(p.sum); ok && v.r.index.pack(n).trusted {
			continue
		}
		rec, err := v.r.readPack(ctx, provider.Info{Key: packKey(p.kind, p.sum), Size: p.size})
		if err == nil {
			v.r.index.add("", []packRecord{rec})
			v.heard = true
		} else if !isDamage(err) {
			return false, err
		}
	}
	v.asked = true
	return v.heard, ctx.Err()
}

// chunk reads and verifies a chunk, from any of the packs that hold it: first
// those that somebody tells of who is trusted, then those of one author.
func (r *Repository) chunk(ctx context.Context, c *blockCache, by author, kind string, want ref, into []byte) ([]byte, error) {
	places := r.index.find(want.id)
	if len(places) == 0 {
		if err := r.search(ctx); err != nil {
			return nil, err
		}
		if places = r.index.find(want.id); len(places) == 0 {
			return nil, fmt.Errorf("%w: chunk %s is in no pack", ErrDamaged, want.id)
		}
	}
	r.index.prefer(by, places)
	b, err := r.chunkIn(ctx, c, kind, want, places, into)
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
	b, merr := r.chunkIn(ctx, c, kind, want, moved, into)
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
func (r *Repository) chunkIn(ctx context.Context, c *blockCache, kind string, want ref, places []indexEntry, into []byte) ([]byte, error) {
	var errs []error
	for _, e := range places {
		b, err := r.chunkAt(ctx, c, kind, want, e, into)
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

// chunkAt reads a chunk from one place, also if something was put on top of
// that since.
func (r *Repository) chunkAt(ctx context.Context, c *blockCache, kind string, want ref, e indexEntry, into []byte) ([]byte, error) {
	b, err := r.chunkOnce(ctx, c, kind, want, e, into)
	if errors.Is(err, ErrDamaged) && overwritten(ctx, r.c.Store, r.index.pack(e.pack).key()) {
		c.forget(e.pack)
		return r.chunkOnce(ctx, c, kind, want, e, into)
	}
	return b, err
}

func (r *Repository) chunkOnce(ctx context.Context, c *blockCache, kind string, want ref, e indexEntry, into []byte) ([]byte, error) {
	p := r.index.pack(e.pack)
	if p.kind != kind || e.plain != want.plain || e.stored < frameOverhead {
		return nil, fmt.Errorf("%w: %s: chunk %s is listed with another length or kind", ErrDamaged, p.key(), want.id)
	}
	ids := r.ids.Get().(*identifier)
	defer r.ids.Put(ids)
	var b []byte
	var err error
	ids.frame, err = c.read(ctx, e.pack, p, int64(e.off), int64(e.stored), ids.frame, func(frame []byte) error {
		secret, err := r.secret(p.enc)
		if err == nil {
			b, err = openFrame(c.aead(secret, p), r.zstd, ids, kind, want, frame, into)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", p.key(), err)
		}
		return nil
	})
	return b, err
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
