package objects

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"hash"
	"io"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/provider"
)

const (
	partSize = 4 << 20 // larger objects are read in parts of this size
	perPart  = 2 << 10 // what a part takes beside its bytes
	window   = 256     // how many items the listing is ahead
)

// A reading is one backup: a goroutine lists and compares, others read what
// has changed, and the session gets everything in the order of the listing.
type reading struct {
	t      *Target
	parent *cursor
	queue  chan *task
	work   chan func()
	room   *budget

	stopped func() error // why it has ended before its end
}

func newReading(ctx context.Context, t *Target) *reading {
	r := &reading{t: t, stopped: func() error { return context.Cause(ctx) }, queue: make(chan *task, window), work: make(chan func()), room: newBudget(int64(t.c.Readers) * (partSize + perPart))}
	return r
}

// A task is one item on its way to the session.
type task struct {
	info    provider.Info // as listed
	path    string
	old     bool // a version that is not the present one
	deleted bool // there is no content
	invalid bool // no key of the contract

	prev      *backup.Item    // has the content
	meta      json.RawMessage // with prev and deleted
	described chan struct{}   // closed when meta or err is set, if that took a request
	tags      tags            // what that found
	err       error

	parts   chan *part // otherwise, in order
	dropped atomic.Bool
}

// A part is some bytes of an object, or all.
type part struct {
	off, size, room int64
	done            chan struct{} // closed when the rest is set
	b               []byte
	sum             [32]byte // of an object in one part
	info            provider.Info
	tags            tags // in the first one
	err             error
}

// list lists the store and hands out what there is to do.
func (r *reading) list(ctx context.Context) error {
	defer close(r.work)
	defer r.parent.stop()
	sel := r.t.selection()
	for all, err := range r.t.histories(ctx) {
		if err != nil {
			return err
		}
		key := strings.TrimPrefix(all[0].Key, r.t.c.Prefix)
		if !validKey(key) {
			if !r.send(ctx, &task{info: all[0].Info, invalid: true}) {
				return context.Cause(ctx)
			}
			continue
		}
		if !sel.Has(key) {
			continue
		}
		before := r.parent.of(key)
		// The present one comes first in the order of paths.
		last := len(all) - 1
		if !all[last].Deleted {
			if err := r.item(ctx, pathOf(key, present), all[last], false, before); err != nil {
				return err
			}
			all = all[:last]
		}
		for n, v := range all {
			if err := r.item(ctx, pathOf(key, n), v, true, before); err != nil {
				return err
			}
		}
	}
	return r.parent.failure()
}

func (r *reading) send(ctx context.Context, k *task) bool {
	select {
	case r.queue <- k:
		return true
	case <-ctx.Done():
		return false
	}
}

func (r *reading) do(ctx context.Context, f func()) bool {
	select {
	case r.work <- f:
		return true
	case <-ctx.Done():
		return false
	}
}

// item hands out one item.
func (r *reading) item(ctx context.Context, path string, v provider.VersionInfo, old bool, before []known) error {
	k := &task{info: v.Info, path: path, old: old}
	if v.Deleted {
		k.deleted = true
		k.meta = gone(v.Modified)
		if !r.send(ctx, k) {
			return context.Cause(ctx)
		}
		return nil
	}
	had := match(before, v.Info)
	if had == nil {
		return r.read(ctx, k)
	}
	if (old || had.meta.Modified.Equal(v.Modified)) && (!r.t.c.Tags || had.meta.Tags != nil) {
		k.prev, k.meta = &had.it, had.it.Meta
		if !r.send(ctx, k) {
			return context.Cause(ctx)
		}
		return nil
	}
	// The same bytes were written again, perhaps with another description, or
	// the parent was made without tags.
	return r.describedAnew(ctx, k, *had)
}

// describedAnew hands out an item whose content the repository has.
func (r *reading) describedAnew(ctx context.Context, k *task, had known) error {
	k.prev, k.meta = &had.it, had.it.Meta
	k.described = make(chan struct{})
	if !r.send(ctx, k) {
		return context.Cause(ctx)
	}
	if !r.do(ctx, func() { r.redescribe(ctx, k, had.meta) }) {
		k.err = context.Cause(ctx)
		close(k.described) // the session may be waiting
		return k.err
	}
	return nil
}

func (r *reading) redescribe(ctx context.Context, k *task, had meta) {
	defer close(k.described)
	if k.old { // of which nothing changes but tags
		if k.tags, k.err = r.t.tags(ctx, k.info); k.err == nil {
			had.Tags = k.tags.all
			k.meta = had.encode()
		}
		return
	}
	info, err := r.t.store.Stat(ctx, k.info.Key)
	if err == nil {
		err = asListed(info, k.info)
	}
	if err == nil && info.SHA256 != [32]byte{} && info.SHA256 != had.sum() {
		err = errChanged // though not its Version, which may be a weak sum
	}
	if err == nil {
		k.tags, err = r.t.tags(ctx, info)
	}
	if err != nil {
		k.err = err
		return
	}
	k.meta = describe(info, k.tags, k.info.Modified)
	setSum(k.meta, had.sum())
}

