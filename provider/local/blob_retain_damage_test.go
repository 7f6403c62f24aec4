package local_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/local"
)

// TestDamagedRetention: bytes beside an object decide whether it may be
// changed, and then in doubt not, but never whether it can be read.
func TestDamagedRetention(t *testing.T) {
	dir := t.TempDir()
	s, err := local.NewBlobStore(local.Config{Dir: dir, Create: true})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	ctx := t.Context()
	until := time.Now().Add(time.Hour)
	put(t, s, "pack", "content", provider.PutOptions{Retain: provider.Retention{Mode: provider.Compliance, Until: until}})
	file := filepath.Join(dir, "data", "r-pack")
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)/2] ^= 1
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
	if b, info, err := provider.ReadAll(ctx, s, "pack", 100); err != nil || string(b) != "content" || !info.Retain.IsZero() {
		t.Errorf("read %q of %+v, %v", b, info, err)
	}
	_, statErr := s.Stat(ctx, "pack")
	_, putErr := s.Put(ctx, "pack", strings.NewReader("x"), provider.PutOptions{})
	deleteErr := s.Delete(ctx, "pack", provider.DeleteOptions{})
	lockErr := s.Lock(ctx, "pack", provider.Retention{Mode: provider.Compliance, Until: until})
	for op, err := range map[string]error{"stat": statErr, "put": putErr, "delete": deleteErr, "lock": lockErr} {
		if !errors.Is(err, provider.ErrCorrupt) {
			t.Errorf("%s: %v, want %v", op, err, provider.ErrCorrupt)
		}
	}
}
