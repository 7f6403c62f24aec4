package backup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"sync"
	"sync/atomic"
	"time"

	"github.com/holdfast-go/holdfast/provider"
)

// A View is one point, open for reading. It is safe for concurrent use. What
// it delivers was decrypted and verified; but whoever could write to the
// repository may have chosen it, so treat paths and descriptions as hostile.
type View struct {
	r     *Repository
	m     manifest
	cache *blockCache

	own   bool // all there is of it is in the cache; see own.go
	noted sync.Once

	asking sync.Mutex
	asked  bool // the packs that the manifest names
	heard  bool // and they told something new

	items, bytes, written  atomic.Int64
	totalItems, totalBytes atomic.Int64
	began                  time.Time
	report                 func(Progress)
	reporting              chan struct{} // holds one token
	reported               time.Time
}

func (r *Repository) newView(m manifest) *View {
	v := &View{r: r, m: m, cache: newBlockCache(r.c.Store), began: time.Now(), reporting: make(chan struct{}, 1)}
	v.reporting <- struct{}{}
	v.Expect(m.point.Stats.Items, m.point.Stats.Bytes)
	return v
}

// Point describes the point.
func (v *View) Point() Point { return v.m.point }

// Wrote tells the caller of [Repository.Restore] that so many items with so
// many bytes have reached the destination.
func (v *View) Wrote(items, bytes int64) {
	v.written.Add(bytes)
	v.Kept(items, bytes)
}

// Kept tells the caller of [Repository.Restore] that so many items with so
// many bytes are at the destination already and need not be written.
func (v *View) Kept(items, bytes int64) {
	v.items.Add(items)
	v.bytes.Add(bytes)
	v.tell(250 * time.Millisecond)
}

// Expect says how much a restore is going to do, if that is less than the
// whole point.
func (v *View) Expect(items, bytes int64) {
	v.totalItems.Store(items)
	v.totalBytes.Store(bytes)
}

func (v *View) tell(every time.Duration) {
	if v.report == nil {
		return
	}
	select {
	case <-v.reporting:
	default:
		return // somebody else is at it
	}
	if now := time.Now(); now.Sub(v.reported) >= every {
		v.reported = now
		v.report(Progress{Items: v.items.Load(), Bytes: v.bytes.Load(), Read: v.written.Load(), Elapsed: now.Sub(v.began),
			TotalItems: v.totalItems.Load(), TotalBytes: v.totalBytes.Load()})
	}
	v.reporting <- struct{}{}
}

// Items yields the items in the order of [ComparePaths], each path once.
// Errors wrap [ErrDamaged] if the point's metadata are not intact.
func (v *View) Items(ctx context.Context) iter.Seq2[Item, error] {
	runs := make([]iter.Seq2[Item, error], len(v.m.roots))
	for i, n := range v.m.roots {
		runs[i] = v.run(ctx, n)
	}
	switch {
	case len(runs) == 1:
		return runs[0]
	case v.own:
		return untilMissing(mergeRuns(runs))
	}
	return mergeRuns(runs)
}

// run yields the items of one tree.
func (v *View) run(ctx context.Context, root node) iter.Seq2[Item, error] {
	return func(yield func(Item, error) bool) {
		last, first := "", true
		var walk func(n node, depth int) bool
		walk = func(n node, depth int) bool {
			p, err := v.page(ctx, n, depth)
			if errors.Is(err, errNotKept) && len(v.m.roots) == 1 {
				return true // as if what is below were not in the point
			}
			if err != nil {
				yield(Item{}, err)
				return false
			}
			for _, child := range p.nodes {
				if !walk(child, depth+1) {
					return false
				}
			}
			for _, it := range p.items {
				if !first && ComparePaths(last, it.Path) >= 0 {
					yield(Item{}, fmt.Errorf("%w: item %.200q after %.200q", ErrDamaged, it.Path, last))
					return false
				}
				last, first = it.Path, false
				if !yield(it, nil) {
					return false
				}
			}
			return true
		}
		walk(root, 0)
	}
}

