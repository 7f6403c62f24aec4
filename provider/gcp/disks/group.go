package disks

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/api/compute/v1"

	"github.com/holdfast-go/holdfast/provider"
)

// CreateGroup implements [provider.GroupSnapshotter]. The volumes must be disks
// of one zone that have one resource policy of consistency; what else has it is
// left out. It waits until the disks are frozen and their snapshots begun,
// seconds as a rule.
func (s *Snapshots) CreateGroup(ctx context.Context, volumes []string, o provider.SnapshotOptions) ([]provider.Snapshot, error) {
	snaps, err := s.createGroup(ctx, volumes, o)
	return snaps, wrap(ctx, "snapshot create group", strings.Join(volumes, " "), err)
}

// A grouping is the work of making the snapshots of a group for a token.
type grouping struct {
	name    string   // of its instant group
	zone    string   // of the disks
	volumes []string // in order: the place of each is part of the name of its snapshot
	of      string   // a hash of volumes
	tags    map[string]string
}

// newGrouping checks what can be checked without asking.
func newGrouping(volumes []string, o provider.SnapshotOptions) (*grouping, error) {
	g := &grouping{name: nameOf("group", o.Token), volumes: slices.Sorted(slices.Values(volumes)), tags: o.Tags}
	g.of = hashOf("volumes", strings.Join(g.volumes, "\x00"))[:32]
	switch {
	case o.Token == "":
		return nil, errors.New("no Token")
	case len(volumes) == 0:
		return nil, errors.New("no volumes")
	}
	zones := map[string]bool{}
	for i, v := range g.volumes {
		switch {
		case !diskPath.MatchString(v):
			return nil, fmt.Errorf("%q is not a disk, zones/ZONE/disks/NAME", v)
		case i > 0 && v == g.volumes[i-1]:
			return nil, fmt.Errorf("volume %s is named twice", v)
		case !strings.HasPrefix(v, "zones/"):
			return nil, fmt.Errorf("%s is a regional disk, and groups are of zonal ones here: keep the writers still, and Create one for each: %w", v, errors.ErrUnsupported)
		}
		g.zone = strings.Split(v, "/")[1]
		zones[g.zone] = true
	}
	if len(zones) > 1 {
		return nil, fmt.Errorf("only disks of one zone are frozen at one moment, and these are %s: %w",
			strings.Join(g.volumes, ", "), errors.ErrUnsupported)
	}
	for i, v := range g.volumes { // whether there is room for the tags
		if _, err := g.member(i, &compute.InstantSnapshotGroup{Id: 1<<64 - 1}, v, &compute.InstantSnapshot{Id: 1<<64 - 1}); err != nil {
			return nil, err
		}
	}
	return g, nil
}

// nameOf is the name of the snapshot of a volume.
func (g *grouping) nameOf(i int) string { return g.name + "-" + strconv.Itoa(i) }

func (s *Snapshots) createGroup(ctx context.Context, volumes []string, o provider.SnapshotOptions) ([]provider.Snapshot, error) {
	g, err := newGrouping(volumes, o)
	if err != nil {
		return nil, err
	}
	var last error
	seen, whole := false, false // by an earlier look: some of it, and that all have been begun
	for range looks {
		instant, held, err := s.look(ctx, g)
		if err != nil {
			return nil, err
		}
		complete := slices.ContainsFunc(held, marked)
		switch {
		case len(held) > 0 && (instant == nil || complete):
			// What is looked at one after the other, others may make meanwhile.
			if len(held) == len(volumes) || whole || instant == nil && seen {
				return s.complete(ctx, g, volumes, held)
			}
			seen, whole = true, complete
		case instant != nil:
			held, err = s.turn(ctx, g, instant, held)
			if err == nil {
				return s.complete(ctx, g, volumes, held)
			}
		default:
			policy, failure := s.prepare(ctx, g)
			if failure != nil {
				return nil, failure
			}
			// Then looked at again: meanwhile another call may have made the group and
			// let go of its moment, of which ours must not become a part.
			err = s.freeze(ctx, g, policy)
			seen, whole = false, false
		}
		if err != nil && !overtaken(err) {
			return nil, err
		}
		last = err
	}
	return nil, &vanished{"others have deleted the instant snapshot group " + g.name + ", or are at it: call again", last}
}

const looks = 6 // how often it is looked what others have made

// overtaken: what this call has been at is there no more, since another call has
// finished the group, or somebody has deleted it.
func overtaken(err error) bool {
	_, unseen := errors.AsType[*unseenError](err)
	return unseen || notFound(err)
}

