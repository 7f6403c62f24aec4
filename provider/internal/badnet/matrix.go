package badnet

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdfast-go/holdfast/provider"
)

// A Place is a store and the server that it asks.
type Place struct {
	Target string                                            // the URL of the server
	Start  func(http.Handler) *httptest.Server               // see [New]; nil is httptest.NewServer
	Open   func(t testing.TB, n *Network) provider.BlobStore // that asks over n, or straight if n is nil
	Large  int                                               // the size in bytes of a body that goes up in parts
	Locks  bool                                              // whether it takes retentions
	More   []Fault                                           // of this service only
}

// A Fault is something that happens between a store and its server.
type Fault struct {
	Name string
	Do   func(*Network) (happened *atomic.Int32)

	// Deadline is that of the call, which then fails with it. 0 means that
	// the call succeeds all the same.
	Deadline time.Duration

	// Is is what the call fails with, where it has to. Nil means that it
	// succeeds.
	Is error
}

func meets(times int32, how http.HandlerFunc) func(*Network) *atomic.Int32 {
	return func(n *Network) *atomic.Int32 { return n.Meets(times, All, how) }
}

func breaks(times int32, how func(*http.Response) error) func(*Network) *atomic.Int32 {
	return func(n *Network) *atomic.Int32 { return n.Breaks(times, All, how) }
}

// Faults are those that all services have in common: each of them meets the
// first requests of a call, whichever these are.
var Faults = []Fault{
	{Name: "reset", Do: meets(2, Reset)},
	{Name: "lost reply", Do: breaks(2, Lost)},
	{Name: "black hole", Do: meets(1<<30, Swallow), Deadline: 300 * time.Millisecond},
	{Name: "reply into a black hole", Do: breaks(1<<30, Withheld), Deadline: 300 * time.Millisecond},
	{Name: "slow", Do: func(n *Network) *atomic.Int32 { n.Meets(1<<30, All, Slow); return n.Breaks(1<<30, All, Slowly) }},
	{Name: "truncated", Do: breaks(2, Cut)},
	{Name: "500", Do: meets(2, Answers(http.StatusInternalServerError, nil, ""))},
	{Name: "502", Do: meets(2, Answers(http.StatusBadGateway, nil, ""))},
	{Name: "503", Do: meets(2, Answers(http.StatusServiceUnavailable, nil, ""))},
	{Name: "504", Do: meets(2, Answers(http.StatusGatewayTimeout, nil, ""))},
	{Name: "429", Do: meets(2, Answers(http.StatusTooManyRequests, nil, ""))},
	{Name: "500 in place of a reply", Do: breaks(2, Becomes(http.StatusInternalServerError, nil))},
}

// late is how long after its deadline a call may return: what was changed is
// looked up.
const late = 20 * time.Second

// Matrix makes every call meet every fault: it ends right, or when it has to
// fail says why, and nothing that is half written becomes visible. skip names
// what is not asked: "fault/call".
func Matrix(t *testing.T, p Place, skip ...string) {
	if p.Start == nil {
		p.Start = httptest.NewServer
	}
	direct := p.Open(t, nil)
	_, tags := provider.As[provider.Tagger](direct)
	content := make([]byte, p.Large)
	rand.NewChaCha8([32]byte{1}).Read(content)
	var wg sync.WaitGroup
	atOnce := make(chan struct{}, 24)
	for _, f := range append(slices.Clone(Faults), p.More...) {
		for name, call := range calls {
			if slices.Contains(skip, f.Name+"/"+name) || name == "lock" && !p.Locks || name == "tag" && !tags {
				continue
			}
			wg.Go(func() {
				atOnce <- struct{}{}
				defer func() { <-atOnce }()
				n := New(t, p.Target, p.Start)
				n.For = f.Name
				c := &try{ctx: t.Context(), direct: direct, s: p.Open(t, n), key: fmt.Sprintf("%s/%s", f.Name, name), small: content[:100], large: content}
				if err := c.check(call, n, f); err != nil {
					t.Errorf("%s/%s: %v", f.Name, name, err)
				}
			})
		}
	}
	wg.Wait()
}

// A try is one call that meets one fault.
type try struct {
	ctx          context.Context
	direct, s    provider.BlobStore
	key          string
	small, large []byte
}

func (c *try) check(call call, n *Network, f Fault) error {
	if err := call.before(c); err != nil {
		return fmt.Errorf("before: %w", err)
	}
	happened := f.Do(n)
	ctx, cancel := context.WithCancel(c.ctx)
	if f.Deadline > 0 {
		ctx, cancel = context.WithTimeout(c.ctx, f.Deadline)
	}
	defer cancel()
	begun := time.Now()
	err := call.do(ctx, c)
	took := time.Since(begun)
	n.Clear()
	n.CloseClientConnections() // whoever is withheld
	want := f.Is
	if f.Deadline > 0 {
		want = context.DeadlineExceeded
	}
	switch {
	case happened.Load() == 0 && f.Deadline == 0: // a slow machine has none to withhold in time
		return errors.New("it did not happen")
	case f.Deadline > 0 && took > f.Deadline+late:
		return fmt.Errorf("came back after %v", took)
	case err != nil && want == nil:
		return err
	case err == nil && want != nil && f.Deadline == 0:
		return errors.New("succeeded")
	case err != nil && !errors.Is(err, want):
		return fmt.Errorf("%w, want %w", err, want)
	}
	for _, s := range []error{provider.ErrConflict, provider.ErrNotFound, provider.ErrCorrupt, provider.ErrRange} {
		if errors.Is(err, s) {
			return fmt.Errorf("%w, which it is not", err)
		}
	}
	if e, ok := errors.AsType[*provider.Error](err); err != nil && (!ok || e.Op == "") {
		return fmt.Errorf("%w says not what was done", err)
	}
	return call.after(c, err == nil)
}

