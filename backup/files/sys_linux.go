package files

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// specials: FIFOs, sockets and devices can be made.
const specials = true

func changeTime(st *syscall.Stat_t) int64 { return st.Ctim.Nano() }

func notEmpty(err error) bool {
	return errors.Is(err, unix.ENOTEMPTY) || errors.Is(err, unix.EEXIST)
}

// xattrs reads the extended attributes of what is behind a path.
func xattrs(list func([]byte) (int, error), get func(string, []byte) (int, error)) (map[string][]byte, error) {
	n, err := list(nil)
	if err != nil || n == 0 {
		if errors.Is(err, unix.ENOTSUP) || errors.Is(err, unix.EPERM) {
			err = nil
		}
		return nil, err
	}
	names := make([]byte, n+256)
	if n, err = list(names); err != nil {
		return nil, err
	}
	out := map[string][]byte{}
	for name := range strings.SplitSeq(strings.TrimSuffix(string(names[:n]), "\x00"), "\x00") {
		buf := make([]byte, 64<<10) // the most Linux allows
		n, err := get(name, buf)
		if errors.Is(err, unix.ENODATA) || name == "" {
			continue // removed meanwhile
		}
		if err != nil {
			return nil, err
		}
		out[name] = append([]byte{}, buf[:n]...)
	}
	return out, nil
}

func fileXattrs(f *os.File) (map[string][]byte, error) {
	fd := int(f.Fd())
	return xattrs(func(b []byte) (int, error) { return unix.Flistxattr(fd, b) },
		func(name string, b []byte) (int, error) { return unix.Fgetxattr(fd, name, b) })
}

// readXattrs reads the extended attributes of what has a name in an open
// directory, not following links.
func readXattrs(dir *os.File, name string) (map[string][]byte, error) {
	path := "/proc/self/fd/" + strconv.Itoa(int(dir.Fd())) + "/" + name
	return xattrs(func(b []byte) (int, error) { return unix.Llistxattr(path, b) },
		func(name string, b []byte) (int, error) { return unix.Lgetxattr(path, name, b) })
}

// ours reports whether an attribute that a point does not have is to be
// removed. Others are the system's.
func ours(name string) bool {
	return strings.HasPrefix(name, "user.") || strings.HasPrefix(name, "trusted.") ||
		strings.HasPrefix(name, "system.posix_acl_") || name == "security.capability"
}

// A handle is something whose attributes can be set: by descriptor, or for
// what cannot be opened by the path that /proc has for a descriptor.
type handle struct {
	stat        unix.Stat_t
	list        func([]byte) (int, error)
	get         func(string, []byte) (int, error)
	set         func(string, []byte) error
	remove      func(string) error
	chown       func(uid, gid int) error
	chmod       func(uint32) error
	times       func(*[2]unix.Timespec) error
	permissions bool // it has any
}

func byDescriptor(fd int) (*handle, error) {
	h := &handle{
		list:        func(b []byte) (int, error) { return unix.Flistxattr(fd, b) },
		get:         func(n string, b []byte) (int, error) { return unix.Fgetxattr(fd, n, b) },
		set:         func(n string, b []byte) error { return unix.Fsetxattr(fd, n, b, 0) },
		remove:      func(n string) error { return unix.Fremovexattr(fd, n) },
		chown:       func(u, g int) error { return unix.Fchown(fd, u, g) },
		chmod:       func(m uint32) error { return unix.Fchmod(fd, m) },
		times:       func(ts *[2]unix.Timespec) error { return futimens(fd, ts) },
		permissions: true,
	}
	return h, unix.Fstat(fd, &h.stat)
}

// futimens is utimensat(2) of the descriptor itself.
func futimens(fd int, ts *[2]unix.Timespec) error {
	if _, _, e := unix.Syscall6(unix.SYS_UTIMENSAT, uintptr(fd), 0, uintptr(unsafe.Pointer(ts)), 0, 0, 0); e != 0 {
		return e
	}
	return nil
}

