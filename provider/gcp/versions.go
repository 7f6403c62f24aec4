package gcp

import (
	"cmp"
	"context"
	"iter"
	"slices"

	"cloud.google.com/go/storage"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/internal/remote"
)

// Versions implements [provider.Versioner]. All versions of one key are held
// in memory, some 500 bytes each. The service has no mark of a deletion: one is
// yielded where a version ended before the next one began, or without a next.
// In a bucket that keeps no versions it yields the present objects.
func (s *Store) Versions(ctx context.Context, prefix string, o provider.ListOptions) iter.Seq2[provider.VersionInfo, error] {
	return func(yield func(provider.VersionInfo, error) bool) {
		for all, err := range s.histories(ctx, prefix, o) {
			if err != nil {
				yield(provider.VersionInfo{}, wrap(ctx, "versions", prefix, err))
				return
			}
			if checkKey(all[0].Name) != nil {
				continue
			}
			for _, v := range history(all) {
				if !yield(v, nil) {
					return
				}
			}
		}
	}
}

// histories yields for one key after the other its versions.
func (s *Store) histories(ctx context.Context, prefix string, o provider.ListOptions) iter.Seq2[[]*storage.ObjectAttrs, error] {
	return func(yield func([]*storage.ObjectAttrs, error) bool) {
		var open []*storage.ObjectAttrs // of the last key
		for a, err := range s.entries(ctx, prefix, o, &storage.Query{Versions: true}) {
			if err == nil && len(open) > 0 && a.Name < open[0].Name {
				err = remote.OutOfOrder(open[0].Name, a.Name)
			}
			if err != nil {
				yield(nil, err)
				return
			}
			if len(open) > 0 && open[0].Name != a.Name {
				if !yield(open, nil) {
					return
				}
				open = nil
			}
			open = append(open, a)
		}
		if len(open) > 0 {
			yield(open, nil)
		}
	}
}

// history is what became of a key, the oldest first. Generations grow.
func history(all []*storage.ObjectAttrs) (h []provider.VersionInfo) {
	slices.SortFunc(all, func(a, b *storage.ObjectAttrs) int { return cmp.Compare(a.Generation, b.Generation) })
	for i, a := range all {
		h = append(h, provider.VersionInfo{Info: listed(a)})
		last := i == len(all)-1
		if !a.Deleted.IsZero() && (last || a.Deleted.Before(all[i+1].Created)) {
			h = append(h, provider.VersionInfo{Deleted: true, Info: provider.Info{Key: a.Name, Modified: a.Deleted.UTC()}})
		}
	}
	return h
}
