package azure

import (
	"context"
	"errors"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/bloberror"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/internal/remote"
)

// Warm implements [provider.Warmer]: it moves a blob from the Archive tier to
// Hot, where it stays until a rule of the account moves it back, which it does
// at once if the rule goes by when the blob was last modified. Urgent is the high
// priority of rehydration: less than an hour for small blobs, where it is up to
// fifteen hours else.
func (s *Store) Warm(ctx context.Context, key string, o provider.WarmOptions) (provider.State, error) {
	err := errors.Join(ctx.Err(), checkKey(key), remote.CheckWarm(o))
	if err == nil {
		var state provider.State
		if state, err = s.warm(ctx, key, o); err == nil {
			return state, nil
		}
	}
	return "", wrap(ctx, "warm", key, err)
}

func (s *Store) warm(ctx context.Context, key string, o provider.WarmOptions) (provider.State, error) {
	client := s.client.NewBlobClient(key)
	out, err := client.GetProperties(ctx, &blob.GetPropertiesOptions{CPKInfo: s.c.cpk()})
	switch {
	case err != nil:
		return "", err
	case value(out.ArchiveStatus) != "" && (!o.Urgent || strings.EqualFold(value(out.RehydratePriority), string(blob.RehydratePriorityHigh))):
		return provider.Pending, nil
	case !strings.EqualFold(value(out.AccessTier), string(blob.AccessTierArchive)):
		return provider.Ready, nil
	}
	priority := blob.RehydratePriorityStandard
	if o.Urgent {
		priority = blob.RehydratePriorityHigh
	}
	_, err = client.SetTier(ctx, blob.AccessTierHot, &blob.SetTierOptions{RehydratePriority: &priority})
	if codeOf(err) == bloberror.BlobBeingRehydrated { // somebody else asked for another tier
		err = nil
	}
	return provider.Pending, err
}
