package ebs

import (
	"context"
	"errors"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/holdfast-go/holdfast/provider"
)

// CopySnapshot implements [provider.SnapshotCopier]. The copy is encrypted
// with Config.Keys of its region. A copy within the region, under another key,
// is one, too.
func (s *Snapshots) CopySnapshot(ctx context.Context, ref provider.SnapshotRef, region string, o provider.SnapshotOptions) (provider.Snapshot, error) {
	snap, err := s.copy(ctx, ref, region, o)
	return snap, s.wrap(ctx, "snapshot copy", ref.ID, err)
}

func (s *Snapshots) copy(ctx context.Context, ref provider.SnapshotRef, region string, o provider.SnapshotOptions) (provider.Snapshot, error) {
	m, err := newMaking("copy", region, o.Token, o.Tags)
	if err == nil {
		err = s.regionExists(ctx, region)
	}
	if err != nil {
		return provider.Snapshot{}, err
	}
	source := ref.Region + "/" + ref.ID
	m.matches = func(held set) error {
		if of := tagOf(held[0].Tags, tagSource); of != source {
			return fmt.Errorf("the Token was used for a copy of %s: %w", of, provider.ErrConflict)
		}
		return nil
	}
	var tags map[string]string
	m.prepare = func(ctx context.Context) error {
		snap, err := s.ready(ctx, ref)
		if err == nil {
			tags, err = withOwn(o.Tags, map[string]string{tagToken: m.hash, tagSource: source, tagVolume: snap.Volume})
		}
		return err
	}
	m.begin = func(ctx context.Context, options ...func(*ec2.Options)) (string, error) {
		in := &ec2.CopySnapshotInput{
			SourceRegion: &s.region, SourceSnapshotId: &ref.ID, Encrypted: aws.Bool(true),
			Description: aws.String("copy of " + source), TagSpecifications: specify(types.ResourceTypeSnapshot, tags),
		}
		if key := s.c.Keys[region]; key != "" {
			in.KmsKeyId = &key
		}
		out, err := s.client.CopySnapshot(ctx, in, options...)
		if err != nil {
			return "", err
		}
		return aws.ToString(out.SnapshotId), nil
	}
	held, err := s.once(ctx, m)
	if err != nil {
		return provider.Snapshot{}, err
	}
	return snapshot(region, held[0]), nil
}

// regionExists asks first, because a region that is not there has no endpoint:
// asking it would look like an outage.
func (s *Snapshots) regionExists(ctx context.Context, region string) error {
	if region == "" {
		return errors.New("no region to copy to")
	}
	if region == s.region {
		return nil
	}
	out, err := s.client.DescribeRegions(ctx, &ec2.DescribeRegionsInput{
		AllRegions: aws.Bool(true), Filters: []types.Filter{{Name: aws.String("region-name"), Values: []string{literal.Replace(region)}}},
	})
	if err != nil {
		return fmt.Errorf("region %s: %w", region, err)
	}
	for _, r := range out.Regions {
		if aws.ToString(r.RegionName) != region {
			continue
		}
		if aws.ToString(r.OptInStatus) == "not-opted-in" {
			return fmt.Errorf("region %s is not enabled for the account", region)
		}
		return nil
	}
	return fmt.Errorf("region %s: %w", region, provider.ErrNotFound)
}
