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

	r        io.Reader
	b        []byte
	from, to int // b[from:to] is read and not yet cut
	err      error
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
	return &cutter{cutSettings: c, gear: f.G, rare: spread(bits + 2), few: spread(bits - 2), b: newBuffer(3 * c.Max)}, nil
}

// close gives the memory back.
func (c *cutter) close() {
	if c != nil {
		freeBuffer(c.b)
	}
}

// spread returns a mask of so many bits, evenly over 64 from the top down.
func spread(bits int) (mask uint64) {
	for i := range bits {
		mask |= 1 << (63 - i*(64/bits))
	}
	return mask
}

// reset begins a stream: head, and then what r delivers.
func (c *cutter) reset(head []byte, r io.Reader) {
	c.r, c.err = r, nil
	c.from, c.to = 0, copy(c.b, head)
}

// next returns the next chunk, valid until the next call. At the end of the
// stream, and if reading it fails, there is an error and no chunk.
func (c *cutter) next() ([]byte, error) {
	n, hash := c.Min, uint64(0) // what was looked at
	for {
		have := c.b[c.from:min(c.to, c.from+c.Max)]
		for n < len(have) {
			end, mask := len(have), c.few
			if n < c.Normal {
				end, mask = min(end, c.Normal), c.rare
			}
			var found int
			found, hash = c.scan(have[n:end], mask, hash)
			if n += found; n < end {
				return c.take(n), nil
			}
		}
		switch {
		case len(have) == c.Max || c.err == io.EOF && len(have) > 0:
			return c.take(len(have)), nil
		case c.err != nil:
			return nil, c.err
		}
		c.read()
	}
}

func (c *cutter) take(n int) []byte {
	piece := c.b[c.from : c.from+n]
	c.from += n
	return piece
}

// readSize is how much is read at once: little, so that the processor's cache
// has it until it was cut and copied.
const readSize = 128 << 10

// read reads on. An error that comes with bytes is kept for after them.
func (c *cutter) read() {
	if c.to+readSize > len(c.b) && c.from > 0 {
		c.from, c.to = 0, copy(c.b, c.b[c.from:c.to])
	}
	var n int
	n, c.err = c.r.Read(c.b[c.to:min(len(c.b), c.to+readSize)])
	c.to += n
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
