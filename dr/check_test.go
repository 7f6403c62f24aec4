package dr

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/provider"
)

// fields returns where the faults of an error are.
func fields(err error) []string {
	var out []string
	for _, f := range Faults(err) {
		out = append(out, f.Field)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func TestCheck(t *testing.T) {
	swap := func(path string) func(*testing.T, *fixture) {
		return func(t *testing.T, f *fixture) { newKey(t, map[string]string{"a": f.primaryID, "b": f.coldID}[path]) }
	}
	tests := []struct {
		name  string
		spoil func(*testing.T, *fixture)
		want  []string
	}{
		{"good", func(*testing.T, *fixture) {}, nil},
		{"the primary store is away", func(_ *testing.T, f *fixture) {
			f.stores["mem://a/"].Use(func(providertestCall) providertestFault { return providertestFault{Before: errAway} })
		}, []string{"sites.primary.bucket"}},
		{"the standby store is read-only", func(_ *testing.T, f *fixture) {
			f.stores["mem://b/"].Use(func(c providertestCall) providertestFault {
				if c.Op == "put" {
					return providertestFault{Before: errAway}
				}
				return providertestFault{}
			})
		}, []string{"sites.standby.bucket"}},
		{"the witness ignores conditions", ignores(true), []string{"sites.witness.bucket"}},
		{"the witness ignores IfMatch alone", ignores(false), []string{"sites.witness.bucket"}},
		{"the standby's key is another one", swap("b"), []string{"recipients", "recipients[1].identity", "sites.standby.bucket"}},
		{"the primary's key is another one", swap("a"), []string{"recipients[0].identity"}},
		{"a key file is gone", func(_ *testing.T, f *fixture) { os.Remove(f.coldID) }, []string{"recipients", "recipients[1].identity"}},
		{"a key file holds something else", func(_ *testing.T, f *fixture) { os.WriteFile(f.coldID, []byte("hunter2\n"), 0o600) }, []string{"recipients", "recipients[1].identity"}},
		{"only a key that dies with the primary", func(_ *testing.T, f *fixture) { f.config.Recipients[1].Identity = "" }, []string{"recipients"}},
		{"a target does not open", func(_ *testing.T, f *fixture) {
			f.parts.Targets = map[string]TargetOpener{"memory": func(_ context.Context, w Workload) (backup.Target, error) {
				if w.Name == "models" {
					return nil, errors.New("no such database")
				}
				return placeTarget{f.places, w.Source}, nil
			}}
		}, []string{"targets[1].source"}},
		{"the zone lacks the name", func(_ *testing.T, f *fixture) { f.dns(nil) }, []string{"dns.name"}},
		{"the name leads elsewhere", func(_ *testing.T, f *fixture) {
			f.dns(&provider.RecordSet{Name: "db.example.test.", Type: "A", TTL: 60e9, Values: []string{"203.0.113.9"}})
		}, []string{"dns.name"}},
		{"the record's TTL is too long", func(_ *testing.T, f *fixture) {
			f.dns(&provider.RecordSet{Name: "db.example.test.", Type: "A", TTL: 3600e9, Values: []string{"192.0.2.1"}})
		}, []string{"dns.name"}},
		{"the name leads to a site", func(_ *testing.T, f *fixture) {
			f.dns(&provider.RecordSet{Name: "db.example.test.", Type: "A", TTL: 60e9, Values: []string{"192.0.2.1"}})
		}, nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			f := newFixture(t)
			f.catchUp(t, f.planner(t))
			test.spoil(t, f)
			err := f.planner(t).Check(t.Context())
			if d := cmp.Diff(test.want, fields(err)); d != "" {
				t.Errorf("faults (-want +got):\n%s\n%v", d, err)
			}
			if strings.Contains(test.name, "ignores") && !strings.Contains(err.Error(), "cannot hold lease and journal: the careless store") {
				t.Errorf("the fault does not name the store: %v", err)
			}
			if err != nil && strings.Contains(err.Error(), "hunter2") {
				t.Errorf("a secret shows: %v", err)
			}
			for bucket, s := range f.stores {
				s.Use(nil)
				for info, err := range s.List(t.Context(), "", provider.ListOptions{}) {
					if err == nil && strings.Contains(info.Key, "/check/") {
						t.Errorf("left over in %s: %s", bucket, info.Key)
					}
				}
			}
		})
	}
}

// careless is a store that ignores IfMatch, and maybe IfAbsent.
type careless struct {
	provider.BlobStore
	both bool
}

func (c careless) String() string { return "the careless store" }

func (c careless) Put(ctx context.Context, key string, b provider.Body, o provider.PutOptions) (provider.Info, error) {
	o.IfMatch = ""
	o.IfAbsent = o.IfAbsent && !c.both
	return c.BlobStore.Put(ctx, key, b, o)
}

// ignores makes the witness a careless store.
func ignores(both bool) func(*testing.T, *fixture) {
	return func(_ *testing.T, f *fixture) {
		f.parts.Stores = map[string]StoreOpener{"mem": func(_ context.Context, s Site) (provider.BlobStore, error) {
			if s.Bucket == "mem://c/" {
				return careless{f.stores[s.Bucket], both}, nil
			}
			return f.stores[s.Bucket], nil
		}}
	}
}

// zone is a DNS zone with at most one record set.
type zone struct{ set *provider.RecordSet }

func (z zone) Get(_ context.Context, name, typ string) (provider.RecordSet, error) {
	if z.set == nil || z.set.Name != name || z.set.Type != typ {
		return provider.RecordSet{}, provider.ErrNotFound
	}
	return *z.set, nil
}

func (zone) Swap(context.Context, ...provider.Change) (provider.ChangeRef, error) {
	return "", errors.ErrUnsupported
}

func (zone) Status(context.Context, provider.ChangeRef) (provider.ChangeStatus, error) {
	return "", provider.ErrNotFound
}

func (zone) Atomicity() provider.Atomicity { return provider.ZoneAtomic }

func (f *fixture) dns(set *provider.RecordSet) {
	f.config.DNS = &DNS{Zone: "example.test", Name: "db.example.test", Primary: "192.0.2.1", Standby: "192.0.2.2"}
	f.parts.DNS = func(context.Context, DNS) (provider.DNSProvider, error) { return zone{set}, nil }
}

// New names every part that is missing.
func TestNewNamesMissingParts(t *testing.T) {
	f := newFixture(t)
	f.dns(nil)
	f.config.Notify = []string{"slack:#ops"}
	_, err := New(f.config, Parts{Targets: map[string]TargetOpener{"files": nil}})
	want := []string{"dns", "notify", "sites.primary.bucket", "sites.standby.bucket", "sites.witness.bucket", "targets[0].type", "targets[1].type"}
	if d := cmp.Diff(want, fields(err)); d != "" {
		t.Errorf("%s\n%v", d, err)
	}
	f.config.Name = "Not A Name"
	if _, err := New(f.config, f.parts); !slices.Contains(fields(err), "name") {
		t.Errorf("New does not validate: %v", err)
	}
}

// A key whose home is the primary does not count at the standby, even where
// this process happens to have it: a point is restorable only if it opens
// without the primary.
func TestRestorableNeedsASurvivingKey(t *testing.T) {
	f := newFixture(t)
	p := f.planner(t)
	f.catchUp(t, p)
	f.config.Recipients[1].Identity = ""
	plan, err := f.planner(t).Plan(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, fc := range plan.Forecasts {
		if fc.Known || fc.Restorable != "" || fc.Points != 1 {
			t.Errorf("forecast %+v", fc)
		}
	}
	if plan.Readiness.Ready {
		t.Error("ready without a key")
	}
}

// A store that is away does not keep a plan from being made, nor the other
// site from being backed up to.
func TestStandbyAway(t *testing.T) {
	for _, bucket := range []string{"mem://b/", "mem://c/"} {
		f := newFixture(t)
		f.catchUp(t, f.planner(t))
		f.stores[bucket].Use(func(providertestCall) providertestFault { return providertestFault{Before: errAway} })
		p := f.planner(t)
		plan, err := p.Plan(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if plan.Readiness.Ready || !strings.Contains(plan.String(), errAway.Error()) {
			t.Errorf("%s: plan does not say so:\n%v", bucket, plan)
		}
		if _, err := p.backUp(t.Context(), f.config.Workloads[0], PrimarySite, nil); err != nil {
			t.Errorf("%s: %v", bucket, err)
		}
		if bucket == "mem://c/" && len(f.eventsOf(EventRecord)) == 0 {
			t.Error("a record that could not be kept is no event")
		}
	}
}

// A drill that finds bad data proves nothing, says so, and cleans up.
func TestDrillFindsBadData(t *testing.T) {
	f := newFixture(t)
	f.places.write("mem-a:/orders", "bad", "broken")
	p := f.planner(t)
	f.catchUp(t, p)
	proof, err := p.Drill(t.Context(), "orders")
	if err == nil || proof.Proves() || !proof.Removed || !strings.Contains(proof.Error, "bad is not ok") {
		t.Errorf("%v: %+v", err, proof)
	}
	plan, _ := p.Plan(t.Context())
	if plan.Forecasts[0].Proven != "" {
		t.Error("a failed drill counts as proof")
	}
	f.parts.Checkers = nil
	proof, err = f.planner(t).Drill(t.Context(), "models")
	if err != nil || !proof.Passed || proof.Proves() {
		t.Errorf("without a checker: %v, %+v", err, proof)
	}
	if _, err := p.Drill(t.Context(), "nothing"); err == nil {
		t.Error("a drill of an unknown workload")
	}
}

// Crashes at every request of a run leave the next run to finish the work.
func TestRunCrash(t *testing.T) {
	step := 3 // every third request; odd and even ones crash differently
	if os.Getenv("HOLDFAST_LONG") != "" {
		step = 1
	}
	for n := 1; ; n += step {
		f := newFixture(t)
		// A crash takes all stores away at once; count across them.
		var mu sync.Mutex
		calls, dead := 0, false
		for _, s := range f.stores {
			s.Use(func(c providertestCall) providertestFault {
				mu.Lock()
				defer mu.Unlock()
				calls++
				if calls == n && n%2 == 0 {
					dead = true
					return providertestFault{After: errAway}
				}
				if dead || calls >= n {
					return providertestFault{Before: errAway}
				}
				return providertestFault{}
			})
		}
		p := f.planner(t)
		plan, err := p.Plan(t.Context())
		if err == nil {
			_, err = p.Run(t.Context(), plan)
		}
		crashed := err != nil || calls >= n
		for _, s := range f.stores {
			s.Use(nil)
		}
		p = f.planner(t)
		f.catchUp(t, p)
		for _, site := range []string{PrimarySite, StandbySite} {
			for _, w := range []string{"orders", "models"} {
				if len(points(t, p, site, w)) == 0 {
					t.Fatalf("crash at call %d: no point of %s at %s", n, w, site)
				}
			}
			repo, err := p.Repository(t.Context(), site)
			if err != nil {
				t.Fatal(err)
			}
			if report, err := repo.Check(t.Context(), checkAll); err != nil || len(report.Problems) > 0 {
				t.Fatalf("crash at call %d: %s: %v %v", n, site, err, report.Problems)
			}
		}
		if !crashed {
			if n < 30 {
				t.Errorf("only %d crashes", n)
			}
			return
		}
	}
}

// A process without its key must not look like one that has nothing to do.
func TestBlocked(t *testing.T) {
	f := newFixture(t)
	f.catchUp(t, f.planner(t))
	f.config.Recipients = slices.Clone(f.config.Recipients)
	for i := range f.config.Recipients {
		f.config.Recipients[i].Identity = "file:/nowhere/holdfast.key"
	}
	p := f.planner(t)
	plan, err := p.Plan(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(plan.Blocked) == 0 || !strings.Contains(plan.String(), "BLOCKED: the repository at primary cannot be read") {
		t.Errorf("planned as if nothing were wrong:\n%v", plan)
	}
	if _, err := p.Run(t.Context(), plan); !errors.Is(err, ErrBlocked) || !strings.Contains(err.Error(), "/nowhere/holdfast.key") {
		t.Errorf("run: %v", err)
	}
}
