package backup_test

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
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

	lethal   func(*request) bool // nil: none; see bug
	critical func(*request) bool // much depends on what happens just before
	jump     time.Duration       // of the store's clock
	modified map[string]time.Time
	peace    int      // faults are one in so many requests, or a few
	limbo    []func() // requests of those who were killed, which may still arrive
	landed   int      // of those
	trace    []event

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
type fate struct {
	before, after error
	late          bool // whoever sent it is dead, and it may still arrive
}

// An event is a request that was admitted, for those who want to know how
// something came about.
type event struct {
	at      time.Time
	by      int
	op, key string
	fate    string
}

func (e event) String() string {
	return fmt.Sprintf("%s client %d: %s %s %s\n", e.at.Format(time.StampMilli), e.by, e.op, e.key, e.fate)
}

func (s *schedule) note(r *request, fate string) {
	s.trace = append(s.trace, event{time.Now(), r.by.id, r.op, r.key, fate})
}

// story tells the last of what happened.
func (s *schedule) story() string {
	var b strings.Builder
	for _, e := range s.trace[max(0, len(s.trace)-400):] {
		b.WriteString(e.String())
	}
	return b.String()
}

// sum is different for different stories.
func (s *schedule) sum() [32]byte {
	h := sha256.New()
	for _, e := range s.trace {
		io.WriteString(h, e.String())
	}
	return [32]byte(h.Sum(nil))
}

// dated makes the time of an object that by the clock of the store.
func (s *schedule) dated(info provider.Info) provider.Info {
	s.mu.Lock()
	defer s.mu.Unlock()
	if at, ok := s.modified[info.Key]; ok {
		info.Modified = at
	}
	return info
}

// put is dated, and looked at.
func (c *client) put(ctx context.Context, key string, body provider.Body, o provider.PutOptions) (provider.Info, error) {
	info, err := c.s.store.Put(ctx, key, body, o)
	if err != nil {
		return info, err
	}
	c.s.mu.Lock()
	c.s.modified[key] = info.Modified.Add(c.s.jump)
	c.s.mu.Unlock()
	c.changed("put", key)
	return c.s.dated(info), nil
}

func (c *client) delete(ctx context.Context, key string, o provider.DeleteOptions) error {
	err := c.s.store.Delete(ctx, key, o)
	if err == nil {
		c.changed("delete", key)
	}
	return err
}

// now is the time by the clock of the process.
func (c *client) now() time.Time { return time.Now().Add(c.skew) }

// A client is one incarnation of a process: a store of its own.
type client struct {
	s       *schedule
	id      int
	dead    bool // killed
	sleeps  int  // so many steps more
	faulted bool // something failed that it did not cause
	skew    time.Duration
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
	return io.NopCloser(bytes.NewReader(b)), c.s.dated(info), err
}

func (c *client) Put(ctx context.Context, key string, body provider.Body, o provider.PutOptions) (provider.Info, error) {
	f := c.park(ctx, "put", key)
	ctx = context.WithoutCancel(ctx)
	if f.late {
		b := make([]byte, body.Size())
		if _, err := body.ReadAt(b, 0); err == nil || errors.Is(err, io.EOF) {
			c.s.limbo = append(c.s.limbo, func() { _, _ = c.put(ctx, key, provider.Bytes(b), o) })
		}
	}
	if f.before != nil {
		return provider.Info{}, f.before
	}
	info, err := c.put(ctx, key, body, o)
	if err == nil {
		err = f.after
	}
	return info, err
}

func (c *client) Stat(ctx context.Context, key string) (provider.Info, error) {
	f := c.park(ctx, "stat", key)
	if err := errors.Join(f.before, f.after); err != nil {
		return provider.Info{}, err
	}
	info, err := c.s.store.Stat(ctx, key)
	return c.s.dated(info), err
}

func (c *client) Delete(ctx context.Context, key string, o provider.DeleteOptions) error {
	f := c.park(ctx, "delete", key)
	ctx = context.WithoutCancel(ctx)
	if f.late {
		c.s.limbo = append(c.s.limbo, func() { _ = c.delete(ctx, key, o) })
	}
	if f.before != nil {
		return f.before
	}
	err := c.delete(ctx, key, o)
	if err == nil {
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
				if !yield(c.s.dated(info), nil) {
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
	if s.critical(r) && !r.late && !s.calm && s.rnd.IntN(s.hold) == 0 {
		r.late, r.by.sleeps = true, 20+s.rnd.IntN(300)
		s.mu.Unlock()
		return true
	}
	s.parked = slices.DeleteFunc(slices.Clone(parked), func(x *request) bool { return x == r })
	s.mu.Unlock()

	time.Sleep(time.Duration(s.rnd.IntN(60)) * time.Second)
	s.land()
	f, what := s.decide(r)
	s.note(r, what)
	r.fate <- f
	synctest.Wait()
	s.bury(r.by)
	return true
}

// critical reports whether much depends on what happens just before.
func critical(r *request) bool {
	key := strings.TrimPrefix(r.key, "replica/")
	return r.op == "put" && (strings.HasPrefix(key, "sessions/") || strings.HasPrefix(key, "points/") || strings.HasPrefix(key, "condemned/"))
}

// decide chooses the fate of a request.
func (s *schedule) decide(r *request) (f fate, what string) {
	c := r.by
	if s.calm {
		return f, ""
	}
	if s.lethal != nil && s.lethal(r) && s.rnd.IntN(2) == 0 {
		c.dead, c.faulted = true, true
		return fate{before: providertest.ErrCrashed}, "killed before"
	}
	switch n := s.rnd.IntN(s.peace); {
	case n < 1:
		f.before, c.dead, what = providertest.ErrCrashed, true, "killed before"
	case n < 2:
		f.before, f.late, c.dead, what = providertest.ErrCrashed, true, true, "killed, and it is still on its way"
	case n < 4:
		f.after, c.dead, what = providertest.ErrCrashed, true, "killed after"
	case n < 6:
		f.before, what = providertest.ErrInjected, "failed"
	case n < 9:
		f.after, what = providertest.ErrInjected, "reply lost"
	case n < 13:
		c.sleeps, what = 50+s.rnd.IntN(400), "falls asleep"
		if s.rnd.IntN(2) == 0 {
			time.Sleep(8 * 24 * time.Hour)
		}
	case n < 14:
		c.skew, what = time.Duration(s.rnd.IntN(60*24)-30*24)*time.Hour, "its clock jumps"
	case n < 15:
		s.jump, what = time.Duration(s.rnd.IntN(20*24)-10*24)*time.Hour, "the clock of the store jumps"
	}
	c.faulted = c.faulted || f != fate{}
	return f, what
}

// land lets requests arrive that those who were killed had on their way.
func (s *schedule) land() {
	if n := len(s.limbo); n > 0 && (s.calm || s.rnd.IntN(50) == 0) {
		i := s.rnd.IntN(n)
		land := s.limbo[i]
		s.limbo = slices.Delete(s.limbo, i, i+1)
		s.landed++
		land()
	}
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
