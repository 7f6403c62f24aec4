package report

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"time"
)

var (
	idPattern  = regexp.MustCompile(`^[A-Za-z0-9._-]{1,100}$`)
	hexPattern = regexp.MustCompile(`^[0-9a-f]{64}$`)
)

// clockSlack is how far two clocks of one run may disagree before the report
// counts as contradicting itself.
const clockSlack = Duration(time.Second)

// Validate reports every fault at once, each naming its field by its JSON
// name. Faults are fields that must be set (NotTested is one), values that
// cannot be, and numbers that contradict each other: records that do not add
// up, lost records beside an RPO of zero, an RTO shorter than its own
// timeline. A report with a fault is never written.
func (r *Report) Validate() error {
	c := &checker{workloads: map[string]*Workload{}}
	c.head(r)
	c.work(r)
	c.timeline(r)
	c.steps(r)
	c.points(r)
	c.copies(r)
	c.dataChecks(r)
	c.around(r)
	return errors.Join(c.faults...)
}

type checker struct {
	faults    []error
	workloads map[string]*Workload
}

// want records a fault unless ok.
func (c *checker) want(ok bool, field, format string, args ...any) {
	if !ok {
		c.faults = append(c.faults, fmt.Errorf("%s: %s", field, fmt.Sprintf(format, args...)))
	}
}

func (c *checker) set(s, field string) { c.want(s != "", field, "must be set") }

func (c *checker) at(t time.Time, field string) {
	c.want(!t.IsZero(), field, "must be set")
	c.want(t.IsZero() || t.UTC().Year() >= 1970 && t.UTC().Year() <= 9999, field, "year %d is out of range", t.UTC().Year())
}

func (c *checker) atOrNil(t *time.Time, field string) {
	if t != nil {
		c.at(*t, field)
	}
}

func (c *checker) count(n int64, field string) { c.want(n >= 0, field, "%d is negative", n) }

func (c *checker) span(d *Duration, field string) {
	c.want(d == nil || *d >= 0, field, "is negative")
}

// workload wants name to be that of a workload of the report.
func (c *checker) workload(name, field string) {
	_, ok := c.workloads[name]
	c.want(ok, field, "%q is none of the workloads", name)
}

func oneOf[T comparable](c *checker, v T, field string, all ...T) {
	c.want(slices.Contains(all, v), field, "%q is none of %v", fmt.Sprint(v), all)
}

func each[T any](list []T, name string, f func(at string, v *T)) {
	for i := range list {
		f(fmt.Sprintf("%s[%d]", name, i), &list[i])
	}
}

func (c *checker) head(r *Report) {
	c.want(idPattern.MatchString(r.ID), "id", "%q is not 1 to 100 of [A-Za-z0-9._-]", r.ID)
	c.set(r.Title, "title")
	oneOf(c, r.Kind, "kind", RestoreTest, TestFailover, Switchover, Failover, Failback)
	c.set(r.Operator, "operator")
	c.set(r.Environment.ToolVersion, "environment.tool_version")
	c.set(r.Environment.Host, "environment.host")
	c.want(len(r.Environment.Sites) > 0, "environment.sites", "must name at least one site")
	each(r.Environment.Sites, "environment.sites", func(at string, s *Site) {
		c.set(s.Name, at+".name")
		c.set(s.Region, at+".region")
	})
	each(r.Approvals, "approvals", func(at string, a *Approval) {
		c.set(a.By, at+".by")
		c.at(a.At, at+".at")
	})
	c.set(r.Plan.ID, "plan.id")
	c.want(hexPattern.MatchString(r.Plan.SHA256), "plan.sha256", "%q is not 64 lower-case hex digits", r.Plan.SHA256)
	c.at(r.Started, "started")
	c.at(r.Ended, "ended")
	c.want(!r.Ended.Before(r.Started), "ended", "is before started")
	c.span(r.Elapsed, "elapsed_seconds")
	c.want(r.NotTested != nil, "not_tested", "must be set: list what was left out, or give an empty list that is not nil to state that nothing was")
	each(r.NotTested, "not_tested", func(at string, x *Exclusion) {
		c.set(x.What, at+".what")
		c.set(x.Why, at+".why")
		c.atOrNil(x.LastTested, at+".last_tested")
	})
}

