package ebs

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

// A set is what EC2 shows of the snapshots that one request has made: one
// snapshot, or those of a group.
type set []types.Snapshot

// sets sorts snapshots by the request that has made them.
func sets(found []types.Snapshot) []set {
	by := map[string]set{}
	for _, held := range found {
		name := set{held}.name()
		by[name] = append(by[name], held)
	}
	return slices.Collect(maps.Values(by))
}

// name tells the sets of one token apart.
func (f set) name() string {
	return cmp.Or(tagOf(f[0].Tags, tagGroup), aws.ToString(f[0].SnapshotId))
}

func (f set) ids() (all []string) {
	for _, held := range f {
		all = append(all, aws.ToString(held.SnapshotId))
	}
	return all
}

func (f set) volumes() (all []string) {
	for _, held := range f {
		all = append(all, aws.ToString(held.VolumeId))
	}
	return all
}

// whole: it has a snapshot of each volume it was made for, and no other.
func (f set) whole() bool {
	of := tagOf(f[0].Tags, tagVolumes)
	return of == "" || of == hashOfVolumes(f.volumes())
}

// settled: it is the one of its token.
func (f set) settled() bool {
	return slices.ContainsFunc(f, func(held types.Snapshot) bool { return tagOf(held.Tags, tagSettled) != "" })
}

// begun is when its first snapshot was.
func (f set) begun() time.Time {
	first := aws.ToTime(f[0].StartTime)
	for _, held := range f[1:] {
		if t := aws.ToTime(held.StartTime); t.Before(first) {
			first = t
		}
	}
	return first
}

// before orders the sets of a token: the settled one, then the oldest, and at
// the end those that are broken.
func (s *Snapshots) before(a, b set) int {
	rank := func(f set) int {
		switch {
		case f.settled():
			return 0
		case s.broken(f):
			return 2
		}
		return 1
	}
	return cmp.Or(cmp.Compare(rank(a), rank(b)), a.begun().Compare(b.begun()), cmp.Compare(a.name(), b.name()))
}

// hashOfVolumes is the volumes of a group as a tag.
func hashOfVolumes(volumes []string) string {
	return hashOf("volumes", strings.Join(slices.Sorted(slices.Values(volumes)), " "))
}