// page reads a page of the tree.
func (v *View) page(ctx context.Context, n node, depth int) (page, error) {
	if err := ctx.Err(); err != nil {
		return page{}, context.Cause(ctx)
	}
	if depth > maxTreeDepth {
		return page{}, fmt.Errorf("%w: tree is more than %d pages deep", ErrDamaged, maxTreeDepth)
	}
	b, err := v.meta(ctx, n.page)
	if err != nil {
		return page{}, fmt.Errorf("items of %s: %w", v.m.point.ID, err)
	}
	p, err := decodePage(b)
	if err != nil {
		return page{}, fmt.Errorf("items of %s: page %s: %w", v.m.point.ID, n.page.id, err)
	}
	if depth > 0 && len(p.items)+len(p.nodes) == 0 {
		// With the order of items this is what keeps a forged tree from
		// being endless.
		return page{}, fmt.Errorf("items of %s: page %s: %w: it is empty", v.m.point.ID, n.page.id, ErrDamaged)
	}
	return p, nil
}

const maxTreeDepth = 16

// mergeRuns merges sorted runs; of equal paths the one of the last run
// counts.
func mergeRuns(runs []iter.Seq2[Item, error]) iter.Seq2[Item, error] {
	return func(yield func(Item, error) bool) {
		type head struct {
			it   Item
			next func() (Item, error, bool)
		}
		var heads []*head // in the order of the runs
		advance := func(h *head) (more bool, err error) {
			it, err, ok := h.next()
			h.it = it
			return ok, err
		}
		for _, run := range runs {
			next, stop := iter.Pull2(run)
			defer stop()
			h := &head{next: next}
			ok, err := advance(h)
			if err != nil {
				yield(Item{}, err)
				return
			}
			if ok {
				heads = append(heads, h)
			}
		}
		for len(heads) > 0 {
			least := heads[0]
			for _, h := range heads[1:] {
				if ComparePaths(h.it.Path, least.it.Path) <= 0 {
					least = h
				}
			}
			it := least.it
			if !yield(it, nil) {
				return
			}
			kept := heads[:0]
			for _, h := range heads {
				if h.it.Path == it.Path {
					ok, err := advance(h)
					if err != nil {
						yield(Item{}, err)
						return
					}
					if !ok {
						continue
					}
				}
				kept = append(kept, h)
			}
			heads = kept
		}
	}
}

// Lookup returns one item. [provider.ErrNotFound] if the point has none of
// that path.
func (v *View) Lookup(ctx context.Context, path string) (Item, error) {
	for i := len(v.m.roots) - 1; i >= 0; i-- {
		it, ok, err := v.lookup(ctx, v.m.roots[i], path)
		if errors.Is(err, errNotKept) {
			break // an earlier run may have another item of that path
		}
		if ok || err != nil {
			return it, err
		}
	}
	return Item{}, fmt.Errorf("item %.200q of %s: %w", path, v.m.point.ID, provider.ErrNotFound)
}

func (v *View) lookup(ctx context.Context, n node, path string) (Item, bool, error) {
	for depth := 0; ; depth++ {
		p, err := v.page(ctx, n, depth)
		if err != nil {
			return Item{}, false, err
		}
		for _, it := range p.items {
			if it.Path == path {
				return it, true, nil
			}
		}
		found := false
		for _, child := range p.nodes {
			if ComparePaths(child.last, path) >= 0 {
				n, found = child, true
				break
			}
		}
		if !found {
			return Item{}, false, nil
		}
	}
}

// A listed ref is part of an item's content; depth 0 is the content itself,
// others are pages of the list.
type listed struct {
	ref
	depth int
}

// refs yields the whole list of an item's content, pages before what they
// list. A list that does not add up to the item's size ends with an error.
func (v *View) refs(ctx context.Context, it Item) iter.Seq2[listed, error] {
	return func(yield func(listed, error) bool) {
		left := it.Size
		var walk func(c content) error
		walk = func(c content) error {
			for _, r := range c.refs {
				if c.depth == 0 {
					if left -= int64(r.plain); left < 0 {
						return fmt.Errorf("content of %.200q: %w: it is longer than the %d bytes announced", it.Path, ErrDamaged, it.Size)
					}
				}
				if !yield(listed{r, c.depth}, nil) {
					return errStop
				}
				if c.depth == 0 {
					continue
				}
				below, err := v.refPage(ctx, r)
				if err != nil {
					return fmt.Errorf("content of %.200q: %w", it.Path, err)
				}
				if err := walk(content{c.depth - 1, below}); err != nil {
					return err
				}
			}
			return nil
		}
		err := walk(it.content)
		if err == nil && left > 0 {
			err = fmt.Errorf("content of %.200q: %w: it ends %d bytes early", it.Path, ErrDamaged, left)
		}
		if err != nil && err != errStop {
			yield(listed{}, err)
		}
	}
}

