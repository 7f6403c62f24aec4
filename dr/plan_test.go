package dr

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/holdfast-go/holdfast/backup"
)

func kinds(p *Plan) []string {
	var out []string
	for _, a := range p.Actions {
		out = append(out, strings.TrimSpace(string(a.Kind)+" "+a.Workload))
	}
	return out
}

// The first day of a configuration: the plan changes nothing, running it does
// what it says, and then nothing is due until something is.
func TestPlanThenRun(t *testing.T) {
	f := newFixture(t)
	synctest.Test(t, func(t *testing.T) {
		p := f.planner(t)
		plan, err := p.Plan(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		golden(t, "first-plan.golden", plan.String())
		if got := len(f.stores["mem://a/"].Calls()); got == 0 {
			t.Error("the plan was made without looking")
		}
		for bucket, store := range f.stores {
			for _, c := range store.Calls() {
				if c.Op == "put" || c.Op == "delete" || c.Op == "lock" {
					t.Errorf("planning changed %s: %s %s", bucket, c.Op, c.Key)
				}
			}
		}
		b, err := json.Marshal(plan)
		if err != nil {
			t.Fatal(err)
		}
		var read Plan
		if err := json.Unmarshal(b, &read); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(plan, &read); d != "" {
			t.Errorf("JSON loses something:\n%s", d)
		}
		out, err := p.Run(t.Context(), &read)
		if err != nil {
			t.Fatal(err)
		}
		if len(out.Results) != len(plan.Actions) {
			t.Errorf("%d results of %d actions", len(out.Results), len(plan.Actions))
		}
		for _, r := range out.Results {
			if !r.Done || r.Error != "" {
				t.Errorf("not done: %+v", r)
			}
		}
		for _, site := range []string{PrimarySite, StandbySite} {
			for _, w := range []string{"orders", "models"} {
				if n := len(points(t, p, site, w)); n != 1 {
					t.Errorf("%d points of %s at %s", n, w, site)
				}
			}
		}

		// The same plan again is stale; a new process finds nothing due.
		if _, err := p.Run(t.Context(), plan); !errors.Is(err, ErrStale) {
			t.Errorf("the plan ran twice: %v", err)
		}
		p = f.planner(t)
		time.Sleep(4 * time.Minute)
		if plan, _ := p.Plan(t.Context()); len(plan.Actions) != 0 {
			t.Errorf("due after a restart: %v", kinds(plan))
		}
		time.Sleep(61 * time.Second)
		f.places.write("mem-a:/orders", "two", "second ok")
		plan, _ = f.catchUp(t, p)
		if want := []string{"backup orders", "replicate"}; !slices.Equal(kinds(plan), want) {
			t.Errorf("due %v, want %v", kinds(plan), want)
		}
		plan, err = p.Plan(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if fc := plan.Forecasts[0]; !fc.Known || fc.Restorable != fc.Newest || !fc.RPO.Known || fc.RPO.Value > fc.Promise.RPO {
			t.Errorf("forecast %+v", fc)
		}
	})
}

// Whatever changes between planning and running makes a plan stale.
func TestStalePlans(t *testing.T) {
	for name, change := range map[string]func(*testing.T, *fixture, *Planner, *Plan) *Planner{
		"another configuration": func(t *testing.T, f *fixture, p *Planner, plan *Plan) *Planner {
			f.config.Workloads[0].Retention.KeepLast = 2
			return f.planner(t)
		},
		"a new point": func(t *testing.T, f *fixture, p *Planner, plan *Plan) *Planner {
			if _, err := f.planner(t).backUp(t.Context(), f.config.Workloads[0], PrimarySite, nil); err != nil {
				t.Fatal(err)
			}
			return p
		},
		"a point is gone": func(t *testing.T, f *fixture, p *Planner, plan *Plan) *Planner {
			if err := p.forget(t.Context(), "orders", StandbySite, points(t, p, StandbySite, "orders")[0].ID, "test"); err != nil {
				t.Fatal(err)
			}
			return p
		},
		"a proof": func(t *testing.T, f *fixture, p *Planner, plan *Plan) *Planner {
			if _, err := p.Drill(t.Context(), "orders"); err != nil {
				t.Fatal(err)
			}
			return p
		},
		"somebody else's plan": func(t *testing.T, f *fixture, p *Planner, plan *Plan) *Planner {
			plan.Config = "other"
			return p
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			p := f.planner(t)
			f.catchUp(t, p)
			plan, err := p.Plan(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			plan.Actions = append(plan.Actions, Action{Kind: ActBackup, Workload: "orders", Site: PrimarySite})
			p = change(t, f, p, plan)
			before := len(points(t, p, PrimarySite, "orders"))
			if out, err := p.Run(t.Context(), plan); !errors.Is(err, ErrStale) || len(out.Results) != 0 {
				t.Errorf("error %v, results %v", err, out.Results)
			}
			if after := len(points(t, p, PrimarySite, "orders")); after != before {
				t.Error("a stale plan did something")
			}
		})
	}
}

// Retention runs by policy, keeps what has not arrived, and never forgets the
// last proven point.
func TestRetention(t *testing.T) {
	f := newFixture(t)
	synctest.Test(t, func(t *testing.T) {
		p := f.planner(t)
		f.catchUp(t, p)
		proven, err := p.Drill(t.Context(), "orders")
		if err != nil || !proven.Proves() || !proven.Removed {
			t.Fatalf("drill: %+v, %v", proven, err)
		}
		for range 8 {
			time.Sleep(5*time.Minute + time.Second)
			f.catchUp(t, p)
		}
		f.catchUp(t, p) // what the last run made superfluous
		for _, site := range []string{PrimarySite, StandbySite} {
			got := points(t, p, site, "orders")
			if len(got) != 4 || got[0].ID != proven.Point {
				t.Errorf("%d points of orders at %s, the first is %s; want the three newest and the proven %s", len(got), site, got[0].ID, proven.Point)
			}
		}
		// The standby is away: points pile up, none is forgotten before it
		// has arrived.
		f.stores["mem://b/"].Use(func(c providertestCall) providertestFault { return providertestFault{Before: errAway} })
		for range 4 {
			time.Sleep(5*time.Minute + time.Second)
			plan, err := p.Plan(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			p.Run(t.Context(), plan)
		}
		w, _ := p.read(t.Context())
		if got := len(w.sites[PrimarySite].of("orders")); got != 8 {
			t.Errorf("%d points at the primary while the standby is away, want 8", got)
		}
	})
}

// Without the records nobody knows which point is the last proven: nothing is
// forgotten.
func TestRetentionNeedsTheRecords(t *testing.T) {
	f := newFixture(t)
	synctest.Test(t, func(t *testing.T) {
		p := f.planner(t)
		for range 5 { // the last run makes one too many, and plans before it does
			f.catchUp(t, p)
			time.Sleep(6 * time.Minute)
		}
		plan, err := p.Plan(t.Context())
		if err != nil || !slices.Contains(kinds(plan), "forget orders") {
			t.Fatalf("%v\n%v", err, plan)
		}
		f.stores["mem://c/"].Use(func(providertestCall) providertestFault { return providertestFault{Before: errAway} })
		plan, err = p.Plan(t.Context())
		if err != nil || slices.Contains(kinds(plan), "forget orders") || !strings.Contains(plan.String(), "nothing is forgotten") {
			t.Errorf("%v\n%v", err, plan)
		}
	})
}

// An empty bucket where there was a repository is a loss, not a beginning.
func TestPlanRefusesToBeginAnew(t *testing.T) {
	f := newFixture(t)
	p := f.planner(t)
	f.catchUp(t, p)
	f.stores["mem://a/"] = newFixture(t).stores["mem://a/"]
	plan, err := f.planner(t).Plan(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(plan.Actions) != 0 || plan.Readiness.Ready || !strings.Contains(plan.String(), "check the bucket") {
		t.Errorf("plan:\n%v", plan)
	}
}

// What grew since it was measured shows as a prediction that fails.
func TestPredictsMissedRTO(t *testing.T) {
	f := newFixture(t)
	p := f.planner(t)
	now := time.Date(2026, 11, 23, 8, 0, 0, 0, time.UTC)
	point := func(id string, age time.Duration, bytes int64) backup.Point {
		at := now.Add(-age)
		return backup.Point{ID: backup.PointID(id), Name: "orders", Time: at, Ended: at.Add(30 * time.Second), Stored: at.Add(40 * time.Second), Stats: backup.Stats{Bytes: bytes}}
	}
	w := &world{now: now, active: PrimarySite, proofs: map[string][]Proof{
		"orders": {{Workload: "orders", Point: "a", Began: now.Add(-Day), Restore: Duration(20 * time.Minute), Bytes: 100 << 30, Checked: true, Passed: true}},
	}, sites: map[string]siteState{}}
	for _, site := range []string{PrimarySite, StandbySite} {
		w.sites[site] = siteState{points: []backup.Point{point("a", time.Hour, 100<<30), point("b", 10*time.Minute, 160<<30)}}
	}
	fc := p.forecasts(w)
	if got := fc[0].RTO.Sum; got != "32m to restore + 15s to settle = 32m15s" {
		t.Errorf("RTO sum %q", got)
	}
	if got := fc[0].RPO.Sum; got != "5m between points + 30s backup + 10s replication + 1m for one retry = 6m40s" {
		t.Errorf("RPO sum %q", got)
	}
	var texts []string
	for _, v := range p.violations(w, fc[:1]) {
		texts = append(texts, v.String())
	}
	want := []string{"orders rto (predicted): this plan cannot meet the RTO of 30m: 32m to restore + 15s to settle = 32m15s (measured in 1 drill); data grew 60 % since the last drill"}
	if d := cmp.Diff(want, texts); d != "" {
		t.Error(d)
	}
}
