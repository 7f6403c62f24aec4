package backup

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// A shelf is where a cache keeps its files, by paths with slashes.
type shelf interface {
	read(path string) ([]byte, error)
	write(path string, b []byte) error // in one step
	touch(path string)                 // it was used
	remove(path string) error
	all() []shelved // what there is, as far as that can be seen
}

// A shelved is a file of a shelf.
type shelved struct {
	path string
	size int64
	used time.Time
}

// A diskShelf is a directory.
type diskShelf struct{ dir string }

func (d diskShelf) at(path string) string { return filepath.Join(d.dir, filepath.FromSlash(path)) }

func (d diskShelf) read(path string) ([]byte, error) { return os.ReadFile(d.at(path)) }

// write puts a file in place in one step. It is not flushed: what a crash
// leaves of it does not decrypt.
func (d diskShelf) write(path string, b []byte) error {
	path = d.at(path)
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, cacheTemp)
	if errors.Is(err, fs.ErrNotExist) {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
		f, err = os.CreateTemp(dir, cacheTemp)
	}
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		os.Remove(f.Name())
	}
	return err
}

const cacheTemp = ".new-*"

func (d diskShelf) touch(path string) {
	now := time.Now()
	os.Chtimes(d.at(path), now, now)
}

func (d diskShelf) remove(path string) error { return os.Remove(d.at(path)) }

func (d diskShelf) all() (out []shelved) {
	filepath.WalkDir(d.dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return nil // it vanished, or cannot be read and so not removed
		}
		rel, rerr := filepath.Rel(d.dir, path)
		if fi, err := e.Info(); err == nil && rerr == nil {
			out = append(out, shelved{filepath.ToSlash(rel), fi.Size(), fi.ModTime()})
		}
		return nil
	})
	return out
}
