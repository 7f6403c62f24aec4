// Package durable has the few file operations whose effect survives a crash
// of the process and of the machine, and a lock between processes. Names are
// slash-separated and relative to an [os.Root], so that a symbolic link
// planted below it cannot lead outside. Files are made with mode 0600 and
// directories with 0700.
//
// # The order of things
//
// A file is staged under a name that nobody reads (create exclusively, write,
// fsync), then published (rename or link, fsync of the directory). After a
// crash the published name holds the old file or the new one, whole; a staged
// file may be left, which is for its owner to find and remove.
//
// # What the operating system does not promise
//
//   - fsync of a file says nothing about its name. The name is durable once
//     its directory has been synced, and that directory's own name once the
//     parent has been: [MkdirAll] syncs every parent, also of directories that
//     were there, since whoever made them may have died before syncing.
//   - After fsync has failed the kernel may have dropped the pages and forgot
//     the error; a second fsync that succeeds proves nothing. [Stage]
//     therefore never tries again: it removes the file and fails.
//   - A rename is visible to others before it is durable. Who reads a file
//     and is told about it by nobody may see content that a power failure
//     takes back, unless the writer and the reader hold one lock around it.
//   - If the sync of the directory fails after a rename, the outcome is
//     unknown: the new name is visible and may vanish. Nothing can undo it.
//   - A disk that reports a cache flush as done before it is makes all of
//     this void. On macOS [os.File.Sync] uses F_FULLFSYNC; on Windows
//     directories cannot be synced, and NTFS's own journal orders the rename.
//   - flock holds between the processes of one machine; over NFS and other
//     network file systems it depends on the server and the mount options.
package durable

import (
	"crypto/rand"
	"errors"
	"io/fs"
	"os"
	"path"
)

// Stage makes the file name, which must not be there ([fs.ErrExist]), with
// what write writes, and returns when its content is on disk; its name may
// not be. If anything fails the file is removed.
func Stage(root *os.Root, name string, write func(*os.File) error) (err error) {
	f, err := root.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, root.Remove(name))
		}
	}()
	if err := write(f); err != nil {
		f.Close()
		return err
	}
	if err := f.Sync(); err != nil {
		f.Close()
		return err
	}
	note("sync", root, name)
	return f.Close()
}

// Publish gives a staged file the name by which it is read, replacing what is
// there at one moment, and returns when the name is durable. If the error
// comes from the sync of the directory, the file may be there.
func Publish(root *os.Root, staged, name string) error {
	if err := Rename(root, staged, name); err != nil {
		return err
	}
	return SyncDir(root, path.Dir(name))
}

// Rename is the first half of [Publish], for callers that do something
// before the [SyncDir] that they owe.
func Rename(root *os.Root, staged, name string) error {
	if err := root.Rename(staged, name); err != nil {
		return err
	}
	note("rename", root, name)
	return nil
}

// PublishNew is [Publish] for a name that must not be taken: [fs.ErrExist] if
// it is, and of racing calls exactly one succeeds. It needs hard links, which
// FAT file systems lack. The staged file is removed if it was published.
func PublishNew(root *os.Root, staged, name string) error {
	if err := root.Link(staged, name); err != nil {
		return err
	}
	note("link", root, name)
	if err := SyncDir(root, path.Dir(name)); err != nil {
		return err
	}
	return root.Remove(staged)
}

// WriteFile replaces the file name by data, whole and durable. It stages
// beside name, under name and a random suffix ".tmp-...", which a crash can
// leave behind.
func WriteFile(root *os.Root, name string, data []byte) error {
	return stageAnd(Publish, root, name, data)
}

// CreateFile is [WriteFile] for a name that must not be taken: [fs.ErrExist]
// if it is, and of racing calls exactly one succeeds.
func CreateFile(root *os.Root, name string, data []byte) error {
	return stageAnd(PublishNew, root, name, data)
}

func stageAnd(publish func(*os.Root, string, string) error, root *os.Root, name string, data []byte) error {
	staged := name + ".tmp-" + rand.Text()
	err := Stage(root, staged, func(f *os.File) error {
		_, err := f.Write(data)
		return err
	})
	if err != nil {
		return err
	}
	if err := publish(root, staged, name); err != nil {
		if rm := root.Remove(staged); rm != nil && !errors.Is(rm, fs.ErrNotExist) {
			err = errors.Join(err, rm)
		}
		return err
	}
	return nil
}

// MkdirAll makes the directory dir and its parents, as far as they are not
// there, and returns when all of their names are durable.
func MkdirAll(root *os.Root, dir string) error {
	if dir = path.Clean(dir); dir == "." {
		return nil
	}
	parent := path.Dir(dir)
	if err := MkdirAll(root, parent); err != nil {
		return err
	}
	if err := root.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	note("mkdir", root, dir)
	return SyncDir(root, parent)
}

// Remove deletes the file name and returns when that is durable.
// [fs.ErrNotExist] if it is not there.
func Remove(root *os.Root, name string) error {
	if err := root.Remove(name); err != nil {
		return err
	}
	note("remove", root, name)
	return SyncDir(root, path.Dir(name))
}
