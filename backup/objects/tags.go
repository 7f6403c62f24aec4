package objects

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"io/fs"
	"maps"
	"sync"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/provider"
)

// tags are those of one version.
type tags struct {
	all    map[string]string // nil if they are not known
	failed error             // why not, if they were asked for
}

// tags asks for the tags of a version. The error is that it is not there any
// more; content that can be read is kept without its tags.
func (t *Target) tags(ctx context.Context, info provider.Info) (tags, error) {
	tagger, ok := provider.As[provider.Tagger](t.store)
	if !t.c.Tags || !ok {
		return tags{}, nil
	}
	all, err := tagger.Tags(ctx, info.Key, info.Version)
	switch {
	case errors.Is(err, provider.ErrNotFound) || ctx.Err() != nil:
		return tags{}, errors.Join(err, ctx.Err())
	case t.securing && errors.Is(err, errors.ErrUnsupported):
		return tags{}, nil // there are none to lose
	case err != nil:
		return tags{failed: err}, nil
	case all == nil:
		all = map[string]string{}
	}
	return tags{all: all}, nil
}

func (t tags) warn(s *backup.Session, key string) {
	if t.failed != nil {
		s.Warn(key, fmt.Errorf("it is kept without its tags: %w", t.failed))
	}
}

// tag gives a version at the destination the tags that it has in the point, if
// they are known. Others that it has are replaced with the option overwrite only.
// A store that does not take them is no reason to fail.
func (r *restorer) tag(ctx context.Context, key string, have provider.Version, v version) error {
	if v.meta.Tags == nil {
		return nil
	}
	tagger, lacks, err := r.lacks(ctx, key, have, v.meta.Tags)
	if err == nil && lacks {
		err = tagger.SetTags(ctx, key, have, v.meta.Tags)
	}
	if ctx.Err() != nil || !errors.Is(err, errors.ErrUnsupported) && !errors.Is(err, fs.ErrPermission) {
		return err
	}
	if r.o.verify {
		r.untagged.add(key)
	}
	if len(v.meta.Tags) > 0 {
		r.t.c.Logger.Warn("restored without its tags, which the store does not take", "key", key, "error", err)
	}
	return nil
}

// lacks reports whether a version has other tags than it should; errTaken if
// they may not be replaced.
func (r *restorer) lacks(ctx context.Context, key string, have provider.Version, want map[string]string) (provider.Tagger, bool, error) {
	tagger, ok := provider.As[provider.Tagger](r.t.store)
	if !ok {
		return nil, false, fmt.Errorf("it keeps no tags: %w", errors.ErrUnsupported)
	}
	now, err := tagger.Tags(ctx, key, have)
	switch {
	case err != nil:
		return nil, false, err
	case maps.Equal(now, want):
		return tagger, false, nil
	case len(now) > 0 && !r.o.overwrite:
		return nil, false, fmt.Errorf("its tags: %w", errTaken)
	}
	return tagger, true, nil
}

// verifyTags reads the tags of an object again, unless they were left out.
func (r *restorer) verifyTags(ctx context.Context, key string, have provider.Version, v version) error {
	if v.meta.Tags == nil || r.untagged.has(key) {
		return nil
	}
	_, lacks, err := r.lacks(ctx, key, have, v.meta.Tags)
	switch {
	case lacks || errors.Is(err, errTaken):
		return fmt.Errorf("its tags are not those that were restored: %w", provider.ErrCorrupt)
	case errors.Is(err, errors.ErrUnsupported), errors.Is(err, fs.ErrPermission): // it has none to look at
		return nil
	}
	return err
}

// untagged are the objects whose tags were left out, 8 bytes of each key.
type untagged struct {
	mu   sync.Mutex
	seed maphash.Seed
	keys map[uint64]bool
}

func (u *untagged) add(key string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.keys == nil {
		u.seed, u.keys = maphash.MakeSeed(), map[uint64]bool{}
	}
	u.keys[maphash.String(u.seed, key)] = true
}

func (u *untagged) has(key string) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.keys != nil && u.keys[maphash.String(u.seed, key)]
}
