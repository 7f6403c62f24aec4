package providertest_test

import (
	"context"
	"errors"
	"io"
	"iter"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/providertest"
)

// broken is a good store with some of its methods replaced by bad ones. The
// suite must name the clauses that each breaks, and no other.
type broken struct {
	good    *providertest.Memory
	get     func(ctx context.Context, key string, o provider.GetOptions) (io.ReadCloser, provider.Info, error)
	put     func(ctx context.Context, key string, body provider.Body, o provider.PutOptions) (provider.Info, error)
	stat    func(ctx context.Context, key string) (provider.Info, error)
	remove  func(ctx context.Context, key string, o provider.DeleteOptions) error
	list    func(ctx context.Context, prefix string, o provider.ListOptions) iter.Seq2[provider.Info, error]
	lock    func(ctx context.Context, key string, r provider.Retention) error
	warm    func(ctx context.Context, key string, o provider.WarmOptions) (provider.State, error)
	copy    func(ctx context.Context, key string, from provider.BlobStore, source provider.Info, o provider.PutOptions) (provider.Info, error) // nil: none
	tags    func(ctx context.Context, key string, v provider.Version) (map[string]string, error)
	setTags func(ctx context.Context, key string, v provider.Version, tags map[string]string) error // nil: none

	versions func(ctx context.Context, prefix string, o provider.ListOptions) iter.Seq2[provider.VersionInfo, error] // nil: none
}

func newBroken() *broken {
	m := providertest.NewMemory()
	return &broken{good: m, get: m.Get, put: m.Put, stat: m.Stat, remove: m.Delete, list: m.List, lock: m.Lock, warm: m.Warm}
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

func (b *broken) Warm(ctx context.Context, key string, o provider.WarmOptions) (provider.State, error) {
	return b.warm(ctx, key, o)
}

func (b *broken) CopyFrom(ctx context.Context, key string, from provider.BlobStore, source provider.Info, o provider.PutOptions) (provider.Info, error) {
	if b.copy == nil {
		return provider.Info{}, &provider.Error{Op: "copy", Provider: "broken", Err: errors.ErrUnsupported}
	}
	return b.copy(ctx, key, from, source, o)
}

func (b *broken) Tags(ctx context.Context, key string, v provider.Version) (map[string]string, error) {
	if b.setTags == nil {
		return nil, &provider.Error{Op: "tags", Provider: "broken", Err: errors.ErrUnsupported}
	}
	return b.tags(ctx, key, v)
}

func (b *broken) SetTags(ctx context.Context, key string, v provider.Version, tags map[string]string) error {
	return b.setTags(ctx, key, v, tags)
}

func (b *broken) Versions(ctx context.Context, prefix string, o provider.ListOptions) iter.Seq2[provider.VersionInfo, error] {
	if b.versions == nil {
		return func(yield func(provider.VersionInfo, error) bool) {
			yield(provider.VersionInfo{}, &provider.Error{Op: "versions", Provider: "broken", Err: errors.ErrUnsupported})
		}
	}
	return b.versions(ctx, prefix, o)
}

// A breakage is one thing that a store does wrong, and the clauses it breaks.
type breakage struct {
	name  string
	apply func(*broken)
	fails []string
}

// heavy are the clauses that move megabytes or a thousand objects. Unless
// HOLDFAST_LONG is set they are asked only of the stores that must fail them.
var heavy = []string{
	"blob/get-parallel", "blob/get-open-reader", "blob/list-pages", "blob/list-meanwhile",
	"blob/body-unseen", "blob/body-fails", "blob/body-short", "blob/body-changes", "blob/body-cancelled",
}

func clauseIDs() []string {
	ended, cancel := context.WithCancel(context.Background())
	cancel() // all are skipped, and named
	var ids []string
	for _, r := range providertest.CheckBlobStore(ended, providertest.NewMemory(), providertest.CheckOptions{}).Results {
		ids = append(ids, r.ID)
	}
	return ids
}

func ofWarm(id string) bool { return strings.HasPrefix(id, "blob/warm") }

func TestBrokenStores(t *testing.T) {
	all := slices.Concat(brokenReads, brokenPuts, brokenConditions, brokenLists, brokenVersions, brokenTags, brokenCopies, brokenLocks, brokenWarms)
	clauses := clauseIDs()
	found := map[string]bool{}
	t.Run("stores", func(t *testing.T) {
		for _, c := range all {
			for _, id := range c.fails {
				found[id] = true
			}
			warms := slices.ContainsFunc(c.fails, ofWarm)
			only := slices.DeleteFunc(slices.Clone(clauses), func(id string) bool {
				// What is broken for all is broken for what comes from a cold tier.
				return !warms && ofWarm(id) || os.Getenv("HOLDFAST_LONG") == "" && slices.Contains(heavy, id) && !slices.Contains(c.fails, id)
			})
			t.Run(c.name, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					b := newBroken()
					c.apply(b)
					cool := func(_ context.Context, key string) error { return b.good.Cool(key, 4*time.Hour) }
					report := providertest.CheckBlobStore(t.Context(), b, providertest.CheckOptions{RetainFor: 10 * time.Second, Cool: cool, Only: only})
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
	for _, id := range clauses {
		if !found[id] {
			t.Errorf("no broken store fails %s", id)
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
		synctest.Test(t, func(t *testing.T) {
			b := newBroken()
			c.apply(b)
			if providertest.CheckConditions(t.Context(), b, "lease-check/").Err() == nil {
				t.Errorf("a store that %s passes", c.name)
			}
		})
	}
}
