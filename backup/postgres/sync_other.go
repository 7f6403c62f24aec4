//go:build !linux

package postgres

import "os"

// syncTree has nothing to do where syncFile has.
func syncTree(*os.Root) error { return nil }

func syncFile(f *os.File) error { return f.Sync() }

func writeBehind(*os.File, int64, int64) {}
