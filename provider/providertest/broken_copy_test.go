package providertest_test

import (
	"context"
	"errors"
	"time"

	"github.com/holdfast-go/holdfast/provider"
)

// copying makes a store that copies as the good one does, with what change
// makes of it.
func copying(change func(b *broken, good copyFunc) copyFunc) func(*broken) {
	return func(b *broken) {
		b.copy = change(b, func(ctx context.Context, key string, from provider.BlobStore, source provider.Info, o provider.PutOptions) (provider.Info, error) {
			if store, there, ok := provider.Located[*broken](from, source.Key); ok {
				from, source.Key = store.good, there
			}
			return b.good.CopyFrom(ctx, key, from, source, o)
		})
	}
}

type copyFunc func(ctx context.Context, key string, from provider.BlobStore, source provider.Info, o provider.PutOptions) (provider.Info, error)

// asking changes what the good store is asked.
func asking(change func(source *provider.Info, o *provider.PutOptions)) func(*broken) {
	return copying(func(b *broken, good copyFunc) copyFunc {
		return func(ctx context.Context, key string, from provider.BlobStore, source provider.Info, o provider.PutOptions) (provider.Info, error) {
			change(&source, &o)
			return good(ctx, key, from, source, o)
		}
	})
}

// losingTags makes a store of whose copies some have no tags.
func losingTags(which func(provider.PutOptions) bool) func(*broken) {
	return func(b *broken) {
		tagging(func(*broken) {})(b)
		copying(func(b *broken, good copyFunc) copyFunc {
			return func(ctx context.Context, key string, from provider.BlobStore, source provider.Info, o provider.PutOptions) (provider.Info, error) {
				info, err := good(ctx, key, from, source, o)
				if err == nil && which(o) {
					err = b.good.SetTags(ctx, key, "", nil)
				}
				return info, err
			}
		})(b)
	}
}

