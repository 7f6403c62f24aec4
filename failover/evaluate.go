package failover

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/holdfast-go/holdfast/provider"
)

// An Evaluation is a dry run: what a plan would meet if it ran now.
type Evaluation struct {
	Plan     Plan
	PlanHash string
	Problems []string // why Run would refuse, or could not begin
	Steps    []StepEvaluation
}

// A StepEvaluation is what one step's Observe said.
type StepEvaluation struct {
	Name     string
	Done     bool // Do would not be called
	Evidence Evidence
	Error    string // it could not tell; Run would count this as a failed attempt
}

// Evaluate observes every step of a plan and reads the lease. It changes
// nothing, neither in the world nor in the store. The error is that of ctx;
// everything else it finds is in the Evaluation.
func Evaluate(ctx context.Context, c Config, p Plan) (Evaluation, error) {
	e := Evaluation{Plan: p, PlanHash: p.Hash()}
	problem := func(err error) {
		if err != nil {
			e.Problems = append(e.Problems, strings.Split(err.Error(), "\n")...)
		}
	}
	problem(p.Validate())
	c, err := c.withDefaults(p)
	problem(err)
	problem(c.permitted(p))
	if c.Store != nil {
		r, err := ReadLease(ctx, c.Store, leasePrefix(p.Kind), p.Service)
		switch {
		case errors.Is(err, provider.ErrNotFound):
		case err != nil:
			problem(err)
		case r.Run != "" && r.Run != p.ID:
			problem(fmt.Errorf("%w: %s", ErrUnfinished, r.Run))
		case r.Active.Epoch > 0 && r.Active.Site != p.From && p.Kind != Test:
			problem(fmt.Errorf("%w: the lease says that %q is in charge", ErrStale, r.Active.Site))
		}
	}
	st := state{plan: p, hash: e.PlanHash, steps: make([]stepState, len(p.Steps))}
	for i, s := range p.Steps {
		if err := ctx.Err(); err != nil {
			return e, context.Cause(ctx)
		}
		e.Steps = append(e.Steps, evaluateStep(ctx, c, st, i, s))
	}
	return e, nil
}

func evaluateStep(ctx context.Context, c Config, st state, i int, s Step) StepEvaluation {
	se := StepEvaluation{Name: s.Name}
	a := c.Actions[s.Action]
	if a == nil || s.Timeout <= 0 {
		se.Error = "no such action, or no timeout"
		return se
	}
	ctx, cancel := context.WithTimeout(ctx, s.Timeout)
	defer cancel()
	o, err := a.Observe(ctx, describe(st, i, 0))
	se.Done, se.Evidence = err == nil && o.holds(s.Role), bounded(o.Evidence)
	if err != nil {
		se.Error = text(err)
	}
	return se
}

// String renders the evaluation for people: the plan, then what was found.
func (e Evaluation) String() string {
	var b strings.Builder
	b.WriteString(e.Plan.String())
	b.WriteString("\nnow\n")
	for i, s := range e.Steps {
		what := "to do"
		switch {
		case s.Error != "":
			what = "cannot tell: " + s.Error
		case s.Done:
			what = "already done"
		}
		fmt.Fprintf(&b, "%3d %-16s %s\n", i+1, s.Name, what)
	}
	for _, p := range e.Problems {
		fmt.Fprintf(&b, "problem: %s\n", p)
	}
	return b.String()
}
