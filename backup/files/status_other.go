//go:build !linux

package files

// lstat looks at an entry that the walk has come to.
func (e *entry) lstat() (err error) {
	e.fi, err = e.dir.Lstat(e.name)
	return err
}
