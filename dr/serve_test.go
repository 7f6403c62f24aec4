package dr

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-go/holdfast/failover"
	"github.com/holdfast-go/holdfast/provider/providertest"
)

// serve runs a new process for so long and waits until it has stopped.
func (f *fixture) serve(t *testing.T, d time.Duration) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- f.planner(t).Serve(ctx) }()
	time.Sleep(d)
	cancel()
	if err := <-done; err != nil {
		t.Errorf("Serve: %v", err)
	}
}

// Hours of service with a restart in the middle: every point arrives, the RPO
// holds at the standby throughout, retention and drills run.
func TestServe(t *testing.T) {
	f := newFixture(t)
	f.config.Drill.Every = Duration(30 * time.Minute)
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		f.serve(t, 46*time.Minute)
		if n := len(f.eventsOf(EventBackup)); n != 10+2 {
			t.Errorf("%d backups in 46 minutes", n)
		}
		time.Sleep(3 * time.Minute) // down
		restart := time.Now()
		f.serve(t, 70*time.Minute)

		last := start
		for _, e := range f.eventsOf(EventBackup) {
			if e.Err != nil {
				t.Errorf("%v: %v", e.Time, e.Err)
			}
			if e.Workload != "orders" {
				continue
			}
			if gap := e.Time.Sub(last); gap > 5*time.Minute+3*time.Minute || gap > 5*time.Minute+time.Second && e.Time.Before(restart) {
				t.Errorf("a gap of %v before %v", gap, e.Time)
			}
			last = e.Time
		}
		p := f.planner(t)
		for _, w := range []string{"orders", "models"} {
			here, there := points(t, p, PrimarySite, w), points(t, p, StandbySite, w)
			if len(here) == 0 || here[len(here)-1].ID != there[len(there)-1].ID {
				t.Errorf("%s: newest here %v, there %v", w, here, there)
			}
		}
		if n := len(f.eventsOf(EventForget)); n == 0 {
			t.Error("nothing was forgotten")
		}
		if n := len(points(t, p, PrimarySite, "orders")); n > 3+1+12 {
			t.Errorf("%d points of orders are left", n)
		}
		drills := f.eventsOf(EventDrill)
		if len(drills) < 6 || slices.ContainsFunc(drills, func(e Event) bool { return e.Err != nil }) {
			t.Errorf("drills %v", drills)
		}
		for _, e := range f.eventsOf(EventObjective) {
			if e.Workload == "orders" && strings.Contains(e.Text, "rpo") {
				t.Errorf("an objective was missed: %s", e.Text)
			}
		}
	})
}

// A target that fails is tried again, people hear of it after the third time
// and when it works again; the other workload is not held up.
func TestServeRetries(t *testing.T) {
	f := newFixture(t)
	synctest.Test(t, func(t *testing.T) {
		f.places.fail["mem-a:/orders"] = errors.New("disk on fire")
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- f.planner(t).Serve(ctx) }()
		time.Sleep(20 * time.Minute)
		f.places.mu.Lock()
		clear(f.places.fail)
		f.places.mu.Unlock()
		time.Sleep(10 * time.Minute)
		cancel()
		<-done
		failed, good, models := 0, 0, 0
		for _, e := range f.eventsOf(EventBackup) {
			switch {
			case e.Workload == "models":
				models++
			case e.Err != nil:
				failed++
			default:
				good++
			}
		}
		// 1, 2, 4, 5, 5 ... minutes between attempts.
		if failed < 5 || failed > 8 || good == 0 || models == 0 {
			t.Errorf("%d failed, %d good, %d of the other workload", failed, good, models)
		}
		missed := f.eventsOf(EventObjective)
		if len(missed) < 2 || missed[0].Err == nil || !slices.ContainsFunc(missed, func(e Event) bool { return strings.Contains(e.Text, "again") }) {
			t.Errorf("objectives: %v", missed)
		}
		p := f.planner(t)
		r, err := p.records(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		attempts, err := read[Attempt](t.Context(), r, kindAttempt, "orders", time.Time{})
		if err != nil || len(attempts) != failed+good {
			t.Errorf("%d attempts recorded of %d: %v", len(attempts), failed+good, err)
		}
	})
}

