package backup_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/providertest"
)

// chain makes points by one writer, each from a process of its own.
func chain(t *testing.T, store provider.BlobStore, n int) (ids []backup.PointID) {
	t.Helper()
	newRepo(t, store)
	for i := range n {
		p := mustBackup(t, reopen(t, store), "tree", treeOf(map[string]string{"a": fmt.Sprint(i)}), backup.Full)
		ids = append(ids, p.ID)
	}
	return ids
}

func omitted(t *testing.T, store provider.BlobStore) string {
	t.Helper()
	report, err := reopen(t, store).Check(t.Context(), backup.CheckOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if len(report.Problems) > 0 {
		t.Fatalf("problems: %+v", report.Problems)
	}
	if report.OK() != (len(report.Omitted) == 0) {
		t.Errorf("OK is %v with %d omissions", report.OK(), len(report.Omitted))
	}
	return fmt.Sprint(report.Omitted)
}

// TestR11OmissionShows: a point that vanishes is missed, by its writer's next
// one; one that was forgotten is not.
func TestR11OmissionShows(t *testing.T) {
	store := providertest.NewMemory()
	ids := chain(t, store, 4)
	if got := omitted(t, store); got != "[]" {
		t.Fatalf("nothing happened, and omitted are %s", got)
	}
	forgetting := copyStore(t, store)
	for _, id := range []backup.PointID{ids[0], ids[2]} {
		if err := reopen(t, forgetting).Forget(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
	if got := omitted(t, forgetting); got != "[]" {
		t.Errorf("points were forgotten, and omitted are %s", got)
	}
	for _, id := range ids[:3] {
		hiding := copyStore(t, store)
		if err := hiding.Delete(t.Context(), "points/"+string(id), provider.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		if got := omitted(t, hiding); !strings.Contains(got, string(id)) || strings.Count(got, "20") != 1 && strings.Count(got, " is ") != 1 {
			t.Errorf("%s vanished, and omitted are %s", id, got)
		}
		report, err := reopen(t, hiding).Check(t.Context(), backup.CheckOptions{Replica: true})
		if err != nil || !report.OK() {
			t.Errorf("as a replica of some points: %+v, %v", report, err)
		}
	}
	// The record of another point is none.
	hiding := copyStore(t, store)
	if err := reopen(t, hiding).Forget(t.Context(), ids[0]); err != nil {
		t.Fatal(err)
	}
	record, _, err := provider.ReadAll(t.Context(), hiding, "forgotten/"+string(ids[0]), 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	put(t, hiding, "forgotten/"+string(ids[1]), record)
	if err := hiding.Delete(t.Context(), "points/"+string(ids[1]), provider.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	report, err := reopen(t, hiding).Check(t.Context(), backup.CheckOptions{})
	if err != nil || len(report.Omitted) != 1 || report.Omitted[0].ID != ids[1] {
		t.Errorf("the record of another point excuses it: omitted are %v, %v", report.Omitted, err)
	}
	if len(report.Problems) != 1 || report.Problems[0].Key != "forgotten/"+string(ids[1]) {
		t.Errorf("problems: %+v, want the record", report.Problems)
	}
}

// TestR11Replaced: a point in the place of another shows, though both are by
// the same writer.
func TestR11Replaced(t *testing.T) {
	store := providertest.NewMemory()
	ids := chain(t, store, 3)
	checkpoint, err := reopen(t, store).Checkpoint(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	// A copy of the repository from before the last point goes another way.
	other := copyStore(t, store)
	if err := other.Delete(t.Context(), "points/"+string(ids[2]), provider.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	mustBackup(t, reopen(t, other), "tree", treeOf(map[string]string{"a": "other"}), backup.Full)
	got, err := reopen(t, other).VerifyCheckpoint(t.Context(), checkpoint)
	if err != nil || len(got) != 1 || got[0].ID != ids[2] {
		t.Errorf("omitted %v, %v; want %s", got, err, ids[2])
	}
}

// TestR11Checkpoint: it shows the loss of the latest points, and of all.
func TestR11Checkpoint(t *testing.T) {
	store := providertest.NewMemory()
	ids := chain(t, store, 3)
	repo := reopen(t, store)
	checkpoint, err := repo.Checkpoint(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	mustBackup(t, repo, "tree", treeOf(map[string]string{"a": "later"}), backup.Full)
	if got, err := repo.VerifyCheckpoint(t.Context(), checkpoint); err != nil || len(got) > 0 {
		t.Errorf("%v, %v; want no omission", got, err)
	}
	if err := repo.Forget(t.Context(), ids[0]); err != nil {
		t.Fatal(err)
	}
	if got, err := repo.VerifyCheckpoint(t.Context(), checkpoint); err != nil || len(got) > 0 {
		t.Errorf("after forgetting: %v, %v; want no omission", got, err)
	}
	for _, id := range ids[1:] {
		if err := store.Delete(t.Context(), "points/"+string(id), provider.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	got, err := repo.VerifyCheckpoint(t.Context(), checkpoint)
	if err != nil || len(got) != 2 || got[0].ID != ids[1] || got[1].ID != ids[2] {
		t.Errorf("omitted %v, %v; want %v", got, err, ids[1:])
	}
	for i := range len(checkpoint) - 4 { // the last character of base64 has bits that mean nothing
		bad := bytes.Clone(checkpoint)
		bad[i] ^= 1
		if _, err := repo.VerifyCheckpoint(t.Context(), bad); !errors.Is(err, backup.ErrDamaged) {
			t.Fatalf("byte %d flipped: %v, want ErrDamaged", i, err)
		}
	}
	if _, err := newRepo(t, providertest.NewMemory()).VerifyCheckpoint(t.Context(), checkpoint); !errors.Is(err, backup.ErrDamaged) {
		t.Errorf("of another repository: %v, want ErrDamaged", err)
	}
}

// TestR11ConcurrentPoints: points that one process makes at once are all
// named by what it makes next.
func TestR11ConcurrentPoints(t *testing.T) {
	store := providertest.NewMemory()
	repo := newRepo(t, store)
	const n = 6
	done := make(chan backup.Point, n)
	for i := range n {
		go func() {
			p, err := repo.Backup(context.Background(), fmt.Sprint("tree", i), treeOf(map[string]string{"a": fmt.Sprint(i)}), backup.BackupOptions{})
			if err != nil {
				t.Error(err)
			}
			done <- p
		}()
	}
	var ids []backup.PointID
	for range n {
		ids = append(ids, (<-done).ID)
	}
	mustBackup(t, repo, "last", treeOf(map[string]string{"a": "last"}), backup.Full)
	for _, id := range ids {
		hiding := copyStore(t, store)
		if err := hiding.Delete(t.Context(), "points/"+string(id), provider.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		if got := omitted(t, hiding); !strings.Contains(got, string(id)) {
			t.Errorf("%s vanished, and omitted are %s", id, got)
		}
	}
}

// TestR11LinksFindTheirWay: among points of other writers and what is
// damaged, each process finds the last one of its own.
func TestR11LinksFindTheirWay(t *testing.T) {
	store := providertest.NewMemory()
	newRepo(t, store)
	writers := []string{"one", "two", "three"}
	last := map[string]backup.PointID{}
	var all []backup.PointID
	for i := range 9 {
		c := config(store)
		c.Writer = writers[i*i%3]
		p := mustBackup(t, reopenWith(t, c), "tree", treeOf(map[string]string{"a": fmt.Sprint(i)}), backup.Full)
		last[c.Writer] = p.ID
		all = append(all, p.ID)
	}
	for _, id := range all {
		hiding := copyStore(t, store)
		if err := hiding.Delete(t.Context(), "points/"+string(id), provider.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		latest := false
		for _, l := range last {
			latest = latest || l == id
		}
		if got := omitted(t, hiding); strings.Contains(got, string(id)) == latest {
			t.Errorf("%s vanished, the latest of its writer: %v, and omitted are %s", id, latest, got)
		}
	}
	put(t, store, "points/"+string(all[8]), []byte("garbage"))
	p := mustBackup(t, reopen(t, store), "tree", treeOf(map[string]string{"a": "after"}), backup.Full)
	if p.ID == "" {
		t.Error("no point")
	}
}

// TestForgetSaysSoFirst: whenever a forget is cut short, either the point is
// there or a record says that it was forgotten.
func TestForgetSaysSoFirst(t *testing.T) {
	base := providertest.NewMemory()
	ids := chain(t, base, 2)
	for n := 0; ; n++ {
		store := copyStore(t, base)
		f := providertest.NewFaulty(store, providertest.CrashBefore(n))
		err := forgetWith(f, t.Context(), ids[0])
		if got := omitted(t, store); got != "[]" {
			t.Errorf("crash before request %d: omitted are %s", n, got)
		}
		if err == nil {
			if n < 4 {
				t.Errorf("only %d requests", n)
			}
			break
		}
	}
}

func forgetWith(s provider.BlobStore, ctx context.Context, id backup.PointID) error {
	r, err := backup.Open(ctx, config(s))
	if err != nil {
		return err
	}
	return r.Forget(ctx, id)
}
