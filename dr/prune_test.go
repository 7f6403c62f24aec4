package dr

import (
	"context"
	"crypto/rand"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/providertest"
)

// prunings are the records of a site.
func prunings(t *testing.T, p *Planner, site string) []Pruning {
	t.Helper()
	r, err := p.records(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	all, err := read[Pruning](t.Context(), r, kindPruning, site, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// stored is how many bytes of content a site holds.
func stored(t *testing.T, f *fixture, bucket string) (n int64) {
	t.Helper()
	for info, err := range f.stores[bucket].List(t.Context(), repositoryPrefix+"data/", provider.ListOptions{}) {
		if err != nil {
			t.Fatal(err)
		}
		n += info.Size
	}
	if n == 0 {
		t.Fatal("no content at " + bucket)
	}
	return n
}

// change gives a place content that no point before has.
func (f *fixture) change(place string) {
	b := make([]byte, 100<<10)
	rand.Read(b)
	f.places.write(place, "big", string(b)+" ok")
}

// isPrune, and prunes: those among the actions of a plan.
func isPrune(a Action) bool { return a.Kind == ActPrune }

func prunes(plan *Plan) (n int) {
	for _, a := range plan.Actions {
		if isPrune(a) {
			n++
		}
	}
	return n
}

// Space is freed at both sites when something is forgotten for the first time,
// and so long after that again: what was forgotten in between is gone then,
// and the points that are left can be restored.
func TestPrune(t *testing.T) {
	f := newFixture(t)
	f.config.Prune.Every = Duration(2 * time.Hour)
	synctest.Test(t, func(t *testing.T) {
		p := f.planner(t)
		next := func() (*Plan, *Outcome) {
			f.change("mem-a:/orders")
			return f.catchUp(t, p)
		}
		var first time.Time
		for range 12 {
			plan, _ := next()
			forgets := slices.ContainsFunc(plan.Actions, func(a Action) bool { return a.Kind == ActForget })
			switch n := prunes(plan); {
			case first.IsZero() && forgets && n == 2:
				first = plan.Time
			case n != 0 || first.IsZero() && forgets:
				t.Fatalf("%v after the first: %v", plan.Time.Sub(first), kinds(plan))
			}
			if !first.IsZero() && time.Since(first) > 90*time.Minute {
				break
			}
			time.Sleep(15 * time.Minute)
		}
		time.Sleep(time.Until(first.Add(2 * time.Hour)))
		before := [2]int64{stored(t, f, "mem://a/"), stored(t, f, "mem://b/")}
		plan, out := next()
		if prunes(plan) != 2 {
			t.Errorf("after two hours: %v", kinds(plan))
		}
		for i, bucket := range []string{"mem://a/", "mem://b/"} {
			if after := stored(t, f, bucket); after > before[i]*2/3 {
				t.Errorf("%s: %d bytes, before %d", bucket, after, before[i])
			}
		}
		for _, r := range out.Results {
			if isPrune(r.Action) && r.BytesFreed == 0 {
				t.Errorf("%+v", r)
			}
		}
		for _, site := range []string{PrimarySite, StandbySite} {
			if all := prunings(t, p, site); len(all) != 2 || all[1].Error != "" || all[1].Freed == 0 || all[1].Site != site {
				t.Errorf("%s: %+v", site, all)
			}
		}
		if _, err := p.Drill(t.Context(), "orders"); err != nil {
			t.Error(err)
		}
		if plan, _ := f.catchUp(t, f.planner(t)); prunes(plan) != 0 {
			t.Errorf("again at once, by another process: %v", kinds(plan))
		}

		// Not where it is off, nor where nobody knows when it was done last.
		time.Sleep(3 * time.Hour)
		f.config.Prune = Prune{Off: true}
		if plan, err := f.planner(t).Plan(t.Context()); err != nil || prunes(plan) != 0 {
			t.Errorf("off: %v, %v", kinds(plan), err)
		}
		f.config.Prune = Prune{}
		if plan, err := f.planner(t).Plan(t.Context()); err != nil || prunes(plan) != 0 {
			t.Errorf("by the day: %v, %v", kinds(plan), err)
		}
		time.Sleep(22 * time.Hour)
		if plan, err := f.planner(t).Plan(t.Context()); err != nil || prunes(plan) != 2 {
			t.Errorf("after a day: %v, %v", kinds(plan), err)
		}
		f.stores["mem://c/"] = providertest.NewFaulty(f.stores["mem://c/"], func(providertest.Call) providertest.Fault {
			return providertest.Fault{Before: errors.New("no witness")}
		})
		if plan, err := f.planner(t).Plan(t.Context()); err != nil || prunes(plan) != 0 {
			t.Errorf("without records: %v, %v", kinds(plan), err)
		}
	})
}

// logged is a target that writes a log, too, one segment for each point, and
// needs it from there on.
type logged struct{ placeTarget }

func (l logged) Backup(ctx context.Context, s *backup.Session) error {
	log, err := s.Log("wal")
	if err != nil {
		return err
	}
	at := uint64(time.Since(time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)) / time.Minute)
	if err := log.Append(ctx, backup.Segment{Branch: 1, From: at, To: at + 1}, []byte{byte(at)}); err != nil {
		return err
	}
	if err := s.NeedLog(backup.LogPosition{Log: "wal", Branch: 1, From: at, Consistent: at + 1}); err != nil {
		return err
	}
	return l.placeTarget.Backup(ctx, s)
}

// Logs go with the points that need them, at both sites: a log begins where
// the oldest point that is left needs it, whatever else is in it stays.
func TestPruneTrimsLogs(t *testing.T) {
	f := newFixture(t)
	f.config.Prune.Every = Duration(2 * time.Hour)
	f.config.Workloads = f.config.Workloads[:1]
	f.parts.Targets["memory"] = func(_ context.Context, w Workload) (backup.Target, error) {
		return logged{placeTarget{f.places, w.Source}}, nil
	}
	synctest.Test(t, func(t *testing.T) {
		p := f.planner(t)
		for n := 0; n < 4; time.Sleep(20 * time.Minute) { // the second time, at both sites
			f.change("mem-a:/orders")
			plan, _ := f.catchUp(t, p)
			n += prunes(plan)
		}
		for _, site := range []string{PrimarySite, StandbySite} {
			left := points(t, p, site, "orders")
			repo, err := p.Repository(t.Context(), site)
			if err != nil {
				t.Fatal(err)
			}
			log, err := repo.Log("wal")
			if err != nil {
				t.Fatal(err)
			}
			var segments []uint64
			for s, err := range log.Segments(t.Context(), 1, 0, 1<<40) {
				if err != nil {
					t.Fatal(err)
				}
				segments = append(segments, s.From)
			}
			if len(left) == 0 || len(segments) != len(left) || segments[0] != left[0].Logs[0].From {
				t.Errorf("%s: segments %v, points of %+v", site, segments, left[0].Logs)
			}
		}
	})
}

// A log that cannot be copied keeps the points that need it from having
// arrived, and no others. They have when the log is there.
func TestArrivalsWithoutLogs(t *testing.T) {
	f := newFixture(t)
	fails := "logs/" // keys that cannot be put elsewhere than at the primary
	f.parts.Targets["memory"] = func(_ context.Context, w Workload) (backup.Target, error) {
		if w.Name == "orders" {
			return logged{placeTarget{f.places, w.Source}}, nil
		}
		return placeTarget{f.places, w.Source}, nil
	}
	for bucket := range f.stores {
		f.stores[bucket] = providertest.NewFaulty(f.stores[bucket], func(c providertest.Call) providertest.Fault {
			if c.Op == "put" && fails != "" && bucket != "mem://a/" && strings.Contains(c.Key, fails) {
				return providertest.Fault{Before: errors.New("no logs here")}
			}
			return providertest.Fault{}
		})
	}
	synctest.Test(t, func(t *testing.T) {
		p := f.planner(t)
		plan, err := p.Plan(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := p.Run(t.Context(), plan); err == nil || !strings.Contains(err.Error(), "no logs here") {
			t.Errorf("run: %v", err)
		}
		r, err := p.records(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		arrived := func(name string, want int) (all []Arrival) {
			t.Helper()
			all, err := read[Arrival](t.Context(), r, kindArrival, name, time.Time{})
			if err != nil || len(all) != want {
				t.Errorf("%s: %+v, %v", name, all, err)
			}
			return all
		}
		arrived("orders", 0)
		arrived("models", 1)

		// Another process, later: the logs arrive, and then that is recorded, too.
		for _, fails = range []string{"logs/", kindArrival, ""} {
			time.Sleep(time.Minute)
			p = f.planner(t)
			plan, err = p.Plan(t.Context())
			if err != nil || len(plan.Actions) != 1 || plan.Actions[0].Kind != ActReplicate || plan.Actions[0].Reason != "1 point arrived without logs" {
				t.Fatalf("%v\n%v", err, plan)
			}
			arrived("orders", 0)
			if _, err := p.Run(t.Context(), plan); (err == nil) == (fails == "logs/") {
				t.Errorf("%q: %v", fails, err)
			}
		}
		if a := arrived("orders", 1); len(a) == 1 {
			point := points(t, p, PrimarySite, "orders")[0]
			if want := (Arrival{"orders", point.ID, point.Time, point.Ended, time.Now().UTC(), StandbySite}); a[0] != want {
				t.Errorf("%+v, want %+v", a[0], want)
			}
		}
		arrived("models", 1)
		if plan, err := p.Plan(t.Context()); err != nil || len(plan.Actions) > 0 {
			t.Errorf("%v\n%v", err, plan)
		}

		// One that is forgotten before its log arrives is not waited for.
		fails = "logs/"
		time.Sleep(5 * time.Minute)
		f.change("mem-a:/orders")
		if plan, err = p.Plan(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := p.Run(t.Context(), plan); err == nil {
			t.Fatal("a replication without logs succeeded")
		}
		fails = ""
		all := points(t, p, PrimarySite, "orders")
		if err := p.forget(t.Context(), "orders", PrimarySite, all[len(all)-1].ID, "test"); err != nil {
			t.Fatal(err)
		}
		if _, err := p.replicate(t.Context(), PrimarySite); err != nil {
			t.Fatal(err)
		}
		arrived("orders", 1)
		if left, err := read[Arrival](t.Context(), r, kindAwaited, StandbySite, time.Time{}); err != nil || len(left) > 0 {
			t.Errorf("%v, %v", left, err)
		}
	})
}

// A prune that fails is told of, tried again after a quarter of the time,
// and holds up neither the other site nor the backups. Serve does all that.
func TestServePrunes(t *testing.T) {
	f := newFixture(t)
	f.config.Prune.Every = Duration(2 * time.Hour)
	broken := f.stores["mem://a/"]
	f.stores["mem://a/"] = providertest.NewFaulty(broken, func(c providertest.Call) providertest.Fault {
		if c.Op == "put" && strings.Contains(c.Key, "condemned/") {
			return providertest.Fault{Before: errors.New("may not")}
		}
		return providertest.Fault{}
	})
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- f.planner(t).Serve(ctx) }()
		for range 9 { // an hour and a half; first is due when the fourth point is there
			f.change("mem-a:/orders")
			time.Sleep(10 * time.Minute)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		f.stores["mem://a/"] = broken
		p := f.planner(t)
		if all := prunings(t, p, PrimarySite); len(all) != 2 || all[0].Error == "" || all[1].Began.Sub(all[0].Began) < 30*time.Minute {
			t.Errorf("at the primary: %+v", all)
		}
		if all := prunings(t, p, StandbySite); len(all) != 1 || all[0].Error != "" {
			t.Errorf("at the standby: %+v", all)
		}
		failed := 0
		for _, e := range f.eventsOf(EventPrune) {
			if e.Err != nil {
				failed++
			}
		}
		if failed != 2 {
			t.Errorf("%d failures told", failed)
		}
	})
}
