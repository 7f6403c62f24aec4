package disks

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/compute/armcompute/v8"
	"golang.org/x/sync/errgroup"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/azure/internal/conn"
)

// Azure freezes several disks at one moment as a restore point of their
// machine, and nothing else does. CreateGroup makes one in a collection of its
// own, a disk of each disk restore point, and a snapshot of each disk; then it
// deletes all but the snapshots. Each name follows from the Token, so that who
// calls again goes on where another was interrupted.
//
// While there is no collection, nobody makes snapshots of the group: it is there
// before the first, and goes after the last. Delete of a snapshot removes it
// first, lest a CreateGroup that was interrupted makes what has been deleted.

// Tags of the snapshots of a group, beside [tagVolume].
const (
	tagGroup   = ownPrefix + "group"   // name of the collection
	tagVolumes = ownPrefix + "volumes" // their number, and a hash of all of them
	tagMoment  = ownPrefix + "moment"  // when the service froze them
)

// restorePoint is the name of the only one in a collection.
const restorePoint = "moment"

// atOnce is how many disks and snapshots of a group are made at a time.
const atOnce = 8

// A group is the work of making snapshots of disks at one moment.
type group struct {
	name    string   // of the collection
	volumes []string // in the order of their IDs
	hash    string   // their number, and a hash of them
	tags    map[string]*string
}

// member is the name of a snapshot of a group, and of the disk that it is made of.
func member(group string, i int) string { return fmt.Sprintf("%s-%d", group, i) }

// CreateGroup implements [provider.GroupSnapshotter]. The disks must be attached
// to one virtual machine and of a kind that Azure freezes together with others.
// It waits until the snapshots are complete, some minutes as a rule.
func (s *Snapshots) CreateGroup(ctx context.Context, volumes []string, o provider.SnapshotOptions) ([]provider.Snapshot, error) {
	snaps, err := s.createGroup(ctx, volumes, o)
	return snaps, fail(ctx, "snapshot create group", strings.Join(volumes, " "), err)
}

func (s *Snapshots) createGroup(ctx context.Context, volumes []string, o provider.SnapshotOptions) ([]provider.Snapshot, error) {
	g, err := s.newGroup(volumes, o)
	if err != nil {
		return nil, err
	}
	held, err := s.make(ctx, g)
	if err != nil {
		return nil, err
	}
	if err := s.clear(ctx, s.c.ResourceGroup, g.name, len(g.volumes)); err != nil {
		return nil, fmt.Errorf("the snapshots are there, and to delete what they were made of: %w", err)
	}
	snaps := make([]provider.Snapshot, len(volumes))
	for i, v := range volumes {
		at := slices.IndexFunc(g.volumes, func(w string) bool { return strings.EqualFold(v, w) })
		snaps[i] = s.snapshot(*held[at])
	}
	return snaps, nil
}

func (s *Snapshots) newGroup(volumes []string, o provider.SnapshotOptions) (g group, err error) {
	if len(volumes) == 0 {
		return g, errors.New("no volumes")
	}
	g.volumes = slices.SortedFunc(slices.Values(volumes), func(a, b string) int { return cmp.Compare(strings.ToLower(a), strings.ToLower(b)) })
	for i, v := range g.volumes {
		if _, _, err := s.split(v, "disks"); err != nil {
			return g, err
		}
		if i > 0 && strings.EqualFold(v, g.volumes[i-1]) {
			return g, fmt.Errorf("volume %s is named twice", v)
		}
	}
	g.hash = fmt.Sprintf("%d %x", len(volumes), sha256.Sum256([]byte(strings.ToLower(strings.Join(g.volumes, "\x00")))))
	if g.name, g.tags, err = newTags("group", o.Token, o.Tags, map[string]string{tagVolumes: g.hash}); err != nil {
		return g, err
	}
	g.tags[tagGroup] = &g.name
	for _, v := range g.volumes { // which is a tag of its snapshot
		if len(v) > maxTag {
			return g, fmt.Errorf("volume %s: its ID has %d characters, and a tag takes %d", v, len(v), maxTag)
		}
	}
	return g, nil
}

