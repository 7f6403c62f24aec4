package backup

import (
	"context"
	"crypto/cipher"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"log/slog"
	"os"
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
// A nil cache holds nothing.
type cache struct {
	dir   string // of this repository
	aead  cipher.AEAD
	limit int64
	log   *slog.Logger

	mu   sync.Mutex
	size int64 // about; negative: not known yet
}

const defaultCacheSize = 4 << 30

// withCache gives a repository the cache of its Config, if that names one.
func withCache(r *Repository) *Repository {
	if c := r.c; c.Cache != "" {
		name, key := r.keys.cacheKey()
		r.cache = &cache{dir: filepath.Join(c.Cache, name), aead: newAEAD(key), limit: c.CacheSize, log: c.Logger, size: -1}
	}
	return r
}

// cacheKey returns the key that entries of this process are sealed with, and
// the name of their directory.
func (k *keys) cacheKey() (name string, key []byte) {
	if k.private != nil {
		return k.format.ID, derive(k.signSecret, nil, "cache")
	}
	return k.format.ID + "-" + hex.EncodeToString(k.self.key[:8]), derive(k.signing.Seed(), nil, "cache")
}

// path is where an entry is. Names are keys of objects, or what is as plain.
func (c *cache) path(name string) string {
	kind, rest, _ := strings.Cut(name, "/")
	return filepath.Join(c.dir, kind, rest[max(0, len(rest)-2):], rest)
}

// get returns what was put under a name, or nil.
func (c *cache) get(name string) []byte {
	if c == nil {
		return nil
	}
	path := c.path(name)
	sealed, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	b, err := c.aead.Open(sealed[:0:0], nil, sealed, []byte(name))
	if err != nil {
		os.Remove(path)
		return nil
	}
	now := time.Now()
	os.Chtimes(path, now, now) // used: not the first to go
	return b
}

// put keeps b under a name. What fails costs time later and nothing else.
func (c *cache) put(name string, b []byte) {
	if c == nil || int64(len(b)) > c.limit/4 {
		return
	}
	n, err := c.write(c.path(name), c.aead.Seal(nil, nil, b, []byte(name)))
	if err != nil {
		c.log.Warn("cache: not kept", "name", name, "error", err)
		return
	}
	c.grow(n)
}

// write puts a file in place in one step. It is not flushed: what a crash
// leaves of it does not decrypt.
func (c *cache) write(path string, sealed []byte) (int64, error) {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, cacheTemp)
	if errors.Is(err, fs.ErrNotExist) {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return 0, err
		}
		f, err = os.CreateTemp(dir, cacheTemp)
	}
	if err != nil {
		return 0, err
	}
	_, err = f.Write(sealed)
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		os.Remove(f.Name())
	}
	return int64(len(sealed)), err
}

const cacheTemp = ".new-*"

// remove forgets a name.
func (c *cache) remove(name string) {
	if c != nil {
		os.Remove(c.path(name))
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
	type entry struct {
		path string
		size int64
		used time.Time
	}
	var all []entry
	c.size = 0
	filepath.WalkDir(c.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return nil // it vanished, or cannot be read and so not removed
		}
		if fi, err := d.Info(); err == nil {
			all = append(all, entry{path, fi.Size(), fi.ModTime()})
			c.size += fi.Size()
		}
		return nil
	})
	if c.size <= c.limit {
		return
	}
	slices.SortFunc(all, func(a, b entry) int { return a.used.Compare(b.used) })
	for _, e := range all {
		if c.size <= c.limit/5*4 {
			return
		}
		if os.Remove(e.path) == nil {
			c.size -= e.size
		}
	}
}

// Names of entries that are no objects.

func cachedPage(id chunkID) string { return "pages/" + hex.EncodeToString(id[:]) }

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
	b, err := v.chunk(ctx, kindMeta, r)
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
