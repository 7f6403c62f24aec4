package backup_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/provider/providertest"
)

// What checks have read of the packs of points is told: since when, that one
// was damaged, and that one was not read.
func TestChecked(t *testing.T) {
	store := providertest.NewMemory()
	repo := newRepo(t, store)
	of := func(ids ...backup.PointID) map[backup.PointID]backup.PointCheck {
		t.Helper()
		got, err := repo.Checked(t.Context(), ids...)
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	x := treeOf(map[string]string{"a": random(1, 10000)})
	one := mustBackup(t, repo, "db", x, backup.Full)
	if got := of(one.ID); len(got) != 1 || got[one.ID] != (backup.PointCheck{}) {
		t.Errorf("never checked: %+v", got)
	}
	before := time.Now().Truncate(time.Millisecond)
	mustCheck(t, repo, backup.CheckOptions{ReadData: true})
	first := of(one.ID)[one.ID]
	if first.At.Before(before) || first.At.After(time.Now()) || first.Damaged {
		t.Errorf("checked: %+v", first)
	}
	old := keysOf(t, store, "data/")
	x.files["b"] = file{content: random(2, 10000)}
	two := mustBackup(t, repo, "db", x, backup.Full)
	if got := of(one.ID, two.ID, "20261130t000000.000z-0123456789abcdef"); len(got) != 2 || got[one.ID] != first || got[two.ID] != (backup.PointCheck{}) {
		t.Errorf("one of two checked: %+v", got)
	}
	damaged := 0
	for _, key := range keysOf(t, store, "data/") {
		if !slices.Contains(old, key) {
			flip(t, store, key, 500)
			damaged++
		}
	}
	if damaged == 0 {
		t.Fatal("nothing is the second point's alone")
	}
	time.Sleep(2 * time.Millisecond) // what was verified is told apart by milliseconds
	mustCheck(t, repo, backup.CheckOptions{ReadData: true})
	if got := of(one.ID, two.ID); !got[one.ID].At.After(first.At) || got[one.ID].Damaged || got[two.ID] != (backup.PointCheck{Damaged: true}) {
		t.Errorf("damaged: %+v", got)
	}
	if _, err := seal(t, repo, store, "writer").Checked(t.Context(), one.ID); !errors.Is(err, backup.ErrSealed) {
		t.Errorf("a sealed writer: %v", err)
	}
}
