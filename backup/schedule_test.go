package backup_test

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"io"
	"iter"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing/synctest"
	"time"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/providertest"
)

// A schedule admits the requests of several clients to a store one at a time,
// in an order that a seed decides, and decides which of them fail, and when a
// client is killed or put to sleep. It runs under testing/synctest.
type schedule struct {
	rnd   *rand.Rand
	store *providertest.Memory
	after func(r *request) // looks at the store after every request that changed it
	calm  bool             // nothing fails any more
	hold  int              // one in so many critical requests is held back for long

	mu     sync.Mutex
	parked []*request
	n      int
	past   [][]provider.Info // listings of the store after every change, if delayed
	delay  int               // how many changes a listing may lag behind
}

// A request waits to be admitted.
type request struct {
	by      *client
	op, key string
	n       int
	late    bool // was held back
	fate    chan fate
}

// A fate is what becomes of a request.
type fate struct{ before, after error }

// A client is one incarnation of a process: a store of its own.
type client struct {
	s       *schedule
	id      int
	dead    bool // killed
	sleeps  int  // so many steps more
	faulted bool // something failed that it did not cause
}

// park waits for the fate of a request.
func (c *client) park(ctx context.Context, op, key string) fate {
	if err := ctx.Err(); err != nil {
		return fate{before: err}
	}
	r := &request{by: c, op: op, key: key, fate: make(chan fate, 1)}
	c.s.mu.Lock()
	if c.dead {
		c.s.mu.Unlock()
		return fate{before: providertest.ErrCrashed}
	}
	c.s.n++
	r.n = c.s.n
	c.s.parked = append(c.s.parked, r)
	c.s.mu.Unlock()
	return <-r.fate
}

// changed looks at the store after a change.
func (c *client) changed(op, key string) {
	if c.s.delay > 0 {
		c.s.remember()
	}
	c.s.after(&request{by: c, op: op, key: key})
}

func (s *schedule) remember() {
	var now []provider.Info
	for info := range s.store.List(context.Background(), "", provider.ListOptions{}) {
		now = append(now, info)
	}
	s.past = append(s.past, now)
}

func (c *client) Get(ctx context.Context, key string, o provider.GetOptions) (io.ReadCloser, provider.Info, error) {
	f := c.park(ctx, "get", key)
	if err := errors.Join(f.before, f.after); err != nil {
		return nil, provider.Info{}, err
	}
	rc, info, err := c.s.store.Get(ctx, key, o)
	if err != nil {
		return nil, info, err
	}
	defer rc.Close()
	b, err := io.ReadAll(rc)
	return io.NopCloser(bytes.NewReader(b)), info, err
}

func (c *client) Put(ctx context.Context, key string, body provider.Body, o provider.PutOptions) (provider.Info, error) {
	f := c.park(ctx, "put", key)
	if f.before != nil {
		return provider.Info{}, f.before
	}
	info, err := c.s.store.Put(context.WithoutCancel(ctx), key, body, o)
	if err == nil {
		c.changed("put", key)
		err = f.after
	}
	return info, err
}

func (c *client) Stat(ctx context.Context, key string) (provider.Info, error) {
	f := c.park(ctx, "stat", key)
	if err := errors.Join(f.before, f.after); err != nil {
		return provider.Info{}, err
	}
	return c.s.store.Stat(ctx, key)
}

func (c *client) Delete(ctx context.Context, key string, o provider.DeleteOptions) error {
	f := c.park(ctx, "delete", key)
	if f.before != nil {
		return f.before
	}
	err := c.s.store.Delete(context.WithoutCancel(ctx), key, o)
	if err == nil {
		c.changed("delete", key)
		err = f.after
	}
	return err
}

// List is one request for every few objects, as it is with real stores:
// others change things in between.
func (c *client) List(ctx context.Context, prefix string, o provider.ListOptions) iter.Seq2[provider.Info, error] {
	return func(yield func(provider.Info, error) bool) {
		for {
			f := c.park(ctx, "list", prefix)
			if err := errors.Join(f.before, f.after); err != nil {
				yield(provider.Info{}, err)
				return
			}
			page := c.s.page(prefix, o.StartAfter)
			for _, info := range page {
				if !yield(info, nil) {
					return
				}
				o.StartAfter = info.Key
			}
			if len(page) < listPage {
				return
			}
		}
	}
}

