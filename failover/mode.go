package failover

import (
	"errors"
	"fmt"
	"time"
)

// A Mode says who decides that a plan runs.
type Mode string

const (
	// Manual: a person starts the run. The default.
	Manual Mode = "manual"
	// Assisted: everything is prepared; one approval starts the run.
	Assisted Mode = "assisted"
	// Automatic: a detector starts the run, if [Arm] agrees.
	Automatic Mode = "automatic"
)

// ErrNotApproved: the mode asks for an approval of exactly this plan.
var ErrNotApproved = errors.New("plan is not approved")

// An Approval is one person's consent to one plan.
type Approval struct {
	PlanHash string    `json:"plan_hash"` // Plan.Hash of what was approved
	By       string    `json:"by"`
	At       time.Time `json:"at"`
}

// Approve binds a person's consent to a plan as it is now.
func Approve(p Plan, by string, at time.Time) Approval {
	return Approval{PlanHash: p.Hash(), By: by, At: at.UTC().Round(0)}
}

// covers reports why a does not approve p.
func (a *Approval) covers(p Plan) error {
	switch {
	case a == nil:
		return fmt.Errorf("%w: plan %s", ErrNotApproved, p.Hash())
	case a.By == "":
		return fmt.Errorf("%w: the approval names nobody", ErrNotApproved)
	case a.PlanHash != p.Hash():
		return fmt.Errorf("%w: the approval of %s is for %s, the plan is %s", ErrNotApproved, a.By, a.PlanHash, p.Hash())
	}
	return nil
}

// Conditions are the facts on which automatic failover depends.
type Conditions struct {
	Now     time.Time
	Primary string // site
	Standby string // site

	Witness       string        // site of the lease and journal; neither of the two
	FenceConfirms bool          // the fencer of the primary reads back that it holds
	SelfFencing   bool          // the primary asks a Sentry before every write, or is stopped by one
	LastProof     time.Time     // last passed drill or test failover
	MaxProofAge   time.Duration // 0 means 30 days
	Lag           time.Duration // age of the newest restorable point or position at the standby
	LagKnown      bool          // Lag was measured
	RPO           time.Duration // objective
	BlindDNS      bool          // traffic moves by a zone or a switch without compare-and-swap (provider.NotAtomic, provider.TrafficTraits), and nobody has allowed that
}

// Arm reports every condition of automatic failover that does not hold, or
// nil if all do. It is a pure function of c.
func Arm(c Conditions) error {
	var errs []error
	miss := func(format string, a ...any) {
		errs = append(errs, fmt.Errorf("automatic failover: "+format, a...))
	}
	if c.Primary == "" || c.Standby == "" || c.Primary == c.Standby {
		miss("primary %q and standby %q must be two sites", c.Primary, c.Standby)
	}
	switch c.Witness {
	case "":
		miss("no witness: keep lease and journal at a third site")
	case c.Primary, c.Standby:
		miss("the witness %q is one of the two sites; it must be a third", c.Witness)
	}
	if !c.FenceConfirms && !c.SelfFencing {
		miss("neither a fence that confirms nor a self-fencing primary: a cut-off primary would go on writing")
	}
	maxAge := c.MaxProofAge
	if maxAge <= 0 {
		maxAge = 30 * 24 * time.Hour
	}
	switch age := c.Now.Sub(c.LastProof); {
	case c.LastProof.IsZero():
		miss("no drill or test failover has passed yet")
	case c.Now.IsZero() || age < 0:
		miss("the last proof (%s) is later than now (%s)", c.LastProof.UTC().Format(time.RFC3339), c.Now.UTC().Format(time.RFC3339))
	case age > maxAge:
		miss("the last passed drill or test failover is %v old, more than %v", age.Round(time.Minute), maxAge)
	}
	switch {
	case c.RPO <= 0:
		miss("no RPO is set")
	case !c.LagKnown || c.Lag < 0:
		miss("the lag of the standby is not known")
	case c.Lag >= c.RPO:
		miss("the standby lags %v, the RPO is %v", c.Lag, c.RPO)
	}
	if c.BlindDNS {
		miss("the zone or switch that moves traffic has no compare-and-swap: a deposed orchestrator could move it back unseen")
	}
	return errors.Join(errs...)
}
