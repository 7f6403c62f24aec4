package disks

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"google.golang.org/api/compute/v1"

	"github.com/holdfast-go/holdfast/provider/gcp/internal/conn"
)

const maxGroup = 128 // disks of a policy

func id(n uint64) string { return strconv.FormatUint(n, 10) }

// instant is the instant group to make.
func (g *grouping) instant() (*compute.InstantSnapshotGroup, error) {
	text, _, err := record{Group: &group{Name: g.name, Volumes: g.of, Size: len(g.volumes)}, Tags: g.tags}.write()
	return &compute.InstantSnapshotGroup{Name: g.name, Description: text}, err
}

// member is the snapshot to make of an instant one.
func (g *grouping) member(i int, instant *compute.InstantSnapshotGroup, volume string, of *compute.InstantSnapshot) (*compute.Snapshot, error) {
	text, labels, err := record{Volume: volume, Tags: g.tags, Group: &group{
		Name: g.name, Volumes: g.of, Size: len(g.volumes), Moment: id(instant.Id), Instant: id(of.Id),
	}}.write()
	return &compute.Snapshot{Name: g.nameOf(i), Description: text, Labels: labels}, err
}

// instantGroup returns the instant group of a name, or nil. One that is being
// deleted it waits for.
func (s *Snapshots) instantGroup(ctx context.Context, zone, name string) (*compute.InstantSnapshotGroup, error) {
	for {
		held, err := ask(ctx, s, func(ctx context.Context) (*compute.InstantSnapshotGroup, error) {
			return s.client.InstantSnapshotGroups.Get(s.c.Project, zone, name).Context(ctx).Do()
		})
		switch {
		case notFound(err):
			return nil, nil
		case err != nil:
			return nil, err
		case held.Status != "DELETING":
			return held, nil
		}
		if err := s.pause(ctx); err != nil {
			return nil, err
		}
	}
}

// freeze makes the instant group: this is the moment.
func (s *Snapshots) freeze(ctx context.Context, g *grouping, policy string) error {
	wanted, err := g.instant()
	if err != nil {
		return err
	}
	wanted.SourceConsistencyGroup = "projects/" + s.c.Project + "/" + policy
	request := requestID() // the same for all attempts
	op, err := ask(ctx, s, func(ctx context.Context) (*compute.Operation, error) {
		return s.client.InstantSnapshotGroups.Insert(s.c.Project, g.zone, wanted).RequestId(request).Context(ctx).Do()
	})
	if err == nil || exists(err) {
		_, err = s.settled(ctx, g, op)
	}
	if err != nil {
		return &vanished{"freeze the disks of " + policy, err}
	}
	return nil
}

// settled waits until the instant group is whole. One that will never be is
// deleted.
func (s *Snapshots) settled(ctx context.Context, g *grouping, op *compute.Operation) (*compute.InstantSnapshotGroup, error) {
	return await(ctx, s, "instant snapshot group "+g.name, op, func(ctx context.Context) (*compute.InstantSnapshotGroup, bool, error) {
		held, err := s.instantGroup(ctx, g.zone, g.name)
		if held != nil && (held.Status == "FAILED" || held.Status == "INVALID") {
			err = s.unusable(ctx, g, held, "it is "+held.Status)
		}
		return held, held != nil && held.Status == "READY", err
	})
}

// instants are the instant snapshots of the group, by volume, when all are whole.
func (s *Snapshots) instants(ctx context.Context, g *grouping, group *compute.InstantSnapshotGroup) (map[string]*compute.InstantSnapshot, error) {
	for {
		of, err := s.instantsNow(ctx, g.zone, group)
		if err != nil {
			return nil, err
		}
		creating := false
		for _, v := range g.volumes {
			switch one := of[v]; {
			case one == nil:
				return nil, s.unusable(ctx, g, group, "it has no instant snapshot of "+v+", which has lost the policy meanwhile")
			case one.Status == "CREATING":
				creating = true
			case one.Status != "READY":
				return nil, s.unusable(ctx, g, group, "its instant snapshot of "+v+" is "+one.Status)
			}
		}
		if !creating {
			return of, nil
		}
		if err := s.pause(ctx); err != nil {
			return nil, err
		}
	}
}

func (s *Snapshots) instantsNow(ctx context.Context, zone string, group *compute.InstantSnapshotGroup) (map[string]*compute.InstantSnapshot, error) {
	found := map[string]*compute.InstantSnapshot{}
	for token := ""; ; {
		page, err := ask(ctx, s, func(ctx context.Context) (*compute.InstantSnapshotList, error) {
			return s.client.InstantSnapshots.List(s.c.Project, zone).MaxResults(500).PageToken(token).Context(ctx).Do()
		})
		if err != nil {
			return nil, err
		}
		for _, one := range page.Items {
			of := one.SourceInstantSnapshotGroupId
			if short(one.SourceInstantSnapshotGroup) == "zones/"+zone+"/instantSnapshotGroups/"+group.Name && (of == "" || of == id(group.Id)) {
				found[short(one.SourceDisk)] = one
			}
		}
		if token = page.NextPageToken; token == "" {
			return found, nil
		}
	}
}

