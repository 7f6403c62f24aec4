package failover

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
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

	// Replaced by this package's tests only: the decision, to prove that the
	// simulator notices a wrong one, and the clock that stamps records.
	step func(state, event) (state, effect)
	wall func() time.Time
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
	// ErrStale: the world is not what the plan was made for. Plan again.
	ErrStale = errors.New("plan is stale")
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

// withDefaults checks the config against the plan it shall run and fills in
// what was left empty.
func (c Config) withDefaults(p Plan) (Config, error) {
	var errs []error
	if c.Store == nil {
		errs = append(errs, errors.New("config: Store is required"))
	}
	for _, s := range p.Steps {
		if c.Actions[s.Action] == nil {
			errs = append(errs, fmt.Errorf("config: Actions has no %q, which step %s needs", s.Action, s.Name))
		}
	}
	if c.TTL < 0 || c.Backoff < 0 {
		errs = append(errs, fmt.Errorf("config: TTL %v, Backoff %v: must not be negative", c.TTL, c.Backoff))
	}
	if c.TTL == 0 {
		c.TTL = 30 * time.Second
	}
	if c.Backoff == 0 {
		c.Backoff = 2 * time.Second
	}
	if c.Mode == "" {
		c.Mode = Manual
	}
	if c.Holder == "" {
		host, err := os.Hostname()
		if err != nil {
			errs = append(errs, fmt.Errorf("config: Holder is empty and the host has no name: %w", err))
		}
		c.Holder = fmt.Sprintf("%s/%d", host, os.Getpid())
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.step == nil {
		c.step = next
	}
	if c.wall == nil {
		c.wall = time.Now
	}
	return c, errors.Join(errs...)
}

// permitted checks that the mode lets this plan begin.
func (c Config) permitted(p Plan) error {
	switch c.Mode {
	case Manual:
		return nil
	case Assisted:
		return c.Approval.covers(p)
	case Automatic:
		if c.Conditions.Primary != p.From || c.Conditions.Standby != p.To {
			return fmt.Errorf("config: Conditions are about %s -> %s, the plan about %s -> %s",
				c.Conditions.Primary, c.Conditions.Standby, p.From, p.To)
		}
		return Arm(c.Conditions)
	}
	return fmt.Errorf("config: unknown Mode %q", c.Mode)
}

// leasePrefix keeps a test's lease, and so its epochs, apart from production.
func leasePrefix(k Kind) string {
	if k == Test {
		return "lease-test/"
	}
	return "lease/"
}

func (r Result) runError(err error) error {
	if err == nil && r.Outcome == Completed {
		return nil
	}
	e := &RunError{Run: r.Plan.ID, Outcome: r.Outcome, Reason: r.Reason, Needs: r.Needs, Err: err}
	e.Reason = strings.TrimSpace(e.Reason)
	return e
}