const listPage = 6

// page returns the next few objects of a listing.
func (s *schedule) page(prefix, after string) (out []provider.Info) {
	all := s.store.List(context.Background(), prefix, provider.ListOptions{StartAfter: after})
	if s.delay > 0 && len(s.past) > 0 {
		old := s.past[max(0, len(s.past)-1-s.rnd.IntN(s.delay))]
		all = func(yield func(provider.Info, error) bool) {
			for _, info := range old {
				if strings.HasPrefix(info.Key, prefix) && info.Key > after && !yield(info, nil) {
					return
				}
			}
		}
	}
	for info := range all {
		if out = append(out, info); len(out) == listPage {
			break
		}
	}
	return out
}

// step admits one request. It reports false if there is none.
func (s *schedule) step() bool {
	synctest.Wait()
	s.mu.Lock()
	parked := s.parked
	if len(parked) == 0 {
		s.mu.Unlock()
		return false
	}
	// Keys are random; their order must not decide.
	slices.SortFunc(parked, func(a, b *request) int {
		return cmp.Or(a.by.id-b.by.id, strings.Compare(a.op, b.op), a.n-b.n)
	})
	var ready []*request
	for _, r := range parked {
		if r.by.sleeps == 0 || s.calm {
			ready = append(ready, r)
		} else {
			r.by.sleeps--
		}
	}
	if len(ready) == 0 { // everybody sleeps: let one wake
		parked[0].by.sleeps = 0
		ready = parked[:1]
		s.mu.Unlock()
		time.Sleep(time.Duration(s.rnd.IntN(20*24)) * time.Hour)
		s.mu.Lock()
	}
	r := ready[s.rnd.IntN(len(ready))]
	if r.critical() && !r.late && !s.calm && s.rnd.IntN(s.hold) == 0 {
		r.late, r.by.sleeps = true, 20+s.rnd.IntN(300)
		s.mu.Unlock()
		return true
	}
	s.parked = slices.DeleteFunc(slices.Clone(parked), func(x *request) bool { return x == r })
	s.mu.Unlock()

	time.Sleep(time.Duration(s.rnd.IntN(60)) * time.Second)
	r.fate <- s.decide(r.by)
	synctest.Wait()
	s.bury(r.by)
	return true
}

// critical reports whether much depends on what happens just before.
func (r *request) critical() bool {
	key := strings.TrimPrefix(r.key, "replica/")
	return r.op == "put" && (strings.HasPrefix(key, "sessions/") || strings.HasPrefix(key, "points/"))
}

// decide chooses the fate of a request.
func (s *schedule) decide(c *client) (f fate) {
	if s.calm {
		return f
	}
	switch n := s.rnd.IntN(200); {
	case n < 2:
		f.before, c.dead = providertest.ErrCrashed, true
	case n < 4:
		f.after, c.dead = providertest.ErrCrashed, true
	case n < 6:
		f.before = providertest.ErrInjected
	case n < 9:
		f.after = providertest.ErrInjected
	case n < 13:
		c.sleeps = 50 + s.rnd.IntN(400)
		if s.rnd.IntN(2) == 0 {
			time.Sleep(8 * 24 * time.Hour)
		}
	}
	c.faulted = c.faulted || f != fate{}
	return f
}

// bury fails the requests of a client that was killed.
func (s *schedule) bury(c *client) {
	for c.dead {
		s.mu.Lock()
		var left, its []*request
		for _, r := range s.parked {
			if r.by == c {
				its = append(its, r)
			} else {
				left = append(left, r)
			}
		}
		s.parked = left
		s.mu.Unlock()
		if len(its) == 0 {
			return
		}
		for _, r := range its {
			r.fate <- fate{before: providertest.ErrCrashed}
		}
		synctest.Wait()
	}
}
