package azure

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"slices"

	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/internal/remote"
)

// Versions implements [provider.Versioner]. All versions of one key are held
// in memory, some 500 bytes each. Where the account keeps no versions it
// yields the present blobs.
//
// The service keeps no record of a deletion. Of a key that has versions and
// none of which is the present one, the last one yielded is Deleted, as of the
// moment that its last version was written, because the service does not tell
// when it was deleted. Deletions before the last version leave no trace.
func (s *Store) Versions(ctx context.Context, prefix string, o provider.ListOptions) iter.Seq2[provider.VersionInfo, error] {
	return func(yield func(provider.VersionInfo, error) bool) {
		for all, err := range s.histories(ctx, prefix, o.StartAfter) {
			if err != nil {
				yield(provider.VersionInfo{}, wrap(ctx, "versions", prefix, err))
				return
			}
			for _, item := range all {
				if !yield(provider.VersionInfo{Info: infoOf(item)}, nil) {
					return
				}
			}
			last := all[len(all)-1]
			if isPresent(last) {
				continue
			}
			gone := provider.VersionInfo{Deleted: true, Info: provider.Info{Key: *last.Name, Modified: infoOf(last).Modified}}
			if !yield(gone, nil) {
				return
			}
		}
	}
}

// isPresent: Stat describes this one. A blob of an account without versions
// has no version ID.
func isPresent(item *container.BlobItem) bool {
	return value(item.IsCurrentVersion) || value(item.VersionID) == ""
}

// version describes a version of a key, the present one if v is empty. The ID
// is that of one that is not the present one.
func (s *Store) version(ctx context.Context, key string, v provider.Version) (f found, id string, err error) {
	f, err = s.head(ctx, key, "")
	if v == "" || err != nil && !isMissing(err) || err == nil && f.Version == v {
		return f, "", err
	}
	if id, err = s.versionID(ctx, key, v); err != nil {
		return found{}, "", err
	}
	f, err = s.head(ctx, key, id)
	return f, id, err
}

// versionID finds the version of a key that is v.
func (s *Store) versionID(ctx context.Context, key string, v provider.Version) (string, error) {
	for all, err := range s.histories(ctx, key, "") {
		if err != nil {
			return "", fmt.Errorf("look for the version: %w", err)
		}
		if *all[0].Name != key {
			break // the first one is the shortest
		}
		for _, item := range all {
			if infoOf(item).Version == v && value(item.VersionID) != "" {
				return *item.VersionID, nil
			}
		}
	}
	return "", provider.ErrNotFound
}

// histories yields for one key after the other its versions, the oldest first.
func (s *Store) histories(ctx context.Context, prefix, after string) iter.Seq2[[]*container.BlobItem, error] {
	return func(yield func([]*container.BlobItem, error) bool) {
		var open []*container.BlobItem // of the last key, which may go on in the next page
		for item, err := range s.items(ctx, prefix, after, container.ListBlobsInclude{Versions: true}) {
			if err == nil && len(open) > 0 && *item.Name < *open[0].Name {
				err = remote.OutOfOrder(*open[0].Name, *item.Name)
			}
			if err != nil {
				yield(nil, err)
				return
			}
			if len(open) > 0 && *open[0].Name != *item.Name {
				if !yield(oldestFirst(open), nil) {
					return
				}
				open = nil
			}
			open = append(open, item)
		}
		if len(open) > 0 {
			yield(oldestFirst(open), nil)
		}
	}
}

// oldestFirst orders the versions of a key. Their IDs are times of a fixed
// width; the present one is the last, also if it has none.
func oldestFirst(all []*container.BlobItem) []*container.BlobItem {
	rank := func(item *container.BlobItem) int {
		if isPresent(item) {
			return 1
		}
		return 0
	}
	slices.SortStableFunc(all, func(a, b *container.BlobItem) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(value(a.VersionID), value(b.VersionID)))
	})
	return all
}
