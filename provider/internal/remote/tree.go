package remote

import (
	"context"
	"iter"
	"slices"
	"strings"
	"sync"

	"github.com/holdfast-go/holdfast/provider"
)

// A Query is what one request of a listing asks for.
type Query struct {
	Prefix, After string // keys that begin with Prefix and are greater than After
	Next          string // where to go on, from the page before; then After says nothing
	Grouped       bool   // of all keys that go on behind Prefix with the same "segment/" that segment alone
}

// An Entry is an object or, in a grouped page, the part that several keys
// have in common.
type Entry struct {
	provider.Info
	Group bool // Key is a prefix that ends in "/"
}

// A Page answers a query: entries in ascending order of their keys, and where
// to go on; empty at the end.
type Page struct {
	Entries []Entry
	Next    string
}

// A Tree lists keys by several requests beside each other, in order. Where a
// page does not hold everything below a prefix, a grouped listing tells what
// parts there are, and the first pages of the next of them are fetched while
// those before are consumed. A part whose first page does not hold all of it
// is listed in the same way. Where the parts turn out to be small, which a
// request for each of them would make slower than before, or where there are
// none, it goes on with one page after the other.
//
// It holds at most Ahead + 3 pages, for each of maxDepth levels.
type Tree struct {
	Ahead int // pages fetched ahead, at least 1
	Fetch func(ctx context.Context, q Query) (Page, error)
}

const (
	maxDepth = 4  // levels that are listed by parts, one in the other
	tooMany  = 10 // parts in a page are better listed without grouping them
)

// Entries yields the objects below prefix with keys greater than after. No
// goroutine is left when it returns.
func (t Tree) Entries(ctx context.Context, prefix, after string) iter.Seq2[provider.Info, error] {
	return func(yield func(provider.Info, error) bool) {
		p, err := t.Fetch(ctx, Query{Prefix: prefix, After: after})
		if err != nil {
			yield(provider.Info{}, err)
			return
		}
		w := walk{Tree: t, yield: yield, few: len(p.Entries) / tooMany}
		w.part(ctx, prefix, p, 1)
	}
}

// A walk is one listing. Its methods return false when it has to end.
type walk struct {
	Tree
	yield func(provider.Info, error) bool
	last  string // yielded
	few   int    // keys; a part that has not more is small
}

func (w *walk) fail(err error) bool {
	w.yield(provider.Info{}, err)
	return false
}

func (w *walk) objects(entries []Entry) bool {
	for _, e := range entries {
		if !w.yield(e.Info, nil) {
			return false
		}
		w.last = e.Key
	}
	return true
}

// part yields what is below prefix, of which p is the first page.
func (w *walk) part(ctx context.Context, prefix string, p Page, depth int) bool {
	switch {
	case !w.objects(p.Entries):
		return false
	case p.Next == "":
		return true
	case depth > maxDepth || len(p.Entries) == 0 || parts(prefix, p.Entries) > tooMany:
		return w.plain(ctx, Query{Prefix: prefix, Next: p.Next})
	}
	return w.grouped(ctx, prefix, p.Entries[len(p.Entries)-1].Key, depth)
}

// parts is how many parts below prefix the keys of a page are in.
func parts(prefix string, entries []Entry) (n int) {
	last := ""
	for _, e := range entries {
		if part := partOf(prefix, e.Key); part != "" && part != last {
			n++
			last = part
		}
	}
	return n
}

// partOf is the part below prefix that a key is in; empty if it is in none.
func partOf(prefix, key string) string {
	i := strings.IndexByte(key[len(prefix):], '/')
	if i < 0 {
		return ""
	}
	return key[:len(prefix)+i+1]
}

// plain yields one page after the other.
func (w *walk) plain(ctx context.Context, q Query) bool {
	for {
		p, err := w.Fetch(ctx, q)
		switch {
		case err != nil:
			return w.fail(err)
		case !w.objects(p.Entries):
			return false
		case p.Next == "":
			return true
		}
		q.Next = p.Next
	}
}

// grouped yields what is below prefix and behind after by its parts.
func (w *walk) grouped(ctx context.Context, prefix, after string, depth int) bool {
	within, cancel := context.WithCancel(ctx)
	s := scout{Tree: w.Tree, steps: make(chan *step, w.Ahead)}
	s.running.Go(func() {
		defer close(s.steps)
		s.run(within, prefix, after)
	})
	small, keys, seen := false, 0, 0
	ok := true
	for next := range s.steps {
		<-next.done
		switch {
		case next.err != nil:
			ok = w.fail(next.err)
		case next.part == "":
			ok = w.objects(next.page.Entries)
		default:
			ok = w.part(ctx, next.part, next.page, depth+1)
			keys, seen = keys+len(next.page.Entries), seen+1
			small = seen >= tooMany && keys <= seen*w.few
		}
		if !ok || small {
			break
		}
	}
	cancel()
	for range s.steps { // until the scout has noticed
	}
	s.running.Wait()
	switch {
	case !ok:
		return false
	case ctx.Err() != nil: // the scout says nothing when that ends
		return w.fail(ctx.Err())
	case small:
		return w.plain(ctx, Query{Prefix: prefix, After: max(w.last, after)})
	}
	return true
}

// A step is what comes next in a grouped listing: the first page of a part, or
// objects that are in none.
type step struct {
	part string
	done chan struct{} // closed when what follows is there
	page Page
	err  error
}

// A scout goes through a grouped listing ahead of its consumer.
type scout struct {
	Tree
	steps   chan *step
	running sync.WaitGroup
}

// run sends the steps behind after. Stores do not agree on whether the part
// that after is in is still told, so that one is not asked for.
func (s *scout) run(ctx context.Context, prefix, after string) {
	open := partOf(prefix, after)
	if open != "" && !s.fetch(ctx, open, after) {
		return
	}
	q := Query{Prefix: prefix, After: after, Grouped: true}
	for {
		p, err := s.Fetch(ctx, q)
		if err != nil {
			s.send(ctx, &step{done: closed(), err: err})
			return
		}
		for rest := p.Entries; len(rest) > 0; {
			n := slices.IndexFunc(rest, func(e Entry) bool { return e.Group })
			switch {
			case n == 0 && rest[0].Key != open && !s.fetch(ctx, rest[0].Key, ""):
				return
			case n == 0:
				rest = rest[1:]
				continue
			case n < 0:
				n = len(rest)
			}
			if !s.send(ctx, &step{done: closed(), page: Page{Entries: rest[:n]}}) {
				return
			}
			rest = rest[n:]
		}
		if p.Next == "" {
			return
		}
		q.Next = p.Next
	}
}

// fetch begins to fetch the first page of a part.
func (s *scout) fetch(ctx context.Context, part, after string) bool {
	if ctx.Err() != nil { // what was sent last may have been thrown away
		return false
	}
	next := &step{part: part, done: make(chan struct{})}
	s.running.Go(func() {
		defer close(next.done)
		next.page, next.err = s.Fetch(ctx, Query{Prefix: part, After: after})
	})
	return s.send(ctx, next)
}

func (s *scout) send(ctx context.Context, next *step) bool {
	select {
	case s.steps <- next:
		return true
	case <-ctx.Done():
		return false
	}
}

func closed() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}
