package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-go/holdfast/failover"
	"github.com/holdfast-go/holdfast/provider"
)

// service is the name of the protected service in plans, leases and journals.
const service = "ledger"

// leaseTTL is how long the orchestrator's lease lasts: how long a resumed story
// waits for its crashed predecessor.
func (st *story) leaseTTL() time.Duration { return st.log.Settings.Lease }

// patience is how long a service may rely on the witness' last word: how
// long a primary that is cut off from it goes on serving.
func (st *story) patience() time.Duration { return max(4*st.log.Settings.Interval, 2*time.Second) }

func (st *story) tree() bool { return st.log.Settings.Data != "" }

// site returns what failover does with a site.
func (st *story) site(name string) (site, error) {
	witness, err := st.openStore(witnessSite)
	if err != nil {
		return site{}, err
	}
	return site{
		layout: st.layout, fleet: st.fleet, run: st.log.Run, name: name, service: service, home: primarySite,
		tree: st.tree(), patience: st.patience(), witness: witness,
	}, nil
}

func (st *story) register(ctx context.Context, site, addr string) error {
	dns, err := st.openDNS()
	if err != nil {
		return err
	}
	return registerHost(ctx, dns, site, addr)
}

// perform runs an operation, or goes on with it if it had begun. The plan is
// remembered before it runs; all the rest is in the journal at the witness.
func (st *story) perform(ctx context.Context, name string, c failover.Config, plan func(id string) (failover.Plan, error)) (failover.Result, error) {
	c, err := st.operationConfig(name, c)
	if err != nil {
		return failover.Result{}, err
	}
	var res failover.Result
	p, begun := st.log.Facts.Plans[name]
	if begun {
		st.note("run %s was planned before; going on with it from its journal", p.ID)
		res, err = failover.Resume(ctx, c, p.ID)
		if errors.Is(err, provider.ErrNotFound) { // planned, but the journal does not know it
			res, err = failover.Run(ctx, c, p)
		}
	}
	if !begun || errors.Is(err, failover.ErrFinal) && res.Outcome == failover.RolledBack {
		if p, err = plan(fmt.Sprintf("%s-%s-%d", st.log.Run, name, len(st.log.Facts.Runs[name])+1)); err != nil {
			return res, err
		}
		if err := st.log.remember(func(f *facts) { f.plan(name, p) }); err != nil {
			return res, err
		}
		crash(name + ".planned:after")
		res, err = failover.Run(ctx, c, p)
	}
	for range 3 { // the witness did not answer in time, say: the journal knows where to go on
		e, ok := errors.AsType[*failover.RunError](err)
		if !ok || e.Outcome != failover.Interrupted && e.Outcome != failover.Deposed || ctx.Err() != nil {
			break
		}
		st.note("interrupted: %v; going on", err)
		res, err = failover.Resume(ctx, c, p.ID)
	}
	if errors.Is(err, failover.ErrFinal) && res.Outcome == failover.Completed {
		err = nil
	}
	if err != nil {
		return res, err
	}
	return res, st.log.remember(func(f *facts) {
		if f.Results == nil {
			f.Results = map[string]failover.Result{}
		}
		f.Results[name] = res
	})
}

// operationConfig completes the configuration of an operation: where its
// journal lives, and what is printed.
func (st *story) operationConfig(name string, c failover.Config) (failover.Config, error) {
	witness, err := st.openStore(witnessSite)
	if err != nil {
		return c, err
	}
	c.Store, c.TTL, c.Backoff = witness, st.leaseTTL(), 100*time.Millisecond
	c.Progress = st.sayStep
	actions := make(map[string]failover.Action, len(c.Actions))
	for step, a := range c.Actions {
		actions[step] = crashing{a, name}
	}
	c.Actions = actions
	return c, nil
}

// sayStep prints what the journal has just recorded.
func (st *story) sayStep(e failover.Event) {
	r := e.Record
	switch r.Kind {
	case failover.RecordDone:
		how := short(r.Took)
		if r.Observed {
			how = "found done"
		}
		st.ok("%d/%d %-15s %-10s %s", e.Step+1, e.Steps, r.Step, how, inWords(r.Evidence))
	case failover.RecordFailed:
		st.note("%d/%d %-15s attempt %d: %s", e.Step+1, e.Steps, r.Step, r.Attempt, r.Error)
	case failover.RecordTakeover:
		st.note("took over the run with lease epoch %d", r.Epoch)
	case failover.RecordRollback:
		st.note("rolling back: %s", r.Reason)
	case failover.RecordPaused:
		st.note("stopped: %s", r.Reason)
	}
}

// inWords says of an evidence what fits on a line.
func inWords(ev failover.Evidence) string {
	for _, k := range []string{"words", "detail", "address"} {
		if ev[k] != "" {
			return ev[k]
		}
	}
	if ev["after"] != "" {
		return fmt.Sprintf("%s -> %s, served by every name server", ev["before"], ev["after"])
	}
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(ev)) {
		if k != "rounds" {
			parts = append(parts, k+": "+ev[k])
		}
	}
	return strings.Join(parts, "; ")
}

// timeouts bounds each step. A resumed run first waits until no effect of the
// crashed one can land any more, so they are no longer than they must be.
func (st *story) timeouts() map[string]time.Duration {
	t := map[string]time.Duration{}
	for _, step := range []string{
		"verify-standby", "verify-reversed", "fence", "quiesce", "check-position", "start",
		"verify-private", "traffic", "verify-public", "notify", "clean-up",
	} {
		t[step] = st.log.Settings.Step
	}
	for _, step := range []string{"restore", "final-sync"} {
		t[step] = st.log.Settings.Restore
	}
	return t
}

// crashing is an action during which the test kills the orchestrator: after
// the journal says that the step was begun and before it is done, or after it
// is done and before the journal says so.
type crashing struct {
	failover.Action
	operation string
}

func (a crashing) Do(ctx context.Context, c failover.Call) (failover.Evidence, error) {
	point := fmt.Sprintf("%s.%s", a.operation, c.Step)
	crash(point + ":before")
	ev, err := a.Action.Do(ctx, c)
	crash(point + ":after")
	return ev, err
}
