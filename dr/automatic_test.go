package dr

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-go/holdfast/failover"
	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/providertest"
)

// A program that detects for itself: in automatic mode a failover needs no
// approval where the safeguards hold, and is refused with what they miss
// otherwise. The lost region does not refuse to answer, it says nothing.
func TestAutomaticByOwnDetection(t *testing.T) {
	f := newFixture(t)
	f.config.Failover.Mode = failover.Automatic
	synctest.Test(t, func(t *testing.T) {
		p := f.planner(t)
		f.catchUp(t, p)
		sentry := sentryOf(t, p, PrimarySite, 0)
		if err := sentry.Check(); err != nil {
			t.Errorf("the primary, before anything happened: %v", err)
		}
		plan := planOf(t, p, failover.Failover)
		_, err := p.Failover(t.Context(), plan, nil)
		if err == nil || !strings.Contains(err.Error(), "no drill or test failover has passed yet") || f.primary.fences > 0 {
			t.Fatalf("not armed, and %d fences: %v", f.primary.fences, err)
		}
		for _, w := range []string{"orders", "models"} {
			if _, err := p.Drill(t.Context(), w); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := p.Failover(t.Context(), planOf(t, p, failover.Switchover), nil); !errors.Is(err, failover.ErrNotApproved) {
			t.Errorf("a planned move began by itself: %v", err)
		}

		f.primary.destroy()
		f.stores["mem://a/"].Use(func(providertestCall) providertestFault {
			return providertestFault{Wait: func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }}
		})
		began := time.Now()
		r, err := p.Failover(t.Context(), planOf(t, p, failover.Failover), nil)
		if err != nil || r.Outcome != failover.Completed {
			t.Fatalf("%v: %+v", err, r)
		}
		if took := time.Since(began); took > time.Minute {
			t.Errorf("it took %v, of which most was waiting for a region that is lost", took)
		}
		if !f.standby.serving || f.places.at("mem-b:/orders")["one"] != "first ok" {
			t.Error("the standby does not serve what had arrived")
		}
		if err := sentry.Check(); !errors.Is(err, failover.ErrFenced) {
			t.Errorf("the old primary may still write: %v", err)
		}
		if err := sentryOf(t, p, PrimarySite, 0).Check(); !errors.Is(err, failover.ErrSealed) {
			t.Errorf("the old primary comes back and may write: %v", err)
		}
		if err := sentryOf(t, p, StandbySite, r.Epoch).Check(); err != nil {
			t.Errorf("the standby may not write: %v", err)
		}
	})
}

type blindZone struct{ zone }

func (blindZone) Atomicity() provider.Atomicity { return provider.NotAtomic }

