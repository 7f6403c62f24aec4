package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// A treeEntry is what must come back of a file, a directory or a link.
type treeEntry struct {
	Mode     fs.FileMode
	Modified time.Time // zero for links
	Size     int64     // of files
	Sum      [32]byte  // of files
	Link     string    // target
}

// readTree reads everything below dir.
func readTree(dir string) (map[string]treeEntry, error) {
	tree := map[string]treeEntry{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil || rel == "." {
			return err
		}
		fi, err := d.Info()
		if err != nil {
			return err
		}
		e := treeEntry{Mode: fi.Mode(), Modified: fi.ModTime()}
		switch {
		case fi.Mode().IsRegular():
			e.Size = fi.Size()
			e.Sum, err = sumFile(path)
		case fi.Mode()&fs.ModeSymlink != 0:
			e.Modified = time.Time{}
			e.Link, err = os.Readlink(path)
		}
		tree[rel] = e
		return err
	})
	return tree, err
}

func sumFile(path string) (sum [32]byte, err error) {
	f, err := os.Open(path)
	if err != nil {
		return sum, err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return sum, err
	}
	return [32]byte(h.Sum(nil)), nil
}

// removeTree removes a directory, also one whose directories do not permit it:
// restored trees have the modes they had.
func removeTree(dir string) error {
	err := os.RemoveAll(dir)
	if !errors.Is(err, fs.ErrPermission) {
		return err
	}
	filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if d != nil && d.IsDir() {
			os.Chmod(path, 0o700) // before WalkDir reads it
		}
		return nil
	})
	return os.RemoveAll(dir)
}

// compareTrees says how got differs from want, the first few differences.
func compareTrees(want, got map[string]treeEntry) error {
	var out bytes.Buffer
	n := 0
	differ := func(format string, args ...any) {
		if n++; n <= 5 {
			fmt.Fprintf(&out, "\n  "+format, args...)
		}
	}
	for path, w := range want {
		g, ok := got[path]
		switch {
		case !ok:
			differ("%s is missing", path)
		case g.Mode != w.Mode:
			differ("%s has mode %v, not %v", path, g.Mode, w.Mode)
		case !g.Modified.Equal(w.Modified):
			differ("%s was modified %v, not %v", path, g.Modified, w.Modified)
		case g.Sum != w.Sum || g.Size != w.Size:
			differ("%s has other content", path)
		case g.Link != w.Link:
			differ("%s leads to %s, not %s", path, g.Link, w.Link)
		}
	}
	for path := range got {
		if _, ok := want[path]; !ok {
			differ("%s is new", path)
		}
	}
	if n == 0 {
		return nil
	}
	return fmt.Errorf("%d of %d entries differ:%s", n, len(want), out.String())
}

// treePosition is a tree in one word: equal if and only if the trees are.
func treePosition(dir string) (string, error) {
	h := sha256.New()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil || rel == "." {
			return err
		}
		fi, err := d.Info()
		if err != nil {
			return err
		}
		fmt.Fprintf(h, "%q %v", rel, fi.Mode())
		switch {
		case fi.Mode().IsRegular():
			sum, err := sumFile(path)
			if err != nil {
				return err
			}
			fmt.Fprintf(h, " %x %d\n", sum, fi.ModTime().UnixNano())
		case fi.Mode()&fs.ModeSymlink != 0:
			link, err := os.Readlink(path)
			if err != nil {
				return err
			}
			fmt.Fprintf(h, " %q\n", link)
		default:
			fmt.Fprintf(h, " %d\n", fi.ModTime().UnixNano())
		}
		return nil
	})
	return hex.EncodeToString(h.Sum(nil)), err
}
