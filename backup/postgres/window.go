package postgres

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/backup/postgres/internal/wal"
	"github.com/holdfast-go/holdfast/provider"
)

// A Window is a stretch of a timeline of which every moment can be reached,
// from one of its points and the WAL behind it. What lies between two windows
// of a timeline cannot: WAL is missing, or the bases before were forgotten.
type Window struct {
	System   uint64
	Timeline uint32

	From, To LSN // where the first base is consistent, or the timeline begins; and the durable end of the WAL

	// Since is when the backup of the first base ended, by the clock of who
	// made it, and Until the time of the last commit. With Continues the
	// window goes on, from before Since, where that of another timeline is
	// left.
	Since, Until time.Time
	Continues    bool

	Points []backup.PointID // oldest first
}

// Windows says to which moments a workload can be restored: by system and
// timeline, in order. It reads no WAL, and relies on what the stores of the
// repository list.
func Windows(ctx context.Context, repo *backup.Repository, name string) ([]Window, error) {
	out, err := windows(ctx, repo, name)
	if err != nil {
		return nil, fmt.Errorf("postgres: windows of %q: %w", name, err)
	}
	return out, nil
}

func windows(ctx context.Context, repo *backup.Repository, name string) (out []Window, err error) {
	all, err := candidates(ctx, repo, name)
	if err != nil {
		return nil, err
	}
	systems := map[uint64][]candidate{}
	for _, c := range all {
		systems[c.b.System] = append(systems[c.b.System], c)
	}
	for _, system := range slices.Sorted(maps.Keys(systems)) {
		log, err := repo.Log(LogName(system))
		if err != nil {
			return nil, err
		}
		t, err := readTimelines(ctx, log)
		if err != nil {
			return nil, err
		}
		for _, n := range t.numbers {
			found, err := t.intervals(ctx, n, systems[system])
			if err != nil {
				return nil, err
			}
			for _, i := range found {
				if w, ok := i.window(t, system); ok {
					out = append(out, w)
				}
			}
		}
	}
	return out, nil
}

// window is the part of an interval that is the timeline's own.
func (i interval) window(t *timelines, system uint64) (Window, bool) {
	first := i.bases[0]
	w := Window{System: system, Timeline: i.timeline, From: first.b.Stop, To: i.to, Since: first.b.Ended, Until: i.until}
	if b := t.branches[i.timeline]; b.Parent != 0 && wal.LSN(b.At) > w.From && first.b.Timeline != i.timeline {
		w.From, w.Continues = wal.LSN(b.At), true
	}
	for _, c := range i.bases {
		w.Points = append(w.Points, c.point.ID)
	}
	return w, w.To >= w.From && (w.To > w.From || !w.Continues)
}

// A candidate is a point that may be the one to restore.
type candidate struct {
	point backup.Point
	b     base
	err   error // it is damaged; of b there is System alone
}

// candidates are the points of a workload, the oldest first.
func candidates(ctx context.Context, repo *backup.Repository, name string) (out []candidate, err error) {
	if name == "" {
		return nil, errors.New("want the name of a workload")
	}
	var points []backup.Point
	for p, err := range repo.Points(ctx, name) {
		if err != nil {
			return nil, err
		}
		if p.Kind == (*Target)(nil).Kind() && p.Safety == nil {
			points = append(points, p)
		}
	}
	if len(points) == 0 { // or it cannot tell whose they are
		_, err := repo.Checked(ctx)
		return nil, err
	}
	for _, p := range points {
		b, err := baseOf(ctx, repo, p.ID)
		switch {
		case errors.Is(err, backup.ErrDamaged):
			b = base{System: systemOf(p)}
		case errors.Is(err, provider.ErrNotFound):
			continue // forgotten since
		case err != nil:
			return nil, fmt.Errorf("point %s: %w", p.ID, err)
		}
		out = append(out, candidate{p, b, err})
	}
	return out, nil
}

// systemOf is the cluster that a point is of, by the log it needs.
func systemOf(p backup.Point) uint64 {
	for _, l := range p.Logs {
		n, err := strconv.ParseUint(strings.TrimPrefix(l.Log, "postgres/"), 10, 64)
		if err == nil && LogName(n) == l.Log {
			return n
		}
	}
	return 0
}