var errStop = errors.New("the loop was left")

// refPage reads a page of a list of chunks.
func (v *View) refPage(ctx context.Context, r ref) ([]ref, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	b, err := v.meta(ctx, r)
	if err != nil {
		return nil, err
	}
	return decodeRefPage(b)
}

// Open returns the content of an item of this view. Reading fails with an
// error wrapping [ErrDamaged], and delivers nothing unverified, if the
// content is not intact. The reader reads ahead; close it.
func (v *View) Open(ctx context.Context, it Item) (io.ReadCloser, error) {
	c := it.content
	if len(c.refs) == 0 && it.Size == 0 {
		return io.NopCloser(bytes.NewReader(nil)), nil
	}
	if c.depth == 0 && len(c.refs) == 1 {
		b, err := v.chunk(ctx, kindData, c.refs[0], nil)
		if err != nil {
			return nil, fmt.Errorf("open %.200q: %w", it.Path, err)
		}
		return io.NopCloser(bytes.NewReader(b)), nil
	}
	return v.readAhead(ctx, it), nil
}

// readAhead fetches a few chunks ahead of the reader, in parallel.
func (v *View) readAhead(ctx context.Context, it Item) io.ReadCloser {
	ctx, cancel := context.WithCancel(ctx)
	queue := make(chan chan fetched, v.r.c.Workers+1)
	go func() {
		defer close(queue)
		send := func(c chan fetched) bool {
			select {
			case queue <- c:
				return true
			case <-ctx.Done():
				return false
			}
		}
		for r, err := range v.refs(ctx, it) {
			if r.depth > 0 && err == nil {
				continue
			}
			c := make(chan fetched, 1)
			if !send(c) {
				return
			}
			if err != nil {
				c <- fetched{err: err}
				return
			}
			go func() {
				b, err := v.chunk(ctx, kindData, r.ref, nil)
				c <- fetched{b, err}
			}()
		}
	}()
	return &contentReader{queue: queue, cancel: cancel, path: it.Path,
		stopped: func() error { return context.Cause(ctx) }}
}

type fetched struct {
	b   []byte
	err error
}

type contentReader struct {
	queue   chan chan fetched
	cancel  context.CancelFunc
	stopped func() error // why queue was closed early, if it was
	path    string
	b       []byte
	err     error
}

func (r *contentReader) Read(p []byte) (int, error) {
	for len(r.b) == 0 && r.err == nil {
		r.fill()
	}
	if len(r.b) == 0 {
		return 0, r.err
	}
	n := copy(p, r.b)
	r.b = r.b[n:]
	return n, nil
}

// WriteTo hands every chunk to w in one piece.
func (r *contentReader) WriteTo(w io.Writer) (n int64, err error) {
	for {
		m, err := w.Write(r.b)
		n += int64(m)
		r.b = r.b[m:]
		if err != nil {
			return n, err
		}
		for len(r.b) == 0 && r.err == nil {
			r.fill()
		}
		if len(r.b) == 0 {
			if r.err == io.EOF {
				return n, nil
			}
			return n, r.err
		}
	}
}

// fill waits for the next chunk.
func (r *contentReader) fill() {
	c, ok := <-r.queue
	if !ok {
		r.err = io.EOF
		if err := r.stopped(); err != nil {
			r.err = err
		}
		return
	}
	f := <-c
	if r.b = f.b; f.err != nil {
		r.err = fmt.Errorf("read %.200q: %w", r.path, f.err)
	}
}

func (r *contentReader) Close() error {
	r.cancel()
	r.err, r.b = io.ErrClosedPipe, nil
	return nil
}