// make returns the snapshots of the group, complete, and makes what there is not
// of them.
func (s *Snapshots) make(ctx context.Context, g group) ([]*armcompute.Snapshot, error) {
	made := s.attempt(ctx, g)
	held, err := s.members(ctx, g) // of two attempts the slower finds nothing to make them of, and all of them made
	switch {
	case err == nil && !slices.ContainsFunc(held, func(one *armcompute.Snapshot) bool { return one == nil || made != nil && isBeginning(*one) }):
		return held, nil
	case made != nil:
		return nil, made
	case err != nil:
		return nil, err
	}
	return nil, errDeleted
}

// errDeleted is said of a group that must not be filled up.
var errDeleted = fmt.Errorf("a snapshot of the group of this Token has been deleted: %w", provider.ErrConflict)

func (s *Snapshots) attempt(ctx context.Context, g group) error {
	collection, held, err := s.look(ctx, g)
	if err != nil {
		return err
	}
	var point frozen
	if slices.Contains(held, nil) {
		if point, err = s.freeze(ctx, g, collection); err != nil {
			return err
		}
		if held, err = s.members(ctx, g); err != nil {
			return err
		}
		if slices.ContainsFunc(held, func(one *armcompute.Snapshot) bool { return one != nil && value(one.Tags[tagMoment]) != point.moment }) {
			// The restore point came too late for them.
			return errors.Join(errDeleted, s.clear(ctx, s.c.ResourceGroup, g.name, len(g.volumes)))
		}
	}
	work, ctx := errgroup.WithContext(ctx)
	work.SetLimit(atOnce)
	for i, volume := range g.volumes {
		work.Go(func() error {
			_, err := s.once(ctx, s.making(g, i, point.moment), func() error {
				from, ok := point.disks[strings.ToLower(volume)]
				if !ok {
					return errDeleted // since look has seen it
				}
				return s.thaw(ctx, g, i, from)
			})
			return err
		})
	}
	return work.Wait()
}

// making is how the snapshot of a volume is made of the disk of its name.
func (s *Snapshots) making(g group, i int, moment string) making {
	disk, tags := s.id("disks", member(g.name, i)), maps.Clone(g.tags)
	tags[tagVolume], tags[tagMoment] = &g.volumes[i], &moment
	return making{member(g.name, i), disk, armcompute.Snapshot{
		Location: &s.c.Region, Tags: tags,
		Properties: &armcompute.SnapshotProperties{
			CreationData: &armcompute.CreationData{CreateOption: pointer(armcompute.DiskCreateOptionCopy), SourceResourceID: &disk},
			Incremental:  pointer(true),
		},
	}}
}

// look tells what there is of a group. It asks for the collection first: if
// there was none, and then there were some snapshots but not all, and then there
// was none again, nobody is making the others.
func (s *Snapshots) look(ctx context.Context, g group) (c *armcompute.RestorePointCollection, held []*armcompute.Snapshot, err error) {
	for range 2 {
		if c, err = s.collection(ctx, g.name); err != nil {
			return nil, nil, err
		}
		if held, err = s.members(ctx, g); err != nil {
			return nil, nil, err
		}
		missing := 0
		for _, one := range held {
			if one == nil {
				missing++
			}
		}
		if c != nil || missing == 0 || missing == len(held) {
			return c, held, nil
		}
	}
	return nil, nil, errors.Join(errDeleted, s.clear(ctx, s.c.ResourceGroup, g.name, len(g.volumes)))
}

// members are the snapshots of the group in the order of its volumes, nil where
// there is none.
func (s *Snapshots) members(ctx context.Context, g group) (held []*armcompute.Snapshot, err error) {
	moment := ""
	for i := range g.volumes {
		one, err := s.held(ctx, s.c.ResourceGroup, member(g.name, i))
		if errors.Is(err, provider.ErrNotFound) {
			held = append(held, nil)
			continue
		}
		if err != nil {
			return nil, err
		}
		if value(one.Tags[tagVolumes]) != g.hash {
			return nil, errOther
		}
		if moment = cmp.Or(moment, value(one.Tags[tagMoment])); value(one.Tags[tagMoment]) != moment {
			return nil, fmt.Errorf("the snapshots of this Token are of the moments %s and %s: %w", moment, value(one.Tags[tagMoment]), provider.ErrConflict)
		}
		held = append(held, &one)
	}
	return held, nil
}

var errOther = fmt.Errorf("the Token was used for other volumes: %w", provider.ErrConflict)

// collection is that of a group, or nil.
func (s *Snapshots) collection(ctx context.Context, name string) (*armcompute.RestorePointCollection, error) {
	out, err := s.collections.Get(ctx, s.c.ResourceGroup, name, nil)
	if isMissing(err) {
		return nil, nil
	}
	return &out.RestorePointCollection, err
}

