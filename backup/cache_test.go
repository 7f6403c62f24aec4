package backup_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/providertest"
)

// counting counts the bytes and requests of Get.
type counting struct {
	provider.BlobStore
	gets atomic.Int64
}

func (s *counting) Get(ctx context.Context, key string, o provider.GetOptions) (io.ReadCloser, provider.Info, error) {
	s.gets.Add(1)
	return s.BlobStore.Get(ctx, key, o)
}

// cached opens a repository with a cache.
func cached(t testing.TB, s provider.BlobStore, dir string) *backup.Repository {
	t.Helper()
	c := config(s)
	c.Cache = dir
	r, err := backup.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func cacheFiles(t testing.TB, dir string) (paths []string, size int64) {
	t.Helper()
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		fi, err := d.Info()
		paths, size = append(paths, p), size+fi.Size()
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return paths, size
}

// many is a tree whose metadata take more than one page.
func many() *tree {
	contents := map[string]string{}
	for _, dir := range strings.Split("abcdefghijklmnopqrst", "") {
		for _, name := range strings.Split("0123456789abcdefghijklmnopqrst", "") {
			contents[dir+"/a-rather-long-name-"+strings.Repeat("so-that-pages-fill-", 10)+name] = dir + name
		}
	}
	contents["big"] = random(9, 3<<20)
	return treeOf(contents)
}

// TestCacheSparesRequests: with a warm cache an unchanged backup reads the
// format object from the store and nothing else; and it can be removed at
// any time.
func TestCacheSparesRequests(t *testing.T) {
	store := &counting{BlobStore: providertest.NewMemory()}
	newRepo(t, store)
	target, dir := many(), t.TempDir()
	first := mustBackup(t, cached(t, store, dir), "tree", target, backup.Full)
	mustHold(t, cached(t, store, dir), first.ID, target.files)
	run := func() int64 {
		r := cached(t, store, dir)
		before := store.gets.Load()
		p := mustBackup(t, r, "tree", target, backup.Incremental)
		if p.Stats.BytesRead != 0 || p.Parent == "" {
			t.Fatalf("%d bytes read, parent %q; want a backup that finds nothing changed", p.Stats.BytesRead, p.Parent)
		}
		return store.gets.Load() - before
	}
	run()
	if n := run(); n != 1 { // the manifest of the run before is new to it
		t.Errorf("%d reads with a warm cache, want 1", n)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if n := run(); n < 3 {
		t.Errorf("%d reads without a cache; what then did it spare?", n)
	}
}

// TestCorruptCacheIsHarmless: whatever is done to its files, backups and
// restores are what they are without one.
func TestCorruptCacheIsHarmless(t *testing.T) {
	store := providertest.NewMemory()
	newRepo(t, store)
	target := many()
	for what, harm := range map[string]func(path string, b []byte) []byte{
		"empty":       func(string, []byte) []byte { return nil },
		"flipped":     func(_ string, b []byte) []byte { b[len(b)/2] ^= 1; return b },
		"short":       func(_ string, b []byte) []byte { return b[:len(b)-1] },
		"long":        func(_ string, b []byte) []byte { return append(b, 0) },
		"another one": func(_ string, b []byte) []byte { return nil }, // see below
	} {
		t.Run(what, func(t *testing.T) {
			dir := t.TempDir()
			p := mustBackup(t, cached(t, store, dir), "tree", target, backup.Full)
			mustHold(t, cached(t, store, dir), p.ID, target.files)
			mustBackup(t, cached(t, store, dir), "tree", target, backup.Incremental)
			paths, _ := cacheFiles(t, dir)
			if len(paths) < 3 {
				t.Fatalf("%d files in the cache", len(paths))
			}
			var last []byte
			for _, path := range paths {
				b, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				bad := harm(path, bytes.Clone(b))
				if what == "another one" {
					bad = last
				}
				last = b
				if err := os.WriteFile(path, bad, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			r := cached(t, store, dir)
			mustHold(t, r, p.ID, target.files)
			next := mustBackup(t, r, "tree", target, backup.Incremental)
			mustHold(t, reopen(t, store), next.ID, target.files)
		})
	}
}

// TestCacheTellsNothing: names and contents of the cache are in the clear
// nowhere, and only its owner can read the files.
func TestCacheTellsNothing(t *testing.T) {
	store, dir := providertest.NewMemory(), t.TempDir()
	newRepo(t, store)
	mustBackup(t, cached(t, store, dir), "payroll", many(), backup.Full)
	paths, _ := cacheFiles(t, dir)
	for _, p := range paths {
		b, err := os.ReadFile(p)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(b, []byte("a-rather-long-name")) || bytes.Contains(b, []byte("payroll")) {
			t.Errorf("%s tells names", p)
		}
		if fi, err := os.Stat(p); err != nil || fi.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s: %v, %v", p, fi.Mode(), err)
		}
	}
}

// TestCheckDoesNotBelieveTheCache: what is lost in the store is reported,
// however well the cache remembers it.
func TestCheckDoesNotBelieveTheCache(t *testing.T) {
	store, dir := providertest.NewMemory(), t.TempDir()
	newRepo(t, store)
	target := many()
	p := mustBackup(t, cached(t, store, dir), "tree", target, backup.Full)
	r := cached(t, store, dir)
	mustHold(t, r, p.ID, target.files)
	for _, prefix := range []string{"index/", "meta/", "points/"} {
		broken := copyStore(t, store)
		for _, info := range collect(t, broken.List(t.Context(), prefix, provider.ListOptions{})) {
			b, _, err := provider.ReadAll(t.Context(), broken, info.Key, 1<<30)
			if err != nil {
				t.Fatal(err)
			}
			b[len(b)/2] ^= 1
			put(t, broken, info.Key, b)
		}
		report, err := cached(t, broken, dir).Check(t.Context(), backup.CheckOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if report.OK() {
			t.Errorf("%s damaged: the check finds nothing", prefix)
		}
	}
}

// TestCacheStaysSmall: it is kept near its limit, and two repositories in
// one directory do not meet.
func TestCacheStaysSmall(t *testing.T) {
	dir := t.TempDir()
	for range 2 {
		store := providertest.NewMemory()
		newRepo(t, store)
		c := config(store)
		c.Cache, c.CacheSize = dir, 2<<20
		for seed := range uint64(4) {
			contents := map[string]string{}
			for i := range uint64(2000) {
				contents[strings.Repeat(fmt.Sprintf("%d-%d-", seed, i), 100)] = ""
			}
			target := treeOf(contents)
			r, err := backup.Open(t.Context(), c)
			if err != nil {
				t.Fatal(err)
			}
			p := mustBackup(t, r, "tree", target, backup.Full)
			mustHold(t, r, p.ID, target.files)
		}
	}
	subs, err := os.ReadDir(dir)
	if err != nil || len(subs) != 2 {
		t.Fatalf("%d directories in the cache, want one for each repository (%v)", len(subs), err)
	}
	for _, s := range subs {
		if _, size := cacheFiles(t, filepath.Join(dir, s.Name())); size > 2<<20 || size < 1<<19 {
			t.Errorf("%d bytes in the cache, with a limit of %d", size, 2<<20)
		}
	}
}