var brokenCopies = []breakage{
	{"copies the present version for another", asking(func(source *provider.Info, _ *provider.PutOptions) { source.Version = "" }), []string{"blob/copy-version"}},

	{"copies nothing and says so to nobody", copying(func(b *broken, good copyFunc) copyFunc {
		return func(ctx context.Context, key string, from provider.BlobStore, source provider.Info, o provider.PutOptions) (provider.Info, error) {
			if from != provider.BlobStore(b) {
				return good(ctx, key, from, source, o)
			}
			source.Key = key
			return source, nil
		}
	}), []string{"blob/copy", "blob/copy-attributes", "blob/copy-cancelled", "blob/copy-conditions", "blob/copy-race", "blob/retain-copy", "blob/copy-sha256", "blob/copy-version"}},

	{"tells the version of the source", copying(func(b *broken, good copyFunc) copyFunc {
		return func(ctx context.Context, key string, from provider.BlobStore, source provider.Info, o provider.PutOptions) (provider.Info, error) {
			info, err := good(ctx, key, from, source, o)
			info.Version = source.Version
			return info, err
		}
	}), []string{"blob/copy", "blob/copy-conditions"}},

	{"moves what it copies", copying(func(b *broken, good copyFunc) copyFunc {
		return func(ctx context.Context, key string, from provider.BlobStore, source provider.Info, o provider.PutOptions) (provider.Info, error) {
			info, err := good(ctx, key, from, source, o)
			if err == nil && source.Size == 7 && o.Meta == nil && o.Retain.IsZero() && o.SHA256 == [32]byte{} && !o.IfAbsent {
				err = b.good.Delete(ctx, source.Key, provider.DeleteOptions{})
			}
			return info, err
		}
	}), []string{"blob/copy", "blob/copy-attributes"}},

	{"leaves the Meta behind", asking(func(_ *provider.Info, o *provider.PutOptions) {
		if o.Meta == nil {
			o.Meta = map[string]string{}
		}
	}), []string{"blob/copy-attributes"}},

	{"keeps the Meta although another is given", asking(func(_ *provider.Info, o *provider.PutOptions) { o.Meta = nil }), []string{"blob/copy-attributes"}},

	{"leaves the tags behind", losingTags(func(provider.PutOptions) bool { return true }), []string{"blob/copy-tags"}},

	{"leaves the tags behind under a condition", losingTags(func(o provider.PutOptions) bool { return o.IfAbsent }), []string{"blob/copy-tags"}},

	{"leaves the tags behind where the Meta is replaced", losingTags(func(o provider.PutOptions) bool { return o.Meta != nil }), []string{"blob/copy-tags"}},

	{"keeps the tags of what it copies over", func(b *broken) {
		tagging(func(*broken) {})(b)
		copying(func(b *broken, good copyFunc) copyFunc {
			return func(ctx context.Context, key string, from provider.BlobStore, source provider.Info, o provider.PutOptions) (provider.Info, error) {
				had, _ := b.good.Tags(ctx, key, "")
				info, err := good(ctx, key, from, source, o)
				if has, _ := b.good.Tags(ctx, key, ""); err == nil && len(has) == 0 && len(had) > 0 {
					err = b.good.SetTags(ctx, key, "", had)
				}
				return info, err
			}
		})(b)
	}, []string{"blob/copy-tags"}},

	{"does not compare the SHA256", asking(func(_ *provider.Info, o *provider.PutOptions) { o.SHA256 = [32]byte{} }), []string{"blob/copy-sha256"}},

	{"copies whatever IfAbsent says", asking(func(_ *provider.Info, o *provider.PutOptions) { o.IfAbsent = false }), []string{"blob/copy-conditions", "blob/copy-race"}},

	{"copies whatever IfMatch says", asking(func(_ *provider.Info, o *provider.PutOptions) { o.IfMatch = "" }), []string{"blob/copy-conditions"}},

	{"looks first whether a copy is there", copying(func(b *broken, good copyFunc) copyFunc {
		return func(ctx context.Context, key string, from provider.BlobStore, source provider.Info, o provider.PutOptions) (provider.Info, error) {
			if _, err := b.good.Stat(ctx, key); o.IfAbsent && err == nil {
				return provider.Info{}, &provider.Error{Op: "copy", Provider: "broken", Key: key, Err: provider.ErrConflict}
			}
			time.Sleep(time.Millisecond) // as far as a server is
			o.IfAbsent = false
			return good(ctx, key, from, source, o)
		}
	}), []string{"blob/copy-race"}},

	{"forgets which part of the store it copies from", copying(func(b *broken, good copyFunc) copyFunc {
		return func(ctx context.Context, key string, from provider.BlobStore, source provider.Info, o provider.PutOptions) (provider.Info, error) {
			if _, there, ok := provider.Located[*broken](from, source.Key); ok && there != source.Key {
				from = b.good
			}
			return good(ctx, key, from, source, o)
		}
	}), []string{"blob/copy-part"}},

	{"takes any store for its own", copying(func(b *broken, good copyFunc) copyFunc {
		return func(ctx context.Context, key string, from provider.BlobStore, source provider.Info, o provider.PutOptions) (provider.Info, error) {
			if _, _, ok := provider.Located[*broken](from, source.Key); !ok {
				return b.good.Put(ctx, key, provider.Bytes(make([]byte, source.Size)), o)
			}
			return good(ctx, key, from, source, o)
		}
	}), []string{"blob/copy-foreign"}},

	{"copies after ctx has ended", copying(func(b *broken, good copyFunc) copyFunc {
		return func(ctx context.Context, key string, from provider.BlobStore, source provider.Info, o provider.PutOptions) (provider.Info, error) {
			return good(context.WithoutCancel(ctx), key, from, source, o)
		}
	}), []string{"blob/copy-cancelled"}},

	{"forgets the retention of a copy", asking(func(_ *provider.Info, o *provider.PutOptions) { o.Retain = provider.Retention{} }), []string{"blob/retain-copy"}},

	{"says that a version that is gone is a conflict", copying(func(b *broken, good copyFunc) copyFunc {
		return func(ctx context.Context, key string, from provider.BlobStore, source provider.Info, o provider.PutOptions) (provider.Info, error) {
			info, err := good(ctx, key, from, source, o)
			if errors.Is(err, provider.ErrNotFound) {
				err = &provider.Error{Op: "copy", Provider: "broken", Key: key, Err: provider.ErrConflict}
			}
			return info, err
		}
	}), []string{"blob/copy-version"}},
}
