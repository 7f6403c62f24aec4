package failover

import "time"

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
