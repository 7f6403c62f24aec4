package dr

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/dr/notify"
	"github.com/holdfast-go/holdfast/failover"
	"github.com/holdfast-go/holdfast/replicate"
)

// actions makes the actions of a plan from the configuration and the parts.
// Those of Parts.Actions replace them by name.
func (p *Planner) actions(ctx context.Context, plan failover.Plan) (map[string]failover.Action, error) {
	from, to := p.siteParts(plan.From), p.siteParts(plan.To)
	all := map[string]failover.Action{}
	if plan.Kind == failover.Test {
		all["test/verify-standby"] = p.checkStandby(plan.To)
		all["test/restore"] = p.restoreStep(plan.To, p.config.Drill.Scratch)
		all["test/clean-up"] = p.cleanUpStep(plan.ID)
	} else {
		all["verify-standby"] = p.checkStandby(plan.To)
		all["verify-reversed"] = p.checkReversed(plan.From, plan.To)
		all["restore"] = p.restoreStep(plan.To, "")
		all["final-sync"] = p.finalSync(plan.From, plan.To)
		all["check-position"] = failover.CheckPosition("quiesce", "final-sync")
		all["notify"] = p.notifyStep()
		if from.Fencer != nil {
			all["fence"] = failover.FenceAction(from.Fencer)
			all["quiesce"] = p.quiesceStep(plan.From, failover.FenceAction(from.Fencer))
		}
		if to.Promoter != nil {
			all["start"] = failover.PromoteAction(to.Promoter)
		}
		all["verify-private"] = failover.ProbeAction(0, to.Private...)
		all["verify-public"] = failover.ProbeAction(0, to.Public...)
		if p.config.DNS != nil {
			traffic, err := p.traffic(ctx)
			if err != nil {
				return nil, err
			}
			all["traffic"] = traffic
		}
		if p.config.TrafficSwitch != nil {
			traffic, _, err := p.trafficSwitch(ctx)
			if err != nil {
				return nil, err
			}
			all["traffic"] = traffic
		}
	}
	for name, a := range p.parts.Actions {
		all[name] = a
	}
	return all, nil
}

func (p *Planner) traffic(ctx context.Context) (failover.Action, error) {
	d := *p.config.DNS
	zone, err := p.parts.DNS(ctx, d)
	if err != nil {
		return nil, fmt.Errorf("open zone %s: %w", d.Zone, err)
	}
	typ, err := recordType(d.Primary)
	if err != nil {
		return nil, err
	}
	return failover.NewTraffic(failover.TrafficConfig{
		DNS: zone, Owner: p.config.Name, Name: fqdn(d.Name), Type: typ, TTL: d.ttl(), Servers: d.Servers,
		Sites:          map[string][]string{PrimarySite: {recordValue(d.Primary)}, StandbySite: {recordValue(d.Standby)}},
		AllowNotAtomic: true, // a person decides, or failover.Arm has looked
	})
}

// recordValue is the presentation form of an address.
func recordValue(addr string) string {
	if typ, _ := recordType(addr); typ == "CNAME" {
		return fqdn(addr)
	}
	return strings.ToLower(addr)
}

// restorable finds the newest sound point at a site of every workload that
// has a place there.
func (p *Planner) restorable(ctx context.Context, site, _ string) (*backup.Repository, map[string]backup.Point, error) {
	repo, err := p.Repository(ctx, site)
	if err != nil {
		return nil, nil, err
	}
	newest := map[string]backup.Point{}
	for point, err := range repo.Points(ctx, "") {
		if err != nil {
			return nil, nil, fmt.Errorf("list points at %s: %w", site, err)
		}
		if point.Damaged == "" {
			newest[point.Name] = point
		}
	}
	var errs []error
	for _, w := range p.config.Workloads {
		if _, ok := newest[w.Name]; !ok && homeOf(w, site) != "" {
			errs = append(errs, fmt.Errorf("%w: of %s at %s", ErrNoPoint, w.Name, site))
		}
	}
	return repo, newest, errors.Join(errs...)
}

// checkStandby shows that the repository at the standby opens with keys that
// are there, and has a point of everything that is to be restored.
func (p *Planner) checkStandby(site string) failover.Action {
	return failover.ActionFuncs{DoFunc: func(ctx context.Context, c failover.Call) (failover.Evidence, error) {
		_, newest, err := p.restorable(ctx, site, c.Run)
		ev := failover.Evidence{}
		for name, point := range newest {
			ev[name] = string(point.ID)
		}
		if err != nil {
			return ev, errors.Join(err, failover.ErrNoEffect)
		}
		return ev, nil
	}}
}

