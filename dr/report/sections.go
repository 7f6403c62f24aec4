package report

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// sections are all sections of the page in their order. An empty one is
// shown too, saying that it is empty.
func sections(r *Report, f Findings, sum string) []section {
	list := []section{
		objectivesSection(f),
		notTestedSection(r, f),
		timelineSection(r),
		stepsSection(r),
		pointsSection(r, f),
		retentionSection(r),
		replicationSection(r),
		integritySection(r),
		dataSection(r),
		deviationsSection(r),
		notificationsSection(r),
		cleanupSection(r),
		environmentSection(r),
		criticalitySection(r),
	}
	for i := range list {
		list[i].Number = i + 1
	}
	list = append(list, complianceSection(list), signOffSection(r), proofSection(r, sum))
	for i := range list {
		list[i].Number = i + 1
	}
	return list
}

func objectivesSection(f Findings) section {
	s := section{ID: "objectives", Title: "Objectives and measurements",
		Lead: "Every outcome is computed from target and measurement. What was not measured is never counted as met."}
	t := table{Head: columns("Workload", "Objective", "#Target", "#Measured", "#Margin", "Outcome", "How it was measured")}
	s.Hollow = true
	for _, j := range f.Objectives {
		if j.Outcome != NotMeasured {
			s.Hollow = false
		}
		margin := exact(j.Margin, "—")
		if j.Margin != nil && *j.Margin >= 0 {
			margin.Text = "+" + margin.Text
		}
		t.Rows = append(t.Rows, row{Cells: []cell{
			txt(j.Workload), txt(j.Objective), exact(j.Target, "none"), exact(j.Measured, "—"), margin,
			marked(outcomeMark(j.Outcome), string(j.Outcome)), txt(j.Basis),
		}})
	}
	s.Tables = []table{t}
	s.Notes = []string{
		"RPO: age of the data recovered, that is the fault minus the commit of the last record restored. " +
			"RTO: from the fault until verified in service. Failover time: from the decision until the standby serves traffic. " +
			"Proven age: age of the newest recovery point that had been restored and checked when the run began.",
	}
	return s
}

func outcomeMark(o Outcome) mark {
	switch o {
	case Met:
		return okMark
	case Missed:
		return badMark
	case NoTarget:
		return pastMark
	}
	return openMark
}

func notTestedSection(r *Report, f Findings) section {
	s := section{ID: "not-tested", Title: "What was not tested"}
	if len(r.NotTested) == 0 {
		s.Lead = "The operator states that nothing within the scope of this plan was left out: the list is empty."
	} else {
		s.Lead = "What the run left out, as stated by the operator."
		t := table{Head: columns("What", "Why", "Last tested")}
		for _, x := range r.NotTested {
			t.Rows = append(t.Rows, row{Cells: []cell{txt(x.What), txt(x.Why), when(x.LastTested, "never, or not known")}})
		}
		s.Tables = []table{t}
	}
	t := table{Caption: "Objectives without a measurement (from the data, whatever was stated above)", Head: columns("Workload", "Objective", "#Target", "Reason given")}
	for _, j := range f.Objectives {
		if j.Outcome == NotMeasured {
			t.Rows = append(t.Rows, row{Cells: []cell{txt(j.Workload), txt(j.Objective), exact(j.Target, "none"), txt(j.Basis)}})
		}
	}
	if len(t.Rows) > 0 {
		s.Tables = append(s.Tables, t)
	} else {
		s.Notes = []string{"Every objective of every workload was measured."}
	}
	return s
}

