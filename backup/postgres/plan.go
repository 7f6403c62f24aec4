package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/holdfast-go/holdfast/backup"
)

// A RecoveryTarget says to which moment a cluster is to return: one of Time,
// LSN, XID, Name and Immediate, or none of them for the end of the log. The
// server's settings of these names are meant, recovery_target_time and so on.
type RecoveryTarget struct {
	Time time.Time // all that was committed up to then, to the microsecond
	LSN  LSN       // up to the first record that begins there or later
	XID  string    // up to the end of this transaction
	Name string    // up to this restore point

	Immediate bool // as the chosen backup was

	Exclusive bool   // stops before what is exactly at a Time, an LSN or an XID
	Timeline  uint32 // which is followed; 0: the latest that the log has
}

// target is what a destination's options would say.
func (t RecoveryTarget) target() target {
	return target{consistent: t.Immediate, at: t.Time.UTC().Truncate(time.Microsecond), lsn: t.LSN, xid: t.XID, name: t.Name, exclusive: t.Exclusive, timeline: t.Timeline}
}

// PlanOptions say how to choose. The zero value does.
type PlanOptions struct {
	// System is the identifier of the cluster, if there were several under the
	// name. 0 is that of the newest point, or for a Time, of the newest point
	// before it.
	System uint64

	// Proven are points that were restored and looked at, and when.
	Proven map[backup.PointID]time.Time

	// Newest takes the newest base that reaches the target, whether it was
	// verified or not. Otherwise one that was verified goes before.
	Newest bool

	// RestoreRate is how many bytes a second are fetched and written, and
	// ReplayRate how many bytes of WAL a second the server replays, as
	// measured; 0 is 100 MiB and 30 MiB.
	RestoreRate, ReplayRate float64
}

const (
	restoreRate = 100 << 20
	replayRate  = 30 << 20
)

// A RestorePlan says how a target is reached. It is plain data.
type RestorePlan struct {
	Name  string         `json:"name"`
	Point backup.PointID `json:"point"`
	Time  time.Time      `json:"time"` // when its backup began

	// Verified is since when a check has read all that the point needs, and
	// found it right, or when it was proven, whichever is later; zero: never,
	// as far as is known.
	Verified time.Time `json:"verified,omitzero"`
	Warnings int64     `json:"warnings,omitempty"` // of the point, which is partial then

	System    uint64   `json:"system,string"`
	Timelines []uint32 `json:"timelines"` // that recovery goes along; the first is that of the backup

	From       LSN `json:"from"`       // the WAL is replayed from here on
	Consistent LSN `json:"consistent"` // and leads to a consistent state here,
	To         LSN `json:"to"`         // and to the target before here

	BaseBytes int64         `json:"baseBytes"` // to be written
	WALBytes  int64         `json:"walBytes"`  // to be written, and replayed
	RTO       time.Duration `json:"rto"`       // estimate, by the rates
	Rates     [2]float64    `json:"rates"`     // RestoreRate and ReplayRate, bytes a second

	Options map[string]string `json:"options"` // of [backup.Destination], which carry it out

	// PassedOver are newer points than Point, and why they were not taken.
	PassedOver []PassedOver `json:"passedOver,omitempty"`
}

// PassedOver is a point that a plan does not take.
type PassedOver struct {
	Point backup.PointID `json:"point"`
	Why   string         `json:"why"`
}

// PlanRestore finds out how to restore a workload to a moment: it takes the
// newest base that was verified, lies before the target, and comes to it along
// timelines and WAL that the log has without a gap, which is proven here. An
// older base does if the newest one cannot reach it. Without one that was
// verified, it is the newest. A partial one is taken last, and one that a
// check found damaged not at all.
//
// The log is listed, and decrypted as far as the target wants: around the
// base for a time that is near, from the base on for a transaction or a
// restore point.
//
// An [UnreachableError] tells what is missing, and the nearest moments that
// can be reached. [provider.ErrNotFound]: the name has no point.
func PlanRestore(ctx context.Context, repo *backup.Repository, name string, t RecoveryTarget, o PlanOptions) (*RestorePlan, error) {
	p, err := planRestore(ctx, repo, name, t, o)
	if err != nil {
		return nil, fmt.Errorf("postgres: plan restore of %q: %w", name, err)
	}
	return p, nil
}

func planRestore(ctx context.Context, repo *backup.Repository, name string, t RecoveryTarget, o PlanOptions) (*RestorePlan, error) {
	if o.RestoreRate < 0 || o.ReplayRate < 0 {
		return nil, errors.New("fields RestoreRate and ReplayRate: want none below 0")
	}
	parsed, err := parseOptions(backup.Destination{Location: "planned", Options: t.target().options()})
	if err != nil {
		return nil, err
	}
	p := &planner{repo: repo, name: name, o: o, target: parsed.recovery}
	if err := p.choose(ctx); err != nil {
		return nil, err
	}
	return p.plan(ctx)
}

// A planner makes one plan.
type planner struct {
	repo   *backup.Repository
	name   string
	o      PlanOptions
	target target

	bases     []candidate // of the cluster, the oldest first
	checked   map[backup.PointID]backup.PointCheck
	timelines *timelines
}
