package dr

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/failover"
	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/retention"
)

// A Locking records that the locks of a site were extended, or not.
type Locking struct {
	Site    string    `json:"site"`
	Began   time.Time `json:"began"`
	Took    Duration  `json:"took"`
	Points  int       `json:"points"`  // that are kept there
	Objects int       `json:"objects"` // whose locks were extended
	Bytes   int64     `json:"bytes"`   // of these

	// Until is the moment until which everything that kept points need was
	// locked then, at least. Zero if that was not reached.
	Until time.Time `json:"until,omitzero"`

	// Exposed are the points of which that is not so although all others
	// were extended, and until when they were known to be locked; zero: not
	// known.
	Exposed map[backup.PointID]time.Time `json:"exposed,omitempty"`

	Error string `json:"error,omitempty"`
}

func (l Locking) ended() bool { return !l.Until.IsZero() }

// planLocks has the locks of a site extended so long after the last time, the
// first time when there are points. What failed is tried again after a quarter
// of that. When the records cannot be read, own says when this process did it:
// a lock must not end because nobody knows when it was extended.
func (p *Planner) planLocks(w *world, own map[string]time.Time) []Action {
	var out []Action
	for _, site := range []string{PrimarySite, StandbySite} {
		l := p.config.lockOf(site)
		if l == nil || l.ExtendOff || w.sites[site].err != nil || len(w.sites[site].points) == 0 {
			continue
		}
		every := l.every()
		due, reason := w.now, "locks were never extended"
		for _, done := range w.locks[site] {
			switch {
			case done.Began.After(w.now): // the clock went back
			case done.Error == "":
				due, reason = done.Began.Add(every), fmt.Sprintf("locks were not extended for %v", Duration(every))
			default:
				due, reason = done.Began.Add(every/4), "tried again, it failed: "+done.Error
			}
		}
		if w.control != nil {
			if own == nil {
				continue
			}
			due, reason = own[site].Add(every), "the records cannot be read"
		}
		if !due.After(w.now) {
			out = append(out, Action{Kind: ActLock, Site: site, Due: due, Reason: reason})
		}
	}
	return out
}

// extendLocks makes the locks of all points last that are to stay at a site, as
// w has it.
func (p *Planner) extendLocks(ctx context.Context, w *world, site string) (Locking, error) {
	done := Locking{Site: site, Began: time.Now().UTC()}
	unlock, err := p.busy.lock(ctx, "lock/"+site)
	if err != nil {
		return done, err
	}
	defer unlock()
	err = p.extendLocksNow(ctx, w, &done)
	done.Took = Duration(time.Since(done.Began))
	e := Event{Kind: EventLock, Text: fmt.Sprintf("locks extended at %s", site), Took: done.Took.Std(), Bytes: done.Bytes}
	if err != nil {
		err = fmt.Errorf("extend locks at %s: %w", site, err)
		done.Error, e.Err, e.Text = oneLine(err), err, fmt.Sprintf("extending locks at %s failed", site)
	}
	p.record(ctx, recordKey(kindLocking, site, done.Began), done)
	p.event(e)
	return done, err
}

func (p *Planner) extendLocksNow(ctx context.Context, w *world, done *Locking) error {
	site, l := done.Site, p.config.lockOf(done.Site)
	if l == nil {
		return fmt.Errorf("sites.%s.lock is not set", site)
	}
	if err := w.sites[site].err; err != nil {
		return err // what is to be forgotten is not known
	}
	repo, err := p.Repository(ctx, site)
	if err != nil {
		return err
	}
	leaving := p.leaving(w, site)
	report, err := repo.ExtendLocks(ctx, backup.ExtendOptions{
		Keep: func(point backup.Point) bool { return !leaving[point.ID] },
		// What was copied there has other locks than its index says.
		Ask: w.receives(site),
	})
	done.Points, done.Objects, done.Bytes = report.Points, report.Extended.Objects, report.Extended.Bytes
	if err == nil || len(report.Exposed) > 0 {
		done.Until = done.Began.Add(l.Keep.Std() + l.ahead()/2)
	}
	for _, id := range report.Exposed {
		if done.Exposed == nil {
			done.Exposed = map[backup.PointID]time.Time{}
		}
		done.Exposed[id] = time.Time{}
		for _, point := range w.sites[site].points {
			if point.ID == id {
				done.Exposed[id] = w.locked(site, l, point)
			}
		}
	}
	return err
}

