package providertest

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-go/holdfast/provider"
)

// SnapshotterOptions say how [CheckSnapshotter] and [TestSnapshotter] work.
// The functions about volumes do what a Snapshotter cannot: a volume is made,
// written and read by whoever uses it.
type SnapshotterOptions struct {
	// NewVolume makes a volume with some content, and returns its ID when the
	// content is on it. Required.
	NewVolume func(ctx context.Context, content []byte) (id string, err error)

	// DeleteVolume removes a volume, one that was made or one that was
	// restored. Required.
	DeleteVolume func(ctx context.Context, id string) error

	// WriteVolume replaces the content of a volume, ReadVolume returns it.
	// Nil skips the clauses about content.
	WriteVolume func(ctx context.Context, id string, content []byte) error
	ReadVolume  func(ctx context.Context, id string) ([]byte, error)

	// Second opens another handle to the same snapshots, as another process
	// would. Nil means the clauses about two clients use one handle.
	Second func() (provider.Snapshotter, error)

	// Region is another region to which CopySnapshot can copy, and InRegion
	// opens the Snapshotter of that region. Empty skips the clauses about it.
	Region   string
	InRegion func() (provider.Snapshotter, error)

	// Together brings volumes to where CreateGroup can have them at one moment,
	// as by attaching them to one machine; DeleteVolume then takes them from
	// there. Nil skips the clauses about groups.
	Together func(ctx context.Context, ids []string) error

	// Others are two with whom Share can share a snapshot, and SharedWith tells
	// with whom it is. Without them the clauses about it are skipped.
	Others     []string
	SharedWith func(ctx context.Context, ref provider.SnapshotRef) ([]string, error)

	// Size is the size in bytes of the volumes made; 0 means 64 KiB. A
	// larger one shows more of a half-made snapshot.
	Size int

	// Patience is how long a snapshot or a volume may be Pending; 0 means 10
	// minutes.
	Patience time.Duration

	// Only names the clauses to check by ID. Empty means all.
	Only []string
}

// TestSnapshotter tests the Snapshotter that open returns, one subtest per
// clause of the contract. It calls open once. What the implementation does
// not support is a skipped subtest.
func TestSnapshotter(t *testing.T, open func(t *testing.T) provider.Snapshotter, o SnapshotterOptions) {
	t.Helper()
	snapSuite(open(t), o).test(t)
}

// CheckSnapshotter checks every clause of the contract against a live
// account, with some sixty snapshots and forty volumes that it makes and
// removes. When ctx ends, the remaining clauses are skipped.
func CheckSnapshotter(ctx context.Context, s provider.Snapshotter, o SnapshotterOptions) Report {
	return snapSuite(s, o).report(ctx)
}

type snapClause = clauseOf[*snapProbe]

func snapSentence(id, text string, check func(context.Context, *snapProbe) error) snapClause {
	return snapClause{Clause: Clause{"snapshot/" + id, text}, check: check}
}

func snapSuite(s provider.Snapshotter, o SnapshotterOptions) suite[*snapProbe] {
	second, err := secondOf(s, o.Second)
	if o.NewVolume == nil || o.DeleteVolume == nil {
		err = errors.New("SnapshotterOptions: NewVolume and DeleteVolume are required")
	}
	o.Size = cmp.Or(o.Size, 64<<10)
	o.Patience = cmp.Or(o.Patience, 10*time.Minute)
	random := strings.ToLower(rand.Text()[:10]) // part of every token and tag
	return suite[*snapProbe]{
		contract: "Snapshotter", only: o.Only,
		clauses: slices.Concat(snapCreateClauses, snapRestoreClauses, snapListClauses, snapCopyClauses, snapGroupClauses, snapShareClauses),
		broken:  err, options: Clause{"snapshot/options", "The options are complete."},
		probe: func(_ context.Context, id string) (*snapProbe, func(context.Context) []string, error) {
			p := &snapProbe{SnapshotterOptions: o, s: s, second: second, name: random + "-" + id[len("snapshot/"):]}
			return p, p.clean, nil
		},
	}
}

