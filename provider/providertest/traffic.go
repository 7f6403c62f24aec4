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
	trafficSuite(open(t), o).test(t)
}

// CheckTrafficSwitch checks every clause of the contract against a live
// switch. It moves traffic, to every site and to none, some fifty times: use a
// switch that nobody depends on. After each clause it moves back to the sites
// that were open, with their mark. When ctx ends, the remaining clauses are
// skipped.
func CheckTrafficSwitch(ctx context.Context, s provider.TrafficSwitch, o TrafficOptions) Report {
	return trafficSuite(s, o).report(ctx)
}

type trafficClause = clauseOf[*trafficProbe]

func trafficSentence(id, text string, check func(context.Context, *trafficProbe) error) trafficClause {
	return trafficClause{Clause: Clause{"traffic/" + id, text}, check: check}
}

func trafficSuite(s provider.TrafficSwitch, o TrafficOptions) suite[*trafficProbe] {
	second, err := secondOf(s, o.Second)
	sites := s.Traits().Sites
	if len(sites) < 2 {
		err = fmt.Errorf("the switch has the sites %q, and needs two", sites)
	}
	return suite[*trafficProbe]{
		contract: "TrafficSwitch", only: o.Only,
		clauses: slices.Concat(trafficStateClauses, trafficSwitchClauses),
		broken:  err, options: Clause{"traffic/options", "The options are complete, and the switch has two sites."},
		probe: func(ctx context.Context, id string) (*trafficProbe, func(context.Context) []string, error) {
			before, err := s.State(ctx)
			if err != nil {
				return nil, nil, fmt.Errorf("state: %w", err)
			}
			p := &trafficProbe{s: s, second: second, sites: sites, traits: s.Traits(), a: sites[0], b: sites[1]}
			return p, func(ctx context.Context) []string {
				if err := p.back(ctx, before); err != nil {
					return []string{fmt.Sprintf("%s: not moved back: %v", id, err)}
				}
				return nil
			}, nil
		},
	}
}

// back moves traffic to where it was, also after ctx has ended.
func (p *trafficProbe) back(ctx context.Context, before provider.TrafficState) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Minute)
	defer cancel()
	now, err := p.s.State(ctx)
	if err != nil {
		return err
	}
	return p.s.Switch(ctx, now, before)
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