// unusable deletes an instant group of which no snapshots are to be made.
func (s *Snapshots) unusable(ctx context.Context, g *grouping, group *compute.InstantSnapshotGroup, why string) error {
	switch now, err := s.instantGroup(ctx, g.zone, g.name); {
	case err != nil:
		return err
	case now == nil || now.Id != group.Id:
		return &unseenError{"the instant snapshot group " + g.name}
	}
	if err := s.melt(ctx, g.zone, group); err != nil {
		return err
	}
	return fmt.Errorf("the instant snapshot group %s was made and deleted, since %s: call again", g.name, why)
}

// melt deletes an instant group.
func (s *Snapshots) melt(ctx context.Context, zone string, group *compute.InstantSnapshotGroup) error {
	request := requestID() // the same for all attempts
	op, err := ask(ctx, s, func(ctx context.Context) (*compute.Operation, error) {
		return s.client.InstantSnapshotGroups.Delete(s.c.Project, zone, group.Name).RequestId(request).Context(ctx).Do()
	})
	if err == nil {
		err = s.end(ctx, op)
	}
	if err == nil || notFound(err) {
		return nil
	}
	return fmt.Errorf("delete the instant snapshot group %s in %s: %w", group.Name, zone, err)
}

// A snapshot of a group is marked when all have been begun: from then on one that
// is not there has been deleted.
const (
	labelGroup = "holdfast-group"
	labelWhole = "holdfast-whole"
)

func marked(held *compute.Snapshot) bool { _, ok := held.Labels[labelWhole]; return ok }

// mark marks all of a group, so that it is known by any of them.
func (s *Snapshots) mark(ctx context.Context, held []*compute.Snapshot) error {
	var ops []*compute.Operation
	for _, one := range held {
		for !marked(one) {
			labels := map[string]string{labelWhole: ""}
			for k, v := range one.Labels {
				labels[k] = v
			}
			op, err := ask(ctx, s, func(ctx context.Context) (*compute.Operation, error) {
				return s.client.Snapshots.SetLabels(s.c.Project, one.Name, &compute.GlobalSetLabelsRequest{Labels: labels, LabelFingerprint: one.LabelFingerprint}).Context(ctx).Do()
			})
			if err == nil {
				ops = append(ops, op)
				break
			}
			if conn.StatusOf(err) != http.StatusPreconditionFailed {
				return &vanished{"mark snapshot " + one.Name, err}
			}
			// Another call has, or an attempt of ours whose answer was lost.
			if one, err = s.frozen(ctx, one.Name, nil); err != nil {
				return err
			}
			if err := s.pause(ctx); err != nil {
				return err
			}
		}
	}
	for _, op := range ops {
		if err := s.end(ctx, op); err != nil {
			return &vanished{"mark the snapshots", err}
		}
	}
	return nil
}

// dropInstant deletes the instant group that a snapshot was made of, once no
// other is being made of it. Nobody may be about to make one: either all have
// been begun, or all are gone.
func (s *Snapshots) dropInstant(ctx context.Context, held *compute.Snapshot) {
	r := read(held.Description)
	zone, _, ok := strings.Cut(strings.TrimPrefix(r.Volume, "zones/"), "/disks/")
	s.mu.Lock()
	done := s.cleared[r.Group.Moment]
	s.mu.Unlock()
	if done || !ok || r.Group.Size > maxGroup || !strings.HasPrefix(held.Name, r.Group.Name+"-") {
		return
	}
	there, whole := 0, false
	for i := range r.Group.Size {
		one, err := s.named(ctx, r.Group.Name+"-"+strconv.Itoa(i))
		if err != nil || one != nil && (one.Status == "CREATING" || one.Status == "UPLOADING") {
			return
		}
		if one != nil && one.Status != "DELETING" {
			there++
			whole = whole || marked(one)
		}
	}
	if there > 0 && !whole {
		return
	}
	group, err := ask(ctx, s, func(ctx context.Context) (*compute.InstantSnapshotGroup, error) {
		return s.client.InstantSnapshotGroups.Get(s.c.Project, zone, r.Group.Name).Context(ctx).Do()
	})
	if err == nil && id(group.Id) == r.Group.Moment {
		if group.Status == "DELETING" {
			return
		}
		request := requestID()
		_, err = ask(ctx, s, func(ctx context.Context) (*compute.Operation, error) {
			return s.client.InstantSnapshotGroups.Delete(s.c.Project, zone, r.Group.Name).RequestId(request).Context(ctx).Do()
		})
		if err == nil {
			return // the deletion itself may still fail
		}
	}
	if err == nil || notFound(err) {
		s.mu.Lock()
		s.cleared[r.Group.Moment] = true
		s.mu.Unlock()
	}
}
