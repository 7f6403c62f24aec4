package files

import (
	"bytes"
	"encoding/binary"
	"os"
)

// Databases change their files in place, a page here and a page there. Cut
// by content, a chunk of 256 KiB would be stored anew for every page of 8;
// cut at fixed places, only what lies beside the page is stored with it.

const (
	// pageChunk is how much of such a file is one chunk.
	pageChunk = 32 << 10
	// largePageChunk is for files of more than manyPages bytes: every chunk
	// costs memory wherever the repository is open.
	largePageChunk = 256 << 10
	manyPages      = 4 << 30
)

// Sizes of pages, and how much of a file shows what it is.
const (
	postgresPage = 8 << 10
	innodbPage   = 16 << 10
	sniffed      = innodbPage + 64
)

// blockSize returns how to cut a file of which f is open: zero is by
// content. It must be of one mind about a file as long as that only changes
// in place, so it looks at nothing that pages hold beside their headers.
func blockSize(f *os.File, size int64) int {
	var b [sniffed]byte
	n, _ := f.ReadAt(b[:], 0) // an error comes again when the file is read
	switch head := b[:n]; {
	case !isSQLite(head) && !isPostgres(head, size) && !isInnoDB(head, size):
		return 0
	case size > manyPages:
		return largePageChunk
	}
	return pageChunk
}

func isSQLite(b []byte) bool { return bytes.HasPrefix(b, []byte("SQLite format 3\x00")) }

// isPostgres recognises a relation by the headers of its first two pages, of
// the layout that PostgreSQL has had since 8.3. The second may be empty.
func isPostgres(b []byte, size int64) bool {
	if size%postgresPage != 0 || len(b) < 2*postgresPage {
		return false
	}
	second := b[postgresPage:][:postgresPage]
	return isPostgresPage(b) && (isPostgresPage(second) || len(bytes.Trim(second, "\x00")) == 0)
}

func isPostgresPage(b []byte) bool {
	const header, version = 24, postgresPage | 4
	lower, upper, special := binary.NativeEndian.Uint16(b[12:]), binary.NativeEndian.Uint16(b[14:]), binary.NativeEndian.Uint16(b[16:])
	return binary.NativeEndian.Uint16(b[18:]) == version && header <= lower && lower <= upper && upper <= special && special <= postgresPage
}

// isInnoDB recognises a tablespace by its first two pages: the header of the
// space and the bitmap of its change buffer, numbered 0 and 1.
func isInnoDB(b []byte, size int64) bool {
	if size%innodbPage != 0 || len(b) < sniffed {
		return false
	}
	first, second := b, b[innodbPage:]
	number := func(p []byte) uint32 { return binary.BigEndian.Uint32(p[4:]) }
	kind := func(p []byte) uint16 { return binary.BigEndian.Uint16(p[24:]) }
	space := func(p []byte) uint32 { return binary.BigEndian.Uint32(p[34:]) }
	return number(first) == 0 && kind(first) == 8 && number(second) == 1 && kind(second) == 5 && space(first) == space(second)
}
