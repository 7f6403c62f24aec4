package failover

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"time"
)

// A driver performs effects while it holds the lease. The ctx of its methods
// is the one that begin returned: it ends when the caller's does or when the
// lease is lost, whichever is first.
type driver struct {
	cfg    Config
	cancel context.CancelCauseFunc
	kept   chan struct{} // closed when the lease is no longer kept
	held   *Held
	active Active // as the lease said at the beginning
	open   string // likewise

	announced time.Time // before the last started or undo-started record was sent
	settleAt  time.Time // no effect lands after this moment of the monotonic clock
	release   bool      // the run is over: close it in the lease
}

// begin takes the lease of a service and keeps it until end.
func begin(ctx context.Context, c Config, k Kind, service string) (*driver, context.Context, error) {
	l, err := OpenLease(ctx, LeaseConfig{
		Store: c.Store, Service: service, Prefix: leasePrefix(k), Holder: c.Holder, TTL: c.TTL, Logger: c.Logger,
	})
	if err != nil {
		return nil, nil, err
	}
	held, err := l.Acquire(ctx)
	if err != nil {
		return nil, nil, err
	}
	d := &driver{cfg: c, held: held, kept: make(chan struct{}), active: held.rec.Active, open: held.rec.Run}
	kept, cancel := context.WithCancelCause(ctx)
	d.cancel = cancel
	go func() {
		defer close(d.kept)
		if err := held.Keep(kept); err != nil {
			d.cancel(err)
		}
	}()
	return d, kept, nil
}

// end stops keeping the lease and lets others have it at once, if it is still
// ours; every call has returned by now.
func (d *driver) end(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), d.cfg.TTL/3)
	defer cancel()
	d.cancel(errors.New("run has ended"))
	<-d.kept
	err := d.held.update(ctx, func(r *LeaseRecord) {
		r.Released = true
		if d.release {
			r.Run = ""
		}
	})
	d.held.gone.Store(true)
	if err != nil {
		d.cfg.Logger.Warn("lease not released, it expires by itself", "epoch", d.held.Epoch(), "error", err)
	}
}

func (d *driver) loop(ctx context.Context, st state, ev event) (Result, error) {
	for {
		var eff effect
		st, eff = d.cfg.step(st, ev)
		if eff.kind == effStop {
			d.release = st.over
			if eff.err != nil {
				return d.stopped(st, eff.err)
			}
			r := st.result()
			return r, r.runError(nil)
		}
		var err error
		if ev, err = d.perform(ctx, st, eff); err != nil {
			return d.stopped(st, err)
		}
	}
}

// stopped is the result of a process that leaves an open run behind.
func (d *driver) stopped(st state, err error) (Result, error) {
	r := st.result()
	if lost := d.held.Check(); lost != nil {
		err = errors.Join(ErrDeposed, err)
	}
	r.Outcome = Interrupted
	if errors.Is(err, ErrDeposed) || errors.Is(err, ErrLost) {
		r.Outcome = Deposed
	}
	r.Needs = fmt.Sprintf("the run is open; resume run %s", r.Plan.ID)
	return r, r.runError(err)
}

func (d *driver) perform(ctx context.Context, st state, eff effect) (event, error) {
	if err := d.ready(ctx); err != nil {
		return event{}, err
	}
	switch eff.kind {
	case effAppend:
		r, err := d.append(ctx, st, st.plan.ID, eff.record)
		return event{kind: evRecorded, record: r}, err
	case effObserve, effDo, effUndo:
		ev := d.call(ctx, st, eff)
		// What a call said after the end of ctx may only mean that ctx has
		// ended. The journal says that it was begun; whoever resumes looks.
		return ev, d.ready(ctx)
	case effActivate:
		return event{kind: evActivated}, d.held.SetActive(ctx, eff.site)
	case effSettle:
		return event{kind: evSettled}, d.settle(ctx)
	case effBackoff:
		return event{kind: evBackedOff}, d.sleep(ctx, d.cfg.Backoff)
	}
	return event{}, fmt.Errorf("unknown effect %q", eff.kind)
}

