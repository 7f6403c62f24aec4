package ebs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/holdfast-go/holdfast/provider"
)

// Restore implements [provider.Snapshotter]. The volume is encrypted, in
// RestoreOptions.Zone or Config.Zone, and can be attached as soon as it is
// Ready; its blocks load when they are first read.
func (s *Snapshots) Restore(ctx context.Context, ref provider.SnapshotRef, o provider.RestoreOptions) (provider.Volume, error) {
	v, err := s.restore(ctx, ref, o)
	return v, s.wrap(ctx, "snapshot restore", ref.ID, err)
}

func (s *Snapshots) restore(ctx context.Context, ref provider.SnapshotRef, o provider.RestoreOptions) (provider.Volume, error) {
	hash := hashOf("restore", o.Token)
	tags, err := withOwn(o.Tags, map[string]string{tagToken: hash})
	zone := cmp.Or(o.Zone, s.c.Zone)
	switch {
	case err != nil:
		return provider.Volume{}, err
	case o.Token == "":
		return provider.Volume{}, errors.New("no Token")
	case zone == "":
		return provider.Volume{}, errors.New("no zone: set RestoreOptions.Zone or Config.Zone")
	}
	v, err := s.restored(ctx, ref, hash)
	if v != nil || err != nil {
		return deref(v), err
	}
	if _, err := s.ready(ctx, ref); err != nil {
		return provider.Volume{}, err
	}
	in := &ec2.CreateVolumeInput{
		SnapshotId: &ref.ID, AvailabilityZone: &zone, ClientToken: &hash, Encrypted: aws.Bool(true),
		VolumeType: types.VolumeType(s.c.VolumeType), TagSpecifications: specify(types.ResourceTypeVolume, tags),
	}
	if s.c.IOPS > 0 {
		in.Iops = &s.c.IOPS
	}
	if s.c.Throughput > 0 {
		in.Throughput = &s.c.Throughput
	}
	if key := s.c.Keys[s.region]; key != "" {
		in.KmsKeyId = &key
	}
	out, err := s.client.CreateVolume(ctx, in)
	if code(err) == "IdempotentParameterMismatch" {
		// Somebody else made it, of another snapshot or with other options.
		v, lookErr := s.restored(ctx, ref, hash)
		if v != nil || lookErr != nil {
			return deref(v), lookErr
		}
		return provider.Volume{}, fmt.Errorf("the Token was used for another volume: %w: %w", provider.ErrConflict, err)
	}
	if err != nil {
		return provider.Volume{}, err
	}
	return s.made(ctx, ref, out)
}

// made is the volume that CreateVolume has made, now or for an earlier call,
// whose answer it then repeats.
func (s *Snapshots) made(ctx context.Context, ref provider.SnapshotRef, out *ec2.CreateVolumeOutput) (provider.Volume, error) {
	now := types.Volume{VolumeId: out.VolumeId, State: types.VolumeStateCreating, Tags: out.Tags, SnapshotId: out.SnapshotId}
	described, err := s.client.DescribeVolumes(ctx, &ec2.DescribeVolumesInput{VolumeIds: []string{aws.ToString(out.VolumeId)}})
	switch {
	case err == nil && len(described.Volumes) == 1:
		now = described.Volumes[0]
	case err != nil && meaning(err) != provider.ErrNotFound:
		return provider.Volume{}, err
	case out.CreateTime != nil && time.Since(*out.CreateTime) > abandoned:
		return provider.Volume{}, fmt.Errorf("the volume %s that was made for the Token has been deleted: use another Token", aws.ToString(out.VolumeId))
	} // else it is not yet shown
	if of := aws.ToString(now.SnapshotId); of != ref.ID {
		return provider.Volume{}, fmt.Errorf("the Token was used for snapshot %s: %w", of, provider.ErrConflict)
	}
	return volume(now), nil
}

// restored returns the volume that has the token, or nil.
func (s *Snapshots) restored(ctx context.Context, ref provider.SnapshotRef, hash string) (*provider.Volume, error) {
	want := map[string]string{tagToken: hash}
	pages := ec2.NewDescribeVolumesPaginator(s.client, &ec2.DescribeVolumesInput{Filters: filters(want)})
	var found []types.Volume
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, err
		}
		for _, v := range page.Volumes {
			if has(v.Tags, want) && v.State != types.VolumeStateDeleting && v.State != types.VolumeStateDeleted {
				found = append(found, v)
			}
		}
	}
	if len(found) == 0 {
		return nil, nil
	}
	first := slices.MinFunc(found, func(a, b types.Volume) int {
		return cmp.Or(aws.ToTime(a.CreateTime).Compare(aws.ToTime(b.CreateTime)), cmp.Compare(*a.VolumeId, *b.VolumeId))
	})
	if of := aws.ToString(first.SnapshotId); of != ref.ID {
		return nil, fmt.Errorf("the Token was used for snapshot %s: %w", of, provider.ErrConflict)
	}
	v := volume(first)
	return &v, nil
}

func deref(v *provider.Volume) provider.Volume {
	if v == nil {
		return provider.Volume{}
	}
	return *v
}
