package main

import (
	"context"
	"io"
	"iter"
	"strings"

	"github.com/holdfast-go/holdfast/provider"
)

// repositoryPrefix is where the Planner keeps the repository in a bucket.
const repositoryPrefix = "repository/"

// below is the part of a store whose keys begin with a prefix.
type below struct {
	store  provider.BlobStore
	prefix string
}

func (b below) Get(ctx context.Context, key string, o provider.GetOptions) (io.ReadCloser, provider.Info, error) {
	r, info, err := b.store.Get(ctx, b.prefix+key, o)
	return r, b.short(info), err
}

func (b below) Put(ctx context.Context, key string, body provider.Body, o provider.PutOptions) (provider.Info, error) {
	info, err := b.store.Put(ctx, b.prefix+key, body, o)
	return b.short(info), err
}

func (b below) Stat(ctx context.Context, key string) (provider.Info, error) {
	info, err := b.store.Stat(ctx, b.prefix+key)
	return b.short(info), err
}

func (b below) Delete(ctx context.Context, key string, o provider.DeleteOptions) error {
	return b.store.Delete(ctx, b.prefix+key, o)
}

func (b below) List(ctx context.Context, prefix string, o provider.ListOptions) iter.Seq2[provider.Info, error] {
	if o.StartAfter != "" {
		o.StartAfter = b.prefix + o.StartAfter
	}
	return func(yield func(provider.Info, error) bool) {
		for info, err := range b.store.List(ctx, b.prefix+prefix, o) {
			if !yield(b.short(info), err) {
				return
			}
		}
	}
}

func (b below) short(info provider.Info) provider.Info {
	info.Key = strings.TrimPrefix(info.Key, b.prefix)
	return info
}
