package providertest_test

import (
	"context"
	"io"
	"iter"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/providertest"
)

// broken is a good store with some of its methods replaced by bad ones. The
// suite must name the clauses that each breaks, and no other.
type broken struct {
	good   *providertest.Memory
	get    func(ctx context.Context, key string, o provider.GetOptions) (io.ReadCloser, provider.Info, error)
	put    func(ctx context.Context, key string, body provider.Body, o provider.PutOptions) (provider.Info, error)
	stat   func(ctx context.Context, key string) (provider.Info, error)
	remove func(ctx context.Context, key string, o provider.DeleteOptions) error
	list   func(ctx context.Context, prefix string, o provider.ListOptions) iter.Seq2[provider.Info, error]
	lock   func(ctx context.Context, key string, r provider.Retention) error
}

func newBroken() *broken {
	m := providertest.NewMemory()
	return &broken{good: m, get: m.Get, put: m.Put, stat: m.Stat, remove: m.Delete, list: m.List, lock: m.Lock}
}

func (b *broken) Get(ctx context.Context, key string, o provider.GetOptions) (io.ReadCloser, provider.Info, error) {
	return b.get(ctx, key, o)
}

func (b *broken) Put(ctx context.Context, key string, body provider.Body, o provider.PutOptions) (provider.Info, error) {
	return b.put(ctx, key, body, o)
}

func (b *broken) Stat(ctx context.Context, key string) (provider.Info, error) {
	return b.stat(ctx, key)
}

func (b *broken) Delete(ctx context.Context, key string, o provider.DeleteOptions) error {
	return b.remove(ctx, key, o)
}

func (b *broken) List(ctx context.Context, prefix string, o provider.ListOptions) iter.Seq2[provider.Info, error] {
	return b.list(ctx, prefix, o)
}

func (b *broken) Lock(ctx context.Context, key string, r provider.Retention) error {
	return b.lock(ctx, key, r)
}

// A breakage is one thing that a store does wrong, and the clauses it breaks.
type breakage struct {
	name  string
	apply func(*broken)
	fails []string
}

func TestBrokenStores(t *testing.T) {
	all := slices.Concat(brokenReads, brokenPuts, brokenConditions, brokenLists, brokenLocks)
	found := map[string]bool{}
	t.Run("stores", func(t *testing.T) {
		for _, c := range all {
			for _, id := range c.fails {
				found[id] = true
			}
			t.Run(c.name, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					b := newBroken()
					c.apply(b)
					report := providertest.CheckBlobStore(t.Context(), b, providertest.CheckOptions{RetainFor: 10_000_000_000})
					got, want := report.Failed(), slices.Clone(c.fails)
					slices.Sort(got)
					slices.Sort(want)
					if !slices.Equal(got, want) {
						t.Errorf("fails %q\n want %q\n%v", got, want, report.Err())
					}
				})
			})
		}
	})
	// A clause that no breakage fails may be one that cannot fail.
	for _, r := range providertest.CheckBlobStore(t.Context(), providertest.NewMemory(), providertest.CheckOptions{}).Results {
		if !found[r.ID] {
			t.Errorf("no broken store fails %s", r.ID)
		}
	}
}

func TestCheckConditions(t *testing.T) {
	ctx := t.Context()
	m := providertest.NewMemory()
	report := providertest.CheckConditions(ctx, m, "lease-check/")
	if err := report.Err(); err != nil {
		t.Error(err)
	}
	if len(report.Results) != 6 || len(report.Left) != 0 {
		t.Errorf("%d clauses, left %q:\n%v", len(report.Results), report.Left, report)
	}
	for info := range m.List(ctx, "", provider.ListOptions{}) {
		t.Errorf("left behind %q", info.Key)
	}
	for _, c := range brokenConditions {
		b := newBroken()
		c.apply(b)
		if providertest.CheckConditions(ctx, b, "lease-check/").Err() == nil {
			t.Errorf("a store that %s passes", c.name)
		}
	}
}
