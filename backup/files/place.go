package files

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
)

// A dirCursor is somewhere below the root, with the directories on the way
// open. It goes from one to the next without following a symbolic link, and
// what it has open stays what it is if somebody renames or replaces it.
type dirCursor struct {
	root     *os.Root
	rootFile *os.File
	names    []string
	roots    []*os.Root
	files    []*os.File           // the same directories, for what a Root cannot do; nil until asked for
	asked    *os.File             // the one of which inherit tells
	inherit  bool                 // what is made there gets an ACL from it
	make     bool                 // directories that are missing are made
	clear    bool                 // what is no directory and in the way of one is removed
	made     func(parts []string) // told of those
	fix      func(*os.Root) error // makes an existing directory fit for writing into
	each     func(dir string)     // a seam for tests: told before a directory is used
}

// at returns a directory below the root; "" and "." are the root.
func (c *dirCursor) at(p string) (*os.Root, error) {
	var want []string
	if p != "" && p != rootPath {
		want = strings.Split(p, "/")
	}
	n := 0
	for n < len(want) && n < len(c.names) && want[n] == c.names[n] {
		n++
	}
	c.cut(n)
	for _, name := range want[n:] {
		next, err := c.enter(c.top(), name)
		if err != nil {
			return nil, fmt.Errorf("directory %q: %w", p, err)
		}
		c.names, c.roots, c.files = append(c.names, name), append(c.roots, next), append(c.files, nil)
	}
	if c.each != nil {
		c.each(p)
	}
	return c.top(), nil
}

// of returns the directory that p is in, and its name there.
func (c *dirCursor) of(p string) (*os.Root, string, error) {
	i := strings.LastIndexByte(p, '/')
	dir, err := c.at(p[:max(i, 0)])
	return dir, p[i+1:], err
}

func (c *dirCursor) top() *os.Root {
	if len(c.roots) == 0 {
		return c.root
	}
	return c.roots[len(c.roots)-1]
}

func (c *dirCursor) cut(n int) {
	for i, r := range c.roots[n:] {
		r.Close()
		c.files[n+i].Close() // of nil, an error that says so
	}
	if n < len(c.names) {
		c.asked = nil
	}
	c.names, c.roots, c.files = c.names[:n], c.roots[:n], c.files[:n]
}

func (c *dirCursor) close() {
	c.cut(0)
	c.rootFile.Close()
	c.rootFile = nil
}

// file returns the directory it is at as a file.
func (c *dirCursor) file() (*os.File, error) {
	f := &c.rootFile
	if n := len(c.files); n > 0 {
		f = &c.files[n-1]
	}
	var err error
	if *f == nil {
		*f, err = c.top().Open(".")
	}
	return *f, err
}

func (c *dirCursor) enter(dir *os.Root, name string) (*os.Root, error) {
	fi, err := dir.Lstat(name)
	if err == nil && !fi.IsDir() && c.clear {
		if err := dir.Remove(name); err != nil {
			return nil, err
		}
		err = fs.ErrNotExist
	}
	fresh := false
	if errors.Is(err, fs.ErrNotExist) && c.make {
		err = dir.Mkdir(name, 0o700)
		if fresh = err == nil; fresh && c.made != nil {
			c.made(append(c.names, name))
		}
		if err == nil || errors.Is(err, fs.ErrExist) {
			fi, err = dir.Lstat(name)
		}
	}
	if err != nil {
		return nil, err
	}
	if !fi.IsDir() {
		return nil, fmt.Errorf("%q %w", name, errNoDirectory)
	}
	next, err := openSame(dir, name, fi)
	if err == nil && !fresh && c.fix != nil {
		if err = c.fix(next); err != nil {
			next.Close()
		}
	}
	return next, err
}

// openSame opens the directory that was found as fi. What has taken its place
// may be a symbolic link.
func openSame(dir *os.Root, name string, fi fs.FileInfo) (*os.Root, error) {
	// Opening a FIFO would block.
	if last, err := dir.Lstat(name); err != nil {
		return nil, err
	} else if !os.SameFile(fi, last) {
		return nil, errReplaced
	}
	next, err := dir.OpenRoot(name)
	if err != nil {
		return nil, err
	}
	now, err := next.Stat(".")
	if err == nil && !os.SameFile(fi, now) {
		err = errReplaced
	}
	if err != nil {
		next.Close()
		return nil, err
	}
	return next, nil
}

var errNoDirectory = errors.New("in the destination is no directory")

var errReplaced = errors.New("was replaced while the tree was read; what was in it is not kept")

const tempPrefix = ".holdfast-"

func tempName() string {
	var b [12]byte
	rand.Read(b[:])
	return tempPrefix + hex.EncodeToString(b[:])
}

// isTemp reports whether a name is one of tempName, left by a restore that
// was killed.
func isTemp(name string) bool {
	b, err := hex.DecodeString(strings.TrimPrefix(name, tempPrefix))
	return err == nil && len(b) == 12 && strings.HasPrefix(name, tempPrefix)
}

// A visitor is told of every pair of what a point has and what is there, in
// the order of backup.ComparePaths; one of the two may be missing. It says
// whether to go into a directory that is there.
type visitor func(rel string, e *expected, l *local) (enter bool, err error)

// A local is what is at a path in the destination.
type local struct {
	dir  *os.Root
	name string
	fi   fs.FileInfo
}

// readDir reads the names in a directory, sorted.
func readDir(dir *os.Root) ([]string, error) {
	d, err := dir.Open(".")
	if err != nil {
		return nil, err
	}
	return sortedNames(d)
}
