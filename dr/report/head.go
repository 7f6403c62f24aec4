package report

import (
	"fmt"
	"math"
)

func headFacts(r *Report) []fact {
	took := txt(Duration(r.Ended.Sub(r.Started)).exact() + " by the wall clock")
	if r.Elapsed != nil {
		took = txt(r.Elapsed.exact() + " by the monotonic clock")
	}
	plan := txt(r.Plan.ID)
	if r.Plan.Revision != "" {
		plan.Text += ", revision " + clip(r.Plan.Revision, shortText)
	}
	facts := []fact{
		{"Started", when(&r.Started, ""), false},
		{"Ended", when(&r.Ended, ""), false},
		{"Kind of run", txt(string(r.Kind)), false},
		{"Duration", took, false},
		{"Operator", txt(r.Operator), false},
		{"Approved by", approvals(r.Approvals), false},
		{"Plan", plan, false},
		{"Tool", txt(r.Environment.ToolVersion + " on " + r.Environment.Host), false},
		{"Plan SHA-256", code(r.Plan.SHA256), true},
	}
	if r.Scenario != "" {
		facts = append(facts, fact{"Scenario", cell{Text: clip(r.Scenario, longText)}, true})
	}
	if len(r.Faults) > 0 {
		facts = append(facts, fact{"Faults injected", lines(r.Faults), true})
	}
	return facts
}

func approvals(as []Approval) cell {
	if len(as) == 0 {
		return cell{Text: "no approval recorded", Quiet: true}
	}
	if len(as) == 1 {
		c := txt(as[0].By)
		c.Lines = []string{instant(as[0].At)}
		if as[0].Note != "" {
			c.Lines = append(c.Lines, clip(as[0].Note, shortText))
		}
		return c
	}
	var list []string
	for _, a := range as {
		s := a.By + " – " + instant(a.At)
		if a.Note != "" {
			s += " – " + a.Note
		}
		list = append(list, s)
	}
	return lines(list)
}

// tiles are what a reader must not miss: the worst of each kind.
func tiles(r *Report, f Findings) []tile {
	counts := map[Outcome]int{}
	targets := 0
	for _, j := range f.Objectives {
		if j.Target != nil {
			targets++
			counts[j.Outcome]++
		}
	}
	met := tile{Name: "Objectives met", Value: fmt.Sprintf("%d of %d", counts[Met], targets), Mark: okMark,
		Note: fmt.Sprintf("%d missed, %d not measured", counts[Missed], counts[NotMeasured])}
	switch {
	case counts[Missed] > 0:
		met.Mark = badMark
	case counts[Met] < targets || targets == 0:
		met.Mark = openMark
	}
	return []tile{met, lossTile(r), integrityTile(r), cleanupTile(r)}
}

func lossTile(r *Report) tile {
	t := tile{Name: "Records lost", Value: "not checked", Mark: openMark, Note: "no data check of the service"}
	if len(r.DataChecks) == 0 {
		return t
	}
	var lost, expected int64
	for _, d := range r.DataChecks {
		lost, expected = plus(lost, d.Lost), plus(expected, d.Expected)
	}
	t.Value, t.Note, t.Mark = grouped(lost), "of "+grouped(expected)+" expected", okMark
	if lost > 0 {
		t.Mark = warnMark
	}
	return t
}

func integrityTile(r *Report) tile {
	t := tile{Name: "Objects mismatched", Value: "not checked", Mark: openMark, Note: "no integrity check"}
	if len(r.Integrity) == 0 {
		return t
	}
	var bad, all, bytes int64
	for _, c := range r.Integrity {
		bad, all, bytes = plus(bad, c.Mismatches), plus(all, c.Objects), plus(bytes, c.Bytes)
	}
	t.Value, t.Note, t.Mark = grouped(bad), "of "+grouped(all)+" checked, "+sized(bytes), okMark
	if bad > 0 {
		t.Mark = badMark
	}
	return t
}

func cleanupTile(r *Report) tile {
	t := tile{Name: "Left behind", Value: "not recorded", Mark: openMark, Note: "no clean-up in this report"}
	if len(r.Cleanup) == 0 {
		return t
	}
	left, removed := 0, 0
	for _, c := range r.Cleanup {
		switch c.State {
		case Remains:
			left++
		case Removed:
			removed++
		}
	}
	t.Value, t.Note, t.Mark = fmt.Sprint(left), fmt.Sprintf("%d removed, %d kept on purpose", removed, len(r.Cleanup)-left-removed), okMark
	if left > 0 {
		t.Mark = badMark
	}
	return t
}

// plus adds counts, which are not negative, and stops at the largest.
func plus(a, b int64) int64 {
	if a > math.MaxInt64-b {
		return math.MaxInt64
	}
	return a + b
}
