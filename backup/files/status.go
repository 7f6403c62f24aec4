package files

import "io/fs"

// A status is what one call tells of an entry.
type status struct {
	meta  meta
	size  int64
	id    inode  // what all names of a file have in common
	names uint64 // how many there are
	owner owner  // that meta may point to
}

type inode struct{ dev, ino uint64 }

func (s *status) set(fi fs.FileInfo) {
	s.meta, s.size = describe(fi), fi.Size()
	s.id, s.names = identify(fi)
}