// ready reports why nothing may be done any more.
func (d *driver) ready(ctx context.Context) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return d.held.Check()
}

// append makes the next record of a run durable.
func (d *driver) append(ctx context.Context, st state, run string, r Record) (Record, error) {
	n := newRecord(run, st.seq+1, r.Kind)
	r.Version, r.Run, r.Seq, r.Nonce = n.Version, n.Run, n.Seq, n.Nonce
	r.At, r.Holder, r.Epoch = d.cfg.wall().UTC().Round(0), d.cfg.Holder, d.held.Epoch()
	r.Evidence, r.Error, r.Reason = bounded(r.Evidence), cut(r.Error, 4000), cut(r.Reason, 4000)
	if r.Kind == RecordStarted || r.Kind == RecordUndoStarted {
		d.announced = time.Now()
	}
	if err := d.ready(ctx); err != nil {
		return r, err
	}
	if err := appendRecord(ctx, d.cfg.Store, r); err != nil {
		return r, err
	}
	d.cfg.Logger.Info("run advanced", "run", run, "epoch", r.Epoch, "record", r.Kind, "step", r.Step, "outcome", r.Outcome, "error", r.Error)
	if d.cfg.Progress != nil {
		d.cfg.Progress(Event{Record: r, Step: st.index(r.Step), Steps: len(st.plan.Steps)})
	}
	return r, nil
}

// call makes one call of an action. The deadline of a Do or Undo counts from
// before it was announced in the journal, so that whoever reads the record
// and waits as long as it says waits long enough.
func (d *driver) call(ctx context.Context, st state, eff effect) event {
	step := st.plan.Steps[eff.step]
	action, c := d.cfg.Actions[step.Action], d.describe(st, eff.step)
	begun := time.Now()
	deadline := begun.Add(step.Timeout)
	if eff.kind != effObserve {
		deadline = d.announced.Add(step.Timeout)
	}
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	if ctx.Err() != nil {
		err := fmt.Errorf("its time was over before it began: %w: %w", context.Cause(ctx), ErrNoEffect)
		return event{kind: evReturned, err: err}
	}
	ev := event{kind: evReturned}
	switch eff.kind {
	case effObserve:
		ev.kind = evObserved
		ev.observation, ev.err = action.Observe(ctx, c)
		ev.observation.Evidence = bounded(ev.observation.Evidence)
	case effDo:
		ev.evidence, ev.err = action.Do(ctx, c)
	case effUndo:
		ev.evidence, ev.err = action.Undo(ctx, c)
	}
	ev.evidence, ev.took = bounded(ev.evidence), time.Since(begun)
	if eff.kind != effObserve && step.Role.changes() {
		d.settleAt = time.Now().Add(st.plan.Settle)
	}
	return ev
}

func (d *driver) describe(st state, i int) Call {
	return describe(st, i, d.held.Epoch())
}

func describe(st state, i int, epoch uint64) Call {
	p := st.plan
	sum := sha256.Sum256([]byte(p.ID + "\x00" + p.Steps[i].Name))
	c := Call{
		Run: p.ID, Plan: st.hash, Kind: p.Kind, Service: p.Service, From: p.From, To: p.To,
		Step: p.Steps[i].Name, Attempt: st.steps[i].failures + 1, Epoch: epoch,
		Token: hex.EncodeToString(sum[:16]), Prior: map[string]Evidence{},
	}
	for j, s := range st.steps {
		if s.status == StepDone {
			c.Prior[p.Steps[j].Name] = merged(s.evidence, nil)
		}
	}
	return c
}

// settle waits until nothing that was ever asked for can land any more.
func (d *driver) settle(ctx context.Context) error { return d.sleep(ctx, time.Until(d.settleAt)) }

func (d *driver) sleep(ctx context.Context, t time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(t):
		return nil
	}
}
