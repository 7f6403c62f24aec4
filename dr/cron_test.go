package dr

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"testing"
	"time"
	_ "time/tzdata" // the test must know the same zones everywhere

	"github.com/adhocore/gronx"
)

func mustCron(t testing.TB, expr, zone string) cron {
	t.Helper()
	loc, err := time.LoadLocation(zone)
	if err != nil {
		t.Fatal(err)
	}
	c, err := parseCron(expr, loc)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func ticks(t testing.TB, c cron, from, to time.Time) []time.Time {
	t.Helper()
	var all []time.Time
	for at := from.Add(-1); ; {
		next, err := c.next(at)
		if err != nil || !next.Before(to) {
			return all
		}
		if !next.After(at) {
			t.Fatalf("next(%v) = %v, not after it", at, next)
		}
		all = append(all, next)
		at = next
	}
}

// The two clock changes of New York in 2026: 8 March, 02:00 becomes 03:00;
// 1 November, 02:00 becomes 01:00.
func TestCronAtClockChanges(t *testing.T) {
	tests := []struct {
		name, expr, zone string
		from, to         string
		want             []string // local, with offset
	}{
		{"spring, skipped time runs at the first valid instant", "30 2 * * *", "America/New_York", "2026-03-07T12:00:00Z", "2026-03-10T00:00:00Z",
			[]string{"2026-03-08T03:00:00-04:00", "2026-03-09T02:30:00-04:00"}},
		{"spring, two skipped times run once", "10,50 2 * * *", "America/New_York", "2026-03-08T00:00:00Z", "2026-03-09T00:00:00Z",
			[]string{"2026-03-08T03:00:00-04:00"}},
		{"spring, a time after the gap is not doubled", "30 2,3 * * *", "America/New_York", "2026-03-08T00:00:00Z", "2026-03-09T00:00:00Z",
			[]string{"2026-03-08T03:00:00-04:00", "2026-03-08T03:30:00-04:00"}},
		{"spring, the hour that never was owes nothing", "*/30 * * * *", "America/New_York", "2026-03-08T06:00:00Z", "2026-03-08T08:00:00Z",
			[]string{"2026-03-08T01:00:00-05:00", "2026-03-08T01:30:00-05:00", "2026-03-08T03:00:00-04:00", "2026-03-08T03:30:00-04:00"}},
		{"autumn, a repeated time runs the first time only", "30 1 * * *", "America/New_York", "2026-11-01T00:00:00Z", "2026-11-02T12:00:00Z",
			[]string{"2026-11-01T01:30:00-04:00", "2026-11-02T01:30:00-05:00"}},
		{"autumn, the hour after the repeated one runs", "0 2 * * *", "America/New_York", "2026-11-01T00:00:00Z", "2026-11-02T00:00:00Z",
			[]string{"2026-11-01T02:00:00-05:00"}},
		{"autumn, every hour runs in both", "0 * * * *", "America/New_York", "2026-11-01T05:00:00Z", "2026-11-01T08:00:00Z",
			[]string{"2026-11-01T01:00:00-04:00", "2026-11-01T01:00:00-05:00", "2026-11-01T02:00:00-05:00"}},
		{"a jump at midnight", "0 0 * * *", "America/Asuncion", "2024-10-05T12:00:00Z", "2024-10-07T12:00:00Z",
			[]string{"2024-10-06T01:00:00-03:00", "2024-10-07T00:00:00-03:00"}},
		{"half an hour", "15 2 * * *", "Australia/Lord_Howe", "2026-10-03T00:00:00Z", "2026-10-04T12:00:00Z",
			[]string{"2026-10-04T02:30:00+11:00"}},
		{"a day that never was", "0 12 * * *", "Pacific/Apia", "2011-12-29T12:00:00Z", "2011-12-31T12:00:00Z",
			[]string{"2011-12-29T12:00:00-10:00", "2011-12-31T00:00:00+14:00", "2011-12-31T12:00:00+14:00"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			c := mustCron(t, test.expr, test.zone)
			from, _ := time.Parse(time.RFC3339, test.from)
			to, _ := time.Parse(time.RFC3339, test.to)
			var got []string
			for _, tick := range ticks(t, c, from, to) {
				got = append(got, tick.In(c.loc).Format(time.RFC3339))
			}
			if !slices.Equal(got, test.want) {
				t.Errorf("ticks %v, want %v", got, test.want)
			}
		})
	}
}

// reference finds ticks the slow way: it walks every minute of real time with
// the wall clock, and remembers which wall times it has seen.
func reference(c cron, from, to time.Time) []time.Time {
	var out []time.Time
	g := gronx.New()
	segments, _ := gronx.Segments(c.expr)
	matches := func(w time.Time) bool {
		g.C.SetRef(w)
		due, err := g.SegmentsDue(segments)
		return err == nil && due
	}
	asUTC := func(at time.Time) time.Time {
		l := at.In(c.loc)
		return time.Date(l.Year(), l.Month(), l.Day(), l.Hour(), l.Minute(), l.Second(), 0, time.UTC)
	}
	start := from.Add(-49 * time.Hour)
	highest := asUTC(start.Add(-time.Minute)) // latest wall time shown so far
	for at := start; at.Before(to); at = at.Add(time.Minute) {
		w, tick := asUTC(at), false
		switch {
		case c.everyHour:
			tick = matches(w)
		default:
			for missed := highest.Add(time.Minute); !missed.After(w); missed = missed.Add(time.Minute) {
				tick = tick || matches(missed)
			}
		}
		if w.After(highest) {
			highest = w
		}
		if tick && !at.Before(from) {
			out = append(out, at)
		}
	}
	return out
}

// In every zone and around every clock change, next and prev agree with the
// minute-by-minute walk.
func TestCronAgainstReference(t *testing.T) {
	zones := []string{
		"UTC", "Europe/Berlin", "America/New_York", "America/Sao_Paulo", "America/Asuncion", "Australia/Lord_Howe",
		"Asia/Tehran", "Africa/Casablanca", "Pacific/Apia", "Asia/Kathmandu", "America/St_Johns", "Antarctica/Troll",
	}
	exprs := []string{
		"30 2 * * *", "30 1 * * *", "0 0 * * *", "*/20 * * * *", "5 */3 * * *", "0 1,2,3 * * 0", "45 23 * * 6",
		"0 3 1 * *", "59 0-4 * * 0,1", "0 2 8 3 *", "30 0 1-7 * *", "7 * 1 * *",
	}
	r := rand.New(rand.NewPCG(1, 2))
	rounds := 1
	if os.Getenv("HOLDFAST_LONG") != "" {
		rounds = 20
	}
	for _, zone := range zones {
		for _, from := range windows(t, zone, r, rounds) {
			for _, expr := range exprs {
				c := mustCron(t, expr, zone)
				to := from.Add(50 * time.Hour)
				want := reference(c, from, to)
				if got := ticks(t, c, from, to); !slices.EqualFunc(got, want, time.Time.Equal) {
					t.Fatalf("%s %q from %v:\n got %v\nwant %v", zone, expr, from, got, want)
				}
				for range 4 {
					at := from.Add(time.Duration(r.Int64N(int64(50 * time.Hour))))
					i, _ := slices.BinarySearchFunc(want, at.Add(1), time.Time.Compare)
					if i == 0 {
						continue
					}
					if got, err := c.prev(at); err != nil || !got.Equal(want[i-1]) {
						t.Fatalf("%s %q: prev(%v) = %v, %v, want %v", zone, expr, at, got, err, want[i-1])
					}
				}
			}
		}
	}
}

// windows returns spans around clock changes of a zone, and random ones.
func windows(t *testing.T, zone string, r *rand.Rand, n int) []time.Time {
	loc, err := time.LoadLocation(zone)
	if err != nil {
		t.Fatal(err)
	}
	var changes []time.Time
	at := time.Date(2010, 1, 1, 0, 0, 0, 0, loc)
	for {
		_, end := at.ZoneBounds()
		if end.IsZero() || end.Year() > 2028 {
			break
		}
		changes = append(changes, end)
		at = end
	}
	var out []time.Time
	for range n {
		out = append(out, time.Date(2024, 1, 1+r.IntN(1000), r.IntN(24), 0, 0, 0, time.UTC))
		if len(changes) > 0 {
			c := changes[r.IntN(len(changes))].UTC().Truncate(time.Hour)
			out = append(out, c.Add(-25*time.Hour))
		}
	}
	return out
}

func TestParseCronRefuses(t *testing.T) {
	for _, expr := range []string{
		"", "hello", "* * * *", "* * * * * *", "0 0 30 2 *", "60 * * * *", "* 24 * * *", "0 0 0 * *", "0 0 * 13 *",
		"*/0 * * * *", "0 0 L * *", "0 0 * * 5#2", "1-70 * * * *", "a * * * *", "@often", "0 0 1 1 * 2030", "-1 * * * *", "5-1 * * * *",
	} {
		if c, err := parseCron(expr, time.UTC); err == nil {
			next, _ := c.next(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
			t.Errorf("parseCron(%q) took it; next is %v", expr, next)
		}
	}
	for _, expr := range []string{"0 0 29 2 *", "@daily", "0 0 * * MON", "*/15 9-17 * JAN-MAR 1-5", "0 0 31 * *"} {
		if _, err := parseCron(expr, time.UTC); err != nil {
			t.Errorf("parseCron(%q): %v", expr, err)
		}
	}
}

func TestLongestGap(t *testing.T) {
	for expr, want := range map[string]time.Duration{
		"@hourly":          time.Hour,
		"*/15 * * * *":     15 * time.Minute,
		"*/25 * * * *":     25 * time.Minute,
		"0 9-17 * * *":     16 * time.Hour,
		"0 9-17 * * 1-5":   64 * time.Hour,
		"@daily":           Day,
		"@weekly":          Week,
		"@monthly":         31 * Day,
		"0 0 29 2 *":       (366 + 3*365) * Day,
		"0,30 0 1 * *":     31*Day - 30*time.Minute,
		"*/5 * 1-28 * *":   3*Day + 5*time.Minute,
		"30 3 * * 0":       Week,
		"0 0 31 * *":       61 * Day,
		"@yearly":          366 * Day,
		"15,45 6,18 * * *": 11*time.Hour + 30*time.Minute,
	} {
		c := mustCron(t, expr, "UTC")
		if got, err := c.longestGap(); err != nil || got != want {
			t.Errorf("longest gap of %q is %v, %v, want %v", expr, got, err, want)
		}
	}
}

func FuzzParseCron(f *testing.F) {
	f.Add("*/5 2 * * 1-5")
	f.Add("@daily")
	f.Fuzz(func(t *testing.T, expr string) {
		c, err := parseCron(expr, time.UTC)
		if err != nil {
			return
		}
		at := time.Date(2026, 11, 23, 8, 47, 35, 0, time.UTC)
		next, err := c.next(at)
		if err != nil {
			t.Fatalf("next of %q: %v", expr, err)
		}
		if back, err := c.prev(next); err != nil || !back.Equal(next) {
			t.Fatalf("%q: prev(next) = %v, %v, want %v", expr, back, err, next)
		}
	})
}

func ExampleParseDuration() {
	for _, s := range []string{"15m", "24h", "7d", "1w2d", "1h30m", "90"} {
		d, err := ParseDuration(s)
		fmt.Println(d, err)
	}
	// Output:
	// 15m <nil>
	// 24h <nil>
	// 7d <nil>
	// 9d <nil>
	// 1h30m <nil>
	// 0s duration "90": want numbers with units, for example 15m, 24h or 7d
}
