package postgres

import (
	"hash/crc32"
	"math/rand/v2"
	"testing"
)

// The sum of a file with parts replaced, grown and cut is that of what it has
// become.
func TestFileCRC(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	sum := func(b []byte) uint32 { return crc32.Checksum(b, castagnoli) }
	fill := func(b []byte) []byte {
		for i := range b {
			b[i] = byte(rng.Uint32())
		}
		return b
	}
	for range 2000 {
		file := fill(make([]byte, rng.IntN(3000)))
		crc := fileCRC(sum(file))
		for range rng.IntN(10) {
			from := rng.IntN(len(file) + 1)
			to := from + rng.IntN(len(file)-from+1)
			was := sum(file[from:to])
			crc = crc.replaced(was, sum(fill(file[from:to])), int64(len(file)-to))
			zeroes := rng.IntN(2000)
			file = append(file, make([]byte, zeroes)...)
			crc = crc.resized(int64(zeroes))
			if less := rng.IntN(zeroes + 1); rng.IntN(2) == 0 {
				file = file[:len(file)-less]
				crc = crc.resized(-int64(less))
			}
		}
		if want := sum(file); uint32(crc) != want {
			t.Fatalf("%d bytes: %08x, want %08x", len(file), crc, want)
		}
	}
	// Files are longer than the period.
	for _, far := range []int64{1, 1 << 30, crcPeriod, crcPeriod + 5, 1 << 45, 1<<62 + 3} {
		if back := fileCRC(7).resized(far).resized(-far); back != 7 {
			t.Errorf("%d there and back: %08x", far, back)
		}
		if fileCRC(7).resized(far) != fileCRC(7).resized(far/2).resized(far-far/2) {
			t.Errorf("%d in one step and in two", far)
		}
	}
}