// checkReversed shows that replication back to the former primary has caught
// up: the newest point of the site in charge has arrived there.
func (p *Planner) checkReversed(from, to string) failover.Action {
	return failover.ActionFuncs{DoFunc: func(ctx context.Context, c failover.Call) (failover.Evidence, error) {
		if _, err := p.replicate(ctx, from); err != nil {
			return nil, err
		}
		source, err := p.Repository(ctx, from)
		if err != nil {
			return nil, err
		}
		store, err := p.repositoryStore(ctx, to)
		if err != nil {
			return nil, err
		}
		lag, err := replicate.Lag(ctx, source, store)
		if err != nil {
			return nil, err
		}
		ev := failover.Evidence{"missing points": fmt.Sprint(lag.Points), "newest": lag.NewestKey}
		if lag.Points > 0 || lag.Newest.IsZero() {
			return ev, fmt.Errorf("%s lacks %s of %s: %w", to, count(lag.Points, "point"), from, failover.ErrNoEffect)
		}
		return ev, nil
	}}
}

// restoreStep restores the newest point of every workload at a site, in the
// order of priority. scratch, if not empty, is where a test restores to. A
// record for each workload lets a process that takes over skip what is done.
func (p *Planner) restoreStep(site, scratch string) failover.Action {
	return p.restoreWith(site, scratch, p.restorable)
}

// choose names the point of each workload that is to be restored at a site.
type choose func(ctx context.Context, site, run string) (*backup.Repository, map[string]backup.Point, error)

func (p *Planner) restoreWith(site, scratch string, which choose) failover.Action {
	place := func(w Workload, run string) string {
		if scratch != "" {
			return below(scratch, run, w.Name)
		}
		return homeOf(w, site)
	}
	return failover.ActionFuncs{
		ObserveFunc: func(ctx context.Context, c failover.Call) (failover.Observation, error) {
			done, err := p.restoredBy(ctx, c.Run)
			if err != nil {
				return failover.Observation{}, err
			}
			ev, complete := failover.Evidence{}, true
			var oldest time.Time
			for _, w := range p.config.Workloads {
				if place(w, c.Run) == "" || (scratch != "" && p.parts.Checkers[w.Type] == nil) {
					continue
				}
				r, ok := done[w.Name]
				complete = complete && ok
				if ok {
					ev[w.Name] = string(r.Point)
					oldest = earlier(oldest, r.PointTime)
				}
			}
			if !oldest.IsZero() {
				ev[failover.EvidenceAge] = time.Since(oldest).Round(time.Millisecond).String()
			}
			return failover.Observation{Done: complete && len(ev) > 0, Evidence: ev}, nil
		},
		DoFunc: func(ctx context.Context, c failover.Call) (failover.Evidence, error) {
			return p.restoreAllOf(ctx, c, site, which, place, scratch != "")
		},
	}
}

// restored is the record of one restore of a run.
type restored struct {
	Workload  string         `json:"workload"`
	Point     backup.PointID `json:"point"`
	PointTime time.Time      `json:"point_time"`
	Location  string         `json:"location"`
	Took      Duration       `json:"took"`
}

func (p *Planner) restoredBy(ctx context.Context, run string) (map[string]restored, error) {
	r, err := p.records(ctx)
	if err != nil {
		return nil, err
	}
	list, err := read[restored](ctx, r, kindRestored, run, time.Time{})
	out := map[string]restored{}
	for _, one := range list {
		out[one.Workload] = one
	}
	return out, err
}

func (p *Planner) restoreAllOf(ctx context.Context, c failover.Call, site string, which choose, place func(Workload, string) string, test bool) (failover.Evidence, error) {
	done, err := p.restoredBy(ctx, c.Run)
	if err != nil {
		return nil, err
	}
	repo, chosen, err := which(ctx, site, c.Run)
	if err != nil {
		return nil, err
	}
	ev, asked := failover.Evidence{}, time.Now()
	var oldest time.Time
	for _, w := range p.byPriority() {
		location := place(w, c.Run)
		if location == "" || (test && p.parts.Checkers[w.Type] == nil) {
			ev[w.Name] = "not restored"
			continue
		}
		r, ok := done[w.Name]
		if !ok {
			if r, err = p.restoreOne(ctx, c.Run, repo, w, chosen[w.Name], location, test); err != nil {
				return ev, err
			}
		}
		ev[w.Name] = string(r.Point)
		oldest = earlier(oldest, r.PointTime)
	}
	if !oldest.IsZero() {
		ev[failover.EvidenceAge] = asked.Sub(oldest).Round(time.Millisecond).String()
	}
	return ev, nil
}

