package durable

import "os"

// SyncDir makes the names in the directory dir durable: files made, renamed,
// linked and removed there. On Windows a directory cannot be flushed, so it
// only checks that the directory is there; NTFS journals such changes in
// their order and writes them within seconds.
func SyncDir(root *os.Root, dir string) error {
	if _, err := root.Stat(dir); err != nil {
		return err
	}
	note("sync", root, dir)
	return nil
}
