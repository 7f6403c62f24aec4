package failover

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/providertest"
)

// takeLease acquires the lease of shop, in a bubble.
func takeLease(t *testing.T, store provider.BlobStore) *Held {
	t.Helper()
	held, err := openLease(t, store, "orchestrator").Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return held
}

func setActive(t *testing.T, held *Held, site string) {
	t.Helper()
	if err := held.SetActive(t.Context(), site); err != nil {
		t.Fatal(err)
	}
}

func newSentry(t *testing.T, c SentryConfig) *Sentry {
	t.Helper()
	c.Service, c.Patience = "shop", 20*time.Second
	s, err := NewSentry(c)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// runSentry runs a Sentry until stop is called, which returns what Run did.
func runSentry(t *testing.T, s *Sentry) (stop func() error) {
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	synctest.Wait()
	return func() error { cancel(); return <-ended }
}

// A process is stopped, somebody else takes over, the process wakes up: the
// first write is refused although nobody has told it anything, and a write
// that was begun before is not acknowledged.
func TestSentryStoppedAndWoken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := providertest.NewMemory()
		s := newSentry(t, SentryConfig{Store: store, Site: "east"})
		if err := s.Check(); !errors.Is(err, ErrFenced) || errors.Is(err, ErrSealed) {
			t.Errorf("before the lease was read: %v", err)
		}
		stop := runSentry(t, s)
		if err := s.Check(); err != nil { // the write begins
			t.Fatal(err)
		}
		stop() // nothing runs any more
		setActive(t, takeLease(t, store), "")
		fence := &SelfFence{Patience: 20 * time.Second}
		fe, err := fence.Fence(t.Context(), 1)
		if err != nil || !fe.Confirmed {
			t.Fatalf("%+v, %v", fe, err)
		}
		if err := s.Check(); !errors.Is(err, ErrFenced) { // and is durable now
			t.Errorf("a sleeper would acknowledge: %v", err)
		}
		stop = runSentry(t, s)
		if err := s.Check(); !errors.Is(err, ErrSealed) {
			t.Errorf("after it could read: %v", err)
		}
		if err := stop(); !errors.Is(err, ErrSealed) || !strings.Contains(err.Error(), "no site is in charge since epoch 1") {
			t.Errorf("Run: %v", err)
		}
	})
}

// A machine that was suspended has a monotonic clock that says that nothing
// happened.
func TestSuspendCounts(t *testing.T) {
	if sinceBoot() == 0 {
		t.Skip("there is no clock here that counts sleep")
	}
	m := thisMoment()
	m.boot -= time.Hour // an hour passed in which only the boot clock moved
	if ago := m.ago(); ago < time.Hour || ago > 2*time.Hour {
		t.Errorf("suspended for an hour, it looks like %v", ago)
	}
	s := newSentry(t, SentryConfig{Store: providertest.NewMemory(), Site: "east"})
	s.word.Store(&word{asked: thisMoment()})
	if err := s.Check(); err != nil {
		t.Errorf("just read: %v", err)
	}
	s.word.Store(&word{asked: m})
	if err := s.Check(); !errors.Is(err, ErrFenced) {
		t.Errorf("read before an hour of sleep: %v", err)
	}
}

