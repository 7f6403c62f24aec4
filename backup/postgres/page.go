package postgres

import (
	"encoding/binary"
	"hash/crc32"

	"github.com/holdfast-go/holdfast/backup/postgres/internal/wal"
)

// sumBases are what the checksum of a page begins with, from PostgreSQL's
// storage/checksum_impl.h.
var sumBases = [32]uint32{
	0x5B1F36E9, 0xB8525960, 0x02AB50AA, 0x1DE66D2A, 0x79FF467A, 0x9BB9F8A3, 0x217E7CD2, 0x83E13D2C,
	0xF8D4474F, 0xE39EB970, 0x42C6AE16, 0x993216FA, 0x7B093B5D, 0x98DAFF3C, 0xF718902A, 0x0B1C9CDB,
	0xE58F764B, 0x187636BC, 0x5D7B3BB1, 0xE73DE7DE, 0x92BEC979, 0xCCA6C0B2, 0x304A0979, 0x85AA43D4,
	0x783125BB, 0x6CA8EAA2, 0xE407EAC6, 0x4B5CFC3E, 0x9FBF8C76, 0x15CA20BE, 0xF2CA9FD3, 0x959BD756,
}

// The header of a page.
const (
	pageSumAt   = 8 // behind the LSN
	pageUpperAt = 14
	pageHeader  = 24
)

// pageSum is the checksum that a page should have: an FNV-1a of 32 lanes over
// the page, with nothing in place of the checksum, and its number. The length
// is a multiple of 128.
func pageSum(page []byte, number uint32) uint16 {
	const prime = 16777619
	var sum uint32
	for lane := 0; lane < 32; lane += 4 { // four at a time, which fit registers
		a, b, c, d := sumBases[lane], sumBases[lane+1], sumBases[lane+2], sumBases[lane+3]
		for row := page; len(row) >= 128; row = row[128:] {
			v := row[4*lane : 4*lane+16 : 128]
			x, y := binary.LittleEndian.Uint64(v), binary.LittleEndian.Uint64(v[8:])
			if lane == 0 && len(row) == len(page) {
				y &^= 0xffff // the checksum itself
			}
			a ^= uint32(x)
			b ^= uint32(x >> 32)
			c ^= uint32(y)
			d ^= uint32(y >> 32)
			a, b, c, d = a*prime^a>>17, b*prime^b>>17, c*prime^c>>17, d*prime^d>>17
		}
		for range 2 {
			a, b, c, d = a*prime^a>>17, b*prime^b>>17, c*prime^c>>17, d*prime^d>>17
		}
		sum ^= a ^ b ^ c ^ d
	}
	return uint16((sum^number)%65535 + 1)
}

// pageLSN is that of the last change to a page.
func pageLSN(page []byte) wal.LSN {
	return wal.LSN(binary.LittleEndian.Uint32(page))<<32 | wal.LSN(binary.LittleEndian.Uint32(page[4:]))
}

// pageFails reports whether a page has another checksum than it should. A page
// that has never been used has none.
func pageFails(page []byte, number uint32) bool {
	return binary.LittleEndian.Uint16(page[pageUpperAt:]) != 0 && binary.LittleEndian.Uint16(page[pageSumAt:]) != pageSum(page, number)
}

// controlWhole reports whether pg_control was not read while it was written:
// somewhere in it, by version, is the CRC-32C of all before it.
func controlWhole(b []byte) bool {
	for n := 200; n+4 <= min(len(b), 512); n += 4 {
		if crc32.Checksum(b[:n], castagnoli) == binary.LittleEndian.Uint32(b[n:]) {
			return true
		}
	}
	return false
}

// controlSystem is the system identifier in pg_control.
func controlSystem(b []byte) uint64 { return binary.LittleEndian.Uint64(b) }
