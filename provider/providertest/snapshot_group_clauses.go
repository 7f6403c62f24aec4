package providertest

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/holdfast-go/holdfast/provider"
)

var snapGroupClauses = []snapClause{
	snapSentence("group", "CreateGroup begins one snapshot of each volume, in their order, and all become Ready.", snapGroup),
	snapSentence("group-moment", "The snapshots of a group show the volumes at one moment between the call and its return.", snapGroupMoment),
	snapSentence("group-token", "CreateGroup with the same Token and volumes returns the same snapshots, in any order, at any time, through any handle.", snapGroupToken),
	snapSentence("group-token-race", "Racing CreateGroups with one Token begin one group.", snapGroupTokenRace),
	snapSentence("group-token-volumes", "CreateGroup with a Token that was used for other volumes, more or fewer of them, is ErrConflict.", snapGroupTokenVolumes),
	snapSentence("group-missing", "CreateGroup of a volume that is not there is ErrNotFound and makes nothing.", snapGroupMissing),
	snapSentence("group-arguments", "CreateGroup without a Token, without volumes, or with one of them twice is an error and makes nothing.", snapGroupArguments),
	snapSentence("group-deleted", "A group of which a snapshot has been deleted is ErrConflict for its Token, and is not added to.", snapGroupDeleted),
	snapSentence("group-context", "A CreateGroup whose ctx has ended makes nothing and fails with an error that matches ctx.Err().", snapGroupContext),
}

func (p *snapProbe) groups(s provider.Snapshotter) (provider.GroupSnapshotter, error) {
	g, ok := provider.As[provider.GroupSnapshotter](s)
	if !ok {
		return nil, &unsupportedError{errors.New("the Snapshotter is no provider.GroupSnapshotter")}
	}
	return g, nil
}

// together makes n volumes that can be had at one moment.
func (p *snapProbe) together(ctx context.Context, n int) (volumes []string, err error) {
	if _, err := p.groups(p.s); err != nil {
		return nil, err
	}
	if p.Together == nil {
		return nil, &skippedError{"needs SnapshotterOptions.Together"}
	}
	for i := range n {
		v, err := p.volume(ctx, byte(i+1))
		if err != nil {
			return nil, err
		}
		volumes = append(volumes, v)
	}
	if err := p.Together(ctx, volumes); err != nil {
		return nil, fmt.Errorf("bring the volumes together: %w", err)
	}
	return volumes, nil
}

func (p *snapProbe) createGroup(ctx context.Context, s provider.Snapshotter, volumes []string, token string) ([]provider.Snapshot, error) {
	g, err := p.groups(s)
	if err != nil {
		return nil, err
	}
	snaps, err := g.CreateGroup(ctx, volumes, provider.SnapshotOptions{Token: p.token(token), Tags: p.tags()})
	if err != nil {
		return nil, err
	}
	for _, snap := range snaps {
		p.trackRef(snap.Ref)
	}
	if len(snaps) != len(volumes) {
		return nil, fmt.Errorf("%d snapshots of %d volumes", len(snaps), len(volumes))
	}
	for i, snap := range snaps {
		if snap.Volume != volumes[i] || !maps.Equal(snap.Tags, p.tags()) {
			return nil, fmt.Errorf("snapshot %d of the group is %+v, want one of volume %s with the tags given", i, snap, volumes[i])
		}
	}
	return snaps, nil
}

// grouped is createGroup for snapshots that must be as they were.
func (p *snapProbe) grouped(ctx context.Context, s provider.Snapshotter, volumes []string, token string, want []provider.Snapshot) error {
	got, err := p.createGroup(ctx, s, volumes, token)
	if err != nil {
		return err
	}
	for i, snap := range got {
		if !slices.ContainsFunc(want, func(w provider.Snapshot) bool { return w.Ref == snap.Ref }) {
			return fmt.Errorf("one Token made snapshot %s of volume %s beside those it had made", snap.Ref.ID, volumes[i])
		}
	}
	return nil
}

// nothing: the clause has no snapshots but n.
func (p *snapProbe) nothing(ctx context.Context, but int) error {
	all, err := p.list(ctx, p.second, nil)
	if err == nil && len(all) != but {
		err = fmt.Errorf("%d snapshots are there, want %d", len(all), but)
	}
	return err
}

func snapGroup(ctx context.Context, p *snapProbe) error {
	volumes, err := p.together(ctx, 3)
	if err != nil {
		return err
	}
	slices.Reverse(volumes)
	snaps, err := p.createGroup(ctx, p.s, volumes, "g")
	if err != nil {
		return err
	}
	for i, snap := range snaps {
		if _, err := p.wait(ctx, p.second, snap); err != nil {
			return err
		}
		if err := p.gives(ctx, snap.Ref, fmt.Sprint("r", i), byte(len(snaps)-i)); err != nil {
			return err
		}
	}
	return p.nothing(ctx, len(snaps))
}

