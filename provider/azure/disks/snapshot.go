package disks

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/compute/armcompute/v8"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/azure/internal/conn"
)

// A making is the work of making one snapshot for a token.
type making struct {
	name   string
	source string // resource ID
	body   armcompute.Snapshot
}

// Create implements [provider.Snapshotter]. Azure freezes the disk at one
// moment between the call and its return; that is why Create waits until the
// service says that the snapshot is begun.
func (s *Snapshots) Create(ctx context.Context, volume string, o provider.SnapshotOptions) (provider.Snapshot, error) {
	snap, err := s.create(ctx, volume, o)
	return snap, fail(ctx, "snapshot create", volume, err)
}

func (s *Snapshots) create(ctx context.Context, volume string, o provider.SnapshotOptions) (provider.Snapshot, error) {
	group, name, err := s.split(volume, "disks")
	if err != nil {
		return provider.Snapshot{}, err
	}
	own, tags, err := newTags("create", o.Token, o.Tags, map[string]string{tagVolume: volume})
	if err != nil {
		return provider.Snapshot{}, err
	}
	return s.once(ctx, making{own, volume, armcompute.Snapshot{
		Location: &s.c.Region, Tags: tags,
		Properties: &armcompute.SnapshotProperties{
			CreationData: &armcompute.CreationData{CreateOption: pointer(armcompute.DiskCreateOptionCopy), SourceResourceID: &volume},
			Incremental:  pointer(true),
		},
	}}, func() error {
		disk, err := s.disks.Get(ctx, group, name, nil)
		switch {
		case isMissing(err):
			return fmt.Errorf("%w: %w", provider.ErrNotFound, conn.Answered(err))
		case err != nil:
			return err
		case !strings.EqualFold(value(disk.Location), s.c.Region):
			return fmt.Errorf("the disk is in region %s, and these snapshots are of %s", value(disk.Location), s.c.Region)
		}
		return nil
	})
}

// CopySnapshot implements [provider.SnapshotCopier]: the copy is in the same
// group, in the other region. Follow it through Snapshots opened for that.
func (s *Snapshots) CopySnapshot(ctx context.Context, ref provider.SnapshotRef, region string, o provider.SnapshotOptions) (provider.Snapshot, error) {
	snap, err := s.copy(ctx, ref, strings.ToLower(region), o)
	return snap, fail(ctx, "snapshot copy", ref.ID, err)
}

func (s *Snapshots) copy(ctx context.Context, ref provider.SnapshotRef, region string, o provider.SnapshotOptions) (provider.Snapshot, error) {
	if region == "" || region == s.c.Region {
		return provider.Snapshot{}, fmt.Errorf("a copy to region %q of a snapshot in %q", region, s.c.Region)
	}
	own, tags, err := newTags("copy to "+region, o.Token, o.Tags, nil)
	if err != nil {
		return provider.Snapshot{}, err
	}
	m := making{own, ref.ID, armcompute.Snapshot{
		Location: &region, Tags: tags,
		Properties: &armcompute.SnapshotProperties{
			CreationData: &armcompute.CreationData{CreateOption: pointer(armcompute.DiskCreateOptionCopyStart), SourceResourceID: &ref.ID},
			Incremental:  pointer(true), Encryption: s.encryption(region),
		},
	}}
	return s.once(ctx, m, func() error {
		source, err := s.ready(ctx, ref)
		m.body.Tags[tagVolume] = &source.Volume
		return err
	})
}

// once returns the snapshot of a making, and makes it if there is none; before
// that it asks prepare. The name is the token's, so that a request that is made
// twice makes one snapshot, whatever becomes of replies.
func (s *Snapshots) once(ctx context.Context, m making, prepare func() error) (provider.Snapshot, error) {
	held, err := s.held(ctx, s.c.ResourceGroup, m.name)
	if errors.Is(err, provider.ErrNotFound) {
		if err := prepare(); err != nil {
			return provider.Snapshot{}, err
		}
		held, err = s.begin(ctx, m)
	}
	for err == nil && isBeginning(held) {
		if err = sleep(ctx, s.c.Poll); err == nil {
			held, err = s.held(ctx, s.c.ResourceGroup, m.name)
		}
	}
	if err != nil {
		return provider.Snapshot{}, err
	}
	if of := source(held); !strings.EqualFold(of, m.source) {
		return provider.Snapshot{}, fmt.Errorf("the Token was used for %s: %w", of, provider.ErrConflict)
	}
	return s.snapshot(held), nil
}

// begin asks for the snapshot and returns it. What the request returns is not
// waited for: Get tells the same, and also of a snapshot that another process
// has begun.
func (s *Snapshots) begin(ctx context.Context, m making) (armcompute.Snapshot, error) {
	_, makeErr := s.snapshots.BeginCreateOrUpdate(ctx, s.c.ResourceGroup, m.name, m.body, nil)
	for look := 1; ; look++ {
		held, err := s.held(ctx, s.c.ResourceGroup, m.name)
		switch {
		case makeErr != nil && (errors.Is(err, provider.ErrNotFound) || ctx.Err() != nil):
			return held, makeErr
		case !errors.Is(err, provider.ErrNotFound):
			return held, err
		case look == invisible:
			return held, fmt.Errorf("snapshot %s was made and is not shown", m.name)
		}
		if err := sleep(ctx, s.c.Poll); err != nil {
			return held, err
		}
	}
}

