package postgres

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"testing"
)

// Files are read in order, to where they ended when they were listed or before,
// whatever becomes of them meanwhile.
func TestPieces(t *testing.T) {
	broken := errors.New("broken")
	content := func(size int64) []byte {
		b := make([]byte, size)
		for i := range b {
			b[i] = byte(i>>9) + byte(i)
		}
		return b
	}
	for name, c := range map[string]struct {
		listed, is, gone int64 // gone: from which position on, if not zero
		fails            int64
		again            int64 // from where on it is there again, if not zero
		want             int64
		err              error
	}{
		"empty":          {},
		"small":          {listed: 5, is: 5, want: 5},
		"one piece":      {listed: pieceSize, is: pieceSize, want: pieceSize},
		"large":          {listed: 9*pieceSize + 1, is: 9*pieceSize + 1, want: 9*pieceSize + 1},
		"grown":          {listed: 3 * pieceSize, is: 30 * pieceSize, want: 3 * pieceSize},
		"shrunk":         {listed: 20 * pieceSize, is: 2*pieceSize + 7, want: 2*pieceSize + 7},
		"shrunk at edge": {listed: 20 * pieceSize, is: 2 * pieceSize, want: 2 * pieceSize},
		"shrunk, grown":  {listed: 20 * pieceSize, is: 2*pieceSize + 7, again: 4 * pieceSize, want: 2*pieceSize + 7},
		"gone":           {listed: 20 * pieceSize, gone: 1, err: errGone},
		"gone meanwhile": {listed: 20 * pieceSize, is: 20 * pieceSize, gone: 3 * pieceSize, want: 3 * pieceSize, err: errGone},
		"fails":          {listed: 20 * pieceSize, is: 20 * pieceSize, fails: 4 * pieceSize, want: 4 * pieceSize, err: broken},
	} {
		t.Run(name, func(t *testing.T) {
			f, after := &found{path: "f", entry: entry{size: c.listed}}, &found{path: "after", entry: entry{size: 3 * pieceSize}}
			p := readPieces(t.Context(), []*found{f, after}, 3, func(_ context.Context, r *piece) {
				is := c.is
				switch {
				case r.f == after:
					is = after.size
				case c.gone != 0 && r.at+int64(len(r.buf)) > c.gone:
					r.err = fmt.Errorf("open: %w", fs.ErrNotExist)
					return
				case c.fails != 0 && r.at >= c.fails:
					r.err = broken
					return
				}
				if c.again != 0 && r.at >= c.again && r.f == f {
					r.n = len(r.buf)
				} else if r.at < is {
					r.n = copy(r.buf, content(is)[r.at:])
				}
			})
			defer p.close()
			got, err := io.ReadAll(&fileReader{ctx: t.Context(), p: p, f: f})
			if !errors.Is(err, c.err) || !bytes.Equal(got, content(max(c.is, c.want))[:c.want]) {
				t.Errorf("%d bytes, want %d; %v", len(got), c.want, err)
			}
			next, err := io.ReadAll(&fileReader{ctx: t.Context(), p: p, f: after})
			if err != nil || !bytes.Equal(next, content(after.size)) {
				t.Errorf("the file behind it: %d bytes, %v", len(next), err)
			}
		})
	}
}

// Who stops in the middle waits for nobody.
func TestPiecesStopped(t *testing.T) {
	for taken := range 20 {
		files := []*found{{path: "f", entry: entry{size: 100 * pieceSize}}}
		ctx, cancel := context.WithCancelCause(t.Context())
		p := readPieces(ctx, files, 4, func(_ context.Context, c *piece) { c.n = len(c.buf) })
		r := &fileReader{ctx: ctx, p: p, f: files[0]}
		if _, err := io.ReadFull(r, make([]byte, taken*pieceSize+1)); err != nil {
			t.Fatal(err)
		}
		why := errors.New("enough")
		if taken%2 == 0 {
			cancel(why)
			if _, err := io.Copy(io.Discard, r); !errors.Is(err, why) {
				t.Errorf("after it was cancelled: %v", err)
			}
		}
		p.close()
		cancel(nil)
	}
}

// Spoiling a description leaves it valid, and as long.
func TestSpoil(t *testing.T) {
	sum := unknown(sumCRC32C).String()
	b := meta{Type: typeFile, State: "1f.2", Sum: sum}.encode()
	n := len(b)
	if spoil(b); len(b) != n || !bytes.Contains(b, []byte(`"i":"----","s":"0`)) {
		t.Errorf("%s", b)
	}
	b = meta{Type: typeFile, Sum: sum}.encode()
	was := bytes.Clone(b)
	if spoil(b); !bytes.Equal(b, was) {
		t.Errorf("%s, it was %s", b, was)
	}
}
