package providertest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/holdfast-go/holdfast/provider"
)

var snapCreateClauses = []snapClause{
	snapSentence("create", "Create begins a snapshot, whose Ref, volume, tags and time stay the same and which becomes Ready.", snapCreate),
	snapSentence("token", "Create with the same Token returns the same snapshot, at any time and through any handle.", snapToken),
	snapSentence("token-race", "Racing Creates with one Token begin one snapshot.", snapTokenRace),
	snapSentence("token-volume", "Create with a Token that was used for another volume is ErrConflict.", snapTokenVolume),
	snapSentence("token-missing", "Create and Restore without a Token are errors and make nothing.", snapTokenMissing),
	snapSentence("volume-missing", "Create of a volume that is not there is ErrNotFound and makes nothing.", snapVolumeMissing),
	snapSentence("frozen", "A Ready snapshot keeps its content, whatever is written to the volume or becomes of it.", snapFrozen),
	snapSentence("get-missing", "Get of a snapshot that is not there is ErrNotFound.", snapGetMissing),
	snapSentence("error-type", "Errors are *provider.Error with Op, Provider and Key.", snapErrorType),
	snapSentence("context", "A call whose ctx has ended makes nothing and fails with an error that matches ctx.Err().", snapContext),
}

var snapRestoreClauses = []snapClause{
	snapSentence("restore", "Restore makes a new volume with the whole content, once the snapshot is Ready.", snapRestore),
	snapSentence("restore-token", "Restore with the same Token returns the same volume, through any handle, and racing ones make one.", snapRestoreToken),
	snapSentence("restore-token-ref", "Restore with a Token that was used for another snapshot is ErrConflict.", snapRestoreTokenRef),
	snapSentence("restore-once", "Asking again for a restored volume does not restore it again: what was written to it stays.", snapRestoreOnce),
	snapSentence("restore-apart", "Restore never touches an existing volume: neither the one of the snapshot nor an earlier restored one.", snapRestoreApart),
	snapSentence("restore-missing", "Restore of a snapshot that is not there is ErrNotFound.", snapRestoreMissing),
	snapSentence("restore-pending", "Restore of a snapshot that is not Ready is ErrConflict.", snapRestorePending),
}

func snapCreate(ctx context.Context, p *snapProbe) error {
	v, err := p.volume(ctx, 1)
	if err != nil {
		return err
	}
	before := time.Now()
	snap, err := p.create(ctx, p.s, v, "x", map[string]string{"more": "a b=c"})
	if err != nil {
		return err
	}
	tags := p.tags()
	tags["more"] = "a b=c"
	switch {
	case snap.Ref.Provider == "" || snap.Ref.Region == "" || snap.Ref.ID == "":
		return fmt.Errorf("reference %+v is not complete", snap.Ref)
	case snap.Volume != v:
		return fmt.Errorf("snapshot is of volume %q, want %q", snap.Volume, v)
	case !maps.Equal(snap.Tags, tags):
		return fmt.Errorf("tags are %v, want %v", snap.Tags, tags)
	case snap.Created.Sub(before).Abs() > 24*time.Hour || snap.Created.Location() != time.UTC:
		return fmt.Errorf("created at %v, and it is %v UTC", snap.Created, before.UTC())
	}
	if err := checkProgress(snap.State, snap.Progress, snap.Reason); err != nil {
		return err
	}
	_, err = p.wait(ctx, p.s, snap)
	return err
}

func snapToken(ctx context.Context, p *snapProbe) error {
	v, err := p.volume(ctx, 1)
	if err != nil {
		return err
	}
	first, err := p.create(ctx, p.s, v, "x", nil)
	if err != nil {
		return err
	}
	again := func(when string) error {
		for _, s := range []provider.Snapshotter{p.s, p.second} {
			snap, err := p.create(ctx, s, v, "x", nil)
			if err != nil {
				return fmt.Errorf("again, %s: %w", when, err)
			}
			if snap.Ref != first.Ref || !snap.Created.Equal(first.Created) {
				return fmt.Errorf("again, %s: snapshot %s, want %s", when, snap.Ref.ID, first.Ref.ID)
			}
		}
		return nil
	}
	if err := again("at once"); err != nil {
		return err
	}
	if _, err := p.wait(ctx, p.second, first); err != nil {
		return err
	}
	if err := again("when it is ready"); err != nil {
		return err
	}
	return p.listed(ctx, first.Ref)
}

