package backup_test

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/providertest"
)

func mustPrune(t testing.TB, r *backup.Repository, o backup.PruneOptions) backup.PruneReport {
	t.Helper()
	rep, err := r.Prune(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return rep
}

// history is a repository with points of a data set that changes between
// them, in scattered places.
type history struct {
	store *providertest.Memory
	c     backup.Config
	ids   []backup.PointID
	want  []map[string]file
}

func newHistory(t testing.TB, points, files, size int) *history {
	h := &history{store: providertest.NewMemory()}
	h.c = config(h.store)
	h.c.PackSize = 1 << 20
	r, err := backup.Init(t.Context(), h.c)
	if err != nil {
		t.Fatal(err)
	}
	target := &tree{files: map[string]file{}}
	for i := range files {
		target.files[fmt.Sprintf("f%03d", i)] = file{content: random(uint64(i), size)}
	}
	for n := range points {
		for i := range files {
			if n > 0 && (i*7+n*3)%5 == 0 {
				target.files[fmt.Sprintf("f%03d", i)] = file{content: random(uint64(1000*n+i), size), version: n}
			}
		}
		h.ids = append(h.ids, mustBackup(t, r, "w", target, backup.Incremental).ID)
		h.want = append(h.want, maps.Clone(target.files))
	}
	return h
}

// fresh is the size of a new repository of some of the points.
func (h *history) fresh(t testing.TB, points ...int) int64 {
	store := providertest.NewMemory()
	c := config(store)
	c.PackSize = 1 << 20
	r, err := backup.Init(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range points {
		mustBackup(t, r, "w", &tree{files: h.want[n]}, backup.Incremental)
	}
	return stored(t, store)
}

// whole checks that the given points, and no others, are there and whole.
func (h *history) whole(t testing.TB, points ...int) {
	t.Helper()
	r := reopenWith(t, h.c)
	var want, got []backup.PointID
	for _, n := range points {
		want = append(want, h.ids[n])
		mustHold(t, r, h.ids[n], h.want[n])
	}
	for _, p := range collect(t, r.Points(t.Context(), "")) {
		got = append(got, p.ID)
	}
	slices.Sort(got)
	if slices.Sort(want); !slices.Equal(got, want) {
		t.Errorf("points %v, want %v", got, want)
	}
	if rep, err := r.Check(t.Context(), backup.CheckOptions{ReadData: true}); err != nil || !rep.OK() {
		t.Errorf("check: %+v, %v", rep, err)
	}
}

// After forgetting 8 of 11 points the store is at most 45 % larger than a new
// repository of the other 3: garbage of up to 30 % of each pack is left.
func TestPruneFreesSpace(t *testing.T) {
	h := newHistory(t, 11, 120, 40_000)
	kept := []int{2, 6, 10}
	r := reopenWith(t, h.c)
	for n, id := range h.ids {
		if !slices.Contains(kept, n) {
			if err := r.Forget(t.Context(), id); err != nil {
				t.Fatal(err)
			}
		}
	}
	before := stored(t, h.store)
	dry := mustPrune(t, r, backup.PruneOptions{DryRun: true})
	if stored(t, h.store) != before || dry.Deleted.Packs == 0 || dry.Rewritten.Packs == 0 {
		t.Errorf("dry run: %+v", dry)
	}
	rep := mustPrune(t, r, backup.PruneOptions{})
	after, want := stored(t, h.store), h.fresh(t, kept...)
	t.Logf("%d bytes before, %d after, %d in a new repository: %+v", before, after, want, rep)
	if after > want*145/100 {
		t.Errorf("%d bytes are left, a new repository has %d", after, want)
	}
	if rep.Deleted.Packs != dry.Deleted.Packs+dry.Rewritten.Packs || rep.Rewritten != dry.Rewritten || rep.Points != 3 {
		t.Errorf("dry run %+v, then %+v", dry, rep)
	}
	h.whole(t, kept...)
	tight := mustPrune(t, r, backup.PruneOptions{MinGarbage: 0.01})
	if after := stored(t, h.store); after > want*110/100 {
		t.Errorf("MinGarbage 0.01 leaves %d bytes, a new repository has %d: %+v", after, want, tight)
	}
	h.whole(t, kept...)
	if again := mustPrune(t, r, backup.PruneOptions{}); again.Deleted.Packs > 0 || again.Pending.Packs > 0 {
		t.Errorf("nothing was left to do, but: %+v", again)
	}
	for _, prefix := range []string{"condemned/", "sessions/"} {
		if left := collect(t, h.store.List(t.Context(), prefix, provider.ListOptions{})); len(left) > 0 {
			t.Errorf("left over: %v", left)
		}
	}
}

// What a running backup may rely on is not deleted before it has ended, or
// was declared dead; then it cannot commit.
func TestPruneWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHistory(t, 1, 10, 100_000)
		r := reopenWith(t, h.c)
		var first, second, third backup.PruneReport
		target := &tree{files: h.want[0]}
		target.during = func(p string) error {
			if p != "f005" {
				return nil
			}
			if err := r.Forget(t.Context(), h.ids[0]); err != nil {
				t.Error(err)
			}
			first = mustPrune(t, r, backup.PruneOptions{})
			return nil
		}
		// It relies on packs that are garbage when the prune runs.
		p, err := reopenWith(t, h.c).Backup(t.Context(), "w", target, backup.BackupOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if first.Pending.Packs == 0 || first.Deleted.Packs > 0 || len(first.Waiting) != 1 || first.Waiting[0].ID != p.ID {
			t.Errorf("beside a backup: %+v", first)
		}
		second = mustPrune(t, r, backup.PruneOptions{})
		if second.Spared.Packs == 0 || len(second.Waiting) > 0 {
			t.Errorf("after it: %+v", second)
		}
		mustHold(t, reopenWith(t, h.c), p.ID, h.want[0])

		// A writer that wakes up after its session was given up.
		if err := r.Forget(t.Context(), p.ID); err != nil {
			t.Fatal(err)
		}
		target.during = func(p string) error {
			if p == "f005" {
				mustPrune(t, r, backup.PruneOptions{})
				time.Sleep(8 * 24 * time.Hour)
				third = mustPrune(t, r, backup.PruneOptions{})
			}
			return nil
		}
		if _, err := reopenWith(t, h.c).Backup(t.Context(), "w", target, backup.BackupOptions{}); !errors.Is(err, backup.ErrFenced) {
			t.Errorf("after a week: %v, want ErrFenced", err)
		}
		if len(third.Fenced) != 1 || third.Deleted.Packs == 0 {
			t.Errorf("after a week: %+v", third)
		}
		// The tombstone is no point for anybody, and stays.
		if got := collect(t, r.Points(t.Context(), "")); len(got) > 0 {
			t.Errorf("points: %v", got)
		}
		if got := collect(t, r.Manifests(t.Context())); len(got) > 0 {
			t.Errorf("manifests: %v", got)
		}
		if err := r.Forget(t.Context(), third.Fenced[0]); err != nil {
			t.Error(err)
		}
		if got := collect(t, h.store.List(t.Context(), "points/", provider.ListOptions{})); len(got) != 1 {
			t.Errorf("a tombstone was removed: %v", got)
		}
		if rep, err := r.Check(t.Context(), backup.CheckOptions{ReadData: true}); err != nil || !rep.OK() {
			t.Errorf("check: %+v, %v", rep, err)
		}
	})
}

