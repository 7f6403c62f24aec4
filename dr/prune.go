package dr

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/holdfast-go/holdfast/backup"
)

// Prune says how often each site frees the space of what was forgotten there:
// [backup.Repository.Prune], and of each log [backup.Log.Trim], so that it
// begins where the oldest point needs it, and [backup.Log.Compact].
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
	Freed   int64     `json:"freed"`             // bytes; what was copied out of what went is none of them
	Pending int64     `json:"pending,omitempty"` // bytes that go when backups under way have ended
	Error   string    `json:"error,omitempty"`
}

// planPrunes has a site pruned so long after the last time, the first time when
// something is forgotten or points are that old. One that failed is tried again
// after a quarter of that.
func (p *Planner) planPrunes(w *world, forget []Action) []Action {
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
		if slices.ContainsFunc(forget, func(a Action) bool { return a.Site == site }) {
			due, reason = w.now, "no space was ever freed"
		}
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
func (p *Planner) prune(ctx context.Context, site string) (Pruning, error) {
	done := Pruning{Site: site, Began: time.Now().UTC()}
	unlock, err := p.busy.lock(ctx, "prune/"+site)
	if err != nil {
		return done, err
	}
	defer unlock()
	repo, err := p.Repository(ctx, site)
	if err == nil {
		var report backup.PruneReport
		report, err = repo.Prune(ctx, backup.PruneOptions{})
		done.Freed, done.Pending = report.Deleted.Bytes-report.Stored, report.Pending.Bytes
		logs, failed := tidyLogs(ctx, repo)
		done.Freed, err = max(0, done.Freed+logs), errors.Join(err, failed)
	}
	done.Took = Duration(time.Since(done.Began))
	e := Event{Kind: EventPrune, Text: "space freed at " + site, Took: done.Took.Std(), Bytes: done.Freed}
	if err != nil {
		err = fmt.Errorf("prune %s: %w", site, err)
		done.Error, e.Err, e.Text = oneLine(err), err, "freeing space at "+site+" failed"
	}
	p.record(ctx, recordKey(kindPruning, site, done.Began), done)
	p.event(e)
	return done, err
}

// tidyLogs frees what no point needs of the logs of a repository, and makes few
// objects of many. A log that fails does not keep others from it.
func tidyLogs(ctx context.Context, repo *backup.Repository) (freed int64, err error) {
	var errs []error
	for name, err := range repo.Logs(ctx) {
		if err != nil {
			return freed, errors.Join(append(errs, err)...)
		}
		log, err := repo.Log(name)
		if err != nil {
			return freed, errors.Join(append(errs, err)...)
		}
		trimmed, err := log.Trim(ctx, backup.TrimOptions{})
		errs = append(errs, err)
		compacted, err := log.Compact(ctx)
		errs = append(errs, err)
		freed += trimmed.Deleted.Bytes + compacted.Deleted.Bytes - compacted.Written.Bytes
	}
	return freed, errors.Join(errs...)
}