func stepsSection(r *Report) section {
	s := section{ID: "steps", Title: "Steps and evidence",
		Lead: "Each step of the plan in its order, with what was observed, word for word.",
		None: "No steps were recorded."}
	t := table{Head: columns("Step", "Workload", "Site", "State", "#Attempts", "Started", "#Duration")}
	for i, x := range r.Steps {
		name := cell{Text: fmt.Sprintf("%d. %s", i+1, clip(x.Name, shortText))}
		name.Whole = utf8.RuneCountInString(name.Text) <= 24
		line := row{Cells: []cell{
			name, txt(cmp.Or(x.Workload, "all")), txt(x.Site),
			marked(stepMark(x.State), string(x.State)), num(int64(x.Attempts)), when(x.Started, "—"), span(x.Elapsed, "—"),
		}}
		if x.Error != "" {
			line.Detail = append(line.Detail, fact{Name: "Reason", Value: cell{Text: clip(x.Error, longText)}})
		}
		for _, e := range x.Evidence {
			line.Detail = append(line.Detail, fact{Name: cmp.Or(clip(e.What, shortText), "Evidence"), Value: cell{Text: clip(e.Text, longText), Code: true}})
		}
		t.Rows = append(t.Rows, line)
	}
	s.Tables = []table{t}
	return s
}

func stepMark(s StepState) mark {
	switch s {
	case StepDone:
		return okMark
	case StepFailed, StepRolledBack:
		return badMark
	case StepSkipped:
		return warnMark
	}
	return openMark
}

func pointsSection(r *Report, f Findings) section {
	s := section{ID: "points", Title: "Recovery points", None: "No recovery points were listed."}
	windows := windowsTable(r)
	if len(r.Points) == 0 {
		s.Lead, s.Tables = "Ages are as of "+instant(r.PointsAsOf)+".", windows
		return s
	}
	s.Lead = "How far the points have come: committed (its manifest is written), then arrived (every object is at the standby), then restorable (with all it needs, the primary region gone), then proven (restored, checked, timed). Ages are as of " + instant(r.PointsAsOf) + "."
	sums := table{Head: columns("Workload", "#Committed", "#Arrived", "#Restorable", "#Proven")}
	for i := 0; i+len(allStages) <= len(f.Stages); i += len(allStages) {
		cells := []cell{txt(f.Stages[i].Workload)}
		for _, g := range f.Stages[i : i+len(allStages)] {
			c := num(int64(g.Count))
			if g.Age != nil {
				c.Lines = []string{"newest " + g.Age.String()}
			} else {
				c.Lines = []string{"none"}
			}
			cells = append(cells, c)
		}
		sums.Rows = append(sums.Rows, row{Cells: cells})
	}
	newest := slices.Clone(r.Points)
	slices.SortStableFunc(newest, func(a, b Point) int {
		return cmp.Or(b.At.Compare(a.At), cmp.Compare(a.Workload, b.Workload), cmp.Compare(a.ID, b.ID))
	})
	shown, more := limited(newest, 25)
	all := table{Caption: "Points, newest first", More: more,
		Head: columns("Point", "Workload", "Mode", "Stage", "#Age", "#Read", "#New", "#Stored")}
	for _, p := range shown {
		age := Duration(r.PointsAsOf.Sub(p.At))
		id := code(p.ID)
		id.Lines = []string{instant(p.At)}
		all.Rows = append(all.Rows, row{Cells: []cell{id, txt(p.Workload), txt(p.Mode), txt(string(p.Stage)),
			span(&age, ""), size(p.BytesRead), size(p.BytesNew), size(p.BytesStored)}})
	}
	s.Charts = pointCharts(r)
	s.Sums, s.Tables = []table{sums}, append(windows, all)
	if r.Selection != "" {
		s.Notes = []string{"How the points that were restored were chosen: " + clip(r.Selection, longText) + "."}
	}
	return s
}

// windowsTable shows which moments can be restored from where; nothing if that
// was not found out.
func windowsTable(r *Report) []table {
	if len(r.Windows) == 0 {
		return nil
	}
	sorted := slices.Clone(r.Windows)
	slices.SortStableFunc(sorted, func(a, b Window) int {
		return cmp.Or(cmp.Compare(a.Workload, b.Workload), cmp.Compare(a.Site, b.Site), a.Since.Compare(b.Since))
	})
	shown, more := limited(sorted, 50)
	t := table{Caption: "Moments that could be restored, by site", More: more,
		Head: columns("Workload", "Site", "From", "To", "#Length", "#Ended ago", "#Points", "Of")}
	for _, w := range shown {
		to, length := cell{Text: "nothing changed since", Quiet: true}, (*Duration)(nil)
		if w.Until.After(w.Since) {
			d := Duration(w.Until.Sub(w.Since))
			to, length = when(&w.Until, ""), &d
		}
		behind := max(0, Duration(r.PointsAsOf.Sub(w.Until)))
		t.Rows = append(t.Rows, row{Cells: []cell{txt(w.Workload), txt(w.Site), when(&w.Since, ""), to, span(length, "—"), span(&behind, ""), num(int64(w.Points)), txt(w.Of)}})
	}
	return []table{t}
}

