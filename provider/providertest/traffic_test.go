package providertest_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/providertest"
)

func memorySwitch() *providertest.MemoryTrafficSwitch {
	return providertest.NewMemoryTrafficSwitch([]string{"east", "west", "north"}, "east")
}

func TestMemoryTrafficSwitch(t *testing.T) {
	providertest.TestTrafficSwitch(t, func(*testing.T) provider.TrafficSwitch { return memorySwitch() }, providertest.TrafficOptions{})
}

// A check moves back to where traffic was.
func TestCheckTrafficSwitchMovesBack(t *testing.T) {
	s := memorySwitch()
	before := provider.TrafficState{Sites: []string{"east", "north"}, Mark: provider.TrafficMark{Owner: "shop", Epoch: 41}}
	if err := s.Switch(t.Context(), provider.TrafficState{Sites: []string{"east"}}, before); err != nil {
		t.Fatal(err)
	}
	r := providertest.CheckTrafficSwitch(t.Context(), s, providertest.TrafficOptions{})
	if now, err := s.State(t.Context()); r.Err() != nil || len(r.Left) != 0 || err != nil || !slices.Equal(now.Sites, before.Sites) || now.Mark != before.Mark {
		t.Errorf("%+v, %v\n%v", now, err, r)
	}
	stuck := flawedSwitch{TrafficSwitch: s, change: func(ctx context.Context, from, to provider.TrafficState) error {
		if slices.Equal(to.Sites, before.Sites) {
			return errors.New("stuck")
		}
		return s.Switch(ctx, from, to)
	}}
	if r := providertest.CheckTrafficSwitch(t.Context(), stuck, providertest.TrafficOptions{Only: []string{"traffic/switch"}}); len(r.Left) != 1 {
		t.Errorf("left: %q", r.Left)
	}
}

