package throttle_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/providertest"
	"github.com/holdfast-go/holdfast/provider/throttle"
)

// hammer makes calls from n goroutines for so long, and returns how many
// succeeded.
func hammer(t *testing.T, n int, d time.Duration, call func(ctx context.Context, i int) error) (ok int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	var mu sync.Mutex
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			for ctx.Err() == nil {
				if call(ctx, i) == nil {
					mu.Lock()
					ok++
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	return ok
}

func put(s provider.BlobStore) func(context.Context, int) error {
	return func(ctx context.Context, i int) error {
		_, err := s.Put(ctx, fmt.Sprint(i), provider.Bytes([]byte("x")), provider.PutOptions{})
		return err
	}
}

// latency makes every call take a time.
func latency(d time.Duration) providertest.Script {
	return func(providertest.Call) providertest.Fault {
		return providertest.Fault{Wait: func(ctx context.Context) error { time.Sleep(d); return ctx.Err() }}
	}
}

// Each class is held to its own rate, whoever asks.
func TestPerSecond(t *testing.T) {
	calls := map[throttle.Class]func(provider.BlobStore) func(context.Context, int) error{
		throttle.Write: put,
		throttle.Read: func(s provider.BlobStore) func(context.Context, int) error {
			return func(ctx context.Context, _ int) error {
				_, err := s.Stat(ctx, "x")
				return errIs(err, provider.ErrNotFound)
			}
		},
		throttle.Delete: func(s provider.BlobStore) func(context.Context, int) error {
			return func(ctx context.Context, _ int) error { return s.Delete(ctx, "x", provider.DeleteOptions{}) }
		},
		throttle.List: func(s provider.BlobStore) func(context.Context, int) error {
			return func(ctx context.Context, _ int) (err error) {
				for _, err = range s.List(ctx, "none", provider.ListOptions{}) {
				}
				return err
			}
		},
	}
	for class, call := range calls {
		for _, perSecond := range []float64{0.5, 7, 300} {
			synctest.Test(t, func(t *testing.T) {
				c := throttle.Config{}
				map[throttle.Class]*throttle.Limit{throttle.Write: &c.Write, throttle.Read: &c.Read, throttle.List: &c.List, throttle.Delete: &c.Delete}[class].PerSecond = perSecond
				th, err := throttle.New(c)
				if err != nil {
					t.Fatal(err)
				}
				mem := providertest.NewMemory()
				a, b := th.Store(mem), th.Store(mem) // one Throttle, two stores
				ok := hammer(t, 10, 20*time.Second, func(ctx context.Context, i int) error {
					if i%2 == 0 {
						return call(a)(ctx, i)
					}
					return call(b)(ctx, i)
				})
				want := 20 * perSecond
				if most := want + max(1, perSecond/10); float64(ok) < want-1 || float64(ok) > most+1 {
					t.Errorf("%s: %d calls in 20 s at %v per second", class, ok, perSecond)
				}
				if s := th.Stats()[class]; s.PerSecond != perSecond || s.Requests < int64(ok) || s.InFlight != 0 || s.Waited == 0 {
					t.Errorf("%s: %+v", class, s)
				}
			})
		}
	}
}

func errIs(err, want error) error {
	if errors.Is(err, want) {
		return nil
	}
	return err
}

// No more than InFlight requests of a class wait for an answer, and those of
// other classes do not wait for them.
func TestInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		now, most := map[string]int{}, map[string]int{}
		f := providertest.NewFaulty(providertest.NewMemory(), func(c providertest.Call) providertest.Fault {
			return providertest.Fault{Wait: func(context.Context) error {
				mu.Lock()
				now[c.Op]++
				most[c.Op] = max(most[c.Op], now[c.Op])
				mu.Unlock()
				time.Sleep(time.Second)
				mu.Lock()
				now[c.Op]--
				mu.Unlock()
				return nil
			}}
		})
		s, th := wrap(t, f, throttle.Config{Write: throttle.Limit{InFlight: 3}})
		puts := 0
		var wg sync.WaitGroup
		wg.Go(func() { puts = hammer(t, 10, 10*time.Second+time.Millisecond, put(s)) })
		stats := hammer(t, 10, 10*time.Second+time.Millisecond, func(ctx context.Context, _ int) error {
			_, err := s.Stat(ctx, "0")
			return errIs(err, provider.ErrNotFound)
		})
		wg.Wait()
		if most["put"] != 3 || most["stat"] != 10 || puts != 30 || stats < 90 {
			t.Errorf("at the same time %v; %d puts, %d stats", most, puts, stats)
		}
		if n := th.Stats()[throttle.Write].InFlight; n != 0 {
			t.Errorf("%d in flight at the end", n)
		}
	})
}