// A snapProbe is what a clause works with.
type snapProbe struct {
	SnapshotterOptions
	s, second provider.Snapshotter
	name      string // in every token and tag of the clause

	mu      sync.Mutex
	volumes map[string]bool
	refs    map[provider.SnapshotRef]bool
	others  []provider.Snapshotter // of other regions, for cleaning up
}

func (p *snapProbe) token(x string) string { return "holdfast-check-" + p.name + "-" + x }

// tags are those by which the snapshots of the clause are found.
func (p *snapProbe) tags() map[string]string { return map[string]string{"holdfast-check": p.name} }

func (p *snapProbe) trackVolume(id string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.volumes == nil {
		p.volumes = map[string]bool{}
	}
	p.volumes[id] = true
}

func (p *snapProbe) trackRef(ref provider.SnapshotRef) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.refs == nil {
		p.refs = map[provider.SnapshotRef]bool{}
	}
	p.refs[ref] = true
}

// content is bytes that differ from seed to seed.
func (p *snapProbe) content(seed byte) []byte { return noise(seed, p.Size) }

// volume makes a volume.
func (p *snapProbe) volume(ctx context.Context, seed byte) (string, error) {
	id, err := p.NewVolume(ctx, p.content(seed))
	if err != nil {
		return "", fmt.Errorf("make volume: %w", err)
	}
	p.trackVolume(id)
	return id, nil
}

// create begins a snapshot with the tags of the clause and more.
func (p *snapProbe) create(ctx context.Context, s provider.Snapshotter, volume, token string, more map[string]string) (provider.Snapshot, error) {
	tags := p.tags()
	maps.Copy(tags, more)
	snap, err := s.Create(ctx, volume, provider.SnapshotOptions{Token: p.token(token), Tags: tags})
	if err == nil {
		p.trackRef(snap.Ref)
	}
	return snap, err
}

// ready makes a volume and a snapshot of it, and waits for that.
func (p *snapProbe) ready(ctx context.Context, seed byte) (volume string, snap provider.Snapshot, err error) {
	if volume, err = p.volume(ctx, seed); err != nil {
		return "", snap, err
	}
	snap, err = p.create(ctx, p.s, volume, fmt.Sprint("ready-", seed), nil)
	if err != nil {
		return "", snap, fmt.Errorf("create: %w", err)
	}
	snap, err = p.wait(ctx, p.s, snap)
	return volume, snap, err
}

// wait follows a snapshot until it is Ready.
func (p *snapProbe) wait(ctx context.Context, s provider.Snapshotter, snap provider.Snapshot) (provider.Snapshot, error) {
	last := snap
	err := p.poll(ctx, "snapshot "+snap.Ref.ID, func() (provider.State, error) {
		now, err := s.Get(ctx, snap.Ref)
		if err != nil {
			return "", err
		}
		switch {
		case now.Ref != snap.Ref || now.Volume != snap.Volume || !maps.Equal(now.Tags, snap.Tags) || !now.Created.Equal(snap.Created):
			return "", fmt.Errorf("snapshot %+v has become %+v", snap, now)
		case now.Progress < last.Progress:
			return "", fmt.Errorf("progress falls from %v to %v", last.Progress, now.Progress)
		}
		last = now
		if now.State == provider.Failed {
			return now.State, fmt.Errorf("snapshot %s has failed: %s", now.Ref.ID, now.Reason)
		}
		return now.State, checkProgress(now.State, now.Progress, now.Reason)
	})
	return last, err
}

// restore begins a volume, or asks for it again.
func (p *snapProbe) restore(ctx context.Context, s provider.Snapshotter, ref provider.SnapshotRef, token string) (provider.Volume, error) {
	v, err := s.Restore(ctx, ref, provider.RestoreOptions{Token: p.token(token), Tags: p.tags()})
	if err == nil {
		p.trackVolume(v.ID)
	}
	return v, err
}