func (c *checker) work(r *Report) {
	c.want(len(r.Workloads) > 0, "workloads", "must name at least one workload")
	each(r.Workloads, "workloads", func(at string, w *Workload) {
		c.set(w.Name, at+".name")
		_, twice := c.workloads[w.Name]
		c.want(!twice, at+".name", "%q is there twice", w.Name)
		c.workloads[w.Name] = w
		for _, o := range w.objectives() {
			f := at + "." + o.field
			c.span(o.objective.Target, f+".target_seconds")
			c.span(o.objective.Measured, f+".measured_seconds")
			c.want(o.objective.Measured == nil || o.objective.Basis != "", f+".basis", "must say how it was measured")
		}
	})
}

func (c *checker) timeline(r *Report) {
	t := &r.Timeline
	c.atOrNil(t.Fault, "timeline.fault")
	c.atOrNil(t.Pivot, "timeline.pivot")
	c.want(t.Fault == nil || t.Pivot == nil || !t.Pivot.Before(*t.Fault), "timeline.pivot", "is before the fault")
	each(t.Phases, "timeline.phases", func(at string, p *Phase) {
		oneOf(c, p.Name, at+".name", PhaseDetect, PhaseDecide, PhaseFence, PhaseRestore, PhaseStart, PhaseSwitch, PhaseVerify)
		c.at(p.Started, at+".started")
		c.at(p.Ended, at+".ended")
		c.want(!p.Ended.Before(p.Started), at+".ended", "is before started")
		c.want(t.Fault == nil || !p.Started.Before(*t.Fault), at+".started", "is before the fault")
		if p.Workload != "" {
			c.workload(p.Workload, at+".workload")
		}
	})
	each(r.Workloads, "workloads", func(at string, w *Workload) {
		took, ok := t.recovery(w.Name)
		c.want(!ok || w.RTO.Measured == nil || took-*w.RTO.Measured <= clockSlack, at+".rto.measured_seconds",
			"is less than the %s that the timeline shows", took)
	})
}

// recovery is the time from the fault to the end of the last phase that
// concerns a workload.
func (t *Timeline) recovery(workload string) (took Duration, ok bool) {
	if t.Fault == nil {
		return 0, false
	}
	for _, p := range t.Phases {
		if p.Workload == "" || p.Workload == workload {
			took, ok = max(took, Duration(p.Ended.Sub(*t.Fault))), true
		}
	}
	return took, ok
}

func (c *checker) steps(r *Report) {
	each(r.Steps, "steps", func(at string, s *Step) {
		c.set(s.Name, at+".name")
		oneOf(c, s.State, at+".state", StepDone, StepFailed, StepRolledBack, StepSkipped, StepNotReached)
		c.want(s.Attempts >= 0, at+".attempts", "%d is negative", s.Attempts)
		c.span(s.Elapsed, at+".elapsed_seconds")
		c.atOrNil(s.Started, at+".started")
		if s.Workload != "" {
			c.workload(s.Workload, at+".workload")
		}
		switch s.State {
		case StepFailed, StepRolledBack:
			c.want(s.Attempts > 0, at+".attempts", "must be at least 1: the step is %s", s.State)
			c.want(s.Started != nil, at+".started", "must be set: the step is %s", s.State)
			c.want(s.Error != "", at+".error", "must say why the step is %s", s.State)
		case StepDone:
			c.want(s.Started != nil, at+".started", "must be set: the step is done")
		case StepSkipped:
			c.want(s.Error != "", at+".error", "must say why the step was skipped")
		case StepNotReached:
			c.want(s.Attempts == 0, at+".attempts", "must be 0: the step was not reached")
		}
	})
}

func (c *checker) points(r *Report) {
	seen := map[[2]string]bool{}
	if len(r.Points) > 0 || len(r.Windows) > 0 {
		c.at(r.PointsAsOf, "points_as_of")
	}
	each(r.Points, "points", func(at string, p *Point) {
		c.set(p.ID, at+".id")
		c.workload(p.Workload, at+".workload")
		c.set(p.Mode, at+".mode")
		c.at(p.At, at+".at")
		c.want(!p.At.After(r.PointsAsOf), at+".at", "is after points_as_of")
		oneOf(c, p.Stage, at+".stage", allStages[:]...)
		c.count(p.BytesRead, at+".bytes_read")
		c.count(p.BytesNew, at+".bytes_new")
		c.count(p.BytesStored, at+".bytes_stored")
		c.want(p.BytesNew <= p.BytesRead, at+".bytes_new", "%d is more than the %d read", p.BytesNew, p.BytesRead)
		key := [2]string{p.Workload, p.ID}
		c.want(!seen[key], at+".id", "%q is there twice", p.ID)
		seen[key] = true
	})
	each(r.Windows, "windows", func(at string, w *Window) {
		c.workload(w.Workload, at+".workload")
		c.set(w.Site, at+".site")
		c.at(w.Since, at+".since")
		c.at(w.Until, at+".until")
		c.want(!w.Since.After(r.PointsAsOf), at+".since", "is after points_as_of")
		c.want(w.Points > 0, at+".points", "must be at least 1: a log begins with a point")
	})
	each(r.Retention, "retention", func(at string, d *Decision) {
		c.set(d.Point, at+".point")
		c.workload(d.Workload, at+".workload")
		oneOf(c, d.Verdict, at+".verdict", Kept, Forgotten, HeldBack)
		c.want(len(d.Reasons) > 0, at+".reasons", "must give at least one reason")
		c.atOrNil(d.Until, at+".until")
	})
}