// look returns the instant group of a token, if there is one, and its snapshots.
func (s *Snapshots) look(ctx context.Context, g *grouping) (*compute.InstantSnapshotGroup, []*compute.Snapshot, error) {
	instant, err := s.instantGroup(ctx, g.zone, g.name)
	if err != nil {
		return nil, nil, err
	}
	// Looked at after the instant group, which is there until they are.
	held, err := s.members(ctx, g)
	if err != nil {
		return nil, nil, err
	}
	err = g.check(held)
	if instant == nil {
		return nil, held, err
	}
	ofIt := func(h *compute.Snapshot) bool { return g.shows(h, instant) == nil }
	switch own := read(instant.Description).Group.volumes() == g.of; {
	case own && len(held) > 0 && !slices.ContainsFunc(held, ofIt):
		// Frozen by a request that came late: what there is shows another moment.
		return nil, held, errors.Join(err, s.melt(ctx, g.zone, instant))
	case !own && err == nil:
		err = fmt.Errorf("the Token was used for other volumes, for which there is the instant snapshot group %s: %w", g.name, provider.ErrConflict)
	}
	return instant, held, err
}

// members are the snapshots that there are of a token, for whatever volumes.
func (s *Snapshots) members(ctx context.Context, g *grouping) ([]*compute.Snapshot, error) {
	held, err := s.labelled(ctx, map[string]string{labelGroup: g.name})
	if err != nil {
		return nil, err
	}
	// Others give labels, too, and take them away, and a list may be behind.
	held = slices.DeleteFunc(held, func(h *compute.Snapshot) bool { return !strings.HasPrefix(h.Name, g.name+"-") })
	for i := range g.volumes {
		if slices.ContainsFunc(held, func(h *compute.Snapshot) bool { return h.Name == g.nameOf(i) }) {
			continue
		}
		one, err := s.named(ctx, g.nameOf(i))
		if err != nil {
			return nil, err
		}
		if one != nil && one.Status != "DELETING" {
			held = append(held, one)
		}
	}
	return held, nil
}

// check says whether snapshots are of this group, and show one moment.
func (g *grouping) check(held []*compute.Snapshot) error {
	for _, h := range held {
		r := read(h.Description).Group
		switch {
		case r == nil:
			return fmt.Errorf("snapshot %s has a name of this Token, and was not made for it", h.Name)
		case r.Volumes != g.of:
			return fmt.Errorf("the Token was used for other volumes, of which snapshot %s of %s is there: %w", h.Name, read(h.Description).Volume, provider.ErrConflict)
		case r.Moment != read(held[0].Description).Group.Moment, h.SourceInstantSnapshotId != "" && h.SourceInstantSnapshotId != r.Instant:
			return fmt.Errorf("snapshot %s shows another moment than the others of this Token: delete them, or use another Token: %w", h.Name, provider.ErrConflict)
		}
	}
	return nil
}

// complete returns what is there of a group that has been made, in the order of
// volumes, if it is all.
func (s *Snapshots) complete(ctx context.Context, g *grouping, volumes []string, held []*compute.Snapshot) (snaps []provider.Snapshot, err error) {
	for _, v := range volumes {
		i := slices.IndexFunc(held, func(h *compute.Snapshot) bool { return h.Name == g.nameOf(slices.Index(g.volumes, v)) })
		if i < 0 {
			return nil, fmt.Errorf("of the group of this Token the snapshot of %s is gone, or was lost before it was made: %w", v, provider.ErrConflict)
		}
		if held[i].Status == "CREATING" { // its making may yet fail
			if held[i], err = s.frozen(ctx, held[i].Name, nil); err != nil {
				return nil, err
			}
		}
		snaps = append(snaps, s.snapshot(held[i]))
	}
	s.clear(ctx, held[0])
	return snaps, nil
}

