//go:build !linux

package files

import (
	"errors"
	"io/fs"
	"os"
)

// Extended attributes, holes, special files and the times of symbolic links
// are kept on Linux only.

const specials = false

func notEmpty(err error) bool { return errors.Is(err, fs.ErrExist) || err != nil }

func readXattrs(*os.File, string) (map[string][]byte, error) { return nil, nil }

func fileXattrs(*os.File) (map[string][]byte, error) { return nil, nil }

func describeFile(f *os.File, m meta, fresh bool) error {
	var errs []error
	if m.Owner != nil && os.Geteuid() == 0 {
		errs = append(errs, f.Chown(int(m.Owner.User), int(m.Owner.Group)))
	}
	errs = append(errs, f.Chmod(fileMode(m.Mode))) // last: changing the owner clears set-uid
	return errors.Join(errs...)
}

func sameAttributes(f *os.File, fi fs.FileInfo, m meta) bool {
	return modeBits(fi.Mode()) == m.Mode && fi.ModTime().Equal(m.ModTime)
}

func setTime(dir *os.Root, name string, m meta) error {
	return dir.Chtimes(name, m.ModTime, m.ModTime)
}

func (c *dirCursor) writeSmall(r *restorer, name string, b []byte, k expected) error {
	dir := c.top()
	f, err := dir.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil {
		r.describe(f, k, true)
		err = syncFile(f)
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = setTime(dir, name, k.m)
	}
	if err != nil {
		return errors.Join(err, dir.Remove(name))
	}
	return nil
}

func makeSpecial(_ *dirCursor, dir *os.Root, name string, m meta) error {
	return dir.Symlink(string(m.Link), name)
}

func describeSpecial(_ *dirCursor, dir *os.Root, name string, m meta) error {
	if m.Owner == nil || os.Geteuid() != 0 {
		return nil
	}
	return dir.Lchown(name, int(m.Owner.User), int(m.Owner.Group))
}

func punch(*os.File, int64, int64) error { return errors.ErrUnsupported }

func dropCache(*os.File) {}

func startWriting(*os.File, int64, int64) {}

func syncTree(*os.Root) error { return nil }

// syncFile makes one file durable, where there is no way to do it for a
// whole tree.
func syncFile(f *os.File) error { return f.Sync() }

func fileMode(b uint32) fs.FileMode {
	m := fs.FileMode(b & 0o777)
	for _, x := range modeMap {
		if b&x.bit != 0 {
			m |= x.mode
		}
	}
	return m
}
