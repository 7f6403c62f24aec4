package providertest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-go/holdfast/provider"
)

// TrafficOptions say how [CheckTrafficSwitch] and [TestTrafficSwitch] work.
type TrafficOptions struct {
	// Second opens another handle to the same switch, as another process
	// would. Nil means the clauses about two clients use one handle.
	Second func() (provider.TrafficSwitch, error)

	// Only names the clauses to check by ID. Empty means all.
	Only []string
}

// TestTrafficSwitch tests the switch that open returns, one subtest per clause
// of the contract. It calls open once.
func TestTrafficSwitch(t *testing.T, open func(t *testing.T) provider.TrafficSwitch, o TrafficOptions) {
	t.Helper()
	c, err := newTrafficCheck(open(t), o)
	if err != nil {
		t.Fatal(err)
	}
	for _, cl := range c.clauses() {
		t.Run(cl.ID, func(t *testing.T) {
			switch r, left := c.run(t.Context(), cl); {
			case r.Outcome == Fail:
				t.Errorf("%s\n%v", r.Sentence, r.Err)
			case r.Outcome != Pass:
				t.Skipf("%s: %v", r.Outcome, r.Err)
			case left != nil:
				t.Errorf("could not move back: %v", left)
			}
		})
	}
}

// CheckTrafficSwitch checks every clause of the contract against a live
// switch. It moves traffic, to every site and to none, some fifty times: use a
// switch that nobody depends on. After each clause it moves back to the sites
// that were open, with their mark. When ctx ends, the remaining clauses are
// skipped.
func CheckTrafficSwitch(ctx context.Context, s provider.TrafficSwitch, o TrafficOptions) Report {
	report := Report{Contract: "TrafficSwitch"}
	c, err := newTrafficCheck(s, o)
	if err != nil {
		report.Results = []Result{{Clause{"traffic/options", "The options are complete, and the switch has two sites."}, Fail, err}}
		return report
	}
	for _, cl := range c.clauses() {
		r, left := c.run(ctx, cl)
		report.Results = append(report.Results, r)
		if left != nil {
			report.Left = append(report.Left, fmt.Sprintf("%s: not moved back: %v", cl.ID, left))
		}
	}
	return report
}

type trafficClause struct {
	Clause
	check func(context.Context, *trafficProbe) error
}

func trafficSentence(id, text string, check func(context.Context, *trafficProbe) error) trafficClause {
	return trafficClause{Clause{"traffic/" + id, text}, check}
}

type trafficCheck struct {
	s, second provider.TrafficSwitch
	sites     []string
	only      []string
}

func newTrafficCheck(s provider.TrafficSwitch, o TrafficOptions) (*trafficCheck, error) {
	c := &trafficCheck{s: s, second: s, sites: s.Traits().Sites, only: o.Only}
	if len(c.sites) < 2 {
		return nil, fmt.Errorf("the switch has the sites %q, and needs two", c.sites)
	}
	if o.Second != nil {
		var err error
		if c.second, err = o.Second(); err != nil {
			return nil, fmt.Errorf("open second handle: %w", err)
		}
	}
	return c, nil
}

func (c *trafficCheck) clauses() []trafficClause {
	return slices.DeleteFunc(slices.Concat(trafficStateClauses, trafficSwitchClauses), func(cl trafficClause) bool {
		return len(c.only) > 0 && !slices.Contains(c.only, cl.ID)
	})
}

// run checks one clause, and moves traffic back to where it was.
func (c *trafficCheck) run(ctx context.Context, cl trafficClause) (r Result, left error) {
	r.Clause = cl.Clause
	if ctx.Err() != nil {
		r.Outcome, r.Err = Skipped, ctx.Err()
		return r, nil
	}
	before, err := c.s.State(ctx)
	if err != nil {
		r.Outcome, r.Err = Fail, fmt.Errorf("state: %w", err)
		return r, nil
	}
	p := &trafficProbe{s: c.s, second: c.second, sites: c.sites, traits: c.s.Traits(), a: c.sites[0], b: c.sites[1]}
	r.Err = cl.check(ctx, p)
	_, unsupported := errors.AsType[*unsupportedError](r.Err)
	switch {
	case r.Err == nil:
		r.Outcome = Pass
	case ctx.Err() != nil:
		r.Outcome = Skipped
	case unsupported:
		r.Outcome = Unsupported
	default:
		r.Outcome = Fail
	}
	return r, c.back(ctx, before)
}

// back moves traffic to where it was, also after ctx has ended.
func (c *trafficCheck) back(ctx context.Context, before provider.TrafficState) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Minute)
	defer cancel()
	now, err := c.s.State(ctx)
	if err != nil {
		return err
	}
	return c.s.Switch(ctx, now, before)
}

// A trafficProbe is what a clause works with: two handles, and two sites among
// those of the switch.
type trafficProbe struct {
	s, second provider.TrafficSwitch
	sites     []string
	traits    provider.TrafficTraits
	a, b      string
}

// open is a state in which these sites receive traffic, marked if the service
// can, with an epoch.
func (p *trafficProbe) open(epoch uint64, sites ...string) provider.TrafficState {
	s := provider.TrafficState{Sites: slices.Sorted(slices.Values(sites))}
	if p.traits.Marked {
		s.Mark = provider.TrafficMark{Owner: "holdfast-check", Epoch: epoch}
	}
	return s
}

// have makes the state s, whatever it was.
func (p *trafficProbe) have(ctx context.Context, s provider.TrafficState) error {
	now, err := p.s.State(ctx)
	if err != nil {
		return fmt.Errorf("state: %w", err)
	}
	if err := p.s.Switch(ctx, now, s); err != nil {
		return fmt.Errorf("switch from %s to %s: %w", describeTraffic(now), describeTraffic(s), err)
	}
	return nil
}

// holds checks that both handles find exactly this state.
func (p *trafficProbe) holds(ctx context.Context, want provider.TrafficState) error {
	for i, s := range []provider.TrafficSwitch{p.s, p.second} {
		now, err := s.State(ctx)
		if err != nil {
			return fmt.Errorf("state: %w", err)
		}
		if !sameTraffic(now, want) {
			return fmt.Errorf("state by handle %d: %s, want %s", i+1, describeTraffic(now), describeTraffic(want))
		}
	}
	return nil
}

// unchanged is the error of what should have failed with a sentinel, nil for
// any other than the sentinels, and have left the state as it was.
func (p *trafficProbe) unchanged(ctx context.Context, err, sentinel error, state provider.TrafficState) error {
	switch {
	case err == nil:
		err = errors.New("no error")
	case sentinel != nil:
		err = want(err, sentinel)
	case errors.Is(err, provider.ErrConflict) || errors.Is(err, provider.ErrNotFound):
		err = fmt.Errorf("the error is a sentinel that it must not be: %w", err)
	default:
		err = nil
	}
	return errors.Join(err, p.holds(ctx, state))
}

func describeTraffic(s provider.TrafficState) string {
	text := "[" + strings.Join(s.Sites, " ") + "]"
	if s.Mark != (provider.TrafficMark{}) {
		text += fmt.Sprintf(" owner=%s epoch=%d", s.Mark.Owner, s.Mark.Epoch)
	}
	return text
}
