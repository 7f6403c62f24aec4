package providertest

import (
	"context"
	"errors"
	"fmt"
	"reflect"

	"github.com/holdfast-go/holdfast/provider"
)

var snapListClauses = []snapClause{
	snapSentence("delete", "A deleted snapshot is neither found nor listed; the other snapshots of the volume stay usable.", snapDelete),
	snapSentence("delete-missing", "Delete of a snapshot that is not there is no error.", snapDeleteMissing),
	snapSentence("delete-restored", "Volumes restored or being restored from a deleted snapshot stay usable.", snapDeleteRestored),
	snapSentence("list-tags", "List yields the snapshots that carry all the given tags, and no others.", snapListTags),
	snapSentence("list-order", "List yields snapshots in ascending order of ID, as Get describes them, and can be broken off.", snapListOrder),
}

var snapCopyClauses = []snapClause{
	snapSentence("copy", "CopySnapshot makes a snapshot in the other region that has the content and does not need the first.", snapCopy),
	snapSentence("copy-token", "CopySnapshot with the same Token returns the same copy; with another snapshot it is ErrConflict.", snapCopyToken),
	snapSentence("copy-missing", "CopySnapshot of a snapshot that is not there, or to such a region, is ErrNotFound.", snapCopyMissing),
}

func snapDelete(ctx context.Context, p *snapProbe) error {
	v, a, err := p.ready(ctx, 1)
	if err != nil {
		return err
	}
	b, err := p.create(ctx, p.s, v, "b", nil)
	if err != nil {
		return err
	}
	if b, err = p.wait(ctx, p.s, b); err != nil {
		return err
	}
	if err := p.s.Delete(ctx, a.Ref); err != nil {
		return err
	}
	_, err = p.second.Get(ctx, a.Ref)
	if err := want(err, provider.ErrNotFound); err != nil {
		return err
	}
	if err := p.listed(ctx, b.Ref); err != nil {
		return err
	}
	return p.gives(ctx, b.Ref, "r", 1)
}

func snapDeleteMissing(ctx context.Context, p *snapProbe) error {
	ref, err := p.gone(ctx)
	if err != nil {
		return err
	}
	for _, s := range []provider.Snapshotter{p.s, p.second} {
		if err := s.Delete(ctx, ref); err != nil {
			return err
		}
	}
	return nil
}

func snapDeleteRestored(ctx context.Context, p *snapProbe) error {
	_, snap, err := p.ready(ctx, 1)
	if err != nil {
		return err
	}
	done, err := p.restored(ctx, p.s, snap.Ref, "done")
	if err != nil {
		return err
	}
	pending, err := p.restore(ctx, p.s, snap.Ref, "pending")
	if err != nil {
		return err
	}
	if err := p.s.Delete(ctx, snap.Ref); err != nil {
		return err
	}
	if _, err := p.restored(ctx, p.s, snap.Ref, "pending"); err != nil {
		return fmt.Errorf("restored while the snapshot was deleted: %w", err)
	}
	return errors.Join(p.holds(ctx, done.ID, p.content(1)), p.holds(ctx, pending.ID, p.content(1)))
}

func snapListTags(ctx context.Context, p *snapProbe) error {
	v, err := p.volume(ctx, 1)
	if err != nil {
		return err
	}
	for token, tags := range map[string]map[string]string{
		"a": {"color": "red", "size": "big"}, "b": {"color": "red"}, "c": {"color": "blue", "size": "big"}, "d": nil,
	} {
		if _, err := p.create(ctx, p.s, v, token, tags); err != nil {
			return err
		}
	}
	for _, q := range []struct {
		tags map[string]string
		n    int
	}{
		{nil, 4}, {map[string]string{"color": "red"}, 2}, {map[string]string{"size": "big"}, 2},
		{map[string]string{"color": "red", "size": "big"}, 1}, {map[string]string{"color": "green"}, 0},
		{map[string]string{"color": ""}, 0}, {map[string]string{"colo": "red"}, 0},
	} {
		all, err := p.list(ctx, p.second, q.tags)
		if err != nil {
			return err
		}
		if len(all) != q.n {
			return fmt.Errorf("%d snapshots with the tags %v, want %d", len(all), q.tags, q.n)
		}
		for _, snap := range all {
			for k, v := range q.tags {
				if snap.Tags[k] != v {
					return fmt.Errorf("asked for %v, got one with the tags %v", q.tags, snap.Tags)
				}
			}
		}
	}
	return nil
}

