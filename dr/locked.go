package dr

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-go/holdfast/backup"
)

// A SiteLock says how well the points of a site are locked, as far as the
// records tell.
type SiteLock struct {
	Site   string `json:"site"`
	Points int    `json:"points"` // that are kept there

	// Extended is when the locks of all kept points were last extended, and
	// Until the moment until which they lasted then, at least. Zero: never,
	// or that is not known.
	Extended time.Time `json:"extended,omitzero"`
	Until    time.Time `json:"until,omitzero"`

	// Endangered are the kept points whose locks could not be extended in
	// time, those that end first before the others.
	Endangered []EndangeredPoint `json:"endangered,omitempty"`

	Error string `json:"error,omitempty"` // why it could not be done the last time
}

// An EndangeredPoint is one that is to be kept and may soon, or can already, be
// deleted by somebody else.
type EndangeredPoint struct {
	Workload string         `json:"workload,omitempty"` // empty if it cannot be read
	Point    backup.PointID `json:"point"`
	Until    time.Time      `json:"until,omitzero"` // it is known to be locked; zero: that is not known
}

// String is such as "20260301t... until 2026-03-31T11:59:58Z".
func (e EndangeredPoint) String() string {
	if e.Until.IsZero() {
		return string(e.Point) + " not known to be locked"
	}
	return fmt.Sprintf("%s until %s", e.Point, e.Until.UTC().Format(time.RFC3339))
}

// String is one line.
func (s SiteLock) String() string {
	text := fmt.Sprintf("at %s: %s", s.Site, count(s.Points, "point"))
	if s.Extended.IsZero() {
		text += ", locks were not extended yet"
	} else {
		text += fmt.Sprintf(", locked until %s at least; extended %s", s.Until.UTC().Format(time.RFC3339), s.Extended.UTC().Format(time.RFC3339))
	}
	if s.Error != "" {
		text += "; the last time it failed: " + s.Error
	}
	if len(s.Endangered) > 0 {
		text += "; IN DANGER: " + endangered(s.Endangered)
	}
	return text
}

// endangered names points in one line: all of a few, and the first of many.
func endangered(points []EndangeredPoint) string {
	const most = 10
	var parts []string
	for _, e := range points[:min(len(points), most)] {
		parts = append(parts, e.String())
	}
	text := strings.Join(parts, ", ")
	if more := len(points) - most; more > 0 {
		text += fmt.Sprintf(", and %d more", more)
	}
	return text
}

// locked is until when everything that a point needs is known to be locked at
// a site. Zero: that is not known.
func (w *world) locked(site string, l *Lock, point backup.Point) time.Time {
	var until time.Time
	for _, done := range w.locks[site] {
		if !done.ended() {
			continue
		}
		was, exposed := done.Exposed[point.ID]
		switch {
		case !point.Stored.Before(done.Began):
			until = point.Stored.Add(l.Keep.Std()) // by who made it
			if w.receives(site) {
				until = earlier(until, done.Until) // what it shares has been there for longer, and relied on elsewhere
			}
		case exposed:
			until = was
		default:
			until = done.Until
		}
	}
	return until
}

// siteLocks judges the locks of each site that has some. Points are in danger
// when the time is over in which their locks had to be extended, which is half
// of Ahead, or if only they could not be.
func (p *Planner) siteLocks(w *world) []SiteLock {
	var out []SiteLock
	for _, site := range []string{PrimarySite, StandbySite} {
		l := p.config.lockOf(site)
		if l == nil || l.ExtendOff || w.sites[site].absent {
			continue
		}
		s := SiteLock{Site: site}
		var last Locking // that ended
		for _, done := range w.locks[site] {
			if s.Error = done.Error; done.ended() {
				last = done
			}
		}
		s.Extended, s.Until = last.Began, last.Until
		switch err := w.sites[site].err; {
		case w.control != nil:
			s.Error = "the records cannot be read: " + oneLine(w.control)
		case err != nil:
			s.Error = oneLine(err)
		}
		late := w.control == nil && len(w.locks[site]) > 0 && w.now.After(last.Began.Add(l.ahead()/2))
		for _, point := range p.lockedPoints(w, site) {
			s.Points++
			if _, exposed := last.Exposed[point.Point]; late || exposed {
				s.Endangered = append(s.Endangered, point)
			}
		}
		out = append(out, s)
	}
	return out
}

// lockedPoints are all that are to be kept at a site, those whose locks end
// first before the others.
func (p *Planner) lockedPoints(w *world, site string) (out []EndangeredPoint) {
	leaving := p.leaving(w, site)
	for _, point := range w.sites[site].points {
		if !leaving[point.ID] {
			out = append(out, EndangeredPoint{point.Name, point.ID, w.locked(site, p.config.lockOf(site), point)})
		}
	}
	slices.SortStableFunc(out, func(a, b EndangeredPoint) int { return a.Until.Compare(b.Until) })
	return out
}

// lockViolations are what siteLocks found, by workload.
func (p *Planner) lockViolations(w *world) []Violation {
	type where struct{ workload, site string }
	found := map[where][]EndangeredPoint{}
	for _, s := range p.siteLocks(w) {
		for _, e := range s.Endangered {
			at := where{or(e.Workload, "damaged points"), s.Site}
			found[at] = append(found[at], e)
		}
	}
	var out []Violation
	for at, points := range found {
		out = append(out, Violation{at.workload, "lock at " + at.site, false,
			fmt.Sprintf("locks of %s could not be extended in time: %s", count(len(points), "point"), endangered(points))})
	}
	slices.SortFunc(out, func(a, b Violation) int {
		return cmp.Or(cmp.Compare(a.Workload, b.Workload), cmp.Compare(a.Objective, b.Objective))
	})
	return out
}