// invisible is how often a snapshot that was made is looked for: it is no disk
// that is not there.
const invisible = 30

func source(held armcompute.Snapshot) string {
	if held.Properties == nil || held.Properties.CreationData == nil {
		return ""
	}
	return value(held.Properties.CreationData.SourceResourceID)
}

// isBeginning: the service has the request, and the moment may be yet to come.
func isBeginning(held armcompute.Snapshot) bool {
	state := provisioning(held)
	return state == "Creating" || state == "Updating"
}

func provisioning(held armcompute.Snapshot) string {
	if held.Properties == nil {
		return ""
	}
	return value(held.Properties.ProvisioningState)
}

// held asks for a snapshot by its name.
func (s *Snapshots) held(ctx context.Context, group, name string) (armcompute.Snapshot, error) {
	out, err := s.snapshots.Get(ctx, group, name, nil)
	if isMissing(err) {
		return armcompute.Snapshot{}, fmt.Errorf("%w: %w", provider.ErrNotFound, conn.Answered(err))
	}
	return out.Snapshot, err
}

// Get implements [provider.Snapshotter].
func (s *Snapshots) Get(ctx context.Context, ref provider.SnapshotRef) (provider.Snapshot, error) {
	held, err := s.describe(ctx, ref)
	if err != nil {
		return provider.Snapshot{}, fail(ctx, "snapshot get", ref.ID, err)
	}
	return s.snapshot(held), nil
}

// describe asks for the snapshot of a reference to this region.
func (s *Snapshots) describe(ctx context.Context, ref provider.SnapshotRef) (armcompute.Snapshot, error) {
	switch {
	case ref.Provider != providerName:
		return armcompute.Snapshot{}, fmt.Errorf("a reference of %q, not of %q", ref.Provider, providerName)
	case ref.Region != s.c.Region:
		return armcompute.Snapshot{}, fmt.Errorf("a snapshot of region %q: it is had through Snapshots opened for that, these are for %q", ref.Region, s.c.Region)
	}
	group, name, err := s.split(ref.ID, "snapshots")
	if err != nil {
		return armcompute.Snapshot{}, err
	}
	return s.held(ctx, group, name)
}

// ready is describe for what needs a Ready snapshot.
func (s *Snapshots) ready(ctx context.Context, ref provider.SnapshotRef) (provider.Snapshot, error) {
	held, err := s.describe(ctx, ref)
	if err != nil {
		return provider.Snapshot{}, err
	}
	snap := s.snapshot(held)
	if snap.State != provider.Ready {
		return provider.Snapshot{}, fmt.Errorf("the snapshot is %s, not %s: %w", snap.State, provider.Ready, provider.ErrConflict)
	}
	return snap, nil
}

// List implements [provider.Snapshotter]: the snapshots of the group that are
// in the region.
func (s *Snapshots) List(ctx context.Context, tags map[string]string) iter.Seq2[provider.Snapshot, error] {
	return func(yield func(provider.Snapshot, error) bool) {
		var all []provider.Snapshot
		pages := s.snapshots.NewListByResourceGroupPager(s.c.ResourceGroup, nil)
		for pages.More() {
			page, err := pages.NextPage(ctx)
			if err != nil {
				yield(provider.Snapshot{}, fail(ctx, "snapshot list", s.c.ResourceGroup, err))
				return
			}
			for _, held := range page.Value {
				if strings.EqualFold(value(held.Location), s.c.Region) && hasAll(shown(held.Tags), tags) {
					all = append(all, s.snapshot(*held))
				}
			}
		}
		slices.SortFunc(all, func(a, b provider.Snapshot) int { return cmp.Compare(a.Ref.ID, b.Ref.ID) })
		for _, snap := range all {
			if !yield(snap, nil) {
				return
			}
		}
	}
}

// Delete implements [provider.Snapshotter]. It waits until the snapshot is
// gone. One under a lock of the Resource Manager or an immutability policy is
// [provider.ErrLocked].
func (s *Snapshots) Delete(ctx context.Context, ref provider.SnapshotRef) error {
	err := s.delete(ctx, ref)
	if errors.Is(err, provider.ErrNotFound) {
		return nil
	}
	return fail(ctx, "snapshot delete", ref.ID, err)
}

func (s *Snapshots) delete(ctx context.Context, ref provider.SnapshotRef) error {
	held, err := s.describe(ctx, ref)
	if err != nil {
		return err
	}
	group, name, _ := s.split(ref.ID, "snapshots")
	if err := s.clearOf(ctx, group, held); err != nil { // lest a CreateGroup that was interrupted makes it again
		return err
	}
	if _, err := s.snapshots.BeginDelete(ctx, group, name, nil); err != nil {
		if p := held.Properties; p != nil && p.ImmutabilityPolicy != nil && !value(p.ImmutabilityPolicy.IsPolicyExpired) && conn.StatusOf(err) != 0 && conn.StatusOf(err) < 500 {
			return fmt.Errorf("%w until %s: %w", provider.ErrLocked, until(p.ImmutabilityPolicy.PolicyExpirationTime), conn.Answered(err))
		}
		return err
	}
	for {
		if _, err := s.held(ctx, group, name); err != nil {
			return err
		}
		if err := sleep(ctx, s.c.Poll); err != nil {
			return err
		}
	}
}
