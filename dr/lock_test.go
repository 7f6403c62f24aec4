package dr

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/dr/notify"
	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/providertest"
)

// tick is how often workloads are backed up in these tests, and locks extended.
// It is short because Serve looks at other things by the minute meanwhile.
const tick = 10 * time.Minute

// lockFixture has buckets with versions and locks at both sites, and one
// workload that is backed up every tick.
func lockFixture(t testing.TB) *fixture {
	f := newFixture(t)
	for _, s := range []*Site{&f.config.Sites.Primary, &f.config.Sites.Standby} {
		f.stores[s.Bucket] = providertest.NewFaulty(providertest.NewBucket(providertest.BucketOptions{}), nil)
		s.Lock = &Lock{Keep: Duration(12 * tick), Ahead: Duration(8 * tick)} // extended every tick
	}
	f.config.Workloads = f.config.Workloads[:1]
	w := &f.config.Workloads[0]
	w.Every, w.RPOClass, w.RPO = Duration(tick), "", Duration(2*tick)
	f.config.Prune.Every = Duration(4 * tick)
	return f
}

// lockedFor is for how long the least locked object that a point needs at a
// site is locked.
func lockedFor(t *testing.T, p *Planner, site string, id backup.PointID) time.Duration {
	t.Helper()
	repo, err := p.Repository(t.Context(), site)
	if err != nil {
		t.Fatal(err)
	}
	store, err := p.repositoryStore(t.Context(), site)
	if err != nil {
		t.Fatal(err)
	}
	keys := []string{"points/" + string(id)}
	for info, err := range repo.Objects(t.Context(), keys[0]) {
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, info.Key)
	}
	least := 1000 * tick
	for _, key := range keys {
		info, err := store.Stat(t.Context(), key)
		if err != nil {
			t.Fatal(err)
		}
		least = min(least, time.Until(info.Retain.Until))
	}
	return least
}

