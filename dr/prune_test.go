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

// Space is freed so long after the first point, at both sites, and so long
// after that again: what was forgotten in between is gone then, and the points that
// are left can be restored.
func TestPrune(t *testing.T) {
	f := newFixture(t)
	f.config.Prune.Every = Duration(2 * time.Hour)
	synctest.Test(t, func(t *testing.T) {
		p := f.planner(t)
		isPrune := func(a Action) bool { return a.Kind == ActPrune }
		for range 7 {
			f.change("mem-a:/orders")
			plan, _ := f.catchUp(t, p)
			if slices.ContainsFunc(plan.Actions, isPrune) {
				t.Fatalf("after %v: %v", time.Since(plan.Time), kinds(plan))
			}
			time.Sleep(15 * time.Minute)
		}
		time.Sleep(15 * time.Minute)
		before := [2]int64{stored(t, f, "mem://a/"), stored(t, f, "mem://b/")}
		plan, out := f.catchUp(t, p)
		if n := len(slices.DeleteFunc(slices.Clone(plan.Actions), func(a Action) bool { return !isPrune(a) })); n != 2 {
			t.Errorf("%d prunes: %v", n, kinds(plan))
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
			if all := prunings(t, p, site); len(all) != 1 || all[0].Error != "" || all[0].Freed == 0 || all[0].Site != site {
				t.Errorf("%s: %+v", site, all)
			}
		}
		if _, err := p.Drill(t.Context(), "orders"); err != nil {
			t.Error(err)
		}
		if plan, _ := f.catchUp(t, f.planner(t)); slices.ContainsFunc(plan.Actions, isPrune) {
			t.Errorf("again at once, by another process: %v", kinds(plan))
		}
		time.Sleep(2 * time.Hour)
		if plan, _ := f.catchUp(t, p); !slices.ContainsFunc(plan.Actions, isPrune) {
			t.Errorf("not again after two hours: %v", kinds(plan))
		}

		// Not where it is off, nor where nobody knows when it was done last.
		time.Sleep(2 * time.Hour)
		f.config.Prune = Prune{Off: true}
		if plan, err := f.planner(t).Plan(t.Context()); err != nil || slices.ContainsFunc(plan.Actions, isPrune) {
			t.Errorf("off: %v, %v", kinds(plan), err)
		}
		f.config.Prune = Prune{Every: Duration(2 * time.Hour)}
		witness := f.stores["mem://c/"]
		f.stores["mem://c/"] = providertest.NewFaulty(witness, func(c providertest.Call) providertest.Fault {
			return providertest.Fault{Before: errors.New("no witness")}
		})
		if plan, err := f.planner(t).Plan(t.Context()); err != nil || slices.ContainsFunc(plan.Actions, isPrune) {
			t.Errorf("without records: %v, %v", kinds(plan), err)
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
		for range 6*3 + 3 { // three and a half hours, and the first is due after two
			f.change("mem-a:/orders")
			time.Sleep(10 * time.Minute)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		f.stores["mem://a/"] = broken
		p := f.planner(t)
		if all := prunings(t, p, PrimarySite); len(all) != 3 || all[0].Error == "" || all[1].Began.Sub(all[0].Began) < 30*time.Minute {
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
		if failed != 3 {
			t.Errorf("%d failures told", failed)
		}
	})
}
