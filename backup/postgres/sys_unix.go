//go:build unix

package postgres

import (
	"errors"
	"io/fs"
	"os"
	"strconv"
	"syscall"
)

// alive reports whether a process lives, and works in a directory if that can
// be told: numbers are used again.
func alive(pid int, dir string) bool {
	if err := syscall.Kill(pid, 0); err != nil && !errors.Is(err, syscall.EPERM) {
		return false
	}
	own, err1 := os.Stat(dir)
	cwd, err2 := os.Stat("/proc/" + strconv.Itoa(pid) + "/cwd") // not on every system
	return err1 != nil || err2 != nil || os.SameFile(cwd, own)
}

// shared reports whether a file has further names.
func shared(fi fs.FileInfo) bool {
	st, ok := fi.Sys().(*syscall.Stat_t)
	return ok && st.Nlink > 1
}
