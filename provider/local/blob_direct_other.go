//go:build !linux

package local

import (
	"errors"
	"os"
)

// setDirect is for Linux only: the others have no such thing, or want it to
// be decided when the file is opened.
func setDirect(*os.File, bool) error { return errors.ErrUnsupported }

func notDirect(error) bool { return false }
