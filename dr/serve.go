package dr

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/holdfast-go/holdfast/dr/notify"
	"github.com/holdfast-go/holdfast/failover"
)

// How often Serve looks again when nothing tells it to.
const (
	pollMost     = time.Minute     // longest wait before a schedule is looked at again
	replicateGap = 5 * time.Minute // replication without a new point, to catch up after a failure
	retentionGap = time.Hour
	retryServe   = 30 * time.Second // after something could not be read at all
)

// Serve backs up what is due, replicates after each backup, forgets by policy,
// makes locks last, frees space, drills, watches the objectives and the service in charge, and starts a
// failover by itself if the configuration is automatic and armed; one that
// another process left behind it resumes. It goes on past failures and returns when ctx ends, after what was running has stopped;
// its error is nil then. Nothing that was interrupted is lost: the next Serve
// finds from the points themselves what is due.
//
// Every process that runs a configuration may Serve; two of them at one time
// waste work, and harm nothing.
func (p *Planner) Serve(ctx context.Context) error {
	unlock, err := p.busy.lock(ctx, "serve")
	if err != nil {
		return nil
	}
	defer unlock()
	if !p.begin(ctx) {
		return nil
	}
	s := &server{p: p, arrived: make(chan struct{}, 1), extended: map[string]time.Time{}}
	var wg sync.WaitGroup
	for _, w := range p.config.Workloads {
		wg.Go(func() { s.backups(ctx, w) })
	}
	wg.Go(func() { s.replication(ctx) })
	wg.Go(func() { s.every(ctx, max(pollMost, min(p.maintainEvery()/10, retentionGap)), s.retention) })
	wg.Go(func() { s.every(ctx, p.lookGap(), s.objectives) })
	if every := p.config.Drill.Every.Std(); every > 0 {
		wg.Go(func() { s.every(ctx, max(pollMost, min(every/10, time.Hour)), s.drills) })
	}
	wg.Go(func() { s.watch(ctx) })
	wg.Wait()
	return nil
}

// lookGap is how often objectives are looked at: a third of the tightest RPO,
// so that a missed one is noticed soon, but not more than once a minute, for
// each look lists every point.
func (p *Planner) lookGap() time.Duration {
	gap := 15 * time.Minute
	for _, w := range p.config.Workloads {
		if rpo := p.config.ObjectivesOf(w).RPO.Std(); rpo > 0 {
			gap = min(gap, rpo/3)
		}
	}
	return max(gap, pollMost)
}

// maintainEvery is how often the most frequent of what retention does is due.
func (p *Planner) maintainEvery() time.Duration {
	every := min(p.config.Prune.every(), p.config.attestEvery())
	for _, site := range []string{PrimarySite, StandbySite} {
		if l := p.config.lockOf(site); l != nil && !l.ExtendOff {
			every = min(every, l.every())
		}
	}
	return every
}

// begin creates the repository if the first plan says so, and reports false
// if ctx ended before that was possible.
func (p *Planner) begin(ctx context.Context) bool {
	for {
		w, err := p.read(ctx)
		if err != nil {
			return false
		}
		actions, problems := p.planInit(w)
		for _, a := range actions {
			if err := p.initRepository(ctx, a.Site); err != nil {
				problems = append(problems, err.Error())
			}
		}
		if len(problems) == 0 || w.between {
			return true
		}
		p.event(Event{Kind: EventBackup, Text: "backups cannot begin", Err: errors.New(problems[0])})
		if !sleep(ctx, retryServe) {
			return false
		}
	}
}

// sleep waits, and reports whether ctx is still alive.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// server is one Serve.
type server struct {
	p       *Planner
	arrived chan struct{} // a point was made: replicate

	missed map[string]Violation // objectives missed at the last look

	extended map[string]time.Time // when this process last extended the locks of a site
}

// every calls do now and then again after each gap.
func (s *server) every(ctx context.Context, gap time.Duration, do func(context.Context)) {
	for {
		do(ctx)
		if !sleep(ctx, gap) {
			return
		}
	}
}

// backups makes the points of one workload, each when it is due. A long
// backup of one workload never delays another.
func (s *server) backups(ctx context.Context, w Workload) {
	sched, err := w.schedule()
	if err != nil {
		return // New refused it
	}
	var own history // attempts of this process, in case records cannot be kept
	for {
		wait := s.backupIfDue(ctx, w, sched, &own)
		if !sleep(ctx, wait) {
			return
		}
	}
}

