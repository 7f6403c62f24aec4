package providertest_test

import (
	"bytes"
	"context"
	"fmt"
	"iter"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/holdfast-go/holdfast/provider"
)

// memorySnapshots keeps the contract of Snapshotter, unless a flaw is set.
// What it makes is Pending until it has been asked about a few times.
type memorySnapshots struct {
	region string
	peers  map[string]*memorySnapshots
	flaw   string

	mu      sync.Mutex
	n       int
	volumes map[string][]byte
	snaps   map[string]*memorySnapshot
	tokens  map[string]string // to the ID of a snapshot or volume
	made    map[string]*memoryVolume
	groups  map[string]map[string]string // of a token: the snapshots of volumes
}

type memorySnapshot struct {
	provider.Snapshot
	content []byte
	left    int // questions until it is Ready
	source  provider.SnapshotRef
	shared  []string
}

type memoryVolume struct {
	provider.Volume
	source  provider.SnapshotRef
	content []byte
	left    int
}

func newMemorySnapshots(region, flaw string) *memorySnapshots {
	return &memorySnapshots{
		region: region, flaw: flaw, peers: map[string]*memorySnapshots{}, volumes: map[string][]byte{},
		snaps: map[string]*memorySnapshot{}, tokens: map[string]string{}, made: map[string]*memoryVolume{},
		groups: map[string]map[string]string{},
	}
}

