package providertest_test

import (
	"context"
	"errors"

	"github.com/holdfast-go/holdfast/provider"
)

var brokenConditions = []breakage{
	{"ignores IfAbsent", func(b *broken) {
		b.put = func(ctx context.Context, key string, body provider.Body, o provider.PutOptions) (provider.Info, error) {
			o.IfAbsent = false
			return b.good.Put(ctx, key, body, o)
		}
	}, []string{"blob/error-type", "blob/put-if-absent", "blob/put-if-absent-race", "blob/put-if-match"}},

	{"ignores IfMatch", func(b *broken) {
		b.put = func(ctx context.Context, key string, body provider.Body, o provider.PutOptions) (provider.Info, error) {
			o.IfMatch = ""
			return b.good.Put(ctx, key, body, o)
		}
	}, []string{"blob/delete-version-race", "blob/put-if-match", "blob/put-if-match-race"}},

	{"leaves out IfMatch beside IfAbsent", func(b *broken) {
		b.put = func(ctx context.Context, key string, body provider.Body, o provider.PutOptions) (provider.Info, error) {
			if o.IfAbsent {
				o.IfMatch = ""
			}
			return b.good.Put(ctx, key, body, o)
		}
	}, []string{"blob/put-if-match"}},

	{"takes a version that it does not know for none", func(b *broken) {
		b.put = func(ctx context.Context, key string, body provider.Body, o provider.PutOptions) (provider.Info, error) {
			if o.IfMatch == "none-of-this-store" {
				o.IfMatch = ""
			}
			return b.good.Put(ctx, key, body, o)
		}
	}, []string{"blob/put-if-match"}},

	{"checks IfAbsent first and acts later", func(b *broken) {
		b.put = func(ctx context.Context, key string, body provider.Body, o provider.PutOptions) (provider.Info, error) {
			if _, err := b.good.Stat(ctx, key); o.IfAbsent && err == nil {
				return provider.Info{}, &provider.Error{Op: "put", Provider: "broken", Key: key, Err: provider.ErrConflict}
			}
			o.IfAbsent = false
			return b.good.Put(ctx, key, body, o)
		}
	}, []string{"blob/put-if-absent-race"}},

	{"checks IfMatch first and acts later", func(b *broken) {
		b.put = func(ctx context.Context, key string, body provider.Body, o provider.PutOptions) (provider.Info, error) {
			if info, err := b.good.Stat(ctx, key); o.IfMatch != "" && (err != nil || info.Version != o.IfMatch) {
				return provider.Info{}, &provider.Error{Op: "put", Provider: "broken", Key: key, Err: provider.ErrConflict}
			}
			o.IfMatch = ""
			return b.good.Put(ctx, key, body, o)
		}
	}, []string{"blob/delete-version-race", "blob/put-if-match-race"}},

	{"creates an object for IfMatch", func(b *broken) {
		b.put = func(ctx context.Context, key string, body provider.Body, o provider.PutOptions) (provider.Info, error) {
			if _, err := b.good.Stat(ctx, key); errors.Is(err, provider.ErrNotFound) {
				o.IfMatch = ""
			}
			return b.good.Put(ctx, key, body, o)
		}
	}, []string{"blob/delete-version-race", "blob/put-if-match"}},

	{"has another error for a conflict", func(b *broken) {
		b.put = func(ctx context.Context, key string, body provider.Body, o provider.PutOptions) (provider.Info, error) {
			info, err := b.good.Put(ctx, key, body, o)
			if errors.Is(err, provider.ErrConflict) {
				err = &provider.Error{Op: "put", Provider: "broken", Key: key, Err: errors.New("412")}
			}
			return info, err
		}
	}, []string{"blob/delete-version-race", "blob/put-if-absent", "blob/put-if-absent-race", "blob/put-if-match", "blob/put-if-match-race"}},

	{"ignores the Version of a delete", func(b *broken) {
		b.remove = func(ctx context.Context, key string, o provider.DeleteOptions) error {
			o.Version = ""
			return b.good.Delete(ctx, key, o)
		}
	}, []string{"blob/delete-version", "blob/error-type"}},

	{"checks the Version of a delete first and acts later", func(b *broken) {
		b.remove = func(ctx context.Context, key string, o provider.DeleteOptions) error {
			if info, err := b.good.Stat(ctx, key); err == nil && o.Version != "" && info.Version != o.Version {
				return &provider.Error{Op: "delete", Provider: "broken", Key: key, Err: provider.ErrConflict}
			}
			if o.Version != "" {
				pause()
			}
			return b.good.Delete(ctx, key, provider.DeleteOptions{})
		}
	}, []string{"blob/delete-version-race"}},

	{"declines a Version only if it is not the present one", func(b *broken) {
		b.remove = func(ctx context.Context, key string, o provider.DeleteOptions) error {
			err := b.good.Delete(ctx, key, o)
			if errors.Is(err, provider.ErrConflict) {
				err = &provider.Error{Op: "delete", Provider: "broken", Key: key, Err: errors.ErrUnsupported}
			}
			return err
		}
	}, []string{"blob/delete-version"}},
}