func (c *checker) copies(r *Report) {
	each(r.Replication, "replication", func(at string, x *Replication) {
		c.set(x.From, at+".from")
		c.set(x.To, at+".to")
		c.count(x.Objects, at+".objects")
		c.count(x.Bytes, at+".bytes")
		c.count(x.BacklogObjects, at+".backlog_objects")
		c.count(x.BacklogBytes, at+".backlog_bytes")
		c.span(x.Lag, at+".lag_seconds")
		c.count(x.Verified, at+".verified_objects")
		c.count(x.Mismatches, at+".mismatches")
		c.want(x.Mismatches <= x.Verified, at+".mismatches", "%d is more than the %d verified", x.Mismatches, x.Verified)
	})
	each(r.Integrity, "integrity", func(at string, x *Integrity) {
		c.set(x.What, at+".what")
		c.set(x.Algorithm, at+".algorithm")
		c.set(x.Sample, at+".sample")
		c.count(x.Objects, at+".objects")
		c.count(x.Bytes, at+".bytes")
		c.count(x.Mismatches, at+".mismatches")
		c.want(x.Mismatches <= x.Objects, at+".mismatches", "%d is more than the %d checked", x.Mismatches, x.Objects)
		c.want(int64(len(x.Mismatched)) <= x.Mismatches, at+".mismatched", "names %d objects, more than the %d mismatches", len(x.Mismatched), x.Mismatches)
	})
}

func (c *checker) dataChecks(r *Report) {
	each(r.DataChecks, "data_checks", func(at string, d *DataCheck) {
		c.set(d.What, at+".what")
		c.workload(d.Workload, at+".workload")
		c.count(d.Expected, at+".expected")
		c.count(d.Present, at+".present")
		c.count(d.Lost, at+".lost")
		c.want(d.Expected-d.Present == d.Lost, at+".expected", "%d is not the sum of %d present and %d lost", d.Expected, d.Present, d.Lost)
		if d.Lost > 0 {
			c.set(d.FirstLost, at+".first_lost")
			c.set(d.LastLost, at+".last_lost")
			w := c.workloads[d.Workload]
			c.want(w == nil || w.RPO.Measured == nil || *w.RPO.Measured > 0, at+".lost",
				"%d records are lost, but the RPO of %s was measured as zero", d.Lost, d.Workload)
		} else {
			c.want(d.FirstLost == "" && d.LastLost == "", at+".first_lost", "is set, but nothing is lost")
		}
	})
}

func (c *checker) around(r *Report) {
	each(r.Notifications, "notifications", func(at string, n *Notification) {
		c.set(n.Channel, at+".channel")
		c.set(n.Event, at+".event")
		c.at(n.At, at+".at")
		c.want(n.Delivered == "" || n.Error == "", at+".error", "is set beside a receipt: it was delivered or it was not")
	})
	each(r.Deviations, "deviations", func(at string, d *Deviation) {
		c.set(d.What, at+".what")
		c.set(d.Owner, at+".owner")
		c.atOrNil(d.Due, at+".due")
	})
	each(r.Cleanup, "cleanup", func(at string, x *Cleanup) {
		c.set(x.Resource, at+".resource")
		oneOf(c, x.State, at+".state", Removed, Remains, Spared)
		c.at(x.Checked, at+".checked")
		c.set(x.Proof, at+".proof")
	})
	each(r.SignOff, "sign_off", func(at string, s *SignOff) {
		c.set(s.Role, at+".role")
		c.atOrNil(s.At, at+".at")
	})
}
