package local_test

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/local"
)

// Who verifies what he reads himself gets the bytes as they are on the disk;
// nobody else does.
func TestUnverified(t *testing.T) {
	dir := t.TempDir()
	s, err := local.NewBlobStore(local.Config{Dir: dir, Create: true})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	put(t, s, "points/1", "content", provider.PutOptions{})
	file := filepath.Join(dir, "data", "d-points", "o-1")
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)-1] ^= 1
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, unverified := range []bool{false, true} {
		r, info, err := s.Get(t.Context(), "points/1", provider.GetOptions{Unverified: unverified})
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(r)
		r.Close()
		if damaged := errors.Is(err, provider.ErrCorrupt); damaged == unverified {
			t.Errorf("unverified %v: read %q, %v", unverified, got, err)
		}
		if unverified && (string(got) != "contenu" || info.Size != 7) {
			t.Errorf("unverified: read %q of %+v", got, info)
		}
	}
}