// A long backup of one workload never delays the other; ending Serve ends it
// too, and leaves no point of it.
func TestServeLongBackup(t *testing.T) {
	f := newFixture(t)
	synctest.Test(t, func(t *testing.T) {
		f.places.block["mem-a:/models"] = make(chan struct{})
		f.serve(t, 61*time.Minute)
		p := f.planner(t)
		if n := len(points(t, p, PrimarySite, "models")); n != 0 {
			t.Errorf("%d points of a backup that never ended", n)
		}
		n := 0
		for _, e := range f.eventsOf(EventBackup) {
			if e.Workload == "orders" && e.Err == nil {
				n++
			}
		}
		if n < 12 {
			t.Errorf("%d backups of the other workload in an hour", n)
		}
	})
}

// Stores that fail one call in fifty, half of them after the change was made, cost
// retries and lose nothing.
func TestServeFlakyStores(t *testing.T) {
	f := newFixture(t)
	synctest.Test(t, func(t *testing.T) {
		f.catchUp(t, f.planner(t))
		for i, bucket := range []string{"mem://a/", "mem://b/", "mem://c/"} {
			f.stores[bucket].Use(providertest.Seeded(uint64(i+1), 0.02))
		}
		f.serve(t, time.Hour)
		for _, s := range f.stores {
			s.Use(nil)
		}
		f.serve(t, 6*time.Minute)
		p := f.planner(t)
		for _, site := range []string{PrimarySite, StandbySite} {
			repo, err := p.Repository(t.Context(), site)
			if err != nil {
				t.Fatal(err)
			}
			report, err := repo.Check(t.Context(), checkAll)
			if err != nil || len(report.Problems) > 0 {
				t.Errorf("%s: %v, %v", site, err, report.Problems)
			}
		}
		here, there := points(t, p, PrimarySite, "orders"), points(t, p, StandbySite, "orders")
		if len(here) < 3 || here[len(here)-1].ID != there[len(there)-1].ID {
			t.Errorf("points here %v, there %v", len(here), len(there))
		}
	})
}

// The service at the primary dies. An armed configuration fails over by
// itself; one that is not armed asks.
func TestServeFailsOver(t *testing.T) {
	for _, proven := range []bool{true, false} {
		t.Run(fmt.Sprintf("proven=%t", proven), func(t *testing.T) {
			f := newFixture(t)
			f.config.Failover.Mode = failover.Automatic
			f.config.Failover.HealthInterval = Duration(10 * time.Second)
			synctest.Test(t, func(t *testing.T) {
				p := f.planner(t)
				f.catchUp(t, p)
				for _, w := range []string{"orders", "models"} {
					if !proven {
						break
					}
					if _, err := p.Drill(t.Context(), w); err != nil {
						t.Fatal(err)
					}
				}
				plan, _ := p.Plan(t.Context())
				if plan.Readiness.Armed != proven {
					t.Errorf("armed is %t:\n%v", plan.Readiness.Armed, plan)
				}
				ctx, cancel := context.WithCancel(t.Context())
				done := make(chan error, 1)
				go func() { done <- p.Serve(ctx) }()
				time.Sleep(2 * time.Minute)
				f.primary.destroy()
				time.Sleep(3 * time.Minute)
				_, active, between, err := p.inCharge(t.Context())
				if err != nil || between || active != map[bool]string{true: StandbySite, false: PrimarySite}[proven] {
					t.Errorf("in charge: %q %t %v", active, between, err)
				}
				if f.standby.serving != proven {
					t.Errorf("standby serves: %t", f.standby.serving)
				}
				time.Sleep(10 * time.Minute)
				cancel()
				<-done
				if !proven {
					return
				}
				newest := points(t, p, StandbySite, "orders")
				if newest[len(newest)-1].Time.Before(time.Now().Add(-6 * time.Minute)) {
					t.Error("after the failover no points are made at the standby")
				}
				if n := f.primary.fences; n == 0 {
					t.Error("the primary was never fenced")
				}
			})
		})
	}
}

// Being cut off from the witness is no reason to judge the primary.
func TestServeBlindObserver(t *testing.T) {
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
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- p.Serve(ctx) }()
		time.Sleep(time.Minute)
		f.primary.destroy()
		f.stores["mem://c/"].Use(func(providertestCall) providertestFault { return providertestFault{Before: errAway} })
		time.Sleep(10 * time.Minute)
		if f.standby.serving {
			t.Error("an observer that was cut off itself started a failover")
		}
		for _, e := range f.eventsOf(EventHealth) {
			if strings.Contains(e.Text, "unhealthy") {
				t.Errorf("%s", e.Text)
			}
		}
		cancel()
		<-done
	})
}
