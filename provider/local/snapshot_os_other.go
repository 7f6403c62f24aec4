//go:build !linux && !darwin

package local

import (
	"errors"
	"io/fs"
	"os"
)

func cloneFile(out, in *os.File) error { return errors.ErrUnsupported }

// fileIdentity: there is no time of change but that of the content.
func fileIdentity(fi fs.FileInfo) identity { return identity{changed: fi.ModTime()} }

// copyXattrs copies nothing here; see [Snapshotter].
func copyXattrs(to *os.Root, name string, in *os.File) error { return nil }
