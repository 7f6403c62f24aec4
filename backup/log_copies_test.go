package backup_test

import (
	"bytes"
	"testing"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/providertest"
)

// Small segments are not made of copies of the format object; and yet a
// repository of which only some are left can be opened.
func TestLogCopies(t *testing.T) {
	store := providertest.NewMemory()
	l := logOf(t, newRepo(t, store))
	ends := []uint64{0}
	for n := uint64(1); n <= 130; n++ {
		ends = append(ends, 10*n)
	}
	mustAppend(t, l, 1, ends...)
	var with []int
	for n, info := range collect(t, l.Manifests(t.Context())) {
		b, _, err := provider.ReadAll(t.Context(), store, info.Key, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(b, []byte(`"format":`)) {
			with = append(with, n)
		}
		if n == 1 && info.Size > 2500 {
			t.Errorf("a segment of 10 bytes takes %d", info.Size)
		}
	}
	if len(with) != 3 || with[0] != 0 || with[1] != 64 || with[2] != 128 {
		t.Errorf("copies are in the segments %d", with)
	}
	keep := collect(t, l.Manifests(t.Context()))[1:]
	bare := providertest.NewMemory()
	for _, info := range keep {
		b, _, err := provider.ReadAll(t.Context(), store, info.Key, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		put(t, bare, info.Key, b)
	}
	r, err := backup.Open(t.Context(), config(bare))
	if err != nil {
		t.Fatal(err)
	}
	mustRead(t, logOf(t, r), 1, 10, 1300)
}
