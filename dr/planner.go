package dr

import (
	"context"
	"errors"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/failover"
)

// ErrStale: the world is not the one the plan was made from. Plan again.
var ErrStale = errors.New("the plan is stale")

// A Planner runs one configuration. It is safe for concurrent use; one Serve
// and one Run at a time do work, others wait.
type Planner struct {
	config Config
	parts  Parts
}

// New validates c and finds every part it needs. It does no I/O. The error
// joins a [*Fault] for everything that is wrong or missing.
func New(c Config, p Parts) (*Planner, error) { return &Planner{c, p}, nil }

// Check asks the world whether the configuration can work there, and returns
// every fault. It writes and deletes objects of its own below "check/".
func (p *Planner) Check(ctx context.Context) error { return nil }

// Plan reads the world and says what is due. It changes nothing.
func (p *Planner) Plan(ctx context.Context) (*Plan, error) { return nil, nil }

// Run carries out a plan, no more and no less. [ErrStale] if the world has
// changed. The Outcome is valid with an error too.
func (p *Planner) Run(ctx context.Context, plan *Plan) (*Outcome, error) { return nil, nil }

// Serve backs up, replicates, forgets, drills and watches until ctx ends.
func (p *Planner) Serve(ctx context.Context) error { return nil }

// Drill restores the newest restorable point of a workload from the standby
// with keys usable there, has it checked, removes it, and records the proof.
func (p *Planner) Drill(ctx context.Context, workload string) (Proof, error) { return Proof{}, nil }

// Proof records a drill.
type Proof struct {
	Workload string         `json:"workload"`
	Point    backup.PointID `json:"point"`
}

// Restore restores a point of a workload from a site. An empty id means the newest.
func (p *Planner) Restore(ctx context.Context, site string, workload string, id backup.PointID, d backup.Destination) error {
	return nil
}

// FailoverPlan makes the plan of an operation; From is the site in charge.
func (p *Planner) FailoverPlan(ctx context.Context, kind failover.Kind) (failover.Plan, error) {
	return failover.Plan{}, nil
}

// Failover runs a plan of FailoverPlan. Resume goes on with one that was interrupted.
func (p *Planner) Failover(ctx context.Context, plan failover.Plan, a *failover.Approval) (failover.Result, error) {
	return failover.Result{}, nil
}

// Resume goes on with the run of that ID.
func (p *Planner) Resume(ctx context.Context, id string) (failover.Result, error) {
	return failover.Result{}, nil
}
