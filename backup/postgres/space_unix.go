//go:build linux || darwin

package postgres

import "syscall"

// freeSpace is how many bytes a file system has left for who is not root.
func freeSpace(dir string) (int64, bool) {
	var st syscall.Statfs_t
	if syscall.Statfs(dir, &st) != nil {
		return 0, false
	}
	return int64(st.Bavail) * int64(st.Bsize), true
}