// A reader that is open, a listing that is looked through and the body of a Put
// hold nobody up, however small the limits are.
func TestLimitsDoNotLock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one := throttle.Limit{InFlight: 1}
		s, _ := wrap(t, providertest.NewMemory(), throttle.Config{Read: one, Write: one, List: one, Delete: one})
		for i := range 3 {
			if err := put(s)(t.Context(), i); err != nil {
				t.Fatal(err)
			}
		}
		r, info, err := s.Get(t.Context(), "0", provider.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Put(t.Context(), "copy", &remoteBody{s, info}, provider.PutOptions{}); err != nil {
			t.Error(err)
		}
		r.Close()
		for info, err := range s.List(t.Context(), "", provider.ListOptions{}) {
			if err != nil {
				t.Fatal(err)
			}
			for range s.List(t.Context(), info.Key, provider.ListOptions{}) {
				if err := s.Delete(t.Context(), info.Key, provider.DeleteOptions{}); err != nil {
					t.Error(err)
				}
			}
		}
	})
}

// remoteBody is an object of a store.
type remoteBody struct {
	s    provider.BlobStore
	info provider.Info
}

func (b *remoteBody) Size() int64 { return b.info.Size }

func (b *remoteBody) ReadAt(p []byte, off int64) (int, error) {
	r, _, err := b.s.Get(context.Background(), b.info.Key, provider.GetOptions{Offset: off, Length: int64(len(p)), Version: b.info.Version})
	if err != nil {
		return 0, err
	}
	defer r.Close()
	return io.ReadFull(r, p)
}

// Bytes are held to their rates in each direction.
func TestBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := wrap(t, providertest.NewMemory(), throttle.Config{BytesUp: 1000, BytesDown: 5000})
		begun := time.Now()
		if _, err := s.Put(t.Context(), "x", provider.Bytes(make([]byte, 20_000)), provider.PutOptions{}); err != nil {
			t.Fatal(err)
		}
		if d := time.Since(begun); d < 19*time.Second || d > 20*time.Second {
			t.Errorf("up in %v, want 20 s", d)
		}
		begun = time.Now()
		if _, _, err := provider.ReadAll(t.Context(), s, "x", 20_000); err != nil {
			t.Fatal(err)
		}
		if d := time.Since(begun); d < 3500*time.Millisecond || d > 4100*time.Millisecond {
			t.Errorf("down in %v, want 4 s", d)
		}
	})
}

// A service is one that takes so many requests a second and declines others.
type service struct {
	mu       sync.Mutex
	capacity float64
	after    time.Duration // Retry-After
	tokens   float64
	last     time.Time

	taken, declined int
	early           int // requests before the time it asked for, but for those of the moment it asked
	asked, until    time.Time
}

func (s *service) script(providertest.Call) providertest.Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	s.tokens = min(s.tokens+s.capacity*now.Sub(s.last).Seconds(), max(1, s.capacity/10))
	s.last = now
	if now.After(s.asked) && now.Before(s.until) {
		s.early++
	}
	wait := latency(10 * time.Millisecond)(providertest.Call{}).Wait
	if s.tokens >= 1 {
		s.tokens--
		s.taken++
		return providertest.Fault{Wait: wait}
	}
	s.declined++
	var err error = provider.ErrThrottled
	if s.after > 0 {
		err = &provider.Throttled{After: s.after}
		s.asked, s.until = now, now.Add(s.after)
	}
	return providertest.Fault{Before: err}
}

func (s *service) set(capacity float64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.capacity, s.taken, s.declined, s.early = capacity, 0, 0, 0
}

// The rate falls to what the service takes and follows it when it takes more
// again. Nothing is lost meanwhile.
func TestAdapts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sv := &service{capacity: 1e9}
		s, th := wrap(t, providertest.NewFaulty(providertest.NewMemory(), sv.script), throttle.Config{Attempts: 20, Retries: 1e6})
		failed := 0
		run := func(d time.Duration) int {
			return hammer(t, 20, d, func(ctx context.Context, i int) error {
				err := put(s)(ctx, i)
				if err != nil && ctx.Err() == nil {
					failed++
				}
				return err
			})
		}
		if n := run(10 * time.Second); n < 19_000 { // 20 at 10 ms each
			t.Fatalf("without a limit: %d", n)
		}
		sv.set(200)
		run(10 * time.Second) // finds it out
		sv.set(200)
		if n := run(2 * time.Minute); n < 200*120*6/10 || sv.declined*20 > sv.taken {
			t.Errorf("of a service that takes 200 a second: %d in 2 minutes, %d declined", n, sv.declined)
		}
		if p := th.Stats()[throttle.Write].PerSecond; p < 80 || p > 300 {
			t.Errorf("the rate is %v", p)
		}
		sv.set(20)
		run(10 * time.Second)
		sv.set(20)
		if n := run(2 * time.Minute); n < 20*120*6/10 || sv.declined*10 > sv.taken {
			t.Errorf("of a service that takes 20 a second: %d in 2 minutes, %d declined", n, sv.declined)
		}
		sv.set(1e9)
		run(2 * time.Minute)
		if n := run(10 * time.Second); n < 19_000 || th.Stats()[throttle.Write].PerSecond != 0 {
			t.Errorf("recovered: %d, rate %v", n, th.Stats()[throttle.Write].PerSecond)
		}
		if failed > 0 {
			t.Errorf("%d puts failed", failed)
		}
		if other := th.Stats()[throttle.Read]; other.Throttled != 0 || other.PerSecond != 0 {
			t.Errorf("reads were throttled, too: %+v", other)
		}
	})
}

