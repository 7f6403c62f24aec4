package dr

import (
	"context"
	"errors"
	"maps"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-go/holdfast/failover"
	"github.com/holdfast-go/holdfast/provider/providertest"
)

// The primary site is lost. The standby takes over with what had arrived, goes
// on making points, and hands back without loss.
func TestFailoverAndBack(t *testing.T) {
	f := newFixture(t)
	synctest.Test(t, func(t *testing.T) {
		p := f.planner(t)
		f.catchUp(t, p)
		time.Sleep(6 * time.Minute)
		f.places.write("mem-a:/orders", "two", "second ok")
		f.catchUp(t, p)
		time.Sleep(2 * time.Minute)
		f.places.write("mem-a:/orders", "three", "never arrives ok")

		// Everything at the primary is gone, its bucket too.
		f.places.destroy("mem-a:/orders")
		f.places.destroy("mem-a:/models")
		f.primary.destroy()
		bucket := f.stores["mem://a/"]
		bucket.Use(func(providertestCall) providertestFault { return providertestFault{Before: errAway} })

		p = f.planner(t) // from another machine
		plan, err := p.FailoverPlan(t.Context(), failover.Failover, time.Now().Add(-30*time.Second))
		if err != nil {
			t.Fatal(err)
		}
		if plan.Expected != "at most 2m of writes" && plan.Expected != "at most 8m of writes" {
			t.Errorf("expected loss %q", plan.Expected)
		}
		r, err := p.Failover(t.Context(), plan, nil)
		if err != nil || r.Outcome != failover.Completed {
			t.Fatalf("%v: %+v", err, r)
		}
		if want := map[string]string{"one": "first ok", "two": "second ok"}; !maps.Equal(f.places.at("mem-b:/orders"), want) {
			t.Errorf("restored %v", f.places.at("mem-b:/orders"))
		}
		if !r.Loss.Known || r.Loss.Bound < 2*time.Minute || r.Loss.Bound > 10*time.Minute {
			t.Errorf("loss %+v", r.Loss)
		}
		if !f.standby.serving || f.primary.serving {
			t.Error("the wrong site serves")
		}

		// Points are now made at the standby, of what lives there.
		f.places.write("mem-b:/orders", "four", "written at the standby ok")
		time.Sleep(6 * time.Minute)
		dplan, err := p.Plan(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if dplan.Active != StandbySite || len(kinds(dplan)) == 0 || dplan.Actions[0].Site != StandbySite {
			t.Fatalf("plan after the failover:\n%v", dplan)
		}
		if _, err := p.Run(t.Context(), dplan); err != nil {
			t.Fatal(err)
		}
		if _, err := p.FailoverPlan(t.Context(), failover.Failback, time.Time{}); err != nil {
			t.Fatal(err)
		}

		// The primary returns; replication is reversed, then failback.
		bucket.Use(nil)
		f.places.mu.Lock()
		clear(f.places.fail)
		f.places.mu.Unlock()
		f.primary.broken = false
		back, err := p.FailoverPlan(t.Context(), failover.Failback, time.Time{})
		if err != nil {
			t.Fatal(err)
		}
		f.places.write("mem-b:/orders", "five", "just before failback ok")
		if r, err = p.Failover(t.Context(), back, nil); err != nil || r.Outcome != failover.Completed {
			t.Fatalf("%v: %+v", err, r)
		}
		want := map[string]string{"one": "first ok", "two": "second ok", "four": "written at the standby ok", "five": "just before failback ok"}
		if got := f.places.at("mem-a:/orders"); !maps.Equal(got, want) {
			t.Errorf("after failback %v, want %v", got, want)
		}
		if r.Loss.Bound != 0 {
			t.Errorf("a failback lost %v", r.Loss.Bound)
		}
		if !f.primary.serving || f.standby.serving {
			t.Error("the wrong site serves after failback")
		}
		if dplan, _ = p.Plan(t.Context()); dplan.Active != PrimarySite {
			t.Errorf("in charge after failback: %q", dplan.Active)
		}
	})
}

// A process dies at any request to the witness while it fails over; another
// one finds the run open, and resumes it to its end.
func TestFailoverCrash(t *testing.T) {
	calls := 0
	for n := 1; ; n++ {
		f := newFixture(t)
		done := false
		synctest.Test(t, func(t *testing.T) {
			f.catchUp(t, f.planner(t))
			f.primary.destroy()
			p := f.planner(t)
			plan, err := p.FailoverPlan(t.Context(), failover.Failover, time.Time{})
			if err != nil {
				t.Fatal(err)
			}
			witness := f.stores["mem://c/"]
			begun := len(witness.Calls())
			crash := providertest.NewFaulty(witness, providertest.CrashAfter(n))
			if n%2 == 0 {
				crash.Use(providertest.CrashBefore(n))
			}
			f.stores["mem://c/"] = crash
			dying, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
			defer cancel()
			_, err = f.planner(t).Failover(dying, plan, nil)
			f.stores["mem://c/"] = witness
			if err == nil {
				done, calls = true, len(witness.Calls())-begun
				return
			}
			p2 := f.planner(t)
			r, err := p2.Resume(t.Context(), "")
			if errors.Is(err, ErrNoRun) {
				// It never began, or was over.
				if r, err = p2.Failover(t.Context(), plan, nil); errors.Is(err, failover.ErrStale) || errors.Is(err, failover.ErrUnfinished) {
					err = nil
				}
			}
			if err != nil {
				t.Fatalf("crash at call %d: %v (%+v)", n, err, r)
			}
			_, active, between, err := p2.inCharge(t.Context())
			if err != nil || between || active != StandbySite {
				t.Fatalf("crash at call %d: in charge %q, between %v, %v", n, active, between, err)
			}
			if !f.standby.serving || f.primary.serving {
				t.Fatalf("crash at call %d: the wrong site serves", n)
			}
			if got := f.places.at("mem-b:/orders"); got["one"] != "first ok" {
				t.Fatalf("crash at call %d: restored %v", n, got)
			}
		})
		if done {
			break
		}
		if n > 500 {
			t.Fatal("no end")
		}
	}
	if calls < 10 {
		t.Errorf("only %d calls were interrupted", calls)
	}
}

// A test failover changes nothing that matters and cleans up after itself.
func TestTestFailover(t *testing.T) {
	f := newFixture(t)
	synctest.Test(t, func(t *testing.T) {
		p := f.planner(t)
		f.catchUp(t, p)
		plan, err := p.FailoverPlan(t.Context(), failover.Test, time.Time{})
		if err != nil {
			t.Fatal(err)
		}
		r, err := p.Failover(t.Context(), plan, nil)
		if err != nil || r.Outcome != failover.Completed {
			t.Fatalf("%v: %+v", err, r)
		}
		for place, files := range f.places.files {
			if strings.HasPrefix(place, "mem-s:") && len(files) > 0 || strings.HasPrefix(place, "mem-b:") {
				t.Errorf("left over at %s: %v", place, files)
			}
		}
		if !f.primary.serving || f.standby.serving {
			t.Error("a test touched the services")
		}
		// A point that is not good fails the test, and is cleaned up too.
		time.Sleep(6 * time.Minute)
		f.places.write("mem-a:/orders", "bad", "broken")
		f.catchUp(t, p)
		plan, _ = p.FailoverPlan(t.Context(), failover.Test, time.Time{})
		if _, err := p.Failover(t.Context(), plan, nil); err == nil || !strings.Contains(err.Error(), "bad is not ok") {
			t.Errorf("a bad point passed: %v", err)
		}
		for place, files := range f.places.files {
			if strings.HasPrefix(place, "mem-s:") && len(files) > 0 {
				t.Errorf("left over at %s: %v", place, files)
			}
		}
	})
}

func TestFailoverPlanNamesMissingParts(t *testing.T) {
	f := newFixture(t)
	f.catchUp(t, f.planner(t))
	f.parts.Primary.Fencer, f.parts.Standby = nil, SiteParts{}
	_, err := f.planner(t).FailoverPlan(t.Context(), failover.Failover, time.Time{})
	if !errors.Is(err, ErrIncomplete) {
		t.Fatal(err)
	}
	for _, want := range []string{"Parts.Primary.Fencer", "Parts.Standby.Promoter", "Parts.Standby.Private"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not name %s", err, want)
		}
	}
	if _, err := f.planner(t).FailoverPlan(t.Context(), failover.Failback, time.Time{}); err == nil {
		t.Error("a failback from the primary was planned")
	}
}

