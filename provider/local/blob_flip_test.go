package local_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/local"
)

// TestEveryBitCounts flips each bit of a stored object in turn: no reader of
// the whole object gets other bytes than were stored.
func TestEveryBitCounts(t *testing.T) {
	dir := t.TempDir()
	s, err := local.NewBlobStore(local.Config{Dir: dir, Create: true})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	const content = "a manifest"
	put(t, s, "points/1", content, provider.PutOptions{Meta: map[string]string{"m": "v"}})
	file := filepath.Join(dir, "data", "d-points", "o-1")
	stored, err := os.ReadFile(file)
	if err != nil || !strings.HasSuffix(string(stored), content) {
		t.Fatalf("the object is not where this test looks: %v", err)
	}
	for bit := range 8 * len(stored) {
		damaged := append([]byte(nil), stored...)
		damaged[bit/8] ^= 1 << (bit % 8)
		if err := os.WriteFile(file, damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		if b, info, err := provider.ReadAll(t.Context(), s, "points/1", 100); !errors.Is(err, provider.ErrCorrupt) {
			t.Fatalf("with bit %d of byte %d flipped, ReadAll delivers %q of %+v, %v", bit%8, bit/8, b, info, err)
		}
	}
}
