// Package retention decides which recovery points to keep and which to
// forget, and says why of each. It is a pure function of the points, a policy
// and a moment: it reads no clock and deletes nothing.
//
// Describe each point as a [Point], write a [Policy], call [Apply], and forget
// what it says to [Forget]. Print the reasons before acting on them.
//
// # Rules
//
// A point is kept if any rule keeps it. The counting rules are those of
// restic: Hourly, Daily, Weekly, Monthly and Yearly keep the newest point of
// each of the last N hours, days, ISO 8601 weeks, months and years, in UTC,
// that have a point; periods without one do not count. While such a list is
// not full, the oldest point is kept too, so that a history can grow into its
// policy. Points of different groups (workloads) never influence each other.
//
// MaxAge forgets what the other rules would keep. Three things outrank it:
// a pin, MinAge, and being the newest proven point of the group.
//
// # What an attacker cannot make it forget
//
// Whoever can write points can date them. Three properties limit what that
// is worth:
//
//   - A point dated later than its store-side time (by more than MaxSkew) is
//     quarantined: kept, reported, and counted by no rule. Ten thousand points
//     of the year 2100 push nothing out and move no window.
//   - A point dated earlier than its store-side time (by more than MaxDelay)
//     is late. A late point can be kept by the counting rules, but never at
//     the expense of a point that is not late: the rules are applied to the
//     punctual points alone and again to all, and what either keeps is kept.
//     It is not quarantined, because a store that was filled by replication
//     holds many honest late points.
//   - The newest proven point of a group is kept whatever the policy says, so
//     unproven points, however many, never leave a group without one that is
//     known to restore.
//
// Many points with honest dates do use up KeepLast, which counts points and
// not time. Where the writer is not trusted, use MinAge or KeepWithin.
//
// # Guarantees
//
// The decision does not depend on the order of the points. Adding a rule that
// keeps, or raising its number, never forgets more. Applying a policy to what
// it kept, at the same moment, forgets nothing more. A policy that would
// forget every point of a group is refused with [ErrForgetsAll] instead.
//
// The package does not forget, prune or lock anything, and it does not see
// what depends on a point (logs, members of a group): its caller does.
package retention

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Point is what a decision needs to know about a recovery point.
type Point struct {
	ID     string    // names the point; unique among the points of one Apply
	Group  string    // the workload; rules apply to each group by itself
	Time   time.Time // the moment the point returns to, by the writer's clock
	Stored time.Time // when its manifest was stored, by the store's clock; zero if not known
	Tags   []string
	Pinned bool // kept until the pin is taken off
	Proven bool // restored and checked at least once
}

// A Verdict says what becomes of a point.
type Verdict string

const (
	// Keep: at least one rule keeps the point.
	Keep Verdict = "keep"
	// Forget: no rule keeps the point, or it is older than MaxAge.
	Forget Verdict = "forget"
	// Quarantine: the date of the point is not to be believed. It is kept
	// and counted by no rule; a person should look at it.
	Quarantine Verdict = "quarantine"
)

// Decision is the verdict on one point with every reason for it.
type Decision[P any] struct {
	Point   P
	Verdict Verdict
	Reasons []string // such as "weekly 2026-W47" or "last proven"; never empty
}

// ErrForgetsAll refuses a decision that would forget every point of a group.
var ErrForgetsAll = errors.New("the policy would forget every point")

// Apply decides about every point under policy p as of now, which should come
// from the store's clock where the host's may be wrong. It returns one
// Decision per point, in the order of points.
//
// It returns no decision at all, but an error, if p is not valid, if a point
// has no ID or no Time, if two have the same ID, or ([ErrForgetsAll]) if
// nothing would remain of a group.
func Apply[P any](points []P, describe func(P) Point, p Policy, now time.Time) ([]Decision[P], error) {
	if err := p.Validate(); err != nil {
		return nil, err
	}
	marks := make([]*mark, len(points))
	for i, point := range points {
		marks[i] = &mark{Point: describe(point)}
	}
	if err := checkPoints(marks); err != nil {
		return nil, err
	}
	var errs []error
	for group, members := range byGroup(marks) {
		decide(members, p, now)
		if !slices.ContainsFunc(members, func(m *mark) bool { return m.verdict != Forget }) {
			errs = append(errs, fmt.Errorf("%w: group %q, all %d of them; to remove a whole workload, forget its points by name",
				ErrForgetsAll, group, len(members)))
		}
	}
	if len(errs) > 0 {
		slices.SortFunc(errs, func(a, b error) int { return cmp.Compare(a.Error(), b.Error()) })
		return nil, errors.Join(errs...)
	}
	decisions := make([]Decision[P], len(points))
	for i, m := range marks {
		decisions[i] = Decision[P]{Point: points[i], Verdict: m.verdict, Reasons: m.reasons}
	}
	return decisions, nil
}

// mark is a point while it is being decided about.
type mark struct {
	Point
	verdict Verdict
	reasons []string
}

// because notes a reason to keep the point; the same reason counts once.
func (m *mark) because(reason string) {
	if !slices.Contains(m.reasons, reason) {
		m.reasons = append(m.reasons, reason)
	}
}

