package local_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

func setTestXattr(path string) error {
	err := unix.Setxattr(path, "user.holdfast", []byte("value"), 0)
	if errors.Is(err, unix.ENOTSUP) {
		return nil // on both sides of the comparison then
	}
	return err
}

// setTestOwner gives a file to somebody else, which only root can.
func setTestOwner(path string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	return os.Lchown(path, 65534, 65533)
}

// testXattr is the owner, and the attribute that setTestXattr set.
func testXattr(path string, fi fs.FileInfo) string {
	st := fi.Sys().(*syscall.Stat_t)
	owner := fmt.Sprintf(" %d:%d", st.Uid, st.Gid)
	b := make([]byte, 64)
	n, err := unix.Lgetxattr(path, "user.holdfast", b)
	if err != nil {
		return owner
	}
	return owner + " [" + string(b[:n]) + "]"
}
