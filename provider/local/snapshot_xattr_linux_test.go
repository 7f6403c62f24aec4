package local_test

import (
	"errors"
	"io/fs"

	"golang.org/x/sys/unix"
)

func setTestXattr(path string) error {
	err := unix.Setxattr(path, "user.holdfast", []byte("value"), 0)
	if errors.Is(err, unix.ENOTSUP) {
		return nil // on both sides of the comparison then
	}
	return err
}

func testXattr(path string, fi fs.FileInfo) string {
	if !fi.Mode().IsRegular() {
		return ""
	}
	b := make([]byte, 64)
	n, err := unix.Getxattr(path, "user.holdfast", b)
	if err != nil {
		return ""
	}
	return " [" + string(b[:n]) + "]"
}
