package providertest_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/internal/storetest"
	"github.com/holdfast-go/holdfast/provider/providertest"
)

func TestMemory(t *testing.T) {
	m := providertest.NewMemory()
	storetest.Conforms(t, storetest.Subject{Name: "memory", Open: func(testing.TB) provider.BlobStore { return m },
		Cool:    func(_ context.Context, key string) error { return m.Cool(key, 0) },
		Differs: map[string]string{"blob/versions*": "keeps no versions; Bucket does"}})
}

func TestMemoryInBubble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := providertest.NewMemory()
		report := providertest.CheckBlobStore(t.Context(), m, providertest.CheckOptions{RetainFor: time.Hour, Prefix: "scratch/"})
		if err := report.Err(); err != nil {
			t.Error(err)
		}
		if len(report.Left) == 0 {
			t.Error("the report names none of the objects under retention")
		}
		var there []string
		for info := range m.List(t.Context(), "", provider.ListOptions{}) {
			there = append(there, info.Key)
		}
		slices.Sort(report.Left)
		if !slices.Equal(there, report.Left) {
			t.Errorf("left are %q, the report says %q", there, report.Left)
		}
	})
}

func TestCheckCleansUp(t *testing.T) {
	m := providertest.NewMemory()
	report := providertest.CheckBlobStore(t.Context(), m, providertest.CheckOptions{})
	for info := range m.List(t.Context(), "", provider.ListOptions{}) {
		t.Errorf("left behind %q", info.Key)
	}
	skipped := 0
	for _, r := range report.Results {
		if r.Outcome == providertest.Skipped {
			skipped++
		}
	}
	if report.Err() != nil || skipped != 11 || len(report.Left) != 0 {
		t.Errorf("want the 9 clauses about retention and the 2 about cold tiers skipped and all others passed:\n%v", report)
	}
}

func TestCheckEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	m := providertest.NewMemory()
	f := providertest.NewFaulty(m, func(c providertest.Call) providertest.Fault {
		if c.N == 40 {
			cancel()
		}
		return providertest.Fault{}
	})
	report := providertest.CheckBlobStore(ctx, f, providertest.CheckOptions{})
	if len(report.Failed()) > 0 {
		t.Errorf("cancelled, and blames the store:\n%v", report)
	}
	last := report.Results[len(report.Results)-1]
	if last.Outcome != providertest.Skipped || !errors.Is(last.Err, context.Canceled) {
		t.Errorf("last clause is %q: %v", last.Outcome, last.Err)
	}
	for info := range m.List(t.Context(), "", provider.ListOptions{}) {
		t.Errorf("left behind %q", info.Key)
	}
}

func TestSecondHandle(t *testing.T) {
	// A second handle that is another store is what a stale cache looks like.
	report := providertest.CheckBlobStore(t.Context(), providertest.NewMemory(), providertest.CheckOptions{
		Second: func() (provider.BlobStore, error) { return providertest.NewMemory(), nil },
		Only:   []string{"blob/put-replace", "blob/put-if-absent-race"},
	})
	if len(report.Failed()) != 2 {
		t.Errorf("a second handle that sees nothing passes:\n%v", report)
	}
	report = providertest.CheckBlobStore(t.Context(), providertest.NewMemory(), providertest.CheckOptions{
		Second: func() (provider.BlobStore, error) { return nil, errors.New("no route") },
	})
	if err := report.Err(); err == nil || !strings.Contains(err.Error(), "no route") {
		t.Errorf("second handle cannot be opened: %v", err)
	}
}

// noLocks is a store without retention.
type noLocks struct{ provider.BlobStore }

func (s noLocks) Put(ctx context.Context, key string, body provider.Body, o provider.PutOptions) (provider.Info, error) {
	if !o.Retain.IsZero() {
		return provider.Info{}, &provider.Error{Op: "put", Provider: "test", Key: key, Err: errors.ErrUnsupported}
	}
	return s.BlobStore.Put(ctx, key, body, o)
}

func TestUnsupportedIsNoFailure(t *testing.T) {
	report := providertest.CheckBlobStore(t.Context(), noLocks{providertest.NewMemory()}, providertest.CheckOptions{RetainFor: time.Minute})
	if err := report.Err(); err != nil {
		t.Error(err)
	}
	for _, r := range report.Results {
		if about := strings.HasPrefix(r.ID, "blob/retain") || strings.HasPrefix(r.ID, "blob/lock") || strings.HasPrefix(r.ID, "blob/copy") || strings.HasPrefix(r.ID, "blob/tags") || strings.HasPrefix(r.ID, "blob/versions") || ofWarm(r.ID); about != (r.Outcome == providertest.Unsupported) {
			t.Errorf("%s: %s", r.ID, r.Outcome)
		}
	}
}
