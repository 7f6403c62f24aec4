package backup_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"filippo.io/age"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/providertest"
)

// small makes a repository of a few kilobytes with two points, and returns
// what each of them holds.
func small(t testing.TB) (*providertest.Memory, map[backup.PointID]map[string]file) {
	t.Helper()
	store := providertest.NewMemory()
	r := newRepo(t, store)
	one := treeOf(map[string]string{"a": "alpha", "b": strings.Repeat("beta ", 50)})
	two := treeOf(map[string]string{"a": "alpha", "c": "gamma"})
	return store, map[backup.PointID]map[string]file{
		mustBackup(t, r, "w", one, backup.Full).ID: one.files,
		mustBackup(t, r, "w", two, backup.Full).ID: two.files,
	}
}

// A manifest under another's key, as who can write to the store but has no
// keys might put it there, is no point.
func TestRenamedManifest(t *testing.T) {
	store, points := small(t)
	r := reopen(t, store)
	var ids []backup.PointID
	for id := range points {
		ids = append(ids, id)
	}
	b, _, err := provider.ReadAll(t.Context(), store, "points/"+string(ids[0]), 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	forged := ids[0][:len(ids[0])-4] + "0000"
	put(t, store, "points/"+string(forged), b)
	if _, err := r.Point(t.Context(), forged); !errors.Is(err, backup.ErrDamaged) {
		t.Errorf("point under another key: %v, want ErrDamaged", err)
	}
	for _, p := range collect(t, r.Points(t.Context(), "")) {
		if (p.Damaged != "") != (p.ID == forged) {
			t.Errorf("%s: damaged %q", p.ID, p.Damaged)
		}
	}
	if got := collect(t, r.Points(t.Context(), "w")); len(got) != len(points) {
		t.Errorf("%d points of w, want %d", len(got), len(points))
	}
}

// Without the format object and without any index, everything still
// restores, and Repair puts both back.
func TestRepairIndexAndFormat(t *testing.T) {
	store, points := small(t)
	for _, info := range collect(t, store.List(t.Context(), "", provider.ListOptions{})) {
		if info.Key == "format" || strings.HasPrefix(info.Key, "index/") {
			if err := store.Delete(t.Context(), info.Key, provider.DeleteOptions{}); err != nil {
				t.Fatal(err)
			}
		}
	}
	r := reopen(t, store)
	for id, want := range points {
		mustHold(t, r, id, want)
	}
	if _, err := backup.Init(t.Context(), config(store)); !errors.Is(err, backup.ErrExists) {
		t.Errorf("Init beside points without a format object: %v, want ErrExists", err)
	}
	rep, err := r.Repair(t.Context(), backup.RepairOptions{})
	if err != nil || !rep.Format || rep.Indexed == 0 {
		t.Fatalf("repair: %+v, %v", rep, err)
	}
	if rep, err := reopen(t, store).Check(t.Context(), backup.CheckOptions{ReadData: true}); err != nil || !rep.OK() {
		t.Errorf("check after repair: %+v, %v", rep, err)
	}
	if again, err := reopen(t, store).Repair(t.Context(), backup.RepairOptions{}); err != nil || again.Format || again.Indexed != 0 || again.Removed != nil {
		t.Errorf("a second repair found something to do: %+v, %v", again, err)
	}
}

// A lost pack harms points; the next backup stores its chunks again, with or
// without a Repair before, and the old points are whole again.
func TestLostPackHeals(t *testing.T) {
	for _, withRepair := range []bool{true, false} {
		t.Run(fmt.Sprint("repair ", withRepair), func(t *testing.T) { testLostPackHeals(t, withRepair) })
	}
}

func testLostPackHeals(t *testing.T, withRepair bool) {
	store := providertest.NewMemory()
	r := newRepo(t, store)
	target := treeOf(sample())
	first := mustBackup(t, r, "w", target, backup.Full)
	for _, info := range collect(t, store.List(t.Context(), "data/", provider.ListOptions{})) {
		if err := store.Delete(t.Context(), info.Key, provider.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	if rep, err := r.Check(t.Context(), backup.CheckOptions{}); err != nil || len(rep.Problems) == 0 || !slices.Equal(rep.Problems[0].Points, []backup.PointID{first.ID}) {
		t.Fatalf("check: %+v, %v; want the lost packs, each harming %s", rep, err, first.ID)
	}
	if withRepair {
		rep, err := r.Repair(t.Context(), backup.RepairOptions{})
		if err != nil || len(rep.Lost) == 0 || len(rep.Removed) == 0 {
			t.Fatalf("repair: %+v, %v", rep, err)
		}
	}
	second := mustBackup(t, r, "w", target, backup.Incremental) // finds that it cannot reuse, and reads
	for _, repo := range []*backup.Repository{r, reopen(t, store)} {
		mustHold(t, repo, first.ID, target.files)
		mustHold(t, repo, second.ID, target.files)
		if rep, err := repo.Check(t.Context(), backup.CheckOptions{ReadData: true}); err != nil || !rep.OK() {
			t.Errorf("check after healing: %+v, %v", rep, err)
		}
		for _, info := range collect(t, repo.Objects(t.Context(), "points/"+string(first.ID))) {
			if _, err := store.Stat(t.Context(), info.Key); err != nil {
				t.Errorf("needed object: %v", err)
			}
		}
	}
}

func TestWrongIdentity(t *testing.T) {
	store, _ := small(t)
	before := stored(t, store)
	other, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	for name, k := range map[string]backup.Keyring{
		"another": {Identities: backup.AgeIdentities(other)},
		"none":    {},
	} {
		c := config(store)
		c.Keyring = k
		_, err := backup.Open(t.Context(), c)
		if !errors.Is(err, backup.ErrNoIdentity) || !strings.Contains(fmt.Sprint(err), identity.Recipient().String()) {
			t.Errorf("%s: %v, want ErrNoIdentity naming %s", name, err, identity.Recipient())
		}
		if strings.Contains(fmt.Sprint(err), "AGE-SECRET-KEY") {
			t.Errorf("%s: the error tells a secret", name)
		}
	}
	if stored(t, store) != before {
		t.Error("something was written")
	}
	if _, err := backup.Open(t.Context(), config(providertest.NewMemory())); !errors.Is(err, backup.ErrNoRepository) {
		t.Errorf("open of an empty store: %v", err)
	}
}