// Where the zone has no compare-and-swap, nothing fails over by itself, unless
// that was allowed.
func TestAutomaticWithoutCompareAndSwap(t *testing.T) {
	const complaint = "no compare-and-swap"
	for _, c := range []struct {
		mode           failover.Mode
		allowed, blind bool
		complains      bool
	}{
		{failover.Automatic, false, true, true},
		{failover.Automatic, true, true, false},
		{failover.Automatic, false, false, false},
		{failover.Manual, false, true, false},
	} {
		f := newFixture(t)
		f.dns(nil)
		f.config.Failover.Mode, f.config.DNS.AllowNotAtomic = c.mode, c.allowed
		if c.blind {
			f.parts.DNS = func(context.Context, DNS) (provider.DNSProvider, error) { return blindZone{}, nil }
		}
		p := f.planner(t)
		w, err := p.read(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := p.arm(w, p.forecasts(w)); strings.Contains(fmt.Sprint(err), complaint) != c.complains {
			t.Errorf("%+v: %v", c, err)
		}
		if _, err := p.traffic(t.Context()); err != nil {
			t.Errorf("%+v: a person may not either: %v", c, err)
		}
	}
}

// With an approval it does not matter what automatic mode would need.
func TestAutomaticApprovedByHand(t *testing.T) {
	f := newFixture(t)
	f.config.Failover.Mode = failover.Automatic
	synctest.Test(t, func(t *testing.T) {
		p := f.planner(t)
		f.catchUp(t, p)
		plan := planOf(t, p, failover.Failover)
		approval := failover.Approve(plan, "ada", time.Now())
		if r, err := p.Failover(t.Context(), plan, &approval); err != nil || r.Outcome != failover.Completed {
			t.Errorf("%v: %+v", err, r)
		}
	})
}

// A process dies while it fails over by itself. The next Serve ends what it
// began; what a person began is left to people.
func TestServeResumesAutomaticFailover(t *testing.T) {
	for _, approved := range []bool{false, true} {
		all := resumes(t, 0, approved) // records in the journal of one that lives
		for _, n := range []int{all / 4, all / 2, all * 3 / 4} {
			t.Run(fmt.Sprintf("approved=%t/%d", approved, n), func(t *testing.T) { resumes(t, n, approved) })
		}
	}
}

// resumes has a process die when record n of its journal has been written, or
// never if n is zero, and returns how many it wrote.
func resumes(t *testing.T, n int, approved bool) (records int) {
	f := newFixture(t)
	f.config.Failover.Mode = failover.Automatic
	synctest.Test(t, func(t *testing.T) {
		p := f.planner(t)
		f.catchUp(t, p)
		for _, w := range []string{"orders", "models"} {
			if _, err := p.Drill(t.Context(), w); err != nil {
				t.Fatal(err)
			}
		}
		f.primary.destroy()
		plan := planOf(t, p, failover.Failover)
		var a *failover.Approval
		if approved {
			by := failover.Approve(plan, "ada", time.Now())
			a = &by
		}
		var mu sync.Mutex
		witness := f.stores["mem://c/"]
		f.stores["mem://c/"] = providertest.NewFaulty(witness, func(c providertestCall) providertestFault {
			mu.Lock()
			defer mu.Unlock()
			if c.Op == "put" && strings.Contains(c.Key, "journal/") {
				if records++; records == n {
					return providertestFault{After: providertest.ErrCrashed, Crash: true}
				}
			}
			return providertestFault{}
		})
		dying, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
		defer cancel()
		r, err := f.planner(t).Failover(dying, plan, a)
		if (err == nil) != (n == 0) {
			t.Fatalf("dying at record %d: %v, %+v", n, err, r)
		}
		f.stores["mem://c/"] = witness
		if n == 0 {
			return
		}
		lease, _, _, err := p.inCharge(t.Context())
		if err != nil || lease.Run != plan.ID {
			t.Fatalf("no run is open: %+v, %v", lease, err)
		}
		f.serve(t, 5*time.Minute)
		lease, active, between, err := p.inCharge(t.Context())
		done := err == nil && !between && active == StandbySite && lease.Run == "" && f.standby.serving && !f.primary.serving
		if done == approved {
			t.Errorf("approved %t: in charge %q, between %t, run %q, standby serves %t: %v", approved, active, between, lease.Run, f.standby.serving, err)
		}
	})
	return records
}

// The witness goes away in the middle of an automatic failover, for longer
// than the lease lasts. The same Serve goes on when it is back.
func TestServeGoesOn(t *testing.T) {
	f := newFixture(t)
	f.config.Failover.Mode = failover.Automatic
	synctest.Test(t, func(t *testing.T) {
		p := f.planner(t)
		f.catchUp(t, p)
		for _, w := range []string{"orders", "models"} {
			if _, err := p.Drill(t.Context(), w); err != nil {
				t.Fatal(err)
			}
		}
		var mu sync.Mutex
		records, back := 0, time.Time{}
		f.stores["mem://c/"].Use(func(c providertestCall) providertestFault {
			mu.Lock()
			defer mu.Unlock()
			if c.Op == "put" && strings.Contains(c.Key, "journal/") {
				if records++; records == 4 {
					back = time.Now().Add(2 * time.Minute)
				}
			}
			if time.Now().Before(back) {
				return providertestFault{Before: errAway}
			}
			return providertestFault{}
		})
		f.primary.destroy()
		f.serve(t, 10*time.Minute)
		_, active, between, err := p.inCharge(t.Context())
		if err != nil || between || active != StandbySite || !f.standby.serving || back.IsZero() {
			t.Errorf("in charge %q, between %t, standby serves %t, %d records: %v", active, between, f.standby.serving, records, err)
		}
	})
}

func planOf(t *testing.T, p *Planner, kind failover.Kind) failover.Plan {
	t.Helper()
	plan, err := p.FailoverPlan(t.Context(), kind, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	return plan
}

// sentryOf is a sentry beside the service at a site, which has read once.
func sentryOf(t *testing.T, p *Planner, site string, epoch uint64) *failover.Sentry {
	t.Helper()
	store, err := p.LeaseStore(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s, err := failover.NewSentry(failover.SentryConfig{Store: store, Service: p.Config().Name, Site: site, Epoch: epoch})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); s.Run(ctx) }()
	synctest.Wait()
	cancel()
	<-done
	return s
}

// An outcome has the numbers of what was done, as the points and the stores
// know them.
func TestOutcomeNumbers(t *testing.T) {
	f := newFixture(t)
	p := f.planner(t)
	_, out := f.catchUp(t, p)
	repo, err := p.Repository(t.Context(), PrimarySite)
	if err != nil {
		t.Fatal(err)
	}
	objects := map[string]int64{}
	for _, site := range []string{PrimarySite, StandbySite} {
		store, err := p.repositoryStore(t.Context(), site)
		if err != nil {
			t.Fatal(err)
		}
		for _, err := range store.List(t.Context(), "", provider.ListOptions{}) {
			if err != nil {
				t.Fatal(err)
			}
			objects[site]++
		}
	}
	backups := 0
	for _, r := range out.Results {
		switch r.Action.Kind {
		case ActBackup:
			backups++
			point, err := repo.Point(t.Context(), r.Point)
			if err != nil {
				t.Fatal(err)
			}
			s := point.Stats
			if r.Bytes != s.BytesRead || r.BytesNew != s.BytesNew || r.BytesStored != s.BytesStored || s.BytesStored <= s.BytesNew || s.BytesNew == 0 {
				t.Errorf("%s: %+v, the point says %+v", r.Action, r, s)
			}
		case ActReplicate:
			if r.Arrived != backups || r.Bytes == 0 || r.Objects == 0 || r.Objects != objects[StandbySite] {
				t.Errorf("%s: %+v; at the standby are %d objects", r.Action, r, objects[StandbySite])
			}
		}
	}
	if backups != 2 || objects[PrimarySite] == 0 {
		t.Errorf("%d backups, objects %v", backups, objects)
	}
}
