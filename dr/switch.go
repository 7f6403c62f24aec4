package dr

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/holdfast-go/holdfast/dr/notify"
	"github.com/holdfast-go/holdfast/failover"
)

// ErrIncomplete: parts that the operation needs are missing. The text names
// them.
var ErrIncomplete = errors.New("parts are missing")

func (p *Planner) siteParts(site string) SiteParts {
	if site == StandbySite {
		return p.parts.Standby
	}
	return p.parts.Primary
}

// missingParts names what a failover from one site to the other needs and is
// not there.
func (p *Planner) missingParts(from, to string) []string {
	var out []string
	field := map[string]string{PrimarySite: "Parts.Primary", StandbySite: "Parts.Standby"}
	if p.siteParts(from).Fencer == nil {
		out = append(out, fmt.Sprintf("nothing can stop the service at %s (%s.Fencer)", from, field[from]))
	}
	if p.siteParts(to).Promoter == nil {
		out = append(out, fmt.Sprintf("nothing can start the service at %s (%s.Promoter)", to, field[to]))
	}
	if len(p.siteParts(to).Private) == 0 {
		out = append(out, fmt.Sprintf("nothing can ask the service at %s how it is (%s.Private)", to, field[to]))
	}
	return out
}

// FailoverPlan makes the plan of an operation, from the site in charge to the
// other one, with what is predicted for each step. fault is the first failed
// probe; zero if there was none. It changes nothing. [ErrIncomplete] if parts
// are missing.
//
// A test plan restores to Drill.Scratch, and starts the service there only if
// [Parts.Actions] knows "test/start" and "test/verify-private".
func (p *Planner) FailoverPlan(ctx context.Context, kind failover.Kind, fault time.Time) (failover.Plan, error) {
	w, err := p.read(ctx)
	if err != nil {
		return failover.Plan{}, err
	}
	switch {
	case w.unsure:
		return failover.Plan{}, fmt.Errorf("plan %s: %w", kind, w.control)
	case w.between:
		return failover.Plan{}, fmt.Errorf("plan %s: run %s stopped between fence and pivot; resume it", kind, w.lease.Run)
	case kind == failover.Failback && w.active != StandbySite:
		return failover.Plan{}, fmt.Errorf("plan failback: %s is in charge already", w.active)
	}
	from, to := w.active, otherSite(w.active)
	if kind != failover.Test {
		if missing := p.missingParts(from, to); len(missing) > 0 {
			return failover.Plan{}, fmt.Errorf("plan %s: %w: %v", kind, ErrIncomplete, missing)
		}
	}
	plan, err := failover.NewPlan(failover.PlanConfig{
		Kind: kind, Service: p.config.Name, From: from, To: to, Profile: p.config.Failover.Profile,
		Created: w.now, Fault: fault, Budget: p.config.Failover.budget(), Settle: p.config.Failover.settle(),
		Expected:  p.expectedLoss(w, kind),
		Predicted: p.predictSteps(w),
		Timeouts:  p.stepTimeouts(w),
	})
	if err != nil {
		return failover.Plan{}, err
	}
	actions := p.known(kind, from, to)
	plan.Steps = slices.DeleteFunc(plan.Steps, func(s failover.Step) bool { return optional[s.Name] && !actions[s.Action] })
	if err := plan.Validate(); err != nil {
		return failover.Plan{}, fmt.Errorf("plan %s: %w", kind, err)
	}
	return plan, nil
}

// optional steps are left out of a plan if there is nothing to do them with:
// a service without DNS, without public probes, a test without an isolated
// start.
var optional = map[string]bool{"traffic": true, "verify-public": true, "start": true, "verify-private": true, "notify": true}

// known tells which of the optional actions there are.
func (p *Planner) known(kind failover.Kind, from, to string) map[string]bool {
	k := map[string]bool{
		"traffic":        p.config.movesTraffic(),
		"verify-public":  len(p.siteParts(to).Public) > 0,
		"start":          true,
		"verify-private": true,
		"notify":         len(p.config.Notify) > 0,
	}
	for name := range p.parts.Actions {
		k[name] = true
	}
	return k
}

