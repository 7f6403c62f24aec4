package files

import (
	"errors"
	"os"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

func changeTime(st *syscall.Stat_t) int64 { return st.Ctim.Nano() }

// readXattrs reads the extended attributes of a file, not following links.
func readXattrs(path string) (map[string][]byte, error) {
	n, err := unix.Llistxattr(path, nil)
	if err != nil || n == 0 {
		if errors.Is(err, unix.ENOTSUP) || errors.Is(err, unix.EPERM) {
			err = nil
		}
		return nil, err
	}
	list := make([]byte, n+256)
	if n, err = unix.Llistxattr(path, list); err != nil {
		return nil, err
	}
	out := map[string][]byte{}
	for name := range strings.SplitSeq(strings.TrimSuffix(string(list[:n]), "\x00"), "\x00") {
		buf := make([]byte, 64<<10) // the most Linux allows
		n, err := unix.Lgetxattr(path, name, buf)
		if errors.Is(err, unix.ENODATA) {
			continue // removed meanwhile
		}
		if err != nil {
			return nil, err
		}
		out[name] = append([]byte{}, buf[:n]...)
	}
	return out, nil
}

func writeXattrs(f *os.File, xattrs map[string][]byte) error {
	var errs []error
	for name, value := range xattrs {
		if err := unix.Fsetxattr(int(f.Fd()), name, value, 0); err != nil {
			errs = append(errs, &os.PathError{Op: "setxattr " + name, Path: f.Name(), Err: err})
		}
	}
	return errors.Join(errs...)
}

// linkTimes sets the modification time of a symbolic link.
func linkTimes(dir *os.Root, name string, at time.Time) error {
	d, err := dir.Open(".")
	if err != nil {
		return err
	}
	defer d.Close()
	ts := unix.NsecToTimespec(at.UnixNano())
	return unix.UtimesNanoAt(int(d.Fd()), name, []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW)
}

// syncTree makes everything below root durable.
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
