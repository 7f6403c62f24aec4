package providertest_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"strings"

	"github.com/holdfast-go/holdfast/provider"
)

var brokenReads = []breakage{
	{"delivers a range that is one byte too long", func(b *broken) {
		b.get = func(ctx context.Context, key string, o provider.GetOptions) (io.ReadCloser, provider.Info, error) {
			if o.Length > 0 {
				o.Length++
			}
			return b.good.Get(ctx, key, o)
		}
	}, []string{"blob/get-parallel", "blob/get-range"}},

	{"delivers nothing past the end instead of ErrRange", func(b *broken) {
		b.get = func(ctx context.Context, key string, o provider.GetOptions) (io.ReadCloser, provider.Info, error) {
			r, info, err := b.good.Get(ctx, key, o)
			if errors.Is(err, provider.ErrRange) {
				info, err = b.good.Stat(ctx, key)
				return io.NopCloser(bytes.NewReader(nil)), info, err
			}
			return r, info, err
		}
	}, []string{"blob/get-range-error", "blob/get-empty", "blob/error-type"}},

	{"ignores the Version of a Get", func(b *broken) {
		b.get = func(ctx context.Context, key string, o provider.GetOptions) (io.ReadCloser, provider.Info, error) {
			o.Version = ""
			return b.good.Get(ctx, key, o)
		}
	}, []string{"blob/get-version"}},

	{"mixes versions in an open reader", func(b *broken) {
		b.get = func(ctx context.Context, key string, o provider.GetOptions) (io.ReadCloser, provider.Info, error) {
			r, info, err := b.good.Get(ctx, key, o)
			if err != nil || info.Size < 2000 {
				return r, info, err
			}
			left := info.Size - o.Offset
			if o.Length > 0 {
				left = min(left, o.Length)
			}
			return &mixing{ctx: ctx, b: b, key: key, o: o, left: left}, info, nil
		}
	}, []string{"blob/get-open-reader"}},

	{"drops what follows a NUL byte in content", func(b *broken) {
		b.get = func(ctx context.Context, key string, o provider.GetOptions) (io.ReadCloser, provider.Info, error) {
			r, info, err := b.good.Get(ctx, key, o)
			if err != nil {
				return r, info, err
			}
			content, _ := io.ReadAll(r)
			content, _, _ = bytes.Cut(content, []byte{0})
			return io.NopCloser(bytes.NewReader(content)), info, nil
		}
	}, []string{"blob/body-changes", "blob/body-unseen", "blob/get-open-reader", "blob/get-parallel", "blob/get-range", "blob/get-whole", "blob/keys-odd", "blob/put-replace"}},

	{"has errors of its own type", func(b *broken) {
		bare := func(err error) error {
			if e, ok := errors.AsType[*provider.Error](err); ok {
				return e.Err
			}
			return err
		}
		b.get = func(ctx context.Context, key string, o provider.GetOptions) (io.ReadCloser, provider.Info, error) {
			r, info, err := b.good.Get(ctx, key, o)
			return r, info, bare(err)
		}
	}, []string{"blob/error-type"}},

	{"has another error for a missing object", func(b *broken) {
		b.stat = func(ctx context.Context, key string) (provider.Info, error) {
			info, err := b.good.Stat(ctx, key)
			if errors.Is(err, provider.ErrNotFound) {
				err = &provider.Error{Op: "stat", Provider: "broken", Key: key, Err: errors.New("404")}
			}
			return info, err
		}
	}, []string{"blob/body-cancelled", "blob/body-fails", "blob/body-short", "blob/body-unseen", "blob/context", "blob/delete", "blob/delete-version", "blob/delete-version-race", "blob/get-missing", "blob/keys-odd", "blob/lock-missing", "blob/meta-refused", "blob/put-if-match", "blob/put-sha256", "blob/retain-ends"}},

	{"pays no heed to the end of a context", func(b *broken) {
		b.get = func(ctx context.Context, key string, o provider.GetOptions) (io.ReadCloser, provider.Info, error) {
			return b.good.Get(context.WithoutCancel(ctx), key, o)
		}
	}, []string{"blob/context"}},

	{"tells another Version by Stat than by Get", func(b *broken) {
		b.stat = func(ctx context.Context, key string) (provider.Info, error) {
			info, err := b.good.Stat(ctx, key)
			info.Version = "s" + info.Version
			return info, err
		}
	}, []string{"blob/body-cancelled", "blob/body-fails", "blob/body-short", "blob/list-info", "blob/lock", "blob/lock-extend", "blob/lock-shorten", "blob/put-if-absent", "blob/put-if-absent-race", "blob/put-if-match-race", "blob/put-info", "blob/put-sha256", "blob/retain-delete", "blob/retain-replace", "blob/stat"}},

	{"has local times", func(b *broken) {
		b.stat = func(ctx context.Context, key string) (provider.Info, error) {
			info, err := b.good.Stat(ctx, key)
			info.Modified = info.Modified.Local()
			return info, err
		}
	}, []string{"blob/put-info", "blob/stat"}},

	{"resolves dots in keys", func(b *broken) { resolving(b, path.Clean) }, []string{"blob/keys-beside", "blob/keys-odd", "blob/keys-refused"}},

	{"ignores case", func(b *broken) { resolving(b, strings.ToLower) }, []string{"blob/keys-beside", "blob/keys-refused", "blob/list-order", "blob/list-prefix", "blob/list-start-after"}},

	{"cuts keys at 255 bytes", func(b *broken) { resolving(b, func(key string) string { return key[:min(len(key), 255)] }) }, []string{"blob/keys-odd", "blob/keys-plain", "blob/keys-refused"}},

	{"takes invalid UTF-8 as replacement characters", func(b *broken) {
		resolving(b, func(key string) string { return strings.ToValidUTF8(key, "\ufffd") })
	}, []string{"blob/keys-refused"}},

	{"loses Meta", func(b *broken) {
		b.put = func(ctx context.Context, key string, body provider.Body, o provider.PutOptions) (provider.Info, error) {
			o.Meta = nil
			return b.good.Put(ctx, key, body, o)
		}
	}, []string{"blob/meta", "blob/meta-replaced", "blob/meta-refused"}},

	{"keeps the Meta of a replaced object", func(b *broken) {
		b.put = func(ctx context.Context, key string, body provider.Body, o provider.PutOptions) (provider.Info, error) {
			if old, err := b.good.Stat(ctx, key); err == nil && old.Meta != nil {
				meta := old.Meta
				maps.Copy(meta, o.Meta)
				o.Meta = meta
			}
			return b.good.Put(ctx, key, body, o)
		}
	}, []string{"blob/meta-replaced"}},
}

