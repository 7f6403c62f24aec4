package backup

import (
	"bytes"
	"context"
	"io/fs"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/holdfast-go/holdfast/provider"
)

// ChunksOf returns every chunk that a point needs.
func ChunksOf(ctx context.Context, r *Repository, id PointID) ([][32]byte, error) {
	m, err := r.manifest(ctx, id)
	if err != nil {
		return nil, err
	}
	if err := r.load(ctx); err != nil {
		return nil, err
	}
	var out [][32]byte
	err = r.newView(m).walk(ctx, func(x ref) error {
		out = append(out, x.id)
		return nil
	})
	return out, err
}

// ChunksIn returns every chunk in a pack.
func ChunksIn(ctx context.Context, r *Repository, pack provider.Info) ([][32]byte, error) {
	rec, err := r.readPack(ctx, pack)
	if err != nil {
		return nil, err
	}
	var out [][32]byte
	for _, e := range rec.entries {
		out = append(out, e.id)
	}
	return out, nil
}

// Fresh returns a repository that has read nothing yet.
func Fresh(r *Repository, c Config) *Repository {
	c, err := c.withDefaults()
	if err != nil {
		panic(err)
	}
	return newRepository(c, r.keys)
}

// Simulated returns a repository of a process of its own, with small packs
// and a clock of its own, that has read nothing yet.
func Simulated(r *Repository, c Config, clock func() time.Time) *Repository {
	c, err := c.withDefaults()
	if err != nil {
		panic(err)
	}
	c.PackSize, c.clock = 16<<10, clock
	return newRepository(c, r.keys)
}

// ReadsWithOldKeys reports whether any of the keys that r was opened with,
// whatever generation they are of, opens the content of a point's manifest.
func ReadsWithOldKeys(ctx context.Context, r *Repository, id PointID) (bool, error) {
	b, _, err := provider.ReadAll(ctx, r.c.Store, pointKey(id), maxManifest)
	if err != nil {
		return false, err
	}
	h, head, rest, err := decodeHeader(b, kindPoint)
	if err != nil {
		return false, err
	}
	_, rest, err = cutSection(rest)
	if err != nil {
		return false, err
	}
	content, _, err := cutSection(rest)
	if err != nil {
		return false, err
	}
	enc, _ := splitEnc(h.Enc)
	for g := range r.keys.privates {
		secret, err := r.keys.openSession(joinEnc(enc, g))
		if err != nil {
			return false, err
		}
		if _, err := openSection(secret, h, head, "content", pointKey(id), content); err == nil {
			return true, nil
		}
	}
	return false, nil
}

// LeaveTime leaves what a prune that was killed while it asked for the
// store's time leaves.
func LeaveTime(ctx context.Context, r *Repository) error {
	_, err := r.putSealed(ctx, kindTime, condemnedPrefix+string(newPointID(time.Now()))+timeSuffix, []byte("{}"))
	return err
}

// Tombstone gives up on a session that nobody has begun.
func Tombstone(ctx context.Context, r *Repository) (PointID, error) {
	r, err := r.current(ctx)
	if err != nil {
		return "", err
	}
	id := newPointID(time.Now())
	_, err = r.giveUp(ctx, id, givenUp)
	return id, err
}

// GiveUp puts a tombstone in the place of a manifest.
func GiveUp(ctx context.Context, r *Repository, id PointID) error {
	_, err := r.giveUp(ctx, id, givenUp)
	return err
}

// LockClaims says for each pack until when the indexes that are believed say
// it is locked, in seconds since 1970.
func LockClaims(ctx context.Context, r *Repository) map[string]int64 {
	out := map[string]int64{}
	if err := r.load(ctx); err != nil {
		panic(err)
	}
	for _, p := range r.index.all() {
		if p.trusted {
			out[p.key()] = p.locked
		}
	}
	return out
}

// A ramShelf keeps a cache in memory.
type ramShelf struct {
	mu    sync.Mutex
	files map[string]ramFile
}

type ramFile struct {
	b    []byte
	used time.Time
}

func (s *ramShelf) read(path string) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f, ok := s.files[path]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return bytes.Clone(f.b), nil
}

func (s *ramShelf) write(path string, b []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.files == nil {
		s.files = map[string]ramFile{}
	}
	s.files[path] = ramFile{bytes.Clone(b), time.Now()}
	return nil
}

func (s *ramShelf) touch(path string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f, ok := s.files[path]; ok {
		s.files[path] = ramFile{f.b, time.Now()}
	}
}

func (s *ramShelf) remove(path string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.files, path)
	return nil
}

func (s *ramShelf) all() (out []shelved) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, path := range slices.Sorted(maps.Keys(s.files)) {
		out = append(out, shelved{path, int64(len(s.files[path].b)), s.files[path].used})
	}
	return out
}

// A MemoryCache is a cache in memory, that tests can put back and damage.
type MemoryCache struct{ ramShelf }

// Copy returns what is in it now.
func (c *MemoryCache) Copy() map[string][]byte {
	out := map[string][]byte{}
	for _, e := range c.all() {
		out[e.path], _ = c.read(e.path)
	}
	return out
}

// Set makes its content what Copy returned.
func (c *MemoryCache) Set(content map[string][]byte) {
	for _, e := range c.all() {
		c.remove(e.path)
	}
	for _, path := range slices.Sorted(maps.Keys(content)) {
		c.write(path, content[path])
	}
}

// WithCache gives a repository a cache.
func WithCache(r *Repository, c *MemoryCache) *Repository {
	r.cache = newCache(r, &c.ramShelf)
	return r
}
