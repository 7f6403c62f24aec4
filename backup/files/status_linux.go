package files

import (
	"io/fs"
	"time"

	"golang.org/x/sys/unix"
)

// lstat looks at an entry that the walk has come to. It is most of what there
// is to do for a file that has not changed. A name read from a directory has
// no slash in it, so what it leads to is in that directory. What has no
// status then has fi.
func (e *entry) lstat() (err error) {
	var st unix.Stat_t
	for {
		if err = unix.Fstatat(int(e.in.file.Fd()), e.name, &st, unix.AT_SYMLINK_NOFOLLOW); err != unix.EINTR {
			break
		}
	}
	if err != nil {
		return &fs.PathError{Op: "lstat", Path: e.name, Err: err}
	}
	if st.Mode&unix.S_IFMT == unix.S_IFREG {
		e.setFile(&st)
		return nil
	}
	e.fi, err = e.dir.Lstat(e.name)
	return err
}

// setFile is set for a regular file.
func (s *status) setFile(st *unix.Stat_t) {
	s.owner = owner{User: st.Uid, Group: st.Gid}
	s.meta = meta{Type: typeFile, Mode: st.Mode & 0o7777, Owner: &s.owner, ModTime: recordable(time.Unix(st.Mtim.Unix())),
		Change: st.Ctim.Nano(), Inode: st.Ino}
	s.size, s.id, s.names = st.Size, inode{uint64(st.Dev), st.Ino}, uint64(st.Nlink)
}
