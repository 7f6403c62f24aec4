package local_test

import (
	"fmt"
	"testing"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/internal/storetest"
	"github.com/holdfast-go/holdfast/provider/local"
)

func openStore(t *testing.T, c local.Config) *local.BlobStore {
	t.Helper()
	s, err := local.NewBlobStore(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func TestBlobStore(t *testing.T) {
	dir := t.TempDir()
	storetest.Conforms(t, storetest.Subject{Name: "local", Open: func(t testing.TB) provider.BlobStore { return openAt(t, dir) },
		Differs: map[string]string{"blob/versions*": "a directory keeps no versions", "blob/warm*": "a directory has no cold tiers"}})
}

func TestString(t *testing.T) {
	dir := t.TempDir()
	if got, want := fmt.Sprint(openAt(t, dir)), "directory "+dir; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
