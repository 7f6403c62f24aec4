package local

import (
	"errors"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// cloneFile makes out share the blocks of in (FICLONE: Btrfs, XFS, ...).
func cloneFile(out, in *os.File) error {
	return unix.IoctlFileClone(int(out.Fd()), int(in.Fd()))
}

func fileIdentity(fi fs.FileInfo) identity {
	st := fi.Sys().(*syscall.Stat_t)
	return identity{time.Unix(st.Ctim.Unix()), st.Ino}
}

// copyXattrs copies extended attributes. Those of the user must arrive, if
// the file system has them; the others need privileges.
func copyXattrs(to *os.Root, name string, in *os.File) error {
	list, err := xattr(func(b []byte) (int, error) { return unix.Flistxattr(int(in.Fd()), b) })
	if len(list) == 0 || errors.Is(err, unix.ENOTSUP) {
		return nil
	}
	if err != nil {
		return &os.PathError{Op: "listxattr", Path: in.Name(), Err: err}
	}
	out, err := to.Open(name)
	if err != nil {
		return err
	}
	defer out.Close()
	for attr := range strings.SplitSeq(strings.TrimSuffix(string(list), "\x00"), "\x00") {
		v, err := xattr(func(b []byte) (int, error) { return unix.Fgetxattr(int(in.Fd()), attr, b) })
		if err == nil {
			err = unix.Fsetxattr(int(out.Fd()), attr, v, 0)
		}
		if err != nil && strings.HasPrefix(attr, "user.") {
			return &os.PathError{Op: "copy attribute " + attr, Path: in.Name(), Err: err}
		}
	}
	return nil
}

// xattr asks for the size and then for the bytes.
func xattr(get func([]byte) (int, error)) ([]byte, error) {
	n, err := get(nil)
	if err != nil || n == 0 {
		return nil, err
	}
	b := make([]byte, n)
	n, err = get(b)
	if err != nil {
		return nil, err
	}
	return b[:n], nil
}
