package dr

import (
	"context"
	"errors"
	"io"
	"iter"
	"strings"

	"github.com/holdfast-go/holdfast/provider"
)

// within returns the part of a store below a prefix that ends in a slash. It
// offers no Unwrap, because the wrapped store's powers take other keys; it
// forwards the one power that matters here.
func within(s provider.BlobStore, prefix string) provider.BlobStore {
	p := prefixed{s, prefix}
	if l, ok := provider.As[provider.Locker](s); ok {
		return prefixedLocker{p, l}
	}
	return p
}

type prefixed struct {
	store  provider.BlobStore
	prefix string
}

type prefixedLocker struct {
	prefixed
	locker provider.Locker
}

func (p prefixedLocker) Lock(ctx context.Context, key string, r provider.Retention) error {
	return p.short(p.locker.Lock(ctx, p.prefix+key, r))
}

func (p prefixed) Get(ctx context.Context, key string, o provider.GetOptions) (io.ReadCloser, provider.Info, error) {
	r, info, err := p.store.Get(ctx, p.prefix+key, o)
	return r, p.strip(info), p.short(err)
}

func (p prefixed) Put(ctx context.Context, key string, body provider.Body, o provider.PutOptions) (provider.Info, error) {
	info, err := p.store.Put(ctx, p.prefix+key, body, o)
	return p.strip(info), p.short(err)
}

func (p prefixed) Stat(ctx context.Context, key string) (provider.Info, error) {
	info, err := p.store.Stat(ctx, p.prefix+key)
	return p.strip(info), p.short(err)
}

func (p prefixed) Delete(ctx context.Context, key string, o provider.DeleteOptions) error {
	return p.short(p.store.Delete(ctx, p.prefix+key, o))
}

func (p prefixed) List(ctx context.Context, prefix string, o provider.ListOptions) iter.Seq2[provider.Info, error] {
	// A StartAfter below the prefix starts at its beginning, which is what
	// the joined key does, too: every key of the listing has the prefix.
	if o.StartAfter != "" {
		o.StartAfter = p.prefix + o.StartAfter
	}
	return func(yield func(provider.Info, error) bool) {
		for info, err := range p.store.List(ctx, p.prefix+prefix, o) {
			if !yield(p.strip(info), p.short(err)) {
				return
			}
		}
	}
}

func (p prefixed) strip(info provider.Info) provider.Info {
	info.Key = strings.TrimPrefix(info.Key, p.prefix)
	return info
}

// short gives the error the key the caller used. The error is copied: it may
// be shared.
func (p prefixed) short(err error) error {
	e, ok := errors.AsType[*provider.Error](err)
	if !ok || error(e) != err {
		return err
	}
	c := *e
	c.Key = strings.TrimPrefix(c.Key, p.prefix)
	return &c
}
