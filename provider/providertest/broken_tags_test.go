package providertest_test

import (
	"context"
	"errors"
	"maps"

	"github.com/holdfast-go/holdfast/provider"
)

// tagging makes a store that keeps tags as the good one does, with what change
// makes of it.
func tagging(change func(b *broken)) func(*broken) {
	return func(b *broken) {
		b.tags, b.setTags = b.good.Tags, b.good.SetTags
		change(b)
	}
}

var brokenTags = []breakage{
	{"adds tags to those there are", tagging(func(b *broken) {
		b.setTags = func(ctx context.Context, key string, v provider.Version, tags map[string]string) error {
			all, err := b.good.Tags(ctx, key, v)
			if err != nil {
				return err
			}
			if len(tags) > 0 && len(all)+len(tags) <= 10 {
				tags = maps.Clone(tags)
				maps.Copy(tags, all)
			}
			return b.good.SetTags(ctx, key, v, tags)
		}
	}), []string{"blob/tags"}},

	{"writes an object anew for its tags", tagging(func(b *broken) {
		b.setTags = func(ctx context.Context, key string, v provider.Version, tags map[string]string) error {
			_, err := b.good.Tags(ctx, key, v)
			if err != nil {
				return err
			}
			body, info, err := provider.ReadAll(ctx, b.good, key, 1<<20)
			if err == nil {
				_, err = b.good.Put(ctx, key, provider.Bytes(body), provider.PutOptions{Meta: info.Meta})
			}
			if err != nil {
				return err
			}
			return b.good.SetTags(ctx, key, "", tags)
		}
	}), []string{"blob/tags", "blob/tags-version", "blob/tags-refused"}},

	{"tells of no tags where there are none by an empty map", tagging(func(b *broken) {
		b.tags = func(ctx context.Context, key string, v provider.Version) (map[string]string, error) {
			tags, err := b.good.Tags(ctx, key, v)
			if err == nil && tags == nil {
				tags = map[string]string{}
			}
			return tags, err
		}
	}), []string{"blob/tags", "blob/tags-replaced"}},

	{"drops empty values", tagging(func(b *broken) {
		b.setTags = func(ctx context.Context, key string, v provider.Version, tags map[string]string) error {
			full := maps.Clone(tags)
			maps.DeleteFunc(full, func(_, value string) bool { return value == "" })
			return b.good.SetTags(ctx, key, v, full)
		}
	}), []string{"blob/tags-empty", "blob/tags-refused"}},

	{"keeps the tags of a key", tagging(func(b *broken) {
		kept := map[string]map[string]string{}
		b.setTags = func(ctx context.Context, key string, v provider.Version, tags map[string]string) error {
			err := b.good.SetTags(ctx, key, v, tags)
			if err == nil {
				kept[key] = tags
			}
			return err
		}
		b.put = func(ctx context.Context, key string, body provider.Body, o provider.PutOptions) (provider.Info, error) {
			info, err := b.good.Put(ctx, key, body, o)
			if err == nil && len(kept[key]) > 0 {
				err = b.good.SetTags(ctx, key, "", kept[key])
			}
			return info, err
		}
	}), []string{"blob/tags-replaced"}},

	{"ignores the version", tagging(func(b *broken) {
		b.tags = func(ctx context.Context, key string, _ provider.Version) (map[string]string, error) {
			return b.good.Tags(ctx, key, "")
		}
		b.setTags = func(ctx context.Context, key string, _ provider.Version, tags map[string]string) error {
			return b.good.SetTags(ctx, key, "", tags)
		}
	}), []string{"blob/tags-version"}},

	{"has no tags where it has no object", tagging(func(b *broken) {
		b.tags = func(ctx context.Context, key string, v provider.Version) (map[string]string, error) {
			tags, err := b.good.Tags(ctx, key, v)
			if errors.Is(err, provider.ErrNotFound) {
				err = nil
			}
			return tags, err
		}
	}), []string{"blob/tags-missing", "blob/tags-version"}},

	{"leaves out the tags that it cannot keep", tagging(func(b *broken) {
		b.setTags = func(ctx context.Context, key string, v provider.Version, tags map[string]string) error {
			err := b.good.SetTags(ctx, key, v, tags)
			if errors.Is(err, errors.ErrUnsupported) {
				err = b.good.SetTags(ctx, key, v, nil)
			}
			return err
		}
	}), []string{"blob/tags-refused"}},

	{"removes the tags before it looks at the new ones", tagging(func(b *broken) {
		b.setTags = func(ctx context.Context, key string, v provider.Version, tags map[string]string) error {
			if err := b.good.SetTags(ctx, key, v, nil); err != nil {
				return err
			}
			return b.good.SetTags(ctx, key, v, tags)
		}
	}), []string{"blob/tags-refused"}},

	{"sets tags although its caller has gone", tagging(func(b *broken) {
		b.setTags = func(ctx context.Context, key string, v provider.Version, tags map[string]string) error {
			return errors.Join(b.good.SetTags(context.WithoutCancel(ctx), key, v, tags), ctx.Err())
		}
	}), []string{"blob/tags-cancelled"}},
}
