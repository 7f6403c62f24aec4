package dr

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Run carries out a plan, no more and no less. [ErrStale] if the configuration
// is another one or the world has changed since: points came or went, a drill
// passed, another site is in charge. An action that fails does not keep those
// after it from being tried, except that nothing is forgotten after a failed
// replication. Where the plan names what was in its way ([Plan.Blocked]), Run
// does what it can and returns [ErrBlocked]. The Outcome is valid with an error too, which joins those of
// the actions.
func (p *Planner) Run(ctx context.Context, plan *Plan) (*Outcome, error) {
	out := &Outcome{Began: time.Now().UTC()}
	defer func() { out.Ended = time.Now().UTC() }()
	unlock, err := p.busy.lock(ctx, "run")
	if err != nil {
		return out, err
	}
	defer unlock()
	if err := p.fresh(ctx, plan); err != nil {
		return out, fmt.Errorf("run plan: %w", err)
	}
	var errs []error
	for _, why := range plan.Blocked {
		errs = append(errs, fmt.Errorf("%w: %s", ErrBlocked, why))
	}
	replicated := true
	for _, a := range plan.Actions {
		r := ActionResult{Action: a}
		switch {
		case ctx.Err() != nil:
			r.Error = "not begun: " + ctx.Err().Error()
		case a.Kind == ActForget && !replicated:
			r.Error = "not begun: the replication before it failed"
		default:
			began := time.Now()
			err := p.act(ctx, plan, a, &r)
			r.Took, r.Done = Duration(time.Since(began)), err == nil
			if err != nil {
				r.Error = err.Error()
				errs = append(errs, err)
				replicated = replicated && a.Kind != ActReplicate
			}
		}
		out.Results = append(out.Results, r)
	}
	return out, errors.Join(append(errs, ctx.Err())...)
}

// fresh refuses a plan that was made for another configuration or world.
func (p *Planner) fresh(ctx context.Context, plan *Plan) error {
	switch {
	case plan == nil:
		return errors.New("there is no plan")
	case plan.Config != p.config.Name || plan.ConfigHash != p.config.Hash():
		return fmt.Errorf("%w: it was made for configuration %s (%s), this is %s (%s)", ErrStale, plan.Config, plan.ConfigHash, p.config.Name, p.config.Hash())
	}
	w, err := p.read(ctx)
	if err != nil {
		return err
	}
	if w.active != plan.Active {
		return fmt.Errorf("%w: %q is in charge now, it was %q", ErrStale, w.active, plan.Active)
	}
	if w.fingerprint() != plan.World {
		return fmt.Errorf("%w: points or proofs have changed since %s", ErrStale, plan.Time.Format(time.RFC3339))
	}
	return nil
}

func (p *Planner) act(ctx context.Context, plan *Plan, a Action, r *ActionResult) error {
	w, ok := p.config.Workload(a.Workload)
	if !ok && a.Workload != "" {
		return fmt.Errorf("%s: there is no workload %q", a.Kind, a.Workload)
	}
	switch a.Kind {
	case ActInit:
		return p.initRepository(ctx, a.Site)
	case ActBackup:
		point, err := p.backUp(ctx, w, a.Site, nil)
		r.Point, r.Warnings = point.ID, point.WarningCount
		r.Bytes, r.BytesNew, r.BytesStored = point.Stats.BytesRead, point.Stats.BytesNew, point.Stats.BytesStored
		return err
	case ActReplicate:
		result, err := p.replicate(ctx, otherSite(a.Site))
		r.Bytes, r.Objects, r.Arrived = result.Bytes, result.Objects, len(result.Arrived)
		return err
	case ActForget:
		return p.forget(ctx, a.Workload, a.Site, a.Point, a.Reason)
	case ActAttest:
		done, err := p.attest(ctx, a.Site)
		r.Bytes = done.Bytes
		return err
	case ActLock:
		world, err := p.read(ctx)
		if err = errors.Join(err, world.control); err != nil { // or what is to be forgotten would be locked
			return fmt.Errorf("extend locks at %s: %w", a.Site, err)
		}
		done, err := p.extendLocks(ctx, world, a.Site)
		r.Bytes, r.Objects = done.Bytes, int64(done.Objects)
		return err
	case ActPrune:
		done, err := p.prune(ctx, a.Site)
		r.BytesFreed = done.Freed
		return err
	case ActDrill:
		proof, err := p.drill(ctx, w, a.Point)
		r.Point, r.Bytes = proof.Point, proof.Bytes
		return err
	}
	return fmt.Errorf("unknown action %q", a.Kind)
}
