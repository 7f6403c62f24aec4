package gcp

import (
	"context"
	"errors"
	"iter"
	"strings"

	"cloud.google.com/go/storage"
	"google.golang.org/api/iterator"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/internal/remote"
)

// List implements [provider.BlobStore], in pages of a thousand. Keys that Put
// refuses, such as the "directories" that consoles make, are left out. An
// order other than that of bytes is an error.
func (s *Store) List(ctx context.Context, prefix string, o provider.ListOptions) iter.Seq2[provider.Info, error] {
	return func(yield func(provider.Info, error) bool) {
		entries := func(yield func(provider.Info, error) bool) {
			for a, err := range s.entries(ctx, prefix, o, &storage.Query{}) {
				if err != nil {
					yield(provider.Info{}, err)
					return
				}
				if !yield(listed(a), nil) {
					return
				}
			}
		}
		for info, err := range remote.InOrder(entries) {
			if err != nil {
				yield(provider.Info{}, wrap(ctx, "list", prefix, err))
				return
			}
			if !yield(info, nil) {
				return
			}
		}
	}
}

// entries yields what the service lists of the keys asked for.
func (s *Store) entries(ctx context.Context, prefix string, o provider.ListOptions, q *storage.Query) iter.Seq2[*storage.ObjectAttrs, error] {
	return func(yield func(*storage.ObjectAttrs, error) bool) {
		if err := ctx.Err(); err != nil {
			yield(nil, err)
			return
		}
		q.Prefix, q.StartOffset, q.Projection = wholeRunes(prefix), wholeRunes(o.StartAfter), storage.ProjectionNoACL
		if err := q.SetAttrSelection([]string{"Name", "Size", "Generation", "Created", "Deleted"}); err != nil {
			yield(nil, err)
			return
		}
		for it := s.bucket.Objects(ctx, q); ; {
			a, err := it.Next()
			if errors.Is(err, iterator.Done) {
				return
			}
			if err != nil {
				yield(nil, err)
				return
			}
			// StartOffset begins with the key itself.
			if strings.HasPrefix(a.Name, prefix) && (o.StartAfter == "" || a.Name > o.StartAfter) && !yield(a, nil) {
				return
			}
		}
	}
}