// restored restores a snapshot and waits until the volume is Ready.
func (p *snapProbe) restored(ctx context.Context, s provider.Snapshotter, ref provider.SnapshotRef, token string) (provider.Volume, error) {
	var last provider.Volume
	err := p.poll(ctx, "volume of "+ref.ID, func() (provider.State, error) {
		v, err := p.restore(ctx, s, ref, token)
		if err != nil {
			return "", fmt.Errorf("restore: %w", err)
		}
		switch {
		case last.ID != "" && v.ID != last.ID:
			return "", fmt.Errorf("volume %s has become %s", last.ID, v.ID)
		case v.Progress < last.Progress:
			return "", fmt.Errorf("progress falls from %v to %v", last.Progress, v.Progress)
		}
		last = v
		if v.State == provider.Failed {
			return v.State, fmt.Errorf("volume %s has failed: %s", v.ID, v.Reason)
		}
		return v.State, checkProgress(v.State, v.Progress, v.Reason)
	})
	return last, err
}

func checkProgress(st provider.State, progress float64, reason string) error {
	switch st {
	case provider.Pending, provider.Ready, provider.Failed:
	default:
		return fmt.Errorf("state is %q", st)
	}
	if !(progress >= 0 && progress <= 1) || (st == provider.Ready) != (progress == 1) {
		return fmt.Errorf("progress is %v while %s", progress, st)
	}
	if (st == provider.Failed) != (reason != "") {
		return fmt.Errorf("reason is %q while %s", reason, st)
	}
	return nil
}

// poll asks until the answer is Ready.
func (p *snapProbe) poll(ctx context.Context, what string, ask func() (provider.State, error)) error {
	ctx, cancel := context.WithTimeout(ctx, p.Patience)
	defer cancel()
	for wait := 2 * time.Millisecond; ; wait = min(2*wait, 5*time.Second) {
		switch st, err := ask(); {
		case err != nil:
			return err
		case st == provider.Ready:
			return nil
		case st == provider.Failed:
			return fmt.Errorf("%s has failed", what)
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return fmt.Errorf("%s is still pending: %w", what, ctx.Err())
		}
	}
}

// holds checks the content of a volume.
func (p *snapProbe) holds(ctx context.Context, volume string, content []byte) error {
	if p.ReadVolume == nil {
		return nil
	}
	got, err := p.ReadVolume(ctx, volume)
	if err != nil {
		return fmt.Errorf("read volume %s: %w", volume, err)
	}
	if !bytes.Equal(got, content) {
		return fmt.Errorf("content of volume %s: %w", volume, same(got, content))
	}
	return nil
}

func (p *snapProbe) needContent() error {
	if p.ReadVolume == nil || p.WriteVolume == nil {
		return &skippedError{"needs SnapshotterOptions.ReadVolume and WriteVolume"}
	}
	return nil
}

// list returns the snapshots with the tags of the clause and more.
func (p *snapProbe) list(ctx context.Context, s provider.Snapshotter, more map[string]string) ([]provider.Snapshot, error) {
	tags := p.tags()
	maps.Copy(tags, more)
	var all []provider.Snapshot
	for snap, err := range s.List(ctx, tags) {
		if err != nil {
			return all, fmt.Errorf("list: %w", err)
		}
		p.trackRef(snap.Ref)
		all = append(all, snap)
	}
	return all, nil
}

// clean removes everything, also after ctx has ended, and returns what it
// could not.
func (p *snapProbe) clean(ctx context.Context) (left []string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Minute)
	defer cancel()
	for ref := range p.refs {
		err := p.s.Delete(ctx, ref)
		for _, s := range p.others {
			if err != nil {
				err = s.Delete(ctx, ref)
			}
		}
		if err != nil {
			left = append(left, ref.ID)
		}
	}
	for id := range p.volumes {
		if err := p.DeleteVolume(ctx, id); err != nil {
			left = append(left, id)
		}
	}
	slices.Sort(left)
	return left
}
