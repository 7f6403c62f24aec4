package retention_test

import (
	"fmt"
	"slices"
	"time"

	"github.com/holdfast-go/holdfast/retention"
)

// oracle decides by brute force, from the words of the package comment: for
// every point it asks whether a rule keeps it, by counting the others. It
// shares no code with the package. It also says whether a group would end up
// empty.
func oracle(points []retention.Point, p retention.Policy) (map[string]retention.Verdict, bool) {
	verdicts := map[string]retention.Verdict{}
	for _, x := range points {
		var others []retention.Point // of the group, trusted
		for _, y := range points {
			if y.Group == x.Group && !mad(y, p) {
				others = append(others, y)
			}
		}
		switch {
		case mad(x, p):
			verdicts[x.ID] = retention.Quarantine
		case keeps(x, others, p):
			verdicts[x.ID] = retention.Keep
		default:
			verdicts[x.ID] = retention.Forget
		}
	}
	for _, x := range points {
		if !slices.ContainsFunc(points, func(y retention.Point) bool {
			return y.Group == x.Group && verdicts[y.ID] != retention.Forget
		}) {
			return nil, true
		}
	}
	return verdicts, false
}

func orDefault(s retention.Span, d time.Duration) time.Duration {
	if s == 0 {
		return d
	}
	return time.Duration(s)
}

func mad(x retention.Point, p retention.Policy) bool {
	limit := now
	if !x.Stored.IsZero() {
		limit = x.Stored
	}
	return x.Time.After(limit.Add(orDefault(p.MaxSkew, time.Hour)))
}

func newer(a, b retention.Point) bool {
	if a.Time.Equal(b.Time) {
		return a.ID > b.ID
	}
	return a.Time.After(b.Time)
}

func keeps(x retention.Point, trusted []retention.Point, p retention.Policy) bool {
	if x.Pinned {
		return true
	}
	if x.Proven && !slices.ContainsFunc(trusted, func(y retention.Point) bool { return y.Proven && newer(y, x) }) {
		return true
	}
	if minAge := time.Duration(p.MinAge); minAge > 0 && (x.Time.After(now.Add(-minAge)) || x.Stored.After(now.Add(-minAge))) {
		return true
	}
	tooOld := func(y retention.Point) bool {
		return p.MaxAge > 0 && y.Time.Before(now.Add(-time.Duration(p.MaxAge)))
	}
	if tooOld(x) {
		return false
	}
	late := func(y retention.Point) bool {
		return !y.Stored.IsZero() && y.Stored.After(y.Time.Add(orDefault(p.MaxDelay, 24*time.Hour)))
	}
	rivals := slices.DeleteFunc(slices.Clone(trusted), tooOld)
	if counted(x, rivals, p) {
		return true
	}
	return !late(x) && counted(x, slices.DeleteFunc(rivals, late), p)
}

func counted(x retention.Point, rivals []retention.Point, p retention.Policy) bool {
	before, isOldest, newest := 0, true, x
	for _, y := range rivals {
		if newer(y, x) {
			before++
		}
		isOldest = isOldest && !newer(x, y)
		if newer(y, newest) {
			newest = y
		}
	}
	if p.KeepLast < 0 || before < p.KeepLast {
		return true
	}
	if p.KeepWithin > 0 && !x.Time.Before(newest.Time.Add(-time.Duration(p.KeepWithin))) {
		return true
	}
	for _, tag := range x.Tags {
		if slices.Contains(p.KeepTags, tag) {
			return true
		}
	}
	for _, rule := range []struct {
		n      int
		period func(time.Time) string
	}{
		{p.Hourly, func(t time.Time) string { return fmt.Sprint(t.Unix() / 3600) }},
		{p.Daily, func(t time.Time) string { return fmt.Sprint(t.Unix() / 86400) }},
		{p.Weekly, func(t time.Time) string { return fmt.Sprint((t.Unix()/86400 + 3) / 7) }}, // the epoch was a Thursday
		{p.Monthly, func(t time.Time) string { return fmt.Sprint(t.Year()*12 + int(t.Month())) }},
		{p.Yearly, func(t time.Time) string { return fmt.Sprint(t.Year()) }},
	} {
		mine := rule.period(x.Time.UTC())
		newerPeriods, all, firstOfMine := map[string]bool{}, map[string]bool{}, true
		for _, y := range rivals {
			theirs := rule.period(y.Time.UTC())
			all[theirs] = true
			if newer(y, x) {
				newerPeriods[theirs] = true
				firstOfMine = firstOfMine && theirs != mine
			}
		}
		full := rule.n >= 0 && len(all) >= rule.n
		switch {
		case rule.n == 0:
		case firstOfMine && (rule.n < 0 || len(newerPeriods) < rule.n), isOldest && !full:
			return true
		}
	}
	return false
}
