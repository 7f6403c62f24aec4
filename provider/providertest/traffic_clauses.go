package providertest

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/holdfast-go/holdfast/provider"
)

var trafficStateClauses = []trafficClause{
	trafficSentence("traits", "Traits always says the same: two sites or more in ascending order, and where the calls go.", trafficTraits),
	trafficSentence("state", "State returns what was switched to: the open sites in ascending order, and the mark.", trafficState),
	trafficSentence("state-fresh", "State sees every Switch that has returned, through any handle.", trafficFresh),
	trafficSentence("error-type", "Errors are *provider.Error with Op, Provider and Key.", trafficErrorType),
	trafficSentence("context", "A call whose ctx has ended changes nothing and fails with an error that matches ctx.Err().", trafficContext),
}

var trafficSwitchClauses = []trafficClause{
	trafficSentence("switch", "Switch moves traffic from one site to another, and back.", trafficSwitch),
	trafficSentence("all", "All sites can receive traffic.", trafficAll),
	trafficSentence("none", "That no site receives traffic is made so, or is ErrRefused and changes nothing.", trafficNone),
	trafficSentence("conflict", "If the state is neither from nor to, nothing changes and the error is ErrConflict.", trafficConflict),
	trafficSentence("done", "If the state is to already, whatever from is, nothing changes and the error is nil.", trafficDone),
	trafficSentence("same", "From and to alike change nothing if the state is that, and are ErrConflict if it is not.", trafficSame),
	trafficSentence("unknown-site", "A site that is not the switch's is an error before anything is changed.", trafficUnknownSite),
	trafficSentence("malformed", "Sites out of order or twice are an error before anything is changed.", trafficMalformed),
	trafficSentence("mark", "The mark changes together with the sites or alone, and a zero one removes it.", trafficMark),
	trafficSentence("mark-compared", "If the sites are those of from and the mark is not, nothing changes and the error is ErrConflict.", trafficMarkCompared),
	trafficSentence("mark-malformed", "A mark without a proper owner is an error before anything is changed.", trafficMarkMalformed),
	trafficSentence("mark-unsupported", "Where Marked is false a mark is errors.ErrUnsupported, and nothing changes.", trafficMarkUnsupported),
	trafficSentence("race", "Racing switches from one state have exactly one winner, where Compared is true.", trafficRace),
	trafficSentence("whole", "Whoever wins a race, the state is exactly what one of them wanted.", trafficWhole),
}

func trafficTraits(ctx context.Context, p *trafficProbe) error {
	t := p.traits
	for i, site := range t.Sites {
		if site == "" || i > 0 && t.Sites[i-1] >= site {
			return fmt.Errorf("sites %q: one is empty or twice, or they are not in ascending order", t.Sites)
		}
	}
	for _, e := range t.Endpoints {
		if e.URL == "" {
			return fmt.Errorf("endpoint %+v has no URL", e)
		}
	}
	if len(t.Endpoints) == 0 {
		return errors.New("no endpoints")
	}
	clear(t.Sites) // the caller's own
	t.Endpoints[0].URL = ""
	for _, s := range []provider.TrafficSwitch{p.s, p.second} {
		if again := s.Traits(); !slices.Equal(again.Sites, p.sites) || again.Endpoints[0].URL == "" || again.Compared != t.Compared || again.Marked != t.Marked {
			return fmt.Errorf("the second time %+v, the first %+v", again, t)
		}
	}
	if again := p.s.Traits(); !reflect.DeepEqual(again, p.s.Traits()) {
		return errors.New("two times not the same")
	}
	return nil
}

func trafficState(ctx context.Context, p *trafficProbe) error {
	for i, sites := range [][]string{{p.a}, {p.b, p.a}, {p.b}} {
		s := p.open(uint64(i)+1, sites...)
		if err := errors.Join(p.have(ctx, s), p.holds(ctx, s)); err != nil {
			return err
		}
	}
	return nil
}

func trafficFresh(ctx context.Context, p *trafficProbe) error {
	last := p.open(1, p.a)
	if err := p.have(ctx, last); err != nil {
		return err
	}
	for i := range uint64(6) {
		next := p.open(i+2, []string{p.b, p.a}[i%2])
		if err := p.s.Switch(ctx, last, next); err != nil {
			return err
		}
		if err := p.holds(ctx, next); err != nil {
			return err
		}
		last = next
	}
	return nil
}

func trafficErrorType(ctx context.Context, p *trafficProbe) error {
	ended, cancel := context.WithCancel(ctx)
	cancel()
	_, stateErr := p.s.State(ended)
	for _, err := range []error{stateErr, p.s.Switch(ctx, p.open(1, "no such site"), p.open(2, p.a))} {
		pe, ok := errors.AsType[*provider.Error](err)
		if !ok {
			return fmt.Errorf("%T (%v) has no *provider.Error in it", err, err)
		}
		if pe.Op == "" || pe.Provider == "" || pe.Key == "" {
			return fmt.Errorf("%#v lacks Op, Provider or Key", pe)
		}
	}
	return nil
}

