package backup

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/holdfast-go/holdfast/internal/offheap"
	"github.com/holdfast-go/holdfast/provider"
)

// A pipeline takes chunks of one session and makes them durable: workers
// identify, deduplicate, compress and seal them into packs, and every full
// pack is uploaded by a goroutine of its own. Memory is bounded by the
// buffers, which are handed round and never more than at the start.
type pipeline struct {
	r        *Repository
	session  PointID
	secret   []byte
	encaps   []byte
	reusable reusable
	zstd     *zstd.Encoder
	snappy   bool // for data

	jobs         chan job
	small, large chan []byte // free chunk buffers
	workers      sync.WaitGroup
	uploads      sync.WaitGroup
	data, meta   packer

	mu              sync.Mutex
	claims          map[chunkID]bool // stored by this session, not yet in the index
	used            map[uint32]bool  // packs of the index that this point needs
	packs           []packSum        // packs of this session
	unindexed       []packRecord
	unindexedChunks int
	unsettled       bool // a pack may be there that is not among them
	err             error
	failed          chan struct{} // closed when err is set

	indexing sync.Mutex

	bytesNew, bytesStored atomic.Int64
}

// A job is a chunk on its way. buf[1:1+n] is its plaintext.
type job struct {
	buf  []byte
	n    int
	kind string
	ref  ref // zero: to be computed
	slot *slot
}

// A slot receives the ref of a chunk that is still being identified.
type slot struct {
	ref  ref
	done chan struct{}
}

// packSum names a pack.
type packSum struct {
	sum  [32]byte
	kind string
	size int64
}

// A packer fills packs of one kind, one at a time.
type packer struct {
	kind   string
	target int
	mu     sync.Mutex
	cur    *packBuilder
	free   chan []byte // buffers; as many packs as there are can be filled and uploaded at once
}

const (
	smallBuffer = 64<<10 + 1
	largeBuffer = maxData + 1
	metaTarget  = 2 << 20 // metadata packs are small, so that listing fetches little

	packsPerIndex  = 32       // the next backup has to look at so many packs at most that an interrupted one has left; see adopt
	chunksPerIndex = 64 << 10 // and with small files it keeps no more of them in memory for the next index
)

func newPipeline(ctx context.Context, r *Repository, session PointID, ok reusable) (*pipeline, error) {
	secret, encaps, err := r.keys.newSession()
	if err != nil {
		return nil, err
	}
	w := r.c.Workers
	p := &pipeline{
		r: r, session: session, secret: secret, encaps: encaps, reusable: ok, zstd: newEncoder(w),
		jobs: make(chan job, 2*w), small: make(chan []byte, 16*w), large: make(chan []byte, 2*w+2),
		claims: map[chunkID]bool{}, used: map[uint32]bool{}, failed: make(chan struct{}),
		data: packer{kind: kindData, target: r.c.PackSize, free: make(chan []byte, r.c.Uploads+1)},
		meta: packer{kind: kindMeta, target: min(r.c.PackSize, metaTarget), free: make(chan []byte, 2)},
	}
	for _, c := range []chan []byte{p.small, p.large, p.data.free, p.meta.free} {
		for range cap(c) {
			c <- nil // allocated when first taken
		}
	}
	for range w {
		p.workers.Go(func() { p.work(ctx) })
	}
	return p, nil
}

// fail stops the pipeline; the first error counts.
func (p *pipeline) fail(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err == nil {
		p.err = err
		close(p.failed)
	}
}

func (p *pipeline) failure() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}