func snapListOrder(ctx context.Context, p *snapProbe) error {
	v, err := p.volume(ctx, 1)
	if err != nil {
		return err
	}
	for i := range 6 {
		snap, err := p.create(ctx, p.s, v, fmt.Sprint(i), nil)
		if err != nil {
			return err
		}
		if _, err := p.wait(ctx, p.s, snap); err != nil {
			return err
		}
	}
	all, err := p.list(ctx, p.s, nil)
	if err != nil {
		return err
	}
	if len(all) != 6 {
		return fmt.Errorf("%d snapshots are listed, want 6", len(all))
	}
	for i, snap := range all {
		if i > 0 && snap.Ref.ID <= all[i-1].Ref.ID {
			return fmt.Errorf("%s is listed after %s", snap.Ref.ID, all[i-1].Ref.ID)
		}
		got, err := p.s.Get(ctx, snap.Ref)
		if err != nil {
			return err
		}
		if !reflect.DeepEqual(got, snap) {
			return fmt.Errorf("listed as %+v, while Get says %+v", snap, got)
		}
	}
	for snap, err := range p.s.List(ctx, p.tags()) {
		if err != nil || snap.Ref != all[0].Ref {
			return fmt.Errorf("first of a second listing: %s, %w", snap.Ref.ID, err)
		}
		break
	}
	return nil
}

// copier is the optional power, and the Snapshotter of the other region.
func (p *snapProbe) copier() (provider.SnapshotCopier, provider.Snapshotter, error) {
	c, ok := provider.As[provider.SnapshotCopier](p.s)
	if !ok {
		return nil, nil, &unsupportedError{fmt.Errorf("no provider.SnapshotCopier: %w", errors.ErrUnsupported)}
	}
	if p.Region == "" || p.InRegion == nil {
		return nil, nil, &skippedError{"needs SnapshotterOptions.Region and InRegion"}
	}
	other, err := p.InRegion()
	if err != nil {
		return nil, nil, fmt.Errorf("open the Snapshotter of %s: %w", p.Region, err)
	}
	p.others = append(p.others, other)
	return c, other, nil
}

func (p *snapProbe) copyTo(ctx context.Context, c provider.SnapshotCopier, ref provider.SnapshotRef, region, token string) (provider.Snapshot, error) {
	snap, err := c.CopySnapshot(ctx, ref, region, provider.SnapshotOptions{Token: p.token(token), Tags: p.tags()})
	if err == nil {
		p.trackRef(snap.Ref)
	}
	return snap, err
}

func snapCopy(ctx context.Context, p *snapProbe) error {
	c, other, err := p.copier()
	if err != nil {
		return err
	}
	_, snap, err := p.ready(ctx, 1)
	if err != nil {
		return err
	}
	copied, err := p.copyTo(ctx, c, snap.Ref, p.Region, "c")
	if err != nil {
		return err
	}
	if copied.Ref.Region != p.Region || copied.Volume != snap.Volume {
		return fmt.Errorf("the copy is %+v, want it in %s and of volume %s", copied, p.Region, snap.Volume)
	}
	if _, err := p.wait(ctx, other, copied); err != nil {
		return err
	}
	if err := p.s.Delete(ctx, snap.Ref); err != nil {
		return err
	}
	v, err := p.restored(ctx, other, copied.Ref, "r")
	if err != nil {
		return err
	}
	return p.holds(ctx, v.ID, p.content(1))
}

func snapCopyToken(ctx context.Context, p *snapProbe) error {
	c, other, err := p.copier()
	if err != nil {
		return err
	}
	_, a, err := p.ready(ctx, 1)
	if err != nil {
		return err
	}
	_, b, err := p.ready(ctx, 2)
	if err != nil {
		return err
	}
	first, err := p.copyTo(ctx, c, a.Ref, p.Region, "c")
	if err != nil {
		return err
	}
	for range 2 { // while it is being copied, and when it is Ready
		again, err := p.copyTo(ctx, c, a.Ref, p.Region, "c")
		if err != nil {
			return err
		}
		if again.Ref != first.Ref {
			return fmt.Errorf("one Token made the copies %s and %s", first.Ref.ID, again.Ref.ID)
		}
		if _, err := p.wait(ctx, other, first); err != nil {
			return err
		}
	}
	_, err = p.copyTo(ctx, c, b.Ref, p.Region, "c")
	return want(err, provider.ErrConflict)
}

func snapCopyMissing(ctx context.Context, p *snapProbe) error {
	c, _, err := p.copier()
	if err != nil {
		return err
	}
	ref, err := p.gone(ctx)
	if err != nil {
		return err
	}
	_, err = p.copyTo(ctx, c, ref, p.Region, "c")
	if err := want(err, provider.ErrNotFound); err != nil {
		return fmt.Errorf("copy of a deleted snapshot: %w", err)
	}
	_, snap, err := p.ready(ctx, 1)
	if err != nil {
		return err
	}
	_, err = p.copyTo(ctx, c, snap.Ref, p.Region+"-that-is-not-there", "d")
	if err := want(err, provider.ErrNotFound); err != nil {
		return fmt.Errorf("copy to a region that is not there: %w", err)
	}
	return nil
}