// What was read counts from before it was asked for, to the moment.
func TestSentryCountsFromTheQuestion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const slow = 8 * time.Second
		store := &tardyStore{BlobStore: providertest.NewMemory()}
		store.takes.Store(int64(slow))
		var promised atomic.Int64
		s := newSentry(t, SentryConfig{Store: store, Site: "east",
			Extend: func(d time.Duration) error { promised.Store(int64(d)); return nil }})
		stop := runSentry(t, s)
		asked := time.Now()
		time.Sleep(slow)
		synctest.Wait()
		if err := s.Check(); err != nil {
			t.Fatal(err)
		}
		if d := time.Duration(promised.Load()); d > 20*time.Second-slow || d < 19*time.Second-slow {
			t.Errorf("promised %v after an answer that took %v", d, slow)
		}
		stop()
		time.Sleep(19*time.Second - time.Since(asked))
		if err := s.Check(); err != nil {
			t.Errorf("a second before: %v", err)
		}
		time.Sleep(time.Second)
		if err := s.Check(); !errors.Is(err, ErrFenced) || errors.Is(err, ErrSealed) {
			t.Errorf("counted from the answer: %v", err)
		}
		// An answer that takes longer than half of the patience is not waited for.
		store.takes.Store(int64(time.Hour))
		stop = runSentry(t, s)
		time.Sleep(15 * time.Second)
		if err := s.Check(); !errors.Is(err, ErrFenced) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("no answer: %v", err)
		}
		store.takes.Store(0)
		time.Sleep(15 * time.Second)
		synctest.Wait()
		if err := s.Check(); err != nil {
			t.Errorf("the lease can be read again and says the same: %v", err)
		}
		stop()
	})
}

// tardyStore answers late.
type tardyStore struct {
	provider.BlobStore
	takes atomic.Int64
}

func (s *tardyStore) Get(ctx context.Context, key string, o provider.GetOptions) (io.ReadCloser, provider.Info, error) {
	select {
	case <-time.After(time.Duration(s.takes.Load())):
	case <-ctx.Done():
		return nil, provider.Info{}, ctx.Err()
	}
	return s.BlobStore.Get(ctx, key, o)
}

// Only the very epoch counts: a site that was in charge, lost it and got it
// back must be started anew.
func TestSentryObeysItsEpoch(t *testing.T) {
	type step struct {
		site string // put in charge
		want error  // of Check; nil means that it says yes
	}
	var yes error
	for name, test := range map[string]struct {
		site  string
		epoch uint64
		steps []step // each under the next epoch; "+site" stays in the same
	}{
		"first in charge":         {"east", 0, []step{{"west", ErrSealed}, {"east", ErrSealed}}},
		"slept through an epoch":  {"east", 0, []step{{"east", ErrSealed}}},
		"started for what it is":  {"east", 1, []step{{"east", yes}, {"west", ErrSealed}, {"east", ErrSealed}}},
		"the same site again":     {"east", 1, []step{{"east", yes}, {"east", ErrSealed}}},
		"started before":          {"west", 2, []step{{"east", ErrFenced}, {"", ErrFenced}, {"+west", yes}, {"", ErrSealed}}},
		"gone in the same epoch":  {"east", 1, []step{{"east", yes}, {"+", ErrSealed}, {"+east", ErrSealed}}},
		"other in the same epoch": {"west", 1, []step{{"east", ErrFenced}, {"+west", yes}}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := providertest.NewMemory()
				s := newSentry(t, SentryConfig{Store: store, Site: test.site, Epoch: test.epoch})
				defer runSentry(t, s)()
				var held *Held
				for i, st := range test.steps {
					site, same := strings.CutPrefix(st.site, "+")
					if !same {
						if held != nil {
							if err := held.Release(t.Context()); err != nil {
								t.Fatal(err)
							}
						}
						held = takeLease(t, store)
					}
					setActive(t, held, site)
					time.Sleep(3 * time.Second)
					synctest.Wait()
					err := s.Check()
					if st.want == nil && err != nil || st.want != nil && !errors.Is(err, st.want) {
						t.Errorf("step %d, %q: %v, want %v", i, st.site, err, st.want)
					}
					if st.want == ErrFenced && errors.Is(err, ErrSealed) {
						t.Errorf("step %d, %q: sealed: %v", i, st.site, err)
					}
				}
			})
		})
	}
}

