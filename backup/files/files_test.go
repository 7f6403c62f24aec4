package files_test

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/backup/files"
	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/providertest"
)

// newRepo makes a repository. Its packs are small, so that a store that holds
// one of them back stops whoever reads more than a few MiB.
func newRepo(t testing.TB, s provider.BlobStore) *backup.Repository {
	t.Helper()
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	r, err := backup.Init(t.Context(), backup.Config{Store: s, Writer: "test", PackSize: 2 << 20, Keyring: backup.Keyring{
		Recipients: backup.AgeRecipients(id.Recipient()), Identities: backup.AgeIdentities(id)}})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func newTarget(t testing.TB, c files.Config) *files.Target {
	t.Helper()
	target, err := files.New(c)
	if err != nil {
		t.Fatal(err)
	}
	return target
}

// write makes a file with its directories.
func write(t testing.TB, root, path, content string) {
	t.Helper()
	full := filepath.Join(root, path)
	if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(full, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

// snapshot describes a tree in text, one line per entry.
func snapshot(t testing.TB, root string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		fi, err := d.Info()
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(root, p)
		line := fmt.Sprintf("%v %d", fi.Mode(), fi.ModTime().UnixNano())
		switch {
		case fi.Mode().IsRegular():
			b, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			line += " " + string(b)
		case fi.Mode()&fs.ModeSymlink != 0:
			link, err := os.Readlink(p)
			if err != nil {
				return err
			}
			line += " -> " + link
		}
		out[rel] = line
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func same(t testing.TB, got, want map[string]string) {
	t.Helper()
	for p, w := range want {
		if g, ok := got[p]; !ok {
			t.Errorf("%s is missing", p)
		} else if g != w {
			t.Errorf("%s is %.100q, want %.100q", p, g, w)
		}
	}
	for p := range got {
		if _, ok := want[p]; !ok {
			t.Errorf("%s should not be there", p)
		}
	}
}

// source makes a tree with one of everything.
func source(t testing.TB) string {
	root := t.TempDir()
	write(t, root, "a/one", "1")
	write(t, root, "a/two", strings.Repeat("two ", 50_000))
	write(t, root, "a-b", "beside")
	write(t, root, "empty", "")
	write(t, root, "deep/er/and/deeper", "down")
	write(t, root, "odd \n\t name", "x")
	write(t, root, "ro/file", "in a directory that cannot be written to")
	for _, f := range []error{
		os.Mkdir(filepath.Join(root, "nothing"), 0o700),
		os.Symlink("a/one", filepath.Join(root, "link")),
		os.Symlink("/no/such/place", filepath.Join(root, "dangling")),
		os.Symlink("..", filepath.Join(root, "a/up")),
		os.Link(filepath.Join(root, "a/one"), filepath.Join(root, "deep/same")),
		os.Chmod(filepath.Join(root, "a/two"), 0o751),
		os.Chmod(filepath.Join(root, "a-b"), 0o4755|fs.ModeSetuid),
		os.Chtimes(filepath.Join(root, "a/two"), time.Time{}, time.Unix(1234567890, 123456789)),
		os.Chtimes(filepath.Join(root, "a"), time.Time{}, time.Unix(1000000000, 1)),
		os.Chmod(filepath.Join(root, "ro"), 0o555),
	} {
		if f != nil {
			t.Fatal(f)
		}
	}
	t.Cleanup(func() { os.Chmod(filepath.Join(root, "ro"), 0o755) })
	return root
}

func TestRoundTrip(t *testing.T) {
	root := source(t)
	r := newRepo(t, providertest.NewMemory())
	target := newTarget(t, files.Config{Root: root})
	p, err := r.Backup(t.Context(), "files", target, backup.BackupOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if p.Partial() {
		t.Errorf("warnings: %v", p.Warnings)
	}
	dest := filepath.Join(t.TempDir(), "new", "place")
	if err := r.Restore(t.Context(), p.ID, target, backup.Destination{Location: dest}, backup.RestoreOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Chmod(filepath.Join(dest, "ro"), 0o755) })
	same(t, snapshot(t, dest), snapshot(t, root))
	a, _ := os.Stat(filepath.Join(dest, "a/one"))
	b, _ := os.Stat(filepath.Join(dest, "deep/same"))
	if !os.SameFile(a, b) {
		t.Error("a/one and deep/same are two files, and were one")
	}
	var left []string
	for p := range snapshot(t, dest) {
		if strings.Contains(p, ".holdfast-") {
			left = append(left, p)
		}
	}
	if left != nil {
		t.Errorf("temporary files left: %q", left)
	}
}

// later is a beginning far enough after the files were made that their times
// can be relied on.
func later() time.Time { return time.Now().Add(time.Minute) }

// The modes differ in what is read, never in what the point holds.
func TestModes(t *testing.T) {
	root := t.TempDir()
	for i := range 10 {
		write(t, root, fmt.Sprintf("d%d/file", i), strings.Repeat(fmt.Sprint(i), 1000))
	}
	write(t, root, "large", strings.Repeat("large", 100_000))
	r := newRepo(t, providertest.NewMemory())
	target := newTarget(t, files.Config{Root: root})
	back := func(mode backup.Mode, wantMode backup.Mode, wantRead int64) backup.Point {
		t.Helper()
		p, err := r.Backup(t.Context(), "files", target, backup.BackupOptions{Mode: mode, Time: later()})
		if err != nil {
			t.Fatal(err)
		}
		if p.Mode != wantMode || p.Stats.BytesRead != wantRead {
			t.Errorf("%s: mode %s, read %d bytes; want %s, %d", mode, p.Mode, p.Stats.BytesRead, wantMode, wantRead)
		}
		dest := t.TempDir()
		if err := r.Restore(t.Context(), p.ID, target, backup.Destination{Location: dest}, backup.RestoreOptions{}); err != nil {
			t.Fatal(err)
		}
		same(t, snapshot(t, dest), snapshot(t, root))
		return p
	}
	all := int64(10*1000 + 500_000)
	full := back(backup.Incremental, backup.Full, all) // nothing to compare with
	back(backup.Incremental, backup.Incremental, 0)
	write(t, root, "d3/file", "changed")
	all += 7 - 1000
	inc := back(backup.Incremental, backup.Incremental, 7)
	if inc.Parent == full.ID {
		t.Error("the incremental backup was compared with the full point, not with the newest")
	}
	write(t, root, "d4/new", "new file")
	all += 8
	diff := back(backup.Differential, backup.Differential, 7+8)
	if diff.Parent != full.ID {
		t.Errorf("the differential backup was compared with %s, not with the full point %s", diff.Parent, full.ID)
	}
	back(backup.Full, backup.Full, all)
	if err := os.Remove(filepath.Join(root, "large")); err != nil {
		t.Fatal(err)
	}
	back(backup.Incremental, backup.Incremental, 0)
	// Same size, same modification time, other content: the change time
	// gives it away.
	before, err := os.Stat(filepath.Join(root, "d4/new"))
	if err != nil {
		t.Fatal(err)
	}
	write(t, root, "d4/new", "NEW FILE")
	if err := os.Chtimes(filepath.Join(root, "d4/new"), before.ModTime(), before.ModTime()); err != nil {
		t.Fatal(err)
	}
	back(backup.Incremental, backup.Incremental, 8)
}

// Names that come before that of the root in the order of paths are found in
// the parent as all others.
func TestNamesBeforeTheRoot(t *testing.T) {
	root := t.TempDir()
	for _, name := range []string{"-x", "#dir/file", "(1).txt", "a"} {
		write(t, root, name, "12345")
	}
	r := newRepo(t, providertest.NewMemory())
	target := newTarget(t, files.Config{Root: root})
	for _, want := range []int64{20, 0} {
		p, err := r.Backup(t.Context(), "files", target, backup.BackupOptions{Mode: backup.Incremental, Time: later()})
		if err != nil || p.Stats.BytesRead != want {
			t.Errorf("read %d bytes, want %d; %v", p.Stats.BytesRead, want, err)
		}
	}
}

// A file touched shortly before the parent's backup began may have been
// changed since without a trace in its times, so it is read.
func TestRecentFilesAreReadAgain(t *testing.T) {
	root := t.TempDir()
	write(t, root, "file", "12345")
	r := newRepo(t, providertest.NewMemory())
	target := newTarget(t, files.Config{Root: root})
	for range 2 {
		p, err := r.Backup(t.Context(), "files", target, backup.BackupOptions{Mode: backup.Incremental})
		if err != nil {
			t.Fatal(err)
		}
		if p.Stats.BytesRead != 5 {
			t.Errorf("%s backup read %d bytes, want all 5", p.Mode, p.Stats.BytesRead)
		}
	}
}

func TestExclude(t *testing.T) {
	root := t.TempDir()
	for _, p := range []string{"keep", "x.tmp", "d/y.tmp", "d/keep", "cache/a", "d/cache/b", "d/e/only"} {
		write(t, root, p, p)
	}
	r := newRepo(t, providertest.NewMemory())
	target := newTarget(t, files.Config{Root: root, Exclude: []string{"*.tmp", "cache", "d/e/*"}})
	p, err := r.Backup(t.Context(), "files", target, backup.BackupOptions{})
	if err != nil {
		t.Fatal(err)
	}
	v, err := r.View(t.Context(), p.ID)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for it, err := range v.Items(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, it.Path)
	}
	if want := ". d d/e d/keep keep"; strings.Join(got, " ") != want {
		t.Errorf("kept %q, want %q", got, want)
	}
	if _, err := files.New(files.Config{Root: root, Exclude: []string{"[", ""}}); err == nil {
		t.Error("bad patterns were accepted")
	}
}

func TestDestination(t *testing.T) {
	root := t.TempDir()
	write(t, root, "f", "new")
	r := newRepo(t, providertest.NewMemory())
	target := newTarget(t, files.Config{Root: root})
	p, err := r.Backup(t.Context(), "files", target, backup.BackupOptions{})
	if err != nil {
		t.Fatal(err)
	}
	dest := t.TempDir()
	write(t, dest, "f", "old")
	write(t, dest, "other", "stays")
	restore := func(o map[string]string, location string) error {
		return r.Restore(context.Background(), p.ID, target, backup.Destination{Location: location, Options: o}, backup.RestoreOptions{})
	}
	read := func(name string) string {
		b, _ := os.ReadFile(filepath.Join(dest, name))
		return string(b)
	}
	for name, o := range map[string]map[string]string{
		"not empty": nil,
		"unknown":   {"overwrite": "true", "overwirte": "true"},
		"value":     {"overwrite": "yes"},
		"dry run":   {"overwrite": "true", "dry-run": "true"},
	} {
		err := restore(o, dest)
		if (err == nil) != (name == "dry run") {
			t.Errorf("%s: %v", name, err)
		}
		if read("f") != "old" || read("other") != "stays" {
			t.Fatalf("%s: the destination was changed", name)
		}
	}
	unrelated := t.TempDir()
	write(t, unrelated, "unrelated", "x")
	if err := restore(nil, unrelated); err == nil {
		t.Error("a destination with an unrelated file was accepted")
	}
	if err := restore(nil, ""); err == nil {
		t.Error("an empty location was accepted")
	}
	if err := restore(map[string]string{"overwrite": "true"}, dest); err != nil {
		t.Fatal(err)
	}
	if read("f") != "new" || read("other") != "stays" {
		t.Errorf("overwrite left f %q and other %q", read("f"), read("other"))
	}
}

// Names that begin with a dot beside the same names without it.
func TestDots(t *testing.T) {
	root := t.TempDir()
	for _, p := range []string{".env/file", "env", ".git/config", "..data/x", ".../y", ".file"} {
		write(t, root, p, p)
	}
	r, target := newRepo(t, providertest.NewMemory()), newTarget(t, files.Config{Root: root})
	p, err := r.Backup(t.Context(), "w", target, backup.BackupOptions{})
	if err != nil {
		t.Fatal(err)
	}
	dest := t.TempDir()
	if err := r.Restore(t.Context(), p.ID, target, backup.Destination{Location: dest}, backup.RestoreOptions{}); err != nil {
		t.Fatal(err)
	}
	same(t, snapshot(t, dest), snapshot(t, root))
}