func lockings(t *testing.T, p *Planner, site string) []Locking {
	t.Helper()
	r, err := p.records(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	all, err := read[Locking](t.Context(), r, kindLocking, site, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// messages is a notifier that remembers what it was told.
type messages struct {
	mu  sync.Mutex
	all []notify.Message
}

func (n *messages) Notify(_ context.Context, m notify.Message) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.all = append(n.all, m)
	return nil
}

func actionsOf(plan *Plan, kind ActionKind) (sites []string) {
	for _, a := range plan.Actions {
		if a.Kind == kind {
			sites = append(sites, a.Site)
		}
	}
	return sites
}

// Each kept point is locked for Keep at any time, at both sites,
// also when all of it was stored long ago; what is kept no more is forgotten
// when its locks are over, by plans in which nothing fails, and its space freed.
func TestLocks(t *testing.T) {
	f := lockFixture(t)
	const step = 2 * tick
	f.config.Workloads[0].Every, f.config.Workloads[0].RPO = Duration(step), Duration(2*step)
	for _, s := range []*Site{&f.config.Sites.Primary, &f.config.Sites.Standby} {
		s.Lock.Keep, s.Lock.ExtendEvery = Duration(2*step), Duration(step)
	}
	f.config.Workloads[0].Retention.KeepLast = 2
	synctest.Test(t, func(t *testing.T) {
		p := f.planner(t)
		most := 0
		for n := range 11 {
			if n < 3 {
				f.change("mem-a:/orders")
			}
			plan, _ := f.catchUp(t, p)
			if slices.ContainsFunc(plan.Violations, func(v Violation) bool { return strings.HasPrefix(v.Objective, "lock") }) {
				t.Errorf("%d: %v", n, plan)
			}
			if n > 0 && !slices.Equal(actionsOf(plan, ActLock), []string{PrimarySite, StandbySite}) {
				t.Errorf("%d: %v", n, plan)
			}
			time.Sleep(step - time.Second) // just before the next time
			w, err := p.read(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for _, site := range []string{PrimarySite, StandbySite} {
				all := w.sites[site].points
				most = max(most, len(all))
				for _, point := range all[max(0, len(all)-2):] {
					if left := lockedFor(t, p, site, point.ID); left < 2*step {
						t.Errorf("%d: %s at %s is locked for %v", n, point.ID, site, left)
					}
				}
			}
			time.Sleep(time.Second)
		}
		for _, site := range []string{PrimarySite, StandbySite} {
			if n := len(points(t, p, site, "orders")); n < 6 || most > 8 {
				t.Errorf("%d points at %s at the end, %d at most; they are locked for 6 steps", n, site, most)
			}
			for i, l := range lockings(t, p, site) {
				if l.Error != "" || l.Points != 2 || !l.Until.Equal(l.Began.Add(4*step)) {
					t.Errorf("%s, %d: %+v", site, i, l)
				}
			}
			freed := int64(0)
			for _, done := range prunings(t, p, site) {
				freed += done.Freed
			}
			if freed < 100<<10 { // the first content is needed by no point
				t.Errorf("%d bytes were freed at %s", freed, site)
			}
		}
		plan, err := p.Plan(t.Context())
		if err != nil || len(plan.Locks) != 2 || plan.Locks[0].Points != 2 || plan.Locks[0].Extended.IsZero() || plan.Locks[0].Error != "" ||
			!strings.Contains(plan.String(), "locks\n  at primary: 2 points, locked until ") {
			t.Errorf("%v\n%v", err, plan)
		}
	})
}

// A site that cannot extend is told of at once, tried again after a quarter of
// the time, and is an alarm that names points and times when it is late;
// nothing else is held up by it. The alarm ends by itself.
func TestLockAlarm(t *testing.T) {
	f := lockFixture(t)
	for _, s := range []*Site{&f.config.Sites.Primary, &f.config.Sites.Standby} {
		s.Lock.ExtendEvery = Duration(2 * tick) // they must be every four
	}
	refuse := false
	f.stores["mem://b/"].Use(func(c providertestCall) providertestFault {
		if c.Op == "lock" && refuse {
			return providertestFault{Before: errors.New("access denied")}
		}
		return providertestFault{}
	})
	var heard messages
	serve := func(t *testing.T, d time.Duration) {
		t.Helper()
		p := f.planner(t)
		p.notifier, p.config.Notify = &heard, []string{"slack:#ops"}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- p.Serve(ctx) }()
		time.Sleep(d)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		for range 3 {
			f.catchUp(t, f.planner(t))
			time.Sleep(tick)
		}
		refuse = true
		p := f.planner(t)
		var extended Locking // the last time that it worked, since nothing had to be
		for n := 0; ; n++ {
			serve(t, tick)
			all := lockings(t, p, StandbySite)
			if last := all[len(all)-1]; last.Error != "" {
				break
			} else if extended = last; n > 10 {
				t.Fatalf("never refused: %+v", all)
			}
		}
		serve(t, time.Until(extended.Began.Add(3*tick+tick/2)))
		if all := lockings(t, p, PrimarySite); len(all) < 3 || slices.ContainsFunc(all, func(l Locking) bool { return l.Error != "" }) {
			t.Errorf("at the primary: %+v", all)
		}
		failed := 0
		var before Locking
		for _, l := range lockings(t, p, StandbySite) {
			if gap := l.Began.Sub(before.Began); before.Error != "" && gap < tick/2 {
				t.Errorf("tried again after %v", gap)
			}
			if before = l; l.Error != "" {
				failed++
			}
		}
		told := 0
		for _, e := range f.eventsOf(EventLock) {
			if e.Err != nil && strings.Contains(e.Text, StandbySite) && strings.Contains(e.Err.Error(), "access denied") {
				told++
			}
		}
		if failed < 2 || failed > 14 || told != failed {
			t.Errorf("failed %d times, told %d times", failed, told)
		}
		late := func() (out []Violation) {
			t.Helper()
			plan, err := p.Plan(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for _, v := range plan.Violations {
				if strings.HasPrefix(v.Objective, "lock") {
					out = append(out, v)
				}
			}
			for _, s := range plan.Locks {
				if (len(s.Endangered) > 0) != (len(out) > 0 && s.Site == StandbySite) || (s.Error != "") != (refuse && s.Site == StandbySite) {
					t.Errorf("%v with %v", s, out)
				}
			}
			return out
		}
		if v := late(); len(v) > 0 {
			t.Errorf("before it is late: %v", v)
		}
		serve(t, time.Until(extended.Began.Add(4*tick+2*tick/3)))
		v := late()
		old := points(t, p, StandbySite, "orders")
		if len(v) != 1 || v[0].Workload != "orders" || v[0].Objective != "lock at standby" || v[0].Predicted || !strings.Contains(v[0].Text, "3 points") {
			t.Fatalf("%v", v)
		}
		for _, point := range old[len(old)-3:] { // they came after the last extension, so Keep is all they have
			if want := string(point.ID) + " until " + point.Stored.Add(12*tick).UTC().Format(time.RFC3339); !strings.Contains(v[0].Text, want) {
				t.Errorf("%s\nlacks %s", v[0].Text, want)
			}
			if left := lockedFor(t, p, StandbySite, point.ID); time.Until(point.Stored.Add(12*tick)) > left {
				t.Errorf("%s is locked for %v only", point.ID, left)
			}
		}
		refuse = false
		serve(t, 2*tick/3)
		if v := late(); len(v) > 0 {
			t.Errorf("after it was extended: %v", v)
		}
		for _, point := range points(t, p, StandbySite, "orders")[len(old)-2:] { // whatever the indexes say that came from the primary
			if left := lockedFor(t, p, StandbySite, point.ID); left < 15*tick {
				t.Errorf("%s is locked for %v in the end", point.ID, left)
			}
		}
		missed := f.eventsOf(EventObjective)
		if !slices.ContainsFunc(missed, func(e Event) bool { return e.Err != nil && strings.Contains(e.Text, "lock at standby") }) {
			t.Errorf("no alarm: %v", missed)
		}
		for what, want := range map[string]struct {
			severity notify.Severity
			text     string
		}{
			"locks at standby cannot be extended":           {notify.Warning, " until 2000-01-01T"},
			"orders misses its lock at standby":             {notify.Critical, string(old[len(old)-1].ID) + " until "},
			"no message has a title of what did not happen": {},
		} {
			found := slices.ContainsFunc(heard.all, func(m notify.Message) bool {
				return strings.HasSuffix(m.Title, what) && m.Severity == want.severity && strings.Contains(m.Text, want.text)
			})
			if found != (want.severity != "") {
				t.Errorf("%q: told %t: %+v", what, found, heard.all)
			}
		}
	})
}

// Whatever request a process dies at, the next one ends with everything locked,
// and no record claims what is not so.
func TestLockCrash(t *testing.T) {
	calls := 1
	step := 4 // of every fourth request in the short form
	if os.Getenv("HOLDFAST_LONG") != "" {
		step = 1
	}
	for n := 0; n <= calls; n += step { // 0: count them
		f := lockFixture(t)
		f.config.Sites.Primary.Lock = nil
		synctest.Test(t, func(t *testing.T) {
			f.catchUp(t, f.planner(t))
			time.Sleep(11 * tick) // a lock of 9 ticks is left, 16 are wanted
			store := f.stores["mem://b/"]
			crash := providertest.NewFaulty(store, nil)
			if n > 0 {
				crash.Use(providertest.CrashAfter(n))
				if n%8 == 0 {
					crash.Use(providertest.CrashBefore(n))
				}
			}
			f.stores["mem://b/"] = crash
			p := f.planner(t)
			w, err := p.read(t.Context()) // takes requests, too
			if err != nil {
				t.Fatal(err)
			}
			done, err := p.extendLocks(t.Context(), w, StandbySite)
			if n == 0 {
				if calls = len(crash.Calls()); err != nil || done.Objects < 4 {
					t.Fatalf("%+v, %v", done, err)
				}
			}
			f.stores["mem://b/"] = store
			p = f.planner(t)
			point := points(t, p, StandbySite, "orders")[0]
			if w, err = p.read(t.Context()); err != nil {
				t.Fatal(err)
			}
			l := p.config.lockOf(StandbySite)
			if claim, left := w.locked(StandbySite, l, point), lockedFor(t, p, StandbySite, point.ID); time.Until(claim) > left {
				t.Errorf("request %d: locked for %v, said to be until %v", n, left, claim)
			}
			for range 2 { // at once, or after a quarter of a tick
				plan, err := p.Plan(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				for _, a := range plan.Actions {
					if a.Kind == ActLock {
						if w, err = p.read(t.Context()); err != nil {
							t.Fatal(err)
						}
						if _, err := p.extendLocks(t.Context(), w, a.Site); err != nil {
							t.Error(err)
						}
					}
				}
				time.Sleep(tick / 4)
			}
			if left := lockedFor(t, p, StandbySite, point.ID); left < 15*tick {
				t.Errorf("request %d: locked for %v in the end", n, left)
			}
		})
	}
}

// One object that cannot be locked exposes the points that need it, and no
// others: these are extended.
func TestLockExposed(t *testing.T) {
	f := lockFixture(t)
	synctest.Test(t, func(t *testing.T) {
		f.config.Workloads[0].Retention.KeepLast = 10
		p := f.planner(t)
		f.catchUp(t, p)
		time.Sleep(tick)
		f.catchUp(t, p)
		first := points(t, p, StandbySite, "orders")[0]
		time.Sleep(tick / 2)
		// Somebody puts something on top of its manifest.
		store, err := p.repositoryStore(t.Context(), StandbySite)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := store.Put(t.Context(), "points/"+string(first.ID), provider.Bytes([]byte("rubbish")), provider.PutOptions{}); err != nil {
			t.Fatal(err)
		}
		known := time.Time{}
		for _, l := range lockings(t, p, StandbySite) {
			known = l.Until
		}
		for range 2 { // what was known of it is not forgotten the next time
			time.Sleep(tick)
			plan, err := p.Plan(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if _, err := p.Run(t.Context(), plan); err == nil || !strings.Contains(err.Error(), "extend locks at standby") {
				t.Fatalf("%v\n%v", err, plan)
			}
		}
		plan, err := p.Plan(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range plan.Locks {
			want := []EndangeredPoint(nil)
			if s.Site == StandbySite {
				want = []EndangeredPoint{{s.Endangered[0].Workload, first.ID, known}}
			}
			if !slices.Equal(s.Endangered, want) || time.Until(s.Until) < 14*tick {
				t.Errorf("%+v, want %v", s, want)
			}
		}
		all := points(t, p, StandbySite, "orders")
		if left := lockedFor(t, p, StandbySite, all[len(all)-2].ID); left < 14*tick {
			t.Errorf("another is locked for %v", left)
		}
	})
}

// While the records cannot be read, a process that serves extends by what it
// remembers, and a plan does not, as it would each time.
func TestLocksWithoutRecords(t *testing.T) {
	f := lockFixture(t)
	synctest.Test(t, func(t *testing.T) {
		f.catchUp(t, f.planner(t))
		f.stores["mem://c/"].Use(func(providertestCall) providertestFault { return providertestFault{Before: errAway} })
		p := f.planner(t)
		if plan, err := p.Plan(t.Context()); err != nil || len(actionsOf(plan, ActLock)) > 0 || len(plan.Locks) != 2 || !strings.Contains(plan.Locks[0].Error, "records") {
			t.Errorf("%v\n%v", err, plan)
		}
		f.serve(t, 4*tick+tick/2)
		n := 0
		for _, e := range f.eventsOf(EventLock) {
			if e.Err == nil && strings.Contains(e.Text, PrimarySite) {
				n++
			}
		}
		if n < 4 || n > 6 {
			t.Errorf("extended %d times in four and a half ticks", n)
		}
	})
}

// The lock of a site is its own, and off means off.
func TestLockPlan(t *testing.T) {
	f := lockFixture(t)
	f.config.Sites.Primary.Lock = nil
	f.config.Sites.Standby.Lock.Mode = provider.Compliance
	synctest.Test(t, func(t *testing.T) {
		p := f.planner(t)
		f.catchUp(t, p)
		for bucket, want := range map[string]provider.LockMode{"mem://a/": "", "mem://b/": provider.Compliance} {
			n := 0
			for info, err := range f.stores[bucket].List(t.Context(), repositoryPrefix+"data/", provider.ListOptions{}) {
				if err != nil {
					t.Fatal(err)
				}
				now, err := f.stores[bucket].Stat(t.Context(), info.Key)
				if n++; err != nil || now.Retain.Mode != want {
					t.Errorf("%s: %+v, %v", bucket, now, err)
				}
			}
			if n == 0 {
				t.Errorf("nothing at %s", bucket)
			}
		}
		time.Sleep(tick)
		if plan, _ := f.catchUp(t, p); !slices.Equal(actionsOf(plan, ActLock), []string{StandbySite}) || len(plan.Locks) != 1 {
			t.Errorf("%v", plan)
		}
		f.config.Sites.Standby.Lock.ExtendOff = true
		time.Sleep(30 * tick)
		if plan, err := f.planner(t).Plan(t.Context()); err != nil || len(actionsOf(plan, ActLock)) > 0 || len(plan.Locks) > 0 {
			t.Errorf("off: %v\n%v", err, plan)
		}
		f.config.Sites.Standby.Lock.ExtendOff = false
		plan, err := f.planner(t).Plan(t.Context())
		if err != nil || len(plan.Locks) != 1 || len(plan.Locks[0].Endangered) == 0 || !strings.Contains(plan.String(), "IN DANGER") {
			t.Errorf("after a day of nothing: %v\n%v", err, plan)
		}
	})
}

// noLocks hides what a store can do.
type noLocks struct{ provider.BlobStore }

func TestCheckLocks(t *testing.T) {
	f := lockFixture(t)
	if err := f.planner(t).Check(t.Context()); err != nil {
		t.Errorf("with locks: %v", err)
	}
	open := f.parts.Stores["mem"]
	f.parts.Stores = map[string]StoreOpener{"mem": func(ctx context.Context, s Site) (provider.BlobStore, error) {
		store, err := open(ctx, s)
		return noLocks{store}, err
	}}
	if err := f.planner(t).Check(t.Context()); err == nil || !strings.Contains(err.Error(), "sites.standby.lock: the store has no locks") {
		t.Errorf("without locks: %v", err)
	}
	// A bucket that locks by itself is found out.
	f = lockFixture(t)
	f.config.Sites.Standby.Lock = nil
	f.stores["mem://b/"] = providertest.NewFaulty(providertest.NewBucket(providertest.BucketOptions{DefaultKeep: time.Hour}), nil)
	synctest.Test(t, func(t *testing.T) {
		p := f.planner(t)
		f.catchUp(t, p)
		if err := p.Check(t.Context()); err == nil || !strings.Contains(err.Error(), "sites.standby.lock: is not set, but the bucket locks what is stored in it, until 2000-01-01T01:00:00Z") {
			t.Errorf("a bucket with a default: %v", err)
		}
		if time.Sleep(2 * time.Hour); strings.Contains(fmt.Sprint(p.Check(t.Context())), "sites.standby.lock") {
			t.Error("of locks that are over")
		}
	})
}

// A record that could not be kept makes the locks due again, and so does a run
// that was cancelled; both are told.
func TestLockRecords(t *testing.T) {
	f := lockFixture(t)
	synctest.Test(t, func(t *testing.T) {
		p := f.planner(t)
		f.catchUp(t, p)
		due := func() []string {
			t.Helper()
			plan, err := p.Plan(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			return actionsOf(plan, ActLock)
		}
		extend := func(ctx context.Context, site string) error {
			t.Helper()
			w, err := p.read(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			_, err = p.extendLocks(ctx, w, site)
			return err
		}
		both := []string{PrimarySite, StandbySite}
		f.stores["mem://c/"].Use(func(c providertestCall) providertestFault {
			if c.Op == "put" && strings.Contains(c.Key, kindLocking) {
				return providertestFault{Before: errAway}
			}
			return providertestFault{}
		})
		if err := extend(t.Context(), PrimarySite); err != nil || !slices.Equal(due(), both) {
			t.Errorf("%v; due %v", err, due())
		}
		if n := len(f.eventsOf(EventRecord)); n != 1 {
			t.Errorf("%d events of records", n)
		}
		f.stores["mem://c/"].Use(nil)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := extend(ctx, StandbySite); !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled: %v", err)
		}
		if all := lockings(t, p, StandbySite); len(all) != 1 || all[0].Error == "" || all[0].ended() {
			t.Errorf("cancelled: %+v", all)
		}
		if err := extend(t.Context(), PrimarySite); err != nil || len(due()) > 0 {
			t.Errorf("%v; due %v", err, due())
		}
		if time.Sleep(tick / 4); !slices.Equal(due(), []string{StandbySite}) {
			t.Errorf("due %v", due())
		}
	})
}

// What is known of the locks of a point follows from the records.
func TestLockedSince(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	l := &Lock{Keep: Duration(12 * time.Hour), Ahead: Duration(8 * time.Hour)}
	first, then, later := now.Add(-9*time.Hour), now.Add(-6*time.Hour), now.Add(-time.Hour)
	w := &world{now: now, active: PrimarySite, sites: map[string]siteState{}, locks: map[string][]Locking{}}
	for _, site := range []string{PrimarySite, StandbySite} {
		w.locks[site] = []Locking{
			{Began: first, Until: first.Add(16 * time.Hour)},
			{Began: then, Until: then.Add(16 * time.Hour), Exposed: map[backup.PointID]time.Time{"known": first.Add(16 * time.Hour), "unknown": {}}, Error: "x"},
			{Began: later, Error: "failed"},
		}
	}
	for _, c := range []struct {
		site   string
		id     backup.PointID
		stored time.Time
		want   time.Time
	}{
		{PrimarySite, "old", now.Add(-100 * time.Hour), then.Add(16 * time.Hour)},
		{PrimarySite, "known", now.Add(-100 * time.Hour), first.Add(16 * time.Hour)},
		{PrimarySite, "unknown", now.Add(-100 * time.Hour), time.Time{}},
		{PrimarySite, "meanwhile", then, then.Add(12 * time.Hour)},
		{PrimarySite, "new", now, now.Add(12 * time.Hour)},
		{StandbySite, "meanwhile", then, then.Add(12 * time.Hour)},
		{StandbySite, "new", now, then.Add(16 * time.Hour)}, // no longer than what it may share with others
		{WitnessSite, "old", first, time.Time{}},
	} {
		if got := w.locked(c.site, l, backup.Point{ID: c.id, Stored: c.stored}); !got.Equal(c.want) {
			t.Errorf("%s at %s: %v, want %v", c.id, c.site, got, c.want)
		}
		if c.site == PrimarySite {
			s := w.sites[PrimarySite]
			s.points = append(s.points, backup.Point{ID: c.id, Stored: c.stored})
			w.sites[PrimarySite] = s
		}
	}
	var order []string
	f := lockFixture(t)
	f.config.Sites.Primary.Lock = l
	for _, e := range f.planner(t).lockedPoints(w, PrimarySite) {
		order = append(order, string(e.Point))
	}
	if want := []string{"unknown", "meanwhile", "known", "old", "new"}; !slices.Equal(order, want) {
		t.Errorf("in the order %v, want %v", order, want)
	}
}

// A point whose locks were extended before it was to be forgotten stays until
// they are over: the store is asked when that is.
func TestLockHeld(t *testing.T) {
	f := lockFixture(t)
	f.config.Workloads[0].Retention.KeepLast = 6
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		for range 7 {
			f.catchUp(t, f.planner(t))
			time.Sleep(tick)
		}
		p := f.planner(t)
		first := points(t, p, PrimarySite, "orders")[0]
		forgotten := func() bool {
			t.Helper()
			plan, err := p.Plan(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			return slices.ContainsFunc(plan.Actions, func(a Action) bool { return a.Kind == ActForget && a.Point == first.ID })
		}
		time.Sleep(time.Until(began.Add(21 * tick))) // it had 20 when it was made
		left := lockedFor(t, p, PrimarySite, first.ID)
		if left < 3*tick || forgotten() {
			t.Errorf("planned to be forgotten, and locked for %v more", left)
		}
		asked := len(f.stores["mem://a/"].Calls())
		if forgotten() {
			t.Error("asked twice, forgotten the second time")
		}
		for _, c := range f.stores["mem://a/"].Calls()[asked:] {
			if c.Op == "stat" && strings.HasSuffix(c.Key, string(first.ID)) {
				t.Errorf("asked again: %+v", c)
			}
		}
		if time.Sleep(left + time.Second); !forgotten() {
			t.Error("not to be forgotten when its locks are over")
		}
	})
}

// What is to be forgotten gets no longer locks, or it could not be: not when
// the other site is away, either; and while the records cannot be read, a plan
// extends nothing.
func TestLockLeaving(t *testing.T) {
	f := lockFixture(t)
	synctest.Test(t, func(t *testing.T) {
		p := f.planner(t)
		for range 5 {
			f.catchUp(t, p)
			time.Sleep(tick)
		}
		all := points(t, p, PrimarySite, "orders")
		f.stores["mem://b/"].Use(func(providertestCall) providertestFault { return providertestFault{Before: errAway} })
		w, err := p.read(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if leaving := p.leaving(w, PrimarySite); len(all) != 5 || len(leaving) != 2 || !leaving[all[0].ID] || !leaving[all[1].ID] {
			t.Errorf("of %v: %v", all, leaving)
		}
		if err := p.act(t.Context(), nil, Action{Kind: ActLock, Site: PrimarySite}, &ActionResult{}); err != nil {
			t.Error(err)
		}
		if left := lockedFor(t, p, PrimarySite, all[0].ID); left > 16*tick {
			t.Errorf("to be forgotten, and locked for %v", left)
		}
		f.stores["mem://c/"].Use(func(providertestCall) providertestFault { return providertestFault{Before: errAway} })
		if err := p.act(t.Context(), nil, Action{Kind: ActLock, Site: PrimarySite}, &ActionResult{}); !errors.Is(err, errAway) {
			t.Errorf("without records: %v", err)
		}
	})
}
