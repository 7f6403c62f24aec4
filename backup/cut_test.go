package backup

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/iotest"

	chunkers "github.com/PlakarKorp/go-cdc-chunkers"
)

// cuts returns the sizes of the chunks of a stream.
func cuts(t *testing.T, c *cutter, head []byte, r io.Reader) (sizes []int) {
	t.Helper()
	c.reset(head, r)
	b := make([]byte, c.Max)
	for {
		n, err := c.next(b)
		if err == io.EOF && n == 0 {
			return sizes
		}
		if err != nil {
			t.Fatal(err)
		}
		sizes = append(sizes, n)
	}
}

// TestCutsAreTheLibrarys: chunks end where the library ends them, whatever
// the content, so that repositories go on sharing chunks with themselves.
func TestCutsAreTheLibrarys(t *testing.T) {
	key := []byte("a key of thirty-two bytes, as is")
	chance := rand.NewChaCha8([32]byte{1})
	noise := make([]byte, 12<<20)
	chance.Read(noise)
	few := make([]byte, 5<<20) // bytes of two values: long chunks and short ones
	for i := range few {
		few[i] = noise[i] & 1
	}
	small := cutSettings{Algorithm: defaultCut.Algorithm, Min: 1 << 10, Normal: 4 << 10, Max: 16 << 10}
	for _, settings := range []cutSettings{defaultCut, small} {
		c, err := newCutter(settings, key)
		if err != nil {
			t.Fatal(err)
		}
		for name, data := range map[string][]byte{
			"noise": noise, "two values": few, "zeroes": make([]byte, 5<<20+1), "nothing": nil,
			"less than the least": noise[:settings.Min-1], "the least": noise[:settings.Min], "one more": noise[:settings.Min+1],
			"normal": noise[:settings.Normal], "the most": noise[:settings.Max], "one more than the most": noise[:settings.Max+1],
			"both": slices.Concat(noise[:3<<20], few[:1<<20], noise[3<<20:5<<20]),
		} {
			lib, err := chunkers.NewChunker(settings.Algorithm, bytes.NewReader(data),
				&chunkers.ChunkerOpts{MinSize: settings.Min, NormalSize: settings.Normal, MaxSize: settings.Max, Key: key})
			if err != nil {
				t.Fatal(err)
			}
			var want []int
			for err == nil {
				var piece []byte
				if piece, err = lib.Next(); len(piece) > 0 {
					want = append(want, len(piece))
				}
			}
			head := data[:min(len(data), settings.Min)]
			for how, r := range map[string]io.Reader{
				"at once": bytes.NewReader(data[len(head):]), "halves": iotest.HalfReader(bytes.NewReader(data[len(head):])),
				"the end with the last bytes": iotest.DataErrReader(bytes.NewReader(data[len(head):])),
			} {
				if got := cuts(t, c, head, r); !slices.Equal(got, want) {
					t.Errorf("%d to %d, %s, %s: %d chunks %.100v, want %d %.100v", settings.Min, settings.Max, name, how, len(got), got, len(want), want)
				}
			}
		}
	}
}

// TestCutterFails: of a stream that fails there are only chunks that end where
// they would have ended anyway, and the next stream is not the worse for it.
func TestCutterFails(t *testing.T) {
	c, err := newCutter(defaultCut, make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	data, b := make([]byte, 700<<10), make([]byte, defaultCut.Max)
	rand.NewChaCha8([32]byte{2}).Read(data)
	whole := cuts(t, c, nil, bytes.NewReader(data))
	broken := errors.New("broken")
	for _, r := range []io.Reader{
		io.MultiReader(bytes.NewReader(data), iotest.ErrReader(broken)),
		&failsOnce{b: data, err: broken},
	} {
		c.reset(nil, r)
		for _, want := range whole[:len(whole)-1] {
			if n, err := c.next(b); err != nil || n != want {
				t.Errorf("%d bytes and %v, want %d", n, err, want)
			}
		}
		for range 2 {
			if n, err := c.next(b); err != broken || n != 0 {
				t.Errorf("%d bytes and %v, want the error of the stream", n, err)
			}
		}
	}
	total := 0
	for _, n := range cuts(t, c, data[:10], bytes.NewReader(data[10:])) {
		total += n
	}
	if total != len(data) {
		t.Errorf("%d bytes, want %d", total, len(data))
	}
}

func BenchmarkCut(b *testing.B) {
	c, err := newCutter(defaultCut, make([]byte, 32))
	if err != nil {
		b.Fatal(err)
	}
	data, buf := make([]byte, 16<<20), make([]byte, defaultCut.Max)
	rand.NewChaCha8([32]byte{3}).Read(data)
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		c.reset(nil, bytes.NewReader(data))
		for {
			if _, err := c.next(buf); err != nil {
				break
			}
		}
	}
}

// failsOnce delivers an error with its last bytes, and the end from then on.
type failsOnce struct {
	b   []byte
	err error
}

func (r *failsOnce) Read(p []byte) (n int, err error) {
	n = copy(p, r.b)
	if r.b = r.b[n:]; len(r.b) == 0 {
		err, r.err = r.err, io.EOF
	}
	return n, err
}