// with runs f locked and wraps its error.
func (m *memorySnapshots) with(ctx context.Context, op, key string, f func() error) error {
	if m.flaw != "ctx" && ctx.Err() != nil {
		return &provider.Error{Op: op, Provider: "memory", Key: key, Err: ctx.Err()}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	err := f()
	if err == nil || m.flaw == "bare errors" {
		return err
	}
	return &provider.Error{Op: op, Provider: "memory", Key: key, Err: err}
}

func (m *memorySnapshots) id(prefix string) string {
	m.n++
	return fmt.Sprintf("%s-%04d", prefix, m.n)
}

func (m *memorySnapshots) Create(ctx context.Context, volume string, o provider.SnapshotOptions) (out provider.Snapshot, err error) {
	err = m.with(ctx, "create", volume, func() error {
		if o.Token == "" && m.flaw != "no token" {
			return fmt.Errorf("no token")
		}
		if s := m.snaps[m.tokens[o.Token]]; s != nil && m.flaw != "token ignored" {
			if s.Volume != volume && m.flaw != "token of another volume" {
				return provider.ErrConflict
			}
			out = s.Snapshot
			return nil
		}
		content, ok := m.volumes[volume]
		if !ok && m.flaw != "volume not looked for" {
			return provider.ErrNotFound
		}
		out = m.begin(volume, content, o)
		return nil
	})
	return out, err
}

func (m *memorySnapshots) begin(volume string, content []byte, o provider.SnapshotOptions) provider.Snapshot {
	s := &memorySnapshot{content: slices.Clone(content), left: 3}
	if m.flaw == "not frozen" {
		s.content = content // shared with the volume
	}
	s.Snapshot = provider.Snapshot{
		Ref: provider.SnapshotRef{Provider: "memory", Region: m.region, ID: m.id("snap")}, Volume: volume, State: provider.Pending,
		Size: int64(len(content)), Created: time.Now().UTC(), Tags: maps.Clone(o.Tags),
	}
	switch m.flaw {
	case "tags lost":
		s.Tags = nil
	case "ready at once":
		s.State, s.Progress = provider.Ready, 1
	}
	m.snaps[s.Ref.ID] = s
	m.tokens[o.Token] = s.Ref.ID
	return s.Snapshot
}

func (m *memorySnapshots) advance(s *memorySnapshot) {
	if s.left--; s.left > 0 {
		s.Progress = 1 - float64(s.left)/4
		if m.flaw == "progress falls" {
			s.Progress = float64(s.left) / 4
		}
		return
	}
	s.left = 0
	s.State, s.Progress = provider.Ready, 1
	if m.flaw == "never done" {
		s.Progress = 0.5
	}
}

func (m *memorySnapshots) Get(ctx context.Context, ref provider.SnapshotRef) (out provider.Snapshot, err error) {
	err = m.with(ctx, "get", ref.ID, func() error {
		s := m.snaps[ref.ID]
		if s == nil {
			if m.flaw == "missing is empty" {
				return nil
			}
			return provider.ErrNotFound
		}
		m.advance(s)
		out = s.Snapshot
		return nil
	})
	return out, err
}

func (m *memorySnapshots) Restore(ctx context.Context, ref provider.SnapshotRef, o provider.RestoreOptions) (out provider.Volume, err error) {
	err = m.with(ctx, "restore", ref.ID, func() error {
		if o.Token == "" && m.flaw != "no token" {
			return fmt.Errorf("no token")
		}
		v := m.made[m.tokens["restore "+o.Token]]
		if v != nil && v.source != ref && m.flaw != "restore token of another snapshot" {
			return provider.ErrConflict
		}
		if v == nil || m.flaw == "restore token ignored" {
			var err error
			if v, err = m.beginRestore(ref, o); err != nil {
				return err
			}
		}
		if v.left--; v.left <= 0 && (v.State == provider.Pending || m.flaw == "restored again") {
			v.State, v.Progress = provider.Ready, 1
			m.volumes[v.ID] = slices.Clone(v.content)
		}
		if m.flaw == "restore needs the snapshot" && m.snaps[ref.ID] == nil {
			return provider.ErrNotFound
		}
		out = v.Volume
		return nil
	})
	return out, err
}

func (m *memorySnapshots) beginRestore(ref provider.SnapshotRef, o provider.RestoreOptions) (*memoryVolume, error) {
	s := m.snaps[ref.ID]
	if s == nil {
		return nil, provider.ErrNotFound
	}
	if s.State != provider.Ready && m.flaw != "restore of a pending one" {
		return nil, provider.ErrConflict
	}
	v := &memoryVolume{source: ref, content: s.content, left: 3, Volume: provider.Volume{ID: m.id("vol"), State: provider.Pending, Tags: maps.Clone(o.Tags)}}
	switch {
	case m.flaw == "in place":
		v.ID = s.Volume
		m.volumes[v.ID] = slices.Clone(s.content)
	case s.left > 0: // Ready, it says
		v.content = s.content[:len(s.content)/2]
	}
	m.made[v.ID] = v
	m.tokens["restore "+o.Token] = v.ID
	return v, nil
}

func (m *memorySnapshots) Delete(ctx context.Context, ref provider.SnapshotRef) error {
	return m.with(ctx, "delete", ref.ID, func() error {
		s := m.snaps[ref.ID]
		if s == nil && m.flaw == "delete of a missing one" {
			return provider.ErrNotFound
		}
		if m.flaw == "delete does nothing" || s == nil {
			return nil
		}
		delete(m.snaps, ref.ID)
		for _, other := range m.snaps {
			if m.flaw == "chain broken" && other.Volume == s.Volume {
				other.content = nil
			}
		}
		for id, v := range m.made {
			if m.flaw == "restored ones go too" && v.source == ref {
				delete(m.volumes, id)
			}
		}
		return nil
	})
}

func (m *memorySnapshots) List(ctx context.Context, tags map[string]string) iter.Seq2[provider.Snapshot, error] {
	return func(yield func(provider.Snapshot, error) bool) {
		var all []provider.Snapshot
		err := m.with(ctx, "list", m.region, func() error {
			for _, id := range slices.Sorted(maps.Keys(m.snaps)) {
				s, n := m.snaps[id], 0
				m.advance(s)
				for k, v := range tags {
					if got, ok := s.Tags[k]; ok && got == v {
						n++
					}
				}
				if n == len(tags) || m.flaw == "any tag" && n > 0 {
					all = append(all, s.Snapshot)
				}
			}
			return nil
		})
		if m.flaw == "unordered" {
			slices.Reverse(all)
		}
		if m.flaw == "list cut" {
			all = all[:min(len(all), 3)]
		}
		for _, s := range all {
			if !yield(s, nil) {
				return
			}
		}
		if err != nil {
			yield(provider.Snapshot{}, err)
		}
	}
}

func (m *memorySnapshots) CopySnapshot(ctx context.Context, ref provider.SnapshotRef, region string, o provider.SnapshotOptions) (out provider.Snapshot, err error) {
	err = m.with(ctx, "copy", ref.ID, func() error {
		to := m.peers[region]
		if to == nil {
			if m.flaw == "any region" {
				to = m
			} else {
				return provider.ErrNotFound
			}
		} else {
			to.mu.Lock()
			defer to.mu.Unlock()
		}
		if c := to.snaps[to.tokens["copy "+o.Token]]; c != nil && m.flaw != "copy token ignored" {
			if c.source != ref {
				return provider.ErrConflict
			}
			out = c.Snapshot
			return nil
		}
		s := m.snaps[ref.ID]
		if s == nil {
			return provider.ErrNotFound
		}
		o.Token = "copy " + o.Token
		content := s.content
		if m.flaw == "empty copy" {
			content = nil
		}
		out = to.begin(s.Volume, content, o)
		to.snaps[out.Ref.ID].source = ref
		return nil
	})
	return out, err
}

// The volumes, as whoever uses them sees them.

func (m *memorySnapshots) newVolume(_ context.Context, b []byte) (string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	id := m.id("vol")
	m.volumes[id] = slices.Clone(b)
	return id, nil
}

// find is where a volume is, in this region or in another.
func (m *memorySnapshots) find(id string) (*memorySnapshots, error) {
	for _, r := range append(slices.Collect(maps.Values(m.peers)), m) {
		r.mu.Lock()
		_, ok := r.volumes[id]
		r.mu.Unlock()
		if ok {
			return r, nil
		}
	}
	return nil, fmt.Errorf("volume %s is not there", id)
}

func (m *memorySnapshots) writeVolume(_ context.Context, id string, b []byte) error {
	r, err := m.find(id)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	copy(r.volumes[id], b)
	return nil
}

func (m *memorySnapshots) readVolume(_ context.Context, id string) ([]byte, error) {
	r, err := m.find(id)
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return bytes.Clone(r.volumes[id]), nil
}

func (m *memorySnapshots) deleteVolume(_ context.Context, id string) error {
	if r, err := m.find(id); err == nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.volumes, id)
	}
	return nil
}