// apply makes the attributes those of m. Fresh says that the file was made a
// moment ago and has none but those it inherited.
func (h *handle) apply(m meta, fresh bool) error {
	var errs []error
	touched := false
	if m.Owner != nil && os.Geteuid() == 0 && (h.stat.Uid != m.Owner.User || h.stat.Gid != m.Owner.Group) {
		errs = append(errs, named("chown", h.chown(int(m.Owner.User), int(m.Owner.Group))))
		touched = true
	}
	if !fresh || len(m.Xattrs) > 0 {
		changed, err := h.applyXattrs(m.Xattrs)
		touched = touched || changed
		errs = append(errs, err)
	}
	// Changing the owner clears set-uid, and an ACL changes the group's bits.
	if h.permissions && (touched || h.stat.Mode&0o7777 != m.Mode) {
		errs = append(errs, named("chmod", h.chmod(m.Mode)))
	}
	if at := m.ModTime.UnixNano(); h.stat.Mtim.Nano() != at || touched {
		errs = append(errs, named("set times", h.times(&[2]unix.Timespec{{Nsec: unix.UTIME_OMIT}, unix.NsecToTimespec(at)})))
	}
	return errors.Join(errs...)
}

func named(op string, err error) error {
	if err != nil {
		return fmt.Errorf("%s: %w", op, err)
	}
	return nil
}

func (h *handle) applyXattrs(want map[string][]byte) (changed bool, err error) {
	have, err := xattrs(h.list, h.get)
	if err != nil {
		return false, named("list extended attributes", err)
	}
	var errs []error
	for name := range have {
		if _, ok := want[name]; !ok && ours(name) {
			changed = true
			errs = append(errs, named("removexattr "+name, h.remove(name)))
		}
	}
	for name, value := range want {
		if old, ok := have[name]; !ok || !bytes.Equal(old, value) {
			changed = true
			errs = append(errs, named("setxattr "+name, h.set(name, value)))
		}
	}
	return changed, errors.Join(errs...)
}

func describeFile(f *os.File, m meta, fresh bool) error {
	h, err := byDescriptor(int(f.Fd()))
	if err != nil {
		return err
	}
	return h.apply(m, fresh && !inherits(f.Fd(), h))
}

// inherits reports whether a new file got an ACL from its directory.
func inherits(fd uintptr, h *handle) bool {
	n, err := unix.Flistxattr(int(fd), nil)
	return err == nil && n > 0
}

// sameAttributes reports whether nothing of a file's attributes would change.
func sameAttributes(f *os.File, fi fs.FileInfo, m meta) bool {
	now := describe(fi)
	if now.Mode != m.Mode || !now.ModTime.Equal(m.ModTime) || (os.Geteuid() == 0 && m.Owner != nil && *now.Owner != *m.Owner) {
		return false
	}
	have, err := fileXattrs(f)
	if err != nil || len(have) != len(m.Xattrs) {
		return false
	}
	for name, v := range m.Xattrs {
		if old, ok := have[name]; !ok || !bytes.Equal(old, v) {
			return false
		}
	}
	return true
}

// writeSmall creates a file with its content and attributes. It is what most
// of a restore is, so it makes as few calls as it can.
func (c *dirCursor) writeSmall(r *restorer, name string, b []byte, k expected) error {
	d, err := c.file()
	if err != nil {
		return err
	}
	dir := int(d.Fd())
	fd, err := unix.Openat(dir, name, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, k.m.Mode&0o777)
	if err != nil {
		return os.NewSyscallError("openat", err)
	}
	err = writeAll(fd, b)
	if err == nil {
		var h *handle
		if h, err = byDescriptor(fd); err == nil {
			if aerr := h.apply(k.m, !c.inherits(d)); aerr != nil {
				r.t.c.Logger.Warn("restored without all of its attributes", "path", k.it.Path, "error", aerr)
			}
		}
	}
	if err = errors.Join(err, unix.Close(fd)); err != nil {
		return errors.Join(err, unix.Unlinkat(dir, name, 0))
	}
	return nil
}

// inherits reports whether what is made in a directory gets an ACL from it.
func (c *dirCursor) inherits(d *os.File) bool {
	if c.asked != d {
		n, err := unix.Fgetxattr(int(d.Fd()), "system.posix_acl_default", nil)
		c.asked, c.inherit = d, err == nil && n > 0
	}
	return c.inherit
}

