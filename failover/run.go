package failover

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/holdfast-go/holdfast/provider"
)

// Config is what a process needs to run plans.
type Config struct {
	// Store holds journal and lease. It must be reachable while the primary
	// site is gone. Required.
	Store provider.BlobStore

	// Actions by the name that steps use. Required for every step.
	Actions map[string]Action

	Holder   string        // who runs this, for people; empty means host name and process id
	TTL      time.Duration // of the lease; 0 means 30 s
	Backoff  time.Duration // between attempts of a step; 0 means 2 s
	Mode     Mode          // empty means Manual
	Approval *Approval     // needed in Assisted mode

	// Conditions are judged by Arm in Automatic mode.
	Conditions Conditions

	Logger   *slog.Logger // nil discards
	Progress func(Event)  // called one at a time, after a record is durable; must not block; may be nil
}

// An Event tells of one record that was added to the journal.
type Event struct {
	Record Record
	Step   int // index in the plan, -1 if the record is about no step
	Steps  int
}

var (
	// ErrDeposed: another process took over the run.
	ErrDeposed = errors.New("deposed: another process took over the run")
	// ErrUnfinished: another run of the service is still open.
	ErrUnfinished = errors.New("another run is unfinished")
	// ErrPastPivot: the standby may accept writes. Going back would make two
	// primaries or lose writes; go on with Resume, or plan a failback.
	ErrPastPivot = errors.New("past the pivot")
	// ErrFinal: the run is over.
	ErrFinal = errors.New("run is over")
)

// A RunError is the error of a run that did not end Completed. It matches
// what Err matches.
type RunError struct {
	Run     string
	Outcome Outcome
	Reason  string
	Needs   string
	Err     error // ErrDeposed, a context error, ...; nil if the journal says it all
}

// Run executes a plan to its end. The error is nil only if it completed;
// otherwise it is a [*RunError], or says why the run never began: the plan is
// not valid, not approved, not armed, the lease is held until ctx ended, or
// [ErrUnfinished].
func Run(ctx context.Context, c Config, p Plan) (Result, error) {
	return Result{}, errors.ErrUnsupported
}

// Resume takes over a run, whoever worked on it, and goes on with it: forward,
// or with its rollback if that had begun. It first waits until no effect of
// the earlier process can land any more. A run that is over is [ErrFinal],
// with its Result.
func Resume(ctx context.Context, c Config, run string) (Result, error) {
	return Result{}, errors.ErrUnsupported
}

// Rollback takes over a run and takes it back. [ErrPastPivot] once the standby
// may accept writes; nothing is changed then.
func Rollback(ctx context.Context, c Config, run string) (Result, error) {
	return Result{}, errors.ErrUnsupported
}

// Abandonment is a person's statement about a run that cannot go on.
type Abandonment struct {
	Active string // the site that is in charge, by what the person has checked; required
	By     string // required
	Reason string // required
}

// Abandon closes a run without doing anything more, and declares which site
// is in charge. The person has to be sure that no other one accepts writes.
func Abandon(ctx context.Context, c Config, run string, a Abandonment) (Result, error) {
	return Result{}, errors.ErrUnsupported
}

// Error names run and outcome.
func (e *RunError) Error() string {
	s := "run " + e.Run + ": " + string(e.Outcome)
	if e.Reason != "" {
		s += ": " + e.Reason
	}
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	if e.Needs != "" {
		s += " (" + e.Needs + ")"
	}
	return s
}

// Unwrap returns Err.
func (e *RunError) Unwrap() error { return e.Err }
