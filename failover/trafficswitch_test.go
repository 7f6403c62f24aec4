package failover

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/providertest"
)

// switchWith changes what a switch does and says about itself.
type switchWith struct {
	provider.TrafficSwitch
	plain         bool  // compares nothing, holds no mark, is of a control plane
	before, after error // of the next Switch
	calls         int
}

func (s *switchWith) Traits() provider.TrafficTraits {
	t := s.TrafficSwitch.Traits()
	if s.plain {
		t.Compared, t.Marked, t.Endpoints[0].DataPlane = false, false, false
	}
	return t
}

func (s *switchWith) Switch(ctx context.Context, from, to provider.TrafficState) error {
	s.calls++
	if s.plain && from.Mark != to.Mark {
		return errors.ErrUnsupported
	}
	before, after := s.before, s.after
	s.before, s.after = nil, nil
	if before != nil {
		return before
	}
	if err := s.TrafficSwitch.Switch(ctx, from, to); err != nil {
		return err
	}
	return after
}

func eastWest(open ...string) *switchWith {
	return &switchWith{TrafficSwitch: providertest.NewMemoryTrafficSwitch([]string{"us-1", "us-2", "eu-1"}, open...)}
}

func newTrafficSwitch(t *testing.T, s provider.TrafficSwitch) *TrafficSwitch {
	t.Helper()
	a, err := NewTrafficSwitch(TrafficSwitchConfig{Switch: s, Owner: "shop", AllowNotCompared: true,
		Sites: map[string][]string{"east": {"us-2", "us-1"}, "west": {"eu-1"}}})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func now(t *testing.T, s provider.TrafficSwitch) provider.TrafficState {
	t.Helper()
	n, err := s.State(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestTrafficSwitchAction(t *testing.T) {
	for _, plain := range []bool{false, true} {
		s := eastWest("us-1", "us-2")
		s.plain = plain
		a := newTrafficSwitch(t, s)
		mark := func(epoch uint64) provider.TrafficMark {
			if plain {
				return provider.TrafficMark{}
			}
			return provider.TrafficMark{Owner: "shop", Epoch: epoch}
		}
		if o, err := a.Observe(t.Context(), trafficCall(7)); err != nil || o.Done || o.Evidence["before"] != "us-1 us-2" || (o.Evidence["plane"] == "data") == plain {
			t.Fatalf("before: %+v, %v", o, err)
		}
		if _, err := a.Undo(t.Context(), trafficCall(7)); err != nil || s.calls != 0 {
			t.Fatalf("undo of nothing: %v, %d calls", err, s.calls)
		}
		ev, err := a.Do(t.Context(), trafficCall(7))
		if err != nil || ev["before"] != "us-1 us-2" || ev["after"] != "eu-1" {
			t.Fatalf("%v, %v", ev, err)
		}
		if n := now(t, s); !slices.Equal(n.Sites, []string{"eu-1"}) || n.Mark != mark(7) {
			t.Errorf("%+v", n)
		}
		if o, err := a.Observe(t.Context(), trafficCall(7)); err != nil || !o.Done || plain != (o.Evidence["mark"] == "none is kept") {
			t.Errorf("after: %+v, %v", o, err)
		}
		calls := s.calls
		if _, err := a.Do(t.Context(), trafficCall(7)); err != nil || s.calls != calls {
			t.Errorf("again: %v, %d calls", err, s.calls-calls)
		}
		// A process that took over claims the epoch, and the one before is refused.
		if _, err := a.Do(t.Context(), trafficCall(8)); err != nil || now(t, s).Mark != mark(8) {
			t.Errorf("%v, %+v", err, now(t, s))
		}
		if _, err := a.Undo(t.Context(), trafficCall(7)); !plain && (!errors.Is(err, ErrDeposed) || !errors.Is(err, ErrNoEffect)) {
			t.Errorf("deposed: %v", err)
		}
		if _, err := a.Undo(t.Context(), trafficCall(9)); err != nil {
			t.Fatal(err)
		}
		if n := now(t, s); !slices.Equal(n.Sites, []string{"us-1", "us-2"}) || !plain && n.Mark != mark(9) {
			t.Errorf("after undo: %+v", n)
		}
	}
}

func TestTrafficSwitchRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		state provider.TrafficState
		want  error
	}{
		"a greater epoch":    {provider.TrafficState{Sites: []string{"us-1", "us-2"}, Mark: provider.TrafficMark{Owner: "shop", Epoch: 8}}, ErrDeposed},
		"another owner":      {provider.TrafficState{Sites: []string{"us-1", "us-2"}, Mark: provider.TrafficMark{Owner: "bank", Epoch: 1}}, ErrForeign},
		"theirs and done":    {provider.TrafficState{Sites: []string{"eu-1"}, Mark: provider.TrafficMark{Owner: "bank", Epoch: 1}}, ErrForeign},
		"one site of two":    {provider.TrafficState{Sites: []string{"us-1"}}, ErrForeign},
		"both":               {provider.TrafficState{Sites: []string{"eu-1", "us-1", "us-2"}}, ErrForeign},
		"nothing":            {provider.TrafficState{}, ErrForeign},
		"half, in our name":  {provider.TrafficState{Sites: []string{"us-1"}, Mark: provider.TrafficMark{Owner: "shop", Epoch: 7}}, ErrForeign},
		"epoch without us":   {provider.TrafficState{Sites: []string{"eu-1"}, Mark: provider.TrafficMark{Owner: "shop", Epoch: 9}}, ErrDeposed},
		"deposed, elsewhere": {provider.TrafficState{Sites: []string{"us-2"}, Mark: provider.TrafficMark{Owner: "shop", Epoch: 9}}, ErrDeposed},
	} {
		t.Run(name, func(t *testing.T) {
			s := eastWest("us-1")
			if err := s.TrafficSwitch.Switch(t.Context(), now(t, s), c.state); err != nil {
				t.Fatal(err)
			}
			before := now(t, s)
			if _, err := newTrafficSwitch(t, s).Do(t.Context(), trafficCall(7)); !errors.Is(err, c.want) || !errors.Is(err, ErrNoEffect) {
				t.Errorf("%v, want %v", err, c.want)
			}
			if n := now(t, s); s.calls != 0 || !slices.Equal(n.Sites, before.Sites) || n.Mark != before.Mark {
				t.Errorf("%d calls, %+v", s.calls, n)
			}
		})
	}
}

// What the switch says is certain is passed on as such, and nothing else is.
func TestTrafficSwitchErrors(t *testing.T) {
	lost := errors.New("reply lost")
	for _, c := range []struct {
		before, after error
		noEffect      bool
	}{
		{before: provider.ErrConflict, noEffect: true},
		{before: provider.ErrRefused, noEffect: true},
		{before: errors.ErrUnsupported, noEffect: true},
		{before: lost},
		{after: lost},
		{after: context.DeadlineExceeded},
	} {
		s := eastWest("us-1", "us-2")
		s.before, s.after = c.before, c.after
		a := newTrafficSwitch(t, s)
		_, err := a.Do(t.Context(), trafficCall(7))
		if cause := errors.Join(c.before, c.after); err == nil || errors.Is(err, ErrNoEffect) != c.noEffect || !strings.Contains(err.Error(), cause.Error()) {
			t.Errorf("%+v: %v", c, err)
		}
		// Doing it again finishes it, whatever became of the first call.
		if _, err := a.Do(t.Context(), trafficCall(7)); err != nil || !slices.Equal(now(t, s).Sites, []string{"eu-1"}) {
			t.Errorf("%+v, again: %v", c, err)
		}
	}
	s := eastWest("us-1", "us-2")
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	a := newTrafficSwitch(t, s)
	if _, err := a.Do(ended, trafficCall(7)); !errors.Is(err, context.Canceled) || !errors.Is(err, ErrNoEffect) {
		t.Errorf("%v", err)
	}
	if _, err := a.Observe(ended, trafficCall(7)); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	elsewhere := trafficCall(7)
	elsewhere.To = "north"
	if _, err := a.Do(t.Context(), elsewhere); !errors.Is(err, ErrNoEffect) || s.calls != 0 {
		t.Errorf("%v", err)
	}
	elsewhere = trafficCall(7)
	elsewhere.From = "north"
	if _, err := a.Do(t.Context(), elsewhere); !errors.Is(err, ErrNoEffect) || s.calls != 0 {
		t.Errorf("%v", err)
	}
}

func TestTrafficSwitchConfigComplaints(t *testing.T) {
	if _, err := NewTrafficSwitch(TrafficSwitchConfig{}); err == nil || !strings.Contains(err.Error(), "Switch is required") {
		t.Errorf("%v", err)
	}
	plain := eastWest("us-1")
	plain.plain = true
	_, err := NewTrafficSwitch(TrafficSwitchConfig{Switch: plain, Owner: "A B", Sites: map[string][]string{"x": {"nowhere"}}})
	for _, want := range []string{"AllowNotCompared", "Owner", "at least two", "nowhere"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("no complaint about %s in: %v", want, err)
		}
	}
	_, err = NewTrafficSwitch(TrafficSwitchConfig{Switch: eastWest("us-1"), Owner: strings.Repeat("x", 64), Sites: map[string][]string{"a": {"us-1"}, "b": {"us-1", "us-1"}, "C": {"us-2"}, "d": nil}})
	for _, want := range []string{"Owner", "would move nothing", `"C"`, `"d"`} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("no complaint about %s in: %v", want, err)
		}
	}
}
