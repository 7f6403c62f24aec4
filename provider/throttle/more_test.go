package throttle_test

import (
	"context"
	"errors"
	"io"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/providertest"
	"github.com/holdfast-go/holdfast/provider/throttle"
)

// Of answers to requests that were under way together, one lowers the rate.
func TestFallsOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fell := 0
		f := providertest.NewFaulty(providertest.NewMemory(), func(providertest.Call) providertest.Fault {
			return providertest.Fault{Wait: func(context.Context) error { time.Sleep(time.Second); return provider.ErrThrottled }}
		})
		s, _ := wrap(t, f, throttle.Config{Attempts: 1, Events: func(e throttle.Event) {
			if e.What == throttle.Throttled {
				fell++
			}
		}})
		var wg sync.WaitGroup
		for i := range 20 {
			wg.Go(func() { put(s)(t.Context(), i) })
		}
		if wg.Wait(); fell != 1 {
			t.Errorf("fell %d times", fell)
		}
	})
}

// Who gives up waiting leaves the place to others, and tells nothing of the
// service.
func TestCancelledGivesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, th := wrap(t, providertest.NewMemory(), throttle.Config{Write: throttle.Limit{PerSecond: 0.1, InFlight: 1}})
		put(s)(t.Context(), 1)
		for range 3 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			put(s)(ctx, 2)
			cancel()
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		if err := put(s)(ctx, 3); err != nil {
			t.Errorf("%v; %+v", err, th.Stats()[throttle.Write])
		}
	})
}

// The reader itself says that what came in pieces is damaged.
func TestReaderVerifies(t *testing.T) {
	s, _ := wrap(t, &rotten{BlobStore: bucketWith(t, "x")}, throttle.Config{})
	r, _, err := s.Get(t.Context(), "x", provider.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(r); !errors.Is(err, provider.ErrCorrupt) {
		t.Error(err)
	}
}
