package backup

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"
)

// needsOf notes what a point needs of logs.
func (c *checker) needsOf(m manifest) {
	names := map[[16]byte]string{}
	for _, p := range m.point.Logs {
		names[c.r.keys.logID(p.Log)] = p.Log
	}
	for _, n := range m.logs {
		id := hexID(n.log)
		g := c.logs[id]
		if g == nil {
			g = newCheckedLog(&Log{r: c.r, prefix: logPrefix + id + "/"})
			c.logs[id] = g
		}
		if name := names[n.log]; name != "" {
			g.named(name)
		}
		g.needs = append(g.needs, pointNeed{m.point.ID, LogPosition{names[n.log], n.branch, n.from, max(n.from, n.consistent)}})
	}
}

// judgeLogs finds out what of logs is missing, contradicts itself or cannot
// be read, and which points need it.
func (c *checker) judgeLogs(ctx context.Context) error {
	for _, g := range c.logs {
		g.gaps = g.missing()
	}
	if err := c.confirmGaps(ctx); err != nil {
		return err
	}
	for _, id := range slices.Sorted(maps.Keys(c.logs)) {
		g := c.logs[id]
		c.report.Logs++
		for _, b := range slices.Sorted(maps.Keys(g.segments)) {
			c.markBad(g, b)
			if err := c.overlaps(ctx, g, b); err != nil {
				return err
			}
			c.markBad(g, b) // what was read for that
			g.unreadable(b)
		}
		for _, s := range g.gaps {
			g.lose(loss{span: s, key: g.l.key(s), gap: true})
		}
		c.orphans(g)
		c.harm(g)
	}
	slices.SortFunc(c.report.LostLogs, func(a, b LogLoss) int {
		return cmp.Or(cmp.Compare(a.Log, b.Log), cmp.Compare(a.Branch, b.Branch), cmp.Compare(a.From, b.From), cmp.Compare(a.Key, b.Key))
	})
	return ctx.Err()
}

func (c *checker) markBad(g *checkedLog, branch uint32) {
	for i, s := range g.segments[branch] {
		g.segments[branch][i].bad = s.bad || c.badSegments[g.l.key(s.span)]
	}
}

// confirmGaps lists the logs again and keeps those gaps that are still there:
// a listing may miss what is compacted while it runs, and a point may be newer
// than the first listing. What is trimmed is no gap, because the points were
// read after that: whoever trims has forgotten what needed it before.
func (c *checker) confirmGaps(ctx context.Context) error {
	found := false
	for _, g := range c.logs {
		found = found || len(g.gaps) > 0
	}
	if !found {
		return nil
	}
	logs, starts, _, err := c.listLogs(ctx, func(string) {})
	if err == nil {
		err = c.readStarts(ctx, logs, starts, func(string, error) {})
	}
	if err != nil {
		return err
	}
	for id, g := range c.logs {
		again := logs[id]
		if again == nil {
			again = newCheckedLog(g.l)
		}
		again.needs = g.needs
		g.gaps = common(g.gaps, again.missing())
	}
	return nil
}

// missing returns the positions that the log ought to hold and that no segment
// has: on the way to every branch, from the oldest that a point needs on, or
// if none does from the oldest there is, to the end of the branch, or to
// where its points are consistent if that lies behind.
func (g *checkedLog) missing() (gaps []span) {
	numbers := map[uint32]bool{}
	for b := range g.segments {
		numbers[b] = true
	}
	for _, n := range g.needs {
		numbers[n.Branch] = true
	}
	ways := map[uint32][]leg{}
	for b := range numbers {
		way, err := g.way(b, 0)
		if err != nil { // what lies before the branch cannot be told
			way = []leg{{b, math.MaxUint64, math.MaxUint64}}
			for _, s := range g.segments[b] {
				way[0].lo = min(way[0].lo, s.from)
			}
		}
		ways[b] = way
	}
	all := map[uint32][]span{}
	for b, segments := range g.segments {
		for _, s := range segments {
			all[b] = append(all[b], s.span)
		}
		all[b] = union(all[b])
	}
	for b, way := range ways {
		from, to := g.bounds(b, ways)
		for _, x := range way {
			lo, hi := max(from, x.lo), x.hi
			if x.branch == b {
				hi = to
			}
			if lo < hi {
				gaps = append(gaps, without(span{x.branch, lo, hi}, all[x.branch])...)
			}
		}
	}
	return union(gaps)
}

