package backup_test

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/provider/providertest"
)

func copyDir(t testing.TB, from string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "copy")
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	return to
}

// Whatever is done to any file of its cache, a sealed writer makes a point
// that is whole, and at worst reads everything.
func TestCorruptCacheCostsASealedWriterReading(t *testing.T) {
	store := providertest.NewMemory()
	h := newSealedHost(t, store, newRepo(t, store))
	first := h.backup(backup.Incremental, "", h.all())
	h.backup(backup.Incremental, first.ID, 0)
	paths, _ := cacheFiles(t, h.dir)
	kinds := map[string]bool{}
	for _, p := range paths {
		rel, _ := filepath.Rel(h.dir, p)
		kinds[strings.Split(filepath.ToSlash(rel), "/")[1]] = true
	}
	if want := []string{"index", "manifests", "own", "pages"}; !slices.Equal(slices.Sorted(maps.Keys(kinds)), want) {
		t.Fatalf("the cache has %v, want %v", slices.Sorted(maps.Keys(kinds)), want)
	}
	other, err := os.ReadFile(paths[len(paths)-1])
	if err != nil {
		t.Fatal(err)
	}
	harms := map[string]func(path string, b []byte) error{
		"gone":      func(path string, _ []byte) error { return os.Remove(path) },
		"empty":     func(path string, _ []byte) error { return os.WriteFile(path, nil, 0o600) },
		"flipped":   func(path string, b []byte) error { b[len(b)/2] ^= 1; return os.WriteFile(path, b, 0o600) },
		"short":     func(path string, b []byte) error { return os.WriteFile(path, b[:len(b)-1], 0o600) },
		"long":      func(path string, b []byte) error { return os.WriteFile(path, append(b, 0), 0o600) },
		"another":   func(path string, _ []byte) error { return os.WriteFile(path, other, 0o600) },
		"directory": func(path string, _ []byte) error { return errors.Join(os.Remove(path), os.Mkdir(path, 0o700)) },
	}
	for what, harm := range harms {
		t.Run(what, func(t *testing.T) {
			everything := *h
			everything.t, everything.dir = t, copyDir(t, h.dir)
			for _, path := range paths {
				rel, _ := filepath.Rel(h.dir, path)
				one := everything
				one.dir = copyDir(t, h.dir)
				for _, c := range []sealedHost{one, everything} {
					b, err := os.ReadFile(path)
					if err == nil {
						err = harm(filepath.Join(c.dir, rel), b)
					}
					if err != nil {
						t.Fatal(err)
					}
				}
				p := mustBackup(t, one.open(store), "web", one.target, backup.Incremental)
				if p.Stats.BytesRead > 0 && !strings.Contains(rel, "pages") && !strings.Contains(rel, "own") {
					t.Errorf("%s: read %d bytes", rel, p.Stats.BytesRead)
				}
				if p.Stats.BytesNew != 0 {
					t.Errorf("%s: stored %d bytes again", rel, p.Stats.BytesNew)
				}
				mustHold(t, h.holder, p.ID, h.target.files)
				if err := h.holder.Forget(t.Context(), p.ID); err != nil { // the caches of others are as old as before
					t.Fatal(err)
				}
			}
			p := mustBackup(t, everything.open(store), "web", everything.target, backup.Incremental)
			if p.Parent != "" || p.Stats.BytesRead != h.all() {
				t.Errorf("everything is damaged: compared with %q, read %d bytes, want all", p.Parent, p.Stats.BytesRead)
			}
			mustHold(t, h.holder, p.ID, h.target.files)
			if what != "directory" { // which nobody dares to remove
				next := mustBackup(t, everything.open(store), "web", everything.target, backup.Incremental)
				if next.Parent != p.ID || next.Stats.BytesRead != 0 {
					t.Errorf("the cache did not recover: compared with %q, read %d bytes", next.Parent, next.Stats.BytesRead)
				}
				mustHold(t, h.holder, next.ID, h.target.files)
			}
		})
	}
}

