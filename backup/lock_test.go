package backup_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/providertest"
)

// R7: immutable when the bucket can.

const day = 24 * time.Hour

func newLocked(t testing.TB, store provider.BlobStore) *backup.Repository {
	t.Helper()
	c := config(store)
	c.Lock = backup.Lock{Mode: provider.Governance, Keep: 10 * day, Ahead: 2 * day, Raw: time.Hour}
	r, err := backup.Init(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// All that a point needs is locked from its creation on, and what only tells
// of work under way is not.
func TestLockEverything(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := providertest.NewMemory()
		r := newLocked(t, store)
		mustBackup(t, r, "w", treeOf(map[string]string{"a": random(1, 100_000)}), backup.Full)
		l := logOf(t, r)
		mustAppend(t, l, 1, 0, 10, 20)
		mustAppend(t, l, 1, next, next+1)
		if err := l.StartBranch(t.Context(), backup.Branch{Branch: 2, Parent: 1}); err != nil {
			t.Fatal(err)
		}
		if rep := mustCompact(t, l); rep.Written.Segments != 1 || len(rep.Locked) != 2 {
			t.Errorf("compacted: %+v", rep)
		}
		seen := map[string]int{}
		for _, info := range collect(t, store.List(t.Context(), "", provider.ListOptions{})) {
			kind, _, _ := strings.Cut(info.Key, "/")
			seen[kind]++
			info, err := store.Stat(t.Context(), info.Key)
			if err != nil {
				t.Fatal(err)
			}
			want := 12 * day
			switch {
			case kind == "sessions":
				want = 0
			case kind == "logs" && seen[kind] != 2 && seen[kind] < 5: // raw: the compacted one is second, the start of the branch last
				want = time.Hour
			}
			left := time.Until(info.Retain.Until)
			if want == 0 && !info.Retain.IsZero() || want > 0 && (left < want || left > want+2*time.Second) {
				t.Errorf("%s is locked for %v, want %v", info.Key, left, want)
			}
		}
		for _, kind := range []string{"format", "points", "index", "data", "meta", "sessions"} {
			if seen[kind] == 0 {
				t.Errorf("nothing is stored below %s", kind)
			}
		}
		if seen["logs"] != 5 {
			t.Errorf("%d objects of logs", seen["logs"])
		}
		time.Sleep(2 * time.Hour)
		if rep := mustCompact(t, l); rep.Deleted.Segments != 2 || len(rep.Locked) != 0 {
			t.Errorf("after the lock of the raw segments: %+v", rep)
		}
	})
}

// A pack is relied on as long as its lock outlasts what the new point is
// promised, also by another process and after prunes have rewritten indexes;
// then its chunks are stored again.
func TestLockReuse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := providertest.NewMemory()
		r := newLocked(t, store)
		c := config(store)
		c.Lock = backup.Lock{Mode: provider.Governance, Keep: 10 * day, Ahead: 2 * day}
		target := treeOf(map[string]string{"a": random(1, 100_000)})
		mustBackup(t, r, "w", target, backup.Full)
		for n, stored := range []int64{0, 100_000, 0, 100_000} { // every 1.2 days, of which two days are enough for one
			time.Sleep(day + day/5)
			r := reopenWith(t, c)
			p := mustBackup(t, r, "w", target, backup.Full)
			if p.Stats.BytesNew != stored {
				t.Errorf("backup %d stored %d bytes, want %d", n, p.Stats.BytesNew, stored)
			}
			for _, id := range mustNeed(t, r, p.ID) {
				if left := lockedFor(t, store, r, id); left < 10*day-time.Second {
					t.Errorf("backup %d relies on a chunk that is locked for %v", n, left)
				}
			}
		}
		rep := mustPrune(t, reopenWith(t, c), backup.PruneOptions{})
		if rep.Deleted.Packs > 0 {
			t.Errorf("%+v", rep)
		}
		// One writer without locks relies on anything.
		time.Sleep(30 * day)
		if p := mustBackup(t, reopen(t, store), "w", target, backup.Full); p.Stats.BytesNew != 0 {
			t.Errorf("without locks, %d bytes were stored again", p.Stats.BytesNew)
		}
		if p := mustBackup(t, reopenWith(t, c), "w", target, backup.Full); p.Stats.BytesNew != 100_000 {
			t.Errorf("with locks that are over, %d bytes were stored again", p.Stats.BytesNew)
		}
	})
}

func mustNeed(t testing.TB, r *backup.Repository, id backup.PointID) [][32]byte {
	t.Helper()
	chunks, err := backup.ChunksOf(t.Context(), r, id)
	if err != nil {
		t.Fatal(err)
	}
	return chunks
}

// lockedFor tells how long the pack of a chunk is locked that is locked
// longest.
func lockedFor(t testing.TB, store provider.BlobStore, r *backup.Repository, chunk [32]byte) (best time.Duration) {
	t.Helper()
	for _, kind := range []string{"data/", "meta/"} {
		for _, info := range collect(t, store.List(t.Context(), kind, provider.ListOptions{})) {
			chunks, err := backup.ChunksIn(t.Context(), r, info)
			if err != nil {
				t.Fatal(err)
			}
			info, err = store.Stat(t.Context(), info.Key)
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range chunks {
				if c == chunk && !info.Retain.IsZero() {
					best = max(best, time.Until(info.Retain.Until))
				}
			}
		}
	}
	return best
}

func TestLockIsValidated(t *testing.T) {
	for _, l := range []backup.Lock{{Keep: day}, {Mode: "other", Keep: day}, {Mode: provider.Compliance}, {Mode: provider.Compliance, Keep: -day},
		{Mode: provider.Compliance, Keep: day, Ahead: -1}, {Mode: provider.Compliance, Keep: day, Raw: -1}} {
		c := config(providertest.NewMemory())
		c.Lock = l
		if _, err := backup.Init(t.Context(), c); err == nil || !strings.Contains(err.Error(), "Lock") {
			t.Errorf("%+v: %v", l, err)
		}
	}
}
