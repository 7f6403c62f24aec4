//go:build unix

package local_test

import (
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/holdfast-go/holdfast/provider"
)

// Root may do what others may not, so the tests about permissions run as
// somebody else as well.
func TestSnapshotWithoutPrivileges(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("the other tests run without privileges already")
	}
	const nobody = 65534
	dir, err := os.MkdirTemp("", "unprivileged") // t.TempDir is within a directory of root alone
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chown(dir, nobody, nobody); err != nil {
		t.Fatal(err)
	}
	bin := filepath.Join(dir, "test")
	copyBinary(t, os.Args[0], bin)
	cmd := exec.Command(bin, "-test.v", "-test.run=^(TestSnapshotKeepsTree|TestSnapshotDeletedWhilePending|TestSnapshotDeletedWhileRead)$")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "TMPDIR="+dir, "HOME="+dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	out, err := cmd.CombinedOutput()
	if err != nil || strings.Count(string(out), "\n--- PASS: TestSnapshot") != 3 {
		t.Errorf("%v\n%s", err, out)
	}
}

func copyBinary(t *testing.T, from, to string) {
	t.Helper()
	in, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(out, in); err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
}

// A socket is left out; a pipe is an error that names it.
func TestSnapshotOfSpecialFiles(t *testing.T) {
	s := snapshotter(t, t.TempDir(), "here", nil)
	if err := os.Mkdir(s.VolumeDir("v"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(s.VolumeDir("v"), "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "s") // the path of a socket is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	l, err := net.Listen("unix", filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := os.Rename(filepath.Join(dir, "s"), filepath.Join(s.VolumeDir("v"), "socket")); err != nil {
		t.Fatal(err)
	}
	snap := wait(t, s, create(t, s, "v", "t"))
	v := restored(t, s, snap.Ref, "r")
	entries, err := os.ReadDir(s.VolumeDir(v.ID))
	if v.State != provider.Ready || err != nil || len(entries) != 1 {
		t.Errorf("%+v holds %v, %v", v, entries, err)
	}
	if err := syscall.Mkfifo(filepath.Join(s.VolumeDir("v"), "pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	if snap := wait(t, s, create(t, s, "v", "another")); snap.State != provider.Failed || !strings.Contains(snap.Reason, "pipe") {
		t.Errorf("%+v", snap)
	}
}
