package dr

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/provider"
)

// sealed backs up a place as a writer that cannot read.
func (f *fixture) sealed(t *testing.T, cred backup.Credential, name, place string) backup.Point {
	t.Helper()
	r, err := backup.Open(t.Context(), backup.Config{Store: provider.Sub(f.stores["mem://a/"], repositoryPrefix), Credential: cred})
	if err != nil {
		t.Fatal(err)
	}
	p, err := r.Backup(t.Context(), name, placeTarget{f.places, place}, backup.BackupOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// What sealed writers store is looked at, at both sites, once: where there are
// none, or nothing new, nothing is done. Afterwards others rely on it.
func TestAttest(t *testing.T) {
	f := newFixture(t)
	f.config.Prune.Every = Duration(2 * time.Hour)
	synctest.Test(t, func(t *testing.T) {
		p := f.planner(t)
		for range 2 {
			if plan, _ := f.catchUp(t, p); len(actionsOf(plan, ActAttest)) > 0 {
				t.Errorf("without sealed writers: %v", plan)
			}
			time.Sleep(10 * time.Minute)
		}
		repo, err := p.Repository(t.Context(), PrimarySite)
		if err != nil {
			t.Fatal(err)
		}
		cred, err := repo.Seal(t.Context(), "web1")
		if err != nil {
			t.Fatal(err)
		}
		f.change("mem-w:/web")
		f.sealed(t, cred, "web", "mem-w:/web")
		time.Sleep(10 * time.Minute)
		plan, out := f.catchUp(t, p)
		if !slices.Equal(actionsOf(plan, ActAttest), []string{PrimarySite}) {
			t.Errorf("%v", plan)
		}
		for _, r := range out.Results {
			if r.Action.Kind == ActAttest && r.Bytes < 100<<10 {
				t.Errorf("%+v", r)
			}
		}
		// The same content by another is not stored again.
		f.places.write("mem-a:/orders", "big", f.places.at("mem-w:/web")["big"])
		time.Sleep(10 * time.Minute)
		plan, out = f.catchUp(t, p)
		if !slices.Equal(actionsOf(plan, ActAttest), []string{StandbySite}) { // where it has arrived
			t.Errorf("%v", plan)
		}
		for _, r := range out.Results {
			if r.Action.Workload == "orders" && r.Action.Kind == ActBackup && r.BytesNew > 50<<10 {
				t.Errorf("%+v", r)
			}
		}
		time.Sleep(10 * time.Minute)
		if plan, _ := f.catchUp(t, p); len(actionsOf(plan, ActAttest)) > 0 {
			t.Errorf("nothing new: %v", plan)
		}
		f.sealed(t, cred, "web", "mem-w:/web")
		plan, err = p.Plan(t.Context())
		if err != nil || len(actionsOf(plan, ActAttest)) > 0 {
			t.Errorf("before it is due: %v\n%v", err, plan)
		}
		// Before a prune, though.
		w, err := p.read(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if due := p.planAttests(w, []Action{{Kind: ActPrune, Site: PrimarySite}}); len(due) != 1 || due[0].Site != PrimarySite {
			t.Errorf("before a prune: %v", due)
		}
		time.Sleep(2 * time.Hour)
		f.change("mem-a:/orders")
		plan, _ = f.catchUp(t, p)
		i := slices.IndexFunc(plan.Actions, func(a Action) bool { return a.Kind == ActAttest })
		if i < 0 || i > slices.IndexFunc(plan.Actions, isPrune) {
			t.Errorf("%v", plan)
		}
		f.config.Attest.Off = true
		f.sealed(t, cred, "web", "mem-w:/web")
		time.Sleep(3 * time.Hour)
		if plan, err := f.planner(t).Plan(t.Context()); err != nil || len(actionsOf(plan, ActAttest)) > 0 {
			t.Errorf("off: %v\n%v", err, plan)
		}
	})
}

// What a sealed writer stored and is not what he says is told, and no reason to
// look again and again; what could not be looked at is.
func TestAttestBad(t *testing.T) {
	f := newFixture(t)
	synctest.Test(t, func(t *testing.T) {
		p := f.planner(t)
		f.catchUp(t, p)
		repo, err := p.Repository(t.Context(), PrimarySite)
		if err != nil {
			t.Fatal(err)
		}
		cred, err := repo.Seal(t.Context(), "web1")
		if err != nil {
			t.Fatal(err)
		}
		before := map[string]bool{}
		store, data := f.stores["mem://a/"], repositoryPrefix+"data/"
		for info, err := range store.List(t.Context(), data, provider.ListOptions{}) {
			if err != nil {
				t.Fatal(err)
			}
			before[info.Key] = true
		}
		f.change("mem-w:/web")
		f.sealed(t, cred, "web", "mem-w:/web")
		var bad string
		for info, err := range store.List(t.Context(), data, provider.ListOptions{}) {
			if err != nil {
				t.Fatal(err)
			}
			if !before[info.Key] && info.Size > 50<<10 {
				bad = info.Key
			}
		}
		b, _, err := provider.ReadAll(t.Context(), store, bad, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := store.Put(t.Context(), bad, provider.Bytes(bytes.Repeat([]byte("x"), len(b))), provider.PutOptions{}); err != nil {
			t.Fatal(err)
		}
		reach := true
		store.Use(func(c providertestCall) providertestFault {
			if c.Op == "get" && c.Key == bad && !reach {
				return providertestFault{Before: errAway}
			}
			return providertestFault{}
		})
		reach = false
		if _, err := p.attest(t.Context(), PrimarySite); err == nil || !strings.Contains(err.Error(), "no route") {
			t.Fatalf("out of reach: %v", err)
		}
		reach = true
		due := func() bool {
			t.Helper()
			w, err := p.read(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			return slices.ContainsFunc(p.planAttests(w, nil), func(a Action) bool { return a.Site == PrimarySite })
		}
		if time.Sleep(5*time.Hour + 50*time.Minute); due() {
			t.Error("tried again before a quarter of a day")
		}
		if time.Sleep(20 * time.Minute); !due() {
			t.Error("not tried again")
		}
		done, err := p.attest(t.Context(), PrimarySite)
		if err != nil || len(done.Bad) != 1 || !strings.HasSuffix(bad, done.Bad[0]) {
			t.Errorf("%+v, %v", done, err)
		}
		all := f.eventsOf(EventAttest)
		if e := all[len(all)-1]; e.Err == nil || !strings.Contains(e.Err.Error(), "1 pack at primary not what the writer says") {
			t.Errorf("%+v", e)
		}
		if due() {
			t.Error("looked at again at once")
		}
	})
}
