//go:build linux || darwin

package files

import (
	"io/fs"
	"syscall"
)

// openFlags: a file that was replaced by a symbolic link is not followed,
// and one that was replaced by a FIFO does not block.
const openFlags = syscall.O_NOFOLLOW | syscall.O_NONBLOCK

func describeSys(fi fs.FileInfo, m *meta) {
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok {
		return
	}
	m.Owner = &owner{User: st.Uid, Group: st.Gid}
	m.Change = changeTime(st)
	m.Inode = st.Ino
	if m.Type == typeDevice {
		m.Device = uint64(st.Rdev)
	}
}

// identify returns what all names of a file have in common, and how many
// names there are.
func identify(fi fs.FileInfo) (inode, uint64) {
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok {
		return inode{}, 1
	}
	return inode{uint64(st.Dev), st.Ino}, uint64(st.Nlink)
}