// listed checks that exactly these snapshots have the tags of the clause.
func (p *snapProbe) listed(ctx context.Context, refs ...provider.SnapshotRef) error {
	for _, s := range []provider.Snapshotter{p.s, p.second} {
		all, err := p.list(ctx, s, nil)
		if err != nil {
			return err
		}
		var got, want []string
		for _, snap := range all {
			got = append(got, snap.Ref.ID)
		}
		for _, ref := range refs {
			want = append(want, ref.ID)
		}
		slices.Sort(want)
		if !slices.Equal(got, want) {
			return fmt.Errorf("listed are %q, want %q", got, want)
		}
	}
	return nil
}

func snapTokenRace(ctx context.Context, p *snapProbe) error {
	v, err := p.volume(ctx, 1)
	if err != nil {
		return err
	}
	refs := make([]provider.SnapshotRef, 8)
	start := make(chan struct{})
	var g errgroup.Group
	for i := range refs {
		s := p.s
		if i%2 == 1 {
			s = p.second
		}
		g.Go(func() error {
			<-start
			snap, err := p.create(ctx, s, v, "x", nil)
			refs[i] = snap.Ref
			return err
		})
	}
	close(start)
	if err := g.Wait(); err != nil {
		return err
	}
	for _, ref := range refs {
		if ref != refs[0] {
			return fmt.Errorf("one Token began %s and %s", ref.ID, refs[0].ID)
		}
	}
	return p.listed(ctx, refs[0])
}

func snapTokenVolume(ctx context.Context, p *snapProbe) error {
	v, err := p.volume(ctx, 1)
	if err != nil {
		return err
	}
	w, err := p.volume(ctx, 2)
	if err != nil {
		return err
	}
	snap, err := p.create(ctx, p.s, v, "x", nil)
	if err != nil {
		return err
	}
	_, err = p.create(ctx, p.second, w, "x", nil)
	if err := want(err, provider.ErrConflict); err != nil {
		return err
	}
	return p.listed(ctx, snap.Ref)
}

func snapTokenMissing(ctx context.Context, p *snapProbe) error {
	v, snap, err := p.ready(ctx, 1)
	if err != nil {
		return err
	}
	if other, err := p.s.Create(ctx, v, provider.SnapshotOptions{Tags: p.tags()}); err == nil {
		p.trackRef(other.Ref)
		return errors.New("create without a Token is accepted")
	}
	if other, err := p.s.Restore(ctx, snap.Ref, provider.RestoreOptions{}); err == nil {
		p.trackVolume(other.ID)
		return errors.New("restore without a Token is accepted")
	}
	return p.listed(ctx, snap.Ref)
}

func snapVolumeMissing(ctx context.Context, p *snapProbe) error {
	v, err := p.volume(ctx, 1)
	if err != nil {
		return err
	}
	if err := p.DeleteVolume(ctx, v); err != nil { // an ID of the right form
		return err
	}
	_, err = p.create(ctx, p.s, v, "x", nil)
	if err := want(err, provider.ErrNotFound); err != nil {
		return err
	}
	return p.listed(ctx)
}

func snapFrozen(ctx context.Context, p *snapProbe) error {
	if err := p.needContent(); err != nil {
		return err
	}
	v, snap, err := p.ready(ctx, 1)
	if err != nil {
		return err
	}
	if err := p.WriteVolume(ctx, v, p.content(2)); err != nil {
		return err
	}
	if err := p.gives(ctx, snap.Ref, "a", 1); err != nil {
		return fmt.Errorf("after the volume was written to: %w", err)
	}
	if err := p.DeleteVolume(ctx, v); err != nil {
		return err
	}
	if err := p.gives(ctx, snap.Ref, "b", 1); err != nil {
		return fmt.Errorf("after the volume was deleted: %w", err)
	}
	return nil
}

