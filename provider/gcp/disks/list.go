package disks

import (
	"cmp"
	"context"
	"errors"
	"iter"
	"slices"

	"google.golang.org/api/compute/v1"

	"github.com/holdfast-go/holdfast/provider"
)

// List implements [provider.Snapshotter]: the snapshots of the project that are
// stored in Config.Location. All are asked for before the first is yielded.
func (s *Snapshots) List(ctx context.Context, tags map[string]string) iter.Seq2[provider.Snapshot, error] {
	return func(yield func(provider.Snapshot, error) bool) {
		found, err := s.list(ctx, tags)
		if err != nil {
			yield(provider.Snapshot{}, wrap(ctx, "snapshot list", s.c.Location, err))
			return
		}
		slices.SortFunc(found, func(a, b provider.Snapshot) int { return cmp.Compare(a.Ref.ID, b.Ref.ID) })
		for _, snap := range found {
			if !yield(snap, nil) {
				return
			}
		}
	}
}

func (s *Snapshots) list(ctx context.Context, tags map[string]string) (found []provider.Snapshot, err error) {
	all, err := s.labelled(ctx, labels(tags))
	for _, held := range all {
		if snap := s.snapshot(held); snap.Ref.Region == s.c.Location && has(snap.Tags, tags) {
			found = append(found, snap)
		}
	}
	return found, err
}

// labelled are the snapshots of the project that have all the labels.
func (s *Snapshots) labelled(ctx context.Context, labels map[string]string) (found []*compute.Snapshot, err error) {
	for token := ""; ; {
		page, err := ask(ctx, s, func(ctx context.Context) (*compute.SnapshotList, error) {
			call := s.client.Snapshots.List(s.c.Project).MaxResults(500)
			if len(labels) > 0 {
				call.Filter(filter(labels))
			}
			if token != "" {
				call.PageToken(token)
			}
			return call.Context(ctx).Do()
		})
		if err != nil {
			return nil, err
		}
		for _, held := range page.Items {
			if held.Status != "DELETING" {
				found = append(found, held)
			}
		}
		if token = page.NextPageToken; token == "" {
			return found, nil
		}
	}
}

// Delete implements [provider.Snapshotter].
func (s *Snapshots) Delete(ctx context.Context, ref provider.SnapshotRef) error {
	err := s.delete(ctx, ref)
	if errors.Is(err, provider.ErrNotFound) || notFound(err) {
		return nil
	}
	return wrap(ctx, "snapshot delete", ref.ID, err)
}

// delete returns when the snapshot is no longer found, or its deletion failed.
func (s *Snapshots) delete(ctx context.Context, ref provider.SnapshotRef) error {
	held, err := s.find(ctx, ref)
	if err != nil {
		return err
	}
	id := requestID() // the same for all attempts
	op, err := ask(ctx, s, func(ctx context.Context) (*compute.Operation, error) {
		return s.client.Snapshots.Delete(s.c.Project, ref.ID).RequestId(id).Context(ctx).Do()
	})
	if err != nil {
		return err
	}
	if err := s.end(ctx, op); err != nil {
		return err
	}
	s.drop(ctx, held) // of a copy or a group that was given up
	return nil
}
