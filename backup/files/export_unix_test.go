//go:build unix

package files

import (
	"syscall"
	"testing"
)

// Allocated is how many bytes of disk a file takes.
func Allocated(t testing.TB, path string) int64 {
	t.Helper()
	var st syscall.Stat_t
	if err := syscall.Stat(path, &st); err != nil {
		t.Fatal(err)
	}
	return st.Blocks * 512
}
