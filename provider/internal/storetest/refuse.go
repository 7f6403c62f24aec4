package storetest

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-go/holdfast/failover"
	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/providertest"
)

// Which condition of a Put a server does not know.
const (
	IfAbsent = "IfAbsent"
	IfMatch  = "IfMatch"
	Both     = "IfAbsent and IfMatch"
)

// Refused shows that a store whose server ignores one of the conditions, or
// both, is refused as a home for a lease and for a journal, in words that name
// it, before anything was written there, and that the suite finds it, too.
// Ignoring opens an empty store on such a server, or one that keeps the
// contract, without conditions to ignore; name is how the store is called.
func Refused(t *testing.T, ignoring func(t *testing.T, conditions ...string) (store provider.BlobStore, name string)) {
	t.Run("none", func(t *testing.T) {
		store, _ := ignoring(t)
		if err := failover.CheckStore(t.Context(), store); err != nil {
			t.Error(err)
		}
	})
	for what, conditions := range map[string][]string{IfAbsent: {IfAbsent}, IfMatch: {IfMatch}, Both: {IfAbsent, IfMatch}} {
		t.Run(what, func(t *testing.T) {
			store, name := ignoring(t, conditions...)
			refused(t, store, name, conditions)
		})
	}
}

func refused(t *testing.T, store provider.BlobStore, name string, ignored []string) {
	// A run that another process has left open, by a store that is sound.
	p, actions := plan(t, "left")
	sound := providertest.NewMemory()
	crash(t, failover.Config{Store: sound, Actions: actions}, p)
	for info, err := range sound.List(t.Context(), "journal/", provider.ListOptions{}) {
		if err != nil {
			t.Fatal(err)
		}
		b, _, err := provider.ReadAll(t.Context(), sound, info.Key, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := store.Put(t.Context(), info.Key, provider.Bytes(b), provider.PutOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	before := keys(t, store)

	config := failover.Config{Store: store, Actions: actions}
	young, _ := plan(t, "young")
	for what, use := range map[string]func(context.Context) error{
		"check": func(ctx context.Context) error { return failover.CheckStore(ctx, store) },
		"lease": func(ctx context.Context) error {
			_, err := failover.OpenLease(ctx, failover.LeaseConfig{Store: store, Service: "s", Holder: "h", TTL: time.Minute})
			return err
		},
		"run":       func(ctx context.Context) error { _, err := failover.Run(ctx, config, young); return err },
		"resume":    func(ctx context.Context) error { _, err := failover.Resume(ctx, config, p.ID); return err },
		"roll back": func(ctx context.Context) error { _, err := failover.Rollback(ctx, config, p.ID); return err },
		"abandon": func(ctx context.Context) error {
			_, err := failover.Abandon(ctx, config, p.ID, failover.Abandonment{Active: "east", By: "me", Reason: "test"})
			return err
		},
	} {
		err := use(t.Context())
		if !errors.Is(err, failover.ErrUnconditional) {
			t.Errorf("%s: %v", what, err)
			continue
		}
		accepted := map[string]string{IfAbsent: "IfAbsent on a key that has an object", IfMatch: "IfMatch of a version that was replaced"}
		for condition, words := range accepted {
			if strings.Contains(err.Error(), words) != slices.Contains(ignored, condition) {
				t.Errorf("%s: ignored is %v, the error says: %v", what, ignored, err)
			}
		}
		if !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), "keep lease and journal in a store that honours both") {
			t.Errorf("%s: the error does not name %q, or not what to do: %v", what, name, err)
		}
	}
	if after := keys(t, store); !slices.Equal(after, before) {
		t.Errorf("there was %q, and now there is %q", before, after)
	}
	if report := providertest.CheckConditions(t.Context(), store, "conditions/"); len(report.Failed()) == 0 {
		t.Errorf("the suite finds no fault:\n%v", report)
	}
}

// crash runs a plan in a process that dies in its second step.
func crash(t *testing.T, c failover.Config, p failover.Plan) {
	t.Helper()
	ctx, die := context.WithCancel(t.Context())
	defer die()
	c.Actions = maps.Clone(c.Actions)
	c.Actions[p.Steps[1].Action] = failover.ActionFuncs{DoFunc: func(context.Context, failover.Call) (failover.Evidence, error) {
		die()
		return nil, context.Canceled
	}}
	if _, err := failover.Run(ctx, c, p); err == nil {
		t.Fatal("a run whose process died has ended well")
	}
}

func keys(t *testing.T, store provider.BlobStore) (all []string) {
	t.Helper()
	for info, err := range store.List(t.Context(), "", provider.ListOptions{}) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, info.Key)
	}
	return all
}
