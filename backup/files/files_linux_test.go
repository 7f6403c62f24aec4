package files_test

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/backup/files"
	"github.com/holdfast-go/holdfast/provider/providertest"
)

// Owners (for root), extended attributes, set-uid bits and the times of
// links come back; special files are recorded.
func TestAttributes(t *testing.T) {
	root := t.TempDir()
	write(t, root, "dir/file", "x")
	file, dir, link := filepath.Join(root, "dir/file"), filepath.Join(root, "dir"), filepath.Join(root, "link")
	must := func(err error) { t.Helper(); must(t, err) }
	must(os.Symlink("dir", link))
	must(unix.Mkfifo(filepath.Join(root, "fifo"), 0o600))
	for _, p := range []string{file, dir} {
		if err := unix.Lsetxattr(p, "user.holdfast", []byte("va\x00lue"), 0); err != nil {
			t.Fatalf("the file system for temporary files has no extended attributes: %v", err)
		}
	}
	isRoot := os.Geteuid() == 0
	if isRoot {
		for i, p := range []string{file, dir, link} {
			must(os.Lchown(p, 1000+i, 2000+i))
		}
	}
	must(os.Chmod(file, 0o711|os.ModeSetuid))
	ts := unix.NsecToTimespec(1234567890123456789)
	must(unix.UtimesNanoAt(unix.AT_FDCWD, link, []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW))

	r := newRepo(t, providertest.NewMemory())
	target := newTarget(t, files.Config{Root: root})
	p, err := r.Backup(t.Context(), "w", target, backup.BackupOptions{})
	must(err)
	dest := t.TempDir()
	must(r.Restore(t.Context(), p.ID, target, backup.Destination{Location: dest}, backup.RestoreOptions{}))
	for _, rel := range []string{"dir/file", "dir", "link"} {
		var a, b unix.Stat_t
		must(unix.Lstat(filepath.Join(root, rel), &a))
		must(unix.Lstat(filepath.Join(dest, rel), &b))
		if a.Mode != b.Mode || a.Uid != b.Uid || a.Gid != b.Gid || a.Mtim != b.Mtim {
			t.Errorf("%s: mode %o owner %d:%d time %v, want %o %d:%d %v", rel, b.Mode, b.Uid, b.Gid, b.Mtim, a.Mode, a.Uid, a.Gid, a.Mtim)
		}
		if rel == "link" {
			continue
		}
		buf := make([]byte, 100)
		n, err := unix.Lgetxattr(filepath.Join(dest, rel), "user.holdfast", buf)
		if err != nil || string(buf[:n]) != "va\x00lue" {
			t.Errorf("%s: attribute %q, %v", rel, buf[:max(n, 0)], err)
		}
	}
	v, err := r.View(t.Context(), p.ID)
	must(err)
	if it, err := v.Lookup(t.Context(), "fifo"); err != nil || !bytes.Contains(it.Meta, []byte(`"fifo"`)) {
		t.Errorf("the FIFO is recorded as %s, %v", it.Meta, err)
	}
	if _, err := os.Lstat(filepath.Join(dest, "fifo")); err == nil {
		t.Error("the FIFO was restored")
	}
}

// Special files are made when asked for, devices by their own option; the
// ACLs of files and directories come back, and none is inherited that a file
// did not have.
func TestSpecialFiles(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("making devices takes root")
	}
	root := t.TempDir()
	at := func(p string) string { return filepath.Join(root, p) }
	acl := []byte{2, 0, 0, 0, 1, 0, 6, 0, 255, 255, 255, 255, 2, 0, 6, 0, 57, 5, 0, 0, 4, 0, 4, 0, 255, 255, 255, 255,
		16, 0, 6, 0, 255, 255, 255, 255, 32, 0, 0, 0, 255, 255, 255, 255}
	write(t, root, "dir/file", "x")
	write(t, root, "acl", "x")
	must(t, os.Mkdir(at("shared"), 0o2770), os.Chmod(at("shared"), 0o770|os.ModeSetgid))
	must(t, unix.Mkfifo(at("fifo"), 0o621), unix.Mknod(at("null"), unix.S_IFCHR|0o600, 1<<8|3), unix.Mknod(at("disk"), unix.S_IFBLK|0o600, 7<<8),
		unix.Mknod(at("socket"), unix.S_IFSOCK|0o640, 0), os.Chmod(at("fifo"), 0o621), os.Lchown(at("socket"), 7, 8))
	must(t, unix.Setxattr(at("acl"), "system.posix_acl_access", acl, 0), unix.Setxattr(at("shared"), "system.posix_acl_default", acl, 0),
		unix.Setxattr(at("fifo"), "trusted.holdfast", []byte("x"), 0))
	r, target, p := backedUp(t, root)
	dest := t.TempDir()
	must(t, unix.Setxattr(dest, "system.posix_acl_default", acl, 0))
	state := func(dir string) map[string]string {
		out := map[string]string{}
		for rel, line := range snapshot(t, dir) {
			var st unix.Stat_t
			must(t, unix.Lstat(filepath.Join(dir, rel), &st))
			names := make([]byte, 1000)
			n, err := unix.Llistxattr(filepath.Join(dir, rel), names)
			must(t, err)
			list := strings.Split(string(names[:n]), "\x00")
			slices.Sort(list)
			out[rel] = fmt.Sprintf("%s %d:%d %o %d %q", line, st.Uid, st.Gid, st.Mode, st.Rdev, list)
		}
		return out
	}
	want := state(root)
	for _, d := range []string{"null", "disk"} {
		delete(want, d)
	}
	_, err := restored(t, r, p.ID, target, dest, "special=true")
	must(t, err)
	same(t, state(dest), want)
	must(t, os.Remove(filepath.Join(dest, "fifo")), os.Symlink("/etc/passwd", filepath.Join(dest, "fifo")))
	must(t, unix.Setxattr(filepath.Join(dest, "dir/file"), "user.more", []byte("x"), 0))
	_, err = restored(t, r, p.ID, target, dest, "special=true", "devices=true", "overwrite=true")
	must(t, err)
	same(t, state(dest), state(root))
}

