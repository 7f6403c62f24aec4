package postgres

import (
	"io/fs"
	"syscall"
	"time"
)

// inodeOf is what tells files apart: the file system, the number there, and
// when anything about it was set last.
func inodeOf(fi fs.FileInfo) (device, number uint64, changed time.Time) {
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, 0, time.Time{}
	}
	return uint64(st.Dev), uint64(st.Ino), time.Unix(st.Ctim.Unix())
}
