package azure

import (
	"context"
	"errors"
	"iter"
	"net/http"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/internal/remote"
)

// List implements [provider.BlobStore], in pages of five thousand. Blobs whose
// names Put refuses are left out. A service that lists in another order than
// that of bytes is an error: accounts with a hierarchical namespace do. With
// StartAfter the pages before it are asked for all the same.
func (s *Store) List(ctx context.Context, prefix string, o provider.ListOptions) iter.Seq2[provider.Info, error] {
	return func(yield func(provider.Info, error) bool) {
		last := ""
		for item, err := range s.items(ctx, prefix, o.StartAfter, container.ListBlobsInclude{}) {
			if err == nil && last != "" && *item.Name <= last {
				err = remote.OutOfOrder(last, *item.Name)
			}
			if err != nil {
				yield(provider.Info{}, wrap(ctx, "list", prefix, err))
				return
			}
			last = *item.Name
			if !yield(infoOf(item), nil) {
				return
			}
		}
	}
}

func infoOf(item *container.BlobItem) provider.Info {
	info := provider.Info{Key: *item.Name}
	if p := item.Properties; p != nil {
		info.Size, info.Version, info.Modified = value(p.ContentLength), versionOf(p.ETag), value(p.LastModified).UTC()
	}
	return info
}

// items yields the blobs below prefix and after a key, as the service lists
// them, without those that Put would refuse.
func (s *Store) items(ctx context.Context, prefix, after string, include container.ListBlobsInclude) iter.Seq2[*container.BlobItem, error] {
	return func(yield func(*container.BlobItem, error) bool) {
		if err := errors.Join(ctx.Err(), s.isFlat(ctx)); err != nil {
			yield(nil, err)
			return
		}
		if after >= prefix && !strings.HasPrefix(after, prefix) || !beginsKeys(prefix) {
			return // all keys with the prefix come before, or there are none
		}
		for page, err := range s.pages(ctx, prefix, after, include) {
			if err != nil {
				yield(nil, err)
				return
			}
			for _, item := range page {
				if item.Name == nil || *item.Name <= after || !strings.HasPrefix(*item.Name, prefix) || checkKey(*item.Name) != nil {
					continue
				}
				if !yield(item, nil) {
					return
				}
			}
		}
	}
}

// pages asks from a key on where it can. azblob 1.8.0 does not send StartFrom
// with a flat listing: pages come from the beginning of the prefix on, and items
// leaves out what is not asked for. Older services do not know it, either.
func (s *Store) pages(ctx context.Context, prefix, after string, include container.ListBlobsInclude) iter.Seq2[[]*container.BlobItem, error] {
	return func(yield func([]*container.BlobItem, error) bool) {
		o := &container.ListBlobsFlatOptions{Prefix: pointer(wholeRunes(prefix)), Include: include}
		if strings.HasPrefix(after, prefix) && checkKey(after) == nil {
			o.StartFrom = &after
		}
		pager := s.client.NewListBlobsFlatPager(o)
		for first := true; pager.More(); first = false {
			page, err := pager.NextPage(ctx)
			if first && o.StartFrom != nil && statusOf(err) == http.StatusBadRequest {
				o.StartFrom = nil
				pager = s.client.NewListBlobsFlatPager(o)
				page, err = pager.NextPage(ctx)
			}
			if err != nil {
				yield(nil, answered(err))
				return
			}
			if page.Segment != nil && !yield(page.Segment.BlobItems, nil) {
				return
			}
		}
	}
}
