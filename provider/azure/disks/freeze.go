package disks

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/compute/armcompute/v8"
)

// frozen is a restore point that is complete.
type frozen struct {
	moment string
	disks  map[string]string // disk restore points by the disk, in lower case
}

// freeze returns the restore point of a group, and makes it if there is none,
// in the collection, which is nil if there is none.
func (s *Snapshots) freeze(ctx context.Context, g group, collection *armcompute.RestorePointCollection) (frozen, error) {
	if collection != nil && value(collection.Tags[tagVolumes]) != g.hash {
		return frozen{}, errOther
	}
	p, err := s.point(ctx, g)
	if err == nil && p == nil {
		p, err = s.beginPoint(ctx, g, collection)
	}
	for err == nil && (value(p.ProvisioningState) == "Creating" || value(p.ProvisioningState) == "Updating") {
		if err = sleep(ctx, s.c.Poll); err == nil {
			if p, err = s.point(ctx, g); err == nil && p == nil {
				err = fmt.Errorf("the restore point in %s has been deleted: call again", g.name)
			}
		}
	}
	if err != nil {
		return frozen{}, err
	}
	if state := value(p.ProvisioningState); state != "Succeeded" {
		return frozen{}, errors.Join(fmt.Errorf("the restore point in %s: Azure calls it %q; it is deleted: call again", g.name, state), s.clear(ctx, s.c.ResourceGroup, g.name, len(g.volumes)))
	}
	return s.read(ctx, g, p)
}

// point is the restore point of a group, or nil.
func (s *Snapshots) point(ctx context.Context, g group) (*armcompute.RestorePointProperties, error) {
	out, err := s.points.Get(ctx, s.c.ResourceGroup, g.name, restorePoint, nil)
	switch {
	case isMissing(err):
		return nil, nil
	case err != nil:
		return nil, err
	case out.Properties == nil:
		return nil, fmt.Errorf("the restore point in %s is shown without its state", g.name)
	}
	return out.Properties, nil
}

// beginPoint asks for the restore point and returns it. If there is none after
// that, nothing is left of the attempt.
func (s *Snapshots) beginPoint(ctx context.Context, g group, collection *armcompute.RestorePointCollection) (*armcompute.RestorePointProperties, error) {
	machine, others, err := s.together(ctx, g.volumes)
	if err == nil && collection == nil {
		err = s.unused(ctx, g)
	}
	if err != nil {
		return nil, err
	}
	if err := s.collect(ctx, g, machine, collection); err != nil {
		return nil, err
	}
	_, made := s.points.BeginCreate(ctx, s.c.ResourceGroup, g.name, restorePoint, armcompute.RestorePoint{Properties: &armcompute.RestorePointProperties{
		ConsistencyMode: pointer(armcompute.ConsistencyModeTypesCrashConsistent), ExcludeDisks: others,
	}}, nil)
	for look := 1; ; look++ {
		p, err := s.point(ctx, g)
		switch {
		case err != nil || p != nil:
			return p, err
		case made != nil:
			s.clear(ctx, s.c.ResourceGroup, g.name, len(g.volumes))
			return nil, made
		case look == invisible:
			return nil, fmt.Errorf("the restore point in %s was made and is not shown", g.name)
		}
		if err := sleep(ctx, s.c.Poll); err != nil {
			return nil, err
		}
	}
}

// unused says whether there are snapshots of the Token that are of more volumes
// than were asked about.
func (s *Snapshots) unused(ctx context.Context, g group) error {
	pages := s.snapshots.NewListByResourceGroupPager(s.c.ResourceGroup, nil)
	for pages.More() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return err
		}
		for _, held := range page.Value {
			if value(held.Tags[tagGroup]) == g.name && value(held.Tags[tagVolumes]) != g.hash {
				return errOther
			}
		}
	}
	return nil
}

// collect makes the collection of a group, for restore points of a machine. One
// that was made for another machine has none: the disks have moved since.
func (s *Snapshots) collect(ctx context.Context, g group, machine string, held *armcompute.RestorePointCollection) error {
	if held != nil {
		if p := held.Properties; p != nil && p.Source != nil && strings.EqualFold(value(p.Source.ID), machine) {
			return nil
		}
		if err := s.dropCollection(ctx, s.c.ResourceGroup, g.name); err != nil {
			return err
		}
	}
	_, made := s.collections.CreateOrUpdate(ctx, s.c.ResourceGroup, g.name, armcompute.RestorePointCollection{
		Location: &s.c.Region, Tags: g.tags,
		Properties: &armcompute.RestorePointCollectionProperties{Source: &armcompute.RestorePointCollectionSourceProperties{ID: &machine}},
	}, nil)
	if made != nil {
		if held, err := s.collection(ctx, g.name); err != nil || held == nil {
			return made
		}
	}
	return nil
}

// read returns what a restore point has of the volumes.
func (s *Snapshots) read(ctx context.Context, g group, p *armcompute.RestorePointProperties) (frozen, error) {
	if p.TimeCreated == nil || p.SourceMetadata == nil || p.SourceMetadata.StorageProfile == nil {
		return frozen{}, fmt.Errorf("the restore point in %s does not say when, or of what, it was made", g.name)
	}
	all := frozen{moment: p.TimeCreated.UTC().Format(time.RFC3339Nano), disks: map[string]string{}}
	add := func(disk *armcompute.ManagedDiskParameters, point *armcompute.DiskRestorePointAttributes) {
		if disk != nil && point != nil && value(point.ID) != "" {
			all.disks[strings.ToLower(value(disk.ID))] = *point.ID
		}
	}
	if os := p.SourceMetadata.StorageProfile.OSDisk; os != nil {
		add(os.ManagedDisk, os.DiskRestorePoint)
	}
	for _, data := range p.SourceMetadata.StorageProfile.DataDisks {
		add(data.ManagedDisk, data.DiskRestorePoint)
	}
	// Of two calls that race with other volumes the collection has the tags of
	// the later, and the restore point the disks of the earlier.
	collection, err := s.collection(ctx, g.name)
	if err != nil {
		return frozen{}, err
	}
	if collection == nil || value(collection.Tags[tagVolumes]) != g.hash {
		return frozen{}, errOther
	}
	for _, v := range g.volumes {
		if all.disks[strings.ToLower(v)] != "" {
			continue
		}
		for _, other := range p.ExcludeDisks {
			if strings.EqualFold(value(other.ID), v) {
				return frozen{}, errOther
			}
		}
		return frozen{}, errors.Join(fmt.Errorf("disk %s was detached meanwhile, what was made is deleted: call again", v), s.clear(ctx, s.c.ResourceGroup, g.name, len(g.volumes)))
	}
	return all, nil
}

// momentOf is when a snapshot of a group was frozen; zero for any other.
func momentOf(tags map[string]*string) time.Time {
	t, err := time.Parse(time.RFC3339Nano, value(tags[tagMoment]))
	if err != nil {
		return time.Time{}
	}
	return t.UTC()
}