func retentionSection(r *Report) section {
	s := section{ID: "retention", Title: "Retention decisions", None: "No retention decisions were taken or recorded."}
	shown, more := limited(r.Retention, 200)
	t := table{Head: columns("Point", "Workload", "Decision", "Reasons", "Locked until"), More: more}
	for _, d := range shown {
		m := okMark
		switch d.Verdict {
		case Forgotten:
			m = pastMark
		case HeldBack:
			m = warnMark
		}
		t.Rows = append(t.Rows, row{Cells: []cell{code(d.Point), txt(d.Workload), marked(m, string(d.Verdict)), lines(d.Reasons), when(d.Until, "no lock")}})
	}
	s.Tables = []table{t}
	return s
}

func replicationSection(r *Report) section {
	s := section{ID: "replication", Title: "Replication", None: "No replication was recorded."}
	t := table{Head: columns("From", "To", "#Copied", "#Backlog", "#Lag", "#Read again", "Mismatches")}
	for _, x := range r.Replication {
		copied, backlog := num(x.Objects), num(x.BacklogObjects)
		copied.Lines, backlog.Lines = []string{sized(x.Bytes)}, []string{sized(x.BacklogBytes)}
		t.Rows = append(t.Rows, row{Cells: []cell{txt(x.From), txt(x.To), copied, backlog, span(x.Lag, "not measured"),
			num(x.Verified), mismatches(x.Mismatches, x.Verified)}})
	}
	s.Tables = []table{t}
	if len(r.Replication) > 0 {
		s.Notes = []string{"Copied and backlog are objects, with their bytes below. Lag is the age of the oldest object not yet copied. Read again: objects that were read at the destination and hashed."}
	}
	return s
}

// mismatches is open if nothing was looked at: no mismatch is then no news.
func mismatches(bad, looked int64) cell {
	switch {
	case bad > 0:
		return marked(badMark, grouped(bad))
	case looked == 0:
		return marked(openMark, "not checked")
	}
	return marked(okMark, "none")
}

func integritySection(r *Report) section {
	s := section{ID: "integrity", Title: "Integrity of stored content", None: "No integrity check was made."}
	t := table{Head: columns("What", "Site", "Algorithm", "Sample", "#Objects", "#Bytes", "Mismatches")}
	for _, x := range r.Integrity {
		line := row{Cells: []cell{txt(x.What), txt(x.Site), txt(x.Algorithm), txt(x.Sample), num(x.Objects), size(x.Bytes), mismatches(x.Mismatches, x.Objects)}}
		if len(x.Mismatched) > 0 {
			shown, more := limited(x.Mismatched, 20)
			names := strings.Join(shown, "\n")
			if more != "" {
				names += "\n" + more
			}
			line.Detail = []fact{{Name: "Objects that did not match", Value: cell{Text: clip(names, longText), Code: true}}}
		}
		t.Rows = append(t.Rows, line)
	}
	s.Tables = []table{t}
	return s
}

func dataSection(r *Report) section {
	s := section{ID: "data", Title: "Data check of the service", None: "The recovered service was not asked for its data."}
	t := table{Head: columns("Workload", "What was counted", "#Expected", "#Present", "Lost", "First lost", "Last lost")}
	for _, d := range r.DataChecks {
		lost := mismatches(d.Lost, d.Expected)
		if d.Lost > 0 {
			lost.Mark = warnMark
		}
		t.Rows = append(t.Rows, row{Cells: []cell{txt(d.Workload), txt(d.What), num(d.Expected), num(d.Present), lost, txt(d.FirstLost), txt(d.LastLost)}})
	}
	s.Tables = []table{t}
	return s
}

