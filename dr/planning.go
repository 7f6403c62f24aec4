package dr

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/retention"
)

// Hash is the SHA-256 of the configuration as JSON, "sha256:" and hex digits.
// It holds no secret, so it can be printed.
func (c Config) Hash() string {
	b, err := json.Marshal(c)
	if err != nil {
		return "invalid: " + err.Error() // no field of Config can fail
	}
	sum := sha256.Sum256(b)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// Plan reads the world and says what is due. It changes nothing. What cannot
// be reached does not fail it: the plan then says so among the problems of its
// Readiness, and leaves out what cannot be done.
func (p *Planner) Plan(ctx context.Context) (*Plan, error) {
	w, err := p.read(ctx)
	if err != nil {
		return nil, fmt.Errorf("plan: %w", err)
	}
	if w.control == nil {
		w.awaited, w.control = p.countAwaited(ctx, otherSite(w.active))
	}
	p.askLocks(ctx, w)
	p.survey(ctx, w)
	return p.plan(w), ctx.Err()
}

// plan is the pure part of Plan.
func (p *Planner) plan(w *world) *Plan {
	out := &Plan{
		Config: p.config.Name, ConfigHash: p.config.Hash(), Time: w.now, Active: w.active, World: w.fingerprint(),
	}
	if !w.between {
		init, problems := p.planInit(w)
		out.Actions = append(out.Actions, init...)
		if len(problems) == 0 {
			out.Actions = append(out.Actions, p.planBackups(w)...)
			out.Actions = append(out.Actions, p.planReplication(w, out.Actions)...)
			forget, trouble := p.planForget(w)
			out.Actions = append(out.Actions, forget...)
			problems = append(problems, trouble...)
			prunes := p.planPrunes(w, forget)
			out.Actions = append(out.Actions, p.planAttests(w, prunes)...)
			out.Actions = append(out.Actions, p.planLocks(w, nil)...)
			out.Actions = append(out.Actions, prunes...)
			out.Actions = append(out.Actions, p.planDrills(w)...)
		}
		out.Blocked = problems
		out.Readiness.Problems = slices.Clone(problems)
	}
	out.Forecasts = p.forecasts(w)
	out.Locks = p.siteLocks(w)
	out.Violations = p.violations(w, out.Forecasts)
	p.judgeReadiness(w, out)
	return out
}

// planInit creates the repository at the active site if there is none. If the
// other site holds points, a missing repository is a loss and no beginning:
// making a new one would hide it.
func (p *Planner) planInit(w *world) ([]Action, []string) {
	here, there := w.sites[w.active], w.sites[otherSite(w.active)]
	switch {
	case here.err == nil:
		return nil, nil
	case !here.absent:
		return nil, []string{fmt.Sprintf("the repository at %s cannot be read: %v", w.active, here.err)}
	case len(there.points) > 0:
		return nil, []string{fmt.Sprintf("there is no repository at %s, although %s holds %s: check the bucket; bring the points back before new ones are made",
			w.active, otherSite(w.active), count(len(there.points), "point"))}
	case there.err != nil && !there.absent:
		return nil, []string{fmt.Sprintf("there is no repository at %s, and whether %s has one cannot be seen: %v", w.active, otherSite(w.active), there.err)}
	}
	return []Action{{Kind: ActInit, Site: w.active, Reason: "there is no repository yet"}}, nil
}

func (p *Planner) planBackups(w *world) []Action {
	var out []Action
	for _, load := range p.byPriority() {
		if homeOf(load, w.active) == "" {
			continue // judgeReadiness says so
		}
		s, err := load.schedule()
		if err != nil {
			continue // New refused it
		}
		if run, due := s.due(w.history(load.Name), w.now); due {
			out = append(out, Action{Kind: ActBackup, Workload: load.Name, Site: w.active, Due: run.Tick, Reason: run.Reason})
		}
	}
	return out
}

func (p *Planner) planReplication(w *world, before []Action) []Action {
	to := otherSite(w.active)
	there := w.sites[to]
	if w.unsure || there.err != nil && !there.absent && !errors.Is(there.err, errNoKey) {
		return nil
	}
	have := map[backup.PointID]bool{}
	for _, point := range there.points {
		have[point.ID] = true
	}
	missing := 0
	for _, point := range w.sites[w.active].points {
		if !have[point.ID] && point.Damaged == "" {
			missing++
		}
	}
	planned := 0
	for _, a := range before {
		if a.Kind == ActBackup {
			planned++
		}
	}
	switch {
	case missing == 0 && planned == 0 && w.awaited == 0:
		return nil
	case missing == 0 && planned == 0:
		return []Action{{Kind: ActReplicate, Site: to, Reason: count(w.awaited, "point") + " arrived without logs"}}
	case missing == 0:
		return []Action{{Kind: ActReplicate, Site: to, Reason: count(planned, "new point") + " of this plan"}}
	case planned == 0:
		return []Action{{Kind: ActReplicate, Site: to, Reason: count(missing, "point") + " not arrived"}}
	}
	return []Action{{Kind: ActReplicate, Site: to, Reason: fmt.Sprintf("%s not arrived, %s of this plan", count(missing, "point"), count(planned, "new point"))}}
}

// planForget applies each workload's policy at each site. Points that have not
// arrived at the other site are kept at the active one, and locked ones
// where they are locked.
func (p *Planner) planForget(w *world) (out []Action, problems []string) {
	arrived := w.arrived()
	for _, site := range []string{w.active, otherSite(w.active)} {
		for _, load := range p.config.Workloads {
			decisions, err := p.decide(w, site, load, arrived)
			if err != nil {
				problems = append(problems, fmt.Sprintf("retention of %s at %s: %v", load.Name, site, err))
				continue
			}
			for _, d := range decisions {
				switch d.Verdict {
				case retention.Forget:
					if w.lockEnd(site, p.config.lockOf(site), d.Point).After(w.now) {
						continue // the store would refuse
					}
					out = append(out, Action{Kind: ActForget, Workload: load.Name, Site: site, Point: d.Point.ID, Reason: d.Reasons[0]})
				case retention.Quarantine:
					problems = append(problems, fmt.Sprintf("point %s of %s at %s: %s", d.Point.ID, load.Name, site, d.Reasons[0]))
				}
			}
		}
	}
	if w.control != nil && len(out) > 0 {
		// Without the proofs nobody knows which point is the last proven.
		problems = append(problems, fmt.Sprintf("nothing is forgotten while the records cannot be read: %v", w.control))
		out = nil
	}
	return out, problems
}

// arrived are the points that are at the site which is not in charge.
func (w *world) arrived() map[backup.PointID]bool {
	out := map[backup.PointID]bool{}
	for _, point := range w.sites[otherSite(w.active)].points {
		out[point.ID] = point.Damaged == ""
	}
	return out
}

// decide applies the policy of a workload at a site.
func (p *Planner) decide(w *world, site string, load Workload, arrived map[backup.PointID]bool) ([]retention.Decision[backup.Point], error) {
	return retention.Apply(w.sites[site].of(load.Name), p.describe(w, site, arrived), load.Retention.Policy(), w.now)
}

// describe tells retention about a point. A point that the other site lacks
// is pinned until it has arrived.
func (p *Planner) describe(w *world, site string, arrived map[backup.PointID]bool) func(backup.Point) retention.Point {
	return func(point backup.Point) retention.Point {
		proven := slices.ContainsFunc(w.proofs[point.Name], func(proof Proof) bool { return proof.Point == point.ID && proof.Proves() })
		return retention.Point{
			ID: string(point.ID), Group: point.Name, Time: point.Time, Stored: point.Stored,
			Pinned: site == w.active && !arrived[point.ID],
			Proven: proven,
		}
	}
}

// planDrills has the newest restorable point of each workload proven when its
// last proof is Drill.Every old.
func (p *Planner) planDrills(w *world) []Action {
	if p.config.Drill.Every == 0 {
		return nil
	}
	var out []Action
	for _, load := range p.byPriority() {
		points := w.sites[StandbySite].of(load.Name)
		if len(points) == 0 {
			continue
		}
		s := schedule{every: p.config.Drill.Every.Std()}
		h := drillHistory(w.proofs[load.Name])
		if run, due := s.due(h, w.now); due {
			reason := fmt.Sprintf("the last proof is older than %v", p.config.Drill.Every)
			if h.success.IsZero() {
				reason = "nothing has been proven yet"
			}
			out = append(out, Action{Kind: ActDrill, Workload: load.Name, Site: StandbySite, Point: points[len(points)-1].ID, Due: run.Tick, Reason: reason})
		}
	}
	return out
}

// drillHistory reads the past of drills. Without a Checker nothing is ever
// proven, but the drill counts as done.
func drillHistory(proofs []Proof) history {
	var h history
	for _, proof := range proofs {
		if proof.Passed {
			h = history{success: proof.Began}
		} else {
			h.attempt, h.failures = proof.Began, h.failures+1
		}
	}
	return h
}

// judgeReadiness says whether the other site could take over now.
func (p *Planner) judgeReadiness(w *world, plan *Plan) {
	r := &plan.Readiness
	r.Mode = string(p.config.Failover.mode())
	problem := func(format string, args ...any) { r.Problems = append(r.Problems, fmt.Sprintf(format, args...)) }
	if w.control != nil {
		problem("lease and records cannot be read: %v", w.control)
	}
	if w.between {
		problem("run %s stopped between fence and pivot: no site is in charge; resume it", w.lease.Run)
		r.Ready = false
		return
	}
	to := otherSite(w.active)
	if err := w.sites[to].err; err != nil && !w.sites[to].absent {
		problem("the repository at %s cannot be read: %v", to, err)
	}
	for _, site := range []string{PrimarySite, StandbySite} {
		for _, point := range w.sites[site].points {
			if point.Damaged != "" {
				problem("point %s at %s is damaged: %s", point.ID, site, point.Damaged)
			}
		}
	}
	p.judgeWorkloads(w, plan, problem)
	for _, missing := range p.missingParts(w.active, to) {
		problem("%s", missing)
	}
	r.Ready = len(r.Problems) == 0
	r.Armed = r.Ready && p.arm(w, plan.Forecasts) == nil
	if p.config.Failover.mode() == "automatic" && !r.Armed {
		if err := p.arm(w, plan.Forecasts); err != nil {
			problem("not armed: %v", oneLine(err))
		}
	}
}

func (p *Planner) judgeWorkloads(w *world, plan *Plan, problem func(string, ...any)) {
	to := otherSite(w.active)
	for _, f := range plan.Forecasts {
		load, _ := p.config.Workload(f.Workload)
		switch {
		case homeOf(load, to) == "":
			problem("%s has no place at %s (targets[%d].restore_to)", load.Name, to, p.index(load.Name))
		case !f.Known:
			problem("%s has no restorable point at %s", load.Name, to)
		}
	}
	restore, _ := p.restoreAll(w)
	var b budget
	b.add(tidy(restore), "to restore")
	b.add(p.config.Failover.settle(), "to settle")
	if p.config.movesTraffic() {
		b.add(p.config.follow(), "for clients to follow "+p.config.followed())
	}
	if limit := p.config.Failover.budget(); b.total() > limit {
		problem("this plan cannot meet a failover of %v: %v", Duration(limit), b)
	}
}
