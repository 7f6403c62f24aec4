package dr

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/adhocore/gronx"
)

// cron is a five-field cron expression in a time zone.
//
// The expression is matched against the wall clock. Where the clock jumps,
// this package has its own rule, because the cron libraries lose or double
// runs there:
//
//   - An expression with a fixed hour runs once for each wall time it names.
//     A time the clock skips runs at the first instant after the jump; a time
//     the clock shows twice runs the first time only.
//   - An expression that matches every hour ("*/30 * * * *") runs in every
//     hour that passes, the repeated one included, and owes nothing for the
//     hour that never was.
type cron struct {
	expr      string // five fields, ready for gronx
	loc       *time.Location
	everyHour bool
}

var cronTags = map[string]string{
	"@hourly": "0 * * * *", "@daily": "0 0 * * *", "@weekly": "0 0 * * 0",
	"@monthly": "0 0 1 * *", "@yearly": "0 0 1 1 *",
}

// errNoTick: the expression names a time that never comes (30 February).
var errNoTick = errors.New("names a time that never comes")

// parseCron reads five fields or one of the tags above. Fields for seconds
// and years are refused: two tools disagree about what six fields mean.
func parseCron(expr string, loc *time.Location) (cron, error) {
	e := strings.TrimSpace(expr)
	if full, ok := cronTags[strings.ToLower(e)]; ok {
		e = full
	}
	fields := strings.Fields(e)
	if len(fields) != 5 {
		return cron{}, fmt.Errorf("%q has %d fields; want five: minute hour day month weekday", expr, len(fields))
	}
	for _, f := range fields {
		if !cronField.MatchString(f) {
			return cron{}, fmt.Errorf("%q: field %q is not understood", expr, f)
		}
	}
	e = strings.Join(fields, " ")
	if !gronx.IsValid(e) {
		return cron{}, fmt.Errorf("%q is not a cron expression", expr)
	}
	if loc == nil {
		loc = time.UTC
	}
	c := cron{expr: e, loc: loc, everyHour: fields[1] == "*" || fields[1] == "*/1"}
	// One look ahead from a fixed day finds expressions that never match.
	if _, err := c.next(time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)); err != nil {
		return cron{}, fmt.Errorf("%q %w", expr, err)
	}
	return c, nil
}

// cronField is the plain language of cron; gronx knows more (L, W, #), about
// which tools disagree.
var cronField = func() *regexp.Regexp {
	value := `([0-9]{1,2}|(?i:sun|mon|tue|wed|thu|fri|sat|jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec))`
	item := `(\*|` + value + `(-` + value + `)?)(/[0-9]{1,2})?`
	return regexp.MustCompile(`^` + item + `(,` + item + `)*$`)
}()

// horizon bounds every search: 29 February comes within eight years, also
// across 2100.
const horizon = 9 * 366 * Day

// A stretch is a span of real time in which the clock does not jump. Inside
// it an instant and its wall time (kept as if it were UTC) differ by offset.
type stretch struct {
	start, end time.Time // zero where the zone has no earlier or later jump
	offset     time.Duration
	before     time.Duration // the offset before start
}

func (c cron) stretchAt(t time.Time) stretch {
	in := t.In(c.loc)
	_, sec := in.Zone()
	s := stretch{offset: time.Duration(sec) * time.Second}
	s.start, s.end = in.ZoneBounds()
	if !s.start.IsZero() {
		_, sec := s.start.Add(-1).In(c.loc).Zone()
		s.before = time.Duration(sec) * time.Second
	}
	return s
}

// floor is the first wall time of the stretch that a tick of c may have. For
// a fixed hour that is after the wall times the previous stretch already had.
func (c cron) floor(s stretch) time.Time {
	first := wall(s.start, s.offset)
	if !c.everyHour && s.before > s.offset {
		return wall(s.start, s.before)
	}
	return first
}

