//go:build unix

package local

import (
	"io/fs"
	"os"
	"syscall"
)

// copyOwner gives a copy the owner of the original, which only root may do.
func copyOwner(to *os.Root, name string, fi fs.FileInfo) error {
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok || os.Geteuid() != 0 {
		return nil
	}
	return to.Lchown(name, int(st.Uid), int(st.Gid))
}
