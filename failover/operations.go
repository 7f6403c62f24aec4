package failover

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/holdfast-go/holdfast/provider"
)

// Run executes a plan to its end. The error is nil only if it completed;
// otherwise it is a [*RunError], or says why the run never began: the plan is
// not valid, [ErrNotApproved], not armed, [ErrStale], [ErrHeld] until ctx
// ended, or [ErrUnfinished].
//
// When ctx ends, Run stops before the next effect and leaves the run open for
// [Resume].
func Run(ctx context.Context, c Config, p Plan) (Result, error) {
	c, err := c.withDefaults(p)
	if err = errors.Join(p.Validate(), err); err == nil {
		err = c.permitted(p)
	}
	if err != nil {
		return Result{}, fmt.Errorf("run %s: %w", p.ID, err)
	}
	d, ctx, err := begin(ctx, c, p.Kind, p.Service)
	if err != nil {
		return Result{}, fmt.Errorf("run %s: %w", p.ID, err)
	}
	defer d.end(ctx)
	if err := d.admit(ctx, p); err != nil {
		return Result{}, fmt.Errorf("run %s: %w", p.ID, err)
	}
	first := Record{Kind: RecordAccepted, Plan: &p, PlanHash: p.Hash(), Mode: c.Mode, Approval: c.Approval}
	st := state{plan: Plan{ID: p.ID}}
	r, err := d.append(ctx, state{}, p.ID, first)
	if err != nil {
		return d.stopped(st, err)
	}
	if st, err = fold(state{}, r); err != nil {
		return d.stopped(st, err)
	}
	return d.loop(ctx, st, event{kind: evBegin, active: d.active})
}

// Resume takes over a run, whoever worked on it, and goes on with it: forward,
// or with its rollback if that had begun. It first waits until no effect of
// the earlier process can land any more. A run that is over is [ErrFinal],
// with its Result. Errors are those of [Run]; [provider.ErrNotFound] if there
// is no such run.
func Resume(ctx context.Context, c Config, run string) (Result, error) {
	d, ctx, st, err := takeOver(ctx, c, run)
	if err != nil {
		return st.result(), fmt.Errorf("resume %s: %w", run, err)
	}
	defer d.end(ctx)
	return d.loop(ctx, st, event{kind: evBegin, active: d.active})
}

// Rollback takes over a run and takes it back; it ends [Cancelled], and the
// error is then nil. [ErrPastPivot] once the standby may accept writes;
// nothing is changed then. Otherwise as [Resume].
func Rollback(ctx context.Context, c Config, run string) (Result, error) {
	st, err := replay(ctx, c.Store, run)
	if err == nil && st.crossed() {
		err = fmt.Errorf("%w: %s may accept writes; resume the run, and plan a failback if you want %s again", ErrPastPivot, st.plan.To, st.plan.From)
	}
	if err != nil {
		return st.result(), fmt.Errorf("roll back %s: %w", run, err)
	}
	d, ctx, st, err := takeOver(ctx, c, run)
	if err != nil {
		return st.result(), fmt.Errorf("roll back %s: %w", run, err)
	}
	defer d.end(ctx)
	r, err := d.loop(ctx, st, event{kind: evRollback, active: d.active})
	if r.Outcome == Cancelled || r.Outcome == RolledBack {
		err = nil
	}
	return r, err
}

// Abandonment is a person's statement about a run that cannot go on.
type Abandonment struct {
	Active string // the site that is in charge, by what the person has checked: From or To; required
	By     string // required
	Reason string // required
}

// Abandon closes a run without doing anything more, and declares which site
// is in charge. The person has to be sure that no other one accepts writes;
// the declaration goes into journal and lease. It still waits until no
// earlier effect can land.
func Abandon(ctx context.Context, c Config, run string, a Abandonment) (Result, error) {
	st, err := replay(ctx, c.Store, run)
	if err == nil && (a.By == "" || a.Reason == "" || a.Active != st.plan.From && a.Active != st.plan.To) {
		err = fmt.Errorf("abandonment needs By, Reason, and Active as %q or %q", st.plan.From, st.plan.To)
	}
	if err != nil {
		return st.result(), fmt.Errorf("abandon %s: %w", run, err)
	}
	d, ctx, st, err := takeOver(ctx, c, run)
	if err != nil {
		return st.result(), fmt.Errorf("abandon %s: %w", run, err)
	}
	defer d.end(ctx)
	last := Record{Kind: RecordFinished, Outcome: Abandoned, Active: a.Active, Reason: a.By + ": " + a.Reason}
	if err := d.settle(ctx); err != nil {
		return d.stopped(st, err)
	}
	if st.plan.Kind != Test {
		if err := d.held.SetActive(ctx, a.Active); err != nil {
			return d.stopped(st, err)
		}
	}
	r, err := d.append(ctx, st, run, last)
	if err != nil {
		return d.stopped(st, err)
	}
	if st, err = fold(st, r); err != nil {
		return d.stopped(st, err)
	}
	d.release = true
	return st.result(), nil
}

