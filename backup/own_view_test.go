package backup

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/providertest"
)

// Of an item that was added twice the last counts. When the page with that is
// gone, the parent does not show the first instead: what the target knows of
// it may be the same, and the content another.
func TestMissingPageDoesNotUncoverAnEarlierItem(t *testing.T) {
	store := providertest.NewMemory()
	sealed := sealTest(t, testRepo(t, store), "web1")
	sealed.cache = newCache(sealed, diskShelf{t.TempDir()})
	var roots []node
	var pages []ref
	for run := range 2 {
		w := treeWriter{write: func(page []byte) (ref, error) {
			r := ref{id: sealed.keys.newIdentifier().id(kindMeta, page), plain: uint32(len(page))}
			sealed.cache.put(cachedPage(r.id), page)
			pages = append(pages, r)
			return r, nil
		}}
		for i := range 40_000 {
			if run == 1 && i%2 == 1 {
				continue
			}
			it := Item{Path: fmt.Sprintf("f%05d", i), BlockSize: 4096 << run}
			if err := w.add(it); err != nil {
				t.Fatal(err)
			}
		}
		root, err := w.finish()
		if err != nil {
			t.Fatal(err)
		}
		roots = append(roots, root)
	}
	if len(pages) < 6 {
		t.Fatalf("%d pages", len(pages))
	}
	for gone := range pages {
		v := sealed.newView(manifest{roots: roots})
		v.own = true
		kept := sealed.cache.get(cachedPage(pages[gone].id))
		sealed.cache.remove(cachedPage(pages[gone].id))
		seen := 0
		last := ""
		look := func(it Item) {
			t.Helper()
			var i int
			fmt.Sscanf(it.Path, "f%d", &i)
			if want := 4096 << ((i + 1) % 2); it.BlockSize != want {
				t.Fatalf("without page %d, %s is that of another run", gone, it.Path)
			}
		}
		for it, err := range v.Items(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			if ComparePaths(last, it.Path) >= 0 {
				t.Fatalf("%s after %s", it.Path, last)
			}
			last = it.Path
			look(it)
			seen++
		}
		if seen == 40_000 {
			t.Errorf("page %d was not missed", gone)
		}
		found := 0
		for i := 0; i < 40_000; i += 997 {
			it, err := v.Lookup(t.Context(), fmt.Sprintf("f%05d", i))
			if errors.Is(err, provider.ErrNotFound) {
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			look(it)
			found++
		}
		if found == 0 && !slices.ContainsFunc(roots, func(n node) bool { return n.page == pages[gone] }) {
			t.Errorf("without page %d nothing is found", gone)
		}
		sealed.cache.put(cachedPage(pages[gone].id), kept)
	}
}

// A sealed writer's cache has room for what cannot be read from the store
// before anything else, but not for ever.
func TestSealedCacheKeepsPages(t *testing.T) {
	store := providertest.NewMemory()
	holder := testRepo(t, store)
	sealed := sealTest(t, holder, "web1")
	for _, r := range []*Repository{holder, sealed} {
		r.c.CacheSize = 10 << 20
		files := &ramShelf{}
		c := newCache(r, files)
		r.cache = c
		big := []byte(noise(1, 1<<20))
		page, stale := cachedPage(chunkID{1}), cachedPage(chunkID{2})
		c.put(stale, big)
		files.age(cachePath(stale), 40*24*time.Hour)
		c.put(page, big)
		c.put(cachedOwn("x"), big)
		files.age(cachePath(page), 20*24*time.Hour)
		files.age(cachePath(cachedOwn("x")), 20*24*time.Hour)
		for i := range 12 {
			c.put(fmt.Sprintf("index/%064d", i), big)
		}
		has := func(name string) bool { return c.get(name) != nil }
		if has(page) != (r == sealed) || has(cachedOwn("x")) != (r == sealed) {
			t.Errorf("%s: page of the parent kept: %t, what is remembered: %t", r.c.Writer, has(page), has(cachedOwn("x")))
		}
		if has(stale) {
			t.Errorf("%s keeps a page that nobody has used for 40 days", r.c.Writer)
		}
		if n := len(files.all()); n < 7 || n > 10 {
			t.Errorf("%s: %d files in the cache", r.c.Writer, n)
		}
	}
}

func (s *ramShelf) age(path string, by time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.files[path]
	f.used = f.used.Add(-by)
	s.files[path] = f
}

// A sealed writer forgets nothing of its points in the cache by its own
// limits, while these have room for its pages.
func TestSealedParentOutlastsIndexes(t *testing.T) {
	store := providertest.NewMemory()
	holder := testRepo(t, store)
	c, err := holder.Seal(t.Context(), "web1")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	open := func() *Repository {
		r, err := Open(t.Context(), Config{Store: store, Credential: c, Cache: dir, CacheSize: 1 << 20})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	content := things{"a": noise(1, 200_000)}
	for i := range 1000 {
		content[fmt.Sprintf("%s%d", strings.Repeat("path/", 20), i)] = ""
	}
	content.backup(t, open())
	for i := range 20 { // others write indexes, which do not all fit
		p := things{}
		for j := range 3000 {
			p[fmt.Sprintf("%d/%d", i, j)] = fmt.Sprint(i, j)
		}
		p.backup(t, holder)
		q, err := open().Backup(t.Context(), "w", content, BackupOptions{Mode: Incremental})
		if err != nil || q.Parent == "" {
			t.Fatalf("after %d: parent %q, %v", i, q.Parent, err)
		}
	}
}

// A manifest at the place of its own, in its own name, is no parent if it is
// not the one that was remembered: somebody else has the credential, or the
// cache is another's.
func TestSealedParentHasTheHashThatWasRemembered(t *testing.T) {
	store := providertest.NewMemory()
	sealed := sealTest(t, testRepo(t, store), "web1")
	sealed.cache = newCache(sealed, &ramShelf{})
	content := things{"a": "alpha"}
	back := func() Point {
		t.Helper()
		p, err := sealed.Backup(t.Context(), "w", content, BackupOptions{Mode: Incremental})
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	first := back()
	second := back()
	if second.Parent != first.ID {
		t.Fatalf("compared with %q", second.Parent)
	}
	o, ok := sealed.recall(second.ID)
	if !ok {
		t.Fatal("it is not remembered")
	}
	secret, enc, err := sealed.keys.newSession()
	if err != nil {
		t.Fatal(err)
	}
	b, err := sealed.keys.encodeManifest(o.point, nil, o.roots, secret, enc, nil)
	if err == nil {
		_, err = store.Put(t.Context(), pointKey(second.ID), provider.Bytes(b), provider.PutOptions{})
	}
	if err != nil {
		t.Fatal(err)
	}
	if p := back(); p.Parent != first.ID {
		t.Errorf("compared with %q, want %q: %q is another now", p.Parent, first.ID, second.ID)
	}
}
