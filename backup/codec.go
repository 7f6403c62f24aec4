package backup

import (
	"encoding/binary"
	"fmt"
)

// A decoder reads the binary sections: fixed fields and unsigned varints.
// The first thing that is out of bounds is kept as its error; from then on
// it delivers zeroes, so callers check err once, and loops check it per
// record.
type decoder struct {
	b   []byte
	err error
}

func (d *decoder) fail(format string, args ...any) {
	if d.err == nil {
		d.err = fmt.Errorf("%w: %s", ErrDamaged, fmt.Sprintf(format, args...))
		d.b = nil
	}
}

// uint reads a varint of at most limit.
func (d *decoder) uint(what string, limit uint64) uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 || v > limit {
		d.fail("%s is missing or more than %d", what, limit)
		return 0
	}
	d.b = d.b[n:]
	return v
}

// count reads how many records follow, of which each has at least size
// bytes; so a count never makes anyone allocate more than was read.
func (d *decoder) count(what string, size int) int {
	return int(d.uint("number of "+what, uint64(len(d.b)/size)))
}

// take returns the next n bytes, not copied.
func (d *decoder) take(what string, n int) []byte {
	if n > len(d.b) {
		d.fail("%s is cut off", what)
		return nil
	}
	out := d.b[:n:n]
	d.b = d.b[n:]
	return out
}

// bytes reads a length of at most limit and so many bytes, not copied.
func (d *decoder) bytes(what string, limit uint64) []byte {
	return d.take(what, int(d.uint("length of "+what, limit)))
}

func (d *decoder) sum(what string) (s [32]byte) {
	copy(s[:], d.take(what, 32))
	return s
}

func (d *decoder) byte(what string) byte {
	if b := d.take(what, 1); len(b) == 1 {
		return b[0]
	}
	return 0
}

// end reports the error, or that something is left over.
func (d *decoder) end() error {
	if d.err == nil && len(d.b) > 0 {
		d.fail("%d bytes too many", len(d.b))
	}
	return d.err
}

func appendBytes[T ~string | ~[]byte](b []byte, v T) []byte {
	return append(binary.AppendUvarint(b, uint64(len(v))), v...)
}
