package disks

import (
	"cmp"
	"context"
	"fmt"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/compute/armcompute/v8"

	"github.com/holdfast-go/holdfast/provider"
)

// Restore implements [provider.Snapshotter]: a new managed disk in the group.
func (s *Snapshots) Restore(ctx context.Context, ref provider.SnapshotRef, o provider.RestoreOptions) (provider.Volume, error) {
	v, err := s.restore(ctx, ref, o)
	return v, fail(ctx, "snapshot restore", ref.ID, err)
}

func (s *Snapshots) restore(ctx context.Context, ref provider.SnapshotRef, o provider.RestoreOptions) (provider.Volume, error) {
	name, tags, err := newTags("restore", o.Token, o.Tags, nil)
	if err != nil {
		return provider.Volume{}, err
	}
	held, err := s.disks.Get(ctx, s.c.ResourceGroup, name, nil)
	if isMissing(err) {
		if _, err := s.ready(ctx, ref); err != nil {
			return provider.Volume{}, err
		}
		body := armcompute.Disk{
			Location: &s.c.Region, Tags: tags,
			SKU: &armcompute.DiskSKU{Name: pointer(armcompute.DiskStorageAccountTypes(s.c.DiskType))},
			Properties: &armcompute.DiskProperties{
				CreationData: &armcompute.CreationData{CreateOption: pointer(armcompute.DiskCreateOptionCopy), SourceResourceID: &ref.ID},
				Encryption:   s.encryption(s.c.Region),
			},
		}
		if zone := cmp.Or(o.Zone, s.c.Zone); zone != "" {
			body.Zones = []*string{&zone}
		}
		_, makeErr := s.disks.BeginCreateOrUpdate(ctx, s.c.ResourceGroup, name, body, nil)
		held, err = s.disks.Get(ctx, s.c.ResourceGroup, name, nil)
		if makeErr != nil && (isMissing(err) || ctx.Err() != nil) {
			return provider.Volume{}, makeErr
		}
	}
	if err != nil {
		return provider.Volume{}, err
	}
	p := held.Properties
	if p == nil || p.CreationData == nil || !strings.EqualFold(value(p.CreationData.SourceResourceID), ref.ID) {
		return provider.Volume{}, fmt.Errorf("the Token was used for another snapshot: %w", provider.ErrConflict)
	}
	v := provider.Volume{ID: s.id("disks", name), Tags: shown(held.Tags)}
	v.State, v.Progress, v.Reason = state(value(p.ProvisioningState), p.CompletionPercent, false)
	return v, nil
}