// resolving makes a store use another key than the one it is given.
func resolving(b *broken, other func(string) string) {
	b.get = func(ctx context.Context, key string, o provider.GetOptions) (io.ReadCloser, provider.Info, error) {
		r, info, err := b.good.Get(ctx, other(key), o)
		info.Key = key
		return r, info, err
	}
	b.stat = func(ctx context.Context, key string) (provider.Info, error) {
		info, err := b.good.Stat(ctx, other(key))
		info.Key = key
		return info, err
	}
	b.put = func(ctx context.Context, key string, body provider.Body, o provider.PutOptions) (provider.Info, error) {
		info, err := b.good.Put(ctx, other(key), body, o)
		info.Key = key
		return info, err
	}
	b.remove = func(ctx context.Context, key string, o provider.DeleteOptions) error {
		return b.good.Delete(ctx, other(key), o)
	}
}

// mixing opens the object anew for each read, as a ranged client does that
// forgets to pin the version.
type mixing struct {
	ctx  context.Context
	b    *broken
	key  string
	o    provider.GetOptions
	left int64
}

func (m *mixing) Read(p []byte) (int, error) {
	if m.left == 0 {
		return 0, io.EOF
	}
	m.o.Length = min(int64(len(p)), m.left)
	r, _, err := m.b.good.Get(m.ctx, m.key, m.o)
	if err != nil {
		return 0, fmt.Errorf("read on: %w", err)
	}
	n, err := io.ReadFull(r, p[:m.o.Length])
	m.o.Offset += int64(n)
	m.left -= int64(n)
	return n, err
}

func (m *mixing) Close() error { return nil }
