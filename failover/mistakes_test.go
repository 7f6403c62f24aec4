package failover_test

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-go/holdfast/failover"
	"github.com/holdfast-go/holdfast/failover/failovertest"
	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/providertest"
)

func newMemory() provider.BlobStore { return providertest.NewMemory() }

// The clocks that stamp records jump by up to a day, back and forth, and
// nothing comes of it: no decision reads them.
func TestClockJumps(t *testing.T) {
	r := failovertest.Simulate(t, failovertest.Options{NewStore: newMemory, Seeds: 150, First: 1 << 20,
		Tamper: func(seed uint64, c failover.Config) failover.Config {
			rng := rand.New(rand.NewPCG(seed, 99))
			return failover.WithWall(c, func() time.Time {
				return time.Now().Add(time.Duration(rng.Int64N(int64(48*time.Hour))) - 24*time.Hour)
			})
		}})
	for _, v := range r.Violations {
		t.Error(v.Explain())
	}
	t.Log(r)
}

// A client that sends a conditional write again by itself tells its caller of
// a conflict when the first attempt had succeeded. That must do no harm.
func TestConflictWithOneself(t *testing.T) {
	r := failovertest.Simulate(t, failovertest.Options{NewStore: newMemory, Seeds: 150, First: 1 << 21,
		Tamper: func(_ uint64, c failover.Config) failover.Config {
			c.Store = pessimist{c.Store}
			return c
		}})
	for _, v := range r.Violations {
		t.Error(v.Explain())
	}
	t.Log(r)
}

// A simulator that finds nothing may be blind. Each of these mistakes is one
// that a careless implementation would make; each must be found.
func TestMistakesAreFound(t *testing.T) {
	decision := func(mistake string) func(uint64, failover.Config) failover.Config {
		return func(_ uint64, c failover.Config) failover.Config { return failover.WithMistake(c, mistake) }
	}
	wrapped := func(wrap func(provider.BlobStore) provider.BlobStore) func(uint64, failover.Config) failover.Config {
		return func(_ uint64, c failover.Config) failover.Config {
			c.Store = wrap(c.Store)
			return c
		}
	}
	for _, m := range []struct {
		name   string
		within int // seeds
		says   string
		tamper func(uint64, failover.Config) failover.Config
	}{
		{failover.PromoteBeforeFence, 20, "writes", decision(failover.PromoteBeforeFence)},
		{failover.SkipDeadlineWait, 2000, "", decision(failover.SkipDeadlineWait)},
		{failover.RollBackPastPivot, 200, "", decision(failover.RollBackPastPivot)},
		{"release the lease by deleting it", 20, "epoch", wrapped(func(s provider.BlobStore) provider.BlobStore { return deletes{s} })},
		{"take a lost reply of a conditional write for success", 500, "", wrapped(func(s provider.BlobStore) provider.BlobStore { return optimist{s} })},
	} {
		t.Run(m.name, func(t *testing.T) {
			r := failovertest.Simulate(t, failovertest.Options{NewStore: newMemory, Seeds: m.within, Tamper: m.tamper, StopAtFirst: true})
			if len(r.Violations) == 0 {
				t.Fatalf("not found in %d seeds", r.Seeds)
			}
			v := r.Violations[0]
			if !strings.Contains(v.Text, m.says) {
				t.Errorf("found %q, expected %q", v.Text, m.says)
			}
			t.Logf("found after %d seeds: %s", r.Seeds, v.Text)
		})
	}
}

// deletes releases a lease by deleting it.
type deletes struct{ provider.BlobStore }

func (s deletes) Put(ctx context.Context, key string, b provider.Body, o provider.PutOptions) (provider.Info, error) {
	body, err := io.ReadAll(io.NewSectionReader(b, 0, b.Size()))
	if err == nil && strings.HasPrefix(key, "lease/") && strings.Contains(string(body), `"released":true`) {
		return provider.Info{}, s.Delete(ctx, key, provider.DeleteOptions{})
	}
	return s.BlobStore.Put(ctx, key, b, o)
}

// optimist takes silence for consent.
type optimist struct{ provider.BlobStore }

func (s optimist) Put(ctx context.Context, key string, b provider.Body, o provider.PutOptions) (provider.Info, error) {
	info, err := s.BlobStore.Put(ctx, key, b, o)
	if err != nil && !errors.Is(err, provider.ErrConflict) {
		return provider.Info{Key: key}, nil
	}
	return info, err
}

// pessimist takes silence for refusal.
type pessimist struct{ provider.BlobStore }

func (s pessimist) Put(ctx context.Context, key string, b provider.Body, o provider.PutOptions) (provider.Info, error) {
	info, err := s.BlobStore.Put(ctx, key, b, o)
	if err != nil {
		return info, provider.ErrConflict
	}
	return info, nil
}
