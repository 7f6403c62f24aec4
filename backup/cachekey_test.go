package backup

import (
	"testing"

	"github.com/holdfast-go/holdfast/provider/providertest"
)

func openCached(tb testing.TB, c Config, dir string) *Repository {
	tb.Helper()
	c.Cache = dir
	r, err := Open(tb.Context(), c)
	if err != nil {
		tb.Fatal(err)
	}
	return r
}

// A page in the cache is believed only if it is what its id says, whoever
// has sealed it.
func TestCachedPageIsIdentified(t *testing.T) {
	store, dir := providertest.NewMemory(), t.TempDir()
	content := things{"a": noise(1, 100_000), "b": "small"}
	p := content.backup(t, testRepo(t, store))
	r := openCached(t, testConfig(store), dir)
	m, err := r.manifest(t.Context(), p.ID)
	if err != nil {
		t.Fatal(err)
	}
	root := m.roots[0].page
	lie, err := r.newView(m).chunk(t.Context(), kindMeta, root, nil)
	if err != nil {
		if err = r.load(t.Context()); err == nil {
			lie, err = r.newView(m).chunk(t.Context(), kindMeta, root, nil)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	lie = append([]byte(nil), lie...)
	lie[len(lie)-1] ^= 1
	r.cache.put(cachedPage(root.id), lie)
	got := things{}
	if err := r.Restore(t.Context(), p.ID, got, Destination{}, RestoreOptions{}); err != nil || got["a"] != content["a"] {
		t.Errorf("restore with a planted page: %v", err)
	}
	if b := r.cache.get(cachedPage(root.id)); !r.isMeta(root, b) {
		t.Error("the planted page is still there")
	}
}

// What one sealed writer puts in a cache that all share is opened neither by
// a holder nor by another sealed writer.
func TestCachesOfWritersAreApart(t *testing.T) {
	store, dir := providertest.NewMemory(), t.TempDir()
	holder := testRepo(t, store)
	caches := map[string]*cache{"holder": openCached(t, testConfig(store), dir).cache}
	for _, name := range []string{"a", "b"} {
		c, err := holder.Seal(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		caches[name] = openCached(t, Config{Store: store, Credential: c}, dir).cache
	}
	for by, c := range caches {
		name := "manifests/00"
		c.put(name, []byte(by))
		for who, other := range caches {
			// The attacker puts it wherever he likes.
			moved := &cache{dir: c.dir, aead: other.aead, limit: other.limit, log: other.log}
			b := moved.get(name)
			if who == by && string(b) != by {
				t.Errorf("%s does not read its own", by)
			}
			if who != by && b != nil {
				t.Errorf("%s believes what %s has put", who, by)
			}
			c.put(name, []byte(by)) // what does not open is removed
		}
	}
}