func deviationsSection(r *Report) section {
	s := section{ID: "deviations", Title: "Deviations and exceptions", None: "No deviation from the plan and no exception was recorded."}
	t := table{Head: columns("What", "Impact", "Owner", "Due")}
	for _, d := range r.Deviations {
		t.Rows = append(t.Rows, row{Cells: []cell{txt(d.What), txt(d.Impact), txt(d.Owner), when(d.Due, "no date")}})
	}
	s.Tables = []table{t}
	return s
}

func notificationsSection(r *Report) section {
	s := section{ID: "notifications", Title: "Notifications sent", None: "No notification was sent."}
	t := table{Head: columns("Time", "Channel", "To", "Event", "Delivery")}
	for _, n := range r.Notifications {
		d := marked(openMark, "sent, no receipt")
		switch {
		case n.Error != "":
			d = marked(badMark, "failed: "+clip(n.Error, shortText))
		case n.Delivered != "":
			d = marked(okMark, "delivered: "+clip(n.Delivered, shortText))
		}
		t.Rows = append(t.Rows, row{Cells: []cell{when(&n.At, ""), txt(n.Channel), txt(n.To), txt(n.Event), d}})
	}
	s.Tables = []table{t}
	return s
}

func cleanupSection(r *Report) section {
	s := section{ID: "cleanup", Title: "Clean-up", None: "No clean-up was recorded."}
	t := table{Head: columns("Resource", "State", "Checked", "Proof")}
	for _, x := range r.Cleanup {
		m := okMark
		switch x.State {
		case Remains:
			m = badMark
		case Spared:
			m = warnMark
		}
		t.Rows = append(t.Rows, row{Cells: []cell{code(x.Resource), marked(m, string(x.State)), when(&x.Checked, ""), txt(x.Proof)}})
	}
	s.Tables = []table{t}
	return s
}

func environmentSection(r *Report) section {
	s := section{ID: "environment", Title: "Environment"}
	t := table{Head: columns("Site", "Role", "Provider", "Account", "Region")}
	for _, x := range r.Environment.Sites {
		t.Rows = append(t.Rows, row{Cells: []cell{txt(x.Name), txt(x.Role), txt(x.Provider), code(x.Account), txt(x.Region)}})
	}
	s.Tables = []table{t}
	segregation := txt(r.Environment.Segregation)
	if segregation.Quiet {
		segregation.Text = "not stated"
	}
	s.Facts = []fact{
		{"Segregation", segregation, true},
	}
	return s
}

func criticalitySection(r *Report) section {
	s := section{ID: "criticality", Title: "Criticality of the workloads", Hollow: true}
	t := table{Head: columns("Workload", "Criticality")}
	for _, x := range r.Workloads {
		c := txt(x.Criticality)
		if c.Quiet {
			c.Text = "not stated"
		} else {
			s.Hollow = false
		}
		t.Rows = append(t.Rows, row{Cells: []cell{txt(x.Name), c}})
	}
	s.Tables = []table{t}
	return s
}

func signOffSection(r *Report) section {
	s := section{ID: "sign-off", Title: "Sign-off", Signs: r.SignOff,
		Lead: "By signing, I confirm that I have read this report, including what was not tested and the deviations."}
	if len(s.Signs) == 0 {
		s.Signs = []SignOff{{Role: "Operator"}, {Role: "Reviewer"}, {Role: "Management"}}
	}
	return s
}

func proofSection(r *Report, sum string) section {
	return section{ID: "proof", Title: "About this document",
		Lead: "This page and the file report-" + r.ID + ".json hold the same data. The page names the SHA-256 of that file; recompute it with any tool:",
		Code: "sha256sum report-" + r.ID + ".json\n" + sum,
		Notes: []string{
			fmt.Sprintf("Verify of the Go package dr/report also renders the page again from the file and compares every byte (renderer %d, format %d). The hash alone proves no author: for that, look it up in the signed audit log.", renderer, Format),
			"All times are UTC. Characters that do not show or that change the direction of text are spelled out, as ‹U+202E›.",
		},
	}
}
