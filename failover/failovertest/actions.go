package failovertest

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/holdfast-go/holdfast/failover"
)

// action is what a step of a role does to the world.
type action struct {
	p      *process
	step   failover.Step
	settle time.Duration

	observe func(failover.Call) failover.Observation // under the world's lock
	do      func(failover.Call)
	undo    func(failover.Call)
	check   func(failover.Call) (failover.Evidence, error) // instead of do: changes nothing
}

// actions are the actions of a plan for one process.
func (p *process) actions(plan failover.Plan) map[string]failover.Action {
	all := map[string]failover.Action{}
	for _, step := range plan.Steps {
		a := &action{p: p, step: step, settle: plan.Settle}
		if plan.Kind == failover.Test {
			a.isolated(p.w)
		} else {
			a.real(p.w, plan)
		}
		all[step.Action] = a
	}
	return all
}

func (a *action) real(w *world, plan failover.Plan) {
	switch a.step.Role {
	case failover.RoleFence:
		a.observe = func(failover.Call) failover.Observation {
			return failover.Observation{Done: !w.from.writable, Evidence: a.evidence(w, failover.Call{})}
		}
		a.do, a.undo = func(failover.Call) { w.fence() }, func(failover.Call) { w.unfence() }
	case failover.RoleRestore:
		restore := w.restore
		if plan.Kind != failover.Failover {
			restore = w.sync
		}
		a.observe = func(c failover.Call) failover.Observation {
			return failover.Observation{Done: w.restoredBy == c.Token, Evidence: a.evidence(w, c)}
		}
		a.do, a.undo = func(c failover.Call) { restore(c.Token) }, func(failover.Call) {}
	case failover.RoleStart:
		a.observe = func(failover.Call) failover.Observation { return failover.Observation{Done: w.to.writable} }
		a.do, a.undo = func(failover.Call) { w.start() }, func(failover.Call) {}
	case failover.RoleTraffic:
		a.observe = func(c failover.Call) failover.Observation { return failover.Observation{Done: w.traffic == c.To} }
		a.do, a.undo = func(c failover.Call) { w.switchTo(c.To) }, func(c failover.Call) { w.switchTo(c.From) }
	case failover.RoleVerify:
		a.check = func(failover.Call) (failover.Evidence, error) {
			if !w.verify() {
				return nil, fmt.Errorf("%s does not accept writes: %w", w.to.name, failover.ErrNoEffect)
			}
			return nil, nil
		}
	default:
		a.check = func(failover.Call) (failover.Evidence, error) { return nil, nil }
	}
}

// isolated actions of a test change nothing but the isolated copy.
func (a *action) isolated(w *world) {
	switch a.step.Role {
	case failover.RoleRestore, failover.RoleStart:
		a.do, a.undo = func(failover.Call) { w.isolated = true }, func(failover.Call) {}
	case failover.RoleCleanUp:
		a.observe = func(failover.Call) failover.Observation { return failover.Observation{Done: !w.isolated} }
		a.do = func(failover.Call) { w.isolated = false }
	default:
		a.check = func(failover.Call) (failover.Evidence, error) { return nil, nil }
	}
}

// evidence is what a careful action reports, under the world's lock.
func (a *action) evidence(w *world, _ failover.Call) failover.Evidence {
	switch a.step.Role {
	case failover.RoleFence:
		return failover.Evidence{failover.EvidenceConfirmed: strconv.FormatBool(!w.from.writable)}
	case failover.RoleRestore:
		return failover.Evidence{failover.EvidenceAge: time.Since(w.restoredTo).String()}
	}
	return nil
}

// Observe implements [failover.Action].
func (a *action) Observe(ctx context.Context, c failover.Call) (failover.Observation, error) {
	before, after := a.p.request("observe " + c.Step)
	if before {
		return failover.Observation{}, a.p.die()
	}
	if err := pass(ctx, a.p.upTo(500*time.Millisecond)); err != nil {
		return failover.Observation{}, err
	}
	if a.p.isDead() {
		return failover.Observation{}, errCrashed
	}
	if a.p.float() < a.p.rates.action/2 {
		a.p.fault("observe failed")
		return failover.Observation{}, errFault
	}
	var o failover.Observation
	if a.observe != nil {
		a.p.w.mu.Lock()
		o = a.observe(c)
		a.p.w.mu.Unlock()
	}
	if after {
		return o, a.p.die()
	}
	return o, nil
}

// Do implements [failover.Action].
func (a *action) Do(ctx context.Context, c failover.Call) (failover.Evidence, error) {
	return a.perform(ctx, "do "+c.Step, c, a.do)
}

// Undo implements [failover.Action].
func (a *action) Undo(ctx context.Context, c failover.Call) (failover.Evidence, error) {
	return a.perform(ctx, "undo "+c.Step, c, a.undo)
}

func (a *action) perform(ctx context.Context, what string, c failover.Call, change func(failover.Call)) (failover.Evidence, error) {
	p := a.p
	before, after := p.request(what)
	if before {
		return nil, p.die()
	}
	if err := pass(ctx, p.upTo(3*time.Second)); err != nil {
		return nil, fmt.Errorf("not sent: %w: %w", err, failover.ErrNoEffect)
	}
	if p.isDead() {
		return nil, errCrashed
	}
	draw := p.float()
	if p.rates.broken == a.step.Name {
		draw = 0 // fails before it takes effect
	}
	if draw < p.rates.action/4 || p.rates.broken == a.step.Name {
		p.fault("action: not done")
		if p.float() < 0.5 {
			return nil, errFault // and does not even say that nothing was done
		}
		return nil, fmt.Errorf("%w: %w", errFault, failover.ErrNoEffect)
	}
	if a.check != nil {
		p.w.mu.Lock()
		ev, err := a.check(c)
		p.w.mu.Unlock()
		if after {
			return nil, p.die()
		}
		return ev, err
	}
	land := func() { p.w.change(what+" ("+p.name+")", func() { change(c) }) }
	switch deadline, _ := ctx.Deadline(); {
	case after && p.crash.late:
		p.fault("action: lands after the crash")
		time.AfterFunc(p.upTo(time.Until(deadline)+a.settle-time.Millisecond), land)
		return nil, p.die()
	case draw < p.rates.action/2:
		p.fault("action: lands late")
		if p.float() < 0.3 {
			<-ctx.Done()
		}
		time.AfterFunc(p.upTo(a.settle-time.Millisecond), land)
		return nil, errFault
	case draw < p.rates.action*3/4:
		p.fault("action: doubled")
		time.AfterFunc(p.upTo(a.settle-time.Millisecond), land)
	}
	land()
	if after {
		return nil, p.die()
	}
	if draw > 1-p.rates.action/4 {
		p.fault("action: reply lost")
		return nil, errFault
	}
	p.w.mu.Lock()
	defer p.w.mu.Unlock()
	return a.evidence(p.w, c), nil
}
