package azure

import (
	"context"
	"errors"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blob"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/internal/remote"
)

// Tags implements [provider.Tagger] by the index tags of a blob. With a Version
// it looks for that first. The credential needs the right tags/read, which of the
// roles named Storage Blob Data Owner has, or t in its signature.
func (s *Store) Tags(ctx context.Context, key string, v provider.Version) (map[string]string, error) {
	client, err := s.tagged(ctx, key, v)
	var tags map[string]string
	if err == nil {
		tags, err = tagsOf(ctx, client)
	}
	if err != nil {
		return nil, wrap(ctx, "tags", key, err)
	}
	return tags, nil
}

func tagsOf(ctx context.Context, client *blob.Client) (map[string]string, error) {
	out, err := client.GetTags(ctx, nil)
	if err != nil {
		return nil, answered(err)
	}
	var tags map[string]string
	for _, t := range out.BlobTagSet {
		if tags == nil {
			tags = map[string]string{}
		}
		tags[value(t.Key)] = value(t.Value)
	}
	return tags, nil
}

// SetTags implements [provider.Tagger]. With a Version it looks for that first.
// The credential needs the right tags/write, or t in its signature.
func (s *Store) SetTags(ctx context.Context, key string, v provider.Version, tags map[string]string) error {
	err := remote.CheckTags(tags, func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune(" +-./:=_", r)
	})
	var client *blob.Client
	if err == nil {
		client, err = s.tagged(ctx, key, v)
	}
	if err == nil {
		_, err = client.SetTags(ctx, tags, nil)
	}
	if err != nil {
		return wrap(ctx, "set tags", key, err)
	}
	return nil
}

// tagged is the client for a version of a key, the present one if v is empty.
func (s *Store) tagged(ctx context.Context, key string, v provider.Version) (*blob.Client, error) {
	if err := errors.Join(ctx.Err(), checkKey(key)); err != nil {
		return nil, err
	}
	if v == "" {
		return s.blobOf(key, "")
	}
	f, _, err := s.version(ctx, key, v)
	if err != nil {
		return nil, err
	}
	return s.blobOf(key, f.id)
}
