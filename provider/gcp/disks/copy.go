package disks

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"google.golang.org/api/compute/v1"

	"github.com/holdfast-go/holdfast/provider"
)

// CopySnapshot implements [provider.SnapshotCopier]: region is a location to
// store in. It waits for the disk that the copy passes through, minutes at most
// as a rule.
func (s *Snapshots) CopySnapshot(ctx context.Context, ref provider.SnapshotRef, region string, o provider.SnapshotOptions) (provider.Snapshot, error) {
	snap, err := s.copy(ctx, ref, region, o)
	return snap, wrap(ctx, "snapshot copy", ref.ID, err)
}

func (s *Snapshots) copy(ctx context.Context, ref provider.SnapshotRef, region string, o provider.SnapshotOptions) (provider.Snapshot, error) {
	switch {
	case o.Token == "":
		return provider.Snapshot{}, errors.New("no Token")
	case s.c.Zone == "":
		return provider.Snapshot{}, errors.New("Config.Zone: empty, and a copy passes through a disk there")
	}
	name := nameOf("copy", o.Token)
	snap, err := s.once(ctx, making{
		name: name,
		matches: func(held *compute.Snapshot) error {
			if of := read(held.Description).Source; of != ref.ID || location(held) != region {
				return fmt.Errorf("the Token was used for a copy of %s to %s: %w", of, location(held), provider.ErrConflict)
			}
			s.clear(ctx, held)
			return nil
		},
		wanted: func(ctx context.Context) (*compute.Snapshot, error) { return s.through(ctx, ref, name, region, o.Tags) },
	})
	return snap, err
}

// through restores the snapshot to a disk and says how to make the copy of that.
func (s *Snapshots) through(ctx context.Context, ref provider.SnapshotRef, name, region string, tags map[string]string) (*compute.Snapshot, error) {
	if err := s.locationExists(ctx, region); err != nil {
		return nil, err
	}
	of, err := s.ready(ctx, ref)
	if err != nil {
		return nil, err
	}
	text, labels, err := record{Source: ref.ID, Volume: of.Volume, Tags: tags}.write()
	if err != nil {
		return nil, err
	}
	for {
		held, err := s.disk(ctx, ref, s.c.Zone, name, nil)
		if err != nil {
			return nil, err
		}
		switch v := volume(s.c.Zone, held); v.State {
		case provider.Ready:
			return &compute.Snapshot{
				SourceDisk: "projects/" + s.c.Project + "/" + v.ID, Description: text, Labels: labels,
				StorageLocations: []string{region}, SnapshotEncryptionKey: key(s.c.Keys[region]),
			}, nil
		case provider.Failed:
			return nil, fmt.Errorf("the disk that the copy passes through, %s: %s", v.ID, v.Reason)
		}
		if err := s.pause(ctx); err != nil {
			return nil, err
		}
	}
}

// locationExists asks first, because what is no location is refused in no
// certain way.
func (s *Snapshots) locationExists(ctx context.Context, region string) error {
	switch region {
	case "us", "eu", "asia":
		return nil
	}
	if !placeName.MatchString(region) {
		return fmt.Errorf("location %q: %w", region, provider.ErrNotFound)
	}
	_, err := ask(ctx, s, func(ctx context.Context) (*compute.Region, error) {
		return s.client.Regions.Get(s.c.Project, region).Context(ctx).Do()
	})
	if err != nil {
		return fmt.Errorf("location %q: %w", region, err)
	}
	return nil
}

// clear deletes what a snapshot was made through, the disk of a copy or the
// instant group, once it does not need it. If it cannot, whoever asks next does.
func (s *Snapshots) clear(ctx context.Context, held *compute.Snapshot) {
	if held.Status == "READY" || held.Status == "FAILED" {
		s.drop(ctx, held)
	}
}

func (s *Snapshots) drop(ctx context.Context, held *compute.Snapshot) {
	switch r := read(held.Description); {
	case r.Group != nil:
		s.dropInstant(ctx, held)
	case r.Source != "":
		s.dropDisk(ctx, held)
	}
}

func (s *Snapshots) dropDisk(ctx context.Context, held *compute.Snapshot) {
	copied := strconv.FormatUint(held.Id, 10) // its name may be given again
	s.mu.Lock()
	done := s.cleared[copied]
	s.mu.Unlock()
	// Only a copy and its disk have one name, which is a hash.
	zone, name, ok := strings.Cut(strings.TrimPrefix(short(held.SourceDisk), "zones/"), "/disks/")
	if done || !ok || name != held.Name {
		return
	}
	id := requestID()
	_, err := ask(ctx, s, func(ctx context.Context) (*compute.Operation, error) {
		return s.client.Disks.Delete(s.c.Project, zone, name).RequestId(id).Context(ctx).Do()
	})
	if notFound(err) { // the deletion itself may still fail
		s.mu.Lock()
		s.cleared[copied] = true
		s.mu.Unlock()
	}
}
