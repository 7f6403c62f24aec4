package failover

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/holdfast-go/holdfast/provider"
)

// TrafficSwitchConfig is what [NewTrafficSwitch] needs.
type TrafficSwitchConfig struct {
	Switch provider.TrafficSwitch // required
	Owner  string                 // of the switch, [a-z0-9-]: one name for all that may move it; required

	// Sites are the sites of the switch (cells, regions) that receive traffic
	// when a site of the plan is in charge, by its name there. Each site of
	// the plan has at least one, and no two have the same.
	Sites map[string][]string

	// AllowNotCompared lets Switch be of a service that compares nothing
	// (provider.TrafficTraits). A process that was deposed while it wrote can
	// then move traffic back, and nothing but rules of the service finds out;
	// [Arm] asks for it, too.
	AllowNotCompared bool
}

// TrafficSwitch is the action of a traffic step that opens one site and closes
// the other by a [provider.TrafficSwitch], in one call, without a change of any
// name.
//
// Where the service holds marks (provider.TrafficTraits) each call leaves the
// owner and the epoch there, in the same change: another owner, or a greater
// epoch, is refused. Elsewhere lease and journal are what stops a deposed
// process, before each call. In both cases a state that is neither that of
// Call.From nor that of Call.To is somebody else's and left alone.
//
// The step is done when the service says so. How long clients take to follow
// is seen by the step that verifies in public.
type TrafficSwitch struct {
	c      TrafficSwitchConfig
	traits provider.TrafficTraits
}

var _ Action = (*TrafficSwitch)(nil)

// NewTrafficSwitch checks the config. It asks nobody.
func NewTrafficSwitch(c TrafficSwitchConfig) (*TrafficSwitch, error) {
	var errs []error
	bad := func(format string, a ...any) { errs = append(errs, fmt.Errorf("traffic switch config: "+format, a...)) }
	t := &TrafficSwitch{c: c}
	if c.Switch == nil {
		bad("Switch is required")
		return nil, errors.Join(errs...)
	}
	t.traits = c.Switch.Traits()
	if !t.traits.Compared && !c.AllowNotCompared {
		bad("the service of Switch compares nothing: two orchestrators could overwrite each other unseen; set AllowNotCompared to accept that")
	}
	if !validName(c.Owner) || len(c.Owner) > 63 {
		bad("Owner %q: use up to 63 of a-z, 0-9 and -", c.Owner)
	}
	if len(c.Sites) < 2 {
		bad("Sites: needs at least two")
	}
	t.c.Sites = map[string][]string{}
	seen := map[string]string{}
	for _, site := range slices.Sorted(maps.Keys(c.Sites)) {
		open := slices.Compact(slices.Sorted(slices.Values(c.Sites[site])))
		if len(open) == 0 || !validName(site) {
			bad("Sites: %q has none, or no proper name", site)
		}
		for _, s := range open {
			if !slices.Contains(t.traits.Sites, s) {
				bad("Sites: %s: the switch has no %q, but %s", site, s, strings.Join(t.traits.Sites, ", "))
			}
		}
		if other, ok := seen[strings.Join(open, " ")]; ok {
			bad("Sites: %s and %s are the same %q: a failover would move nothing", other, site, open)
		}
		seen[strings.Join(open, " ")] = site
		t.c.Sites[site] = open
	}
	return t, errors.Join(errs...)
}

// shows reports whether traffic goes to site, and by our word where that can
// be said.
func (t *TrafficSwitch) shows(now provider.TrafficState, site string) bool {
	return slices.Equal(now.Sites, t.c.Sites[site]) && (!t.traits.Marked || now.Mark.Owner == t.c.Owner)
}

// Observe implements [Action].
func (t *TrafficSwitch) Observe(ctx context.Context, c Call) (Observation, error) {
	now, err := t.c.Switch.State(ctx)
	if err != nil {
		return Observation{}, err
	}
	return Observation{Done: t.shows(now, c.To), Evidence: t.evidence(now)}, nil
}

