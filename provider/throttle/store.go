package throttle

import (
	"context"
	"fmt"
	"iter"

	"github.com/holdfast-go/holdfast/provider"
)

// store is a BlobStore behind a Throttle.
type store struct {
	t     *Throttle
	store provider.BlobStore
}

// These are what a store is besides, if the one behind it is.
type locker struct {
	s      *store
	locker provider.Locker
}

type versioner struct {
	s         *store
	versioner provider.Versioner
}

type warmer struct {
	s      *store
	warmer provider.Warmer
}

type tagger struct {
	s      *store
	tagger provider.Tagger
}

// As gives [provider.As] the powers of the store behind, under the limits.
func (s *store) As(power any) (ok bool) {
	switch to := power.(type) {
	case *provider.Locker:
		var l provider.Locker
		l, ok = provider.As[provider.Locker](s.store)
		*to = locker{s, l}
	case *provider.Versioner:
		var v provider.Versioner
		v, ok = provider.As[provider.Versioner](s.store)
		*to = versioner{s, v}
	case *provider.Warmer:
		var w provider.Warmer
		w, ok = provider.As[provider.Warmer](s.store)
		*to = warmer{s, w}
	case *provider.Tagger:
		var t provider.Tagger
		t, ok = provider.As[provider.Tagger](s.store)
		*to = tagger{s, t}
	}
	return ok
}

// Unwrap lets [provider.As] find what else the store can do.
func (s *store) Unwrap() provider.BlobStore { return s.store }

// Stat implements [provider.BlobStore].
func (s *store) Stat(ctx context.Context, key string) (info provider.Info, err error) {
	err = s.t.call(Read, "stat", key).run(ctx, func(ctx context.Context) (err error) {
		info, err = s.store.Stat(ctx, key)
		return err
	})
	return info, err
}

// Lock implements [provider.Locker]. Made again, it finds the retention that it
// has set.
func (l locker) Lock(ctx context.Context, key string, r provider.Retention) error {
	return l.s.t.call(Write, "lock", key).run(ctx, func(ctx context.Context) error { return l.locker.Lock(ctx, key, r) })
}

// Warm implements [provider.Warmer]. Made again, it follows what it has begun.
func (w warmer) Warm(ctx context.Context, key string, o provider.WarmOptions) (state provider.State, err error) {
	err = w.s.t.call(Write, "warm", key).run(ctx, func(ctx context.Context) (err error) {
		state, err = w.warmer.Warm(ctx, key, o)
		return err
	})
	return state, err
}

// Tags implements [provider.Tagger].
func (t tagger) Tags(ctx context.Context, key string, v provider.Version) (tags map[string]string, err error) {
	err = t.s.t.call(Read, "tags", key).run(ctx, func(ctx context.Context) (err error) {
		tags, err = t.tagger.Tags(ctx, key, v)
		return err
	})
	return tags, err
}

// SetTags implements [provider.Tagger]. Made again, it sets the same.
func (t tagger) SetTags(ctx context.Context, key string, v provider.Version, tags map[string]string) error {
	return t.s.t.call(Write, "set tags", key).run(ctx, func(ctx context.Context) error { return t.tagger.SetTags(ctx, key, v, tags) })
}

// Delete implements [provider.BlobStore].
func (s *store) Delete(ctx context.Context, key string, o provider.DeleteOptions) error {
	k := s.t.call(Delete, "delete", key)
	return k.run(ctx, func(within context.Context) error {
		err := s.store.Delete(within, key, o)
		k.settle(within, err)
		if err == nil || o.Version == "" || !passes(err) || ctx.Err() != nil || !k.mayHave() {
			return err
		}
		// Made again it would delete what another has put meanwhile, if that
		// has the same bytes and so the same version.
		if _, look := s.Stat(ctx, key); missing(look) {
			return nil
		}
		return &final{fmt.Errorf("outcome unknown, an object is there: %w", err)}
	})
}

// List implements [provider.BlobStore].
func (s *store) List(ctx context.Context, prefix string, o provider.ListOptions) iter.Seq2[provider.Info, error] {
	return func(yield func(provider.Info, error) bool) {
		k := s.t.call(List, "list", prefix)
		enough := false
		err := k.run(ctx, func(ctx context.Context) error {
			for info, err := range s.store.List(ctx, prefix, o) {
				if err != nil {
					return err
				}
				k.further()
				o.StartAfter = info.Key
				if enough = !yield(info, nil); enough {
					return nil
				}
			}
			return nil
		})
		if err != nil && !enough {
			yield(provider.Info{}, err)
		}
	}
}

// Versions implements [provider.Versioner]. After a failure the key it broke
// off in is listed again, and what was yielded of it left out.
func (v versioner) Versions(ctx context.Context, prefix string, o provider.ListOptions) iter.Seq2[provider.VersionInfo, error] {
	return func(yield func(provider.VersionInfo, error) bool) {
		k := v.s.t.call(List, "versions", prefix)
		var last provider.VersionInfo
		have, enough := 0, false // versions of its key that were yielded
		err := k.run(ctx, func(ctx context.Context) error {
			skip := have
			for info, err := range v.versioner.Versions(ctx, prefix, o) {
				if err != nil {
					return err
				}
				if skip > 0 {
					if skip--; info.Key != last.Key || skip == 0 && !sameVersion(info, last) {
						return &final{fmt.Errorf("the versions of %q changed after the listing broke off in them", last.Key)}
					}
					continue
				}
				k.further()
				if have++; info.Key != last.Key {
					if last.Key != "" {
						o.StartAfter = last.Key
					}
					have = 1
				}
				last = info
				if enough = !yield(info, nil); enough {
					return nil
				}
			}
			if skip > 0 {
				return &final{fmt.Errorf("the versions of %q were gone after the listing broke off in them", last.Key)}
			}
			return nil
		})
		if err != nil && !enough {
			yield(provider.VersionInfo{}, err)
		}
	}
}

func sameVersion(a, b provider.VersionInfo) bool {
	return a.Version == b.Version && a.Deleted == b.Deleted && a.Modified.Equal(b.Modified)
}
