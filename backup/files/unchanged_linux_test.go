package files_test

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/backup/files"
	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/providertest"
)

// Attributes of what has not changed are not asked for again. They are in the
// next point all the same, also if its content was lost and has to be read;
// and what changes of them alone is noticed.
func TestAttributesOfUnchanged(t *testing.T) {
	root := t.TempDir()
	write(t, root, "dir/file", "content")
	must(t, os.Symlink("first", filepath.Join(root, "link")))
	names := []string{"dir", "dir/file"}
	value := map[string]string{}
	set := func(name, to string) {
		t.Helper()
		must(t, unix.Setxattr(filepath.Join(root, name), "user.holdfast", []byte(to), 0))
		value[name] = to
	}
	for _, name := range names {
		set(name, "one")
	}
	store := providertest.NewMemory()
	r := newRepo(t, store)
	target := newTarget(t, files.Config{Root: root})
	back := func(step string, wantRead int64) {
		t.Helper()
		p, err := r.Backup(t.Context(), "w", target, backup.BackupOptions{Mode: backup.Incremental, Time: later()})
		must(t, err)
		if p.Stats.BytesRead != wantRead || p.WarningCount != 0 {
			t.Errorf("%s: read %d bytes, want %d; warnings %v", step, p.Stats.BytesRead, wantRead, p.Warnings)
		}
		dest := t.TempDir()
		must(t, r.Restore(t.Context(), p.ID, target, backup.Destination{Location: dest}, backup.RestoreOptions{}))
		same(t, snapshot(t, dest), snapshot(t, root))
		for _, name := range names {
			buf := make([]byte, 100)
			n, err := unix.Getxattr(filepath.Join(dest, name), "user.holdfast", buf)
			if err != nil || string(buf[:n]) != value[name] {
				t.Errorf("%s: attribute of %s is %q, %v; want %q", step, name, buf[:max(n, 0)], err, value[name])
			}
		}
	}
	back("first", 7)
	back("unchanged", 0)
	set("dir/file", "two")
	set("dir", "three")
	must(t, os.Chmod(filepath.Join(root, "dir/file"), 0o751))
	must(t, os.Remove(filepath.Join(root, "link")))
	must(t, os.Symlink("other", filepath.Join(root, "link")))
	back("other attributes", 7) // the change time is another
	for info, err := range store.List(t.Context(), "data/", provider.ListOptions{}) {
		must(t, err, store.Delete(t.Context(), info.Key, provider.DeleteOptions{}))
	}
	_, err := r.Repair(t.Context(), backup.RepairOptions{})
	must(t, err)
	back("content lost", 7)
	back("unchanged since", 0)
}
