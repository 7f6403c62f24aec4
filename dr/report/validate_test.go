package report

import (
	"math"
	"strings"
	"testing"
	"time"
)

func TestValidateTakesGoodReports(t *testing.T) {
	for name, r := range map[string]*Report{"sample": sample(), "good": good(), "hostile": hostile(), "bare": bare()} {
		if err := r.Validate(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// bare is the least that is a report.
func bare() *Report {
	s := sample()
	return &Report{
		ID: "bare", Title: "Bare", Kind: RestoreTest, Operator: "nobody",
		Environment: Environment{ToolVersion: "v0", Host: "h", Sites: []Site{{Name: "s", Region: "r"}}},
		Plan:        Plan{ID: "p", SHA256: s.Plan.SHA256},
		Started:     t0, Ended: t0,
		Workloads: []Workload{{Name: "w"}},
		NotTested: []Exclusion{},
	}
}

func TestValidateNamesEveryFault(t *testing.T) {
	err := new(Report).Validate()
	if err == nil {
		t.Fatal("an empty report is valid")
	}
	for _, field := range []string{"id:", "title:", "kind:", "operator:", "environment.tool_version:", "environment.host:",
		"environment.sites:", "plan.id:", "plan.sha256:", "started:", "ended:", "not_tested:", "workloads:"} {
		if !strings.Contains("\n"+err.Error(), "\n"+field) {
			t.Errorf("no fault at %s in\n%v", field, err)
		}
	}
}

func TestValidate(t *testing.T) {
	for _, c := range []struct {
		field  string // the fault must begin with it
		change func(*Report)
	}{
		{"not_tested: must be set", func(r *Report) { r.NotTested = nil }},
		{"not_tested[1].why", func(r *Report) { r.NotTested[1].Why = "" }},
		{"id", func(r *Report) { r.ID = "../../etc/passwd" }},
		{"id", func(r *Report) { r.ID = strings.Repeat("a", 101) }},
		{"id", func(r *Report) { r.ID = `a"}*{display:none` }},
		{"kind", func(r *Report) { r.Kind = "drill" }},
		{"plan.sha256", func(r *Report) { r.Plan.SHA256 = strings.ToUpper(r.Plan.SHA256) }},
		{"ended", func(r *Report) { r.Ended = r.Started.Add(-1) }},
		{"started: year 10000", func(r *Report) { r.Started = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC) }},
		{"elapsed_seconds", func(r *Report) { r.Elapsed = dur(-1) }},
		{"environment.sites[2].region", func(r *Report) { r.Environment.Sites[2].Region = "" }},
		{"approvals[0].at", func(r *Report) { r.Approvals[0].At = time.Time{} }},
		{"workloads[1].name", func(r *Report) { r.Workloads[1].Name = "orders-db" }},
		{"workloads[0].rpo.measured_seconds", func(r *Report) { r.Workloads[0].RPO.Measured = dur(-1) }},
		{"workloads[0].rto.target_seconds", func(r *Report) { r.Workloads[0].RTO.Target = dur(-1) }},
		{"workloads[0].failover.basis", func(r *Report) { r.Workloads[0].Failover.Basis = "" }},
		{"workloads[0].rto.measured_seconds: is less than", func(r *Report) { r.Workloads[0].RTO.Measured = dur(4 * time.Minute) }},
		{"timeline.pivot", func(r *Report) { r.Timeline.Pivot = at(-time.Second) }},
		{"timeline.phases[0].name", func(r *Report) { r.Timeline.Phases[0].Name = "think" }},
		{"timeline.phases[1].ended", func(r *Report) { r.Timeline.Phases[1].Ended = t0 }},
		{"timeline.phases[0].started", func(r *Report) { r.Timeline.Phases[0].Started = t0.Add(-1) }},
		{"timeline.phases[2].workload", func(r *Report) { r.Timeline.Phases[2].Workload = "no such" }},
		{"steps[0].state", func(r *Report) { r.Steps[0].State = "ok" }},
		{"steps[0].started", func(r *Report) { r.Steps[0].Started = nil }},
		{"steps[0].attempts", func(r *Report) { r.Steps[0].State, r.Steps[0].Attempts = StepFailed, 0 }},
		{"steps[0].error", func(r *Report) { r.Steps[0].State = StepRolledBack }},
		{"steps[8].error", func(r *Report) { r.Steps[8].Error = "" }},
		{"steps[0].attempts", func(r *Report) { r.Steps[0].State = StepNotReached }},
		{"points[0].stage", func(r *Report) { r.Points[0].Stage = "good" }},
		{"points[0].bytes_new", func(r *Report) { r.Points[0].BytesNew = r.Points[0].BytesRead + 1 }},
		{"points[0].bytes_stored", func(r *Report) { r.Points[0].BytesStored = -1 }},
		{"points[1].id", func(r *Report) { r.Points[1].ID = r.Points[0].ID }},
		{"points[0].at", func(r *Report) { r.Points[0].At = r.PointsAsOf.Add(1) }},
		{"windows[0].workload", func(r *Report) { r.Windows[0].Workload = "no such" }},
		{"windows[1].site", func(r *Report) { r.Windows[1].Site = "" }},
		{"windows[1].since: is after", func(r *Report) { r.Windows[1].Since = r.PointsAsOf.Add(1) }},
		{"windows[1].since", func(r *Report) { r.Windows[1].Since = time.Time{} }},
		{"windows[1].until", func(r *Report) { r.Windows[1].Until = time.Time{} }},
		{"windows[2].points", func(r *Report) { r.Windows[2].Points = 0 }},
		{"points_as_of", func(r *Report) { r.Points, r.PointsAsOf = nil, time.Time{} }},
		{"points_as_of", func(r *Report) { r.PointsAsOf = time.Time{} }},
		{"retention[0].reasons", func(r *Report) { r.Retention[0].Reasons = nil }},
		{"retention[0].verdict", func(r *Report) { r.Retention[0].Verdict = "" }},
		{"replication[0].mismatches", func(r *Report) { r.Replication[0].Mismatches = r.Replication[0].Verified + 1 }},
		{"replication[0].lag_seconds", func(r *Report) { r.Replication[0].Lag = dur(-1) }},
		{"integrity[0].algorithm", func(r *Report) { r.Integrity[0].Algorithm = "" }},
		{"integrity[0].mismatches", func(r *Report) { r.Integrity[0].Mismatches = r.Integrity[0].Objects + 1 }},
		{"integrity[0].mismatched", func(r *Report) { r.Integrity[0].Mismatched = []string{"x"} }},
		{"data_checks[0].expected: 7200 is not the sum", func(r *Report) { r.DataChecks[0].Present++ }},
		{"data_checks[0].expected", func(r *Report) {
			r.DataChecks[0].Present, r.DataChecks[0].Lost = math.MaxInt64, math.MaxInt64
		}},
		{"data_checks[0].first_lost", func(r *Report) { r.DataChecks[0].FirstLost = "" }},
		{"data_checks[1].first_lost", func(r *Report) { r.DataChecks[1].FirstLost = "row 1" }},
		{"data_checks[0].lost: 12 records are lost, but the RPO", func(r *Report) { r.Workloads[0].RPO.Measured = dur(0) }},
		{"notifications[0].error", func(r *Report) { r.Notifications[0].Error = "too" }},
		{"deviations[0].owner", func(r *Report) { r.Deviations[0].Owner = "" }},
		{"cleanup[0].state", func(r *Report) { r.Cleanup[0].State = "gone" }},
		{"cleanup[0].proof", func(r *Report) { r.Cleanup[0].Proof = "" }},
		{"sign_off[0].role", func(r *Report) { r.SignOff = []SignOff{{}} }},
	} {
		t.Run(c.field, func(t *testing.T) {
			r := sample()
			c.change(r)
			err := r.Validate()
			if err == nil || !strings.Contains("\n"+err.Error(), "\n"+c.field) {
				t.Errorf("Validate: %v, want a fault at %s", err, c.field)
			}
			if _, err := r.twin(); err == nil {
				t.Error("a twin was written in spite of the fault")
			}
			if _, err := r.page(); err == nil {
				t.Error("a page was written in spite of the fault")
			}
		})
	}
}

func TestAnEmptyListOfOmissionsIsAStatement(t *testing.T) {
	r := sample()
	r.NotTested = []Exclusion{}
	if err := r.Validate(); err != nil {
		t.Fatalf("Validate: %v", err)
	}
	page, err := r.page()
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(page), "nothing within the scope of this plan was left out: the list is empty") {
		t.Error("the page does not say that the list is empty")
	}
	// What the data say stands beside it.
	if !strings.Contains(string(page), "Objectives without a measurement") {
		t.Error("the page does not name the objectives that were not measured")
	}
}
