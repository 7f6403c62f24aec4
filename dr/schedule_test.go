package dr

import (
	"math/rand/v2"
	"testing"
	"time"
)

func moment(s string) time.Time {
	t, err := time.Parse("2006-01-02 15:04:05", s)
	if err != nil {
		panic(err)
	}
	return t
}

func TestDue(t *testing.T) {
	daily := schedule{cron: mustCron(t, "30 1 * * *", "UTC")}
	shifted := schedule{cron: mustCron(t, "@daily", "UTC"), jitter: 7 * time.Minute}
	every := schedule{every: 5 * time.Minute}
	now := moment("2026-11-23 08:00:00")
	tests := []struct {
		name string
		s    schedule
		h    history
		at   string // from when it is due
	}{
		{"first point at once, cron", daily, history{}, "2026-11-23 08:00:00"},
		{"first point at once, interval", every, history{}, "2026-11-23 08:00:00"},
		{"done today", daily, history{success: moment("2026-11-23 01:30:00")}, "2026-11-24 01:30:00"},
		{"one missed", daily, history{success: moment("2026-11-22 01:30:10")}, "2026-11-23 01:30:00"},
		{"many missed: only the latest", daily, history{success: moment("2026-10-01 01:30:10")}, "2026-11-23 01:30:00"},
		{"a point by hand before the tick does not count for it", daily, history{success: moment("2026-11-23 01:29:59")}, "2026-11-23 01:30:00"},
		{"jitter moves the tick", shifted, history{success: moment("2026-11-23 00:06:59")}, "2026-11-23 00:07:00"},
		{"jitter moves the next tick", shifted, history{success: moment("2026-11-23 00:07:00")}, "2026-11-24 00:07:00"},
		{"interval since the last success", every, history{success: moment("2026-11-23 07:58:00")}, "2026-11-23 08:03:00"},
		{"interval long over", every, history{success: moment("2026-11-01 00:00:00")}, "2026-11-01 00:05:00"},
		{"first retry of a tight interval after a fifth of it", every,
			history{success: moment("2026-11-23 07:50:00"), attempt: moment("2026-11-23 07:59:30"), failures: 1}, "2026-11-23 08:00:30"},
		{"retries of an interval never wait longer than it", every,
			history{success: moment("2026-11-23 07:00:00"), attempt: moment("2026-11-23 07:59:00"), failures: 30}, "2026-11-23 08:04:00"},
		{"retries of a daily run wait at most a quarter of an hour", daily,
			history{success: moment("2026-11-20 01:30:00"), attempt: moment("2026-11-23 07:59:00"), failures: 30}, "2026-11-23 08:14:00"},
		{"third retry", daily,
			history{success: moment("2026-11-20 01:30:00"), attempt: moment("2026-11-23 07:59:00"), failures: 3}, "2026-11-23 08:03:00"},
		{"a retry does not come before the tick", daily,
			history{success: moment("2026-11-23 01:31:00"), attempt: moment("2026-11-23 07:59:00"), failures: 1}, "2026-11-24 01:30:00"},
		{"a point from the future does not stop backups", every,
			history{success: moment("2100-01-01 00:00:00")}, "2026-11-23 08:00:00"},
		{"... nor start one after the other", every,
			history{success: moment("2100-01-01 00:00:00"), attempt: moment("2026-11-23 07:59:00")}, "2026-11-23 08:04:00"},
		{"an attempt from the future does not stop retries", every,
			history{success: moment("2026-11-23 07:00:00"), attempt: moment("2100-01-01 00:00:00"), failures: 3}, "2026-11-23 07:05:00"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, reason := test.s.dueAt(test.h, now)
			if want := moment(test.at); !got.Equal(want) {
				t.Errorf("due at %v (%s), want %v", got, reason, want)
			}
			if reason == "" {
				t.Error("no reason")
			}
			if _, due := test.s.due(test.h, now); due != !got.After(now) {
				t.Errorf("due is %v", due)
			}
		})
	}
}

// Simulated for days across clock changes, with a process that is down, is
// restarted and fails at random: when it runs and nothing fails, no scheduled
// moment passes without a point, no moment gets two, and after an outage there
// is exactly one run.
func TestDueOverTime(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for zone, start := range map[string]time.Time{
		"UTC": moment("2026-02-25 00:00:00"), "America/New_York": moment("2026-10-29 00:00:00"), "Australia/Lord_Howe": moment("2026-10-01 00:00:00"),
	} {
		for _, s := range []schedule{
			{cron: mustCron(t, "30 1,2 * * *", zone)},
			{cron: mustCron(t, "*/30 * * * *", zone), jitter: 3 * time.Minute},
			{every: 20 * time.Minute},
		} {
			now := start
			end := now.Add(8 * Day)
			var h history
			var down time.Time // until
			for now.Before(end) {
				if now.Before(down) {
					now = down
					h.attempt, h.failures = time.Time{}, 0 // a restart forgets attempts
				}
				before := h.success
				if _, due := s.due(h, now); due {
					h.attempt = now
					if r.IntN(4) == 0 {
						h.failures++
					} else {
						h.success, h.failures = now, 0
						if s.every == 0 && !before.IsZero() {
							missed := ticks(t, s.cron, before.Add(-s.jitter).Add(1), now.Add(-s.jitter).Add(1))
							if len(missed) == 0 {
								t.Fatalf("%s: run at %v although no tick came since %v", zone, now, before)
							}
						}
					}
				} else if h.failures == 0 && s.every == 0 {
					if missed := ticks(t, s.cron, h.success.Add(-s.jitter).Add(1), now.Add(-s.jitter).Add(1)); len(missed) > 0 {
						t.Fatalf("%s: at %v no run is due although %v passed since %v", zone, now, missed, h.success)
					}
				} else if s.every > 0 && h.failures == 0 && now.Sub(h.success) >= s.every {
					t.Fatalf("at %v no run is due, last success %v", now, h.success)
				}
				if r.IntN(500) == 0 {
					down = now.Add(time.Duration(r.Int64N(int64(Day))))
				}
				now = now.Add(time.Duration(1+r.Int64N(int64(10*60))) * time.Second)
			}
		}
	}
}

// Two processes agree on the jitter, and names spread over the window.
func TestJitter(t *testing.T) {
	a := Workload{Name: "orders", Frequency: Daily}
	s, err := a.schedule()
	if err != nil {
		t.Fatal(err)
	}
	again, _ := a.schedule()
	if s.jitter != again.jitter {
		t.Error("jitter is not deterministic")
	}
	seen := map[time.Duration]bool{}
	for _, name := range []string{"a", "b", "c", "d", "e", "f", "g", "h"} {
		j := jitterFor(name, Day)
		if j < 0 || j >= 10*time.Minute {
			t.Errorf("jitter of %s is %v", name, j)
		}
		seen[j] = true
	}
	if len(seen) < 4 {
		t.Errorf("eight names share %d moments", len(seen))
	}
	exact, _ := Workload{Name: "orders", Schedule: "30 1 * * *"}.schedule()
	if exact.jitter != 0 {
		t.Errorf("a time that was written down is moved by %v", exact.jitter)
	}
}
