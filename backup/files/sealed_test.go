package files_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/backup/files"
	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/local"
)

// A host that can only back up reads of its files what has changed since its
// last point, in every process anew; a holder restores each point byte for
// byte. With a lost cache everything is read once.
func TestSealedHostReadsWhatHasChanged(t *testing.T) {
	store, err := local.NewBlobStore(local.Config{Dir: filepath.Join(t.TempDir(), "store"), Create: true})
	must(t, err)
	defer store.Close()
	holder := newRepo(t, store)
	credential, err := holder.Seal(t.Context(), "web1")
	must(t, err)
	root, cache := t.TempDir(), t.TempDir()
	size := int64(0)
	put := func(path, content string) {
		write(t, root, path, content)
		size += int64(len(content))
	}
	for i := range 300 {
		put(fmt.Sprintf("dir%d/file%d", i%7, i), fmt.Sprintf("content %d", i))
	}
	put("large", strings.Repeat("0123456789abcdef", 200_000))
	put("medium", strings.Repeat("x", 70_000))
	must(t, os.Symlink("large", filepath.Join(root, "link")), os.Link(filepath.Join(root, "medium"), filepath.Join(root, "second name")))
	target := newTarget(t, files.Config{Root: root})
	var last backup.PointID
	back := func(step string, mode backup.Mode, parent backup.PointID, read int64) backup.Point {
		t.Helper()
		r, err := backup.Open(t.Context(), backup.Config{Store: store, Credential: credential, Cache: cache})
		must(t, err)
		p, err := r.Backup(t.Context(), "web", target, backup.BackupOptions{Mode: mode, Time: later()})
		must(t, err)
		if p.Parent != parent || p.Stats.BytesRead != read || p.WarningCount != 0 {
			t.Errorf("%s: compared with %q and read %d bytes, want %q and %d; warnings %v", step, p.Parent, p.Stats.BytesRead, parent, read, p.Warnings)
		}
		dest := t.TempDir()
		must(t, holder.Restore(t.Context(), p.ID, target, backup.Destination{Location: dest}, backup.RestoreOptions{}))
		same(t, snapshot(t, dest), snapshot(t, root))
		last = p.ID
		return p
	}
	full := back("first", backup.Incremental, "", size)
	back("unchanged", backup.Incremental, last, 0)
	write(t, root, "dir3/new", "new content")
	write(t, root, "medium", strings.Repeat("y", 70_001))
	must(t, os.Remove(filepath.Join(root, "dir1/file8")))
	back("changed", backup.Incremental, last, 11+70_001)
	back("since the full one", backup.Differential, full.ID, 11+70_001)
	back("unchanged since", backup.Incremental, last, 0)

	// What is lost is read again, in one file as in many.
	for info, err := range store.List(t.Context(), "data/", provider.ListOptions{}) {
		must(t, err, store.Delete(t.Context(), info.Key, provider.DeleteOptions{}))
	}
	_, err = holder.Repair(t.Context(), backup.RepairOptions{})
	must(t, err)
	size += 11 + 1 - int64(len("content 8"))
	back("content lost", backup.Incremental, last, size)
	back("unchanged since that", backup.Incremental, last, 0)

	must(t, filepath.WalkDir(cache, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() && filepath.Base(filepath.Dir(filepath.Dir(path))) == "pages" {
			return os.WriteFile(path, nil, 0o600)
		}
		return err
	}))
	back("pages damaged", backup.Incremental, "", size)
	must(t, os.RemoveAll(cache))
	back("cache lost", backup.Incremental, "", size)
	must(t, holder.Forget(t.Context(), last))
	back("point forgotten", backup.Incremental, "", size)
}
