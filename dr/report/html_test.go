package report

import (
	"fmt"
	"html"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode"
)

func TestPageNeedsNothingElse(t *testing.T) {
	for name, r := range map[string]*Report{"sample": sample(), "hostile": hostile(), "bare": bare()} {
		page := string(mustPage(t, r))
		for _, bad := range []string{"<script", "<img", "<link", "<iframe", "<object", "@import", "url(", " src=", "<svg/onload", " style="} {
			// What was put in as text is escaped: "&lt;script".
			for _, at := range allIndexes(page, bad) {
				if bad == " src=" && strings.HasSuffix(page[:at], "&lt;img") {
					continue
				}
				t.Errorf("%s has %q: ...%s...", name, bad, page[max(0, at-40):at+40])
			}
		}
		if n := strings.Count(page, "</style>"); n != 1 {
			t.Errorf("%s ends its style %d times", name, n)
		}
		for _, href := range regexp.MustCompile(`href="([^"]*)"`).FindAllStringSubmatch(page, -1) {
			if !strings.HasPrefix(href[1], "#") {
				t.Errorf("%s links to %s", name, href[1])
			} else if !strings.Contains(page, ` id="`+href[1][1:]+`"`) {
				t.Errorf("%s links to %s, which it does not have", name, href[1])
			}
		}
	}
}

func TestPageShowsEveryCharacter(t *testing.T) {
	page := html.UnescapeString(string(mustPage(t, hostile())))
	for i, r := range page {
		if r != '\n' && r != '\t' && unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp) {
			t.Fatalf("%U at byte %d: %q", r, i, page[max(0, i-30):i+30])
		}
	}
	for _, want := range []string{"‹U+202E›txt.exe", "‹U+0007›", "‹U+001B›[31mred", "שלום עולם مرحبا"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page does not show %q", want)
		}
	}
}

func allIndexes(s, sub string) []int {
	var at []int
	for i := 0; ; {
		j := strings.Index(s[i:], sub)
		if j < 0 {
			return at
		}
		at = append(at, i+j)
		i += j + len(sub)
	}
}

func TestBarePageSaysWhatIsMissing(t *testing.T) {
	page := string(mustPage(t, bare()))
	for _, want := range []string{
		"Result: incomplete", "No objective has both a target and a measurement", "not checked", "not recorded",
		"No timeline was recorded", "No steps were recorded", "No recovery points were listed", "No retention decisions",
		"No replication was recorded", "No integrity check was made", "was not asked for its data", "No deviation from the plan",
		"No notification was sent", "No clean-up was recorded", "no approval recorded", "not stated", "nothing in this report",
		"the list is empty",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("the page does not say %q", want)
		}
	}
	if strings.Contains(page, `href="#i-ok"`) {
		t.Error("something is ticked on a page without evidence")
	}
}

// TestNotMeasuredIsNeverTicked looks at the cells of the table, not at the
// data they were made of.
func TestNotMeasuredIsNeverTicked(t *testing.T) {
	rows := regexp.MustCompile(`<tr><td data-head="Workload">.*?</tr>`).FindAllString(string(mustPage(t, sample())), -1)
	seen := map[string]int{}
	for _, row := range rows {
		m := regexp.MustCompile(`data-head="Outcome".*?#i-(\w+)"/></svg><span>([a-z ]+)</span>`).FindStringSubmatch(row)
		if m == nil {
			continue
		}
		seen[m[2]+"="+m[1]]++
	}
	want := map[string]int{"met=ok": 5, "missed=bad": 1, "not measured=open": 5, "no target=past": 1}
	if fmt.Sprint(seen) != fmt.Sprint(want) {
		t.Errorf("outcomes and their shapes: %v, want %v", seen, want)
	}
}

