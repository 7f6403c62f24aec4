package backup_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/provider/providertest"
)

// metaPackOf is the pack of the list of items that a point has stored.
func metaPackOf(t testing.TB, r *backup.Repository, id backup.PointID, but ...string) string {
	t.Helper()
	for _, info := range collect(t, r.Objects(t.Context(), "points/"+string(id))) {
		if strings.HasPrefix(info.Key, "meta/") && !slices.Contains(but, info.Key) {
			return info.Key
		}
	}
	t.Fatal("the point has no list of its own")
	return ""
}

// manyItems is a tree whose list has several pages.
func manyItems(seed int) *tree {
	files := map[string]string{}
	for i := range 8000 {
		files[fmt.Sprintf("directory-with-a-name-%d/file-%06d", seed, i)] = ""
	}
	for i := range 40 {
		files[fmt.Sprintf("directory-with-a-name-%d/file-%06d", seed, i*100)] = random(uint64(seed*1000+i), 5000)
	}
	return treeOf(files)
}

// A point with a damaged list stops a prune, unless it is named; then all that
// can be read of it stays, and so does every other point. A point that shares
// the damage and is not named still stops it, in whatever order they come.
func TestPruneMayLose(t *testing.T) {
	store := providertest.NewMemory()
	r, err := backup.Init(t.Context(), plain(store))
	if err != nil {
		t.Fatal(err)
	}
	sound, damaged, garbage := manyItems(1), manyItems(2), manyItems(3)
	kept := mustBackup(t, r, "w", sound, backup.Full)
	hurt := mustBackup(t, r, "w", damaged, backup.Full)
	twin := mustBackup(t, r, "w", damaged, backup.Full) // with the same list
	gone := mustBackup(t, r, "w", garbage, backup.Full)
	if err := r.Forget(t.Context(), gone.ID); err != nil {
		t.Fatal(err)
	}
	list := metaPackOf(t, r, hurt.ID)
	info, err := store.Stat(t.Context(), list)
	if err != nil {
		t.Fatal(err)
	}
	r = reopenWith(t, plain(store))
	var before backup.CheckReport
	for at := 1000; ; at += 200 { // until it is a page of the list, and not its root
		if int64(at) >= info.Size {
			t.Fatalf("no byte of %d is in a page that is a part of the list: %s", info.Size, before)
		}
		flip(t, store, list, at)
		before = mustCheck(t, r, backup.CheckOptions{ReadData: true})
		if len(before.Damaged) == 2 && before.Damaged[0].Items > 0 && before.Damaged[0].Items < int64(len(damaged.files)) {
			break
		}
		flip(t, store, list, at)
	}
	packs := len(keysOf(t, store, "data/", "meta/"))
	for _, mayLose := range [][]backup.PointID{nil, {hurt.ID}, {twin.ID}, {kept.ID}, {hurt.ID, kept.ID}} {
		for _, dry := range []bool{true, false} {
			_, err := r.Prune(t.Context(), backup.PruneOptions{MinGarbage: 0.01, MayLose: mayLose, DryRun: dry})
			if !errors.Is(err, backup.ErrDamaged) || !strings.Contains(err.Error(), "PruneOptions.MayLose") {
				t.Errorf("may lose %v: %v", mayLose, err)
			}
		}
	}
	if n := len(keysOf(t, store, "data/", "meta/")); n != packs {
		t.Errorf("%d of %d packs are left", n, packs)
	}
	if _, err := r.Prune(t.Context(), backup.PruneOptions{MayLose: []backup.PointID{"x"}}); err == nil || !strings.Contains(err.Error(), "field MayLose") {
		t.Errorf("an id that is none: %v", err)
	}
	for range 2 {
		rep := mustPrune(t, r, backup.PruneOptions{MinGarbage: 0.01, MayLose: []backup.PointID{twin.ID, hurt.ID}})
		if !slices.Equal(rep.Lossy, []backup.PointID{hurt.ID, twin.ID}) || rep.Points != 3 {
			t.Errorf("prune: %+v", rep)
		}
	}
	if n := len(keysOf(t, store, "data/", "meta/")); n >= packs {
		t.Errorf("%d of %d packs are left", n, packs)
	}
	r = reopenWith(t, plain(store))
	mustHold(t, r, kept.ID, sound.files)
	after := mustCheck(t, r, backup.CheckOptions{ReadData: true})
	if len(after.Damaged) != 2 || after.Damaged[0].Items != before.Damaged[0].Items || after.Damaged[1].Items != before.Damaged[1].Items {
		t.Errorf("before %s\nafter %s", before, after)
	}
	// A manifest that cannot be read is another matter.
	flip(t, store, "points/"+string(hurt.ID), -1)
	if _, err := r.Prune(t.Context(), backup.PruneOptions{MayLose: []backup.PointID{hurt.ID, twin.ID}}); !errors.Is(err, backup.ErrDamaged) {
		t.Errorf("with a damaged manifest: %v", err)
	}
}

// What a prune leaves that was killed while it deleted is reported, and removed
// when somebody says that it is gone.
func TestPruneGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, r := manyPoints(t, 2)
		ids := collect(t, r.Points(t.Context(), ""))
		if err := r.Forget(t.Context(), ids[0].ID); err != nil {
			t.Fatal(err)
		}
		f := providertest.NewFaulty(store, func(c providertest.Call) providertest.Fault {
			return providertest.Fault{Crash: c.Op == "delete" && strings.HasPrefix(c.Key, "data/")}
		})
		if _, err := reopenWith(t, plain(f)).Prune(t.Context(), backup.PruneOptions{MinGarbage: 1}); err == nil {
			t.Fatal("a killed prune succeeded")
		}
		time.Sleep(time.Hour)
		rep := mustPrune(t, r, backup.PruneOptions{MinGarbage: 1})
		if len(rep.Interrupted) != 1 || rep.Deleted.Packs == 0 {
			t.Fatalf("prune: %+v", rep)
		}
		check := mustCheck(t, r, backup.CheckOptions{ReadData: true})
		if !check.OK() || !slices.Equal(check.Interrupted, rep.Interrupted) || !strings.Contains(check.String(), rep.Interrupted[0]+": a prune is deleting packs, or was killed") {
			t.Errorf("check: %s", check)
		}
		key := rep.Interrupted[0]
		plan, _, _ := strings.Cut(key, ".deleting-")
		for _, bad := range []string{"", plan, plan + ".closed", plan + ".deleting-", key + "0", key[:len(key)-1] + "X", "points/" + string(ids[1].ID), "x" + key} {
			if _, err := r.Prune(t.Context(), backup.PruneOptions{Gone: []string{bad}}); err == nil || !strings.Contains(err.Error(), "field Gone") {
				t.Errorf("%q: %v", bad, err)
			}
		}
		if _, err := r.Prune(t.Context(), backup.PruneOptions{Gone: []string{key}, DryRun: true}); err != nil {
			t.Error(err)
		}
		if _, err := store.Stat(t.Context(), key); err != nil {
			t.Errorf("a dry run removed it: %v", err)
		}
		rep = mustPrune(t, r, backup.PruneOptions{Gone: []string{key}})
		if left := keysOf(t, store, "condemned/"); len(left) > 0 || len(rep.Interrupted) > 0 {
			t.Errorf("left are %v: %+v", left, rep)
		}
		if check := mustCheck(t, r, backup.CheckOptions{ReadData: true}); !check.OK() || check.Whole != 1 {
			t.Errorf("check: %s", check)
		}
		mustPrune(t, r, backup.PruneOptions{Gone: []string{key}}) // again
	})
}