// receives reports whether points may have come to a site as copies: they do to
// the one that is not in charge, and did to both once that has changed.
func (w *world) receives(site string) bool {
	return site != w.active || w.lease.Active != (failover.Active{})
}

// leaving are the points of a site that retention lets go: their locks are not
// extended, or they could never be forgotten. While that cannot be told with
// certainty, there are none.
func (p *Planner) leaving(w *world, site string) map[backup.PointID]bool {
	out := map[backup.PointID]bool{}
	if w.control != nil || w.active == "" || w.unsure {
		return out
	}
	arrived := w.arrived()
	if w.sites[otherSite(w.active)].err != nil {
		// Nobody can see what has arrived. A point that waits for that has
		// locks for Keep; if all got longer ones meanwhile, none could be
		// forgotten for long.
		for _, point := range w.sites[site].points {
			arrived[point.ID] = true
		}
	}
	for _, load := range p.config.Workloads {
		decisions, err := p.decide(w, site, load, arrived)
		if err != nil {
			continue // the plan says so
		}
		for _, d := range decisions {
			if d.Verdict == retention.Forget {
				out[d.Point.ID] = true
			}
		}
	}
	return out
}

// A pointAt is a point at a site.
type pointAt struct {
	site string
	id   backup.PointID
}

// lockEnd is until when a point that is to be forgotten is locked, as far as is
// known.
func (w *world) lockEnd(site string, l *Lock, point backup.Point) time.Time {
	if l == nil {
		return time.Time{}
	}
	if first := point.Stored.Add(l.whole() + time.Second); first.After(w.now) {
		return first
	}
	return w.held[pointAt{site, point.ID}]
}

// askLocks asks the stores until when points that are to be forgotten are
// locked, where that does not follow from when they were made. Locks never
// become shorter, so it asks once.
func (p *Planner) askLocks(ctx context.Context, w *world) {
	if w.control != nil || w.between {
		return // nothing is forgotten
	}
	p.mu.Lock()
	known := p.held
	p.mu.Unlock()
	w.held = map[pointAt]time.Time{}
	for _, site := range []string{PrimarySite, StandbySite} {
		l := p.config.lockOf(site)
		if l == nil || w.sites[site].err != nil {
			continue
		}
		leaving, ask := p.leaving(w, site), map[backup.PointID]bool{}
		for _, point := range w.sites[site].points {
			if !leaving[point.ID] {
				continue
			}
			if at := (pointAt{site, point.ID}); known[at].After(w.now) {
				w.held[at] = known[at]
			} else if !w.lockEnd(site, l, point).After(w.now) {
				ask[point.ID] = true
			}
		}
		if len(ask) == 0 {
			continue
		}
		if err := p.askLocksOf(ctx, w, site, ask); err != nil && ctx.Err() == nil {
			p.log.Warn("it is not known how long points are locked", "site", site, "error", err) // forgetting them may fail, and says why
		}
	}
	p.mu.Lock()
	p.held = w.held
	p.mu.Unlock()
}

func (p *Planner) askLocksOf(ctx context.Context, w *world, site string, ask map[backup.PointID]bool) error {
	store, err := p.repositoryStore(ctx, site)
	if err != nil {
		return err
	}
	repo, err := p.Repository(ctx, site)
	if err != nil {
		return err
	}
	for info, err := range repo.Manifests(ctx) {
		if err != nil {
			return err
		}
		id := pointOf(info.Key)
		if !ask[id] {
			continue
		}
		switch now, err := store.Stat(ctx, info.Key); {
		case err == nil:
			w.held[pointAt{site, id}] = now.Retain.Until
		case !errors.Is(err, provider.ErrNotFound):
			return err
		}
	}
	return nil
}