func TestNothingLookedAtIsNotNoMismatch(t *testing.T) {
	for _, c := range []struct {
		bad, looked int64
		mark        mark
		text        string
	}{{0, 0, openMark, "not checked"}, {0, 5, okMark, "none"}, {2, 5, badMark, "2"}} {
		if got := mismatches(c.bad, c.looked); got.Mark != c.mark || got.Text != c.text {
			t.Errorf("%d of %d: %q %q, want %q %q", c.bad, c.looked, got.Mark, got.Text, c.mark, c.text)
		}
	}
}

func TestComplianceFollowsTheEvidence(t *testing.T) {
	support := func(r *Report) map[string]string {
		m := map[string]string{}
		for _, s := range sections(r, r.Judge(), "") {
			if s.ID != "compliance" {
				continue
			}
			for _, row := range s.Tables[0].Rows {
				for _, l := range row.Cells[2].Links {
					m[row.Cells[0].Text] += l.ID + " "
				}
			}
		}
		return m
	}
	full, none := support(sample()), support(bare())
	for _, c := range clauses {
		if got, want := full[c.norm], strings.Join(c.evidence, " ")+" "; got != want {
			t.Errorf("%s of a full report is supported by %q, want %q", c.norm, got, want)
		}
	}
	if none["SOC 2 A1.3"] != "not-tested " || none["GDPR 32(1)(c)"] != "" || none["HIPAA 164.308(a)(7)(ii)(E)"] != "" {
		t.Errorf("a bare report supports %v", none)
	}
	for _, norm := range []string{"SOC 2 A1.2", "SOC 2 A1.3", "SOC 2 CC7.5", "GDPR 32(1)(b)", "GDPR 32(1)(c)", "GDPR 32(1)(d)", "DORA Art. 11", "DORA Art. 12"} {
		if full[norm] == "" {
			t.Errorf("%s is missing", norm)
		}
	}
	for part := 'A'; part <= 'E'; part++ {
		if norm := fmt.Sprintf("HIPAA 164.308(a)(7)(ii)(%c)", part); full[norm] == "" {
			t.Errorf("%s is missing", norm)
		}
	}
	without := sample()
	without.Integrity = nil
	if got := support(without)["SOC 2 A1.3"]; strings.Contains(got, "integrity") {
		t.Errorf("without an integrity check SOC 2 A1.3 is supported by %q", got)
	}
}