func TestCheckTrafficSwitchOptions(t *testing.T) {
	if r := providertest.CheckTrafficSwitch(t.Context(), providertest.NewMemoryTrafficSwitch([]string{"x"}), providertest.TrafficOptions{}); r.Err() == nil {
		t.Error("one site is enough")
	}
	broken := func() (provider.TrafficSwitch, error) { return nil, errors.New("x") }
	if r := providertest.CheckTrafficSwitch(t.Context(), memorySwitch(), providertest.TrafficOptions{Second: broken}); r.Err() == nil {
		t.Error("no second handle, and nobody minds")
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for _, res := range providertest.CheckTrafficSwitch(ended, memorySwitch(), providertest.TrafficOptions{}).Results {
		if res.Outcome != providertest.Skipped {
			t.Errorf("%s is %s after the end of its context", res.ID, res.Outcome)
		}
	}
}

// flawedSwitch replaces some methods of a good switch.
type flawedSwitch struct {
	provider.TrafficSwitch
	state  func(context.Context) (provider.TrafficState, error)
	change func(ctx context.Context, from, to provider.TrafficState) error
	traits func() provider.TrafficTraits
}

func (f flawedSwitch) State(ctx context.Context) (provider.TrafficState, error) {
	if f.state != nil {
		return f.state(ctx)
	}
	return f.TrafficSwitch.State(ctx)
}

func (f flawedSwitch) Switch(ctx context.Context, from, to provider.TrafficState) error {
	if f.change != nil {
		return f.change(ctx, from, to)
	}
	return f.TrafficSwitch.Switch(ctx, from, to)
}

func (f flawedSwitch) Traits() provider.TrafficTraits {
	if f.traits != nil {
		return f.traits()
	}
	return f.TrafficSwitch.Traits()
}

// set makes a state, whatever there was.
func set(ctx context.Context, s provider.TrafficSwitch, to provider.TrafficState) error {
	now, err := s.State(ctx)
	if err != nil {
		return err
	}
	return s.Switch(ctx, now, to)
}

func sortedSites(s provider.TrafficState) provider.TrafficState {
	s.Sites = slices.Compact(slices.Sorted(slices.Values(s.Sites)))
	return s
}

// Each flaw is found, by the clauses that are about it.
func TestCheckTrafficSwitchFindsFlaws(t *testing.T) {
	type state = provider.TrafficState
	one := func(change func(s *providertest.MemoryTrafficSwitch, ctx context.Context, from, to state) error) func() flawedSwitch {
		return func() flawedSwitch {
			s := memorySwitch()
			return flawedSwitch{TrafficSwitch: s, change: func(ctx context.Context, from, to state) error { return change(s, ctx, from, to) }}
		}
	}
	reads := func(alter func(*state)) func() flawedSwitch {
		return func() flawedSwitch {
			s := memorySwitch()
			return flawedSwitch{TrafficSwitch: s, state: func(ctx context.Context) (state, error) {
				now, err := s.State(ctx)
				alter(&now)
				return now, err
			}}
		}
	}
	says := func(alter func(*provider.TrafficTraits)) func() flawedSwitch {
		return func() flawedSwitch {
			s := memorySwitch()
			return flawedSwitch{TrafficSwitch: s, traits: func() provider.TrafficTraits {
				t := s.Traits()
				alter(&t)
				return t
			}}
		}
	}
	for _, flaw := range []struct {
		name string
		want []string // clauses that must fail, perhaps among others
		make func() flawedSwitch
	}{
		{"from is not looked at", []string{"traffic/conflict", "traffic/same", "traffic/mark-compared", "traffic/unknown-site", "traffic/malformed"},
			one(func(s *providertest.MemoryTrafficSwitch, ctx context.Context, _, to state) error {
				return set(ctx, s, to)
			})},
		{"it looks, and then writes", []string{"traffic/race"},
			one(func(s *providertest.MemoryTrafficSwitch, ctx context.Context, from, to state) error {
				now, err := s.State(ctx)
				if err != nil || !slices.Equal(now.Sites, from.Sites) || now.Mark != from.Mark {
					return s.Switch(ctx, from, to)
				}
				time.Sleep(time.Duration(rand.IntN(3)) * time.Millisecond)
				for {
					if err := set(ctx, s, to); !errors.Is(err, provider.ErrConflict) {
						return err
					}
				}
			})},
		{"sites change one after the other", []string{"traffic/whole"},
			one(func(s *providertest.MemoryTrafficSwitch, ctx context.Context, from, to state) error {
				if err := s.Switch(ctx, from, from); err != nil {
					return s.Switch(ctx, from, to)
				}
				for _, site := range []string{"west", "east"} {
					time.Sleep(time.Millisecond)
					for {
						next, err := s.State(ctx)
						if err != nil {
							return err
						}
						now := next
						next.Sites = slices.DeleteFunc(slices.Clone(next.Sites), func(x string) bool { return x == site })
						if slices.Contains(to.Sites, site) {
							next.Sites = append(next.Sites, site)
						}
						next = sortedSites(next)
						next.Mark = provider.TrafficMark{Owner: "half", Epoch: 1}
						if site == "east" {
							next.Mark = to.Mark
						}
						err = s.Switch(ctx, now, next)
						if err == nil {
							break
						}
						if !errors.Is(err, provider.ErrConflict) {
							return err
						}
					}
				}
				return s.Switch(ctx, state{Sites: []string{"north"}}, to)
			})},
		{"what is done already is a conflict", []string{"traffic/done"},
			one(func(s *providertest.MemoryTrafficSwitch, ctx context.Context, from, to state) error {
				now, err := s.State(ctx)
				if err == nil && slices.Equal(now.Sites, to.Sites) && !slices.Equal(from.Sites, to.Sites) {
					return &provider.Error{Op: "x", Provider: "x", Key: "x", Err: provider.ErrConflict}
				}
				return s.Switch(ctx, from, to)
			})},
		{"nothing is done", []string{"traffic/switch", "traffic/state", "traffic/state-fresh", "traffic/all", "traffic/none"},
			one(func(s *providertest.MemoryTrafficSwitch, ctx context.Context, from, to state) error {
				return s.Switch(ctx, to, to)
			})},
		{"what is asked is refused and done", []string{"traffic/none"},
			one(func(s *providertest.MemoryTrafficSwitch, ctx context.Context, from, to state) error {
				err := s.Switch(ctx, from, to)
				if err == nil && len(to.Sites) == 0 {
					err = &provider.Error{Op: "x", Provider: "x", Key: "x", Err: provider.ErrRefused}
				}
				return err
			})},
		{"none is refused as a conflict", []string{"traffic/none"},
			one(func(s *providertest.MemoryTrafficSwitch, ctx context.Context, from, to state) error {
				if len(to.Sites) == 0 {
					to.Sites = []string{"nowhere"}
				}
				return s.Switch(ctx, from, to)
			})},
		{"sites that it does not have are left out", []string{"traffic/unknown-site"},
			one(func(s *providertest.MemoryTrafficSwitch, ctx context.Context, from, to state) error {
				known := func(x string) bool { return !slices.Contains(s.Traits().Sites, x) }
				from.Sites, to.Sites = slices.DeleteFunc(slices.Clone(from.Sites), known), slices.DeleteFunc(slices.Clone(to.Sites), known)
				return s.Switch(ctx, from, to)
			})},
		{"any order will do", []string{"traffic/malformed"},
			one(func(s *providertest.MemoryTrafficSwitch, ctx context.Context, from, to state) error {
				return s.Switch(ctx, sortedSites(from), sortedSites(to))
			})},
		{"the mark is written and not compared", []string{"traffic/mark-compared"},
			one(func(s *providertest.MemoryTrafficSwitch, ctx context.Context, from, to state) error {
				if now, err := s.State(ctx); err == nil && slices.Equal(now.Sites, from.Sites) {
					from.Mark = now.Mark
				}
				return s.Switch(ctx, from, to)
			})},
		{"a mark is never removed", []string{"traffic/mark"},
			one(func(s *providertest.MemoryTrafficSwitch, ctx context.Context, from, to state) error {
				if to.Mark == (provider.TrafficMark{}) {
					to.Mark = from.Mark
				}
				return s.Switch(ctx, from, to)
			})},
		{"any owner will do", []string{"traffic/mark-malformed"},
			one(func(s *providertest.MemoryTrafficSwitch, ctx context.Context, from, to state) error {
				if to.Mark.Epoch != 0 && to.Mark.Owner != "holdfast-check" && to.Mark.Owner != "other-9" {
					to.Mark.Owner = "other"
				}
				return s.Switch(ctx, from, to)
			})},
		{"Marked is false, and it takes marks", []string{"traffic/mark-unsupported"},
			says(func(t *provider.TrafficTraits) { t.Marked = false })},
		{"sites come in any order", []string{"traffic/state", "traffic/all"}, reads(func(s *state) { slices.Reverse(s.Sites) })},
		{"State leaves the mark out", []string{"traffic/state", "traffic/mark"}, reads(func(s *state) { s.Mark = provider.TrafficMark{} })},
		{"traits out of order", []string{"traffic/traits"}, says(func(t *provider.TrafficTraits) { slices.Reverse(t.Sites) })},
		{"no endpoints", []string{"traffic/traits"}, says(func(t *provider.TrafficTraits) { t.Endpoints = nil })},
		{"traits that change", []string{"traffic/traits"}, says(func(t *provider.TrafficTraits) { t.Endpoints[0].URL = fmt.Sprint(rand.Int()) })},
		{"State is answered from a cache", []string{"traffic/state-fresh", "traffic/switch"},
			func() flawedSwitch {
				s := memorySwitch()
				var mu sync.Mutex
				var last state
				return flawedSwitch{TrafficSwitch: s, state: func(ctx context.Context) (state, error) {
					mu.Lock()
					defer mu.Unlock()
					now, err := s.State(ctx)
					now, last = last, now
					if now.Sites == nil {
						now = last
					}
					return now, err
				}}
			}},
		{"errors are bare", []string{"traffic/error-type"},
			one(func(s *providertest.MemoryTrafficSwitch, ctx context.Context, from, to state) error {
				err := s.Switch(ctx, from, to)
				if pe, ok := errors.AsType[*provider.Error](err); ok {
					err = pe.Err
				}
				return err
			})},
		{"the end of a context is not heeded", []string{"traffic/context"},
			one(func(s *providertest.MemoryTrafficSwitch, ctx context.Context, from, to state) error {
				return s.Switch(context.WithoutCancel(ctx), from, to)
			})},
	} {
		t.Run(flaw.name, func(t *testing.T) {
			t.Parallel()
			r := providertest.CheckTrafficSwitch(t.Context(), flaw.make(), providertest.TrafficOptions{})
			for _, id := range flaw.want {
				if !slices.Contains(r.Failed(), id) {
					t.Errorf("%s does not find it; what does: %q", id, r.Failed())
				}
			}
			// A flaw is not found by everything, or the report says nothing.
			if len(r.Failed()) > len(r.Results)*9/10 {
				t.Errorf("%d of %d clauses fail:\n%v", len(r.Failed()), len(r.Results), r)
			}
		})
	}
}

// Who says that it compares nothing and holds no mark is held to the rest.
func TestCheckTrafficSwitchPlain(t *testing.T) {
	s := memorySwitch()
	plain := flawedSwitch{TrafficSwitch: s, traits: func() provider.TrafficTraits {
		t := s.Traits()
		t.Compared, t.Marked = false, false
		return t
	}, change: func(ctx context.Context, from, to provider.TrafficState) error {
		if from.Mark != to.Mark {
			return &provider.Error{Op: "traffic switch", Provider: "x", Key: "x", Err: errors.ErrUnsupported}
		}
		return s.Switch(ctx, from, to)
	}}
	var unsupported []string
	r := providertest.CheckTrafficSwitch(t.Context(), plain, providertest.TrafficOptions{})
	for _, res := range r.Results {
		if res.Outcome == providertest.Unsupported {
			unsupported = append(unsupported, res.ID)
		}
	}
	want := []string{"traffic/mark", "traffic/mark-compared", "traffic/mark-malformed", "traffic/race"}
	if r.Err() != nil || !slices.Equal(unsupported, want) {
		t.Errorf("unsupported %q, want %q\n%v", unsupported, want, r.Err())
	}
}
