package backup_test

import (
	"strings"
	"testing"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/provider"
)

// A pack whose bytes are all authentic may still have the wrong name. No
// store tells; Check has to see it.
func TestMisnamedPack(t *testing.T) {
	store, points := small(t)
	for info, err := range store.List(t.Context(), "data/", provider.ListOptions{}) {
		if err != nil {
			t.Fatal(err)
		}
		b, _, err := provider.ReadAll(t.Context(), store, info.Key, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		other := "data/11/" + strings.Repeat("1", 64)
		if _, err := store.Put(t.Context(), other, provider.Bytes(b), provider.PutOptions{}); err != nil {
			t.Fatal(err)
		}
		rep := mustCheck(t, reopen(t, store), backup.CheckOptions{ReadData: true})
		if len(rep.Problems) != 1 || rep.Problems[0].Key != other || len(rep.Damaged) != 0 {
			t.Errorf("a pack under another name: %s", rep)
		}
		for id, want := range points {
			mustHold(t, reopen(t, store), id, want)
		}
		return
	}
	t.Fatal("there is no pack")
}
