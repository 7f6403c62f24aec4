//go:build !unix

package local

import (
	"io/fs"
	"os"
)

func copyOwner(to *os.Root, name string, fi fs.FileInfo) error { return nil }