func trafficContext(ctx context.Context, p *trafficProbe) error {
	before := p.open(1, p.a)
	if err := p.have(ctx, before); err != nil {
		return err
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	_, err := p.s.State(ended)
	if err := want(err, context.Canceled); err != nil {
		return fmt.Errorf("state: %w", err)
	}
	if err := want(p.s.Switch(ended, before, p.open(2, p.b)), context.Canceled); err != nil {
		return fmt.Errorf("switch: %w", err)
	}
	return p.holds(ctx, before)
}

func trafficSwitch(ctx context.Context, p *trafficProbe) error {
	a, b, again := p.open(1, p.a), p.open(2, p.b), p.open(3, p.a)
	return errors.Join(p.have(ctx, a), p.s.Switch(ctx, a, b), p.holds(ctx, b), p.second.Switch(ctx, b, again), p.holds(ctx, again))
}

func trafficAll(ctx context.Context, p *trafficProbe) error {
	one, all := p.open(1, p.b), p.open(2, p.sites...)
	return errors.Join(p.have(ctx, one), p.s.Switch(ctx, one, all), p.holds(ctx, all))
}

func trafficNone(ctx context.Context, p *trafficProbe) error {
	one, none := p.open(1, p.a), p.open(2)
	if err := p.have(ctx, one); err != nil {
		return err
	}
	if err := p.s.Switch(ctx, one, none); err != nil {
		return p.unchanged(ctx, err, provider.ErrRefused, one)
	}
	return p.holds(ctx, none)
}

func trafficConflict(ctx context.Context, p *trafficProbe) error {
	one, both := p.open(1, p.a), p.open(1, p.a, p.b)
	if err := p.have(ctx, one); err != nil {
		return err
	}
	if err := p.unchanged(ctx, p.s.Switch(ctx, p.open(1, p.b), both), provider.ErrConflict, one); err != nil {
		return fmt.Errorf("another site is open: %w", err)
	}
	if err := p.unchanged(ctx, p.s.Switch(ctx, both, p.open(2, p.b)), provider.ErrConflict, one); err != nil {
		return fmt.Errorf("one of two is open: %w", err)
	}
	if err := p.unchanged(ctx, p.s.Switch(ctx, p.open(1), p.open(2, p.b)), provider.ErrConflict, one); err != nil {
		return fmt.Errorf("from none: %w", err)
	}
	return nil
}

func trafficDone(ctx context.Context, p *trafficProbe) error {
	a, b := p.open(1, p.a), p.open(2, p.b)
	if err := errors.Join(p.have(ctx, a), p.s.Switch(ctx, a, b)); err != nil {
		return err
	}
	for range 2 {
		if err := p.second.Switch(ctx, a, b); err != nil {
			return fmt.Errorf("again: %w", err)
		}
	}
	return p.holds(ctx, b)
}

func trafficSame(ctx context.Context, p *trafficProbe) error {
	a, b := p.open(1, p.a), p.open(1, p.b)
	return errors.Join(p.have(ctx, a), p.s.Switch(ctx, a, a), p.holds(ctx, a), p.unchanged(ctx, p.s.Switch(ctx, b, b), provider.ErrConflict, a))
}

func trafficUnknownSite(ctx context.Context, p *trafficProbe) error {
	a := p.open(1, p.a)
	if err := p.have(ctx, a); err != nil {
		return err
	}
	const none = "no-such-site"
	for name, err := range map[string]error{
		"to":   p.s.Switch(ctx, a, p.open(2, none, p.b)),
		"from": p.s.Switch(ctx, p.open(1, none), p.open(2, p.b)),
	} {
		if err := p.unchanged(ctx, err, nil, a); err != nil {
			return fmt.Errorf("in %s: %w", name, err)
		}
	}
	return nil
}

func trafficMalformed(ctx context.Context, p *trafficProbe) error {
	a := p.open(1, p.a)
	if err := p.have(ctx, a); err != nil {
		return err
	}
	twice, reversed := p.open(2, p.b, p.b), p.open(2, p.a, p.b)
	slices.Reverse(reversed.Sites)
	for name, s := range map[string]provider.TrafficState{"a site twice": twice, "descending": reversed} {
		if err := p.unchanged(ctx, p.s.Switch(ctx, a, s), nil, a); err != nil {
			return fmt.Errorf("to with %s: %w", name, err)
		}
		if err := p.unchanged(ctx, p.s.Switch(ctx, s, p.open(2, p.b)), nil, a); err != nil {
			return fmt.Errorf("from with %s: %w", name, err)
		}
	}
	return nil
}

var errNoMarks = &unsupportedError{fmt.Errorf("the service has no place for a mark: %w", errors.ErrUnsupported)}

func trafficMark(ctx context.Context, p *trafficProbe) error {
	if !p.traits.Marked {
		return errNoMarks
	}
	one, bare := p.open(1, p.a), provider.TrafficState{Sites: []string{p.b}}
	other := provider.TrafficState{Sites: one.Sites, Mark: provider.TrafficMark{Owner: "other-9", Epoch: 1<<64 - 1}}
	return errors.Join(p.have(ctx, one), p.s.Switch(ctx, one, other), p.holds(ctx, other),
		p.s.Switch(ctx, other, bare), p.holds(ctx, bare), p.s.Switch(ctx, bare, one), p.holds(ctx, one))
}

func trafficMarkCompared(ctx context.Context, p *trafficProbe) error {
	if !p.traits.Marked {
		return errNoMarks
	}
	is := p.open(7, p.a)
	if err := p.have(ctx, is); err != nil {
		return err
	}
	otherOwner := is
	otherOwner.Mark.Owner = "holdfast-other"
	for name, from := range map[string]provider.TrafficState{
		"a smaller epoch": p.open(6, p.a), "a greater one": p.open(8, p.a), "another owner": otherOwner, "no mark": {Sites: is.Sites},
	} {
		if err := p.unchanged(ctx, p.s.Switch(ctx, from, p.open(9, p.b)), provider.ErrConflict, is); err != nil {
			return fmt.Errorf("from with %s: %w", name, err)
		}
	}
	return nil
}

func trafficMarkMalformed(ctx context.Context, p *trafficProbe) error {
	if !p.traits.Marked {
		return errNoMarks
	}
	is := p.open(1, p.a)
	if err := p.have(ctx, is); err != nil {
		return err
	}
	for _, owner := range []string{"", "A", "a b", "a=b", "a\nb"} {
		bad := p.open(2, p.b)
		bad.Mark.Owner = owner
		if err := p.unchanged(ctx, p.s.Switch(ctx, is, bad), nil, is); err != nil {
			return fmt.Errorf("owner %q: %w", owner, err)
		}
	}
	return nil
}

func trafficMarkUnsupported(ctx context.Context, p *trafficProbe) error {
	if p.traits.Marked {
		return nil
	}
	is := p.open(1, p.a)
	if err := p.have(ctx, is); err != nil {
		return err
	}
	to := provider.TrafficState{Sites: []string{p.b}, Mark: provider.TrafficMark{Owner: "holdfast-check", Epoch: 1}}
	return p.unchanged(ctx, p.s.Switch(ctx, is, to), errors.ErrUnsupported, is)
}

// racers race from one state to others, and returns who said that it won, and
// what was wanted.
func (p *trafficProbe) racers(ctx context.Context, round uint64) (won int, wanted []provider.TrafficState, err error) {
	from := p.open(1000*round+1, p.a)
	if err := p.have(ctx, from); err != nil {
		return 0, nil, err
	}
	for i := range uint64(4) {
		to := p.open(1000*round+2+i, [][]string{{p.b}, {p.a, p.b}}[i%2]...)
		wanted = append(wanted, to)
	}
	var winners atomic.Int32
	var g errgroup.Group
	var begin sync.WaitGroup
	begin.Add(1)
	for i, to := range wanted {
		g.Go(func() error {
			s := []provider.TrafficSwitch{p.s, p.second}[i%2]
			begin.Wait()
			switch err := s.Switch(ctx, from, to); {
			case err == nil:
				winners.Add(1)
			case p.traits.Compared && !errors.Is(err, provider.ErrConflict):
				return fmt.Errorf("switch: %w", err)
			}
			return nil
		})
	}
	begin.Done()
	err = g.Wait()
	return int(winners.Load()), wanted, err
}

func trafficRace(ctx context.Context, p *trafficProbe) error {
	if !p.traits.Compared {
		return &unsupportedError{fmt.Errorf("the service compares nothing: %w", errors.ErrUnsupported)}
	}
	// Two that want the very same would both be right. Only the mark makes
	// four of the two states.
	if !p.traits.Marked {
		return &unsupportedError{fmt.Errorf("without a mark, racers for the same sites are alike: %w", errors.ErrUnsupported)}
	}
	for round := range uint64(5) {
		won, _, err := p.racers(ctx, round)
		if err != nil {
			return err
		}
		if won != 1 {
			return fmt.Errorf("round %d: %d winners", round, won)
		}
	}
	return nil
}

func trafficWhole(ctx context.Context, p *trafficProbe) error {
	for round := range uint64(2) {
		_, wanted, err := p.racers(ctx, round)
		if err != nil {
			return err
		}
		now, err := p.s.State(ctx)
		if err != nil {
			return fmt.Errorf("state: %w", err)
		}
		if !slices.ContainsFunc(wanted, func(s provider.TrafficState) bool { return sameTraffic(s, now) }) {
			return fmt.Errorf("after a race the state is %s, which nobody wanted", describeTraffic(now))
		}
	}
	return nil
}
