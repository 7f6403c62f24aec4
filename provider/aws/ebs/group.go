package ebs

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/holdfast-go/holdfast/provider"
)

// CreateGroup implements [provider.GroupSnapshotter]. The volumes must be
// attached to one instance; its others are left out.
func (s *Snapshots) CreateGroup(ctx context.Context, volumes []string, o provider.SnapshotOptions) ([]provider.Snapshot, error) {
	snaps, err := s.createGroup(ctx, volumes, o)
	return snaps, s.wrap(ctx, "snapshot create group", strings.Join(volumes, " "), err)
}

func (s *Snapshots) createGroup(ctx context.Context, volumes []string, o provider.SnapshotOptions) ([]provider.Snapshot, error) {
	m, err := newMaking("group", s.region, o.Token, o.Tags)
	if err == nil {
		err = distinct(volumes)
	}
	if err != nil {
		return nil, err
	}
	of := hashOfVolumes(volumes)
	m.matches = func(held set) error {
		if tagOf(held[0].Tags, tagVolumes) != of {
			return fmt.Errorf("the Token was used for the volumes %s: %w", strings.Join(held.volumes(), " "), provider.ErrConflict)
		}
		return nil
	}
	var spec *types.InstanceSpecification
	m.prepare = func(ctx context.Context) (err error) {
		spec, err = s.only(ctx, volumes)
		return err
	}
	m.begin = func(ctx context.Context, options ...func(*ec2.Options)) (string, error) {
		name := rand.Text() // of this request: all of its snapshots have it
		tags, err := withOwn(o.Tags, map[string]string{tagToken: m.hash, tagGroup: name, tagVolumes: of})
		if err != nil {
			return "", err
		}
		out, err := s.client.CreateSnapshots(ctx, &ec2.CreateSnapshotsInput{InstanceSpecification: spec, TagSpecifications: specify(types.ResourceTypeSnapshot, tags)}, options...)
		if err != nil {
			return "", err
		}
		var made set
		for _, info := range out.Snapshots {
			made = append(made, types.Snapshot{SnapshotId: info.SnapshotId, VolumeId: info.VolumeId})
		}
		if hashOfVolumes(made.volumes()) != of {
			s.discard(ctx, s.region, made.ids())
			return "", fmt.Errorf("what is attached to %s has changed, snapshots of %s were made and deleted: call again",
				*spec.InstanceId, strings.Join(made.volumes(), " "))
		}
		return name, nil
	}
	held, err := s.once(ctx, m)
	if err != nil {
		return nil, err
	}
	slices.SortFunc(held, func(a, b types.Snapshot) int {
		return slices.Index(volumes, aws.ToString(a.VolumeId)) - slices.Index(volumes, aws.ToString(b.VolumeId))
	})
	var snaps []provider.Snapshot
	for _, one := range held {
		snaps = append(snaps, snapshot(s.region, one))
	}
	return snaps, nil
}

func distinct(volumes []string) error {
	if len(volumes) == 0 {
		return errors.New("no volumes")
	}
	for i, v := range volumes {
		switch {
		case v == "": // which would mean all of them
			return errors.New("a volume without an ID")
		case slices.Contains(volumes[:i], v):
			return fmt.Errorf("volume %s is named twice", v)
		}
	}
	return nil
}

// only names the volumes as EC2 wants it: by the instance that they are
// attached to, and by what else is, as it is now.
func (s *Snapshots) only(ctx context.Context, volumes []string) (*types.InstanceSpecification, error) {
	id, err := s.instanceOf(ctx, volumes)
	if err != nil {
		return nil, err
	}
	out, err := s.client.DescribeInstances(ctx, &ec2.DescribeInstancesInput{InstanceIds: []string{id}})
	switch {
	case err != nil:
		return nil, fmt.Errorf("instance %s: %w", id, err)
	case len(out.Reservations) != 1 || len(out.Reservations[0].Instances) != 1:
		return nil, fmt.Errorf("instance %s is not shown", id)
	}
	instance := out.Reservations[0].Instances[0]
	spec := &types.InstanceSpecification{InstanceId: &id}
	for _, device := range instance.BlockDeviceMappings {
		if device.Ebs == nil || slices.Contains(volumes, aws.ToString(device.Ebs.VolumeId)) {
			continue
		}
		if aws.ToString(device.DeviceName) == aws.ToString(instance.RootDeviceName) {
			spec.ExcludeBootVolume = aws.Bool(true) // EC2 does not take it in the other list
		} else {
			spec.ExcludeDataVolumeIds = append(spec.ExcludeDataVolumeIds, aws.ToString(device.Ebs.VolumeId))
		}
	}
	return spec, nil
}

// instanceOf is the instance that all volumes are attached to.
func (s *Snapshots) instanceOf(ctx context.Context, volumes []string) (string, error) {
	attached := map[string][]string{} // the instances of a volume
	pages := ec2.NewDescribeVolumesPaginator(s.client, &ec2.DescribeVolumesInput{VolumeIds: volumes})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return "", err
		}
		for _, v := range page.Volumes {
			id := aws.ToString(v.VolumeId)
			attached[id] = []string{}
			for _, a := range v.Attachments {
				if a.State == types.VolumeAttachmentStateAttached {
					attached[id] = append(attached[id], aws.ToString(a.InstanceId))
				}
			}
		}
	}
	count := map[string]int{}
	var where []string
	for _, v := range volumes {
		of, ok := attached[v]
		if !ok {
			return "", fmt.Errorf("volume %s: %w", v, provider.ErrNotFound)
		}
		for _, id := range of {
			count[id]++
		}
		where = append(where, fmt.Sprintf("%s to %s", v, strings.Join(append(of, "nothing")[:max(len(of), 1)], " and ")))
	}
	for _, id := range slices.Sorted(maps.Keys(count)) { // a volume may be attached to several
		if count[id] == len(volumes) {
			return id, nil
		}
	}
	return "", fmt.Errorf("only volumes of one instance can be had at one moment, and they are attached thus: %s: %w",
		strings.Join(where, ", "), errors.ErrUnsupported)
}
