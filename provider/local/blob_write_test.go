package local

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/holdfast-go/holdfast/provider"
)

// Objects are written in blocks, the large ones past the page cache; what is
// read is what was put, whatever its size.
func TestSizesAroundBlocks(t *testing.T) {
	s, err := NewBlobStore(Config{Dir: t.TempDir(), Create: true})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	all := make([]byte, directFrom+2*writeSize)
	rand.NewChaCha8([32]byte{}).Read(all)
	// The description before the content has a few hundred bytes, the same
	// for all of these.
	head := int64(0)
	var sizes []int64
	for _, around := range []int64{0, writeSize, directFrom, directFrom + writeSize} {
		sizes = append(sizes, around, around+1)
		if around > 0 {
			sizes = append(sizes, around-1)
		}
	}
	for i := 0; i < len(sizes); i++ {
		n := sizes[i]
		body := all[:n]
		if _, err := s.Put(t.Context(), "k", provider.Bytes(body), provider.PutOptions{SHA256: sha256.Sum256(body)}); err != nil {
			t.Fatalf("%d bytes: %v", n, err)
		}
		got, _, err := provider.ReadAll(t.Context(), s, "k", n)
		if err != nil || !bytes.Equal(got, body) {
			t.Errorf("%d bytes: read %d, %v", n, len(got), err)
		}
		if head == 0 && n == writeSize { // all descriptions of numbers this long have one length
			fi, err := os.Stat(filepath.Join(s.dir, filepath.FromSlash(objectPath("k"))))
			if err != nil {
				t.Fatal(err)
			}
			head = fi.Size() - n
			for _, blocks := range []int64{1, 2, 3} {
				sizes = append(sizes, blocks*writeSize-head, blocks*writeSize-head-1, blocks*writeSize-head+1)
			}
		}
	}
	if head == 0 {
		t.Fatal("no sizes were derived from the description's")
	}
}

// A body that fails or is short in the middle of direct writes leaves
// nothing, nor does one with another sum.
func TestLargeBodyThatFails(t *testing.T) {
	s, err := NewBlobStore(Config{Dir: t.TempDir(), Create: true})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	boom := errors.New("boom")
	content := make([]byte, directFrom+writeSize/2)
	var cancel func()
	for what, c := range map[string]struct {
		body provider.Body
		sum  [32]byte
		want error
	}{
		"fails":     {failingBody{bytes.NewReader(content), func() error { return boom }}, [32]byte{}, boom},
		"ends":      {failingBody{bytes.NewReader(content), func() error { return io.EOF }}, [32]byte{}, io.ErrUnexpectedEOF},
		"other sum": {provider.Bytes(content), [32]byte{1}, provider.ErrCorrupt},
		"cancelled": {failingBody{bytes.NewReader(content), func() error { cancel(); return nil }}, [32]byte{}, context.Canceled},
	} {
		var ctx context.Context
		ctx, cancel = context.WithCancel(t.Context())
		if _, err := s.Put(ctx, "k", c.body, provider.PutOptions{SHA256: c.sum}); !errors.Is(err, c.want) {
			t.Errorf("body that %s: %v", what, err)
		}
		if _, err := s.Stat(t.Context(), "k"); !errors.Is(err, provider.ErrNotFound) {
			t.Errorf("body that %s: the object is there: %v", what, err)
		}
		left, err := filepath.Glob(filepath.Join(s.dir, s.stage, "[A-Z2-7]*"))
		if err != nil || len(left) > 0 {
			t.Errorf("body that %s: staged files are left: %v, %v", what, left, err)
		}
		cancel()
	}
}

// A failingBody calls fail when it is read beyond the first block.
type failingBody struct {
	*bytes.Reader
	fail func() error
}

func (b failingBody) ReadAt(p []byte, off int64) (int, error) {
	if off+int64(len(p)) <= writeSize {
		return b.Reader.ReadAt(p, off)
	}
	if err := b.fail(); err != nil {
		return 0, err
	}
	return b.Reader.ReadAt(p, off)
}

// A file system may accept direct writes when it is asked, and then refuse
// one: here because the memory is not aligned.
func TestRefusedDirectWriteIsBuffered(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "f"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := setDirect(f, true); err != nil {
		t.Skipf("no direct writes here: %v", err)
	}
	block := make([]byte, writeSize+1)[1:]
	rand.NewChaCha8([32]byte{1}).Read(block)
	w := &bulkWriter{f: f, direct: true}
	for range 2 {
		if err := w.write(block); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.write(block[:10]); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(f.Name())
	if want := bytes.Join([][]byte{block, block, block[:10]}, nil); err != nil || !bytes.Equal(got, want) {
		t.Errorf("read %d bytes, %v; want the %d that were written", len(got), err, len(want))
	}
	if w.direct {
		t.Error("it goes on trying")
	}
}
