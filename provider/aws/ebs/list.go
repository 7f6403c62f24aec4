package ebs

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/holdfast-go/holdfast/provider"
)

// List implements [provider.Snapshotter]: the snapshots that the account owns.
// EC2 has no order, so that all are asked for before the first is yielded.
func (s *Snapshots) List(ctx context.Context, tags map[string]string) iter.Seq2[provider.Snapshot, error] {
	return func(yield func(provider.Snapshot, error) bool) {
		found, err := s.find(ctx, s.region, tags)
		if err != nil {
			yield(provider.Snapshot{}, s.wrap(ctx, "snapshot list", s.region, err))
			return
		}
		slices.SortFunc(found, func(a, b types.Snapshot) int { return strings.Compare(*a.SnapshotId, *b.SnapshotId) })
		for _, held := range found {
			if !yield(snapshot(s.region, held), nil) {
				return
			}
		}
	}
}

// find asks for the account's snapshots with all these tags.
func (s *Snapshots) find(ctx context.Context, region string, tags map[string]string) (found []types.Snapshot, err error) {
	in := &ec2.DescribeSnapshotsInput{OwnerIds: []string{"self"}, MaxResults: aws.Int32(1000)}
	in.Filters = filters(tags)
	pages := ec2.NewDescribeSnapshotsPaginator(s.client, in)
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx, inRegion(region))
		if err != nil {
			return nil, err
		}
		for _, held := range page.Snapshots {
			if has(held.Tags, tags) {
				found = append(found, held)
			}
		}
	}
	return found, nil
}

// literal keeps EC2 from reading wildcards in the values of filters.
var literal = strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`)

func filters(tags map[string]string) (all []types.Filter) {
	for k, v := range tags {
		all = append(all, types.Filter{Name: aws.String("tag:" + k), Values: []string{literal.Replace(v)}})
	}
	return all
}

// Delete implements [provider.Snapshotter].
func (s *Snapshots) Delete(ctx context.Context, ref provider.SnapshotRef) error {
	err := s.delete(ctx, ref)
	if errors.Is(err, provider.ErrNotFound) || meaning(err) == provider.ErrNotFound {
		return nil
	}
	return s.wrap(ctx, "snapshot delete", ref.ID, err)
}

func (s *Snapshots) delete(ctx context.Context, ref provider.SnapshotRef) error {
	if _, err := s.describe(ctx, ref); err != nil {
		return err
	}
	_, err := s.client.DeleteSnapshot(ctx, &ec2.DeleteSnapshotInput{SnapshotId: &ref.ID})
	switch {
	case err == nil || meaning(err) == provider.ErrNotFound:
		return nil
	case code(err) == "InvalidSnapshot.InUse":
		return fmt.Errorf("an image uses the snapshot, deregister it first: %w", err)
	}
	// EC2 does not document by which error it refuses to delete what is locked.
	locked, lockErr := s.client.DescribeLockedSnapshots(ctx, &ec2.DescribeLockedSnapshotsInput{SnapshotIds: []string{ref.ID}})
	if lockErr != nil {
		return err
	}
	for _, l := range locked.Snapshots {
		if aws.ToString(l.SnapshotId) == ref.ID && l.LockState != types.LockStateExpired && l.LockState != "" {
			return fmt.Errorf("%w: %s until %s: %w", provider.ErrLocked, l.LockState, until(l.LockExpiresOn), err)
		}
	}
	return err
}
