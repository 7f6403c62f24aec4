package report

import (
	"slices"
	"time"
)

// A gantt is a table with a bar in every row. The bars share one time scale;
// their coordinates are percentages, so that text keeps its size whatever the
// width of the page.
type gantt struct {
	Origin string // what the scale counts from
	Ticks  []tick
	Rows   []bar
	Pivot  string // x in percent, of a line through all rows; empty if none
}

type tick struct {
	X, Label, Anchor string
	Minor            bool // left out where there is little room
}

// A bar is a phase, or a moment if Moment is set.
type bar struct {
	Name, Note       string
	X, Width, End    string // percent
	From, Took       string
	Moment, AfterPvt bool
}

func timelineSection(r *Report) section {
	s := section{ID: "timeline", Title: "Where the time went", None: "No timeline was recorded."}
	if len(r.Timeline.Phases) == 0 {
		return s
	}
	s.Gantt = newGantt(&r.Timeline)
	s.Lead = "To scale. A phase too short for the scale is drawn as a thin line in its place."
	if r.Timeline.Fault != nil {
		_, end := r.Timeline.extent()
		s.Notes = append(s.Notes, "From the fault to the end of the last phase: "+Duration(end.Sub(*r.Timeline.Fault)).exact()+".")
	}
	if r.Timeline.Pivot == nil {
		s.Notes = append(s.Notes, "The point of no return was not reached: the standby accepted neither writes nor traffic.")
	} else {
		s.Notes = append(s.Notes, "After the point of no return (dashed line, paler bars) only going forward is safe: the standby had accepted writes or traffic.")
	}
	return s
}

func newGantt(t *Timeline) *gantt {
	from, to := t.extent()
	sc := newScale(from, to)
	g := &gantt{Ticks: sc.ticks()}
	if t.Fault != nil {
		g.Origin = "the fault, " + instant(from)
	} else {
		g.Origin = "the first phase, " + instant(from)
	}
	for _, p := range t.Phases {
		name := string(p.Name)
		if p.Workload != "" {
			name += " · " + clip(p.Workload, 60)
		}
		g.Rows = append(g.Rows, bar{
			Name: name, Note: clip(p.Note, shortText),
			X: sc.x(p.Started), Width: sc.width(p.Ended.Sub(p.Started)), End: sc.x(p.Ended),
			From: sc.since(p.Started), Took: Duration(p.Ended.Sub(p.Started)).String(),
			AfterPvt: t.Pivot != nil && !p.Started.Before(*t.Pivot),
		})
	}
	if t.Pivot != nil {
		g.Pivot = sc.x(*t.Pivot)
		at := slices.IndexFunc(t.Phases, func(p Phase) bool { return p.Started.After(*t.Pivot) })
		if at < 0 {
			at = len(g.Rows)
		}
		g.Rows = slices.Insert(g.Rows, at, bar{Name: "point of no return", X: g.Pivot, From: sc.since(*t.Pivot), Moment: true})
	}
	return g
}

// extent is the time that all of the timeline takes up.
func (t *Timeline) extent() (from, to time.Time) {
	from, to = t.Phases[0].Started, t.Phases[0].Ended
	widen := func(at time.Time) {
		if at.Before(from) {
			from = at
		}
		if at.After(to) {
			to = at
		}
	}
	for _, p := range t.Phases {
		widen(p.Started)
		widen(p.Ended)
	}
	for _, at := range []*time.Time{t.Fault, t.Pivot} {
		if at != nil {
			widen(*at)
		}
	}
	return from, to
}
