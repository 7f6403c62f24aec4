package postgres

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
)

// changes are the beginning of what a server sends of a file that it sends
// incrementally: which blocks follow, and what the earlier file has of the
// others (backup/basebackup.c, and fe_utils/reconstruct.c which reads it).
type changes struct {
	// kept is how many blocks of the earlier file are still its blocks, where
	// they are not among those that follow. Behind it there is nothing but what
	// follows, and zeroes between.
	kept   uint32
	blocks []uint32 // numbers, ascending
}

// incrementalMagic is what such a file begins with.
const incrementalMagic = 0xd3ae1f0d

// incrementalPrefix is before the name of such a file.
const incrementalPrefix = "INCREMENTAL."

// changesOf is the path of the file that a path is of the changes of.
func changesOf(path string) (file string, is bool) {
	slash := strings.LastIndexByte(path, '/') + 1
	name, is := strings.CutPrefix(path[slash:], incrementalPrefix)
	file = path[:slash] + name
	return file, is && isRelation(file)
}

// readChanges reads up to where the blocks begin, of size bytes in all. A
// block has so many bytes, and a file of a relation so many blocks at most.
func readChanges(r io.Reader, size int64, block int, segment uint32) (c changes, err error) {
	var head [12]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return c, short(err)
	}
	if magic := binary.LittleEndian.Uint32(head[:]); magic != incrementalMagic {
		return c, fmt.Errorf("it begins with %#x, which is no file of changes", magic)
	}
	n := binary.LittleEndian.Uint32(head[4:])
	c.kept = binary.LittleEndian.Uint32(head[8:])
	if n > segment {
		return c, fmt.Errorf("it announces %d blocks, and a file has %d at most", n, segment)
	}
	length := int64(len(head)) + 4*int64(n)
	padding := int64(0)
	if n > 0 {
		padding = -length & int64(block-1)
	}
	if want := length + padding + int64(n)*int64(block); size != want {
		return c, fmt.Errorf("it has %d bytes, and with the %d blocks that it announces it has %d", size, n, want)
	}
	// There are servers that count on over the end of a file, where the relation
	// has several.
	c.kept = min(c.kept, segment)
	numbers := make([]byte, 4*n)
	if _, err := io.ReadFull(r, numbers); err != nil {
		return c, short(err)
	}
	c.blocks = make([]uint32, n)
	for i := range c.blocks {
		b := binary.LittleEndian.Uint32(numbers[4*i:])
		if b >= segment || i > 0 && b <= c.blocks[i-1] {
			return c, fmt.Errorf("block %d follows where it cannot: a file has %d at most, in order", b, segment)
		}
		c.blocks[i] = b
	}
	_, err = io.CopyN(io.Discard, r, padding)
	return c, short(err)
}

func short(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// length is how many blocks the file has.
func (c changes) length() uint32 {
	if n := len(c.blocks); n > 0 {
		return max(c.kept, c.blocks[n-1]+1)
	}
	return c.kept
}