// gives restores a snapshot and checks the content.
func (p *snapProbe) gives(ctx context.Context, ref provider.SnapshotRef, token string, seed byte) error {
	v, err := p.restored(ctx, p.s, ref, token)
	if err != nil {
		return err
	}
	return p.holds(ctx, v.ID, p.content(seed))
}

// gone is a reference of the right form to a snapshot that is not there.
func (p *snapProbe) gone(ctx context.Context) (provider.SnapshotRef, error) {
	_, snap, err := p.ready(ctx, 9)
	if err == nil {
		err = p.s.Delete(ctx, snap.Ref)
	}
	return snap.Ref, err
}

func snapGetMissing(ctx context.Context, p *snapProbe) error {
	ref, err := p.gone(ctx)
	if err != nil {
		return err
	}
	for _, s := range []provider.Snapshotter{p.s, p.second} {
		_, err = s.Get(ctx, ref)
		if err := want(err, provider.ErrNotFound); err != nil {
			return err
		}
	}
	return nil
}

func snapErrorType(ctx context.Context, p *snapProbe) error {
	ref, err := p.gone(ctx)
	if err != nil {
		return err
	}
	v, err := p.volume(ctx, 1)
	if err == nil {
		err = p.DeleteVolume(ctx, v)
	}
	if err != nil {
		return err
	}
	_, getErr := p.s.Get(ctx, ref)
	_, createErr := p.create(ctx, p.s, v, "x", nil)
	_, restoreErr := p.restore(ctx, p.s, ref, "x")
	for _, err := range []error{getErr, createErr, restoreErr} {
		pe, ok := errors.AsType[*provider.Error](err)
		if !ok {
			return fmt.Errorf("%T (%v) has no *provider.Error in it", err, err)
		}
		if pe.Op == "" || pe.Provider == "" || pe.Key == "" {
			return fmt.Errorf("%#v lacks Op, Provider or Key", pe)
		}
	}
	return nil
}