// backupIfDue returns how long to wait before looking again. While this
// process' own memory says that nothing is due, it asks nobody.
func (s *server) backupIfDue(ctx context.Context, w Workload, sched schedule, own *history) time.Duration {
	if !own.success.IsZero() {
		now := time.Now()
		if at, _ := sched.dueAt(*own, now); at.After(now) {
			return min(at.Sub(now), pollMost)
		}
	}
	world, err := s.p.read(ctx)
	if err != nil {
		return retryServe
	}
	if world.between || homeOf(w, world.active) == "" {
		return pollMost
	}
	if err := world.sites[world.active].err; err != nil {
		s.p.event(Event{Kind: EventBackup, Workload: w.Name, Text: "backup cannot begin", Err: err})
		return retryServe
	}
	h := world.history(w.Name)
	if own.failures > h.failures && own.attempt.After(h.success) {
		h.attempt, h.failures = own.attempt, own.failures
	}
	if h.failures == 0 {
		h.attempt = own.attempt
	}
	due, reason := sched.dueAt(h, world.now)
	if due.After(world.now) {
		own.success = h.success // another process made it
		return min(due.Sub(world.now), pollMost)
	}
	s.p.log.Info("backup due", "target", w.Name, "since", due, "reason", reason)
	own.attempt = time.Now().UTC()
	point, err := s.p.backUp(ctx, w, world.active, nil)
	if err != nil {
		own.failures++
		if own.failures == alertAfter && ctx.Err() == nil {
			s.p.tell(ctx, notify.Message{
				Title: "backup of " + w.Name + " fails", Text: oneLine(err), Severity: notify.Warning, Key: "backup/" + w.Name,
			})
		}
		return sched.retryWait(own.failures)
	}
	if own.failures >= alertAfter {
		s.p.tell(ctx, notify.Message{Title: "backup of " + w.Name + " works again", Severity: notify.Info, Key: "backup/" + w.Name})
	}
	own.success, own.failures = point.Time, 0
	select {
	case s.arrived <- struct{}{}:
	default: // a replication is due already
	}
	return 0
}

// alertAfter failures in a row people hear of it. One failure whose retry
// succeeds is no news.
const alertAfter = 3

// replication runs after each new point, and now and then to catch up.
func (s *server) replication(ctx context.Context) {
	failures := 0
	for {
		// An error that comes with a site means that the lease cannot be
		// read now: what was seen last holds, for a copy only adds. Without
		// a site nothing is replicated: see inCharge.
		if _, active, between, _ := s.p.inCharge(ctx); !between && active != "" {
			if _, err := s.p.replicate(ctx, active); err != nil {
				failures++
			} else {
				failures = 0
			}
		}
		wait := replicateGap
		if failures > 0 {
			wait = schedule{}.retryWait(failures)
		}
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-t.C:
		case <-s.arrived:
			t.Stop()
		}
	}
}

// retention forgets what the policies say, once everything has been read, makes
// the locks of the rest last, and frees space.
func (s *server) retention(ctx context.Context) {
	w, err := s.p.read(ctx)
	if err != nil {
		return
	}
	if w.between {
		s.locks(ctx, w)
		return
	}
	s.p.askLocks(ctx, w)
	actions, problems := s.p.planForget(w)
	for _, problem := range problems {
		s.p.event(Event{Kind: EventForget, Text: "retention stopped", Err: errors.New(problem)})
	}
	for _, a := range actions {
		if ctx.Err() != nil {
			return
		}
		s.p.forget(ctx, a.Workload, a.Site, a.Point, a.Reason) // its event says what went wrong
	}
	prunes := s.p.planPrunes(w, actions)
	s.attests(ctx, w, prunes)
	s.locks(ctx, w)
	s.prunes(ctx, prunes)
}

// attests looks at what sealed writers have stored.
func (s *server) attests(ctx context.Context, w *world, prunes []Action) {
	for _, a := range s.p.planAttests(w, prunes) {
		if ctx.Err() != nil {
			return
		}
		done, err := s.p.attest(ctx, a.Site)
		switch {
		case ctx.Err() != nil:
		case err != nil:
			s.p.tell(ctx, notify.Message{Title: "what sealed writers stored at " + a.Site + " cannot be looked at", Text: oneLine(err), Severity: notify.Warning, Key: "attest/" + a.Site})
		case len(done.Bad) > 0:
			s.p.tell(ctx, notify.Message{Title: "a sealed writer stored at " + a.Site + " what it is not", Text: oneLine(done.badError()), Severity: notify.Critical, Key: "attest/" + a.Site})
		}
	}
}