// takeOver acquires the lease and appends a takeover to the journal: from
// then on the earlier process collides at its next record and stops.
func takeOver(ctx context.Context, c Config, run string) (*driver, context.Context, state, error) {
	st, err := replay(ctx, c.Store, run)
	switch {
	case err != nil:
		return nil, nil, st, err
	case st.over:
		return nil, nil, st, fmt.Errorf("%w: %s", ErrFinal, st.outcome)
	case st.plan.ID == "":
		return nil, nil, st, errors.New("the run was never accepted; run its plan")
	}
	if c, err = c.withDefaults(st.plan); err != nil {
		return nil, nil, st, err
	}
	d, ctx, err := begin(ctx, c, st.plan.Kind, st.plan.Service)
	if err != nil {
		return nil, nil, st, err
	}
	if d.open != "" && d.open != run {
		d.end(ctx)
		return nil, nil, st, fmt.Errorf("%w: %s", ErrUnfinished, d.open)
	}
	if st, err = d.depose(ctx, run); err == nil && st.over {
		err = fmt.Errorf("%w: %s", ErrFinal, st.outcome)
		d.release = true
	}
	if err != nil {
		d.end(ctx)
		return nil, nil, st, err
	}
	return d, ctx, st, nil
}

// admit checks, holding the lease, that this plan may begin now, and notes it
// in the lease as the open run.
func (d *driver) admit(ctx context.Context, p Plan) error {
	if active := d.active; active.Epoch > 0 && active.Site != p.From && p.Kind != Test {
		return fmt.Errorf("%w: it begins at %s, the lease says that %q is in charge since epoch %d", ErrStale, p.From, active.Site, active.Epoch)
	}
	switch _, err := replay(ctx, d.cfg.Store, p.ID); {
	case err == nil:
		return fmt.Errorf("the store has a journal of this run already; resume it: %w", ErrUnfinished)
	case !errors.Is(err, provider.ErrNotFound):
		return err
	}
	if d.open != "" && d.open != p.ID {
		if err := d.closeUnborn(ctx, d.open); err != nil {
			return err
		}
	}
	return d.held.setRun(ctx, p.ID)
}

// closeUnborn deals with an open run named by the lease. One that is over in
// its journal died before it could say so in the lease. One without a journal
// died before its first record: taking that first place keeps the record from
// arriving late.
func (d *driver) closeUnborn(ctx context.Context, run string) error {
	st, err := replay(ctx, d.cfg.Store, run)
	if errors.Is(err, provider.ErrNotFound) || err == nil && st.plan.ID == "" && !st.over {
		if st, err = d.depose(ctx, run); err == nil && st.plan.ID == "" {
			_, err = d.append(ctx, st, run, Record{Kind: RecordFinished, Outcome: Abandoned, Reason: "never began"})
			return err
		}
	}
	switch {
	case err != nil:
		return err
	case !st.over:
		return fmt.Errorf("%w: %s, which began %s", ErrUnfinished, run, st.first.Format(time.RFC3339))
	}
	return nil
}

// depose appends a takeover at the end of a journal, which may still grow
// while it is read.
func (d *driver) depose(ctx context.Context, run string) (state, error) {
	for {
		st, err := replay(ctx, d.cfg.Store, run)
		if err != nil && !errors.Is(err, provider.ErrNotFound) || st.over {
			return st, err
		}
		r, err := d.append(ctx, st, run, Record{Kind: RecordTakeover})
		if errors.Is(err, ErrDeposed) && d.held.Check() == nil {
			continue
		}
		if err != nil {
			return st, err
		}
		st, err = fold(st, r)
		d.settleAt = time.Now().Add(st.pending)
		return st, err
	}
}
