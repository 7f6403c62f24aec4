package backup

import (
	"fmt"
	"io"

	chunkers "github.com/PlakarKorp/go-cdc-chunkers"
	"github.com/PlakarKorp/go-cdc-chunkers/chunkers/fastcdc"
)

// A cutter cuts streams into chunks where their content suggests, by FastCDC
// with a key. The library makes the table from the key. Finding the cuts is
// done here, where the same ones are found in half the time; it was a tenth of
// what a backup takes.
type cutter struct {
	cutSettings
	gear      *[256]uint64
	rare, few uint64 // masks up to Normal bytes and beyond, of which the first has more bits

	r    io.Reader
	rest []byte // was read, and is behind the last cut
	err  error
}

func newCutter(c cutSettings, key []byte) (*cutter, error) {
	var f fastcdc.FastCDC
	if err := f.Setup(&chunkers.ChunkerOpts{MinSize: c.Min, NormalSize: c.Normal, MaxSize: c.Max, Key: key}); err != nil {
		return nil, fmt.Errorf("cut: %w", err)
	}
	bits := 0
	for n := c.Normal; n > 1; n /= 2 {
		bits++
	}
	return &cutter{cutSettings: c, gear: f.G, rare: spread(bits + 2), few: spread(bits - 2)}, nil
}

// spread returns a mask of so many bits, evenly over 64 from the top down.
func spread(bits int) (mask uint64) {
	for i := range bits {
		mask |= 1 << (63 - i*(64/bits))
	}
	return mask
}

// reset begins a stream: head, of Max bytes at most, and then what r delivers.
func (c *cutter) reset(head []byte, r io.Reader) {
	c.r, c.err = r, nil
	c.rest = append(c.rest[:0], head...)
}

// readSize is how much is read at once: little, so that little of it is behind
// the cut and has to be moved.
const readSize = 64 << 10

// next puts the next chunk into b, which has room for Max bytes, and returns how
// long it is. At the end of the stream, and if reading it fails, there is an
// error and no chunk.
func (c *cutter) next(b []byte) (int, error) {
	have := copy(b, c.rest)
	n, hash := c.Min, uint64(0) // what was looked at
	for {
		for n < have {
			end, mask := have, c.few
			if n < c.Normal {
				end, mask = min(end, c.Normal), c.rare
			}
			var found int
			found, hash = c.scan(b[n:end], mask, hash)
			if n += found; n < end {
				c.rest = append(c.rest[:0], b[n:have]...)
				return n, nil
			}
		}
		switch {
		case have == c.Max || c.err == io.EOF && have > 0:
			c.rest = c.rest[:0]
			return have, nil
		case c.err != nil:
			c.rest = c.rest[:0]
			return 0, c.err
		}
		var m int // an error that comes with bytes is kept for after them
		m, c.err = c.r.Read(b[have:min(c.Max, have+readSize)])
		have += m
	}
}

// scan rolls the hash over b and returns the number of bytes before the first
// at which it has no bit of the mask, and the hash there.
func (c *cutter) scan(b []byte, mask, hash uint64) (int, uint64) {
	g, i := c.gear, 0
	for ; i+4 <= len(b); i += 4 { // four at a time, so that none waits for the one before
		p := (*[4]byte)(b[i:])
		g0, g1, g2, g3 := g[p[0]], g[p[1]], g[p[2]], g[p[3]]
		h0 := hash<<1 + g0
		h1 := hash<<2 + (g0<<1 + g1)
		h2 := hash<<3 + (g0<<2 + g1<<1 + g2)
		h3 := hash<<4 + (g0<<3 + g1<<2 + (g2<<1 + g3))
		switch uint64(0) {
		case h0 & mask:
			return i, h0
		case h1 & mask:
			return i + 1, h1
		case h2 & mask:
			return i + 2, h2
		case h3 & mask:
			return i + 3, h3
		}
		hash = h3
	}
	for ; i < len(b); i++ {
		if hash = hash<<1 + g[b[i]]; hash&mask == 0 {
			break
		}
	}
	return i, hash
}
