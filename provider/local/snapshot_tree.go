package local

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/holdfast-go/holdfast/internal/durable"
)

const (
	treeAttempts = 3 // copies of a directory that changes

	// clockTick is more than the resolution of a file system's times. What
	// changed less than that ago could change again within the same time.
	clockTick = 20 * time.Millisecond
)

// A treeCopy copies a directory that nobody writes to. If somebody does, it
// begins anew, and gives up in the end.
type treeCopy struct {
	from     *os.Root
	src      string
	to       *os.Root
	dst      string // must not be there
	progress func(float64)
	step     func(string)

	total, done int64
}

// treeStats is what a scan of a directory found.
type treeStats struct {
	bytes  int64
	mode   fs.FileMode // of the directory itself
	newest time.Time   // change of anything in it
	sum    [32]byte    // over everything but content; another if anything changed
}

func (c *treeCopy) run(ctx context.Context) (treeStats, error) {
	for range treeAttempts {
		before, err := c.settle(ctx)
		if err != nil {
			return before, err
		}
		c.total, c.done = before.bytes, 0
		if err := c.dir(ctx, "."); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return before, err // that a file has gone is a change like another
		}
		after, err := c.scan(ctx)
		if err != nil {
			return before, err
		}
		if before.sum == after.sum {
			return before, nil
		}
		if err := removeTree(c.to, c.dst); err != nil {
			return before, err
		}
	}
	return treeStats{}, fmt.Errorf("the volume changed while it was copied, %d times; stop its writers until the snapshot is no longer pending", treeAttempts)
}

// settle scans, again if need be, until the last change is so long ago that
// the next one will show.
func (c *treeCopy) settle(ctx context.Context) (treeStats, error) {
	for range 2 * treeAttempts {
		now := time.Now()
		st, err := c.scan(ctx)
		if err != nil || st.newest.Sub(now).Abs() > clockTick && st.newest.Before(now) || st.newest.Sub(now) > time.Minute {
			return st, err // or the clock was set back: now is no such time
		}
		select {
		case <-time.After(clockTick):
		case <-ctx.Done():
			return st, ctx.Err()
		}
	}
	return treeStats{}, errors.New("the volume is being written to; stop its writers until the snapshot is no longer pending")
}

// scan looks at everything but content, in order of names.
func (c *treeCopy) scan(ctx context.Context) (treeStats, error) {
	root, err := c.from.OpenRoot(c.src)
	if err != nil {
		return treeStats{}, err
	}
	defer root.Close()
	var st treeStats
	h := sha256.New()
	err = fs.WalkDir(root.FS(), ".", func(p string, d fs.DirEntry, err error) error {
		if err := cmp.Or(err, ctx.Err()); err != nil {
			return err
		}
		fi, err := root.Lstat(p)
		if err != nil {
			return err
		}
		switch {
		case p == ".":
			st.mode = fi.Mode()
		case fi.Mode().IsRegular():
			st.bytes += fi.Size()
		}
		id := fileIdentity(fi)
		if id.changed.After(st.newest) {
			st.newest = id.changed
		}
		note(h, p, fi, id)
		return nil
	})
	h.Sum(st.sum[:0])
	return st, err
}

// identity is what tells whether a file is still the one it was.
type identity struct {
	changed time.Time // content or attributes
	inode   uint64
}

func note(h hash.Hash, p string, fi fs.FileInfo, id identity) {
	var b [4 * 8]byte
	binary.BigEndian.PutUint64(b[0:], uint64(fi.Mode()))
	binary.BigEndian.PutUint64(b[8:], uint64(fi.Size()))
	binary.BigEndian.PutUint64(b[16:], uint64(id.changed.UnixNano()))
	binary.BigEndian.PutUint64(b[24:], id.inode)
	fmt.Fprintf(h, "%d:%s", len(p), p)
	h.Write(b[:])
	mtime := fi.ModTime().UnixNano()
	binary.BigEndian.PutUint64(b[:8], uint64(mtime))
	h.Write(b[:8])
}