func number(t *testing.T, percent string) float64 {
	t.Helper()
	f, err := strconv.ParseFloat(strings.TrimSuffix(percent, "%"), 64)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestGanttIsToScale(t *testing.T) {
	r := sample()
	g := newGantt(&r.Timeline)
	total := float64(281250 * time.Millisecond)
	phases := slices.DeleteFunc(slices.Clone(g.Rows), func(b bar) bool { return b.Moment })
	if len(phases) != len(r.Timeline.Phases) {
		t.Fatalf("%d bars for %d phases", len(phases), len(r.Timeline.Phases))
	}
	for i, p := range r.Timeline.Phases {
		x, w := 100*float64(p.Started.Sub(t0))/total, 100*float64(p.Ended.Sub(p.Started))/total
		if gotX, gotW := number(t, phases[i].X), number(t, phases[i].Width); abs(gotX-x) > .001 || abs(gotW-w) > .001 {
			t.Errorf("phase %d is at %v, %v wide; want %.3f, %.3f", i, gotX, gotW, x, w)
		}
	}
	if at := slices.IndexFunc(g.Rows, func(b bar) bool { return b.Moment }); at != 8 || abs(number(t, g.Pivot)-100*188.4/281.25) > .001 {
		t.Errorf("the pivot is row %d at %s", at, g.Pivot)
	}
	if !phases[8].AfterPvt || phases[6].AfterPvt {
		t.Error("bars after the pivot are not those after the pivot")
	}
}

func abs(f float64) float64 { return max(f, -f) }

func TestTicks(t *testing.T) {
	for span := time.Duration(1); span > 0 && span < longest; span = span*13/8 + 1 {
		ts := newScale(t0, t0.Add(span)).ticks()
		if len(ts) < 1 || len(ts) > 8 {
			t.Errorf("%s has %d ticks", span, len(ts))
		}
		for i, tk := range ts {
			if x := number(t, tk.X); x < 0 || x > 100 || i > 0 && x <= number(t, ts[i-1].X) {
				t.Errorf("%s: tick %d at %s", span, i, tk.X)
			}
		}
		if n := len(newScale(t0, t0.Add(span)).dates()); n > 8 {
			t.Errorf("%s has %d dates", span, n)
		}
	}
}

func TestChartStaysInItsFrame(t *testing.T) {
	for _, sizes := range [][]int64{{0}, {1}, {0, 1}, {1023, 1024, 1025}, {1 << 30, 1 << 40}, {1<<63 - 1}, {1, 1<<63 - 1}, {1<<60 + 1}} {
		lo, hi := powers(sizes)
		if lo < 0 || lo >= hi || hi > 6 {
			t.Errorf("powers(%d) = %d, %d", sizes, lo, hi)
		}
		for _, n := range sizes {
			y := logHeight(n, lo, hi)
			if y < plotTop || y > plotBottom || (n == 0) != (y == plotBottom) || n > 0 && y > plotLowest {
				t.Errorf("logHeight(%d) of %d = %d", n, sizes, y)
			}
		}
	}
	if a, b := logHeight(1<<30, 2, 4), logHeight(1<<35, 2, 4); a != plotLowest-35 || b >= a || b <= plotTop {
		t.Errorf("1 GiB at %d and 32 GiB at %d between 1 MiB at %d and 1 TiB at %d", a, b, plotLowest, plotTop)
	}
}

func TestManyPoints(t *testing.T) {
	r := sample()
	r.Points = nil
	for i := range 20_000 {
		r.Points = append(r.Points, Point{ID: fmt.Sprint(i), Workload: "orders-db", Mode: fmt.Sprintf("mode %d", i%20),
			At: t0.Add(-time.Duration(i) * time.Minute), Stage: Committed, BytesRead: int64(i), BytesNew: int64(i / 2)})
	}
	page := string(mustPage(t, r))
	if len(page) > 1<<20 {
		t.Errorf("the page has %d bytes", len(page))
	}
	for _, want := range []string{"and 19,975 more, which are in the JSON twin", "the first 12 of 20 combinations", "1,000 points, the newest 150 shown"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page does not say %q", want)
		}
	}
	c := pointCharts(r)
	if first, last := c.Panels[0].Dots[0], c.Panels[0].Dots[149]; number(t, first.X) >= number(t, last.X) || number(t, last.X) > 99 {
		t.Errorf("the newest points are at %s to %s", first.X, last.X)
	}
}

// The moments that can be restored are shown by site, with how far each is
// behind; without any, page and twin are those of before they were known.
func TestWindows(t *testing.T) {
	r := sample()
	for _, points := range [][]Point{r.Points, nil} {
		r.Points, r.Selection = points, ""
		page := string(mustPage(t, r))
		i := strings.Index(page, "Moments that could be restored, by site")
		if i < 0 {
			t.Fatal("there is no such table")
		}
		if !strings.Contains(page, "ges are as of 2026-11-21") {
			t.Error("as of when the points and windows were listed is not said")
		}
		page = page[i:]
		page = page[:strings.Index(page, "</table>")]
		for _, want := range []string{"frankfurt", "timeline 2", "nothing changed since", Duration(15*time.Minute + 12*time.Second).String()} {
			if !strings.Contains(page, want) {
				t.Errorf("the table does not say %q:\n%s", want, page)
			}
		}
		if a, b := strings.Index(page, "timeline 2"), strings.LastIndex(page, "timeline 3"); a > b {
			t.Error("the later window of a site stands before the earlier")
		}
	}
	r.Windows = nil
	if page := string(mustPage(t, r)); strings.Contains(page, "Moments") {
		t.Error("a table of nothing")
	}
	if b, err := r.twin(); err != nil || strings.Contains(string(b), "windows") {
		t.Errorf("the twin names windows: %v", err)
	}
}