// bounds returns between which positions there must be no gap on the way to a
// branch.
func (g *checkedLog) bounds(branch uint32, ways map[uint32][]leg) (from, to uint64) {
	from = math.MaxUint64
	for _, s := range g.segments[branch] {
		to = max(to, s.to)
	}
	passes := func(way []leg, ancestor uint32, at uint64) bool {
		return slices.ContainsFunc(way, func(x leg) bool { return x.branch == ancestor && at < x.hi })
	}
	for _, n := range g.needs {
		if n.Branch == branch {
			to = max(to, n.Consistent)
		}
		// What lies below the points of a branch, and of those that came of it,
		// may have been trimmed.
		if passes(ways[branch], n.Branch, n.From) || passes(ways[n.Branch], branch, 0) {
			from = min(from, n.From)
		}
	}
	if from < math.MaxUint64 {
		return from, to
	}
	for _, x := range ways[branch] {
		for _, s := range g.segments[x.branch] {
			if s.overlaps(span{x.branch, x.lo, x.hi}) {
				from = min(from, max(s.from, x.lo))
			}
		}
	}
	return from, to
}

// way is [Log.way] with what a check has read.
func (g *checkedLog) way(branch uint32, from uint64) ([]leg, error) {
	return wayTo(branch, from, func(b uint32) (origin, bool, error) {
		o, known := g.origins[b]
		if g.lost[b] {
			return o, false, errors.New("it cannot be read")
		}
		return o, known, nil
	})
}

// orphans reports branches with segments of which nothing says where they come
// from, except the first: a log has one beginning. And those that come from
// themselves.
func (c *checker) orphans(g *checkedLog) {
	first := true
	for b := range g.origins {
		_, err := g.way(b, 0)
		if lost, ok := errors.AsType[*wayError](err); ok && !g.lost[lost.branch] {
			c.problem(g.l.startKey(lost.branch), lost.Error())
		}
	}
	for _, b := range slices.Sorted(maps.Keys(g.segments)) {
		if _, known := g.origins[b]; known || g.lost[b] || len(g.segments[b]) == 0 {
			continue
		}
		if !first {
			c.problem(g.l.startKey(b), fmt.Sprintf("where branch %d comes from is not recorded", b))
		}
		first = false
	}
}

// unreadable notes the positions of a branch that only damaged segments have.
func (g *checkedLog) unreadable(branch uint32) {
	var good []span
	for _, s := range g.segments[branch] {
		if !s.bad {
			good = append(good, s.span)
		}
	}
	good = union(good)
	for _, s := range g.segments[branch] {
		if s.bad {
			for _, left := range without(s.span, good) {
				g.lose(loss{span: left, key: g.l.key(s.span), first: s.first, last: s.last})
			}
		}
	}
}

// A loss is a stretch of a log that cannot be read, because of a problem.
type loss struct {
	span
	key         string
	gap         bool // nothing is there
	first, last time.Time
}

// lose notes a stretch that cannot be read. If it is not known when its
// commits were, then between those of its neighbours.
func (g *checkedLog) lose(x loss) {
	if x.first.IsZero() {
		for _, n := range g.segments[x.branch] {
			switch {
			case n.bad:
			case n.to <= x.from && n.last.After(x.first):
				x.first = n.last
			case n.from >= x.to && !n.first.IsZero() && (x.last.IsZero() || n.first.Before(x.last)):
				x.last = n.first
			}
		}
	}
	g.losses = append(g.losses, x)
}

// harm puts the losses of a log into the report, with the points that need
// them.
func (c *checker) harm(g *checkedLog) {
	needed := make([][]PointID, len(g.losses))
	for _, n := range g.needs {
		if n.From == n.Consistent {
			continue // is consistent as it is
		}
		way, err := g.way(n.Branch, n.From)
		if lost, ok := errors.AsType[*wayError](err); ok {
			c.lacks(n, c.problem(g.l.startKey(lost.branch), err.Error()))
		}
		for i, x := range g.losses {
			if slices.ContainsFunc(way, func(l leg) bool {
				return x.overlaps(span{l.branch, max(l.lo, n.From), min(l.hi, n.Consistent)})
			}) {
				needed[i] = append(needed[i], n.point)
				c.lacks(n, c.problem(x.key, x.text()))
			}
		}
	}
	for i, x := range g.losses {
		if x.gap && c.o.Replica && len(needed[i]) == 0 {
			continue // may still come
		}
		p := c.problem(x.key, x.text())
		slices.Sort(needed[i])
		c.report.LostLogs = append(c.report.LostLogs, LogLoss{Log: g.l.name, Branch: x.branch, From: x.from, To: x.to,
			First: x.first, Last: x.last, Key: x.key, Text: p.Text, Points: slices.Compact(needed[i])})
	}
}

func (x loss) text() string {
	return fmt.Sprintf("no segment has the positions %d to %d of branch %d", x.from, x.to, x.branch)
}

// lacks notes that a point cannot be restored to where it is consistent.
func (c *checker) lacks(n pointNeed, p *Problem) {
	if !slices.Contains(p.Points, n.point) {
		p.Points = append(p.Points, n.point)
	}
	if !slices.Contains(c.lacking[n.point], n.LogPosition) {
		c.lacking[n.point] = append(c.lacking[n.point], n.LogPosition)
	}
}