// Two volumes are written to in turn, the same number to each: at one moment
// the second has the number of the first, or the one before.
func snapGroupMoment(ctx context.Context, p *snapProbe) error {
	if err := p.needContent(); err != nil {
		return err
	}
	volumes, err := p.together(ctx, 2)
	if err != nil {
		return err
	}
	write := func(ctx context.Context, n uint64) error {
		for _, v := range volumes {
			content := make([]byte, p.Size)
			binary.BigEndian.PutUint64(content, n)
			if err := p.WriteVolume(ctx, v, content); err != nil {
				return err
			}
		}
		return nil
	}
	if err := write(ctx, 1); err != nil {
		return err
	}
	var last uint64
	writing, stop := context.WithCancel(ctx)
	defer stop()
	begun, done := make(chan struct{}), make(chan error, 1)
	go func() {
		for n := uint64(2); writing.Err() == nil; n++ {
			if err := write(ctx, n); err != nil {
				done <- err
				return
			}
			if last = n; n == 3 {
				close(begun)
			}
		}
		done <- nil
	}()
	select {
	case <-begun:
	case err := <-done:
		return err
	}
	snaps, err := p.createGroup(ctx, p.s, volumes, "g")
	stop()
	if err := errors.Join(err, <-done); err != nil {
		return err
	}
	var seen []uint64
	for i, snap := range snaps {
		if _, err := p.wait(ctx, p.s, snap); err != nil {
			return err
		}
		v, err := p.restored(ctx, p.s, snap.Ref, fmt.Sprint("r", i))
		if err != nil {
			return err
		}
		content, err := p.ReadVolume(ctx, v.ID)
		if err != nil {
			return err
		}
		seen = append(seen, binary.BigEndian.Uint64(content))
	}
	if seen[0] != seen[1] && seen[0] != seen[1]+1 || seen[1] < 3 || seen[0] > last {
		return fmt.Errorf("what was written as number 3 to %d in turn is seen as %d, which were never there together during the call", last, seen)
	}
	return nil
}

func snapGroupToken(ctx context.Context, p *snapProbe) error {
	volumes, err := p.together(ctx, 2)
	if err != nil {
		return err
	}
	first, err := p.createGroup(ctx, p.s, volumes, "g")
	if err != nil {
		return err
	}
	for range 2 { // while they are being made, and when they are Ready
		for _, s := range []provider.Snapshotter{p.s, p.second} {
			slices.Reverse(volumes)
			if err := p.grouped(ctx, s, volumes, "g", first); err != nil {
				return err
			}
		}
		for _, snap := range first {
			if _, err := p.wait(ctx, p.s, snap); err != nil {
				return err
			}
		}
	}
	other, err := p.createGroup(ctx, p.s, volumes, "h")
	if err == nil && (other[0].Ref == first[0].Ref || other[0].Ref == first[1].Ref) {
		err = fmt.Errorf("another Token returns %s, too", other[0].Ref.ID)
	}
	return err
}

func snapGroupTokenRace(ctx context.Context, p *snapProbe) error {
	volumes, err := p.together(ctx, 2)
	if err != nil {
		return err
	}
	var g errgroup.Group
	all := make([][]provider.Snapshot, 6)
	for i := range all {
		g.Go(func() (err error) {
			all[i], err = p.createGroup(ctx, []provider.Snapshotter{p.s, p.second}[i%2], volumes, "g")
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	for _, snaps := range all {
		for i, snap := range snaps {
			if snap.Ref != all[0][i].Ref {
				return fmt.Errorf("one Token made %s and %s of volume %s", all[0][i].Ref.ID, snap.Ref.ID, volumes[i])
			}
		}
	}
	return p.nothing(ctx, len(volumes))
}

func snapGroupTokenVolumes(ctx context.Context, p *snapProbe) error {
	volumes, err := p.together(ctx, 3)
	if err != nil {
		return err
	}
	if _, err := p.createGroup(ctx, p.s, volumes[:2], "g"); err != nil {
		return err
	}
	for _, other := range [][]string{volumes, volumes[:1], volumes[1:]} {
		_, err := p.createGroup(ctx, p.second, other, "g")
		if err := want(err, provider.ErrConflict); err != nil {
			return fmt.Errorf("%d volumes in place of 2: %w", len(other), err)
		}
	}
	return p.nothing(ctx, 2)
}

func snapGroupMissing(ctx context.Context, p *snapProbe) error {
	volumes, err := p.together(ctx, 2)
	if err != nil {
		return err
	}
	if err := p.DeleteVolume(ctx, volumes[1]); err != nil {
		return err
	}
	_, err = p.createGroup(ctx, p.s, volumes, "g")
	if err := want(err, provider.ErrNotFound); err != nil {
		return err
	}
	return p.nothing(ctx, 0)
}

func snapGroupArguments(ctx context.Context, p *snapProbe) error {
	volumes, err := p.together(ctx, 1)
	if err != nil {
		return err
	}
	g, err := p.groups(p.s)
	if err != nil {
		return err
	}
	o := provider.SnapshotOptions{Tags: p.tags()}
	if _, err := g.CreateGroup(ctx, volumes, o); err == nil {
		return errors.New("no Token is accepted")
	}
	o.Token = p.token("g")
	if _, err := g.CreateGroup(ctx, nil, o); err == nil {
		return errors.New("no volumes are accepted")
	}
	if _, err := g.CreateGroup(ctx, append(volumes, volumes[0]), o); err == nil {
		return errors.New("one volume twice is accepted")
	}
	return p.nothing(ctx, 0)
}

func snapGroupDeleted(ctx context.Context, p *snapProbe) error {
	volumes, err := p.together(ctx, 2)
	if err != nil {
		return err
	}
	snaps, err := p.createGroup(ctx, p.s, volumes, "g")
	if err != nil {
		return err
	}
	if err := p.s.Delete(ctx, snaps[0].Ref); err != nil {
		return err
	}
	_, err = p.createGroup(ctx, p.second, volumes, "g")
	if err := want(err, provider.ErrConflict); err != nil {
		return err
	}
	return p.nothing(ctx, 1)
}

func snapGroupContext(ctx context.Context, p *snapProbe) error {
	volumes, err := p.together(ctx, 2)
	if err != nil {
		return err
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	_, err = p.createGroup(ended, p.s, volumes, "g")
	if !errors.Is(err, context.Canceled) {
		return fmt.Errorf("got %v, want %w", err, context.Canceled)
	}
	return p.nothing(ctx, 0)
}