func baseOf(ctx context.Context, repo *backup.Repository, id backup.PointID) (base, error) {
	v, err := repo.View(ctx, id)
	if err != nil {
		return base{}, err
	}
	it, err := v.Lookup(ctx, basePath)
	if err != nil {
		return base{}, err
	}
	return decodeBase(it)
}

// An interval is WAL without a gap along the way to a timeline, and the bases
// that are consistent within.
type interval struct {
	timeline uint32
	to       wal.LSN
	until    time.Time // of the last commit
	bases    []candidate
}

// intervals are those along the way to a timeline, in ascending order.
func (t *timelines) intervals(ctx context.Context, n uint32, from []candidate) (out []interval, err error) {
	root, way := t.path(n)
	ends := map[uint32]wal.LSN{} // where the way leaves a timeline
	for _, b := range way {
		ends[root] = wal.LSN(b.At)
		root = b.Branch
	}
	ends[n] = ^wal.LSN(0)
	var bases []candidate
	for _, c := range from {
		if end, on := ends[c.b.Timeline]; on && c.err == nil && c.b.Stop <= end {
			bases = append(bases, c)
		}
	}
	slices.SortStableFunc(bases, func(a, b candidate) int { return cmp.Compare(a.b.Start, b.b.Start) })
	for len(bases) > 0 {
		c, err := t.log.Coverage(ctx, n, uint64(bases[0].b.floor(bases[0].b.Start)), 0)
		if err != nil {
			return nil, err
		}
		i := interval{timeline: n, to: wal.LSN(c.End), until: c.Last}
		rest := bases[1:]
		if bases[0].b.Stop <= i.to {
			i.bases = append(i.bases, bases[0])
			for len(rest) > 0 && rest[0].b.Stop <= i.to {
				i.bases, rest = append(i.bases, rest[0]), rest[1:]
			}
			out = append(out, i)
		}
		bases = rest
	}
	return out, nil
}

// A Moment is one that can be reached.
type Moment struct {
	Time     time.Time // of the last commit before it, or when the backup ended
	LSN      LSN
	Timeline uint32

	// Point and Options of its Destination, with which it is.
	Point   backup.PointID
	Options map[string]string
}

func (m Moment) String() string {
	s := fmt.Sprintf("%v on timeline %d (point %s", m.LSN, m.Timeline, m.Point)
	if !m.Time.IsZero() {
		s = stamp(m.Time) + ", " + s
	}
	for _, k := range sortedKeys(m.Options) {
		s += " " + k + "=" + m.Options[k]
	}
	return s + ")"
}

func sortedKeys(m map[string]string) []string { return slices.Sorted(maps.Keys(m)) }

// An UnreachableError says that a target cannot be reached, why, and what can
// be instead. Nothing has been written.
type UnreachableError struct {
	Err    error   // wraps [backup.ErrGap] where WAL is missing
	Before *Moment // the last that can be reached before the target; nil: none
	After  *Moment // and the first behind it
}

func (e *UnreachableError) Error() string {
	var b strings.Builder
	b.WriteString(e.Err.Error())
	switch {
	case e.Before == nil && e.After == nil:
		b.WriteString("; nothing can be reached")
	case e.Before != nil:
		b.WriteString("; the nearest before it is " + e.Before.String())
	}
	if e.After != nil {
		b.WriteString("; the nearest behind it is " + e.After.String())
	}
	return b.String()
}

func (e *UnreachableError) Unwrap() error { return e.Err }

// unreachable adds to a refusal what can be reached instead, from some points.
// Another error stays what it is.
func (t *timelines) unreachable(ctx context.Context, err error, from []candidate, target target) error {
	if _, refused := errors.AsType[*refusal](err); !refused {
		return err
	}
	out := &UnreachableError{Err: err}
	for _, n := range t.tried(from, target) {
		if n != target.timeline {
			var err error
			if out.Before, err = t.other(ctx, n, from, target); out.Before != nil || err != nil {
				return errors.Join(err, out)
			}
		}
		found, err := t.intervals(ctx, n, from)
		if err != nil {
			return err
		}
		for _, i := range found {
			before, after, err := t.nearest(ctx, i, target)
			if err != nil {
				return err
			}
			if before != nil && (out.Before == nil || target.less(*out.Before, *before)) {
				out.Before = before
			}
			if after != nil && (out.After == nil || target.less(*after, *out.After)) {
				out.After = after
			}
		}
		if out.Before != nil || out.After != nil {
			break
		}
	}
	return out
}

