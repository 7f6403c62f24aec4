package remote

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"testing"
	"testing/iotest"

	"github.com/holdfast-go/holdfast/provider"
)

var errBroken = errors.New("connection broke")

// breaking delivers n bytes of content from at on, and breaks.
func breaking(content []byte, at int64, n int, err error) io.ReadCloser {
	rest := content[at:]
	return io.NopCloser(io.MultiReader(bytes.NewReader(rest[:min(n, len(rest))]), iotest.ErrReader(err)))
}

func TestReaderGoesOn(t *testing.T) {
	content := bytes.Repeat([]byte("content "), 100)
	for name, c := range map[string]struct {
		step int   // bytes from each connection
		err  error // after them
		want error
	}{
		"whole":                 {len(content), errBroken, nil},
		"breaks after each ten": {10, errBroken, nil},
		"ends early":            {10, io.EOF, nil},
		"nothing ever comes":    {0, errBroken, errBroken},
		"cancelled":             {10, context.Canceled, context.Canceled},
	} {
		opened := 0
		open := func(at int64) (io.ReadCloser, error) {
			opened++
			return breaking(content, at, c.step, c.err), nil
		}
		body, _ := open(0)
		r := Stream{Body: body, End: int64(len(content)), Again: open, Sum: sha256.Sum256(content),
			Fail: func(err error) error { return &provider.Error{Op: "get", Err: err} }}.Reader()
		b, err := io.ReadAll(r)
		if !errors.Is(err, c.want) || c.want == nil && !bytes.Equal(b, content) {
			t.Errorf("%s: %d bytes, %v", name, len(b), err)
		}
		if _, ok := errors.AsType[*provider.Error](err); c.want != nil && !ok {
			t.Errorf("%s: %T", name, err)
		}
		if c.step == 0 && opened != brokenAttempts {
			t.Errorf("%s: opened %d times", name, opened)
		}
		if r.Close() != nil {
			t.Errorf("%s: close", name)
		}
		// io.Copy moves the same bytes, and fails in the same way.
		var copied bytes.Buffer
		body, _ = open(0)
		r = Stream{Body: body, End: int64(len(content)), Again: open, Sum: sha256.Sum256(content), Fail: func(err error) error { return err }}.Reader()
		n, err := io.Copy(&copied, r)
		if !errors.Is(err, c.want) || c.want == nil && !bytes.Equal(copied.Bytes(), content) || n != int64(copied.Len()) {
			t.Errorf("%s: copied %d bytes, %v", name, n, err)
		}
	}
}

func TestReaderVerifies(t *testing.T) {
	content := []byte("content")
	stream := func(body string) Stream {
		return Stream{Body: io.NopCloser(bytes.NewReader([]byte(body))), End: int64(len(content)),
			Again: func(int64) (io.ReadCloser, error) { return nil, errBroken }, Fail: func(err error) error { return err }}
	}
	s := stream("Content")
	s.Sum = sha256.Sum256(content)
	if _, err := io.ReadAll(s.Reader()); !errors.Is(err, provider.ErrCorrupt) {
		t.Errorf("other bytes: %v", err)
	}
	s = stream("Content")
	s.Sum = sha256.Sum256(content)
	if _, err := io.Copy(io.Discard, s.Reader()); !errors.Is(err, provider.ErrCorrupt) {
		t.Errorf("other bytes, copied: %v", err)
	}
	if n, err := io.Copy(full{}, stream("content").Reader()); n != 3 || !errors.Is(err, io.ErrShortWrite) {
		t.Errorf("copied to what takes 3 bytes: %d, %v", n, err)
	}
	for body, want := range map[string]error{"content": nil, "Content": provider.ErrCorrupt} {
		s := stream(body)
		s.CRC32C = binary.BigEndian.AppendUint32(nil, crc32.Checksum(content, crc32.MakeTable(crc32.Castagnoli)))
		if _, err := io.ReadAll(s.Reader()); !errors.Is(err, want) {
			t.Errorf("%s by its CRC-32C: %v", body, err)
		}
		s = stream(body)
		s.CRC32C, s.Sum = []byte("none"), sha256.Sum256(content) // which counts
		if _, err := io.ReadAll(s.Reader()); !errors.Is(err, want) {
			t.Errorf("%s by its SHA-256: %v", body, err)
		}
	}
	if _, err := io.ReadAll(stream("Content").Reader()); err != nil {
		t.Errorf("of no known sum: %v", err)
	}
	if b, err := io.ReadAll(stream("content and more").Reader()); err != nil || string(b) != "content" {
		t.Errorf("more than was asked for: %q, %v", b, err)
	}
	if b, err := io.ReadAll(stream("con").Reader()); !errors.Is(err, errBroken) || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("cannot be opened again: %q, %v", b, err)
	}
}

// full takes three bytes.
type full struct{}

func (full) Write(p []byte) (int, error) { return min(3, len(p)), nil }