// Do implements [Action].
func (t *TrafficSwitch) Do(ctx context.Context, c Call) (Evidence, error) {
	return t.moveTo(ctx, c, c.To)
}

// Undo implements [Action]. If traffic never went to To, it changes nothing.
func (t *TrafficSwitch) Undo(ctx context.Context, c Call) (Evidence, error) {
	now, err := t.c.Switch.State(ctx)
	if err == nil && slices.Equal(now.Sites, t.c.Sites[c.From]) {
		return t.evidence(now), nil
	}
	return t.moveTo(ctx, c, c.From)
}

func (t *TrafficSwitch) moveTo(ctx context.Context, c Call, site string) (Evidence, error) {
	want := provider.TrafficState{Sites: t.c.Sites[site]}
	if want.Sites == nil {
		return nil, fmt.Errorf("traffic: Sites has no %q: %w", site, ErrNoEffect)
	}
	if t.traits.Marked {
		want.Mark = provider.TrafficMark{Owner: t.c.Owner, Epoch: c.Epoch}
	}
	now, err := t.c.Switch.State(ctx)
	if err != nil {
		return nil, fmt.Errorf("traffic: %w: %w", err, ErrNoEffect)
	}
	ev := t.evidence(now)
	if err := t.allowed(now, c); err != nil {
		return ev, fmt.Errorf("traffic: %w: %w", err, ErrNoEffect)
	}
	if !t.shows(now, site) || now.Mark != want.Mark { // the epoch is claimed in any case
		if err := t.c.Switch.Switch(ctx, now, want); err != nil {
			return ev, fmt.Errorf("traffic to %s: %w", site, certain(err))
		}
	}
	ev["after"] = sitesOrNone(want.Sites)
	return ev, nil
}

// certain adds [ErrNoEffect] to the errors that promise it.
func certain(err error) error {
	for _, sentinel := range []error{provider.ErrConflict, provider.ErrRefused, errors.ErrUnsupported} {
		if errors.Is(err, sentinel) {
			return fmt.Errorf("%w: %w", err, ErrNoEffect)
		}
	}
	return err
}

// allowed holds the guards: owner, epoch, and the state of one of the two
// sites.
func (t *TrafficSwitch) allowed(now provider.TrafficState, c Call) error {
	from, to := t.c.Sites[c.From], t.c.Sites[c.To]
	switch m := now.Mark; {
	case m != provider.TrafficMark{} && m.Owner != t.c.Owner:
		return fmt.Errorf("%w: the switch is marked by %s, not %s", ErrForeign, m.Owner, t.c.Owner)
	case m.Epoch > c.Epoch:
		return fmt.Errorf("%w: the switch has epoch %d, this process %d", ErrDeposed, m.Epoch, c.Epoch)
	case from == nil || to == nil:
		return fmt.Errorf("config lacks Sites of %q or %q", c.From, c.To)
	case !slices.Equal(now.Sites, from) && !slices.Equal(now.Sites, to):
		return fmt.Errorf("%w: traffic goes to %s, which is what neither site has", ErrForeign, sitesOrNone(now.Sites))
	}
	return nil
}

func (t *TrafficSwitch) evidence(now provider.TrafficState) Evidence {
	ev := Evidence{"before": sitesOrNone(now.Sites), "mark": "none is kept", "plane": "control"}
	switch {
	case now.Mark != provider.TrafficMark{}:
		ev["mark"] = fmt.Sprintf("owner=%s epoch=%d", now.Mark.Owner, now.Mark.Epoch)
	case t.traits.Marked:
		ev["mark"] = "absent"
	}
	if !slices.ContainsFunc(t.traits.Endpoints, func(e provider.TrafficEndpoint) bool { return !e.DataPlane }) {
		ev["plane"] = "data"
	}
	return ev
}

func sitesOrNone(sites []string) string {
	if len(sites) == 0 {
		return "none"
	}
	return strings.Join(sites, " ")
}