func (p *Planner) expectedLoss(w *world, kind failover.Kind) string {
	if kind != failover.Failover {
		return ""
	}
	var worst time.Duration
	for _, f := range p.forecasts(w) {
		load, _ := p.config.Workload(f.Workload)
		if homeOf(load, otherSite(w.active)) == "" {
			continue
		}
		if !f.Known {
			return "everything of " + f.Workload + ": it has no restorable point"
		}
		worst = max(worst, f.Age.Std())
	}
	return fmt.Sprintf("at most %v of writes", Duration(tidy(worst)))
}

// predictSteps knows the step whose duration grows with the data.
func (p *Planner) predictSteps(w *world) map[string]time.Duration {
	restore, known := p.restoreAll(w)
	out := map[string]time.Duration{}
	if known {
		out["restore"], out["final-sync"] = restore, restore
	}
	if p.config.movesTraffic() {
		out["traffic"] = p.config.follow()
	}
	return out
}

// stepTimeouts gives the restore at least four times what is predicted.
func (p *Planner) stepTimeouts(w *world) map[string]time.Duration {
	restore, known := p.restoreAll(w)
	if !known || 4*restore < 10*time.Minute {
		return nil
	}
	return map[string]time.Duration{"restore": 4 * restore, "final-sync": 4 * restore}
}

// restoreAll predicts how long restoring every workload takes, one after the
// other.
func (p *Planner) restoreAll(w *world) (total time.Duration, known bool) {
	known = true
	to := otherSite(w.active)
	for _, load := range p.config.Workloads {
		if homeOf(load, to) == "" {
			continue
		}
		points := w.sites[to].of(load.Name)
		m := measure(w.sites[w.active].of(load.Name), points, w.proofs[load.Name])
		took, basis := w.restoreTime(load, m, newestBytes(points))
		total, known = total+took, known && basis != ""
	}
	return tidy(total), known
}

// failoverConfig is what package failover needs to run, resume or take back a
// plan.
func (p *Planner) failoverConfig(ctx context.Context, plan failover.Plan) (failover.Config, error) {
	control, err := p.LeaseStore(ctx)
	if err != nil {
		return failover.Config{}, err
	}
	actions, err := p.actions(ctx, plan)
	if err != nil {
		return failover.Config{}, err
	}
	return failover.Config{
		Store: control, Actions: actions, TTL: p.config.Failover.LeaseTTL.Std(), Logger: p.log,
		Progress: func(e failover.Event) {
			p.event(Event{Kind: EventFailover, Text: fmt.Sprintf("%s %s %s", plan.ID, e.Record.Kind, e.Record.Step)})
		},
	}, nil
}

// Failover runs a plan of [Planner.FailoverPlan]. A test runs in any mode, and
// in manual mode everything does. In assisted mode a plan needs an approval of
// exactly that plan.
//
// In automatic mode a program may do the detection itself instead of leaving
// it to Serve: a failover without approval begins if [failover.Arm] agrees at
// this moment, and is refused with its reasons otherwise. With an approval it
// begins in any case, and planned moves need one: those are for a person to
// decide.
//
// Errors are those of [failover.Run].
func (p *Planner) Failover(ctx context.Context, plan failover.Plan, a *failover.Approval) (failover.Result, error) {
	c, err := p.runConfig(ctx, plan, a)
	if err != nil {
		return failover.Result{}, fmt.Errorf("%s: %w", plan.Kind, err)
	}
	return p.finished(ctx, plan)(failover.Run(ctx, c, plan))
}

// runConfig is failoverConfig with what lets the plan begin. In automatic mode
// the world is looked at anew.
func (p *Planner) runConfig(ctx context.Context, plan failover.Plan, a *failover.Approval) (failover.Config, error) {
	c, err := p.failoverConfig(ctx, plan)
	if err != nil {
		return c, err
	}
	switch mode := p.config.Failover.mode(); {
	case mode == failover.Manual || plan.Kind == failover.Test:
		return c, nil
	case mode == failover.Automatic && plan.Kind == failover.Failover && a == nil:
		w, err := p.read(ctx)
		if err != nil {
			return c, err
		}
		c.Mode, c.Conditions = failover.Automatic, p.conditions(w, p.forecasts(w))
		return c, failover.Arm(c.Conditions)
	}
	c.Mode, c.Approval = failover.Assisted, a
	return c, nil
}

// Resume goes on with a run, whoever worked on it. An empty id means the run
// that is open; [ErrNoRun] if none is. Errors are those of [failover.Resume].
func (p *Planner) Resume(ctx context.Context, id string) (failover.Result, error) {
	plan, c, err := p.openRun(ctx, id)
	if err != nil {
		return failover.Result{}, fmt.Errorf("resume: %w", err)
	}
	return p.finished(ctx, plan)(failover.Resume(ctx, c, plan.ID))
}

