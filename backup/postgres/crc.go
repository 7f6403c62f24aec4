package postgres

import (
	"encoding/binary"
	"hash/crc32"
)

// castagnoli is the polynomial of CRC-32C.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// A fileCRC is the CRC-32C of a file whose parts are replaced, without reading
// the others: the sum is linear. What is replaced differs from what replaces it
// by a number that only has to be moved to where it is in the file.
type fileCRC uint32

func crcOf(d digest) fileCRC { return fileCRC(binary.LittleEndian.Uint32([]byte(d))) }

func (c fileCRC) digest() digest { return digest(binary.LittleEndian.AppendUint32(nil, uint32(c))) }

// replaced returns the sum with one stretch replaced by another of the same
// length, which have these sums and so many bytes behind them.
func (c fileCRC) replaced(was, is uint32, behind int64) fileCRC {
	return c ^ fileCRC(crcMove(was^is, behind))
}

// resized returns the sum with so many zeroes appended or, if it is less than
// none, taken away.
func (c fileCRC) resized(zeroes int64) fileCRC {
	return ^fileCRC(crcMove(^uint32(c), zeroes))
}

// crcPeriod is after how many bits a sum of nothing but zeroes comes back: the
// order of x modulo the polynomial, which is x+1 times a primitive one of
// degree 31.
const crcPeriod = 1<<31 - 1

// crcMove is what becomes of the register of a sum over so many zero bytes: it
// is multiplied by x^8 for each.
func crcMove(register uint32, bytes int64) uint32 {
	bits := bytes % crcPeriod * 8 % crcPeriod
	if bits < 0 {
		bits += crcPeriod
	}
	power := uint32(1) << 30 // x; the highest bit is that of x^0
	for ; bits > 0; bits >>= 1 {
		if bits&1 != 0 {
			register = crcProduct(register, power)
		}
		power = crcProduct(power, power)
	}
	return register
}

// crcProduct multiplies two polynomials modulo that of CRC-32C.
func crcProduct(a, b uint32) (product uint32) {
	for ; a != 0; a <<= 1 {
		if a&(1<<31) != 0 {
			product ^= b
		}
		b = b>>1 ^ -(b&1)&crc32.Castagnoli
	}
	return product
}