func snapContext(ctx context.Context, p *snapProbe) error {
	v, snap, err := p.ready(ctx, 1)
	if err != nil {
		return err
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	_, createErr := p.create(ended, p.s, v, "x", nil)
	_, restoreErr := p.restore(ended, p.s, snap.Ref, "x")
	_, getErr := p.s.Get(ended, snap.Ref)
	_, listErr := p.list(ended, p.s, nil)
	for i, err := range []error{createErr, restoreErr, getErr, listErr, p.s.Delete(ended, snap.Ref)} {
		if err := want(err, context.Canceled); err != nil {
			return fmt.Errorf("call %d: %w", i, err)
		}
	}
	return p.listed(ctx, snap.Ref)
}

func snapRestore(ctx context.Context, p *snapProbe) error {
	v, err := p.volume(ctx, 1)
	if err != nil {
		return err
	}
	snap, err := p.create(ctx, p.s, v, "x", nil)
	if err != nil {
		return err
	}
	// Whoever learns that it is Ready can rely on it at that very moment.
	err = p.poll(ctx, "snapshot", func() (provider.State, error) {
		all, err := p.list(ctx, p.second, nil)
		if err == nil && len(all) != 1 {
			err = fmt.Errorf("%d snapshots are listed, want 1", len(all))
		}
		if err != nil {
			return "", err
		}
		return all[0].State, nil
	})
	if err != nil {
		return err
	}
	vol, err := p.restored(ctx, p.s, snap.Ref, "r")
	if err != nil {
		return err
	}
	if vol.ID == "" || vol.ID == v {
		return fmt.Errorf("the restored volume is %q, and the volume was %q", vol.ID, v)
	}
	if !maps.Equal(vol.Tags, p.tags()) {
		return fmt.Errorf("tags are %v, want %v", vol.Tags, p.tags())
	}
	return p.holds(ctx, vol.ID, p.content(1))
}

func snapRestoreToken(ctx context.Context, p *snapProbe) error {
	_, snap, err := p.ready(ctx, 1)
	if err != nil {
		return err
	}
	ids := make([]string, 8)
	start := make(chan struct{})
	var g errgroup.Group
	for i := range ids {
		s := p.s
		if i%2 == 1 {
			s = p.second
		}
		g.Go(func() error {
			<-start
			v, err := p.restore(ctx, s, snap.Ref, "r")
			ids[i] = v.ID
			return err
		})
	}
	close(start)
	if err := g.Wait(); err != nil {
		return err
	}
	for _, s := range []provider.Snapshotter{p.s, p.second} {
		v, err := p.restored(ctx, s, snap.Ref, "r")
		if err != nil {
			return err
		}
		ids = append(ids, v.ID)
	}
	for _, id := range ids {
		if id != ids[0] {
			return fmt.Errorf("one Token made the volumes %s and %s", ids[0], id)
		}
	}
	other, err := p.restored(ctx, p.s, snap.Ref, "another")
	if err == nil && other.ID == ids[0] {
		return errors.New("another Token returned the same volume")
	}
	return err
}

func snapRestoreTokenRef(ctx context.Context, p *snapProbe) error {
	_, a, err := p.ready(ctx, 1)
	if err != nil {
		return err
	}
	_, b, err := p.ready(ctx, 2)
	if err != nil {
		return err
	}
	v, err := p.restored(ctx, p.s, a.Ref, "r")
	if err != nil {
		return err
	}
	_, err = p.restore(ctx, p.second, b.Ref, "r")
	if err := want(err, provider.ErrConflict); err != nil {
		return err
	}
	return p.holds(ctx, v.ID, p.content(1))
}

func snapRestoreOnce(ctx context.Context, p *snapProbe) error {
	if err := p.needContent(); err != nil {
		return err
	}
	_, snap, err := p.ready(ctx, 1)
	if err != nil {
		return err
	}
	v, err := p.restored(ctx, p.s, snap.Ref, "r")
	if err != nil {
		return err
	}
	if err := p.WriteVolume(ctx, v.ID, p.content(2)); err != nil {
		return err
	}
	for _, s := range []provider.Snapshotter{p.s, p.second} {
		if _, err := p.restored(ctx, s, snap.Ref, "r"); err != nil {
			return err
		}
	}
	return p.holds(ctx, v.ID, p.content(2))
}

func snapRestoreApart(ctx context.Context, p *snapProbe) error {
	if err := p.needContent(); err != nil {
		return err
	}
	v, snap, err := p.ready(ctx, 1)
	if err != nil {
		return err
	}
	first, err := p.restored(ctx, p.s, snap.Ref, "first")
	if err != nil {
		return err
	}
	if err := errors.Join(p.WriteVolume(ctx, v, p.content(2)), p.WriteVolume(ctx, first.ID, p.content(3))); err != nil {
		return err
	}
	second, err := p.restored(ctx, p.s, snap.Ref, "second")
	if err != nil {
		return err
	}
	return errors.Join(p.holds(ctx, v, p.content(2)), p.holds(ctx, first.ID, p.content(3)), p.holds(ctx, second.ID, p.content(1)))
}

func snapRestoreMissing(ctx context.Context, p *snapProbe) error {
	ref, err := p.gone(ctx)
	if err != nil {
		return err
	}
	_, err = p.restore(ctx, p.s, ref, "r")
	return want(err, provider.ErrNotFound)
}

func snapRestorePending(ctx context.Context, p *snapProbe) error {
	v, err := p.volume(ctx, 1)
	if err != nil {
		return err
	}
	snap, err := p.create(ctx, p.s, v, "x", nil)
	if err != nil {
		return err
	}
	if _, err := p.restore(ctx, p.s, snap.Ref, "r"); err != nil {
		if err := want(err, provider.ErrConflict); err != nil {
			return err
		}
	} else if now, err := p.s.Get(ctx, snap.Ref); err != nil || now.State != provider.Ready {
		return fmt.Errorf("a snapshot that is %s was restored (%v)", now.State, err)
	}
	if _, err := p.wait(ctx, p.s, snap); err != nil {
		return err
	}
	return p.gives(ctx, snap.Ref, "r", 1) // a refusal binds nothing to the Token
}
