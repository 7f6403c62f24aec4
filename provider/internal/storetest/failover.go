package storetest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdfast-go/holdfast/failover"
	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/providertest"
)

// Failover shows that a lease and a journal can live in the store that open
// opens, each time as another process would.
func Failover(t *testing.T, open func() provider.BlobStore) {
	t.Run("lease race", func(t *testing.T) { t.Parallel(); leaseRace(t, open) })
	t.Run("lease", func(t *testing.T) { t.Parallel(); leaseLife(t, open) })
	t.Run("run", func(t *testing.T) { t.Parallel(); wholeRun(t, open) })
	t.Run("deposed", func(t *testing.T) { t.Parallel(); deposed(t, open) })
	t.Run("journal race", func(t *testing.T) { t.Parallel(); journalRace(t, open) })
}

func lease(t *testing.T, store provider.BlobStore, service, holder string, ttl time.Duration) *failover.Lease {
	t.Helper()
	l, err := failover.OpenLease(t.Context(), failover.LeaseConfig{Store: store, Service: service, Holder: holder, TTL: ttl})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// Of many who ask at once, time and again, one gets the lease.
func leaseRace(t *testing.T, open func() provider.BlobStore) {
	var asking []*failover.Lease
	for i := range 6 {
		asking = append(asking, lease(t, open(), "race", fmt.Sprint(i), time.Hour))
	}
	for round := range 5 {
		var mu sync.Mutex
		var held []*failover.Held
		var g sync.WaitGroup
		for _, l := range asking {
			g.Go(func() {
				h, err := l.TryAcquire(t.Context())
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					held = append(held, h)
				} else if !errors.Is(err, failover.ErrHeld) {
					t.Error(err)
				}
			})
		}
		g.Wait()
		if len(held) != 1 || held[0].Epoch() != uint64(round+1) {
			t.Fatalf("round %d: %d hold the lease", round, len(held))
		}
		if err := held[0].Release(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

// A lease is kept by who renews it, taken over from who is silent, who then can
// change nothing, and free at once when it is released.
func leaseLife(t *testing.T, open func() provider.BlobStore) {
	const ttl = 4 * time.Second
	ctx := t.Context()
	a, b := lease(t, open(), "life", "a", ttl), lease(t, open(), "life", "b", ttl)
	first, err := a.TryAcquire(ctx)
	if err != nil {
		t.Fatal(err)
	}
	keeping, stop := context.WithTimeout(ctx, ttl+ttl/2)
	defer stop()
	kept := make(chan error, 1)
	go func() { kept <- first.Keep(keeping) }()
	if _, err := b.Acquire(keeping); !errors.Is(err, failover.ErrHeld) {
		t.Fatalf("acquire a lease that is renewed: %v", err)
	}
	if err := <-kept; err != nil {
		t.Fatalf("keep: %v", err)
	}
	second, err := b.Acquire(ctx) // a is silent from now on
	if err != nil || second.Epoch() != 2 {
		t.Fatalf("take over: %v", err)
	}
	for what, err := range map[string]error{
		"check": first.Check(), "set active": first.SetActive(ctx, "east"), "release": first.Release(ctx),
	} {
		if !errors.Is(err, failover.ErrLost) {
			t.Errorf("%s by who was taken over from: %v", what, err)
		}
	}
	if err := second.SetActive(ctx, "west"); err != nil {
		t.Error(err)
	}
	if err := second.Release(ctx); err != nil {
		t.Fatal(err)
	}
	third, err := a.TryAcquire(ctx)
	if err != nil || third.Epoch() != 3 {
		t.Fatalf("acquire what was released: %v", err)
	}
	if r, err := b.Read(ctx); err != nil || r.Holder != "a" || r.Epoch != 3 || r.Active.Site != "west" || r.Active.Epoch != 2 {
		t.Errorf("the record is %+v, %v", r, err)
	}
}

// plan returns the plan of a failover, whose steps may take three seconds each,
// and actions that carry it out.
func plan(t *testing.T, service string) (failover.Plan, map[string]failover.Action) {
	t.Helper()
	config := failover.PlanConfig{Kind: failover.Failover, Service: service, From: "east", To: "west", Created: time.Now().UTC(), Settle: 10 * time.Millisecond}
	p, err := failover.NewPlan(config)
	if err != nil {
		t.Fatal(err)
	}
	actions := map[string]failover.Action{}
	for i, step := range p.Steps {
		p.Steps[i].Timeout = 3 * time.Second
		actions[step.Action] = failover.ActionFuncs{DoFunc: func(context.Context, failover.Call) (failover.Evidence, error) { return nil, nil }}
	}
	confirmed := failover.Evidence{failover.EvidenceConfirmed: "true"}
	var fenced atomic.Bool
	actions["fence"] = failover.ActionFuncs{
		DoFunc: func(context.Context, failover.Call) (failover.Evidence, error) {
			fenced.Store(true)
			return confirmed, nil
		},
		ObserveFunc: func(context.Context, failover.Call) (failover.Observation, error) {
			return failover.Observation{Done: fenced.Load(), Evidence: confirmed}, nil
		},
	}
	return p, actions
}

// completed checks the journal of a run that was carried out.
func completed(t *testing.T, store provider.BlobStore, run string) (records []failover.Record) {
	t.Helper()
	for r, err := range failover.Records(t.Context(), store, run) {
		if err != nil {
			t.Error(err)
		}
		records = append(records, r)
	}
	loaded, err := failover.Load(t.Context(), store, run)
	if err != nil || loaded.Outcome != failover.Completed {
		t.Errorf("the journal of %s says %q, %v", run, loaded.Outcome, err)
	}
	return records
}

func wholeRun(t *testing.T, open func() provider.BlobStore) {
	p, actions := plan(t, "shop")
	result, err := failover.Run(t.Context(), failover.Config{Store: open(), Actions: actions}, p)
	if err != nil {
		t.Fatalf("%+v: %v", result, err)
	}
	completed(t, open(), p.ID)
	if r, err := failover.ReadLease(t.Context(), open(), "", "shop"); err != nil || r.Active.Site != "west" || !r.Released {
		t.Errorf("the lease says %+v, %v", r, err)
	}
}

// alone is a store of a process whose lease is a fiction: it keeps leases in a
// memory of its own, so that only the journal stands between it and others.
type alone struct {
	provider.BlobStore
	own *providertest.Memory
}

func (s alone) Put(ctx context.Context, key string, b provider.Body, o provider.PutOptions) (provider.Info, error) {
	if strings.HasPrefix(key, "lease/") {
		return s.own.Put(ctx, key, b, o)
	}
	return s.BlobStore.Put(ctx, key, b, o)
}

func (s alone) Get(ctx context.Context, key string, o provider.GetOptions) (r io.ReadCloser, info provider.Info, err error) {
	if strings.HasPrefix(key, "lease/") {
		return s.own.Get(ctx, key, o)
	}
	return s.BlobStore.Get(ctx, key, o)
}

// A process that is taken over while it works, and has not noticed, is stopped
// by the journal at its next record.
func deposed(t *testing.T, open func() provider.BlobStore) {
	p, actions := plan(t, "deposed")
	working, taken := make(chan struct{}), make(chan struct{})
	slow := maps.Clone(actions)
	slow["verify-standby"] = failover.ActionFuncs{DoFunc: func(ctx context.Context, _ failover.Call) (failover.Evidence, error) {
		close(working)
		select {
		case <-taken:
			return nil, nil
		case <-t.Context().Done():
			return nil, t.Context().Err()
		}
	}}
	p.Steps[0].Attempts = 1
	var g sync.WaitGroup
	g.Go(func() {
		_, err := failover.Run(t.Context(), failover.Config{Store: alone{open(), providertest.NewMemory()}, Actions: slow, Holder: "first"}, p)
		e, ok := errors.AsType[*failover.RunError](err)
		if !ok || e.Outcome != failover.Deposed || !errors.Is(err, failover.ErrDeposed) {
			t.Errorf("who was taken over from: %v", err)
		}
	})
	<-working
	var told sync.Once
	result, err := failover.Resume(t.Context(), failover.Config{Store: open(), Actions: actions, Holder: "second", Progress: func(e failover.Event) {
		if e.Record.Kind == failover.RecordTakeover {
			told.Do(func() { close(taken) })
		}
	}}, p.ID)
	told.Do(func() { close(taken) })
	g.Wait()
	if err != nil {
		t.Fatalf("%+v: %v", result, err)
	}
	wrote := "first"
	for _, r := range completed(t, open(), p.ID) {
		if r.Kind == failover.RecordTakeover {
			wrote = "second"
		}
		if r.Holder != wrote {
			t.Errorf("record %d, %s, is by %s, after a takeover by %s", r.Seq, r.Kind, r.Holder, wrote)
		}
	}
	if wrote != "second" {
		t.Error("the journal has no takeover")
	}
}

// Four processes, each sure of its lease, go on with one open run at once:
// one of them completes it, the others are deposed or find it over.
func journalRace(t *testing.T, open func() provider.BlobStore) {
	p, actions := plan(t, "journal")
	crash(t, failover.Config{Store: alone{open(), providertest.NewMemory()}, Actions: actions}, p)
	var done, lost atomic.Int32
	var g sync.WaitGroup
	for i := range 4 {
		store := alone{open(), providertest.NewMemory()}
		g.Go(func() {
			_, err := failover.Resume(t.Context(), failover.Config{Store: store, Actions: actions, Holder: fmt.Sprint(i)}, p.ID)
			switch {
			case err == nil:
				done.Add(1)
			case errors.Is(err, failover.ErrDeposed), errors.Is(err, failover.ErrFinal):
				lost.Add(1)
			default:
				t.Error(err)
			}
		})
	}
	g.Wait()
	if done.Load() != 1 || lost.Load() != 3 {
		t.Errorf("%d completed the run, %d found that another one did", done.Load(), lost.Load())
	}
	// Whoever wrote a record had taken the run over last.
	last := ""
	for _, r := range completed(t, open(), p.ID) {
		if r.Kind == failover.RecordTakeover || last == "" {
			last = r.Holder
		}
		if r.Holder != last {
			t.Errorf("record %d, %s, is by %s, after a takeover by %s", r.Seq, r.Kind, r.Holder, last)
		}
	}
}
