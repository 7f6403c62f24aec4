package disks

import (
	"context"
	"errors"
	"fmt"
	"path"
	"regexp"

	"google.golang.org/api/compute/v1"

	"github.com/holdfast-go/holdfast/provider"
)

// Create implements [provider.Snapshotter].
func (s *Snapshots) Create(ctx context.Context, volume string, o provider.SnapshotOptions) (provider.Snapshot, error) {
	snap, err := s.create(ctx, volume, o)
	return snap, wrap(ctx, "snapshot create", volume, err)
}

func (s *Snapshots) create(ctx context.Context, volume string, o provider.SnapshotOptions) (provider.Snapshot, error) {
	text, labels, err := record{Tags: o.Tags}.write()
	switch {
	case err != nil:
		return provider.Snapshot{}, err
	case o.Token == "":
		return provider.Snapshot{}, errors.New("no Token")
	case !diskPath.MatchString(volume):
		return provider.Snapshot{}, fmt.Errorf("%q is not a disk, zones/ZONE/disks/NAME or regions/REGION/disks/NAME", volume)
	}
	return s.once(ctx, making{
		name: nameOf("create", o.Token),
		matches: func(held *compute.Snapshot) error {
			if of := short(held.SourceDisk); of != volume {
				return fmt.Errorf("the Token was used for volume %s: %w", of, provider.ErrConflict)
			}
			return nil
		},
		wanted: func(context.Context) (*compute.Snapshot, error) {
			return &compute.Snapshot{
				SourceDisk: "projects/" + s.c.Project + "/" + volume, Description: text, Labels: labels,
				StorageLocations: []string{s.c.Location}, SnapshotEncryptionKey: key(s.c.Keys[s.c.Location]),
			}, nil
		},
	})
}

// A making is the work of making one snapshot for a token.
type making struct {
	name string

	// matches says why a snapshot of the name is not the one.
	matches func(*compute.Snapshot) error

	// wanted is the snapshot to make, if there is none.
	wanted func(context.Context) (*compute.Snapshot, error)
}

// once returns the snapshot of the name, and makes it if there is none, when its
// content no longer changes.
func (s *Snapshots) once(ctx context.Context, m making) (provider.Snapshot, error) {
	held, err := s.named(ctx, m.name)
	if err != nil {
		return provider.Snapshot{}, err
	}
	var op *compute.Operation
	if held == nil {
		if op, err = s.begin(ctx, m); err != nil {
			return provider.Snapshot{}, err
		}
	}
	if held, err = s.frozen(ctx, m.name, op); err != nil {
		return provider.Snapshot{}, err
	}
	if err := m.matches(held); err != nil {
		return provider.Snapshot{}, err
	}
	return s.snapshot(held), nil
}

// begin makes the snapshot. Nil means that somebody else has.
func (s *Snapshots) begin(ctx context.Context, m making) (*compute.Operation, error) {
	wanted, err := m.wanted(ctx)
	var op *compute.Operation
	if err == nil {
		wanted.Name = m.name
		id := requestID() // the same for all attempts
		op, err = ask(ctx, s, func(ctx context.Context) (*compute.Operation, error) {
			return s.client.Snapshots.Insert(s.c.Project, wanted).RequestId(id).Context(ctx).Do()
		})
	}
	if exists(err) {
		return nil, nil
	}
	return op, err
}

const unseen = 10 // how often it is looked for what was made, and is not there

// await looks until what an operation makes is as look wants it. op is the
// operation, if it is known.
func await[T any](ctx context.Context, s *Snapshots, what string, op *compute.Operation, look func(context.Context) (held *T, ok bool, err error)) (*T, error) {
	for missing := 0; ; {
		held, ok, err := look(ctx)
		if err != nil || ok {
			return held, err
		}
		over, err := s.over(ctx, op)
		if err != nil && !exists(err) {
			return nil, err
		}
		if held == nil && over {
			if missing++; missing >= unseen {
				return nil, &unseenError{what}
			}
		}
		if err := s.pause(ctx); err != nil {
			return nil, err
		}
	}
}

