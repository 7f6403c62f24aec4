package files_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/backup/files"
	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/providertest"
)

// forged is a target that pretends to be of kind "files" and puts into a
// point what no file system holds.
type forged []forgedItem

type forgedItem struct{ path, typ, link, content string }

func (forged) Kind() string { return "files" }

func (f forged) Backup(ctx context.Context, s *backup.Session) error {
	for _, x := range f {
		meta, err := json.Marshal(map[string]any{"t": x.typ, "m": 0o644, "mt": "2026-01-02T03:04:05Z", "l": []byte(x.link)})
		if err != nil {
			return err
		}
		if x.typ == "garbage" {
			meta = []byte("{{{")
		}
		if err := s.Add(ctx, backup.Item{Path: x.path, Meta: meta}, strings.NewReader(x.content)); err != nil {
			return err
		}
	}
	return nil
}

func (forged) Restore(context.Context, *backup.View, backup.Destination) error {
	return errors.New("not used")
}

// Whatever a point says, nothing outside of the destination is touched.
func TestHostilePoint(t *testing.T) {
	base := t.TempDir()
	outside := filepath.Join(base, "outside")
	write(t, base, "outside/canary", "alive")
	before := snapshot(t, outside)
	for name, c := range map[string]struct {
		items    forged
		existing func(dest string) error // makes the destination; then overwrite is set
		fine     bool                    // restoring succeeds
	}{
		"parent":                {items: forged{{"../outside/canary", "file", "", "evil"}}},
		"parent inside":         {items: forged{{"a/../../outside/canary", "file", "", "evil"}}},
		"absolute":              {items: forged{{outside + "/canary", "file", "", "evil"}}},
		"double slash":          {items: forged{{"a//b", "file", "", "evil"}}},
		"dot":                   {items: forged{{"./a", "file", "", "evil"}}},
		"trailing slash":        {items: forged{{"a/", "file", "", "evil"}}},
		"root as file":          {items: forged{{".", "file", "", "evil"}}},
		"directory above":       {items: forged{{"..", "dir", "", ""}}},
		"symlink above":         {items: forged{{"../outside/l", "symlink", "x", ""}}},
		"through a symlink":     {items: forged{{"d", "symlink", outside, ""}, {"d/canary", "file", "", "evil"}}},
		"through a relative":    {items: forged{{"d", "symlink", "../outside", ""}, {"d/canary", "file", "", "evil"}}},
		"directory at symlink":  {items: forged{{"d", "symlink", outside, ""}, {"d/sub", "dir", "", ""}}},
		"link at symlink":       {items: forged{{"d", "symlink", outside, ""}, {"d/l", "symlink", "x", ""}}},
		"hard link out":         {items: forged{{"h", "link", "../outside/canary", ""}}},
		"hard link absolute":    {items: forged{{"h", "link", outside + "/canary", ""}}},
		"hard link via symlink": {items: forged{{"d", "symlink", outside, ""}, {"h", "link", "d/canary", ""}}},
		"hard link to symlink":  {items: forged{{"d", "symlink", outside + "/canary", ""}, {"h", "link", "d", ""}}},
		"hard link to nothing":  {items: forged{{"h", "link", "missing", ""}}},
		"hard link to itself":   {items: forged{{"h", "link", "h", ""}}},
		"file as directory":     {items: forged{{"d", "file", "", "x"}, {"d/x", "file", "", "x"}}},
		"unknown type":          {items: forged{{"x", "disk", "", "x"}}},
		"garbage":               {items: forged{{"x", "garbage", "", "x"}}},
		"symlink out":           {items: forged{{"d", "symlink", outside, ""}}, fine: true},
		"device":                {items: forged{{"sda", "device", "", ""}}, fine: true},
		"symlink in the destination": {items: forged{{"d/canary", "file", "", "evil"}},
			existing: func(dest string) error { return os.Symlink(outside, filepath.Join(dest, "d")) }},
		"symlink in the destination to a place in it": {items: forged{{"d/f", "file", "", "evil"}},
			existing: func(dest string) error {
				return errors.Join(os.Mkdir(filepath.Join(dest, "real"), 0o755), os.Symlink("real", filepath.Join(dest, "d")))
			}},
		"symlink replaced by the symlink": {items: forged{{"l", "symlink", "new", ""}}, fine: true,
			existing: func(dest string) error { return os.Symlink(outside, filepath.Join(dest, "l")) }},
		"symlink replaced by the file": {items: forged{{"f", "file", "", "inside"}}, fine: true,
			existing: func(dest string) error {
				return os.Symlink(filepath.Join(outside, "canary"), filepath.Join(dest, "f"))
			}},
		"directory through a symlink in the destination": {items: forged{{"d", "dir", "", ""}},
			existing: func(dest string) error { return os.Symlink(outside, filepath.Join(dest, "d")) }},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRepo(t, providertest.NewMemory())
			p, err := r.Backup(t.Context(), "w", c.items, backup.BackupOptions{})
			if err != nil {
				t.Fatal(err)
			}
			dest := filepath.Join(base, "dest-"+strings.ReplaceAll(name, " ", "-"))
			d := backup.Destination{Location: dest}
			if c.existing != nil {
				d.Options = map[string]string{"overwrite": "true"}
				if err := errors.Join(os.Mkdir(dest, 0o755), c.existing(dest)); err != nil {
					t.Fatal(err)
				}
			}
			err = r.Restore(t.Context(), p.ID, newTarget(t, files.Config{}), d, backup.RestoreOptions{})
			if (err == nil) != c.fine {
				t.Errorf("restore: %v, should succeed: %t", err, c.fine)
			}
			same(t, snapshot(t, outside), before)
			entries, err := os.ReadDir(base)
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range entries {
				if e.Name() != "outside" && !strings.HasPrefix(e.Name(), "dest-") {
					t.Errorf("%s appeared beside the destination", e.Name())
				}
			}
		})
	}
}

