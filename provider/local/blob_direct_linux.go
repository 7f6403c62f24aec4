package local

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// setDirect makes writes to f go past the page cache, or through it again. An
// error says that its file system does not want that.
func setDirect(f *os.File, on bool) error {
	c, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = c.Control(func(fd uintptr) {
		flags, err := unix.FcntlInt(fd, unix.F_GETFL, 0)
		if err != nil {
			failed = err
			return
		}
		if flags &^= unix.O_DIRECT; on {
			flags |= unix.O_DIRECT
		}
		_, failed = unix.FcntlInt(fd, unix.F_SETFL, flags)
	})
	return errors.Join(err, failed)
}

// notDirect reports whether a write failed only because it was direct.
func notDirect(err error) bool { return errors.Is(err, unix.EINVAL) }
