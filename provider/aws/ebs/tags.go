package ebs

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/holdfast-go/holdfast/provider"
)

// Tags of this package.
const (
	ownPrefix  = "holdfast:"
	tagToken   = ownPrefix + "token"   // hash of the Token
	tagSettled = ownPrefix + "settled" // it is the one of its token
	tagSource  = ownPrefix + "source"  // of a copy: "region/snap-..."
	tagVolume  = ownPrefix + "volume"  // of a copy: the volume of its source
	tagGroup   = ownPrefix + "group"   // of a group: the request that has made it
	tagVolumes = ownPrefix + "volumes" // of a group: hash of its volumes
)

const maxTags = 50 // of a resource

// withOwn adds tags of this package to those that were given.
func withOwn(tags, own map[string]string) (map[string]string, error) {
	all := maps.Clone(own)
	for k, v := range tags {
		switch {
		case strings.HasPrefix(k, ownPrefix) || strings.HasPrefix(strings.ToLower(k), "aws:"):
			return nil, fmt.Errorf("tag %q: the prefixes %q and \"aws:\" are taken", k, ownPrefix)
		case k == "" || len([]rune(k)) > 128 || len([]rune(v)) > 256:
			return nil, fmt.Errorf("tag %q: a name has 1 to 128 characters, a value up to 256", k)
		}
		all[k] = v
	}
	if n := len(all) + 1; n > maxTags { // and tagSettled
		return nil, fmt.Errorf("%d tags, EC2 takes %d, of which %d are needed here", len(tags), maxTags, n-len(tags))
	}
	return all, nil
}

func specify(what types.ResourceType, tags map[string]string) []types.TagSpecification {
	spec := types.TagSpecification{ResourceType: what}
	for _, k := range slices.Sorted(maps.Keys(tags)) { // a request made again is the same
		spec.Tags = append(spec.Tags, types.Tag{Key: aws.String(k), Value: aws.String(tags[k])})
	}
	return []types.TagSpecification{spec}
}

func tagOf(tags []types.Tag, key string) string {
	for _, t := range tags {
		if aws.ToString(t.Key) == key {
			return aws.ToString(t.Value)
		}
	}
	return ""
}

// shown are the tags that were given.
func shown(tags []types.Tag) map[string]string {
	given := map[string]string{}
	for _, t := range tags {
		if k := aws.ToString(t.Key); !strings.HasPrefix(k, ownPrefix) {
			given[k] = aws.ToString(t.Value)
		}
	}
	return given
}

// has: all of want are among tags.
func has(tags []types.Tag, want map[string]string) bool {
	for k, v := range want {
		if !slices.ContainsFunc(tags, func(t types.Tag) bool { return aws.ToString(t.Key) == k && aws.ToString(t.Value) == v }) {
			return false
		}
	}
	return true
}

// snapshot is what EC2 says about one of a region.
func snapshot(region string, held types.Snapshot) provider.Snapshot {
	snap := provider.Snapshot{
		Ref:     provider.SnapshotRef{Provider: providerName, Account: aws.ToString(held.OwnerId), Region: region, ID: aws.ToString(held.SnapshotId)},
		Volume:  aws.ToString(held.VolumeId),
		Size:    int64(aws.ToInt32(held.VolumeSize)) << 30,
		Created: aws.ToTime(held.StartTime).UTC(),
		Tags:    shown(held.Tags),
	}
	if of := tagOf(held.Tags, tagVolume); of != "" {
		snap.Volume = of // EC2 gives copies a volume of its own invention
	}
	switch held.State {
	case types.SnapshotStateCompleted:
		snap.State, snap.Progress = provider.Ready, 1
		if held.StorageTier == types.StorageTierArchive {
			snap.State, snap.Progress = provider.Pending, 0
		}
	case types.SnapshotStateError:
		snap.State, snap.Progress = provider.Failed, percent(held.Progress)
		snap.Reason = aws.ToString(held.StateMessage)
		if snap.Reason == "" {
			snap.Reason = "EC2 gives no reason; of a copy it is often a key that may not be used"
		}
	default: // pending, or on the way out of the Recycle Bin
		snap.State, snap.Progress = provider.Pending, percent(held.Progress)
	}
	return snap
}

// percent reads "63%". What is not complete is less than all.
func percent(s *string) float64 {
	var n int
	if _, err := fmt.Sscanf(aws.ToString(s), "%d%%", &n); err != nil || n < 0 {
		return 0
	}
	return float64(min(n, 99)) / 100
}

// volume is what EC2 says about a volume.
func volume(held types.Volume) provider.Volume {
	v := provider.Volume{ID: aws.ToString(held.VolumeId), Tags: shown(held.Tags)}
	switch held.State {
	case types.VolumeStateAvailable, types.VolumeStateInUse:
		v.State, v.Progress = provider.Ready, 1
	case types.VolumeStateCreating:
		v.State = provider.Pending
	default:
		v.State, v.Reason = provider.Failed, fmt.Sprintf("EC2 calls the volume %q", held.State)
	}
	return v
}

// until writes the end of a lock.
func until(t *time.Time) string {
	if t == nil {
		return "an unknown time"
	}
	return t.UTC().Format(time.RFC3339)
}