// Garbage under retention is reported and deleted when it has ended.
func TestPruneLocked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHistory(t, 1, 10, 100_000)
		until := time.Now().Add(30 * 24 * time.Hour).UTC()
		for _, info := range collect(t, h.store.List(t.Context(), "", provider.ListOptions{})) {
			if !strings.HasPrefix(info.Key, "points/") {
				if err := h.store.Lock(t.Context(), info.Key, provider.Retention{Mode: provider.Compliance, Until: until}); err != nil {
					t.Fatal(err)
				}
			}
		}
		r := reopenWith(t, h.c)
		if err := r.Forget(t.Context(), h.ids[0]); err != nil {
			t.Fatal(err)
		}
		rep := mustPrune(t, r, backup.PruneOptions{})
		if len(rep.Locked) < 2 || rep.Locked[0].Until != until || rep.Deleted.Packs > 0 {
			t.Errorf("%+v", rep)
		}
		time.Sleep(31 * 24 * time.Hour)
		if rep := mustPrune(t, r, backup.PruneOptions{}); rep.Deleted.Packs < 2 || len(rep.Locked) > 0 {
			t.Errorf("after the retention: %+v", rep)
		}
	})
}

// Of a pack whose retention cannot be read nobody knows that it may go. It
// stays, is reported, and keeps nothing else from being pruned.
func TestPruneUnreadableRetention(t *testing.T) {
	h := newHistory(t, 1, 10, 100_000)
	if err := reopenWith(t, h.c).Forget(t.Context(), h.ids[0]); err != nil {
		t.Fatal(err)
	}
	var damaged string
	h.c.Store = providertest.NewFaulty(h.store, func(c providertest.Call) providertest.Fault {
		if c.Op != "stat" || !strings.HasPrefix(c.Key, "data/") || damaged != "" && c.Key != damaged {
			return providertest.Fault{}
		}
		damaged = c.Key
		return providertest.Fault{Before: &provider.Error{Op: "stat", Provider: "test", Key: c.Key, Err: provider.ErrCorrupt}}
	})
	rep := mustPrune(t, reopenWith(t, h.c), backup.PruneOptions{})
	if len(rep.Locked) != 1 || rep.Locked[0].Key != damaged || !rep.Locked[0].Until.IsZero() || rep.Deleted.Packs == 0 {
		t.Errorf("%q is unreadable: %+v", damaged, rep)
	}
	if _, err := h.store.Stat(t.Context(), damaged); err != nil {
		t.Errorf("it is gone: %v", err)
	}
}

