package providertest_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/holdfast-go/holdfast/provider"
)

var brokenPuts = []breakage{
	{"is not atomic", func(b *broken) {
		b.put = func(ctx context.Context, key string, body provider.Body, o provider.PutOptions) (provider.Info, error) {
			if body.Size() < 2000 {
				return b.good.Put(ctx, key, body, o)
			}
			half := io.NewSectionReader(body, 0, body.Size()/4)
			if _, err := b.good.Put(ctx, key, half, provider.PutOptions{}); err != nil {
				return provider.Info{}, err
			}
			return b.good.Put(ctx, key, body, o)
		}
	}, []string{"blob/body-cancelled", "blob/body-changes", "blob/body-fails", "blob/body-short", "blob/body-unseen"}},

	{"removes the earlier object when a put fails", func(b *broken) {
		b.put = func(ctx context.Context, key string, body provider.Body, o provider.PutOptions) (provider.Info, error) {
			info, err := b.good.Put(ctx, key, body, o)
			if err != nil && !errors.Is(err, provider.ErrConflict) && !errors.Is(err, provider.ErrLocked) {
				b.good.Delete(context.WithoutCancel(ctx), key, provider.DeleteOptions{})
			}
			return info, err
		}
	}, []string{"blob/body-cancelled", "blob/body-fails", "blob/body-short", "blob/context", "blob/put-sha256"}},

	{"ignores SHA256", func(b *broken) {
		b.put = func(ctx context.Context, key string, body provider.Body, o provider.PutOptions) (provider.Info, error) {
			o.SHA256 = [32]byte{}
			return b.good.Put(ctx, key, body, o)
		}
	}, []string{"blob/put-sha256"}},

	{"checks SHA256 in one pass and stores in another", func(b *broken) {
		b.put = func(ctx context.Context, key string, body provider.Body, o provider.PutOptions) (provider.Info, error) {
			if o.SHA256 != [32]byte{} {
				if _, err := b.good.Put(ctx, "scratch", body, provider.PutOptions{SHA256: o.SHA256}); err != nil {
					return provider.Info{}, err
				}
				b.good.Delete(ctx, "scratch", provider.DeleteOptions{})
				o.SHA256 = [32]byte{}
			}
			return b.good.Put(ctx, key, body, o)
		}
	}, []string{"blob/body-changes"}},

	{"stores a short body", func(b *broken) {
		b.put = func(ctx context.Context, key string, body provider.Body, o provider.PutOptions) (provider.Info, error) {
			content, err := io.ReadAll(io.NewSectionReader(body, 0, body.Size()))
			if err != nil || ctx.Err() != nil {
				return b.good.Put(ctx, key, body, o)
			}
			return b.good.Put(ctx, key, bytes.NewReader(content), o)
		}
	}, []string{"blob/body-short"}},

	{"stores what it got of a body that fails", func(b *broken) {
		b.put = func(ctx context.Context, key string, body provider.Body, o provider.PutOptions) (provider.Info, error) {
			content, err := io.ReadAll(io.NewSectionReader(body, 0, body.Size()))
			if err != nil && ctx.Err() == nil {
				b.good.Put(ctx, key, bytes.NewReader(content), provider.PutOptions{})
			}
			return b.good.Put(ctx, key, body, o)
		}
	}, []string{"blob/body-fails"}},

	{"goes on when a put is cancelled", func(b *broken) {
		b.put = func(ctx context.Context, key string, body provider.Body, o provider.PutOptions) (provider.Info, error) {
			info, err := b.good.Put(ctx, key, body, o)
			if errors.Is(err, context.Canceled) {
				b.good.Put(context.WithoutCancel(ctx), key, bytes.NewReader([]byte("torso")), provider.PutOptions{})
			}
			return info, err
		}
	}, []string{"blob/body-cancelled", "blob/context"}},

	{"reuses a Version", func(b *broken) {
		versions(b, func(info provider.Info) provider.Version { return provider.Version(fmt.Sprint(info.Size)) })
	}, []string{"blob/delete-version", "blob/put-if-match", "blob/put-version"}},

	{"begins its Versions anew after a delete", func(b *broken) {
		var mu sync.Mutex
		count := map[string]int{}
		number := map[provider.Version]provider.Version{}
		versions(b, func(info provider.Info) provider.Version {
			mu.Lock()
			defer mu.Unlock()
			if number[info.Version] == "" {
				count[info.Key]++
				number[info.Version] = provider.Version(fmt.Sprint(info.Key, count[info.Key]))
			}
			return number[info.Version]
		})
		remove := b.remove
		b.remove = func(ctx context.Context, key string, o provider.DeleteOptions) error {
			err := remove(ctx, key, o)
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				delete(count, key)
			}
			return err
		}
	}, []string{"blob/put-version"}},

	{"shows a new object a moment late", func(b *broken) {
		b.get = func(ctx context.Context, key string, o provider.GetOptions) (io.ReadCloser, provider.Info, error) {
			info, err := b.good.Stat(ctx, key)
			if err == nil && time.Since(info.Modified) < time.Millisecond {
				time.Sleep(2 * time.Millisecond)
				return nil, provider.Info{}, &provider.Error{Op: "get", Provider: "broken", Key: key, Err: provider.ErrNotFound}
			}
			return b.good.Get(ctx, key, o)
		}
	}, []string{"blob/body-cancelled", "blob/body-changes", "blob/body-fails", "blob/body-short", "blob/body-unseen", "blob/context", "blob/delete", "blob/delete-missing", "blob/delete-version", "blob/get-empty", "blob/get-open-reader", "blob/get-parallel", "blob/get-range", "blob/get-range-error", "blob/get-version", "blob/get-whole", "blob/keys-beside", "blob/keys-odd", "blob/keys-plain", "blob/lock", "blob/lock-extend", "blob/lock-shorten", "blob/meta", "blob/meta-replaced", "blob/put-if-absent", "blob/put-if-absent-race", "blob/put-if-match", "blob/put-if-match-race", "blob/put-replace", "blob/put-sha256", "blob/retain", "blob/retain-delete", "blob/retain-replace", "blob/stat"}},

	{"tells nothing about what it put", func(b *broken) {
		b.put = func(ctx context.Context, key string, body provider.Body, o provider.PutOptions) (provider.Info, error) {
			info, err := b.good.Put(ctx, key, body, o)
			return provider.Info{Version: info.Version}, err
		}
	}, []string{"blob/put-info", "blob/put-sha256", "blob/retain"}},

	{"takes no empty object", func(b *broken) {
		b.put = func(ctx context.Context, key string, body provider.Body, o provider.PutOptions) (provider.Info, error) {
			if body.Size() == 0 && !o.IfAbsent {
				return provider.Info{}, errors.New("411 length required")
			}
			return b.good.Put(ctx, key, body, o)
		}
	}, []string{"blob/get-empty", "blob/put-replace"}},

	{"takes only keys of 255 bytes", func(b *broken) {
		b.put = func(ctx context.Context, key string, body provider.Body, o provider.PutOptions) (provider.Info, error) {
			if len(key) > 255 {
				return provider.Info{}, &provider.Error{Op: "put", Provider: "broken", Key: key, Err: provider.ErrInvalidKey}
			}
			return b.good.Put(ctx, key, body, o)
		}
	}, []string{"blob/keys-odd", "blob/keys-plain"}},

	{"deletes everything below a key with it", func(b *broken) {
		b.remove = func(ctx context.Context, key string, o provider.DeleteOptions) error {
			for info := range b.good.List(ctx, key, provider.ListOptions{}) {
				b.good.Delete(ctx, info.Key, provider.DeleteOptions{})
			}
			return b.good.Delete(ctx, key, o)
		}
	}, []string{"blob/delete", "blob/delete-missing", "blob/delete-version", "blob/error-type"}},

	{"fails to delete a missing object", func(b *broken) {
		b.remove = func(ctx context.Context, key string, o provider.DeleteOptions) error {
			if _, err := b.good.Stat(ctx, key); err != nil {
				return err
			}
			return b.good.Delete(ctx, key, o)
		}
	}, []string{"blob/delete", "blob/delete-missing"}},

	{"gives each handle versions of its own", func(b *broken) {
		b.put = func(ctx context.Context, key string, body provider.Body, o provider.PutOptions) (provider.Info, error) {
			info, err := b.good.Put(ctx, key, body, o)
			info.Version = provider.Version(fmt.Sprint(rand.Int()))
			return info, err
		}
	}, []string{"blob/body-cancelled", "blob/body-fails", "blob/body-short", "blob/delete-missing", "blob/delete-version", "blob/delete-version-race", "blob/get-parallel", "blob/get-version", "blob/lock", "blob/put-if-absent", "blob/put-if-absent-race", "blob/put-if-match", "blob/put-if-match-race", "blob/put-info", "blob/put-sha256"}},
}