// over says whether an operation has ended, with its failure if it has failed.
// One that is not known has ended.
func (s *Snapshots) over(ctx context.Context, op *compute.Operation) (bool, error) {
	if op == nil {
		return true, nil
	}
	now, err := ask(ctx, s, func(ctx context.Context) (*compute.Operation, error) {
		if op.Zone != "" {
			return s.client.ZoneOperations.Get(s.c.Project, path.Base(op.Zone), op.Name).Context(ctx).Do()
		}
		return s.client.GlobalOperations.Get(s.c.Project, op.Name).Context(ctx).Do()
	})
	switch {
	case notFound(err): // forgotten: it is long over
		return true, nil
	case err != nil:
		return false, err
	case now.Status != "DONE":
		return false, nil
	}
	return true, failed(now)
}

// end waits until an operation has ended.
func (s *Snapshots) end(ctx context.Context, op *compute.Operation) error {
	for {
		if over, err := s.over(ctx, op); over || err != nil {
			return err
		}
		if err := s.pause(ctx); err != nil {
			return err
		}
	}
}

// frozen waits until the snapshot is there and its content no longer changes.
func (s *Snapshots) frozen(ctx context.Context, name string, op *compute.Operation) (*compute.Snapshot, error) {
	return await(ctx, s, "snapshot "+name, op, func(ctx context.Context) (*compute.Snapshot, bool, error) {
		held, err := s.named(ctx, name)
		if held != nil && held.Status == "DELETING" {
			err = fmt.Errorf("snapshot %s of this Token is being deleted: use another Token, or wait", name)
		}
		return held, held != nil && held.Status != "CREATING", err
	})
}

// named returns the snapshot of a name, or nil.
func (s *Snapshots) named(ctx context.Context, name string) (*compute.Snapshot, error) {
	held, err := ask(ctx, s, func(ctx context.Context) (*compute.Snapshot, error) {
		return s.client.Snapshots.Get(s.c.Project, name).Context(ctx).Do()
	})
	if notFound(err) {
		return nil, nil
	}
	return held, err
}

// Get implements [provider.Snapshotter].
func (s *Snapshots) Get(ctx context.Context, ref provider.SnapshotRef) (provider.Snapshot, error) {
	held, err := s.find(ctx, ref)
	if err != nil {
		return provider.Snapshot{}, wrap(ctx, "snapshot get", ref.ID, err)
	}
	s.clear(ctx, held)
	return s.snapshot(held), nil
}

var resourceName = regexp.MustCompile(`^[a-z]([-a-z0-9]{0,61}[a-z0-9])?$`)

// find returns the snapshot of a reference. One that is being deleted is gone.
func (s *Snapshots) find(ctx context.Context, ref provider.SnapshotRef) (*compute.Snapshot, error) {
	switch {
	case ref.Provider != providerName:
		return nil, fmt.Errorf("a reference of %q, not of %q", ref.Provider, providerName)
	case ref.Account != s.c.Project:
		return nil, fmt.Errorf("a snapshot of project %q: it is had through Snapshots opened for that, these are for %q", ref.Account, s.c.Project)
	case !resourceName.MatchString(ref.ID):
		return nil, fmt.Errorf("%q is not the name of a snapshot", ref.ID)
	}
	held, err := s.named(ctx, ref.ID)
	switch {
	case err != nil:
		return nil, err
	case held == nil || held.Status == "DELETING":
		return nil, provider.ErrNotFound
	case location(held) != ref.Region:
		return nil, fmt.Errorf("the snapshot is stored in %q, and the reference says %q", location(held), ref.Region)
	}
	return held, nil
}

// ready is find for what needs a Ready snapshot.
func (s *Snapshots) ready(ctx context.Context, ref provider.SnapshotRef) (provider.Snapshot, error) {
	held, err := s.find(ctx, ref)
	if err != nil {
		return provider.Snapshot{}, err
	}
	snap := s.snapshot(held)
	if snap.State != provider.Ready {
		return provider.Snapshot{}, fmt.Errorf("the snapshot is %s, not %s: %w", snap.State, provider.Ready, provider.ErrConflict)
	}
	return snap, nil
}