func earlier(a, b time.Time) time.Time {
	if a.IsZero() || b.Before(a) {
		return b
	}
	return a
}

func (p *Planner) restoreOne(ctx context.Context, run string, repo *backup.Repository, w Workload, point backup.Point, location string, test bool) (restored, error) {
	began := time.Now()
	t, err := p.target(ctx, w, location)
	if err != nil {
		return restored{}, err
	}
	d := backup.Destination{Location: location}
	if aside := p.parts.SetAside[w.Type]; aside != nil {
		if err := aside(ctx, d); err != nil {
			return restored{}, fmt.Errorf("set aside what is at %s: %w", location, err)
		}
	}
	if err := repo.Restore(ctx, point.ID, t, d, backup.RestoreOptions{}); err != nil {
		return restored{}, fmt.Errorf("restore %s: %w", w.Name, err)
	}
	if checker := p.parts.Checkers[w.Type]; checker != nil && test {
		if err := checker.Check(ctx, w, point, d); err != nil {
			return restored{}, fmt.Errorf("check %s: %w", w.Name, err)
		}
	}
	r := restored{Workload: w.Name, Point: point.ID, PointTime: point.Time, Location: location, Took: Duration(time.Since(began))}
	records, err := p.records(ctx)
	if err == nil {
		err = records.put(ctx, recordKey(kindRestored, run, began), r)
	}
	return r, err
}

// cleanUpStep removes what a test restored. It is done when a Checker has
// looked and found nothing.
func (p *Planner) cleanUpStep(run string) failover.Action {
	each := func(do func(Checker, backup.Destination) error) error {
		var errs []error
		for _, w := range p.config.Workloads {
			// Without a Checker nothing was restored either.
			if checker := p.parts.Checkers[w.Type]; checker != nil {
				errs = append(errs, do(checker, backup.Destination{Location: below(p.config.Drill.Scratch, run, w.Name)}))
			}
		}
		return errors.Join(errs...)
	}
	return failover.ActionFuncs{
		ObserveFunc: func(ctx context.Context, c failover.Call) (failover.Observation, error) {
			o := failover.Observation{Done: true, Evidence: failover.Evidence{}}
			err := each(func(checker Checker, d backup.Destination) error {
				gone, err := checker.Gone(ctx, d)
				o.Done = o.Done && gone
				o.Evidence[d.Location] = map[bool]string{true: "nothing there", false: "still there"}[gone]
				return err
			})
			return o, err
		},
		DoFunc: func(ctx context.Context, c failover.Call) (failover.Evidence, error) {
			ev := failover.Evidence{}
			return ev, each(func(checker Checker, d backup.Destination) error {
				err := remove(ctx, checker, d)
				if err == nil {
					ev[d.Location] = "removed"
				}
				return err
			})
		},
	}
}

// runTag marks the last points of a quiesced site with the run they belong to.
const runTag = "run"

// quiesceStep stops the site and makes a last point of every workload. Those
// points are its position.
func (p *Planner) quiesceStep(site string, fence failover.Action) failover.Action {
	return failover.ActionFuncs{
		ObserveFunc: func(ctx context.Context, c failover.Call) (failover.Observation, error) {
			o, err := fence.Observe(ctx, c)
			if err != nil || !o.Done {
				return o, err
			}
			position, complete, err := p.lastPoints(ctx, site, c.Run)
			o.Done = complete
			o.Evidence[failover.EvidencePosition] = position
			return o, err
		},
		DoFunc: func(ctx context.Context, c failover.Call) (failover.Evidence, error) {
			ev, err := fence.Do(ctx, c)
			if err != nil || ev[failover.EvidenceConfirmed] != "true" {
				return ev, err
			}
			have, err := p.taggedPoints(ctx, site, c.Run)
			if err != nil {
				return ev, err
			}
			for _, w := range p.byPriority() {
				if _, ok := have[w.Name]; ok || homeOf(w, site) == "" {
					continue
				}
				if _, err := p.backUp(ctx, w, site, map[string]string{runTag: c.Run}); err != nil {
					return ev, err
				}
			}
			position, complete, err := p.lastPoints(ctx, site, c.Run)
			if err == nil && !complete {
				err = fmt.Errorf("not every workload has its last point: %s", position)
			}
			ev[failover.EvidencePosition] = position
			return ev, err
		},
		UndoFunc: fence.Undo,
	}
}