// Assisted mode runs exactly the plan that was approved.
func TestAssistedNeedsApproval(t *testing.T) {
	f := newFixture(t)
	f.config.Failover.Mode = failover.Assisted
	synctest.Test(t, func(t *testing.T) {
		p := f.planner(t)
		f.catchUp(t, p)
		plan, err := p.FailoverPlan(t.Context(), failover.Switchover, time.Time{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := p.Failover(t.Context(), plan, nil); !errors.Is(err, failover.ErrNotApproved) {
			t.Errorf("ran without approval: %v", err)
		}
		approval := failover.Approve(plan, "ada", time.Now())
		f.places.write("mem-a:/orders", "late", "after the plan ok")
		r, err := p.Failover(t.Context(), plan, &approval)
		if err != nil || r.Outcome != failover.Completed {
			t.Fatalf("%v: %+v", err, r)
		}
		if got := f.places.at("mem-b:/orders")["late"]; got != "after the plan ok" {
			t.Errorf("a switchover lost a write: %q", got)
		}
	})
}

// After a failover the old primary comes back while the witness is away: what
// it backs up must not arrive at the standby as the newest point.
func TestOldPrimaryDoesNotReplicate(t *testing.T) {
	f := newFixture(t)
	synctest.Test(t, func(t *testing.T) {
		p := f.planner(t)
		f.catchUp(t, p)
		plan, err := p.FailoverPlan(t.Context(), failover.Failover, time.Time{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := p.Failover(t.Context(), plan, nil); err != nil {
			t.Fatal(err)
		}
		time.Sleep(6 * time.Minute)
		before := len(points(t, p, StandbySite, "orders"))
		f.stores["mem://c/"].Use(func(providertestCall) providertestFault { return providertestFault{Before: errAway} })
		f.serve(t, 20*time.Minute) // a new process at the old primary
		if plan, err := f.planner(t).Plan(t.Context()); err != nil || strings.Contains(plan.String(), "replicate") {
			t.Errorf("%v\n%v", err, plan)
		}
		f.stores["mem://c/"].Use(nil)
		if after := len(points(t, p, StandbySite, "orders")); after != before {
			t.Errorf("%d points of the old primary arrived", after-before)
		}
		// The process that saw the failover goes on at the standby.
		f.stores["mem://c/"].Use(func(providertestCall) providertestFault { return providertestFault{Before: errAway} })
		if plan, err := p.Plan(t.Context()); err != nil || plan.Active != StandbySite {
			t.Errorf("%v\n%v", err, plan)
		}
	})
}
