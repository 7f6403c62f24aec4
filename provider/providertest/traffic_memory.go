package providertest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/holdfast-go/holdfast/provider"
)

// MemoryTrafficSwitch is a [provider.TrafficSwitch] in memory, Compared and
// Marked, without rules. It keeps the contract and is for tests.
type MemoryTrafficSwitch struct {
	traits provider.TrafficTraits

	mu  sync.Mutex
	now provider.TrafficState
}

var _ provider.TrafficSwitch = (*MemoryTrafficSwitch)(nil)

// NewMemoryTrafficSwitch returns a switch of sites, of which open receive
// traffic.
func NewMemoryTrafficSwitch(sites []string, open ...string) *MemoryTrafficSwitch {
	sites, open = slices.Clone(sites), slices.Clone(open)
	slices.Sort(sites)
	slices.Sort(open)
	return &MemoryTrafficSwitch{
		traits: provider.TrafficTraits{
			Sites: sites, Compared: true, Marked: true,
			Endpoints: []provider.TrafficEndpoint{{URL: "memory:", DataPlane: true}},
		},
		now: provider.TrafficState{Sites: open},
	}
}

// State implements [provider.TrafficSwitch].
func (m *MemoryTrafficSwitch) State(ctx context.Context) (provider.TrafficState, error) {
	if err := ctx.Err(); err != nil {
		return provider.TrafficState{}, memoryTrafficError("traffic state", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return provider.TrafficState{Sites: slices.Clone(m.now.Sites), Mark: m.now.Mark}, nil
}

// Switch implements [provider.TrafficSwitch].
func (m *MemoryTrafficSwitch) Switch(ctx context.Context, from, to provider.TrafficState) error {
	if err := errors.Join(ctx.Err(), m.check(from), m.check(to)); err != nil {
		return memoryTrafficError("traffic switch", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case sameTraffic(m.now, to):
		return nil
	case !sameTraffic(m.now, from):
		return memoryTrafficError("traffic switch", provider.ErrConflict)
	}
	m.now = provider.TrafficState{Sites: slices.Clone(to.Sites), Mark: to.Mark}
	return nil
}

// Traits implements [provider.TrafficSwitch].
func (m *MemoryTrafficSwitch) Traits() provider.TrafficTraits {
	t := m.traits
	t.Sites, t.Endpoints = slices.Clone(t.Sites), slices.Clone(t.Endpoints)
	return t
}

func (m *MemoryTrafficSwitch) check(s provider.TrafficState) error {
	for i, site := range s.Sites {
		if !slices.Contains(m.traits.Sites, site) {
			return fmt.Errorf("there is no site %q", site)
		}
		if i > 0 && s.Sites[i-1] >= site {
			return fmt.Errorf("sites %q are not in ascending order, or one is there twice", s.Sites)
		}
	}
	owner := s.Mark.Owner
	if s.Mark != (provider.TrafficMark{}) && (owner == "" || len(owner) > 63 || strings.Trim(owner, "abcdefghijklmnopqrstuvwxyz0123456789-") != "") {
		return fmt.Errorf("owner %q of the mark", owner)
	}
	return nil
}

func sameTraffic(a, b provider.TrafficState) bool {
	return slices.Equal(a.Sites, b.Sites) && a.Mark == b.Mark
}

func memoryTrafficError(op string, err error) error {
	return &provider.Error{Op: op, Provider: "memory", Key: "switch", Err: err}
}
