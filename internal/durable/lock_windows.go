package durable

import (
	"errors"
	"os"

	"golang.org/x/sys/windows"
)

// tryLock locks one byte of the file; closing the file unlocks it.
func tryLock(f *os.File) (bool, error) {
	c, err := f.SyscallConn()
	if err != nil {
		return false, err
	}
	var lockErr error
	err = c.Control(func(fd uintptr) {
		lockErr = windows.LockFileEx(windows.Handle(fd),
			windows.LOCKFILE_EXCLUSIVE_LOCK|windows.LOCKFILE_FAIL_IMMEDIATELY, 0, 1, 0, new(windows.Overlapped))
	})
	switch {
	case err != nil:
		return false, err
	case errors.Is(lockErr, windows.ERROR_LOCK_VIOLATION), errors.Is(lockErr, windows.ERROR_IO_PENDING):
		return false, nil
	case lockErr != nil:
		return false, &os.PathError{Op: "LockFileEx", Path: f.Name(), Err: lockErr}
	}
	return true, nil
}
