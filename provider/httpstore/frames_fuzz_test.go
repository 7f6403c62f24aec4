package httpstore

import (
	"bytes"
	"io"
	"testing"
)

// Whatever comes, the reader delivers the announced bytes and the end, or an
// error; and what writeFrames writes comes back.
func FuzzFrames(f *testing.F) {
	nothing := func() {}
	for _, n := range []int{0, 1, 100, frameSize, frameSize + 1} {
		var b bytes.Buffer
		if err := writeFrames(&b, bytes.NewReader(make([]byte, n)), nothing); err != nil {
			f.Fatal(err)
		}
		f.Add(b.Bytes(), int64(n))
	}
	f.Fuzz(func(t *testing.T, b []byte, size int64) {
		if size < 0 || size > 1<<20 {
			return
		}
		r := newFrameReader(io.NopCloser(bytes.NewReader(b)), size, func(err error) error { return err })
		got, err := io.ReadAll(r)
		if err == nil && int64(len(got)) != size {
			t.Errorf("%d bytes of %d, and no error", len(got), size)
		}
		if err == nil {
			var again bytes.Buffer
			if err := writeFrames(&again, bytes.NewReader(got), nothing); err != nil {
				t.Fatal(err)
			}
			back, err := io.ReadAll(newFrameReader(io.NopCloser(&again), size, func(err error) error { return err }))
			if err != nil || !bytes.Equal(back, got) {
				t.Errorf("%d bytes came back as %d, %v", len(got), len(back), err)
			}
		}
		if n, err := r.Read(make([]byte, 1)); n != 0 || err == nil {
			t.Errorf("after the end: %d bytes, %v", n, err)
		}
	})
}