// skipped reports whether a tick of c fell into the wall times that the jump
// at the start of s left out; it runs at that start.
func (c cron) skipped(s stretch) bool {
	if s.start.IsZero() || c.everyHour || s.offset <= s.before {
		return false
	}
	from := wall(s.start, s.before)
	tick, err := gronx.NextTickAfter(c.expr, from, true)
	return err == nil && tick.Before(wall(s.start, s.offset))
}

// wall is the wall time of an instant, kept in UTC; real is its inverse.
func wall(t time.Time, offset time.Duration) time.Time { return t.UTC().Add(offset) }
func real(w time.Time, offset time.Duration) time.Time { return w.Add(-offset) }

// next is the first tick after t.
func (c cron) next(t time.Time) (time.Time, error) {
	for limit := t.Add(horizon); t.Before(limit); {
		s := c.stretchAt(t)
		from, inclusive := wall(t, s.offset), false
		if !s.start.IsZero() {
			if low := c.floor(s); low.After(from) {
				from, inclusive = low, true
			}
		}
		tick, err := gronx.NextTickAfter(c.expr, from, inclusive)
		if err == nil {
			if at := real(tick, s.offset); s.end.IsZero() || at.Before(s.end) {
				return at.UTC(), nil
			}
		}
		if s.end.IsZero() {
			break
		}
		if at := s.end.UTC(); c.tickAt(at) {
			return at, nil
		}
		t = s.end
	}
	return time.Time{}, errNoTick
}

// prev is the last tick at or before t.
func (c cron) prev(t time.Time) (time.Time, error) {
	for limit := t.Add(-horizon); t.After(limit); {
		s := c.stretchAt(t)
		tick, err := gronx.PrevTickBefore(c.expr, wall(t, s.offset), true)
		// gronx returns the seconds of its argument when that is due itself.
		tick = tick.Truncate(time.Minute)
		if err == nil && (s.start.IsZero() || !tick.Before(c.floor(s))) {
			return real(tick, s.offset).UTC(), nil
		}
		if s.start.IsZero() {
			break
		}
		if c.skipped(s) {
			return s.start.UTC(), nil
		}
		t = s.start.Add(-1)
	}
	return time.Time{}, errNoTick
}

// tickAt reports whether the first instant of a stretch is a tick.
func (c cron) tickAt(start time.Time) bool {
	s := c.stretchAt(start)
	if c.skipped(s) {
		return true
	}
	first := wall(s.start, s.offset)
	if first.Before(c.floor(s)) {
		return false
	}
	tick, err := gronx.NextTickAfter(c.expr, first, true)
	return err == nil && tick.Equal(first)
}

// longestGap is the longest span between two ticks that follow each other,
// clock changes aside. Minutes and hours repeat each matching day, so one
// day's ticks and the distances between matching days give it exactly.
func (c cron) longestGap() (time.Duration, error) {
	f := strings.Fields(c.expr)
	daily := strings.Join([]string{f[0], f[1], "*", "*", "*"}, " ")
	days := strings.Join([]string{"0", "0", f[2], f[3], f[4]}, " ")
	origin := time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)

	first, err := gronx.NextTickAfter(daily, origin, true)
	if err != nil {
		return 0, errNoTick
	}
	last, longest := first, time.Duration(0)
	for {
		tick, err := gronx.NextTickAfter(daily, last, false)
		if err != nil {
			return 0, errNoTick
		}
		if tick.Sub(origin) >= Day {
			break
		}
		longest, last = max(longest, tick.Sub(last)), tick
	}
	overnight := first.Sub(last) // plus the distance of two matching days

	if f[2] == "*" && f[3] == "*" && f[4] == "*" {
		return max(longest, Day+overnight), nil
	}
	day, err := gronx.NextTickAfter(days, origin, true)
	if err != nil {
		return 0, errNoTick
	}
	for end := origin.Add(horizon); day.Before(end); {
		following, err := gronx.NextTickAfter(days, day, false)
		if err != nil {
			return 0, errNoTick
		}
		longest = max(longest, following.Sub(day)+overnight)
		day = following
		if day.Sub(origin) > 400*Day && longest < 300*Day {
			break // a year has been seen
		}
	}
	return longest, nil
}
