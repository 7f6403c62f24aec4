package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/holdfast-go/holdfast/provider"
)

// firstWins shows of a bucket with versions what was written first under
// each key. Nothing in a repository is ever overwritten but tombstones, so
// what was put on top of anything else, by somebody with a writer's
// credential, is not the repository's. What was deleted is gone, as the
// credential of a writer cannot delete.
//
// Of objects that are named by their hash the present version is read, and
// others are looked for only when it is not what it should be; see pin.
type firstWins struct {
	provider.BlobStore
	v provider.Versioner

	plain  atomic.Bool // it has turned out to keep no versions
	mu     sync.Mutex
	pinned map[string]provider.Version // of keys with more than one
}

// firstIn returns s itself if it keeps no versions.
func firstIn(s provider.BlobStore) provider.BlobStore {
	if _, ok := s.(*firstWins); ok || s == nil {
		return s
	}
	v, ok := provider.As[provider.Versioner](s)
	if !ok {
		return s
	}
	return &firstWins{BlobStore: s, v: v, pinned: map[string]provider.Version{}}
}

// Unwrap leads to the powers of the store.
func (s *firstWins) Unwrap() provider.BlobStore { return s.BlobStore }

// first returns the version of a key that counts, and whether there are
// others.
func (s *firstWins) first(ctx context.Context, key string) (first provider.Info, others bool, err error) {
	for info, err := range s.List(ctx, key, provider.ListOptions{}) {
		if err != nil {
			return provider.Info{}, false, err
		}
		if info.Key == key {
			return info, s.pin(key) != "", nil
		}
		break
	}
	return provider.Info{}, false, fmt.Errorf("%s: %w", key, provider.ErrNotFound)
}

func (s *firstWins) pin(key string) provider.Version {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pinned[key]
}

// List yields the first versions.
func (s *firstWins) List(ctx context.Context, prefix string, o provider.ListOptions) iter.Seq2[provider.Info, error] {
	if s.plain.Load() {
		return s.BlobStore.List(ctx, prefix, o)
	}
	return func(yield func(provider.Info, error) bool) {
		var first provider.VersionInfo // of the key being listed
		versions := 0
		settled := false // first is no tombstone
		flush := func() bool {
			if versions == 0 {
				return true
			}
			s.mu.Lock()
			if versions > 1 {
				s.pinned[first.Key] = first.Version
			} else {
				delete(s.pinned, first.Key)
			}
			s.mu.Unlock()
			return yield(first.Info, nil)
		}
		for v, err := range s.v.Versions(ctx, prefix, o) {
			if errors.Is(err, errors.ErrUnsupported) {
				s.plain.Store(true)
				s.BlobStore.List(ctx, prefix, o)(yield)
				return
			}
			if err != nil {
				yield(provider.Info{}, err)
				return
			}
			if v.Key != first.Key {
				if !flush() {
					return
				}
				first, versions, settled = v, 0, false
			}
			switch {
			case v.Deleted:
				versions, settled = 0, false
			case versions == 0:
				first, versions = v, 1
			default:
				// A tombstone in the way of a copy was replaced by what the copy has brought.
				if !settled && strings.HasPrefix(v.Key, pointPrefix) {
					dead, err := s.saysTombstone(ctx, first.Info)
					if err != nil {
						yield(provider.Info{}, err)
						return
					}
					if settled = !dead; dead {
						first = v
					}
				}
				versions++
			}
		}
		flush()
	}
}

// saysTombstone reports whether a version of a manifest says that it is a
// tombstone, truly or not: who does not trust it then looks at the next.
func (s *firstWins) saysTombstone(ctx context.Context, v provider.Info) (bool, error) {
	rc, _, err := s.BlobStore.Get(ctx, v.Key, provider.GetOptions{Version: v.Version, Unverified: true})
	if errors.Is(err, provider.ErrNotFound) || errors.Is(err, provider.ErrCorrupt) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("get %s: %w", v.Key, err)
	}
	defer rc.Close()
	b := make([]byte, 12, 16<<10)
	if _, err := io.ReadFull(rc, b); err != nil {
		return false, ctx.Err()
	}
	n, err := headerLen(b)
	if err != nil || int64(n) > v.Size {
		return false, nil
	}
	b = append(b, make([]byte, n-len(b))...)
	if _, err := io.ReadFull(rc, b[12:]); err != nil {
		return false, ctx.Err()
	}
	_, _, _, err = decodeHeader(b, kindTombstone)
	return err == nil, nil
}

// hashed reports whether what is under a key can be told from anything else.
func hashed(key string) bool {
	return strings.HasPrefix(key, kindData+"/") || strings.HasPrefix(key, kindMeta+"/") || strings.HasPrefix(key, indexPrefix)
}

// Get opens the first version.
func (s *firstWins) Get(ctx context.Context, key string, o provider.GetOptions) (io.ReadCloser, provider.Info, error) {
	if o.Version == "" && !hashed(key) && !s.plain.Load() {
		first, _, err := s.first(ctx, key)
		if err != nil {
			return nil, provider.Info{}, err
		}
		o.Version = first.Version
	} else if o.Version == "" {
		o.Version = s.pin(key)
	}
	return s.BlobStore.Get(ctx, key, o)
}

// Stat describes the first version.
func (s *firstWins) Stat(ctx context.Context, key string) (provider.Info, error) {
	if s.plain.Load() {
		return s.BlobStore.Stat(ctx, key)
	}
	first, _, err := s.first(ctx, key)
	return first, err
}

// overwritten reports whether there is an older version of a hashed key than
// the present one. It is read from now on.
func overwritten(ctx context.Context, store provider.BlobStore, key string) bool {
	s, ok := provider.As[*firstWins](store)
	if !ok || s.plain.Load() {
		return false
	}
	_, others, err := s.first(ctx, key)
	return err == nil && others
}

// errShadowed: a lock cannot name a version, and the present one is not the
// repository's.
var errShadowed = errors.New("something was put on top of it; a lock would be put on that")

// presentIn describes an object with its retention, which a listing may lack.
// The key must have been listed not long ago.
func presentIn(ctx context.Context, store provider.BlobStore, key string) (provider.Info, error) {
	s, ok := provider.As[*firstWins](store)
	switch {
	case !ok || s.plain.Load():
		return store.Stat(ctx, key)
	case s.pin(key) != "":
		return provider.Info{}, errShadowed
	}
	return s.BlobStore.Stat(ctx, key)
}

// beneath is the version of a key that is the repository's, if there are
// others: what whoever reads the store itself has to ask for. Empty is the
// present one.
func beneath(store provider.BlobStore, key string) provider.Version {
	if s, ok := provider.As[*firstWins](store); ok {
		return s.pin(key)
	}
	return ""
}
