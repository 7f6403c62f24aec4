package providertest

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/holdfast-go/holdfast/provider"
)

var snapShareClauses = []snapClause{
	snapSentence("share", "Share lets others use a snapshot, again without error, until Unshare takes it back from them alone.", snapShare),
	snapSentence("share-nobody", "Share and Unshare with nobody, and Share with everybody, are errors and change nothing.", snapShareNobody),
	snapSentence("share-missing", "Share and Unshare of a snapshot that is not there are ErrNotFound.", snapShareMissing),
}

// shared makes a snapshot to share.
func (p *snapProbe) shared(ctx context.Context) (provider.SnapshotSharer, provider.SnapshotRef, error) {
	sharer, ok := provider.As[provider.SnapshotSharer](p.s)
	switch {
	case !ok:
		return nil, provider.SnapshotRef{}, &unsupportedError{errors.New("the Snapshotter is no provider.SnapshotSharer")}
	case len(p.Others) < 2 || p.SharedWith == nil:
		return nil, provider.SnapshotRef{}, &skippedError{"needs SnapshotterOptions.Others and SharedWith"}
	}
	_, snap, err := p.ready(ctx, 1)
	return sharer, snap.Ref, err
}

// sharedWith: those may use the snapshot, and no others of p.Others.
func (p *snapProbe) sharedWith(ctx context.Context, ref provider.SnapshotRef, want ...string) error {
	all, err := p.SharedWith(ctx, ref)
	if err != nil {
		return err
	}
	slices.Sort(all)
	slices.Sort(want)
	if !slices.Equal(all, want) {
		return fmt.Errorf("the snapshot is shared with %q, want %q", all, want)
	}
	return nil
}

func snapShare(ctx context.Context, p *snapProbe) error {
	s, ref, err := p.shared(ctx)
	if err != nil {
		return err
	}
	a, b := p.Others[0], p.Others[1]
	for _, step := range []struct {
		what string
		do   func(context.Context, provider.SnapshotRef, ...string) error
		with []string
		want []string
	}{
		{"share", s.Share, []string{a}, []string{a}},
		{"share with another", s.Share, []string{b}, []string{a, b}},
		{"share again with both", s.Share, []string{a, b}, []string{a, b}},
		{"unshare", s.Unshare, []string{a}, []string{b}},
		{"unshare again", s.Unshare, []string{a}, []string{b}},
		{"unshare the last", s.Unshare, []string{b}, nil},
	} {
		if err := step.do(ctx, ref, step.with...); err != nil {
			return fmt.Errorf("%s: %w", step.what, err)
		}
		if err := p.sharedWith(ctx, ref, step.want...); err != nil {
			return fmt.Errorf("%s: %w", step.what, err)
		}
	}
	return nil
}

func snapShareNobody(ctx context.Context, p *snapProbe) error {
	s, ref, err := p.shared(ctx)
	if err != nil {
		return err
	}
	a := p.Others[0]
	if err := s.Share(ctx, ref, a); err != nil {
		return err
	}
	if err := s.Share(ctx, ref); err == nil {
		return errors.New("sharing with nobody is accepted")
	}
	if err := s.Unshare(ctx, ref); err == nil {
		return errors.New("taking back from nobody is accepted")
	}
	for _, all := range []string{"", "*", "all", "allUsers", "allAuthenticatedUsers"} {
		if err := s.Share(ctx, ref, p.Others[1], all); err == nil {
			return fmt.Errorf("sharing with %q is accepted", all)
		}
	}
	return p.sharedWith(ctx, ref, a)
}

func snapShareMissing(ctx context.Context, p *snapProbe) error {
	s, ref, err := p.shared(ctx)
	if err != nil {
		return err
	}
	if err := p.s.Delete(ctx, ref); err != nil {
		return err
	}
	for _, do := range []func(context.Context, provider.SnapshotRef, ...string) error{s.Share, s.Unshare} {
		if err := want(do(ctx, ref, p.Others[0]), provider.ErrNotFound); err != nil {
			return err
		}
	}
	return nil
}
