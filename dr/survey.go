package dr

import (
	"context"
	"fmt"
	"time"

	"github.com/holdfast-go/holdfast/backup"
)

// A Surveyor says what can be restored of a workload from the repository of a
// site, if that is more than its points: a log goes on behind them. Proofs are
// those of its drills, oldest first. It reads only. What it has found out is
// taken with an error, too.
type Surveyor func(ctx context.Context, repo *backup.Repository, w Workload, proofs []Proof) (Survey, error)

// A Survey is what a [Surveyor] found.
type Survey struct {
	Windows []Window // without Site, in order

	// Restore is how long it would take to restore the newest point and all
	// that came after it, and Basis what says so: "measured in 3 drills".
	// Without a Basis it is not known.
	Restore time.Duration
	Basis   string
}

// A Window is a stretch of time of which every moment can be restored.
type Window struct {
	Site   string    `json:"site"` // from where
	Since  time.Time `json:"since"`
	Until  time.Time `json:"until"` // the last change; not after Since if nothing has changed since
	Points int       `json:"points"`
	Of     string    `json:"of,omitempty"` // what tells it from others, for people: "timeline 2"
}

// String is such as "at standby: 2026-03-01T00:00:00Z to 2026-03-31T11:59:58Z, timeline 1, 30 points".
func (w Window) String() string {
	s := fmt.Sprintf("at %s: %s", w.Site, w.Since.UTC().Format(time.RFC3339))
	if w.Until.After(w.Since) {
		s += " to " + w.Until.UTC().Format(time.RFC3339)
	} else {
		s += ", nothing has changed since"
	}
	if w.Of != "" {
		s += ", " + w.Of
	}
	return s + ", " + count(w.Points, "point")
}

// survey is what was found of one workload at one site.
type survey struct {
	workload, site string
	Survey
	err error
}

// surveyWait is how long all of a plan's surveys may take at one site: they read
// something of each point.
const surveyWait = time.Minute

// survey has the sites looked at that can be read.
func (p *Planner) survey(ctx context.Context, w *world) {
	for _, site := range []string{PrimarySite, StandbySite} {
		if w.sites[site].err != nil {
			continue // the plan says so
		}
		ctx, cancel := context.WithTimeoutCause(ctx, surveyWait, fmt.Errorf("the survey took longer than %v", surveyWait))
		for _, load := range p.config.Workloads {
			look := p.parts.Surveyors[load.Type]
			if look == nil || len(w.sites[site].of(load.Name)) == 0 {
				continue
			}
			s := survey{workload: load.Name, site: site}
			var repo *backup.Repository
			if repo, s.err = p.Repository(ctx, site); s.err == nil {
				s.Survey, s.err = look(ctx, repo, load, w.proofs[load.Name])
			}
			if s.err != nil && ctx.Err() != nil {
				s.err = context.Cause(ctx)
			}
			w.surveys = append(w.surveys, s)
		}
		cancel()
	}
}

// surveyed puts into a forecast what was found.
func (w *world) surveyed(workload string, f *Forecast) {
	for _, s := range w.surveys {
		if s.workload != workload {
			continue
		}
		for _, window := range s.Windows {
			window.Site = s.site
			f.Windows = append(f.Windows, window)
		}
		if s.err != nil {
			f.NotSurveyed = append(f.NotSurveyed, fmt.Sprintf("at %s: %s", s.site, oneLine(s.err)))
		}
	}
}

// restoreTime predicts how long a failover restores a workload; "" means that
// nothing is known.
func (w *world) restoreTime(load Workload, m measured, bytes int64) (time.Duration, string) {
	for _, s := range w.surveys {
		if s.workload == load.Name && s.site == otherSite(w.active) && s.Basis != "" {
			return s.Restore, s.Basis
		}
	}
	return m.restoreTime(load, bytes)
}

// Proofs are the records of a workload's drills, good or not, oldest first. One
// that cannot be read is an error, and the others are returned with it.
func (p *Planner) Proofs(ctx context.Context, workload string) ([]Proof, error) {
	r, err := p.records(ctx)
	if err != nil {
		return nil, fmt.Errorf("proofs of %s: %w", workload, err)
	}
	out, err := read[Proof](ctx, r, kindProof, workload, time.Time{})
	if err != nil {
		err = fmt.Errorf("proofs of %s: %w", workload, err)
	}
	return out, err
}