// A configured rate is where it recovers to.
func TestRecoversToConfigured(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sv := &service{capacity: 40}
		s, th := wrap(t, providertest.NewFaulty(providertest.NewMemory(), sv.script),
			throttle.Config{Write: throttle.Limit{PerSecond: 100}, Attempts: 20, Retries: 1e6})
		hammer(t, 20, time.Minute, put(s))
		if p := th.Stats()[throttle.Write].PerSecond; p > 60 {
			t.Errorf("%v per second of a service that takes 40", p)
		}
		sv.set(1e9)
		hammer(t, 20, 90*time.Second, put(s))
		if p := th.Stats()[throttle.Write].PerSecond; p != 100 {
			t.Errorf("%v per second, want 100 again", p)
		}
		if n := hammer(t, 20, 10*time.Second, put(s)); n < 995 || n > 1015 {
			t.Errorf("%d in 10 s", n)
		}
	})
}

// Nobody asks before the time that one was told to wait for.
func TestRetryAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sv := &service{capacity: 50, after: 3 * time.Second}
		var events []throttle.Event
		var mu sync.Mutex
		s, th := wrap(t, providertest.NewFaulty(providertest.NewMemory(), sv.script), throttle.Config{Attempts: 50, Retries: 1e6,
			Events: func(e throttle.Event) { mu.Lock(); defer mu.Unlock(); events = append(events, e) }})
		var wg sync.WaitGroup
		errs := make([]error, 500)
		for i := range errs {
			wg.Go(func() { time.Sleep(rand.N(time.Second)); errs[i] = put(s)(t.Context(), i) })
		}
		wg.Wait()
		if err := errors.Join(errs...); err != nil {
			t.Error(err)
		}
		// Those of the moment it asked were under way already.
		if sv.early > 0 || sv.declined == 0 || sv.declined > 100 {
			t.Errorf("%d early, %d declined", sv.early, sv.declined)
		}
		var throttled, retried int
		for _, e := range events {
			switch {
			case e.What == throttle.Throttled && e.Wait == 3*time.Second && e.PerSecond > 0 && e.Class == throttle.Write:
				throttled++
			case e.What == throttle.Retried:
				retried++
			default:
				t.Errorf("event %+v", e)
			}
		}
		stats := th.Stats()[throttle.Write]
		if throttled == 0 || retried != sv.declined || stats.Retries != int64(retried) || stats.Throttled != int64(sv.declined) {
			t.Errorf("%d fell, %d again, %d declined, %+v", throttled, retried, sv.declined, stats)
		}
	})
}

// The end of ctx ends each kind of wait at once.
func TestCancelledWhileWaiting(t *testing.T) {
	throttled := func(providertest.Call) providertest.Fault {
		return providertest.Fault{Before: &provider.Throttled{After: time.Minute}}
	}
	hangs := func(providertest.Call) providertest.Fault {
		return providertest.Fault{Wait: func(ctx context.Context) error { <-ctx.Done(); time.Sleep(5 * time.Second); return ctx.Err() }}
	}
	for name, c := range map[string]struct {
		config throttle.Config
		script providertest.Script
		first  bool // another call is before it
	}{
		"rate":        {throttle.Config{Write: throttle.Limit{PerSecond: 0.01}}, nil, true},
		"in flight":   {throttle.Config{Write: throttle.Limit{InFlight: 1}}, hangs, true},
		"Retry-After": {throttle.Config{}, throttled, false},
		"paused":      {throttle.Config{}, throttled, true},
		"backoff": {throttle.Config{Attempts: 100}, func(providertest.Call) providertest.Fault {
			return providertest.Fault{Before: providertest.ErrInjected}
		}, false},
		"bytes": {throttle.Config{BytesUp: 1}, nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, th := wrap(t, providertest.NewFaulty(providertest.NewMemory(), c.script), c.config)
				if c.first {
					first, stop := context.WithTimeout(t.Context(), time.Second)
					defer stop()
					go put(s)(first, 1)
					time.Sleep(500 * time.Millisecond)
				}
				ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
				defer cancel()
				begun := time.Now()
				_, err := s.Put(ctx, "x", provider.Bytes(make([]byte, 100)), provider.PutOptions{})
				if !errors.Is(err, context.DeadlineExceeded) || time.Since(begun) != 3*time.Second {
					t.Errorf("%v after %v", err, time.Since(begun))
				}
				if e, ok := errors.AsType[*provider.Error](err); !ok || e.Key != "x" || e.Op != "put" {
					t.Errorf("%v names no key", err)
				}
				time.Sleep(10 * time.Second) // the other call ends
				if n := th.Stats()[throttle.Write].InFlight; n != 0 {
					t.Errorf("%d in flight", n)
				}
			})
		})
	}
}