// A damaged file is left out and named; all others are restored.
func TestDamagedFile(t *testing.T) {
	store := providertest.NewMemory()
	r := newRepo(t, store)
	root := t.TempDir()
	write(t, root, "a", "intact")
	write(t, root, "z", "intact, too")
	target := newTarget(t, files.Config{Root: root})
	if _, err := r.Backup(t.Context(), "before", target, backup.BackupOptions{}); err != nil {
		t.Fatal(err)
	}
	packs := map[string]bool{}
	for info, err := range store.List(t.Context(), "data/", provider.ListOptions{}) {
		if err != nil {
			t.Fatal(err)
		}
		packs[info.Key] = true
	}
	write(t, root, "m", "will be damaged")
	p, err := r.Backup(t.Context(), "w", target, backup.BackupOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for info, err := range store.List(t.Context(), "data/", provider.ListOptions{}) {
		if err != nil {
			t.Fatal(err)
		}
		if packs[info.Key] {
			continue
		}
		b, _, err := provider.ReadAll(t.Context(), store, info.Key, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		i := bytes.IndexByte(b, '}') + 20 // just behind the header: in the first frame
		b = slices.Clone(b)
		b[i] ^= 1
		if _, err := store.Put(t.Context(), info.Key, provider.Bytes(b), provider.PutOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	dest := t.TempDir()
	err = r.Restore(t.Context(), p.ID, target, backup.Destination{Location: dest}, backup.RestoreOptions{})
	if !errors.Is(err, backup.ErrDamaged) || !strings.Contains(fmt.Sprint(err), `"m"`) {
		t.Errorf("restore: %v, want ErrDamaged naming \"m\"", err)
	}
	want := snapshot(t, root)
	delete(want, "m")
	same(t, snapshot(t, dest), want)
}

// Cancelling leaves whole files only, and the error says so.
func TestCancelRestore(t *testing.T) {
	root := t.TempDir()
	for i := range 300 {
		write(t, root, fmt.Sprintf("f%03d", i), strings.Repeat(fmt.Sprint(i), 1000))
	}
	r := newRepo(t, providertest.NewMemory())
	target := newTarget(t, files.Config{Root: root})
	p, err := r.Backup(t.Context(), "w", target, backup.BackupOptions{})
	if err != nil {
		t.Fatal(err)
	}
	dest := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	err = r.Restore(ctx, p.ID, target, backup.Destination{Location: dest}, backup.RestoreOptions{
		Progress: func(backup.Progress) { cancel() }})
	if !errors.Is(err, context.Canceled) || !strings.Contains(fmt.Sprint(err), "each of them whole") {
		t.Errorf("cancelled restore: %v", err)
	}
	whole := snapshot(t, root)
	got := snapshot(t, dest)
	if len(got) >= len(whole) {
		t.Errorf("%d of %d entries were restored after cancelling", len(got), len(whole))
	}
	for name, g := range got {
		if name != "." && g != whole[name] {
			t.Errorf("%s is %.60q, want %.60q", name, g, whole[name])
		}
	}
	err = r.Restore(t.Context(), p.ID, target, backup.Destination{Location: dest, Options: map[string]string{"overwrite": "true"}}, backup.RestoreOptions{})
	if err != nil {
		t.Fatal(err)
	}
	same(t, snapshot(t, dest), whole)
}

// A dry run reads everything, counts it, and writes nothing.
func TestDryRun(t *testing.T) {
	root := source(t)
	r := newRepo(t, providertest.NewMemory())
	target := newTarget(t, files.Config{Root: root})
	p, err := r.Backup(t.Context(), "w", target, backup.BackupOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var last backup.Progress
	dest := filepath.Join(t.TempDir(), "never")
	err = r.Restore(t.Context(), p.ID, target, backup.Destination{Location: dest, Options: map[string]string{"dry-run": "true"}},
		backup.RestoreOptions{Progress: func(p backup.Progress) { last = p }})
	if err != nil || last.Items != p.Stats.Items || last.Bytes != p.Stats.Bytes {
		t.Errorf("dry run: %+v, %v; want %d items of %d bytes", last, err, p.Stats.Items, p.Stats.Bytes)
	}
	if _, err := os.Lstat(dest); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the destination was made: %v", err)
	}
}
