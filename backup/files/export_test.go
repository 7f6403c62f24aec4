package files_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/age"
	"github.com/klauspost/compress/zstd"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/backup/files"
	"github.com/holdfast-go/holdfast/provider/providertest"
)

// TestR8StockToolsRestoreAnExport: age, zstd and tar as Debian ships them
// bring back the tree, with no line of this library.
func TestR8StockToolsRestoreAnExport(t *testing.T) {
	for _, tool := range []string{"age", "zstd", "tar"} {
		if _, err := exec.LookPath(tool); err != nil {
			if os.Getenv("CI") == "true" {
				t.Fatal(err)
			}
			t.Skip(err)
		}
	}
	ctx, root := t.Context(), source(t)
	repo, target := newRepo(t, providertest.NewMemory()), newTarget(t, files.Config{Root: root})
	point, err := repo.Backup(ctx, "tree", target, backup.BackupOptions{})
	if err != nil {
		t.Fatal(err)
	}
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	archive, key, out := filepath.Join(dir, "point.tar.zst.age"), filepath.Join(dir, "key.txt"), filepath.Join(dir, "out")
	if err := errors.Join(os.WriteFile(key, []byte(id.String()+"\n"), 0o600), os.Mkdir(out, 0o700)); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(archive)
	if err != nil {
		t.Fatal(err)
	}
	var told backup.Progress
	if err := repo.Export(ctx, point.ID, target, f, backup.ExportOptions{
		Recipients: []age.Recipient{id.Recipient()}, Progress: func(p backup.Progress) { told = p }}); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if told.Items != point.Stats.Items || told.Bytes != point.Stats.Bytes {
		t.Errorf("progress tells %d items, %d bytes; the point has %d and %d", told.Items, told.Bytes, point.Stats.Items, point.Stats.Bytes)
	}
	script := `set -eo pipefail; age -d -i "$1" "$2" | zstd -d -q | tar -x -p --xattrs -C "$3" --warning=no-unknown-keyword`
	if b, err := exec.CommandContext(ctx, "bash", "-c", script, "sh", key, archive, out).CombinedOutput(); err != nil || len(b) > 0 {
		t.Fatalf("%v\n%s", err, b)
	}
	got, want := snapshot(t, out), snapshot(t, root)
	if !strings.Contains(got["HOLDFAST-POINT.json"], string(point.ID)) {
		t.Errorf("HOLDFAST-POINT.json: %.200q", got["HOLDFAST-POINT.json"])
	}
	delete(got, "HOLDFAST-POINT.json")
	same(t, got, want)

	// The archive without its last bytes is refused by the tools.
	b, err := os.ReadFile(archive)
	if err == nil {
		err = os.WriteFile(archive, b[:len(b)-20], 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := exec.CommandContext(ctx, "bash", "-c", script, "sh", key, archive, t.TempDir()).Run(); err == nil {
		t.Error("a truncated archive was extracted without an error")
	}
}

// TestHostilePointExported: no entry of an archive has a name or a hard link
// that leads out, or stands below what is no directory.
func TestHostilePointExported(t *testing.T) {
	for name, items := range map[string]forged{
		"hard link absolute": {{"h", "link", "/etc/passwd", ""}},
		"hard link up":       {{"h", "link", "../x", ""}},
		"hard link crooked":  {{"h", "link", "a/../../x", ""}},
		"hard link to above": {{"h", "link", "..", ""}},
		"parent":             {{"../h", "file", "", "evil"}},
		"absolute":           {{"/h", "file", "", "evil"}},
		"crooked":            {{"a/../../h", "file", "", "evil"}},
		"garbage":            {{"h", "garbage", "", "evil"}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := exported(t, items)
			if !errors.Is(err, backup.ErrDamaged) || !strings.Contains(err.Error(), items[0].path) {
				t.Errorf("%v, want ErrDamaged that names %q", err, items[0].path)
			}
			if len(got) != 2 {
				t.Errorf("entries %q, want the first and the last", got)
			}
		})
	}
	got, err := exported(t, forged{{"d", "symlink", "/etc", ""}, {"d/x", "file", "", "evil"}, {"d-e", "file", "", "good"}})
	if !errors.Is(err, backup.ErrDamaged) || strings.Join(got, " ") != "HOLDFAST-POINT.json d d-e HOLDFAST-DAMAGED.txt" {
		t.Errorf("below a symbolic link: entries %q, %v", got, err)
	}
}

// exported returns the names of the entries of an export.
func exported(t *testing.T, items forged) ([]string, error) {
	t.Helper()
	r := newRepo(t, providertest.NewMemory())
	p, err := r.Backup(t.Context(), "x", items, backup.BackupOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	exportErr := r.Export(t.Context(), p.ID, newTarget(t, files.Config{}), &out, backup.ExportOptions{Unencrypted: true})
	z, err := zstd.NewReader(&out)
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	var names []string
	for a := tar.NewReader(z); ; {
		h, err := a.Next()
		if err == io.EOF {
			return names, exportErr
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, h.Name)
	}
}