func writeAll(fd int, b []byte) error {
	for len(b) > 0 {
		n, err := unix.Write(fd, b)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return os.NewSyscallError("write", err)
		}
		b = b[n:]
	}
	return nil
}

// setTime is done by describeFile.
func setTime(*os.Root, string, meta) error { return nil }

// makeSpecial makes a symbolic link or a special file.
func makeSpecial(c *dirCursor, dir *os.Root, name string, m meta) error {
	var kind uint32
	switch m.Type {
	case typeSymlink:
		return dir.Symlink(string(m.Link), name)
	case typeFIFO:
		kind = unix.S_IFIFO
	case typeSocket:
		kind = unix.S_IFSOCK
	case typeDevice:
		if kind = unix.S_IFBLK; m.Format == charDevice {
			kind = unix.S_IFCHR
		}
	}
	d, err := c.file()
	if err != nil {
		return err
	}
	return named("mknod", unix.Mknodat(int(d.Fd()), name, kind|0o600, int(m.Device)))
}

// describeSpecial sets the attributes of what cannot be opened.
func describeSpecial(c *dirCursor, _ *os.Root, name string, m meta) error {
	d, err := c.file()
	if err != nil {
		return err
	}
	fd, err := unix.Openat(int(d.Fd()), name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	self := filepath.Join("/proc/self/fd", strconv.Itoa(fd))
	h := &handle{
		list:        func(b []byte) (int, error) { return unix.Listxattr(self, b) },
		get:         func(n string, b []byte) (int, error) { return unix.Getxattr(self, n, b) },
		set:         func(n string, b []byte) error { return unix.Setxattr(self, n, b, 0) },
		remove:      func(n string) error { return unix.Removexattr(self, n) },
		chown:       func(u, g int) error { return unix.Fchownat(fd, "", u, g, unix.AT_EMPTY_PATH) },
		chmod:       func(m uint32) error { return unix.Chmod(self, m) },
		times:       func(ts *[2]unix.Timespec) error { return timesOf(fd, int(d.Fd()), name, ts) },
		permissions: m.Type != typeSymlink,
	}
	if err := unix.Fstat(fd, &h.stat); err != nil {
		return err
	}
	want := map[string]uint32{typeSymlink: unix.S_IFLNK, typeFIFO: unix.S_IFIFO, typeSocket: unix.S_IFSOCK}[m.Type]
	if m.Type == typeDevice {
		want = h.stat.Mode & unix.S_IFMT & (unix.S_IFBLK | unix.S_IFCHR)
	}
	if h.stat.Mode&unix.S_IFMT != want || h.stat.Nlink > 1 {
		return errReplaced
	}
	return h.apply(m, false)
}

// timesOf sets the times of what an O_PATH descriptor shows; kernels before
// 5.8 can do it by name only.
func timesOf(fd, dir int, name string, ts *[2]unix.Timespec) error {
	err := unix.UtimesNanoAt(fd, "", ts[:], unix.AT_EMPTY_PATH)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) {
		return unix.UtimesNanoAt(dir, name, ts[:], unix.AT_SYMLINK_NOFOLLOW)
	}
	return err
}

// punch makes a hole.
func punch(f *os.File, off, n int64) error {
	return unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, n)
}

// dropCache makes the next read come from the disk, as far as the system
// does what it is advised.
func dropCache(f *os.File) {
	unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED)
}

// startWriting tells the system to begin writing a part of a file to the disk,
// and does not wait for it. Where it cannot, the sync at the end does it all.
func startWriting(f *os.File, off, n int64) {
	unix.SyncFileRange(int(f.Fd()), off, n, unix.SYNC_FILE_RANGE_WRITE)
}

// syncTree makes everything below root durable.
func syncTree(root *os.Root) error {
	d, err := root.Open(".")
	if err != nil {
		return err
	}
	defer d.Close()
	return unix.Syncfs(int(d.Fd()))
}

// syncFile is not needed where syncTree does it all at once.
func syncFile(*os.File) error { return nil }
