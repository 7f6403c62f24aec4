package dr

import (
	"fmt"
	"hash/fnv"
	"time"
)

// schedule says when a workload is to be backed up: either every so often
// since the last success, or at the ticks of a cron expression.
type schedule struct {
	every  time.Duration // if not zero, cron is not used
	cron   cron
	jitter time.Duration // moves every tick by the same amount
}

// history is what the decision needs to know about a workload. It comes from
// the points in the repository and the attempts of this process, so a restart
// loses no run that is due.
type history struct {
	success  time.Time // moment of the newest point; zero if there is none
	attempt  time.Time // start of the latest attempt; zero if none is known
	failures int       // attempts that failed since the last success
}

// dueRun is a run that should start now.
type dueRun struct {
	Tick   time.Time // when it became due
	Reason string
}

// The wait after a failed attempt doubles from retryFirst to retryMost, and
// is never longer than the interval of the schedule itself.
const (
	retryFirst = time.Minute
	retryMost  = 15 * time.Minute
)

// retryWait is how long after the start of the n-th failed attempt in a row
// the next one may start.
func (s schedule) retryWait(n int) time.Duration {
	wait, most := retryFirst, retryMost
	if s.every > 0 {
		wait, most = min(wait, s.every/5), min(most, s.every)
	}
	for ; n > 1 && wait < most; n-- {
		wait *= 2
	}
	return min(wait, most)
}

// due decides whether a run should start at now. Of several ticks missed only
// the latest counts: two points of one moment help nobody.
func (s schedule) due(h history, now time.Time) (dueRun, bool) {
	at, reason := s.dueAt(h, now)
	if at.After(now) {
		return dueRun{}, false
	}
	return dueRun{Tick: at, Reason: reason}, true
}

// dueAt is the moment from which a run is due: at or before now if it is due
// already, else when to ask again.
func (s schedule) dueAt(h history, now time.Time) (time.Time, string) {
	success := h.success
	if success.After(now) {
		// The clock went back. A point from the future must not stop backups.
		success = time.Time{}
		if h.failures == 0 && !h.attempt.After(now) {
			success = h.attempt
		}
	}
	at, reason := s.tick(success, now)
	if h.failures > 0 && !h.attempt.After(now) {
		if retry := h.attempt.Add(s.retryWait(h.failures)); retry.After(at) {
			return retry, fmt.Sprintf("%d failed since the last success; tried again", h.failures)
		}
	}
	return at, reason
}

// tick is when the run after success is due by the schedule alone.
func (s schedule) tick(success, now time.Time) (time.Time, string) {
	switch {
	case success.IsZero():
		return now, "there is no point yet"
	case s.every > 0:
		return success.Add(s.every), fmt.Sprintf("%v or more since the last success", Duration(s.every))
	}
	last, err := s.cron.prev(now.Add(-s.jitter))
	if err == nil && success.Before(last.Add(s.jitter)) {
		return last.Add(s.jitter), "no point since the scheduled time"
	}
	next, err := s.cron.next(now.Add(-s.jitter))
	if err != nil {
		// parseCron refused expressions without a tick; a year field that
		// could run out is not in the language.
		return now.Add(horizon), err.Error()
	}
	return next.Add(s.jitter), "scheduled"
}

// longestGap is the longest time between two runs that both succeed.
func (s schedule) longestGap() (time.Duration, error) {
	if s.every > 0 {
		return s.every, nil
	}
	return s.cron.longestGap()
}

// jitterFor spreads the workloads of one configuration over a window so that
// they do not all start at midnight. It depends on the name alone, so every
// process that reads the same configuration agrees.
func jitterFor(name string, gap time.Duration) time.Duration {
	window := min(gap/20, 10*time.Minute)
	if window < time.Second {
		return 0
	}
	h := fnv.New64a()
	h.Write([]byte(name))
	return time.Duration(h.Sum64()%uint64(window/time.Second)) * time.Second
}

// schedule compiles the schedule of w. Exactly one of its three forms must be
// set; the error does not repeat the field.
func (w Workload) schedule() (schedule, error) {
	switch {
	case w.Every > 0:
		return schedule{every: w.Every.Std()}, nil
	case w.Schedule != "":
		loc, err := w.location()
		if err != nil {
			return schedule{}, err
		}
		c, err := parseCron(w.Schedule, loc)
		return schedule{cron: c}, err
	}
	expr, ok := frequencies[w.Frequency]
	if !ok {
		return schedule{}, fmt.Errorf("%q is none of hourly, daily, weekly, monthly", w.Frequency)
	}
	loc, err := w.location()
	if err != nil {
		return schedule{}, err
	}
	c, err := parseCron(expr, loc)
	if err != nil {
		return schedule{}, err
	}
	s := schedule{cron: c}
	gap, err := s.longestGap()
	if err != nil {
		return schedule{}, err
	}
	s.jitter = jitterFor(w.Name, gap)
	return s, nil
}

// frequencies are the named schedules.
var frequencies = map[Frequency]string{
	Hourly: "@hourly", Daily: "@daily", Weekly: "@weekly", Monthly: "@monthly",
}

func (w Workload) location() (*time.Location, error) {
	if w.TimeZone == "" {
		return time.UTC, nil
	}
	loc, err := time.LoadLocation(w.TimeZone)
	if err != nil || w.TimeZone == "Local" {
		return nil, fmt.Errorf("time zone %q is not known here; write an IANA name such as Europe/Berlin", w.TimeZone)
	}
	return loc, nil
}