func checkPoints(marks []*mark) error {
	var errs []error
	seen := make(map[string]bool, len(marks))
	for i, m := range marks {
		switch {
		case m.ID == "":
			errs = append(errs, fmt.Errorf("point %d: no ID", i))
		case seen[m.ID]:
			errs = append(errs, fmt.Errorf("point %q: given twice", m.ID))
		case m.Time.IsZero():
			errs = append(errs, fmt.Errorf("point %q: no Time", m.ID))
		}
		seen[m.ID] = true
	}
	return errors.Join(errs...)
}

func byGroup(marks []*mark) map[string][]*mark {
	groups := make(map[string][]*mark)
	for _, m := range marks {
		groups[m.Group] = append(groups[m.Group], m)
	}
	return groups
}

// decide sets verdict and reasons of the points of one group.
func decide(group []*mark, p Policy, now time.Time) {
	var trusted, young, punctual []*mark // each newest first, each part of the one before
	for _, m := range newestFirst(group) {
		if reason, ok := dateInFuture(m.Point, p, now); ok {
			m.verdict, m.reasons = Quarantine, []string{reason}
			continue
		}
		trusted = append(trusted, m)
		if p.MaxAge > 0 && now.Sub(m.Time) > time.Duration(p.MaxAge) {
			continue
		}
		young = append(young, m)
		if m.Stored.IsZero() || m.Stored.Sub(m.Time) <= p.maxDelay() {
			punctual = append(punctual, m)
		}
	}
	keepAlways(trusted, p, now)
	keepByRule(punctual, p)
	keepByRule(young, p)
	for i, m := range trusted {
		switch {
		case len(m.reasons) > 0:
			m.verdict = Keep
		case i >= len(young):
			m.verdict, m.reasons = Forget, []string{"older than " + p.MaxAge.String()}
		default:
			m.verdict, m.reasons = Forget, []string{"no rule keeps it"}
		}
	}
}

// newestFirst orders by Time; ID decides between equals, so that the order of
// the caller's slice never matters.
func newestFirst(marks []*mark) []*mark {
	sorted := slices.Clone(marks)
	slices.SortFunc(sorted, func(a, b *mark) int {
		return cmp.Or(b.Time.Compare(a.Time), cmp.Compare(b.ID, a.ID))
	})
	return sorted
}

// dateInFuture says why the date of a point is not believed, if it is not.
// Without a store-side time, a date after now is all that can be noticed.
func dateInFuture(m Point, p Policy, now time.Time) (string, bool) {
	if m.Stored.IsZero() {
		ahead := m.Time.Sub(now)
		return "dated " + roughly(ahead) + " in the future", ahead > p.maxSkew()
	}
	ahead := m.Time.Sub(m.Stored)
	return "dated " + roughly(ahead) + " after it was stored", ahead > p.maxSkew()
}

// keepAlways notes the reasons that hold whatever the age of a point.
func keepAlways(trusted []*mark, p Policy, now time.Time) {
	if i := slices.IndexFunc(trusted, func(m *mark) bool { return m.Proven }); i >= 0 {
		trusted[i].because("last proven")
	}
	for _, m := range trusted {
		if m.Pinned {
			m.because("pinned")
		}
		// The later of both times: neither an old date nor a late arrival
		// makes a point forgettable sooner.
		since := m.Time
		if m.Stored.After(since) {
			since = m.Stored
		}
		if p.MinAge > 0 && now.Sub(since) < time.Duration(p.MinAge) {
			m.because("younger than " + p.MinAge.String())
		}
	}
}

// keepByRule notes what the counting rules, KeepWithin and KeepTags keep
// among points, which come newest first.
func keepByRule(points []*mark, p Policy) {
	if len(points) == 0 {
		return
	}
	for i, m := range points {
		if p.KeepLast == Unlimited || i < p.KeepLast {
			m.because("last " + ofN(i+1, p.KeepLast))
		}
		if newest := points[0].Time; p.KeepWithin > 0 && newest.Sub(m.Time) <= time.Duration(p.KeepWithin) {
			m.because("within " + p.KeepWithin.String() + " of " + newest.UTC().Format(time.RFC3339))
		}
		for _, tag := range p.KeepTags {
			if slices.Contains(m.Tags, tag) {
				m.because("tag " + tag)
			}
		}
	}
	for _, b := range p.buckets() {
		b.keep(points)
	}
}

// bucket keeps the newest point of each of the last n periods.
type bucket struct {
	name   string
	n      int
	period func(time.Time) string // names the period a UTC time lies in
}

func (b bucket) keep(points []*mark) {
	if b.n == 0 {
		return
	}
	count, last := 0, ""
	for i, m := range points {
		if b.n != Unlimited && count == b.n {
			return
		}
		period := b.period(m.Time.UTC())
		switch {
		case period != last:
			m.because(b.name + " " + period)
			count, last = count+1, period
		case i == len(points)-1:
			m.because("oldest, " + b.name + " list holds " + ofN(count, b.n))
		}
	}
}

func ofN(i, n int) string {
	if n == Unlimited {
		return fmt.Sprint(i)
	}
	return fmt.Sprintf("%d of %d", i, n)
}

// roughly writes a duration in its largest unit, as a person would say it.
func roughly(d time.Duration) string {
	const day = 24 * time.Hour
	for _, u := range []struct {
		unit time.Duration
		name string
	}{{365 * day, "year"}, {day, "day"}, {time.Hour, "hour"}, {time.Minute, "minute"}} {
		switch n := d / u.unit; {
		case n == 1:
			return "1 " + u.name
		case n > 1:
			return fmt.Sprintf("%d %ss", n, u.name)
		}
	}
	return d.String()
}