// holds says whether what is there is this, or nothing if it need not be.
func (c *try) holds(want []byte, must bool) error {
	b, _, err := provider.ReadAll(c.ctx, c.direct, c.key, 1<<30)
	switch {
	case errors.Is(err, provider.ErrNotFound) && !must:
		return nil
	case err != nil:
		return fmt.Errorf("afterwards: %w", err)
	case !bytes.Equal(b, want):
		return fmt.Errorf("afterwards: %d bytes, want %d", len(b), len(want))
	}
	return nil
}

type call struct {
	before func(*try) error
	do     func(context.Context, *try) error
	after  func(c *try, done bool) error
}

func store(b func(*try) []byte) func(*try) error {
	return func(c *try) error {
		_, err := c.direct.Put(c.ctx, c.key, provider.Bytes(b(c)), provider.PutOptions{})
		return err
	}
}

func small(c *try) []byte        { return c.small }
func large(c *try) []byte        { return c.large }
func nothing(*try) error         { return nil }
func unchanged(*try, bool) error { return nil }

func gets(b func(*try) []byte) call {
	return call{store(b), func(ctx context.Context, c *try) error {
		got, _, err := provider.ReadAll(ctx, c.s, c.key, 1<<30)
		if err == nil && !bytes.Equal(got, b(c)) {
			err = errors.New("other bytes")
		}
		return named("get", err)
	}, unchanged}
}

func puts(b func(*try) []byte) call {
	return call{nothing, func(ctx context.Context, c *try) error {
		_, err := c.s.Put(ctx, c.key, provider.Bytes(b(c)), provider.PutOptions{IfAbsent: true})
		return err
	}, func(c *try, done bool) error { return c.holds(b(c), done) }}
}

// named: the errors of a body that is read are those of ReadAll.
func named(op string, err error) error {
	if _, ok := errors.AsType[*provider.Error](err); err == nil || ok {
		return err
	}
	return &provider.Error{Op: op, Err: err}
}

var calls = map[string]call{
	"get small": gets(small),
	"get large": gets(large),
	"put small": puts(small),
	"put large": puts(large),
	"stat": {store(small), func(ctx context.Context, c *try) error {
		info, err := c.s.Stat(ctx, c.key)
		if err == nil && info.Size != int64(len(c.small)) {
			err = errors.New("another size")
		}
		return err
	}, unchanged},
	"delete": {store(small), func(ctx context.Context, c *try) error {
		return c.s.Delete(ctx, c.key, provider.DeleteOptions{})
	}, func(c *try, done bool) error {
		if _, err := c.direct.Stat(c.ctx, c.key); done && !errors.Is(err, provider.ErrNotFound) {
			return fmt.Errorf("afterwards: %v", err)
		}
		return c.holds(c.small, false)
	}},
	"list": {func(c *try) error {
		for i := range 5 {
			if _, err := c.direct.Put(c.ctx, fmt.Sprint(c.key, "/", i), provider.Bytes(nil), provider.PutOptions{}); err != nil {
				return err
			}
		}
		return nil
	}, func(ctx context.Context, c *try) error {
		n := 0
		for info, err := range c.s.List(ctx, c.key+"/", provider.ListOptions{}) {
			if err != nil {
				return err
			}
			if info.Key != fmt.Sprint(c.key, "/", n) {
				return fmt.Errorf("lists %q as number %d", info.Key, n)
			}
			n++
		}
		if n != 5 {
			return fmt.Errorf("lists %d of 5", n)
		}
		return nil
	}, unchanged},
	"copy": {func(c *try) error {
		_, err := c.direct.Put(c.ctx, c.key+"-source", provider.Bytes(c.small), provider.PutOptions{})
		return err
	}, func(ctx context.Context, c *try) error {
		s, ok := provider.As[provider.Copier](c.s)
		if !ok {
			return errors.New("no Copier")
		}
		_, err := s.CopyFrom(ctx, c.key, c.s, provider.Info{Key: c.key + "-source"}, provider.PutOptions{IfAbsent: true})
		return err
	}, func(c *try, done bool) error { return c.holds(c.small, done) }},
	"tag": {store(small), func(ctx context.Context, c *try) error {
		s, ok := provider.As[provider.Tagger](c.s)
		if !ok {
			return errors.New("no Tagger")
		}
		if err := s.SetTags(ctx, c.key, "", map[string]string{"a": "b"}); err != nil {
			return err
		}
		tags, err := s.Tags(ctx, c.key, "")
		if err == nil && tags["a"] != "b" {
			err = fmt.Errorf("tags are %q", tags)
		}
		return err
	}, func(c *try, done bool) error { return c.holds(c.small, true) }},
	"lock": {store(small), func(ctx context.Context, c *try) error {
		l, ok := provider.As[provider.Locker](c.s)
		if !ok {
			return errors.New("no Locker")
		}
		return l.Lock(ctx, c.key, provider.Retention{Mode: provider.Governance, Until: time.Now().Add(time.Minute)})
	}, func(c *try, done bool) error {
		info, err := c.direct.Stat(c.ctx, c.key)
		if err == nil && done && info.Retain.IsZero() {
			err = errors.New("it is not locked")
		}
		return err
	}},
}
