package report

import (
	"fmt"
	"strings"
	"time"
)

// An Outcome is what came of an objective.
type Outcome string

const (
	Met         Outcome = "met"
	Missed      Outcome = "missed"
	NotMeasured Outcome = "not measured" // whatever the target
	NoTarget    Outcome = "no target"    // measured, but there is nothing to compare with
)

// A Result is what came of the run.
type Result string

const (
	Passed     Result = "passed"
	Failed     Result = "failed"
	Incomplete Result = "incomplete" // nothing failed, but not all that has a target was measured
)

// Findings are what follows from the data of a report. They are computed,
// stand beside the data in the twin, and are computed again by [Parse].
type Findings struct {
	Result Result `json:"result"`

	// Reasons say what kept Result from being Passed, in whole sentences
	// without the final dot.
	Reasons []string `json:"reasons"`

	Objectives []Judgement `json:"objectives"`
	Stages     []StageSum  `json:"stages"`
}

// A Judgement compares one objective with what was measured.
type Judgement struct {
	Workload  string    `json:"workload"`
	Objective string    `json:"objective"` // "RPO", "RTO", "failover time", "proven age"
	Target    *Duration `json:"target_seconds"`
	Measured  *Duration `json:"measured_seconds"`
	Outcome   Outcome   `json:"outcome"`

	// Margin is Target minus Measured: negative if it was missed, nil if it
	// cannot be told.
	Margin *Duration `json:"margin_seconds"`
	Basis  string    `json:"basis"`
}

// A StageSum says how many points of a workload have come at least as far as
// Stage, and how old the newest of them is.
type StageSum struct {
	Workload string     `json:"workload"`
	Stage    Stage      `json:"stage"`
	Count    int        `json:"count"`
	Newest   *time.Time `json:"newest"`      // nil if there is none
	Age      *Duration  `json:"age_seconds"` // of the newest, at PointsAsOf
}

// Judge compares every measurement with its target and sums up. It is the
// only place where an objective becomes met. It reads any report, also one
// that Validate refuses.
func (r *Report) Judge() Findings {
	f := Findings{Objectives: []Judgement{}, Stages: []StageSum{}}
	for i := range r.Workloads {
		for _, o := range r.Workloads[i].objectives() {
			f.Objectives = append(f.Objectives, judge(r.Workloads[i].Name, o.name, *o.objective))
		}
		f.Stages = append(f.Stages, r.stages(r.Workloads[i].Name)...)
	}
	failed, missing := r.failures(f.Objectives), unmeasured(f.Objectives)
	switch {
	case len(failed) > 0:
		f.Result = Failed
	case len(missing) > 0:
		f.Result = Incomplete
	default:
		f.Result = Passed
	}
	f.Reasons = append(append([]string{}, failed...), missing...)
	return f
}

type namedObjective struct {
	name, field string
	objective   *Objective
}

func (w *Workload) objectives() []namedObjective {
	return []namedObjective{
		{"RPO", "rpo", &w.RPO},
		{"RTO", "rto", &w.RTO},
		{"failover time", "failover", &w.Failover},
		{"proven age", "proven", &w.Proven},
	}
}

func judge(workload, name string, o Objective) Judgement {
	j := Judgement{Workload: workload, Objective: name, Target: o.Target, Measured: o.Measured, Basis: o.Basis}
	switch {
	case o.Measured == nil || *o.Measured < 0: // Validate refuses the latter
		j.Outcome = NotMeasured
		return j
	case o.Target == nil:
		j.Outcome = NoTarget
		return j
	case *o.Measured <= *o.Target:
		j.Outcome = Met
	default:
		j.Outcome = Missed
	}
	margin := *o.Target - *o.Measured
	j.Margin = &margin
	return j
}

// failures are the reasons for which a run has failed.
func (r *Report) failures(js []Judgement) []string {
	var why []string
	add := func(format string, args ...any) { why = append(why, fmt.Sprintf(format, args...)) }
	for _, j := range js {
		if j.Outcome == Missed {
			add("%s of %s missed by %s: %s against a target of %s", sentence(j.Objective), j.Workload, (-*j.Margin).exact(), j.Measured.exact(), j.Target.exact())
		}
	}
	for _, s := range r.Steps {
		if s.State == StepFailed || s.State == StepRolledBack || s.State == StepNotReached {
			add("Step %q: %s", s.Name, s.State)
		}
	}
	for _, c := range r.Replication {
		if c.Mismatches > 0 {
			add("Replication %s to %s: %s of %s objects read again did not match", c.From, c.To, grouped(c.Mismatches), grouped(c.Verified))
		}
	}
	for _, c := range r.Integrity {
		if c.Mismatches > 0 {
			add("Integrity of %s: %s of %s objects did not match", c.What, grouped(c.Mismatches), grouped(c.Objects))
		}
	}
	for _, c := range r.Cleanup {
		if c.State == Remains {
			add("Clean-up: %s remains", c.Resource)
		}
	}
	return why
}

// unmeasured are the reasons for which a run that did not fail has not passed
// either.
func unmeasured(js []Judgement) []string {
	var why []string
	met := 0
	for _, j := range js {
		if j.Outcome == NotMeasured && j.Target != nil {
			why = append(why, fmt.Sprintf("%s of %s was not measured; its target is %s", sentence(j.Objective), j.Workload, j.Target.exact()))
		}
		if j.Outcome == Met {
			met++
		}
	}
	if met == 0 && len(why) == 0 {
		why = append(why, "No objective has both a target and a measurement")
	}
	return why
}

// sentence makes s begin a sentence. It is ASCII.
func sentence(s string) string { return strings.ToUpper(s[:1]) + s[1:] }

var allStages = [...]Stage{Committed, Arrived, Restorable, Proven}

func rank(s Stage) int {
	for i, t := range allStages {
		if s == t {
			return i
		}
	}
	return -1
}

func (r *Report) stages(workload string) []StageSum {
	var sums []StageSum
	for i, stage := range allStages {
		sum := StageSum{Workload: workload, Stage: stage}
		for k := range r.Points {
			p := &r.Points[k]
			if p.Workload != workload || rank(p.Stage) < i {
				continue
			}
			sum.Count++
			if sum.Newest == nil || p.At.After(*sum.Newest) {
				at := p.At
				sum.Newest = &at
			}
		}
		if sum.Newest != nil {
			age := Duration(r.PointsAsOf.Sub(*sum.Newest))
			sum.Age = &age
		}
		sums = append(sums, sum)
	}
	return sums
}
