package wal

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// An LSN is a position in the WAL, in bytes.
type LSN uint64

// String writes a position as PostgreSQL does, such as 16/B374D848.
func (l LSN) String() string { return fmt.Sprintf("%X/%X", uint32(l>>32), uint32(l)) }

// ParseLSN reads a position as PostgreSQL writes it: two hexadecimal numbers
// of 1 to 8 digits with a slash between them.
func ParseLSN(s string) (LSN, error) {
	high, low, ok := strings.Cut(s, "/")
	h, err1 := hex32(high)
	l, err2 := hex32(low)
	if !ok || err1 != nil || err2 != nil {
		return 0, fmt.Errorf("%.40q is no LSN: want two hexadecimal numbers such as 16/B374D848", s)
	}
	return LSN(h)<<32 | LSN(l), nil
}

// hex32 reads 1 to 8 hexadecimal digits, and nothing else.
func hex32(s string) (uint32, error) {
	if len(s) > 8 || strings.ContainsAny(s, "+-_") {
		return 0, errors.New("want 1 to 8 hexadecimal digits")
	}
	n, err := strconv.ParseUint(s, 16, 32)
	return uint32(n), err
}

// Sizes that a segment of WAL can have: a power of two between these.
const (
	minSegment = 1 << 20
	maxSegment = 1 << 30
)

// CheckSegmentSize says whether a server can have segments of so many bytes.
func CheckSegmentSize(size uint64) error {
	if size < minSegment || size > maxSegment || size&(size-1) != 0 {
		return fmt.Errorf("WAL segments of %d bytes: want a power of two from 1 MiB to 1 GiB", size)
	}
	return nil
}

// SegmentName is the name of the file that has the position at, where segments
// have size bytes.
func SegmentName(timeline uint32, at LSN, size uint64) string {
	n, per := uint64(at)/size, uint64(1)<<32/size
	return fmt.Sprintf("%08X%08X%08X", timeline, n/per, n%per)
}

// ParseSegmentName reads the name of a segment file: its timeline, and the
// position where it begins.
func ParseSegmentName(name string, size uint64) (timeline uint32, start LSN, err error) {
	if err := CheckSegmentSize(size); err != nil {
		return 0, 0, err
	}
	var n [3]uint32
	ok := len(name) == 24 && strings.ToUpper(name) == name
	for i := 0; i < 3 && ok; i++ {
		n[i], err = hex32(name[8*i : 8*i+8])
		ok = err == nil
	}
	if !ok || n[0] == 0 || uint64(n[2]) >= 1<<32/size {
		return 0, 0, fmt.Errorf("%.60q is no name of a WAL segment of %d bytes: want 24 upper-case hexadecimal digits", name, size)
	}
	return n[0], LSN(uint64(n[1])<<32 + uint64(n[2])*size), nil
}