// thaw makes a disk of a disk restore point, for the snapshot to be made of.
func (s *Snapshots) thaw(ctx context.Context, g group, i int, from string) error {
	name := member(g.name, i)
	body := armcompute.Disk{
		Location: &s.c.Region, Tags: map[string]*string{tagGroup: &g.name},
		SKU: &armcompute.DiskSKU{Name: pointer(armcompute.DiskStorageAccountTypesStandardLRS)},
		Properties: &armcompute.DiskProperties{
			CreationData: &armcompute.CreationData{CreateOption: pointer(armcompute.DiskCreateOptionRestore), SourceResourceID: &from},
			Encryption:   s.encryption(s.c.Region),
		},
	}
	var made error
	for look := 0; ; look++ {
		held, err := s.disks.Get(ctx, s.c.ResourceGroup, name, nil)
		p := held.Properties
		switch {
		case isMissing(err) && look == 0:
			_, made = s.disks.BeginCreateOrUpdate(ctx, s.c.ResourceGroup, name, body, nil)
			continue
		case isMissing(err) && made != nil:
			return made
		case isMissing(err) && look == invisible:
			return fmt.Errorf("disk %s was made and is not shown", name)
		case isMissing(err):
		case err != nil:
			return err
		case p == nil || p.CreationData == nil || !strings.EqualFold(value(p.CreationData.SourceResourceID), from):
			if err := s.dropDisk(ctx, s.c.ResourceGroup, name); err != nil { // of a restore point that is no more
				return err
			}
			look = -1
			continue
		default:
			switch state, _, why := state(value(p.ProvisioningState), p.CompletionPercent, false); state {
			case provider.Ready:
				return nil
			case provider.Failed:
				return errors.Join(fmt.Errorf("disk %s of %s: %s; it is deleted: call again", name, from, why), s.dropDisk(ctx, s.c.ResourceGroup, name))
			}
		}
		if err := sleep(ctx, s.c.Poll); err != nil {
			return err
		}
	}
}

// clear deletes what the n snapshots of a group were made of.
func (s *Snapshots) clear(ctx context.Context, group, name string, n int) error {
	err := s.dropCollection(ctx, group, name)
	for i := range n {
		err = errors.Join(err, s.dropDisk(ctx, group, member(name, i)))
	}
	return err
}

// clearOf is clear for the group that a snapshot is of, if it is of one.
func (s *Snapshots) clearOf(ctx context.Context, group string, held armcompute.Snapshot) error {
	name := value(held.Tags[tagGroup])
	if name == "" {
		return nil
	}
	number, _, _ := strings.Cut(value(held.Tags[tagVolumes]), " ")
	n, err := strconv.Atoi(number)
	if err != nil {
		return fmt.Errorf("the tag %s of the snapshot, which says how many are in its group: %w", tagVolumes, err)
	}
	return s.clear(ctx, group, name, n)
}

func (s *Snapshots) dropCollection(ctx context.Context, group, name string) error {
	return s.drop(ctx, "collection "+name, func() error {
		_, err := s.collections.Get(ctx, group, name, nil)
		return err
	}, func() error {
		_, err := s.collections.BeginDelete(ctx, group, name, nil)
		return err
	})
}

func (s *Snapshots) dropDisk(ctx context.Context, group, name string) error {
	return s.drop(ctx, "disk "+name, func() error {
		_, err := s.disks.Get(ctx, group, name, nil)
		return err
	}, func() error {
		_, err := s.disks.BeginDelete(ctx, group, name, nil)
		return err
	})
}

// drop deletes what get finds, and returns when it does not.
func (s *Snapshots) drop(ctx context.Context, what string, get, remove func() error) error {
	asked := false
	for look := 0; ; look++ {
		err := get()
		if isMissing(err) {
			return nil
		}
		if look%invisible == 0 {
			asked = false // it may have been made again, by a call that this one raced with
		}
		if err == nil && !asked {
			err = remove()
			asked = err == nil
			if conn.StatusOf(err) == http.StatusConflict && conn.CodeOf(err) != "ScopeLocked" && look < invisible {
				err = nil // something else is under way: another deletes it, as a rule
			}
		}
		if err == nil {
			err = sleep(ctx, s.c.Poll)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", what, conn.Answered(err))
		}
	}
}
