//go:build !linux

package files

import (
	"os"
	"time"
)

// Extended attributes and the times of symbolic links are kept on Linux
// only.

func readXattrs(string) (map[string][]byte, error) { return nil, nil }

func writeXattrs(*os.File, map[string][]byte) error { return nil }

func linkTimes(*os.Root, string, time.Time) error { return nil }

func syncTree(*os.Root) error { return nil }

// syncFile makes one file durable, where there is no way to do it for a
// whole tree.
func syncFile(f *os.File) error { return f.Sync() }
