package local

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"testing"

	"github.com/holdfast-go/holdfast/provider"
)

// TestSummedBody: its SHA-256 is kept without being computed again, and bytes
// that have changed since are not stored.
func TestSummedBody(t *testing.T) {
	s, err := NewBlobStore(Config{Dir: t.TempDir() + "/store", Create: true})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for _, n := range []int{0, 1, 5000, 3 << 20} {
		b := bytes.Repeat([]byte("summed "), n/7+1)[:n]
		sum := sha256.Sum256(b)
		if _, err := s.Put(t.Context(), "good", provider.SummedBytes(b, sum), provider.PutOptions{SHA256: sum}); err != nil {
			t.Fatal(err)
		}
		got, info, err := provider.ReadAll(t.Context(), s, "good", 1<<30)
		if err != nil || !bytes.Equal(got, b) || info.SHA256 != sum {
			t.Errorf("%d bytes: %v, %x", n, err, info.SHA256)
		}
		if _, err := s.Put(t.Context(), "bad", provider.SummedBytes(b, sum), provider.PutOptions{SHA256: sha256.Sum256([]byte("other"))}); !errors.Is(err, provider.ErrCorrupt) {
			t.Errorf("%d bytes, another sum announced: %v, want ErrCorrupt", n, err)
		}
		if n == 0 {
			continue
		}
		body := provider.SummedBytes(b, sum)
		b[n/2] ^= 1
		if _, err := s.Put(t.Context(), "bad", body, provider.PutOptions{SHA256: sum}); !errors.Is(err, provider.ErrCorrupt) {
			t.Errorf("%d bytes, one changed: %v, want ErrCorrupt", n, err)
		}
		if _, err := s.Stat(t.Context(), "bad"); !errors.Is(err, provider.ErrNotFound) {
			t.Errorf("%d bytes: what was refused is there: %v", n, err)
		}
	}
}
