package providertest_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-go/holdfast/provider"
)

// CreateGroup keeps the contract of GroupSnapshotter, unless a flaw is set.
func (m *memorySnapshots) CreateGroup(ctx context.Context, volumes []string, o provider.SnapshotOptions) (out []provider.Snapshot, err error) {
	err = m.with(ctx, "create group", strings.Join(volumes, " "), func() error {
		sorted := slices.Sorted(slices.Values(volumes))
		twice := len(slices.Compact(slices.Clone(sorted))) != len(volumes)
		switch {
		case o.Token == "" && m.flaw != "group without a token", len(volumes) == 0 && m.flaw != "group of nothing", twice && m.flaw != "group of one twice":
			return errors.New("no token, or no distinct volumes")
		}
		if g := m.groups[o.Token]; g != nil && m.flaw != "group token ignored" {
			return m.group(g, volumes, o.Tags, &out)
		}
		if m.flaw != "group of what is there" && slices.ContainsFunc(volumes, func(v string) bool { return m.volumes[v] == nil }) {
			return provider.ErrNotFound
		}
		m.groups[o.Token] = map[string]string{}
		if m.flaw == "group unordered" {
			volumes = sorted
		}
		for i, v := range volumes {
			content, ok := m.volumes[v]
			if !ok {
				return provider.ErrNotFound
			}
			if m.flaw == "group at several moments" && i > 0 {
				m.mu.Unlock()
				time.Sleep(5 * time.Millisecond)
				m.mu.Lock()
			}
			snap := m.begin(v, content, provider.SnapshotOptions{Token: "group " + o.Token + " " + v, Tags: o.Tags})
			m.groups[o.Token][v] = snap.Ref.ID
			out = append(out, snap)
		}
		return nil
	})
	return out, err
}

// group returns those that were made for a token.
func (m *memorySnapshots) group(g map[string]string, volumes []string, tags map[string]string, out *[]provider.Snapshot) error {
	for _, v := range volumes {
		if g[v] == "" && m.flaw != "group added to" {
			return provider.ErrConflict
		}
	}
	if len(g) != len(volumes) && m.flaw != "group of fewer" && m.flaw != "group added to" {
		return provider.ErrConflict
	}
	for _, v := range volumes {
		s := m.snaps[g[v]]
		if s == nil && (m.flaw == "group made up" || m.flaw == "group added to") {
			snap := m.begin(v, m.volumes[v], provider.SnapshotOptions{Token: "again " + v, Tags: tags})
			g[v], s = snap.Ref.ID, m.snaps[snap.Ref.ID]
		}
		if s == nil {
			return provider.ErrConflict
		}
		*out = append(*out, s.Snapshot)
	}
	return nil
}

// Share keeps the contract of SnapshotSharer, unless a flaw is set.
func (m *memorySnapshots) Share(ctx context.Context, ref provider.SnapshotRef, with ...string) error {
	return m.with(ctx, "share", ref.ID, func() error {
		s := m.snaps[ref.ID]
		switch {
		case len(with) == 0 && m.flaw != "shared with nobody", m.flaw != "shared with everybody" && slices.ContainsFunc(with, everybody):
			return errors.New("share with whom?")
		case s == nil && m.flaw == "shares what is gone":
			return nil
		case s == nil:
			return provider.ErrNotFound
		}
		if m.flaw == "share replaces" {
			s.shared = nil
		}
		for _, w := range with {
			if m.flaw == "share again fails" && slices.Contains(s.shared, w) {
				return provider.ErrConflict
			}
			s.shared = append(slices.DeleteFunc(s.shared, func(x string) bool { return x == w }), w)
		}
		return nil
	})
}

func (m *memorySnapshots) Unshare(ctx context.Context, ref provider.SnapshotRef, with ...string) error {
	return m.with(ctx, "unshare", ref.ID, func() error {
		s := m.snaps[ref.ID]
		switch {
		case len(with) == 0 && m.flaw != "shared with nobody":
			return errors.New("unshare from whom?")
		case s == nil && m.flaw == "shares what is gone":
			return nil
		case s == nil:
			return provider.ErrNotFound
		case m.flaw == "unshared from all":
			s.shared = nil
		}
		n := len(s.shared)
		s.shared = slices.DeleteFunc(s.shared, func(x string) bool { return slices.Contains(with, x) })
		if m.flaw == "unshare again fails" && len(s.shared) == n {
			return provider.ErrNotFound
		}
		return nil
	})
}

func everybody(name string) bool {
	return name == "" || name == "*" || strings.HasPrefix(name, "all")
}

func (m *memorySnapshots) sharedWith(_ context.Context, ref provider.SnapshotRef) ([]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.snaps[ref.ID].shared), nil
}
