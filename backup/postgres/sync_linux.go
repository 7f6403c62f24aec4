package postgres

import (
	"os"

	"golang.org/x/sys/unix"
)

// syncTree makes a whole file system durable, which is faster than one file
// after the other.
func syncTree(root *os.Root) error {
	d, err := root.Open(".")
	if err != nil {
		return err
	}
	defer d.Close()
	return unix.Syncfs(int(d.Fd()))
}

// syncFile is not needed where syncTree does it all at once.
func syncFile(*os.File) error { return nil }

// writeBehind has the kernel begin to write a stretch of a file, which it would
// otherwise do only when much has gathered, or for syncTree: who restores has
// other work meanwhile. It is a hint, and makes nothing durable.
func writeBehind(f *os.File, at, n int64) {
	unix.SyncFileRange(int(f.Fd()), at, n, unix.SYNC_FILE_RANGE_WRITE)
}