// turn makes the snapshots that are not there of the instant ones, and marks
// them when all are there.
func (s *Snapshots) turn(ctx context.Context, g *grouping, instant *compute.InstantSnapshotGroup, held []*compute.Snapshot) ([]*compute.Snapshot, error) {
	if now, err := s.settled(ctx, g, nil); err != nil {
		return nil, err
	} else if now.Id != instant.Id {
		return nil, &unseenError{"the instant snapshot group " + g.name}
	}
	of, err := s.instants(ctx, g, instant)
	if err != nil {
		return nil, err
	}
	g.tags = read(instant.Description).Tags // of the first call
	begun := map[int]*compute.Operation{}
	for i, v := range g.volumes {
		if slices.ContainsFunc(held, func(h *compute.Snapshot) bool { return h.Name == g.nameOf(i) }) {
			continue
		}
		op, err := s.begin(ctx, making{name: g.nameOf(i), wanted: func(context.Context) (*compute.Snapshot, error) {
			wanted, err := g.member(i, instant, v, of[v])
			if err == nil {
				wanted.SourceInstantSnapshot = "projects/" + s.c.Project + "/zones/" + g.zone + "/instantSnapshots/" + of[v].Name
				wanted.StorageLocations, wanted.SnapshotEncryptionKey = []string{s.c.Location}, key(s.c.Keys[s.c.Location])
			}
			return wanted, err
		}})
		if err != nil {
			return nil, &vanished{"the snapshot of " + v, err}
		}
		begun[i] = op
		if i > 0 {
			continue
		}
		if err := s.first(ctx, g, instant, op); err != nil {
			return nil, err
		}
	}
	held = nil
	for i, v := range g.volumes {
		one, err := s.frozen(ctx, g.nameOf(i), begun[i])
		if err != nil {
			return nil, &vanished{"the snapshot of " + v, err}
		}
		held = append(held, one)
	}
	if err := g.check(held); err != nil {
		return nil, err
	}
	if err := g.shows(held[0], instant); err != nil {
		return nil, err
	}
	return held, s.mark(ctx, held)
}

// first looks whether the first snapshot is of this group. A name is given once:
// of calls with one Token in several zones, or whose moment is another, one has it,
// and the others make no more.
func (s *Snapshots) first(ctx context.Context, g *grouping, instant *compute.InstantSnapshotGroup, op *compute.Operation) error {
	held, err := s.frozen(ctx, g.nameOf(0), op)
	if err != nil {
		return &vanished{"the snapshot of " + g.volumes[0], err}
	}
	return g.shows(held, instant)
}

// shows says whether a snapshot is of the moment of the instant group.
func (g *grouping) shows(held *compute.Snapshot, instant *compute.InstantSnapshotGroup) error {
	if read(held.Description).Group.moment() != id(instant.Id) {
		return &unseenError{"a snapshot of the instant snapshot group " + g.name}
	}
	return nil
}

// prepare looks whether the disks can be frozen together, and by which policy.
func (s *Snapshots) prepare(ctx context.Context, g *grouping) (policy string, err error) {
	known := map[string]bool{}
	var has []string
	for i, v := range g.volumes {
		disk, err := ask(ctx, s, func(ctx context.Context) (*compute.Disk, error) {
			return s.client.Disks.Get(s.c.Project, g.zone, path.Base(v)).Context(ctx).Do()
		})
		if err != nil {
			return "", fmt.Errorf("disk %s: %w", v, err)
		}
		switch kind := path.Base(disk.Type); {
		case kind == "hyperdisk-throughput" || kind == "hyperdisk-ml":
			return "", fmt.Errorf("disk %s is of type %s, of which Compute Engine makes no instant snapshots: keep the writers still, and Create one for each: %w",
				v, kind, errors.ErrUnsupported)
		case disk.Status != "READY":
			return "", fmt.Errorf("disk %s is %s, want READY", v, disk.Status)
		}
		own, err := s.consistency(ctx, disk, known)
		if err != nil {
			return "", err
		}
		if i == 0 {
			policy = own
		} else if policy != own {
			policy = ""
		}
		if own == "" {
			own = "none"
		}
		has = append(has, v+" has "+own)
	}
	if policy == "" {
		region := g.zone[:max(strings.LastIndexByte(g.zone, '-'), 0)]
		return "", fmt.Errorf("only disks of one resource policy of consistency are frozen at one moment, and %s. "+
			"Make one (gcloud compute resource-policies create disk-consistency-group POLICY --region=%s), and give it to each "+
			"(gcloud compute disks add-resource-policies DISK --zone=%s --resource-policies=POLICY): %w",
			strings.Join(has, ", "), region, g.zone, errors.ErrUnsupported)
	}
	return policy, nil
}

// consistency is the policy of consistency that a disk has: one at most, beside
// those of other kinds. known are policies that were looked at.
func (s *Snapshots) consistency(ctx context.Context, disk *compute.Disk, known map[string]bool) (string, error) {
	for _, url := range disk.ResourcePolicies {
		p := short(url)
		parts := strings.Split(p, "/")
		if _, ok := known[p]; !ok && len(parts) == 4 {
			policy, err := ask(ctx, s, func(ctx context.Context) (*compute.ResourcePolicy, error) {
				return s.client.ResourcePolicies.Get(s.c.Project, parts[1], parts[3]).Context(ctx).Do()
			})
			if err != nil {
				return "", &vanished{"resource policy " + p, err}
			}
			known[p] = policy.DiskConsistencyGroupPolicy != nil
		}
		if known[p] {
			return p, nil
		}
	}
	return "", nil
}
