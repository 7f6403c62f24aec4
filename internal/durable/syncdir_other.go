//go:build !windows

package durable

import "os"

// SyncDir makes the names in the directory dir durable: files made, renamed,
// linked and removed there.
func SyncDir(root *os.Root, dir string) error {
	f, err := root.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Sync(); err != nil {
		return err
	}
	note("sync", root, dir)
	return nil
}
