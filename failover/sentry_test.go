package failover

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-go/holdfast/provider/providertest"
)

// A primary that is cut off from everything stops by itself before SelfFence
// says that it has; one that can read stops as soon as it reads.
func TestSentryAndSelfFence(t *testing.T) {
	for _, cut := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			store := providertest.NewMemory()
			view := providertest.NewFaulty(store, nil)
			held, err := openLease(t, store, "orchestrator").TryAcquire(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			var stopped time.Time // read after synctest.Wait
			ended := make(chan error, 1)
			go func() {
				ended <- Sentry(t.Context(), SentryConfig{Store: view, Service: "shop", Site: "east", Patience: 20 * time.Second,
					Stop: func(context.Context, error) error { stopped = time.Now(); return nil }})
			}()
			time.Sleep(time.Minute) // a lease that never named a site leaves everybody be
			if err := held.update(t.Context(), func(r *LeaseRecord) { r.TTL = 24 * time.Hour }); err == nil {
				t.Fatal("a lease that nobody kept is still held")
			}
			held, err = openLease(t, store, "orchestrator").Acquire(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if err := held.SetActive(t.Context(), "east"); err != nil {
				t.Fatal(err)
			}
			time.Sleep(20 * time.Second)
			synctest.Wait()
			if !stopped.IsZero() {
				t.Fatal("the site in charge stopped")
			}
			if cut {
				view.Use(func(providertest.Call) providertest.Fault {
					return providertest.Fault{Before: providertest.ErrInjected}
				})
			}
			if err := held.SetActive(t.Context(), ""); err != nil {
				t.Fatal(err)
			}
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
			if limit := map[bool]time.Duration{false: 5 * time.Second, true: 20 * time.Second}[cut]; stopped.Sub(began) > limit {
				t.Errorf("cut %v: stopped after %v", cut, stopped.Sub(began))
			}
			err = <-ended
			if want := map[bool]string{false: "in charge", true: "without reading"}[cut]; err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%v", err)
			}
			if fe, _ := f.Fenced(t.Context()); !fe.Confirmed {
				t.Error("not confirmed after it was waited out")
			}
		})
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

func TestSentryEndsWithContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		err := Sentry(ctx, SentryConfig{Store: providertest.NewMemory(), Service: "shop", Site: "east",
			Stop: func(context.Context, error) error { t.Error("stopped"); return nil }})
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
	})
	if err := Sentry(t.Context(), SentryConfig{}); err == nil {
		t.Error("an empty config is accepted")
	}
}