// What cannot be read is left out and named; the rest is kept. Root can read
// everything, so for root the test runs once more as nobody.
func TestUnreadable(t *testing.T) {
	if os.Geteuid() == 0 {
		asNobody(t, "^TestUnreadable$")
		return
	}
	root := t.TempDir()
	write(t, root, "good", "good")
	write(t, root, "bad", "bad")
	write(t, root, "dir/in", "in")
	for _, p := range []string{"bad", "dir"} {
		if err := os.Chmod(filepath.Join(root, p), 0); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { os.Chmod(filepath.Join(root, "dir"), 0o755) })
	r := newRepo(t, providertest.NewMemory())
	p, err := r.Backup(t.Context(), "files", newTarget(t, files.Config{Root: root}), backup.BackupOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if len(p.Warnings) != 2 || p.WarningCount != 2 || p.Warnings[0].Path != "bad" || p.Warnings[1].Path != "dir" || !p.Partial() {
		t.Errorf("warnings %+v, want one for bad and one for dir", p.Warnings)
	}
	if p.Stats.Items != 3 {
		t.Errorf("%d items, want 3: the root, dir, good", p.Stats.Items)
	}
	// Nor is it what has been added since, which a mirror would delete.
	must(t, os.Chmod(filepath.Join(root, "dir"), 0o755))
	write(t, root, "badly", "extra")
	_, err = restored(t, r, p.ID, newTarget(t, files.Config{Root: root}), root, "overwrite=true", "mirror=true")
	must(t, err, os.Chmod(filepath.Join(root, "dir"), 0o755)) // as it was, it was restored
	for rel, want := range map[string]bool{"good": true, "bad": true, "dir/in": true, "badly": false} {
		if _, err := os.Lstat(filepath.Join(root, rel)); (err == nil) != want {
			t.Errorf("after a mirror of what could be read: %s: %v", rel, err)
		}
	}
}

// A file that never holds still is kept as it was read last, with a warning.
// The kernel has some that never have the size they say.
func TestNeverStill(t *testing.T) {
	r := newRepo(t, providertest.NewMemory())
	p, err := r.Backup(t.Context(), "w", newTarget(t, files.Config{Root: "/proc/sys/kernel/random"}), backup.BackupOptions{})
	if err != nil {
		t.Fatal(err)
	}
	warned := map[string]bool{}
	for _, w := range p.Warnings {
		warned[w.Path] = true
	}
	v, err := r.View(t.Context(), p.ID)
	if err != nil {
		t.Fatal(err)
	}
	it, err := v.Lookup(t.Context(), "uuid")
	if err != nil || it.Size != 37 || !warned["uuid"] {
		t.Errorf("uuid has %d bytes, %v; warned: %t", it.Size, err, warned["uuid"])
	}
}

// asNobody runs a test of this binary as the user nobody.
func asNobody(t *testing.T, run string) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("/tmp", "nobody") // t.TempDir is closed to others
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	in, err := os.Open(exe)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := os.OpenFile(filepath.Join(dir, "test"), os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	_, err = io.Copy(out, in)
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), filepath.Join(dir, "test"), "-test.run="+run, "-test.v")
	cmd.Dir = "/"
	cmd.Env = []string{"TMPDIR=/tmp", "PATH=" + os.Getenv("PATH")}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	b, err := cmd.CombinedOutput()
	if err != nil || !bytes.Contains(b, []byte("--- PASS")) {
		t.Fatalf("as nobody: %v\n%s", err, b)
	}
}
