package files_test

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
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
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
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
