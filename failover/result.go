package failover

import (
	"fmt"
	"slices"
	"time"
)

// An Outcome is the named state in which a run, or this process' part of it,
// ended.
type Outcome string

// The first four end a run for good; after the next two a person must act,
// then [Resume], [Rollback] or [Abandon] it; the last two say why this
// process stopped while the run itself is open.
const (
	Completed  Outcome = "completed"   // To serves
	RolledBack Outcome = "rolled-back" // a step failed before the pivot; everything was undone
	Cancelled  Outcome = "cancelled"   // rolled back because a person asked for it
	Abandoned  Outcome = "abandoned"   // closed by a person who declared which site is active

	FailedBeforePivot Outcome = "failed-before-pivot" // the rollback, or the clean-up of a test, failed
	StuckAfterPivot   Outcome = "stuck-after-pivot"   // a step past the pivot failed; To may accept writes

	Deposed     Outcome = "deposed"     // another process took over
	Interrupted Outcome = "interrupted" // ctx ended or the store cannot be reached; Resume goes on
)

// Final reports whether the run is over for good.
func (o Outcome) Final() bool {
	return o == Completed || o == RolledBack || o == Cancelled || o == Abandoned
}

// A Result is what a run came to, computed from its journal alone.
type Result struct {
	Plan     Plan
	PlanHash string
	Outcome  Outcome
	Reason   string // why, if not completed
	Needs    string // what a person must do now; empty if nothing
	Epoch    uint64 // of the last process that worked on the run
	Holders  []string
	Approval *Approval
	Steps    []StepResult
	Loss     Loss
	Times    Times

	// Exceptions are failures that did not stop the run (notifications).
	Exceptions []string
}

// A StepStatus says how far a step has come.
type StepStatus string

const (
	StepPending StepStatus = "pending"
	StepStarted StepStatus = "started" // tried; not known to be done
	StepDone    StepStatus = "done"
	StepFailed  StepStatus = "failed" // a notification that was given up
	StepUndone  StepStatus = "undone"
	StepSkipped StepStatus = "skipped" // a step of a failed test
)

// A StepResult is what became of one step.
type StepResult struct {
	Name     string
	Role     Role
	Status   StepStatus
	Attempts int           // calls of Do, by all processes
	Observed bool          // found done, not done by the last attempt
	Started  time.Time     // first attempt, by that process' clock, UTC
	Took     time.Duration // of the successful attempt, observation included, on that process' monotonic clock
	Evidence Evidence
	Error    string // of the last failed attempt
}

// Loss is the bound of lost writes.
type Loss struct {
	Known bool
	Bound time.Duration // no write older than this, counted back from the fence, is lost
	Basis string        // the step that measured it
}

// Times are the parts of the recovery time. Those of one process come from
// its monotonic clock; across processes the stamps in the journal are used.
type Times struct {
	Detect   time.Duration          // Plan.Fault to Plan.Created; 0 if there was no fault
	Lead     time.Duration          // Plan.Created to the first record: approval, lease
	ByRole   map[Role]time.Duration // sum of StepResult.Took
	Switched time.Duration          // first record to the last verification done; 0 if not reached
	Total    time.Duration          // first record to last record
}

// result computes what the journal says so far.
func (s state) result() Result {
	r := Result{
		Plan: s.plan, PlanHash: s.hash, Outcome: s.outcome, Reason: s.reason, Epoch: s.epoch,
		Holders: slices.Clone(s.holders), Approval: s.approval, Times: Times{ByRole: map[Role]time.Duration{}},
	}
	for i, step := range s.plan.Steps {
		st := s.steps[i]
		sr := StepResult{
			Name: step.Name, Role: step.Role, Status: st.status, Attempts: st.attempts, Observed: st.observed,
			Started: st.started, Took: st.took, Evidence: st.evidence, Error: st.err,
		}
		switch {
		case s.over && st.status == StepPending && s.outcome != Abandoned:
			sr.Status = StepSkipped
		case st.status == StepFailed:
			r.Exceptions = append(r.Exceptions, fmt.Sprintf("step %s: %s", step.Name, st.err))
		}
		r.Steps = append(r.Steps, sr)
		r.Times.ByRole[step.Role] += st.took
		if age, err := time.ParseDuration(st.evidence[EvidenceAge]); err == nil && step.Role == RoleRestore && st.status == StepDone {
			r.Loss = Loss{Known: true, Bound: age, Basis: step.Name} // of the last restore: it found what is there now
		}
	}
	if !s.plan.Fault.IsZero() {
		r.Times.Detect = s.plan.Created.Sub(s.plan.Fault)
	}
	r.Times.Lead = s.first.Sub(s.plan.Created)
	r.Times.Total = s.last.Sub(s.first)
	if !s.verified.IsZero() {
		r.Times.Switched = s.verified.Sub(s.first)
	}
	r.Needs = s.needs()
	return r
}

// needs says what a person must do. Every state that does not end by itself
// has such a sentence.
func (s state) needs() string {
	p := s.plan
	switch s.outcome {
	case StuckAfterPivot:
		return fmt.Sprintf("%s may accept writes, so %s must stay fenced; remove the cause and resume run %s, "+
			"or check which site is in charge and abandon the run", p.To, p.From, p.ID)
	case FailedBeforePivot:
		if p.Kind == Test {
			return fmt.Sprintf("something of the test may be left at %s; remove the cause and resume run %s", p.To, p.ID)
		}
		return fmt.Sprintf("nothing serves for sure: %s may still be fenced; remove the cause and resume run %s, "+
			"or check which site is in charge and abandon the run", p.From, p.ID)
	}
	return ""
}