// A cache that cannot be written to is a line in the log for each thing, and
// costs reading.
func TestSealedWriterWithoutRoomForACache(t *testing.T) {
	store := providertest.NewMemory()
	h := newSealedHost(t, store, newRepo(t, store))
	h.dir = filepath.Join(h.dir, "file")
	if err := os.WriteFile(h.dir, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	h.backup(backup.Incremental, "", h.all())
	h.backup(backup.Incremental, "", h.all())
	if !strings.Contains(h.log.String(), "not kept") {
		t.Errorf("nothing is said of it: %s", h.log.String())
	}
}

// An old cache, as of a host that was put back, knows old points only: they
// are compared with, and what has changed since is read.
func TestOldCacheComparesWithAnOldPoint(t *testing.T) {
	store := providertest.NewMemory()
	h := newSealedHost(t, store, newRepo(t, store))
	first := h.backup(backup.Incremental, "", h.all())
	old := copyDir(t, h.dir)
	h.change("x", 3000)
	second := h.backup(backup.Incremental, first.ID, 3000)
	h.change("y", 200)
	h.backup(backup.Incremental, second.ID, 200)
	h.dir = old
	p := h.backup(backup.Incremental, first.ID, 3200)
	if p.Stats.BytesNew != 0 {
		t.Errorf("%d bytes stored again", p.Stats.BytesNew)
	}
	h.backup(backup.Incremental, p.ID, 0)
	if err := os.RemoveAll(h.dir); err != nil {
		t.Fatal(err)
	}
	h.backup(backup.Incremental, "", h.all())
	h.checks()
}

// Of a parent of which some pages are gone, the rest is compared with; it is
// said in the log, once.
func TestMissingPagesCostTheirItemsOnly(t *testing.T) {
	store := providertest.NewMemory()
	h := newSealedHost(t, store, newRepo(t, store))
	for i := range 4000 {
		h.target.files[fmt.Sprintf("z/%s-%d", strings.Repeat("long-names-", 25), i)] = file{content: "small"}
	}
	first := h.backup(backup.Incremental, "", h.all())
	paths, _ := cacheFiles(t, h.dir)
	pages := slices.DeleteFunc(paths, func(p string) bool { return !strings.Contains(filepath.ToSlash(p), "/pages/") })
	if len(pages) < 5 {
		t.Fatalf("%d pages", len(pages))
	}
	partly := 0
	for _, gone := range pages {
		c := *h
		c.dir = copyDir(t, h.dir)
		c.log.Reset()
		rel, _ := filepath.Rel(h.dir, gone)
		if err := os.Remove(filepath.Join(c.dir, rel)); err != nil {
			t.Fatal(err)
		}
		p := mustBackup(t, c.open(store), "web", c.target, backup.Incremental)
		mustHold(t, h.holder, p.ID, h.target.files)
		switch {
		case p.Parent == "": // its root
		case p.Parent == first.ID && p.Stats.BytesRead > 0 && p.Stats.BytesRead < h.all():
			partly++
			if n := strings.Count(c.log.String(), "CacheSize"); n != 1 {
				t.Errorf("said %d times: %s", n, c.log.String())
			}
		default:
			t.Errorf("without %s: compared with %q, read %d bytes of %d", rel, p.Parent, p.Stats.BytesRead, h.all())
		}
		if err := h.holder.Forget(t.Context(), p.ID); err != nil {
			t.Fatal(err)
		}
	}
	if partly < len(pages)-2 {
		t.Errorf("%d of %d pages were dispensable", partly, len(pages))
	}
}

// What the cache keeps of a sealed writer's points is in the clear nowhere.
func TestSealedCacheTellsNothing(t *testing.T) {
	store := providertest.NewMemory()
	h := newSealedHost(t, store, newRepo(t, store))
	h.target.files["payroll"] = file{content: "salaries of everybody"}
	if _, err := h.open(store).Backup(t.Context(), "web-of-ours", h.target, backup.BackupOptions{Tags: map[string]string{"project": "zephyr"}}); err != nil {
		t.Fatal(err)
	}
	paths, _ := cacheFiles(t, h.dir)
	for _, p := range paths {
		b, err := os.ReadFile(p)
		if err != nil {
			t.Fatal(err)
		}
		for _, secret := range []string{"payroll", "salaries", "web-of-ours", "zephyr", "a-rather-long-name"} {
			if bytes.Contains(b, []byte(secret)) || strings.Contains(p, secret) {
				t.Errorf("%s tells %s", p, secret)
			}
		}
		if fi, err := os.Stat(p); err != nil || fi.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s: %v, %v", p, fi.Mode(), err)
		}
	}
}