// A prune is killed at every request, before and after the request has its
// effect. Points stay whole, and the next prune brings it to the same end.
func TestPruneCrashAtEveryRequest(t *testing.T) {
	h := newHistory(t, 4, 30, 15_000)
	r := reopenWith(t, h.c)
	for _, n := range []int{0, 2} {
		if err := r.Forget(t.Context(), h.ids[n]); err != nil {
			t.Fatal(err)
		}
	}
	base := h.store
	opening := 0 // requests before the prune
	run := func(script providertest.Script) (int, error) {
		h.store = copyStore(t, base)
		f := providertest.NewFaulty(h.store, script)
		h.c.Store = f
		r := reopenWith(t, h.c)
		opening = len(f.Calls())
		_, err := r.Prune(t.Context(), backup.PruneOptions{MinGarbage: 0.05})
		h.c.Store = h.store
		return len(f.Calls()), err
	}
	calls, err := run(nil)
	if err != nil || calls < 30 {
		t.Fatalf("undisturbed: %v after %d requests", err, calls)
	}
	packs := func() (n int) {
		for _, prefix := range []string{"data/", "meta/"} {
			n += len(collect(t, h.store.List(t.Context(), prefix, provider.ListOptions{})))
		}
		return n
	}
	want := packs()
	step := every
	if testing.Short() {
		step = 7
	}
	for n := opening + 1; n <= calls; n += step {
		lost := func(c providertest.Call) (f providertest.Fault) {
			if c.N == n {
				f.After = providertest.ErrInjected
			}
			return f
		}
		for name, script := range map[string]providertest.Script{"before": providertest.CrashBefore(n), "after": providertest.CrashAfter(n), "lost reply": lost} {
			run(script)
			h.whole(t, 1, 3)
			mustPrune(t, reopenWith(t, h.c), backup.PruneOptions{MinGarbage: 0.05})
			h.whole(t, 1, 3)
			if got := packs(); got > want+1 {
				t.Errorf("%d packs are left, %d without a crash", got, want)
			}
			if t.Failed() {
				t.Fatalf("%s at request %d of %d", name, n, calls)
			}
		}
	}
	t.Logf("%d requests", calls)
}

// A point that is kept restores while prunes move its chunks away.
func TestRestoreBesidePrune(t *testing.T) {
	h := newHistory(t, 6, 40, 100_000)
	r := reopenWith(t, h.c)
	v, err := r.View(t.Context(), h.ids[1]) // has loaded the indexes as they are
	if err != nil {
		t.Fatal(err)
	}
	for n, id := range h.ids {
		if n == 1 {
			continue
		}
		if err := r.Forget(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
	var got tree
	got.during = func(p string) error {
		if p == "f010" {
			rep := mustPrune(t, reopenWith(t, h.c), backup.PruneOptions{MinGarbage: 0.01})
			if rep.Rewritten.Packs == 0 || rep.Deleted.Packs < rep.Rewritten.Packs {
				t.Errorf("%+v", rep)
			}
		}
		return nil
	}
	if err := got.Restore(t.Context(), v, backup.Destination{}); err != nil {
		t.Fatal(err)
	}
	for p, f := range h.want[1] {
		if got.restored[p] != f.content {
			t.Errorf("%s differs", p)
		}
	}
	h.whole(t, 1)
}
