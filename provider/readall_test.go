package provider_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"testing"
	"testing/iotest"

	"github.com/holdfast-go/holdfast/provider"
)

// oneReader is a store of which only Get is asked.
type oneReader struct {
	provider.BlobStore
	r    io.Reader
	info provider.Info
}

func (s oneReader) Get(context.Context, string, provider.GetOptions) (io.ReadCloser, provider.Info, error) {
	return io.NopCloser(s.r), s.info, nil
}

func TestReadAllBelievesNoReader(t *testing.T) {
	content := []byte("content")
	sum := sha256.Sum256(content)
	late := errors.New("told behind the last byte")
	for _, c := range []struct {
		name string
		r    io.Reader
		size int64
		sum  [32]byte
		want error
	}{
		{"whole", bytes.NewReader(content), 7, sum, nil},
		{"whole, no SHA-256 known", bytes.NewReader(content), 7, [32]byte{}, nil},
		{"whole, in bytes, with the end", iotest.DataErrReader(iotest.OneByteReader(bytes.NewReader(content))), 7, sum, nil},
		{"empty", bytes.NewReader(nil), 0, sha256.Sum256(nil), nil},
		{"shorter", bytes.NewReader(content[:6]), 7, sum, provider.ErrCorrupt},
		{"nothing", bytes.NewReader(nil), 7, sum, provider.ErrCorrupt},
		{"less than nothing", bytes.NewReader(nil), -1, [32]byte{}, provider.ErrCorrupt},
		{"longer", bytes.NewReader(append(content[:7:7], '!')), 7, sum, provider.ErrCorrupt},
		{"other bytes", bytes.NewReader([]byte("c0ntent")), 7, sum, provider.ErrCorrupt},
		{"error behind the end", io.MultiReader(bytes.NewReader(content), iotest.ErrReader(late)), 7, [32]byte{}, late},
		{"error of an empty object", iotest.ErrReader(late), 0, [32]byte{}, late},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := oneReader{r: c.r, info: provider.Info{Key: "k", Size: c.size, SHA256: c.sum}}
			b, _, err := provider.ReadAll(t.Context(), s, "k", 100)
			if !errors.Is(err, c.want) || err != nil && b != nil || err == nil && int64(len(b)) != c.size {
				t.Errorf("got %q, %v; want error %v", b, err, c.want)
			}
		})
	}
}