// versions makes a store name contents in its own way, everywhere.
func versions(b *broken, name func(provider.Info) provider.Version) {
	rename := func(info provider.Info, err error) (provider.Info, error) {
		if err == nil {
			info.Version = name(info)
		}
		return info, err
	}
	// translate finds the true version if the name is that of the present one.
	translate := func(ctx context.Context, key string, v provider.Version) provider.Version {
		if info, err := b.good.Stat(ctx, key); err == nil && name(info) == v {
			return info.Version
		}
		return v
	}
	b.get = func(ctx context.Context, key string, o provider.GetOptions) (io.ReadCloser, provider.Info, error) {
		o.Version = translate(ctx, key, o.Version)
		r, info, err := b.good.Get(ctx, key, o)
		info, err = rename(info, err)
		return r, info, err
	}
	b.put = func(ctx context.Context, key string, body provider.Body, o provider.PutOptions) (provider.Info, error) {
		o.IfMatch = translate(ctx, key, o.IfMatch)
		return rename(b.good.Put(ctx, key, body, o))
	}
	b.stat = func(ctx context.Context, key string) (provider.Info, error) { return rename(b.good.Stat(ctx, key)) }
	b.remove = func(ctx context.Context, key string, o provider.DeleteOptions) error {
		o.Version = translate(ctx, key, o.Version)
		return b.good.Delete(ctx, key, o)
	}
	b.list = changed(b, func(infos []provider.Info) []provider.Info {
		for i := range infos {
			infos[i].Version = name(infos[i])
		}
		return infos
	})
}