// locks makes locks last where that is due, also when nobody is in charge.
func (s *server) locks(ctx context.Context, w *world) {
	for _, a := range s.p.planLocks(w, s.extended) {
		if ctx.Err() != nil {
			return
		}
		_, err := s.p.extendLocks(ctx, w, a.Site)
		if err == nil {
			s.extended[a.Site] = w.now
			continue
		}
		if ctx.Err() != nil {
			return
		}
		text := oneLine(err) + "\n\nUntil that has been done, this is all that is known: " + endangered(s.p.lockedPoints(w, a.Site))
		s.p.tell(ctx, notify.Message{Title: "locks at " + a.Site + " cannot be extended", Text: text, Severity: notify.Warning, Key: "lock/" + a.Site})
	}
}

// prunes frees space where that is due, after something was forgotten.
func (s *server) prunes(ctx context.Context, due []Action) {
	for _, a := range due {
		if ctx.Err() != nil {
			return
		}
		if _, err := s.p.prune(ctx, a.Site); err != nil && ctx.Err() == nil {
			s.p.tell(ctx, notify.Message{Title: "space at " + a.Site + " cannot be freed", Text: oneLine(err), Severity: notify.Warning, Key: "prune/" + a.Site})
		}
	}
}

// drills proves what is due.
func (s *server) drills(ctx context.Context) {
	w, err := s.p.read(ctx)
	if err != nil || w.between || w.control != nil {
		return
	}
	for _, a := range s.p.planDrills(w) {
		if ctx.Err() != nil {
			return
		}
		load, _ := s.p.config.Workload(a.Workload)
		if _, err := s.p.drill(ctx, load, a.Point); err != nil && ctx.Err() == nil {
			s.p.tell(ctx, notify.Message{Title: "drill of " + a.Workload + " failed", Text: oneLine(err), Severity: notify.Critical, Key: "drill/" + a.Workload})
		}
	}
}

// objectives tells when an objective begins to be missed, and when it is kept
// again.
func (s *server) objectives(ctx context.Context) {
	w, err := s.p.read(ctx)
	if err != nil {
		return
	}
	now := map[string]Violation{}
	for _, v := range s.p.violations(w, s.p.forecasts(w)) {
		now[fmt.Sprintf("%s/%s/%t", v.Workload, v.Objective, v.Predicted)] = v
	}
	if s.missed == nil {
		// The first look finds what was missed before this process began,
		// and what no new configuration can have met yet; it is told of at
		// the second, if it is still so.
		s.missed = map[string]Violation{}
		return
	}
	for _, key := range sortedKeys(now) {
		if _, before := s.missed[key]; !before {
			v := now[key]
			s.p.event(Event{Kind: EventObjective, Workload: v.Workload, Text: v.String(), Err: errMissed})
			severity := notify.Warning
			if strings.HasPrefix(v.Objective, "lock at ") { // what was thought safe from an attacker is not
				severity = notify.Critical
			}
			s.p.tell(ctx, notify.Message{Title: v.Workload + " misses its " + v.Objective, Text: v.String(), Severity: severity, Key: "objective/" + key})
		}
	}
	for _, key := range sortedKeys(s.missed) {
		if _, still := now[key]; !still {
			v := s.missed[key]
			s.p.event(Event{Kind: EventObjective, Workload: v.Workload, Text: v.Workload + " keeps its " + v.Objective + " again"})
			s.p.tell(ctx, notify.Message{Title: v.Workload + " keeps its " + v.Objective + " again", Severity: notify.Info, Key: "objective/" + key})
		}
	}
	s.missed = now
}

var errMissed = errors.New("an objective is missed")

// watch looks at the service in charge with its own probes.
func (s *server) watch(ctx context.Context) {
	for ctx.Err() == nil {
		s.resume(ctx)
		_, active, between, err := s.p.inCharge(ctx)
		if err != nil || between || len(s.p.siteParts(active).Private) == 0 {
			if !sleep(ctx, pollMost) {
				return
			}
			continue
		}
		s.watchSite(ctx, active)
	}
}