// other is the target itself, on another timeline than was meant.
func (t *timelines) other(ctx context.Context, n uint32, from []candidate, target target) (*Moment, error) {
	if target.consistent || target.end() {
		return nil, nil
	}
	target.timeline, target.current = n, false
	for _, c := range slices.Backward(from) {
		r, err := t.prove(ctx, c.b, target)
		if _, refused := errors.AsType[*refusal](err); refused {
			continue
		}
		if err != nil {
			return nil, err
		}
		m := &Moment{Time: target.at, LSN: target.lsn, Timeline: r.on(r.end), Point: c.point.ID, Options: target.options()}
		if m.LSN == 0 {
			m.LSN = r.end
		}
		return m, nil
	}
	return nil, nil
}

// on is the timeline that a position is read on.
func (r *recovery) on(at wal.LSN) uint32 {
	n := r.b.Timeline
	for _, b := range r.way {
		if at >= wal.LSN(b.At) {
			n = b.Branch
		}
	}
	return n
}

// tried are the timelines to look for what can be reached, the one that was
// meant first.
func (t *timelines) tried(from []candidate, target target) (out []uint32) {
	if target.timeline != 0 {
		if _, ok := t.branches[target.timeline]; ok {
			out = append(out, target.timeline)
		}
	}
	for _, n := range slices.Backward(t.numbers) {
		on := slices.ContainsFunc(from, func(c candidate) bool {
			if n == c.b.Timeline {
				return true
			}
			_, err := t.way(c.b, n)
			return !target.current && err == nil
		})
		if on && n != target.timeline {
			out = append(out, n)
		}
	}
	return out
}

// less compares moments as the target is given.
func (t target) less(a, b Moment) bool {
	if !t.at.IsZero() {
		return a.Time.Before(b.Time)
	}
	return a.LSN < b.LSN
}

// compare says where a moment lies: below 0 is before the target. The end of
// the log, and what was not found, is behind everything.
func (t target) compare(m Moment) int {
	switch {
	case !t.at.IsZero():
		return m.Time.Compare(t.at)
	case t.lsn != 0:
		return cmp.Compare(m.LSN, t.lsn)
	}
	return -1
}

// nearest are the moments of an interval on both sides of a target. Its
// bases are some, and its end.
func (t *timelines) nearest(ctx context.Context, i interval, target target) (before, after *Moment, err error) {
	var all []Moment
	for _, c := range i.bases {
		all = append(all, Moment{Time: c.b.Ended, LSN: c.b.Stop, Timeline: c.b.Timeline, Point: c.point.ID, Options: map[string]string{"target": "consistent"}})
	}
	last := i.bases[len(i.bases)-1]
	end, err := t.endOf(ctx, i, last)
	if err != nil {
		return nil, nil, err
	}
	if end != nil {
		all = append(all, *end)
	}
	for _, m := range all {
		if target.compare(m) <= 0 {
			if before == nil || !target.less(m, *before) {
				before = &m
			}
		} else if after == nil || target.less(m, *after) {
			after = &m
		}
	}
	return before, after, nil
}

// endOf is the last moment of an interval; nil if that is its last base.
func (t *timelines) endOf(ctx context.Context, i interval, last candidate) (*Moment, error) {
	r := &recovery{log: t.log, b: last.b, end: i.to, target: target{timeline: i.timeline}}
	if err := r.follow(t); err != nil {
		return nil, err
	}
	at, err := r.lastRecord(ctx)
	if err != nil || at < last.b.Stop {
		return nil, err
	}
	m := &Moment{Time: i.until, LSN: at, Timeline: r.on(at), Point: last.point.ID,
		Options: map[string]string{"target-lsn": at.String(), "target-timeline": fmt.Sprint(i.timeline)}}
	if m.Time.Before(last.b.Ended) {
		m.Time = last.b.Ended // nothing was committed since
	}
	return m, nil
}
