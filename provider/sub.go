package provider

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"
)

// Sub returns the part of a store whose keys begin with prefix, as a store of
// its own with keys that lack it: several users can then share one bucket.
// A prefix usually ends in a slash; keys may be shorter by as much as it is
// long. It offers no Unwrap, because the powers of the wrapped store take
// other keys; [As] finds it a [Locker], a [Versioner], a [Warmer], a [Copier]
// and a [Tagger] if that is one. It is a [fmt.Stringer].
func Sub(s BlobStore, prefix string) BlobStore {
	return prefixed{s, prefix}
}

// As gives [As] the powers of the wrapped store, which take longer keys there.
func (p prefixed) As(power any) bool {
	switch to := power.(type) {
	case *Locker:
		return lend(p, to, func(l Locker) Locker { return prefixedLocker{p, l} })
	case *Versioner:
		return lend(p, to, func(v Versioner) Versioner { return prefixedVersioner{p, v} })
	case *Warmer:
		return lend(p, to, func(w Warmer) Warmer { return prefixedWarmer{p, w} })
	case *Copier:
		return lend(p, to, func(c Copier) Copier { return prefixedCopier{p, c} })
	case *Tagger:
		return lend(p, to, func(t Tagger) Tagger { return prefixedTagger{p, t} })
	}
	return false
}

func lend[T any](p prefixed, to *T, prefix func(T) T) bool {
	t, ok := As[T](p.store)
	if ok {
		*to = prefix(t)
	}
	return ok
}

type prefixed struct {
	store  BlobStore
	prefix string
}

// within is for [Located].
func (p prefixed) within() (BlobStore, string) { return p.store, p.prefix }

type prefixedLocker struct {
	p      prefixed
	locker Locker
}

type prefixedVersioner struct {
	p         prefixed
	versioner Versioner
}

type prefixedWarmer struct {
	p      prefixed
	warmer Warmer
}

type prefixedCopier struct {
	p      prefixed
	copier Copier
}

type prefixedTagger struct {
	p      prefixed
	tagger Tagger
}

func (p prefixedTagger) Tags(ctx context.Context, key string, v Version) (map[string]string, error) {
	if key == "" {
		return nil, errNoKey("tags")
	}
	tags, err := p.tagger.Tags(ctx, p.p.prefix+key, v)
	return tags, p.p.short(err)
}

func (p prefixedTagger) SetTags(ctx context.Context, key string, v Version, tags map[string]string) error {
	if key == "" {
		return errNoKey("set tags")
	}
	return p.p.short(p.tagger.SetTags(ctx, p.p.prefix+key, v, tags))
}

func (p prefixedCopier) CopyFrom(ctx context.Context, key string, from BlobStore, source Info, o PutOptions) (Info, error) {
	if key == "" {
		return Info{}, errNoKey("copy")
	}
	info, err := p.copier.CopyFrom(ctx, p.p.prefix+key, from, source, o)
	return p.p.strip(info), p.p.short(err)
}

func (p prefixedWarmer) Warm(ctx context.Context, key string, o WarmOptions) (State, error) {
	if key == "" {
		return "", errNoKey("warm")
	}
	s, err := p.warmer.Warm(ctx, p.p.prefix+key, o)
	return s, p.p.short(err)
}

func (p prefixedLocker) Lock(ctx context.Context, key string, r Retention) error {
	if key == "" {
		return errNoKey("lock")
	}
	return p.p.short(p.locker.Lock(ctx, p.p.prefix+key, r))
}

func (p prefixedVersioner) Versions(ctx context.Context, prefix string, o ListOptions) iter.Seq2[VersionInfo, error] {
	return func(yield func(VersionInfo, error) bool) {
		for v, err := range p.versioner.Versions(ctx, p.p.prefix+prefix, p.p.long(o)) {
			v.Info = p.p.strip(v.Info)
			if !yield(v, p.p.short(err)) {
				return
			}
		}
	}
}

// String names the store that is wrapped, if that has a name, and the part.
func (p prefixed) String() string {
	name := fmt.Sprintf("%T", p.store)
	if named, ok := As[fmt.Stringer](p.store); ok {
		name = named.String()
	}
	return name + " below " + p.prefix
}

func (p prefixed) Get(ctx context.Context, key string, o GetOptions) (io.ReadCloser, Info, error) {
	if key == "" {
		return nil, Info{}, errNoKey("get")
	}
	r, info, err := p.store.Get(ctx, p.prefix+key, o)
	return r, p.strip(info), p.short(err)
}

func (p prefixed) Put(ctx context.Context, key string, body Body, o PutOptions) (Info, error) {
	if key == "" {
		return Info{}, errNoKey("put")
	}
	info, err := p.store.Put(ctx, p.prefix+key, body, o)
	return p.strip(info), p.short(err)
}

func (p prefixed) Stat(ctx context.Context, key string) (Info, error) {
	if key == "" {
		return Info{}, errNoKey("stat")
	}
	info, err := p.store.Stat(ctx, p.prefix+key)
	return p.strip(info), p.short(err)
}

func (p prefixed) Delete(ctx context.Context, key string, o DeleteOptions) error {
	if key == "" {
		return errNoKey("delete")
	}
	return p.short(p.store.Delete(ctx, p.prefix+key, o))
}

func (p prefixed) List(ctx context.Context, prefix string, o ListOptions) iter.Seq2[Info, error] {
	return func(yield func(Info, error) bool) {
		for info, err := range p.store.List(ctx, p.prefix+prefix, p.long(o)) {
			if !yield(p.strip(info), p.short(err)) {
				return
			}
		}
	}
}

// long gives a listing the keys of the wrapped store. A StartAfter below the
// prefix starts at its beginning, which is what the joined key does, too:
// every key of the listing has the prefix.
func (p prefixed) long(o ListOptions) ListOptions {
	if o.StartAfter != "" {
		o.StartAfter = p.prefix + o.StartAfter
	}
	return o
}

// errNoKey: the wrapped store would not find the key empty.
func errNoKey(op string) error { return &Error{Op: op, Provider: "sub", Err: ErrInvalidKey} }

func (p prefixed) strip(info Info) Info {
	info.Key = strings.TrimPrefix(info.Key, p.prefix)
	return info
}

// short gives the error the key the caller used. The error is copied: it may
// be shared.
func (p prefixed) short(err error) error {
	e, ok := errors.AsType[*Error](err)
	if !ok || error(e) != err {
		return err
	}
	c := *e
	c.Key = strings.TrimPrefix(c.Key, p.prefix)
	return &c
}