// dir copies a directory, whose attributes come last: it may forbid what has
// to be done in it.
func (c *treeCopy) dir(ctx context.Context, p string) error {
	src, dst := c.src+"/"+p, c.dst+"/"+p
	if p == "." {
		src, dst = c.src, c.dst
	}
	d, err := c.from.Open(src)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := c.to.Mkdir(dst, 0o700); err != nil {
		return err
	}
	c.step("directory")
	for {
		entries, err := d.ReadDir(256)
		for _, e := range entries {
			child := e.Name()
			if p != "." {
				child = p + "/" + child
			}
			if err := c.entry(ctx, child); err != nil {
				return err
			}
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
	}
	if err := durable.SyncDir(c.to, dst); err != nil {
		return err
	}
	fi, err := d.Stat()
	if err != nil {
		return err
	}
	mode := fi.Mode()
	if p == "." { // it gets its mode when it has its place
		mode = 0o700
	}
	return c.attributes(d, fi, mode, dst)
}

// entry copies one entry of a directory.
func (c *treeCopy) entry(ctx context.Context, p string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	fi, err := c.from.Lstat(c.src + "/" + p)
	if err != nil {
		return err
	}
	switch fi.Mode().Type() {
	case 0:
		return c.file(ctx, p)
	case fs.ModeDir:
		return c.dir(ctx, p)
	case fs.ModeSymlink:
		to, err := c.from.Readlink(c.src + "/" + p)
		if err == nil {
			err = c.to.Symlink(to, c.dst+"/"+p)
		}
		if err == nil {
			err = copyOwner(c.to, c.dst+"/"+p, fi)
		}
		return err
	case fs.ModeSocket:
		return nil // nothing without the process that listens
	}
	return fmt.Errorf("%s is neither a file nor a directory nor a symbolic link: %v", p, fi.Mode())
}

// file copies a file, sharing its blocks if the file system can.
func (c *treeCopy) file(ctx context.Context, p string) error {
	in, err := c.from.Open(c.src + "/" + p)
	if err != nil {
		return err
	}
	defer in.Close()
	fi, err := in.Stat()
	if err != nil {
		return err
	}
	if !fi.Mode().IsRegular() {
		return fmt.Errorf("%s has become something else: %w", p, fs.ErrNotExist)
	}
	out, err := c.to.OpenFile(c.dst+"/"+p, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()
	if cloneFile(out, in) != nil {
		if err := c.bytes(ctx, out, in); err != nil {
			return fmt.Errorf("copy %s: %w", p, err)
		}
	} else {
		c.advance(fi.Size())
	}
	if err := c.attributes(in, fi, fi.Mode(), c.dst+"/"+p); err != nil {
		return err
	}
	if err := out.Sync(); err != nil {
		return fmt.Errorf("copy %s: %w", p, err)
	}
	c.step("file")
	return out.Close()
}

// bytes copies in pieces, so that it can be stopped and shows progress.
func (c *treeCopy) bytes(ctx context.Context, out, in *os.File) error {
	for {
		n, err := io.CopyN(out, in, 8<<20)
		c.advance(n)
		if err == io.EOF {
			return nil
		}
		if err := cmp.Or(err, ctx.Err()); err != nil {
			return err
		}
	}
}

func (c *treeCopy) advance(n int64) {
	c.done += n
	if c.total > 0 {
		c.progress(float64(c.done) / float64(c.total))
	}
}

// attributes gives a copy a mode, and the owner, extended attributes and time
// of the original, in an order in which one does not undo the other.
func (c *treeCopy) attributes(in *os.File, fi fs.FileInfo, mode fs.FileMode, dst string) error {
	if err := copyOwner(c.to, dst, fi); err != nil {
		return err
	}
	if err := copyXattrs(c.to, dst, in); err != nil {
		return err
	}
	if err := c.to.Chmod(dst, permissions(mode)); err != nil {
		return err
	}
	return c.to.Chtimes(dst, time.Time{}, fi.ModTime())
}

// permissions are the bits of a mode that can be set.
func permissions(m fs.FileMode) fs.FileMode {
	return m & (fs.ModePerm | fs.ModeSetuid | fs.ModeSetgid | fs.ModeSticky)
}
