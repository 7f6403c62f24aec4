package disks

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"google.golang.org/api/compute/v1"

	"github.com/holdfast-go/holdfast/provider"
)

// Restore implements [provider.Snapshotter]. The volume is a disk in
// RestoreOptions.Zone or Config.Zone, which can be attached as soon as it is
// Ready.
func (s *Snapshots) Restore(ctx context.Context, ref provider.SnapshotRef, o provider.RestoreOptions) (provider.Volume, error) {
	zone := cmp.Or(o.Zone, s.c.Zone)
	v, err := s.restore(ctx, ref, zone, o)
	return v, wrap(ctx, "snapshot restore", ref.ID, err)
}

func (s *Snapshots) restore(ctx context.Context, ref provider.SnapshotRef, zone string, o provider.RestoreOptions) (provider.Volume, error) {
	switch {
	case o.Token == "":
		return provider.Volume{}, errors.New("no Token")
	case !placeName.MatchString(zone):
		return provider.Volume{}, fmt.Errorf("zone %q: set RestoreOptions.Zone or Config.Zone to one", zone)
	}
	held, err := s.disk(ctx, ref, zone, nameOf("restore", o.Token), o.Tags)
	if err != nil {
		return provider.Volume{}, err
	}
	return volume(zone, held), nil
}

// disk returns the disk of the name, and makes it of a Ready snapshot if there
// is none.
func (s *Snapshots) disk(ctx context.Context, ref provider.SnapshotRef, zone, name string, tags map[string]string) (*compute.Disk, error) {
	text, labels, err := record{Source: ref.ID, Tags: tags}.write()
	if err != nil {
		return nil, err
	}
	held, err := s.diskNamed(ctx, zone, name)
	if err != nil {
		return nil, err
	}
	if held == nil {
		if _, err := s.ready(ctx, ref); err != nil {
			return nil, err
		}
		id := requestID() // the same for all attempts
		op, err := ask(ctx, s, func(ctx context.Context) (*compute.Operation, error) {
			return s.client.Disks.Insert(s.c.Project, zone, &compute.Disk{
				Name: name, Description: text, Labels: labels, SourceSnapshot: "projects/" + s.c.Project + "/global/snapshots/" + ref.ID,
				Type: "projects/" + s.c.Project + "/zones/" + zone + "/diskTypes/" + s.c.DiskType, DiskEncryptionKey: key(s.c.DiskKey),
			}).RequestId(id).Context(ctx).Do()
		})
		if err != nil && !exists(err) {
			return nil, err
		}
		if held, err = s.appears(ctx, zone, name, op); err != nil {
			return nil, err
		}
	}
	if of := read(held.Description).Source; of != ref.ID {
		return nil, fmt.Errorf("the Token was used for snapshot %s: %w", of, provider.ErrConflict)
	}
	return held, nil
}

// appears waits until a disk is there.
func (s *Snapshots) appears(ctx context.Context, zone, name string, op *compute.Operation) (*compute.Disk, error) {
	return await(ctx, s, "disk "+name+" in "+zone, op, func(ctx context.Context) (*compute.Disk, bool, error) {
		held, err := s.diskNamed(ctx, zone, name)
		return held, held != nil, err
	})
}

// diskNamed returns the disk of a name, or nil.
func (s *Snapshots) diskNamed(ctx context.Context, zone, name string) (*compute.Disk, error) {
	held, err := ask(ctx, s, func(ctx context.Context) (*compute.Disk, error) {
		return s.client.Disks.Get(s.c.Project, zone, name).Context(ctx).Do()
	})
	if notFound(err) {
		return nil, nil
	}
	return held, err
}