// Rollback takes a run back that has not reached its pivot. Errors are those
// of [failover.Rollback].
func (p *Planner) Rollback(ctx context.Context, id string) (failover.Result, error) {
	plan, c, err := p.openRun(ctx, id)
	if err != nil {
		return failover.Result{}, fmt.Errorf("roll back: %w", err)
	}
	return p.finished(ctx, plan)(failover.Rollback(ctx, c, plan.ID))
}

// ErrNoRun: no run is open.
var ErrNoRun = errors.New("no run is open")

func (p *Planner) openRun(ctx context.Context, id string) (failover.Plan, failover.Config, error) {
	control, err := p.LeaseStore(ctx)
	if err != nil {
		return failover.Plan{}, failover.Config{}, err
	}
	if id == "" {
		for r, err := range failover.Unfinished(ctx, control) {
			if err != nil {
				return failover.Plan{}, failover.Config{}, err
			}
			id = r.Plan.ID
		}
	}
	if id == "" {
		return failover.Plan{}, failover.Config{}, ErrNoRun
	}
	r, err := failover.Load(ctx, control, id)
	if err != nil {
		return failover.Plan{}, failover.Config{}, err
	}
	c, err := p.failoverConfig(ctx, r.Plan)
	c.Approval = r.Approval
	return r.Plan, c, err
}

// Evaluate is a dry run of a plan: what each step would meet now.
func (p *Planner) Evaluate(ctx context.Context, plan failover.Plan) (failover.Evaluation, error) {
	c, err := p.failoverConfig(ctx, plan)
	if err != nil {
		return failover.Evaluation{}, fmt.Errorf("evaluate: %w", err)
	}
	return failover.Evaluate(ctx, c, plan)
}

// finished reports how a run ended, to the channels too if it did not
// complete (a completed one has a step for that).
func (p *Planner) finished(ctx context.Context, plan failover.Plan) func(failover.Result, error) (failover.Result, error) {
	return func(r failover.Result, err error) (failover.Result, error) {
		text := fmt.Sprintf("%s of %s: %s", plan.Kind, p.config.Name, or(string(r.Outcome), "did not begin"))
		p.event(Event{Kind: EventFailover, Text: text, Took: r.Times.Total, Err: err})
		if err != nil && ctx.Err() == nil && r.Outcome != "" && !errors.Is(err, failover.ErrFinal) {
			p.tell(ctx, notify.Message{Title: text, Text: or(r.Needs, oneLine(err)), Severity: notify.Critical, Key: plan.ID})
		}
		return r, err
	}
}

// arm says why an automatic failover would not start now.
func (p *Planner) arm(w *world, forecasts []Forecast) error {
	return failover.Arm(p.conditions(w, forecasts))
}

func (p *Planner) conditions(w *world, forecasts []Forecast) failover.Conditions {
	c := failover.Conditions{
		Now: w.now, Primary: w.active, Standby: otherSite(w.active),
		FenceConfirms: p.siteParts(w.active).Fencer != nil,
		MaxProofAge:   or(p.config.Objectives.Proven, defaultProven).Std(),
		LagKnown:      true,
		BlindDNS:      w.blind,
	}
	if p.config.Sites.Witness != nil {
		c.Witness = WitnessSite
	}
	// The workload that is worst off decides: the one whose lag is the
	// largest part of its RPO, and the one whose proof is the oldest.
	worst, first := -1.0, true
	for _, f := range forecasts {
		load, _ := p.config.Workload(f.Workload)
		if homeOf(load, c.Standby) == "" {
			continue
		}
		if !f.Known {
			c.LagKnown = false
		}
		if share := f.Age.Std().Seconds() / f.Promise.RPO.Std().Seconds(); share > worst {
			worst, c.Lag, c.RPO = share, f.Age.Std(), f.Promise.RPO.Std()
		}
		proof := time.Time{}
		if f.Proven != "" {
			proof = w.now.Add(-f.ProvenAge.Std())
		}
		if first || proof.Before(c.LastProof) {
			c.LastProof, first = proof, false
		}
	}
	c.LagKnown = c.LagKnown && worst >= 0
	return c
}