// Stop is for those that cannot ask: a primary that is cut off from everything
// is stopped before SelfFence says that it is; one that can read is as soon as
// it reads.
func TestSentryStops(t *testing.T) {
	for _, cut := range []string{"", "refused", "silent"} {
		synctest.Test(t, func(t *testing.T) {
			store := providertest.NewMemory()
			view := providertest.NewFaulty(store, nil)
			late := &tardyStore{BlobStore: view}
			held := takeLease(t, store)
			setActive(t, held, "east")
			var stopped time.Time // read after synctest.Wait
			broken := errors.New("no switch")
			s := newSentry(t, SentryConfig{Store: late, Site: "east", Epoch: 1,
				Stop: func(context.Context, error) error { stopped = time.Now(); return broken }})
			stop := runSentry(t, s)
			for range 4 {
				time.Sleep(5 * time.Second)
				if err := held.update(t.Context(), func(*LeaseRecord) {}); err != nil {
					t.Fatal(err)
				}
			}
			synctest.Wait()
			if !stopped.IsZero() {
				t.Fatal("the site in charge stopped")
			}
			switch cut {
			case "refused":
				view.Use(func(providertest.Call) providertest.Fault {
					return providertest.Fault{Before: providertest.ErrInjected}
				})
			case "silent":
				late.takes.Store(int64(time.Hour))
			}
			setActive(t, held, "")
			f := &SelfFence{Patience: 20 * time.Second}
			if fe, _ := f.Fenced(t.Context()); fe.Confirmed {
				t.Error("confirmed before anything was waited out")
			}
			began := time.Now()
			fe, err := f.Fence(t.Context(), held.Epoch())
			if err != nil || !fe.Confirmed {
				t.Fatal(err)
			}
			synctest.Wait()
			if stopped.IsZero() {
				t.Fatal("fence confirmed while the primary goes on")
			}
			limit, want := 20*time.Second, "not read for"
			if cut == "" {
				limit, want = 2*time.Second, "no site is in charge"
			}
			if stopped.Sub(began) > limit {
				t.Errorf("%s: stopped after %v", cut, stopped.Sub(began))
			}
			view.Use(nil)
			if err := s.Check(); !errors.Is(err, ErrSealed) {
				t.Errorf("stopped, and still: %v", err)
			}
			if err = stop(); !errors.Is(err, broken) || !strings.Contains(err.Error(), want) {
				t.Errorf("%v", err)
			}
			if fe, _ := f.Fenced(t.Context()); !fe.Confirmed {
				t.Error("not confirmed after it was waited out")
			}
		})
	}
}

// Nothing is granted that could not be written down before.
func TestSentryExtend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		full := errors.New("disk full")
		var s *Sentry
		var fails atomic.Bool
		fails.Store(true)
		s = newSentry(t, SentryConfig{Store: providertest.NewMemory(), Site: "east", Extend: func(time.Duration) error {
			if fails.Load() {
				return full
			}
			if err := s.Check(); err == nil {
				t.Error("it says yes before that is written down")
			}
			fails.Store(true)
			return nil
		}})
		defer runSentry(t, s)()
		if err := s.Check(); !errors.Is(err, ErrFenced) || !errors.Is(err, full) {
			t.Errorf("%v", err)
		}
		fails.Store(false)
		time.Sleep(3 * time.Second)
		if err := s.Check(); err != nil {
			t.Errorf("%v", err)
		}
		time.Sleep(20 * time.Second)
		if err := s.Check(); !errors.Is(err, ErrFenced) || !errors.Is(err, full) {
			t.Errorf("a word that was not written down is used: %v", err)
		}
	})
}

func TestSentryEndsWithContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		s := newSentry(t, SentryConfig{Store: providertest.NewMemory(), Site: "east",
			Stop: func(context.Context, error) error { t.Error("stopped"); return nil }})
		if err := s.Run(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
	})
	if _, err := NewSentry(SentryConfig{}); err == nil {
		t.Error("an empty config is accepted")
	}
}

func TestSelfFenceRefusesTooShortSteps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		began := time.Now()
		fe, err := (&SelfFence{Patience: 20 * time.Second}).Fence(ctx, 1)
		if fe.Confirmed || !errors.Is(err, ErrNoEffect) || time.Since(began) > 0 {
			t.Errorf("%+v %v", fe, err)
		}
	})
}
