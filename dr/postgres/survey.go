package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/holdfast-go/holdfast/backup"
	physical "github.com/holdfast-go/holdfast/backup/postgres"
	"github.com/holdfast-go/holdfast/dr"
)

// What drills of clusters measure beside what every drill does.
const (
	walBytes      = "wal_bytes"      // put beside the files, and replayed
	replaySeconds = "replay_seconds" // from the start of the server until it could be written to
)

// measured are the numbers of a proof.
func measured(p physical.Proof) map[string]float64 {
	if p.From == 0 || p.Recovered.IsZero() || p.Replayed < p.From {
		return nil
	}
	return map[string]float64{walBytes: float64(p.Replayed - p.From), replaySeconds: p.Recovered.Sub(p.Started).Seconds()}
}

const (
	sample     = 3        // drills; the slowest counts, since an objective is about bad days
	enoughWAL  = 16 << 20 // with less, what is measured is the start of a server
	wholeDrill = "measured in %d of the latest drills"
)

// planOptions are what drills have proven and measured.
func planOptions(proofs []dr.Proof) (o physical.PlanOptions, drills int) {
	o.Proven = map[backup.PointID]time.Time{}
	for i := len(proofs) - 1; i >= 0; i-- {
		p := proofs[i]
		if p.Proves() && o.Proven[p.Point].IsZero() {
			o.Proven[p.Point] = p.Began
		}
		if !p.Passed || p.Bytes == 0 || p.Restore <= 0 || drills == sample {
			continue
		}
		drills++
		wal, seconds := p.Measured[walBytes], p.Measured[replaySeconds]
		slowest(&o.RestoreRate, (float64(p.Bytes)+wal)/p.Restore.Std().Seconds())
		if wal >= enoughWAL && seconds > 0 {
			slowest(&o.ReplayRate, wal/seconds)
		}
	}
	return o, drills
}

func slowest(rate *float64, r float64) {
	if *rate == 0 || r < *rate {
		*rate = r
	}
}

// survey is the [dr.Surveyor] of clusters.
func survey(ctx context.Context, repo *backup.Repository, w dr.Workload, proofs []dr.Proof) (out dr.Survey, err error) {
	windows, err := physical.Windows(ctx, repo, w.Name)
	if err != nil {
		return out, err
	}
	systems := map[uint64]bool{}
	for _, x := range windows {
		systems[x.System] = true
	}
	for _, x := range windows {
		of := fmt.Sprintf("timeline %d", x.Timeline)
		if len(systems) > 1 {
			of = fmt.Sprintf("system %d, %s", x.System, of)
		}
		out.Windows = append(out.Windows, dr.Window{Since: x.Since.UTC(), Until: x.Until.UTC(), Points: len(x.Points), Of: of})
	}
	o, drills := planOptions(proofs)
	if drills == 0 {
		return out, nil
	}
	o.Newest = true // which a failover takes
	plan, err := physical.PlanRestore(ctx, repo, w.Name, physical.RecoveryTarget{}, o)
	if err != nil {
		return out, err
	}
	out.Restore, out.Basis = plan.RTO, fmt.Sprintf(wholeDrill, drills)
	return out, nil
}

// PlanRestore plans how to restore a workload of type "postgres" to a moment
// from the repository of a site, as PlanRestore of backup/postgres does, whose
// errors it has. Points that drills have proven go before others, and its RTO is
// by the slowest of what the latest three drills have measured; WAL of less than
// 16 MiB measures no replay. Records of drills that cannot be read count for
// nothing. Carry the plan out with [dr.Planner.Restore], to its Point, with its
// Options in the Destination.
func PlanRestore(ctx context.Context, p *dr.Planner, site, workload string, t physical.RecoveryTarget) (*physical.RestorePlan, error) {
	if w, ok := p.Config().Workload(workload); !ok || w.Type != "postgres" {
		return nil, fmt.Errorf("plan restore: there is no workload %q of type postgres", workload)
	}
	repo, err := p.Repository(ctx, site)
	if err != nil {
		return nil, fmt.Errorf("plan restore: %w", err)
	}
	proofs, _ := p.Proofs(ctx, workload) // the site that has them may be the one that is lost
	o, _ := planOptions(proofs)
	return physical.PlanRestore(ctx, repo, workload, t, o)
}