// watchSite returns when another site is in charge.
func (s *server) watchSite(ctx context.Context, site string) {
	f := s.p.config.Failover
	signals := map[string]failover.Probe{}
	for _, probe := range s.p.siteParts(site).Private {
		signals[probe.String()] = probe
	}
	for _, probe := range s.p.siteParts(site).Public {
		signals[probe.String()] = probe
	}
	ctx, moved := context.WithCancel(ctx)
	defer moved()
	err := failover.Watch(ctx, failover.WatchConfig{
		Observers: []failover.Observer{{Name: "planner", Canary: storeProbe{s.p}, Signals: signals}},
		Detector:  failover.DetectorConfig{Fail: f.threshold()},
		Interval:  f.interval(), Logger: s.p.log,
		Verdict: func(ctx context.Context, state failover.DetectorState, v failover.Verdict) failover.DetectorState {
			if v.Changed {
				s.judged(ctx, site, v)
			}
			if _, active, between, err := s.p.inCharge(ctx); err == nil && !between && active != site {
				moved()
			}
			return state
		},
	})
	if err != nil && ctx.Err() == nil {
		s.p.event(Event{Kind: EventHealth, Text: "the service cannot be watched", Err: err})
		sleep(ctx, retryServe)
	}
}

// storeProbe is the canary: who cannot reach the store of lease and journal
// either is cut off itself, and must not judge.
type storeProbe struct{ p *Planner }

func (c storeProbe) Probe(ctx context.Context) (string, error) {
	_, _, _, err := c.p.inCharge(ctx)
	return "lease readable", err
}

func (c storeProbe) String() string { return "lease store" }

// judged acts on a change of health.
func (s *server) judged(ctx context.Context, site string, v failover.Verdict) {
	e := Event{Kind: EventHealth, Text: fmt.Sprintf("%s is %s", site, v.Health)}
	if v.Health == failover.Unhealthy || v.Health == failover.Blocked {
		e.Err = errors.New(v.Reason)
	}
	s.p.event(e)
	if v.Health != failover.Unhealthy {
		return
	}
	plan, err := s.p.FailoverPlan(ctx, failover.Failover, v.Since)
	if err != nil {
		s.alert(ctx, site, v, "No failover can be planned: "+oneLine(err))
		return
	}
	if s.p.config.Failover.mode() != failover.Automatic {
		s.alert(ctx, site, v, "Approve and run this plan to fail over:\n\n"+plan.String())
		return
	}
	s.failOver(ctx, site, v, plan)
}

func (s *server) alert(ctx context.Context, site string, v failover.Verdict, text string) {
	s.p.tell(ctx, notify.Message{
		Title: site + " is unhealthy", Text: v.Reason + "\n\n" + text, Severity: notify.Critical, Key: "health/" + site,
	})
}

// failOver runs the plan if the safeguards hold now.
func (s *server) failOver(ctx context.Context, site string, v failover.Verdict, plan failover.Plan) {
	c, err := s.p.runConfig(ctx, plan, nil)
	if err != nil {
		s.alert(ctx, site, v, "No automatic failover: "+oneLine(err)+"\n\nApprove and run this plan to fail over:\n\n"+plan.String())
		return
	}
	s.alert(ctx, site, v, "Automatic failover begins:\n\n"+plan.String())
	s.goOn(ctx, plan.ID)(s.p.finished(ctx, plan)(failover.Run(ctx, c, plan))) // its event and message say how it ended
}

// resume goes on with an automatic failover that a process began and did not
// live to end. A run that a person approved, or that needs one now, is left to
// people.
func (s *server) resume(ctx context.Context) {
	lease, _, _, err := s.p.inCharge(ctx)
	if err != nil || lease.Run == "" || s.p.config.Failover.mode() != failover.Automatic {
		return
	}
	control, err := s.p.LeaseStore(ctx)
	if err != nil {
		return
	}
	r, err := failover.Load(ctx, control, lease.Run)
	if err != nil || r.Outcome.Final() || r.Needs != "" || r.Plan.Kind != failover.Failover || r.Approval != nil {
		return
	}
	s.goOn(ctx, lease.Run)(s.p.Resume(ctx, lease.Run))
}

// goOn resumes a run of this process for as long as it was only interrupted.
// Who was deposed finds the run over, or left behind once more.
func (s *server) goOn(ctx context.Context, id string) func(failover.Result, error) {
	return func(r failover.Result, _ error) {
		open := r.Outcome == failover.Interrupted || r.Outcome == failover.Deposed
		for open && sleep(ctx, retryServe) {
			var err error
			r, err = s.p.Resume(ctx, id) // its event and message say how it ended
			open = r.Outcome == failover.Interrupted || r.Outcome == failover.Deposed ||
				r.Outcome == "" && err != nil // the witness is still away
		}
	}
}