// finalSync brings the last points over and restores them. Its position is
// made of the points that were restored.
func (p *Planner) finalSync(from, to string) failover.Action {
	restore := p.restoreWith(to, "", p.lastOfRun)
	position := func(ctx context.Context, c failover.Call, ev failover.Evidence) error {
		text, _, err := p.lastPoints(ctx, to, c.Run)
		ev[failover.EvidencePosition] = text
		// The other site was stopped before its last points were made.
		ev[failover.EvidenceAge] = "0s"
		return err
	}
	return failover.ActionFuncs{
		ObserveFunc: func(ctx context.Context, c failover.Call) (failover.Observation, error) {
			o, err := restore.Observe(ctx, c)
			if err == nil && o.Done {
				err = position(ctx, c, o.Evidence)
			}
			return o, err
		},
		DoFunc: func(ctx context.Context, c failover.Call) (failover.Evidence, error) {
			if _, err := p.replicate(ctx, from); err != nil {
				return nil, err
			}
			ev, err := restore.Do(ctx, c)
			if err == nil {
				err = position(ctx, c, ev)
			}
			return ev, err
		},
	}
}

// taggedPoints are the points at a site that belong to a run.
func (p *Planner) taggedPoints(ctx context.Context, site, run string) (map[string]backup.Point, error) {
	repo, err := p.Repository(ctx, site)
	if err != nil {
		return nil, err
	}
	out := map[string]backup.Point{}
	for point, err := range repo.Points(ctx, "") {
		if err != nil {
			return nil, fmt.Errorf("list points at %s: %w", site, err)
		}
		if point.Damaged == "" && point.Tags[runTag] == run {
			out[point.Name] = point
		}
	}
	return out, nil
}

// lastOfRun chooses the points that a quiesced site made for a run: whatever
// else is there, only they are its last state.
func (p *Planner) lastOfRun(ctx context.Context, site, run string) (*backup.Repository, map[string]backup.Point, error) {
	repo, err := p.Repository(ctx, site)
	if err != nil {
		return nil, nil, err
	}
	points, err := p.taggedPoints(ctx, site, run)
	var errs []error
	for _, w := range p.config.Workloads {
		if _, ok := points[w.Name]; !ok && homeOf(w, site) != "" && homeOf(w, otherSite(site)) != "" {
			errs = append(errs, fmt.Errorf("%w: of %s for run %s at %s", ErrNoPoint, w.Name, run, site))
		}
	}
	return repo, points, errors.Join(append(errs, err)...)
}

// lastPoints writes the points of a run at a site in one line, and says
// whether every workload that lives at either site has one.
func (p *Planner) lastPoints(ctx context.Context, site, run string) (text string, complete bool, err error) {
	points, err := p.taggedPoints(ctx, site, run)
	if err != nil {
		return "", false, err
	}
	complete = true
	var parts []string
	for _, w := range p.config.Workloads {
		if homeOf(w, PrimarySite) == "" || homeOf(w, StandbySite) == "" {
			continue
		}
		point, ok := points[w.Name]
		complete = complete && ok
		parts = append(parts, w.Name+"="+string(point.ID))
	}
	return strings.Join(parts, " "), complete, nil
}

func (p *Planner) notifyStep() failover.Action {
	return failover.ActionFuncs{DoFunc: func(ctx context.Context, c failover.Call) (failover.Evidence, error) {
		m := notify.Message{
			Title: fmt.Sprintf("%s to %s done", c.Kind, c.To), Severity: notify.Warning, Key: c.Run,
			Text: fmt.Sprintf("%s is in charge of %s since epoch %d. The run is %s.", c.To, c.Service, c.Epoch, c.Run),
		}
		if err := p.tell(ctx, m); err != nil {
			return nil, err
		}
		return failover.Evidence{"channels": fmt.Sprint(len(p.config.Notify))}, nil
	}}
}
