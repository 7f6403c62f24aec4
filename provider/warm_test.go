package provider_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/providertest"
)

// counted counts what is asked of a Warmer.
type counted struct {
	*providertest.Memory
	asked atomic.Int32
	fail  string // key of which Warm fails
}

func (c *counted) Warm(ctx context.Context, key string, o provider.WarmOptions) (provider.State, error) {
	c.asked.Add(1)
	if key == c.fail {
		return "", errors.New("no permission")
	}
	return c.Memory.Warm(ctx, key, o)
}

// coldStore holds objects of which one is readable, and the others are so after
// so many hours.
func coldStore(t *testing.T, hours ...int) *counted {
	m := providertest.NewMemory()
	for i, h := range hours {
		key := fmt.Sprintf("data/%02d", i)
		if _, err := m.Put(t.Context(), key, provider.Bytes([]byte(key)), provider.PutOptions{}); err != nil {
			t.Fatal(err)
		}
		if h > 0 {
			m.Cool(key, time.Duration(h)*time.Hour)
		}
	}
	return &counted{Memory: m}
}

func TestWarmAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := coldStore(t, 0, 3, 5, 5)
		began := time.Now()
		var told []provider.WarmProgress
		err := provider.WarmAll(t.Context(), provider.Sub(s, "data/"), provider.Sub(s, "data/").List(t.Context(), "", provider.ListOptions{}), provider.WarmOptions{}, func(p provider.WarmProgress) { told = append(told, p) })
		if err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took < 5*time.Hour || took > 5*time.Hour+10*time.Minute {
			t.Errorf("it took %v, and the last is there after 5 h", took)
		}
		if last := told[len(told)-1]; last != (provider.WarmProgress{Objects: 4, Bytes: 28, Ready: 4, Looked: true}) {
			t.Errorf("told at last: %+v", last)
		}
		for i := 1; i < len(told); i++ {
			if told[i].Ready < told[i-1].Ready || told[i].Ready > told[i].Objects {
				t.Errorf("told %+v after %+v", told[i], told[i-1])
			}
		}
		if s.asked.Load() > 200 {
			t.Errorf("%d requests for three objects in five hours", s.asked.Load())
		}
		for info := range s.List(t.Context(), "", provider.ListOptions{}) {
			if _, _, err := provider.ReadAll(t.Context(), s, info.Key, 100); err != nil {
				t.Error(err)
			}
		}
	})
}

func TestWarmAllGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := coldStore(t, 5, 5)
		all := s.List(t.Context(), "", provider.ListOptions{})
		ctx, cancel := context.WithTimeout(t.Context(), 4*time.Hour)
		defer cancel()
		if err := provider.WarmAll(ctx, s, all, provider.WarmOptions{}, nil); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "2 objects") {
			t.Errorf("cut off: %v", err)
		}
		began := time.Now()
		if err := provider.WarmAll(t.Context(), s, all, provider.WarmOptions{}, nil); err != nil || time.Since(began) > 70*time.Minute {
			t.Errorf("what had begun four hours ago took %v more, %v", time.Since(began), err)
		}
		ended, stop := context.WithCancel(t.Context())
		stop()
		if err := provider.WarmAll(ended, s, func(yield func(provider.Info, error) bool) { yield(provider.Info{Key: "data/00"}, nil) }, provider.WarmOptions{}, nil); !errors.Is(err, context.Canceled) {
			t.Errorf("with a ctx that has ended: %v", err)
		}
	})
}

func TestWarmAllFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := coldStore(t, 1, 1, 1)
		s.fail = "data/01"
		if err := provider.WarmAll(t.Context(), s, s.List(t.Context(), "", provider.ListOptions{}), provider.WarmOptions{}, nil); err == nil || !strings.Contains(err.Error(), "no permission") {
			t.Errorf("warm fails: %v", err)
		}
		lost := errors.New("listing lost")
		var objects iter.Seq2[provider.Info, error] = func(yield func(provider.Info, error) bool) {
			_ = yield(provider.Info{Key: "data/00"}, nil) && yield(provider.Info{}, lost)
		}
		if err := provider.WarmAll(t.Context(), s, objects, provider.WarmOptions{}, nil); !errors.Is(err, lost) {
			t.Errorf("list fails: %v", err)
		}
		if err := provider.WarmAll(t.Context(), wall{s}, objects, provider.WarmOptions{}, nil); err != nil {
			t.Errorf("a store without cold tiers: %v", err)
		}
	})
}
