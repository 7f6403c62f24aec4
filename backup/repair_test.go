package backup_test

import (
	"cmp"
	"context"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/providertest"
)

// flipBit changes one bit of an object.
func flipBit(t testing.TB, s provider.BlobStore, key string, at int) {
	t.Helper()
	b, _, err := provider.ReadAll(t.Context(), s, key, 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	b = slices.Clone(b)
	b[(at+len(b))%len(b)] ^= 4
	put(t, s, key, b)
}

func mustRepair(t testing.TB, r *backup.Repository, o backup.RepairOptions) backup.RepairReport {
	t.Helper()
	rep, err := r.Repair(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return rep
}

// restorable tells which points restore to what was backed up.
func restorable(t testing.TB, store provider.BlobStore, points map[backup.PointID]map[string]file) map[backup.PointID]bool {
	t.Helper()
	r, err := backup.Open(t.Context(), plain(store))
	if err != nil {
		return nil
	}
	out := map[backup.PointID]bool{}
	for id, want := range points {
		var got tree
		err := r.Restore(t.Context(), id, &got, backup.Destination{}, backup.RestoreOptions{})
		whole := err == nil && len(got.restored) == len(want)
		for p, f := range want {
			whole = whole && got.restored[p] == f.content
		}
		out[id] = whole
	}
	return out
}

// Content and lists whose bits have flipped in packs of the right size: after
// a check and a repair, the next backup of the same content heals all points,
// in processes that were running before and in new ones, and a prune removes
// the damaged packs.
func TestFlippedPackHeals(t *testing.T) {
	for _, kind := range []string{"data/", "meta/"} {
		for _, at := range []int{3, 0, -1} { // the header, a frame, the trailer
			t.Run(fmt.Sprint(kind, at), func(t *testing.T) { testFlippedPackHeals(t, kind, at) })
		}
	}
}

func testFlippedPackHeals(t *testing.T, kind string, at int) {
	store := providertest.NewMemory()
	running, err := backup.Init(t.Context(), plain(store))
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for i := range 60 {
		files[fmt.Sprintf("f%02d", i)] = random(uint64(i), 3000)
	}
	target := treeOf(files)
	first := mustBackup(t, running, "w", target, backup.Full)
	flipped := keysOf(t, store, kind)
	for _, key := range flipped {
		info, err := store.Stat(t.Context(), key)
		if err != nil {
			t.Fatal(err)
		}
		flipBit(t, store, key, cmp.Or(at, int(info.Size/2)))
	}
	before := mustCheck(t, reopenWith(t, plain(store)), backup.CheckOptions{ReadData: true})
	if len(before.Problems) != len(flipped) {
		t.Fatalf("check: %s", before)
	}
	rep := mustRepair(t, reopenWith(t, plain(store)), backup.RepairOptions{})
	if lost := len(before.Damaged) > 0; lost != (len(rep.Marked) > 0) || len(rep.Unmended) == 0 {
		t.Fatalf("repair: %+v; the check said: %s", rep, before)
	}
	if again := mustRepair(t, reopenWith(t, plain(store)), backup.RepairOptions{}); len(again.Marked) > 0 || len(again.Removed) > 0 {
		t.Errorf("a second repair found something to do: %+v", again)
	}
	// Nobody else has a good copy: a prune must leave what is left.
	if rep, err := reopenWith(t, plain(store)).Prune(t.Context(), backup.PruneOptions{MinGarbage: 0.01}); err == nil && rep.Deleted.Packs > 0 {
		t.Errorf("a prune deleted what is damaged before there was a copy: %+v", rep)
	} else if err == nil && rep.Rewritten.Packs+rep.Spared.Packs > 0 {
		t.Errorf("a prune planned what it has to keep: %+v", rep)
	}
	second := mustBackup(t, running, "w", target, backup.Full)
	for _, r := range []*backup.Repository{running, reopenWith(t, plain(store))} {
		mustHold(t, r, first.ID, target.files)
		mustHold(t, r, second.ID, target.files)
	}
	if len(before.Damaged) == 0 {
		return // only the pack's copy of its directory: nothing had to be stored again
	}
	for range 2 {
		if _, err := reopenWith(t, plain(store)).Prune(t.Context(), backup.PruneOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	r := reopenWith(t, plain(store))
	mustHold(t, r, first.ID, target.files)
	if rep := mustCheck(t, r, backup.CheckOptions{ReadData: true}); !rep.OK() {
		t.Errorf("after a backup and a prune: %s", rep)
	}
}

// ruined is a repository with damage of every kind, and a replica of it.
func ruined(t *testing.T) (store, replica *providertest.Memory, points map[backup.PointID]map[string]file) {
	store = providertest.NewMemory()
	r, err := backup.Init(t.Context(), plain(store))
	if err != nil {
		t.Fatal(err)
	}
	points = map[backup.PointID]map[string]file{}
	var ids []backup.PointID
	of := map[backup.PointID]map[string]string{} // the newest object of each kind
	seen := map[string]bool{}
	for i := range 4 { // the last stays as it is
		target := treeOf(map[string]string{fmt.Sprint("f", i): random(uint64(i), 2000)})
		p := mustBackup(t, r, "w", target, backup.Full)
		points[p.ID], of[p.ID] = target.files, map[string]string{}
		ids = append(ids, p.ID)
		for _, key := range keysOf(t, store, "data/", "meta/", "index/") {
			if kind, _, _ := strings.Cut(key, "/"); !seen[key] {
				of[p.ID][kind], seen[key] = key, true
			}
		}
	}
	replica = copyStore(t, store)
	flipBit(t, store, "points/"+string(ids[0]), 2000)
	flipBit(t, store, of[ids[0]]["index"], 900)
	flipBit(t, store, of[ids[0]]["data"], 5000)
	flipBit(t, store, of[ids[0]]["meta"], 4620)
	if err := store.Delete(t.Context(), of[ids[1]]["data"], provider.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	short, _, err := provider.ReadAll(t.Context(), store, of[ids[2]]["data"], 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	put(t, store, of[ids[2]]["data"], short[:100])
	flipBit(t, store, of[ids[2]]["meta"], 4620)
	flipBit(t, store, "format", 40)
	return store, replica, points
}

// Everything that is damaged or missing is taken from a replica, and a damaged
// replica spoils nothing.
func TestRepairFromReplica(t *testing.T) {
	store, replica, points := ruined(t)
	want := copyStore(t, replica)
	rotten := copyStore(t, replica)
	for _, key := range keysOf(t, rotten, "data/", "meta/", "index/", "points/") {
		flipBit(t, rotten, key, 1000)
	}
	before := restorable(t, store, points)
	dry := mustRepair(t, reopenWith(t, plain(readOnly{store})), backup.RepairOptions{From: replica, ReadData: true, DryRun: true})
	bad := copyStore(t, store)
	rep := mustRepair(t, reopenWith(t, plain(bad)), backup.RepairOptions{From: rotten, ReadData: true})
	if len(rep.Mended) != 1 || rep.Mended[0].Key != "format" || len(rep.Unmended) < 4 {
		t.Errorf("from a rotten replica: %+v", rep)
	}
	for id, ok := range restorable(t, bad, points) {
		if before[id] && !ok {
			t.Errorf("%s was spoilt by a rotten replica", id)
		}
	}
	rep = mustRepair(t, reopenWith(t, plain(store)), backup.RepairOptions{From: replica, ReadData: true})
	if len(rep.Unmended) > 0 || len(rep.Mended) != 8 || !rep.Format || len(rep.Lost) > 0 {
		t.Errorf("repair: %+v", rep)
	}
	if !slices.Equal(dry.Mended, rep.Mended) {
		t.Errorf("a dry run said %+v, and then it was %+v", dry.Mended, rep.Mended)
	}
	for _, key := range keysOf(t, want, "") {
		a, _, _ := provider.ReadAll(t.Context(), want, key, 1<<20)
		if b, _, err := provider.ReadAll(t.Context(), store, key, 1<<20); err != nil || string(a) != string(b) {
			t.Errorf("%s is not what it was: %v", key, err)
		}
	}
	if rep := mustCheck(t, reopenWith(t, plain(store)), backup.CheckOptions{ReadData: true}); !rep.OK() {
		t.Errorf("check: %s", rep)
	}
}

// A mark is taken back when the pack has become right.
func TestUnmark(t *testing.T) {
	store, points := providertest.NewMemory(), map[backup.PointID]map[string]file{}
	r, err := backup.Init(t.Context(), plain(store))
	if err != nil {
		t.Fatal(err)
	}
	target := treeOf(map[string]string{"a": random(1, 5000)})
	points[mustBackup(t, r, "w", target, backup.Full).ID] = target.files
	replica := copyStore(t, store)
	flipBit(t, store, keysOf(t, store, "data/")[0], 6000)
	if rep := mustRepair(t, reopenWith(t, plain(store)), backup.RepairOptions{ReadData: true}); len(rep.Marked) != 1 {
		t.Fatalf("repair: %+v", rep)
	}
	rep := mustRepair(t, reopenWith(t, plain(store)), backup.RepairOptions{From: replica}) // reads it because of its mark
	if len(rep.Mended) != 1 || len(rep.Removed) != 1 {
		t.Fatalf("repair from a replica: %+v", rep)
	}
	if p := mustBackup(t, reopenWith(t, plain(store)), "w", target, backup.Full); p.Stats.BytesNew > 0 {
		t.Errorf("%d bytes were stored again though the pack is right", p.Stats.BytesNew)
	}
	for id, ok := range restorable(t, store, points) {
		if !ok {
			t.Errorf("%s does not restore", id)
		}
	}
}

// frozen lets new objects be created, and nothing be replaced or deleted.
type frozen struct{ provider.BlobStore }

func (s frozen) Put(ctx context.Context, key string, b provider.Body, o provider.PutOptions) (provider.Info, error) {
	if !o.IfAbsent {
		return provider.Info{}, fs.ErrPermission
	}
	return s.BlobStore.Put(ctx, key, b, o)
}

func (frozen) Delete(context.Context, string, provider.DeleteOptions) error {
	return provider.ErrLocked
}

// In a store that replaces nothing, the report says of each object what could
// not be done, and what can be created is.
func TestRepairFrozen(t *testing.T) {
	store, replica, points := ruined(t)
	before := restorable(t, store, points)
	rep := mustRepair(t, reopenWith(t, plain(frozen{store})), backup.RepairOptions{From: replica, ReadData: true})
	told := map[string]bool{}
	for _, u := range rep.Unmended {
		told[strings.SplitN(u.Key, "/", 2)[0]] = told[u.Key] || strings.Contains(u.Text, "does not let it be")
	}
	for _, kind := range []string{"format", "points", "index", "data"} {
		if _, ok := told[kind]; !ok {
			t.Errorf("nothing is said of %s: %+v", kind, rep.Unmended)
		}
	}
	if len(rep.Mended) != 1 || len(rep.Lost) != 1 || len(rep.Marked) != 1 { // the pack that was missing
		t.Errorf("%+v", rep)
	}
	for id, ok := range restorable(t, store, points) {
		if before[id] && !ok {
			t.Errorf("%s does not restore any more", id)
		}
	}
}

// Repair is killed at every request, before and after its effect, and each
// reply is lost once: whatever restored before restores after, nothing that
// can be read is removed, and the next repair mends all.
func TestRepairCrash(t *testing.T) {
	ruin, replica, points := ruined(t)
	before := restorable(t, ruin, points)
	repair := func(store *providertest.Memory, script providertest.Script, from provider.BlobStore) (int, error) {
		f := providertest.NewFaulty(store, script)
		r, err := backup.Open(t.Context(), plain(f))
		if err == nil {
			_, err = r.Repair(t.Context(), backup.RepairOptions{From: from, ReadData: true})
		}
		return len(f.Calls()), err
	}
	for name, from := range map[string]provider.BlobStore{"replica": replica, "alone": nil} {
		f := copyStore(t, ruin)
		calls, err := repair(f, nil, from)
		if err != nil {
			t.Fatal(err)
		}
		step := 1
		if !long() {
			step = 4
		}
		for n := 1; n <= calls; n += step {
			for what, script := range map[string]providertest.Script{
				"crash before": providertest.CrashBefore(n), "crash after": providertest.CrashAfter(n),
				"reply lost": func(c providertest.Call) providertest.Fault {
					if c.N == n {
						return providertest.Fault{After: providertest.ErrInjected}
					}
					return providertest.Fault{}
				},
			} {
				store := copyStore(t, ruin)
				repair(store, script, from) // as far as it comes
				after := restorable(t, store, points)
				for id, ok := range before {
					if ok && !after[id] {
						t.Fatalf("%s: %s request %d: %s does not restore any more", name, what, n, id)
					}
				}
				if _, err := repair(store, nil, replica); err != nil {
					t.Fatalf("%s: %s request %d: the next repair: %v", name, what, n, err)
				}
				for id, ok := range restorable(t, store, points) {
					if !ok {
						t.Fatalf("%s: %s request %d: the next repair does not mend %s", name, what, n, id)
					}
				}
			}
		}
	}
}

// forgetful deletes a manifest just before it is replaced, as somebody may who
// forgets the point.
type forgetful struct{ provider.BlobStore }

func (s forgetful) Put(ctx context.Context, key string, b provider.Body, o provider.PutOptions) (provider.Info, error) {
	if strings.HasPrefix(key, "points/") {
		if err := s.BlobStore.Delete(ctx, key, provider.DeleteOptions{}); err != nil {
			return provider.Info{}, err
		}
	}
	return s.BlobStore.Put(ctx, key, b, o)
}

// What is deleted while it is being repaired stays deleted.
func TestRepairForgotten(t *testing.T) {
	store, replica, points := ruined(t)
	rep := mustRepair(t, reopenWith(t, plain(forgetful{store})), backup.RepairOptions{From: replica})
	if got := keysOf(t, store, "points/"); len(got) != len(points)-1 {
		t.Errorf("points %v after one was forgotten meanwhile: %+v", got, rep)
	}
}

// Marks outlive the indexes that a prune makes of many small ones.
func TestMarksConsolidated(t *testing.T) {
	store := providertest.NewMemory()
	r, err := backup.Init(t.Context(), plain(store))
	if err != nil {
		t.Fatal(err)
	}
	all := &tree{files: map[string]file{}}
	for i := range 18 {
		one := treeOf(map[string]string{fmt.Sprint(i): random(uint64(i), 2000)})
		all.files[fmt.Sprint(i)] = one.files[fmt.Sprint(i)]
		mustBackup(t, r, "w", one, backup.Full)
	}
	flipped := keysOf(t, store, "data/")[:8]
	for _, key := range flipped {
		flipBit(t, store, key, 5200)
	}
	if rep := mustRepair(t, reopenWith(t, plain(store)), backup.RepairOptions{ReadData: true}); len(rep.Marked) != len(flipped) {
		t.Fatalf("repair: %+v", rep)
	}
	if rep, err := reopenWith(t, plain(store)).Prune(t.Context(), backup.PruneOptions{}); err != nil || rep.Indexes == 0 {
		t.Fatalf("indexes were not consolidated: %+v, %v", rep, err)
	}
	p := mustBackup(t, reopenWith(t, plain(store)), "w", all, backup.Full)
	mustHold(t, reopenWith(t, plain(store)), p.ID, all.files)
}
