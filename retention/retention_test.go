package retention_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/holdfast-go/holdfast/retention"
)

var now = time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC)

func self(p retention.Point) retention.Point { return p }

func apply(t testing.TB, points []retention.Point, p retention.Policy) []retention.Decision[retention.Point] {
	t.Helper()
	d, err := retention.Apply(points, self, p, now)
	if err != nil {
		t.Fatalf("%v: %v", p, err)
	}
	return d
}

// at makes an honest point of the moment before now.
func at(ago time.Duration) retention.Point {
	moment := now.Add(-ago)
	return retention.Point{ID: moment.Format("2006-01-02T15:04:05"), Time: moment, Stored: moment.Add(time.Minute)}
}

func verdicts(ds []retention.Decision[retention.Point]) map[string]retention.Verdict {
	m := map[string]retention.Verdict{}
	for _, d := range ds {
		m[d.Point.ID] = d.Verdict
	}
	return m
}

const day = 24 * time.Hour

func TestReasons(t *testing.T) {
	point := func(id, moment string, edit ...func(*retention.Point)) retention.Point {
		m, err := time.Parse(time.RFC3339, moment)
		if err != nil {
			t.Fatal(err)
		}
		p := retention.Point{ID: id, Time: m, Stored: m}
		for _, e := range edit {
			e(&p)
		}
		return p
	}
	proven := func(p *retention.Point) { p.Proven = true }
	points := []retention.Point{
		point("today-late", "2026-11-23T08:00:00Z"),
		point("today-early", "2026-11-23T02:00:00Z"),
		point("zone", "2026-11-23T01:30:00+02:00"), // the 22nd, a Sunday, in UTC
		point("newer-proof", "2026-11-10T02:00:00Z", proven),
		point("older-proof", "2026-11-09T02:00:00Z", proven),
		point("pinned", "2020-01-01T00:00:00Z", func(p *retention.Point) { p.Pinned = true }),
		point("tagged", "2026-06-01T00:00:00Z", func(p *retention.Point) { p.Tags = []string{"x", "release"} }),
		point("mad", "2100-11-23T08:00:00Z", func(p *retention.Point) { p.Stored = now }),
		point("oldest", "2019-12-31T00:00:00Z"), // ISO week 1 of 2020
	}
	got := map[string]string{}
	for _, d := range apply(t, points, retention.Policy{
		KeepLast: 1, Daily: 2, Weekly: 5, Yearly: retention.Unlimited,
		KeepWithin: retention.Day, KeepTags: []string{"release"}, MinAge: retention.Days7,
	}) {
		got[d.Point.ID] = string(d.Verdict) + ": " + strings.Join(d.Reasons, ", ")
	}
	want := map[string]string{
		"today-late":  "keep: younger than 7d, last 1 of 1, within 1d of 2026-11-23T08:00:00Z, daily 2026-11-23, weekly 2026-W48, yearly 2026",
		"today-early": "keep: younger than 7d, within 1d of 2026-11-23T08:00:00Z",
		"zone":        "keep: younger than 7d, within 1d of 2026-11-23T08:00:00Z, daily 2026-11-22, weekly 2026-W47",
		"newer-proof": "keep: last proven, weekly 2026-W46",
		"older-proof": "forget: no rule keeps it",
		"pinned":      "keep: pinned, weekly 2020-W01, yearly 2020",
		"tagged":      "keep: tag release, weekly 2026-W23",
		"mad":         "quarantine: dated 74 years after it was stored",
		"oldest":      "keep: yearly 2019",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestCountingRules(t *testing.T) {
	every := func(step time.Duration, n int) []retention.Point {
		var ps []retention.Point
		for i := range n {
			ps = append(ps, at(time.Duration(i)*step))
		}
		return ps
	}
	for _, tc := range []struct {
		name   string
		points []retention.Point
		policy retention.Policy
		keeps  int
	}{
		{"last", every(time.Hour, 100), retention.Policy{KeepLast: 7}, 7},
		{"all", every(time.Hour, 100), retention.Policy{KeepLast: retention.Unlimited}, 100},
		{"hourly", every(10*time.Minute, 600), retention.Policy{Hourly: 24}, 24},
		{"daily", every(time.Hour, 1000), retention.Policy{Daily: 7}, 7},
		{"weekly", every(day, 100), retention.Policy{Weekly: 4}, 4},
		{"monthly", every(day, 800), retention.Policy{Monthly: 12}, 12},
		{"yearly", every(30*day, 100), retention.Policy{Yearly: 3}, 3},
		{"empty days do not count", every(10*day, 30), retention.Policy{Daily: 7}, 7},
		{"a list that is not full keeps the oldest too", every(time.Hour, 5), retention.Policy{Daily: 7}, 2},
		{"and not twice", every(day, 5), retention.Policy{Daily: 7}, 5},
		{"all rules together", every(day, 800), retention.Policy{Daily: 7, Weekly: 5, Monthly: 12}, 7 + 3 + 11}, // weeks: the 15th, 8th and 1st; months: October to December
		{"within counts from the newest point", append(every(day, 10), at(1000*day)), retention.Policy{KeepWithin: 3 * retention.Day}, 4},
		{"minimum age alone", every(day, 100), retention.Policy{MinAge: retention.Days30}, 31},
		{"365 days", every(day, 1000), retention.Policy{MinAge: retention.Days365}, 366},
		{"maximum age over rules", every(day, 100), retention.Policy{KeepLast: 80, MaxAge: retention.Days7}, 8},
	} {
		keeps := 0
		for _, d := range apply(t, tc.points, tc.policy) {
			if d.Verdict == retention.Keep {
				keeps++
			}
		}
		if keeps != tc.keeps {
			t.Errorf("%s: keeps %d, want %d", tc.name, keeps, tc.keeps)
		}
	}
}

// The week that holds the first of January is one week, named by ISO 8601.
func TestWeekOverNewYear(t *testing.T) {
	var points []retention.Point
	for i, d := range []int{29, 30, 32, 35, 36} { // of December 2025: Monday the 29th is in 2026-W01, the 36th is Monday
		m := time.Date(2025, 12, d, 12, 0, 0, 0, time.UTC)
		points = append(points, retention.Point{ID: fmt.Sprint(i), Time: m, Stored: m})
	}
	points = append(points, retention.Point{ID: "sunday", Time: time.Date(2025, 12, 28, 12, 0, 0, 0, time.UTC)})
	got := map[string]string{}
	for _, d := range apply(t, points, retention.Policy{Weekly: 3}) {
		got[d.Point.ID] = d.Reasons[0]
	}
	want := map[string]string{
		"4": "weekly 2026-W02", "3": "weekly 2026-W01", "2": "no rule keeps it", "1": "no rule keeps it", "0": "no rule keeps it", "sunday": "weekly 2025-W52",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestMaxAge(t *testing.T) {
	p := retention.Policy{KeepLast: 100, Yearly: 10, KeepTags: []string{"t"}, MaxAge: retention.Days90}
	tagged, pinned, proven, provenEarlier, lateArrival := at(100*day), at(200*day), at(300*day), at(400*day), at(500*day)
	tagged.Tags = []string{"t"}
	pinned.Pinned = true
	proven.Proven, provenEarlier.Proven = true, true
	lateArrival.Stored = now
	withMin := p
	withMin.MinAge = retention.Days7
	points := []retention.Point{at(day), tagged, pinned, proven, provenEarlier, lateArrival}
	got := verdicts(apply(t, points, withMin))
	want := map[string]retention.Verdict{
		points[0].ID: retention.Keep, tagged.ID: retention.Forget, pinned.ID: retention.Keep,
		proven.ID: retention.Keep, provenEarlier.ID: retention.Forget, lateArrival.ID: retention.Keep,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	for _, d := range apply(t, points, p) {
		if d.Point.ID == lateArrival.ID && !slices.Equal(d.Reasons, []string{"older than 90d"}) {
			t.Errorf("%v", d.Reasons)
		}
	}
}

// Whoever can write points cannot make good ones go.
func TestFloods(t *testing.T) {
	var good []retention.Point
	for i := range 60 {
		good = append(good, at(time.Duration(i)*day+time.Hour))
	}
	good[20].Proven = true
	attack := func(each func(i int, p *retention.Point)) []retention.Point {
		var ps []retention.Point
		for i := range 10_000 {
			p := retention.Point{ID: fmt.Sprintf("evil-%05d", i), Stored: now.Add(-time.Minute)}
			each(i, &p)
			ps = append(ps, p)
		}
		return ps
	}
	year2100 := time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC)
	for name, evil := range map[string][]retention.Point{
		"of the year 2100": attack(func(i int, p *retention.Point) { p.Time = year2100.Add(time.Duration(i) * time.Hour) }),
		"of the year 2100, store-side time unknown": attack(func(i int, p *retention.Point) {
			p.Time, p.Stored = year2100.Add(time.Duration(i)*time.Minute), time.Time{}
		}),
		"two hours ahead":    attack(func(i int, p *retention.Point) { p.Time = p.Stored.Add(2*time.Hour + time.Duration(i)) }),
		"of the year 9999":   attack(func(i int, p *retention.Point) { p.Time = time.Date(9999, 1, 1, 0, 0, i, 0, time.UTC) }),
		"backdated by hours": attack(func(i int, p *retention.Point) { p.Time = p.Stored.Add(-25*time.Hour - time.Duration(i)*time.Minute) }),
		"the last second of every day": attack(func(i int, p *retention.Point) {
			p.Time = now.Truncate(day).AddDate(0, 0, -1-i%90).Add(-time.Duration(i/90+1) * time.Second)
		}),
		"of the year 1": attack(func(i int, p *retention.Point) { p.Time = time.Date(1, 1, 1, 0, 0, i+1, 0, time.UTC) }),
	} {
		for _, policy := range []retention.Policy{
			{KeepLast: 7},
			{Hourly: 24, Daily: 7, Weekly: 4, Monthly: 12},
			{Daily: 7, Weekly: 4, MaxAge: retention.Days90},
			{KeepWithin: retention.Days30},
			{MinAge: retention.Days30},
			{KeepLast: 1, Yearly: retention.Unlimited},
		} {
			before := verdicts(apply(t, good, policy))
			after := verdicts(apply(t, append(slices.Clone(evil), good...), policy))
			for id, v := range before {
				if v == retention.Keep && after[id] != retention.Keep {
					t.Errorf("%s, %v: %s was kept and is now to %s", name, policy, id, after[id])
				}
			}
			if strings.Contains(name, "2100") {
				for _, p := range evil {
					if after[p.ID] != retention.Quarantine {
						t.Fatalf("%s: %s", p.ID, after[p.ID])
					}
				}
			}
		}
	}
}

// Honest dates use up a count; the last proven point stays even so.
func TestHonestFloodLeavesTheLastProven(t *testing.T) {
	good := []retention.Point{at(day), at(2 * day), at(3 * day)}
	good[1].Proven = true
	points := slices.Clone(good)
	for i := range 100 {
		points = append(points, at(time.Duration(i)*time.Second))
	}
	got := verdicts(apply(t, points, retention.Policy{KeepLast: 3}))
	if got[good[1].ID] != retention.Keep || got[good[0].ID] != retention.Forget {
		t.Errorf("proven: %s, newer and not proven: %s", got[good[1].ID], got[good[0].ID])
	}
}

func TestQuarantineTolerance(t *testing.T) {
	for _, tc := range []struct {
		ahead time.Duration
		skew  retention.Span
		want  retention.Verdict
	}{
		{time.Hour, 0, retention.Keep},
		{time.Hour + 1, 0, retention.Quarantine},
		{time.Hour + 1, retention.Span(2 * time.Hour), retention.Keep},
		{time.Minute + 1, retention.Span(time.Minute), retention.Quarantine},
	} {
		p := at(day)
		p.Stored = p.Time.Add(-tc.ahead)
		got := apply(t, []retention.Point{p, at(0)}, retention.Policy{KeepLast: 5, MaxSkew: tc.skew})
		if got[0].Verdict != tc.want {
			t.Errorf("%v ahead, tolerance %v: %s", tc.ahead, tc.skew, got[0].Verdict)
		}
	}
}

func TestGroupsAreApart(t *testing.T) {
	var points []retention.Point
	for i := range 20 {
		p := at(time.Duration(i) * time.Hour)
		p.Group = []string{"busy", "busy", "busy", "quiet"}[i%4]
		points = append(points, p)
	}
	kept := map[string]int{}
	for _, d := range apply(t, points, retention.Policy{KeepLast: 2}) {
		if d.Verdict == retention.Keep {
			kept[d.Point.Group]++
		}
	}
	if kept["busy"] != 2 || kept["quiet"] != 2 {
		t.Error(kept)
	}
}

func TestRefusals(t *testing.T) {
	old := []retention.Point{at(100 * day), at(101 * day)}
	d, err := retention.Apply(old, self, retention.Policy{MinAge: retention.Days30}, now)
	if !errors.Is(err, retention.ErrForgetsAll) || d != nil {
		t.Errorf("forgets all: %v, %v", d, err)
	}
	other := at(day)
	other.Group = "other"
	_, err = retention.Apply(append(old, other), self, retention.Policy{MinAge: retention.Days30}, now)
	if !errors.Is(err, retention.ErrForgetsAll) || !strings.Contains(err.Error(), `""`) || strings.Contains(err.Error(), "other") {
		t.Errorf("forgets all of one group: %v", err)
	}
	if d, err := retention.Apply(nil, self, retention.Policy{KeepLast: 1}, now); err != nil || len(d) != 0 {
		t.Errorf("no points: %v, %v", d, err)
	}
	for want, points := range map[string][]retention.Point{
		"point 1: no ID":     {at(0), {Time: now}},
		"given twice":        {at(0), at(0)},
		`point "a": no Time`: {{ID: "a"}},
	} {
		if _, err := retention.Apply(points, self, retention.Policy{KeepLast: 1}, now); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

// The answer must not depend on how a caller's own type is laid out.
func TestGeneric(t *testing.T) {
	type row struct{ n int }
	rows := []row{{3}, {1}, {2}}
	ds, err := retention.Apply(rows, func(r row) retention.Point {
		p := at(time.Duration(r.n) * day)
		return p
	}, retention.Policy{KeepLast: 1}, now)
	if err != nil {
		t.Fatal(err)
	}
	for i, d := range ds {
		if d.Point != rows[i] || (d.Verdict == retention.Keep) != (d.Point.n == 1) {
			t.Errorf("%+v", d)
		}
	}
}

// randomWorld makes points of all kinds and a policy that is valid.
func randomWorld(rnd *rand.Rand) ([]retention.Point, retention.Policy) {
	var points []retention.Point
	scale := []time.Duration{time.Hour, 10 * time.Hour, 40 * day, 800 * day}[rnd.IntN(4)]
	for i := range 1 + rnd.IntN(40) {
		moment := now.Add(-time.Duration(rnd.Int64N(int64(scale)))).Truncate(time.Duration(1+rnd.IntN(3)) * 20 * time.Minute)
		p := retention.Point{ID: fmt.Sprintf("%03d", i), Group: []string{"a", "b"}[rnd.IntN(2)], Time: moment, Stored: moment.Add(time.Minute)}
		switch rnd.IntN(12) {
		case 0:
			p.Time = p.Time.Add(scale)
		case 1:
			p.Stored = p.Stored.Add(scale / 2)
		case 2:
			p.Stored = time.Time{}
		case 3:
			p.Pinned = true
		case 4:
			p.Proven = true
		case 5:
			p.Tags = []string{"t"}
		}
		points = append(points, p)
	}
	count := func() int {
		if rnd.IntN(2) == 0 {
			return 0
		}
		return []int{1, 2, 3, 7, 30, retention.Unlimited}[rnd.IntN(6)]
	}
	span := func() retention.Span {
		if rnd.IntN(3) > 0 {
			return 0
		}
		return retention.Span(rnd.Int64N(int64(scale)) + 1)
	}
	p := retention.Policy{
		KeepLast: count(), Hourly: count(), Daily: count(), Weekly: count(), Monthly: count(), Yearly: count(),
		KeepWithin: span(), MinAge: span(), MaxAge: span(), MaxDelay: span(), MaxSkew: span(),
	}
	if rnd.IntN(3) == 0 {
		p.KeepTags = []string{"t"}
	}
	return points, p
}

func TestProperties(t *testing.T) {
	rnd := rand.New(rand.NewPCG(7, 7))
	rounds := 3000
	if os.Getenv("HOLDFAST_LONG") != "" {
		rounds = 50_000
	}
	decided, refused := 0, 0
	for range rounds {
		points, p := randomWorld(rnd)
		if p.Validate() != nil {
			continue
		}
		ds, err := retention.Apply(points, self, p, now)
		want, wantErr := oracle(points, p)
		if (err != nil) != wantErr {
			t.Fatalf("%v: error %v, the oracle says %v", p, err, wantErr)
		}
		if err != nil {
			refused++
			continue
		}
		decided++
		got := verdicts(ds)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("%v\n%+v\n(-oracle +got)\n%s", p, points, diff)
		}

		shuffled := slices.Clone(points)
		rnd.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
		if diff := cmp.Diff(got, verdicts(apply(t, shuffled, p))); diff != "" {
			t.Fatalf("%v: order matters\n%s", p, diff)
		}

		var survivors []retention.Point
		for _, d := range ds {
			if len(d.Reasons) == 0 {
				t.Fatalf("%s %s without a reason", d.Verdict, d.Point.ID)
			}
			if d.Verdict != retention.Forget {
				survivors = append(survivors, d.Point)
			}
		}
		for _, d := range apply(t, survivors, p) {
			if d.Verdict == retention.Forget {
				t.Fatalf("%v\n%+v\nforgets %s when applied to what it kept", p, points, d.Point.ID)
			}
		}

		for id, v := range verdicts(apply(t, points, more(rnd, p))) {
			if v == retention.Forget && got[id] == retention.Keep {
				t.Fatalf("%v: a rule was added, and %s is forgotten", p, id)
			}
		}
	}
	if decided < rounds/4 || refused < rounds/1000 {
		t.Errorf("%d decisions and %d refusals are too few to mean anything", decided, refused)
	}
}

// more returns p with one rule added or raised.
func more(rnd *rand.Rand, p retention.Policy) retention.Policy {
	counts := []*int{&p.KeepLast, &p.Hourly, &p.Daily, &p.Weekly, &p.Monthly, &p.Yearly}
	switch i := rnd.IntN(len(counts) + 3); {
	case i < len(counts):
		if n := counts[i]; *n != retention.Unlimited {
			*n += 1 + rnd.IntN(5)
		}
	case i == len(counts):
		p.KeepTags = append(p.KeepTags, "t")
	case p.MaxAge > 0:
	case i == len(counts)+1:
		p.MinAge += retention.Day
	default:
		p.KeepWithin += retention.Day
	}
	return p
}