// take returns a free buffer of a pool.
func (p *pipeline) take(ctx context.Context, pool chan []byte, size int) ([]byte, error) {
	select {
	case b := <-pool:
		// One that has been used is better than a new one: where uploads
		// are fast, the last of the large buffers are never made.
		for i := len(pool); b == nil && i > 0; i-- {
			select {
			case other := <-pool:
				pool <- b
				b = other
			default:
			}
		}
		if b == nil {
			b = newBuffer(size)
		}
		return b, nil
	case <-p.failed:
		return nil, p.failure()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// newBuffer returns memory for one buffer, and freeBuffer gives it back. The
// large ones are most of what a backup holds, for as long as it runs.
func newBuffer(size int) []byte {
	if size <= smallBuffer {
		return make([]byte, size)
	}
	return offheap.Get(size)
}

func freeBuffer(b []byte) {
	if b = b[:cap(b)]; len(b) > smallBuffer {
		offheap.Put(b)
	}
}

func (p *pipeline) give(b []byte) {
	if len(b) == smallBuffer {
		p.small <- b
	} else {
		p.large <- b
	}
}

// submit hands a chunk to the workers.
func (p *pipeline) submit(ctx context.Context, j job) error {
	select {
	case p.jobs <- j:
		return nil
	case <-p.failed:
		p.give(j.buf)
		return p.failure()
	case <-ctx.Done():
		p.give(j.buf)
		return context.Cause(ctx)
	}
}

func (p *pipeline) work(ctx context.Context) {
	ids := p.r.keys.newIdentifier()
	scratch := newBuffer(maxData + maxData/64 + 1024)[:0]
	defer freeBuffer(scratch)
	for j := range p.jobs {
		if p.failure() == nil {
			if err := p.store(ctx, ids, scratch, &j); err != nil {
				p.fail(err)
			}
		}
		p.give(j.buf)
		if j.slot != nil {
			close(j.slot.done)
		}
	}
}

// store makes one chunk part of a pack, unless it is in one already.
func (p *pipeline) store(ctx context.Context, ids *identifier, scratch []byte, j *job) error {
	in := j.buf[:1+j.n]
	r := j.ref
	if r == (ref{}) {
		r = ref{id: ids.id(j.kind, in[1:]), plain: uint32(j.n)}
	}
	if j.slot != nil {
		j.slot.ref = r
	}
	if !p.claim(r.id) {
		return nil
	}
	pk, encoder := &p.meta, p.zstd
	if j.kind == kindData {
		pk = &p.data
		if p.snappy {
			encoder = nil
		}
		p.bytesNew.Add(int64(j.n))
	}
	frame := compress(encoder, in, scratch)
	pack, room, err := p.reserve(ctx, pk, r, len(frame)+sealOverhead)
	if err != nil {
		return err
	}
	pack.aead.Seal(room[:0], nil, frame, r.id[:])
	pack.sealing.Done()
	return nil
}

// claim reports whether the caller is to store the chunk.
func (p *pipeline) claim(id chunkID) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.claims[id] {
		return false
	}
	if e, ok := p.r.index.reuse(id, p.reusable); ok {
		p.used[e.pack] = true
		return false
	}
	p.claims[id] = true
	return true
}

// reuseAll marks the packs of chunks as needed. If there is none for one of
// them it is returned.
func (p *pipeline) reuseAll(refs []ref) (missing chunkID, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range refs {
		if p.claims[refs[i].id] {
			continue
		}
		e, ok := p.r.index.reuse(refs[i].id, p.reusable)
		if !ok {
			return refs[i].id, false
		}
		p.used[e.pack] = true
	}
	return chunkID{}, true
}

// reserve finds room for a frame of n bytes. When it returns, the room is
// the caller's, who calls sealing.Done.
func (p *pipeline) reserve(ctx context.Context, k *packer, r ref, n int) (*packBuilder, []byte, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.cur != nil && !k.cur.fits(n) {
		p.upload(ctx, k)
	}
	if k.cur == nil {
		buf, err := p.take(ctx, k.free, max(k.target, maxFrame+packSlack+2*p.r.keys.copies()))
		if err != nil {
			return nil, nil, err
		}
		k.cur, err = newPackBuilder(p.r.keys, p.secret, p.encaps, string(p.session), k.kind, buf)
		if err != nil {
			k.free <- buf
			return nil, nil, err
		}
	}
	return k.cur, k.cur.reserve(r, n), nil
}

// upload sends the packer's current pack on its way. The caller holds the
// packer's lock.
func (p *pipeline) upload(ctx context.Context, k *packer) {
	b := k.cur
	k.cur = nil
	p.uploads.Go(func() {
		rec := b.finish(p.r.keys)
		rec.locked = lockEnd(p.r.c.put().Retain)
		p.r.note(p.session, rec)
		err := p.r.create(ctx, packKey(rec.kind, rec.sum), rec.sum, b.buf)
		k.free <- b.buf
		if err != nil {
			if errors.Is(err, errUnsettled) {
				p.mu.Lock()
				p.unsettled = true
				p.mu.Unlock()
			}
			p.fail(fmt.Errorf("put pack: %w", err))
			return
		}
		p.bytesStored.Add(rec.size)
		p.mu.Lock()
		p.packs = append(p.packs, packSum{rec.sum, rec.kind, rec.size})
		p.unindexed = append(p.unindexed, rec)
		p.unindexedChunks += len(rec.entries)
		due := len(p.unindexed) >= packsPerIndex || p.unindexedChunks >= chunksPerIndex
		p.mu.Unlock()
		if due {
			if err := p.writeIndex(ctx); err != nil {
				p.fail(err)
			}
		}
	})
}

// writeIndex makes the packs uploaded so far known to everybody.
func (p *pipeline) writeIndex(ctx context.Context) error {
	p.indexing.Lock()
	defer p.indexing.Unlock()
	p.mu.Lock()
	recs := p.unindexed
	p.unindexed, p.unindexedChunks = nil, 0
	p.mu.Unlock()
	if len(recs) == 0 {
		return nil
	}
	n, err := p.r.writeIndex(ctx, p.session, recs)
	p.mu.Lock()
	defer p.mu.Unlock()
	if err != nil { // close tries once more
		p.unindexed = append(p.unindexed, recs...)
		return err
	}
	p.bytesStored.Add(n)
	for _, rec := range recs {
		p.r.forgetNote(rec.sum)
		for _, e := range rec.entries {
			delete(p.claims, e.id) // found in the index from now on
		}
	}
	return nil
}

// close ends the workers, waits for all uploads and indexes them, also after
// a failure. Nothing may be submitted any more. The caller looks at failure.
func (p *pipeline) close(ctx context.Context) {
	close(p.jobs)
	p.workers.Wait()
	for _, k := range []*packer{&p.data, &p.meta} {
		k.mu.Lock()
		switch {
		case k.cur == nil:
		case p.failure() == nil:
			p.upload(ctx, k)
		default:
			k.free <- k.cur.buf
		}
		k.mu.Unlock()
	}
	p.uploads.Wait()
	for _, pool := range []chan []byte{p.large, p.data.free, p.meta.free} {
		for range len(pool) { // all have come back
			if b := <-pool; b != nil {
				freeBuffer(b)
			}
		}
	}
	// The next backup is to find what this one has uploaded.
	ctx, cancel := moment(ctx)
	defer cancel()
	if err := p.writeIndex(ctx); err != nil {
		p.fail(err)
	}
	p.zstd.Close()
}

// leaves reports, after close, whether packs are there that no index names,
// or may be.
func (p *pipeline) leaves() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.unsettled || len(p.unindexed) > 0
}

// moment returns ctx, or if that has ended a moment to tidy up in.
func moment(ctx context.Context) (context.Context, context.CancelFunc) {
	if ctx.Err() == nil {
		return ctx, func() {}
	}
	return context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
}

// create puts an object whose key says what its bytes are. That it exists is
// therefore success, whoever wrote it. After a lost reply it looks whether the
// object is there, or, where it may not, tries again: neither needs the right
// to read.
func (r *Repository) create(ctx context.Context, key string, sum [32]byte, b []byte) error {
	var err error
	body := provider.SummedBytes(b, sum)
	for range 2 {
		o := r.c.put()
		o.IfAbsent, o.SHA256 = true, sum
		_, err = r.c.Store.Put(ctx, key, body, o)
		if err == nil || errors.Is(err, provider.ErrConflict) {
			return nil
		}
		there, lookErr := r.stored(ctx, key, len(b))
		if there {
			return nil
		}
		if lookErr != nil {
			err = fmt.Errorf("%w; %w", err, lookErr)
		}
		if ctx.Err() != nil || errors.Is(err, provider.ErrCorrupt) || errors.Is(err, provider.ErrInvalidKey) {
			break
		}
	}
	return err
}
