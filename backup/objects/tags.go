package objects

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"

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
	err := r.retag(ctx, key, have, v.meta.Tags)
	if ctx.Err() != nil || !errors.Is(err, errors.ErrUnsupported) && !errors.Is(err, fs.ErrPermission) {
		return err
	}
	if len(v.meta.Tags) > 0 {
		r.t.c.Logger.Warn("restored without its tags, which the store does not take", "key", key, "error", err)
	}
	return nil
}

func (r *restorer) retag(ctx context.Context, key string, have provider.Version, want map[string]string) error {
	tagger, ok := provider.As[provider.Tagger](r.t.store)
	if !ok {
		return fmt.Errorf("it keeps no tags: %w", errors.ErrUnsupported)
	}
	now, err := tagger.Tags(ctx, key, have)
	switch {
	case err != nil:
		return err
	case maps.Equal(now, want):
		return nil
	case len(now) > 0 && !r.o.overwrite:
		return fmt.Errorf("its tags: %w", errTaken)
	}
	return tagger.SetTags(ctx, key, have, want)
}