// read hands out the parts of an object.
func (r *reading) read(ctx context.Context, k *task) error {
	k.parts = make(chan *part, 2*r.t.c.Readers)
	defer close(k.parts)
	if !r.send(ctx, k) {
		return context.Cause(ctx)
	}
	for off := int64(0); off == 0 || off < k.info.Size; off += partSize {
		p := &part{off: off, size: min(partSize, k.info.Size-off), done: make(chan struct{})}
		p.room = p.size + perPart
		if err := r.room.take(ctx, p.room); err != nil {
			return err
		}
		if !r.do(ctx, func() { r.fetch(ctx, k, p) }) {
			r.room.give(p.room)
			return context.Cause(ctx)
		}
		select {
		case k.parts <- p:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if k.dropped.Load() {
			break
		}
	}
	return nil
}

// fetch reads a part.
func (r *reading) fetch(ctx context.Context, k *task, p *part) {
	defer close(p.done)
	if k.dropped.Load() {
		p.err = errChanged
		return
	}
	o := provider.GetOptions{Offset: p.off, Length: p.size, Version: k.info.Version, Unverified: true}
	alone := k.info.Size <= partSize
	if alone {
		o.Length = 0
	}
	var body io.ReadCloser
	if body, p.info, p.err = r.t.store.Get(ctx, k.info.Key, o); p.err != nil {
		return
	}
	defer body.Close()
	if p.err = asListed(p.info, k.info); p.err != nil {
		return
	}
	if p.info.Size != k.info.Size {
		p.err = errChanged
		return
	}
	if p.off == 0 {
		if p.tags, p.err = r.t.tags(ctx, p.info); p.err != nil {
			return
		}
	}
	p.b = takeBuffer(p.size)
	if _, p.err = io.ReadFull(body, p.b); p.err == nil {
		p.err = atEnd(body)
	}
	if p.err == io.EOF {
		p.err = io.ErrUnexpectedEOF
	}
	if p.err == nil && alone {
		p.sum = sha256.Sum256(p.b)
	}
}

// atEnd asks for what comes behind the last byte: some readers tell only there
// that what they delivered is damaged.
func atEnd(r io.Reader) error {
	var one [1]byte
	switch n, err := io.ReadFull(r, one[:]); {
	case n > 0:
		return provider.ErrCorrupt
	case err == io.EOF:
		return nil
	default:
		return err
	}
}

// drop ends the use of a task.
func (r *reading) drop(k *task) {
	k.dropped.Store(true)
	if k.parts == nil {
		return
	}
	for p := range k.parts {
		r.free(p)
	}
}

func (r *reading) free(p *part) {
	<-p.done
	giveBuffer(p.b)
	p.b = nil
	r.room.give(p.room)
}

// A content is what the parts of an object hold.
type content struct {
	r    *reading
	k    *task
	part *part // being read; nil at the end
	at   int
	n    int64
	hash hash.Hash // of an object in several parts
	meta json.RawMessage
	err  error
}

func (c *content) Read(b []byte) (int, error) {
	for c.part != nil {
		if <-c.part.done; c.part.err != nil {
			c.err = c.part.err
			return 0, c.err
		}
		if n := copy(b, c.part.b[c.at:]); n > 0 || len(b) == 0 {
			c.at += n
			return n, nil
		}
		if err := c.next(); err != nil {
			c.err = err
			return 0, err
		}
	}
	return 0, io.EOF
}

// next goes on with the next part, or ends the content.
func (c *content) next() error {
	p := c.part
	c.n += int64(len(p.b))
	sum := p.sum
	if c.k.info.Size > partSize {
		if c.hash == nil {
			c.hash = sha256.New()
		}
		c.hash.Write(p.b)
		sum = [32]byte(c.hash.Sum(nil))
	}
	info := p.info
	c.release()
	if next, ok := <-c.k.parts; ok {
		c.part, c.at = next, 0
		return nil
	}
	return judge(info, c.n, sum, c.meta)
}

// release gives back what is being read.
func (c *content) release() {
	if c.part != nil {
		c.r.free(c.part)
		c.part = nil
	}
}

// Parts of full size are kept for the next.
var buffers = sync.Pool{New: func() any { return new([partSize]byte) }}

func takeBuffer(n int64) []byte {
	if n < partSize/2 {
		return make([]byte, n)
	}
	return buffers.Get().(*[partSize]byte)[:n]
}

func giveBuffer(b []byte) {
	if cap(b) == partSize {
		buffers.Put((*[partSize]byte)(b[:partSize]))
	}
}

// A budget bounds the memory of what is read and not yet used. One goroutine
// takes, in the order in which others give back.
type budget struct {
	mu   sync.Mutex
	free int64
	more chan struct{}
}

func newBudget(n int64) *budget { return &budget{free: n, more: make(chan struct{}, 1)} }

func (b *budget) take(ctx context.Context, n int64) error {
	for {
		b.mu.Lock()
		if b.free >= n {
			b.free -= n
			b.mu.Unlock()
			return nil
		}
		b.mu.Unlock()
		select {
		case <-b.more:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (b *budget) give(n int64) {
	b.mu.Lock()
	b.free += n
	b.mu.Unlock()
	select {
	case b.more <- struct{}{}:
	default:
	}
}
