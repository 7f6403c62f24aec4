package dr

import (
	"context"
	"fmt"
	"time"

	"github.com/holdfast-go/holdfast/backup"
)

// Prune says how often each site frees the space of what was forgotten there;
// see [backup.Repository.Prune].
type Prune struct {
	Every Duration `yaml:"every,omitempty" json:"every,omitzero"` // 0 means 24 hours

	// Off frees nothing: another program does, or no credential at hand may
	// delete.
	Off bool `yaml:"off,omitempty" json:"off,omitempty"`
}

func (p Prune) every() time.Duration {
	if p.Every == 0 {
		return Day
	}
	return p.Every.Std()
}

// A Pruning records a prune of the repository of one site.
type Pruning struct {
	Site    string    `json:"site"`
	Began   time.Time `json:"began"`
	Took    Duration  `json:"took"`
	Freed   int64     `json:"freed"`             // bytes
	Pending int64     `json:"pending,omitempty"` // bytes that go when backups under way have ended
	Error   string    `json:"error,omitempty"`
}

// planPrunes has a site pruned when it was last, or its oldest point was made,
// so long ago. One that failed is tried again after a quarter of that.
func (p *Planner) planPrunes(w *world) []Action {
	if p.config.Prune.Off || w.control != nil {
		return nil
	}
	every := p.config.Prune.every()
	var out []Action
	for _, site := range []string{PrimarySite, StandbySite} {
		points := w.sites[site].points
		if w.sites[site].err != nil || len(points) == 0 {
			continue
		}
		due, reason := points[0].Time.Add(every), fmt.Sprintf("no space was freed for %v", Duration(every))
		for _, done := range w.prunes[site] {
			switch again := done.Began.Add(every / 4); {
			case done.Began.After(w.now): // the clock went back
			case done.Error == "":
				due, reason = done.Began.Add(every), fmt.Sprintf("no space was freed for %v", Duration(every))
			case again.After(due):
				due, reason = again, "tried again, it failed: "+done.Error
			}
		}
		if !due.After(w.now) {
			out = append(out, Action{Kind: ActPrune, Site: site, Due: due, Reason: reason})
		}
	}
	return out
}

// prune frees what no point of a site needs.
func (p *Planner) prune(ctx context.Context, site string) (backup.PruneReport, error) {
	unlock, err := p.busy.lock(ctx, "prune/"+site)
	if err != nil {
		return backup.PruneReport{}, err
	}
	defer unlock()
	done := Pruning{Site: site, Began: time.Now().UTC()}
	var report backup.PruneReport
	repo, err := p.Repository(ctx, site)
	if err == nil {
		report, err = repo.Prune(ctx, backup.PruneOptions{})
	}
	done.Took, done.Freed, done.Pending = Duration(time.Since(done.Began)), freed(report), report.Pending.Bytes
	e := Event{Kind: EventPrune, Text: "space freed at " + site, Took: done.Took.Std(), Bytes: done.Freed}
	if err != nil {
		err = fmt.Errorf("prune %s: %w", site, err)
		done.Error, e.Err, e.Text = oneLine(err), err, "freeing space at "+site+" failed"
	}
	p.record(ctx, recordKey(kindPruning, site, done.Began), done)
	p.event(e)
	return report, err
}

// freed is how many bytes a prune has made free in all; what was copied of
// packs that went is none of them.
func freed(r backup.PruneReport) int64 { return max(0, r.Deleted.Bytes-r.Stored) }
