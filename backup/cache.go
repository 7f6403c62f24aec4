package backup

import (
	"context"
	"crypto/cipher"
	"crypto/sha256"
	"encoding/hex"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/holdfast-go/holdfast/provider"
)

// A cache keeps on local disk what would otherwise be read from the store
// again: indexes, manifests and pages of metadata. It holds nothing that is
// not in the repository, so it can be removed at any time, and nothing is
// believed that does not decrypt under the key of the cache: a file that is
// damaged, or was put there by somebody else, is as good as none. Holders of
// the root have a key that no sealed writer knows, and every sealed writer has
// one of its own. Any number of processes and repositories may share a
// directory.
//
// A sealed writer could not read its own points from the store, so what it
// has in here is all it can compare with; see own.go.
//
// A nil cache holds nothing.
type cache struct {
	dir   shelf // of this repository
	aead  cipher.AEAD
	limit int64
	grace time.Duration // what cannot be read from the store outlasts the rest by so much
	log   *slog.Logger

	mu   sync.Mutex
	size int64 // about; negative: not known yet
}

const (
	defaultCacheSize = 4 << 30

	// A sealed writer that lacks pages reads files again, one that lacks an
	// index downloads it. So pages stay while there are indexes to remove,
	// but not those for ever that no point has used for so long.
	ownGrace = 30 * 24 * time.Hour
)

// withCache gives a repository the cache of its Config, if that names one.
func withCache(r *Repository) *Repository {
	if r.c.Cache != "" {
		name, _ := r.keys.cacheKey()
		r.cache = newCache(r, diskShelf{filepath.Join(r.c.Cache, name)})
	}
	return r
}

func newCache(r *Repository, dir shelf) *cache {
	_, key := r.keys.cacheKey()
	c := &cache{dir: dir, aead: newAEAD(key), limit: r.c.CacheSize, log: r.c.Logger, size: -1}
	if r.readable() != nil {
		c.grace = ownGrace
	}
	return c
}

// cacheKey returns the key that entries of this process are sealed with, and
// the name of their directory.
func (k *keys) cacheKey() (name string, key []byte) {
	if k.private != nil {
		return k.format.ID, derive(k.signSecret, nil, "cache")
	}
	return k.format.ID + "-" + hex.EncodeToString(k.self.key[:8]), derive(k.signing.Seed(), nil, "cache")
}

// cachePath is where an entry is. Names are keys of objects, or what is as
// plain.
func cachePath(name string) string {
	kind, rest, _ := strings.Cut(name, "/")
	return kind + "/" + rest[max(0, len(rest)-2):] + "/" + rest
}

// get returns what was put under a name, or nil.
func (c *cache) get(name string) []byte {
	if c == nil {
		return nil
	}
	path := cachePath(name)
	sealed, err := c.dir.read(path)
	if err != nil {
		return nil
	}
	b, err := c.aead.Open(sealed[:0:0], nil, sealed, []byte(name))
	if err != nil {
		c.dir.remove(path)
		return nil
	}
	c.dir.touch(path)
	return b
}

// put keeps b under a name. What fails costs time later and nothing else.
func (c *cache) put(name string, b []byte) {
	if c == nil || int64(len(b)) > c.limit/4 {
		return
	}
	sealed := c.aead.Seal(nil, nil, b, []byte(name))
	if err := c.dir.write(cachePath(name), sealed); err != nil {
		c.log.Warn("cache: not kept", "name", name, "error", err)
		return
	}
	c.grow(int64(len(sealed)))
}

// remove forgets a name.
func (c *cache) remove(name string) {
	if c != nil {
		c.dir.remove(cachePath(name))
	}
}

// grow counts n bytes more, and makes room when there are too many.
func (c *cache) grow(n int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.size >= 0 {
		c.size += n
	}
	if c.size < 0 || c.size > c.limit {
		c.shrink()
	}
}

// shrink counts what is there and, if that is more than the limit, removes
// what was not used for longest, down to four fifths of it.
func (c *cache) shrink() {
	all := c.dir.all()
	c.size = 0
	for i, e := range all {
		c.size += e.size
		if strings.HasPrefix(e.path, pagesPrefix) || strings.HasPrefix(e.path, ownPrefix) {
			all[i].used = e.used.Add(c.grace)
		}
	}
	if c.size <= c.limit {
		return
	}
	slices.SortFunc(all, func(a, b shelved) int { return a.used.Compare(b.used) })
	for _, e := range all {
		if c.size <= c.limit/5*4 {
			return
		}
		if c.dir.remove(e.path) == nil {
			c.size -= e.size
		}
	}
}

// Names of entries that are no objects.

const (
	pagesPrefix = "pages/"
	ownPrefix   = "own/" // see own.go
)

func cachedPage(id chunkID) string { return pagesPrefix + hex.EncodeToString(id[:]) }

// meta reads a page of metadata. One from the cache is identified anew, like
// one from a pack.
func (v *View) meta(ctx context.Context, r ref) ([]byte, error) {
	name := cachedPage(r.id)
	if b := v.r.cache.get(name); b != nil {
		if v.r.isMeta(r, b) {
			return b, nil
		}
		v.r.cache.remove(name)
	}
	if v.own {
		return nil, v.notKept(r)
	}
	b, err := v.chunk(ctx, kindMeta, r, nil)
	if err == nil {
		v.r.cache.put(name, b)
	}
	return b, err
}

// isMeta reports whether b is a page.
func (r *Repository) isMeta(page ref, b []byte) bool {
	ids := r.ids.Get().(*identifier)
	defer r.ids.Put(ids)
	return len(b) == int(page.plain) && ids.id(kindMeta, b) == page.id
}

// cachedManifest names one by its version, too: the place of a point that
// was forgotten can be taken by a tombstone.
func cachedManifest(info provider.Info) string {
	sum := sha256.Sum256([]byte(info.Key + "\x00" + string(info.Version)))
	return "manifests/" + hex.EncodeToString(sum[:])
}
