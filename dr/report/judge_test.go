package report

import (
	"slices"
	"strings"
	"testing"
	"time"
)

func TestOutcomes(t *testing.T) {
	for _, c := range []struct {
		name             string
		target, measured *Duration
		want             Outcome
		margin           *Duration
	}{
		{"within", dur(time.Minute), dur(time.Second), Met, dur(59 * time.Second)},
		{"exactly", dur(time.Minute), dur(time.Minute), Met, dur(0)},
		{"a nanosecond over", dur(time.Minute), dur(time.Minute + 1), Missed, dur(-1)},
		{"zero target, zero measured", dur(0), dur(0), Met, dur(0)},
		{"zero target, something measured", dur(0), dur(1), Missed, dur(-1)},
		{"not measured", dur(time.Minute), nil, NotMeasured, nil},
		{"zero target, not measured", dur(0), nil, NotMeasured, nil},
		{"no target", nil, dur(time.Second), NoTarget, nil},
		{"neither", nil, nil, NotMeasured, nil},
		{"measured as negative", dur(time.Minute), dur(-1), NotMeasured, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := &Report{Workloads: []Workload{{Name: "w", RTO: Objective{c.target, c.measured, "b"}}}}
			got := r.Judge().Objectives[1]
			if got.Objective != "RTO" || got.Outcome != c.want {
				t.Errorf("%s is %q, want RTO %q", got.Objective, got.Outcome, c.want)
			}
			if (got.Margin == nil) != (c.margin == nil) || got.Margin != nil && *got.Margin != *c.margin {
				t.Errorf("margin %v, want %v", got.Margin, c.margin)
			}
		})
	}
}

// good is a report in which everything passed.
func good() *Report {
	r := sample()
	r.Workloads = r.Workloads[:1]
	r.Workloads[0].RTO.Target = dur(5 * time.Minute)
	r.Timeline.Phases = slices.DeleteFunc(r.Timeline.Phases, func(p Phase) bool { return p.Workload == "orders-files" })
	r.Steps = slices.DeleteFunc(r.Steps, func(s Step) bool { return s.Workload != "" && s.Workload != "orders-db" })
	r.Points = slices.DeleteFunc(r.Points, func(p Point) bool { return p.Workload != "orders-db" })
	r.DataChecks = slices.DeleteFunc(r.DataChecks, func(d DataCheck) bool { return d.Workload != "orders-db" })
	return r
}

func TestResult(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*Report)
		want   Result
		reason string
	}{
		{"all met", func(r *Report) {}, Passed, ""},
		{"an objective missed", func(r *Report) { r.Workloads[0].RTO.Target = dur(time.Minute) }, Failed, "RTO of orders-db missed by 3 min 41.25 s: 4 min 41.25 s against a target of 1 min"},
		{"an objective not measured", func(r *Report) { r.Workloads[0].RPO.Measured = nil }, Incomplete, "RPO of orders-db was not measured; its target is 15 min"},
		{"not measured and no target", func(r *Report) { r.Workloads[0].RPO = Objective{} }, Passed, ""},
		{"nothing measured at all", func(r *Report) {
			r.Workloads[0] = Workload{Name: "orders-db"}
		}, Incomplete, "No objective has both a target and a measurement"},
		{"measured, but without any target", func(r *Report) {
			w := &r.Workloads[0]
			w.RPO.Target, w.RTO.Target, w.Failover.Target, w.Proven.Target = nil, nil, nil, nil
		}, Incomplete, "No objective has both a target and a measurement"},
		{"a step failed", func(r *Report) { r.Steps[1].State = StepFailed }, Failed, `Step "fence primary": failed`},
		{"a step rolled back", func(r *Report) { r.Steps[1].State = StepRolledBack }, Failed, `Step "fence primary": rolled back`},
		{"a step not reached", func(r *Report) { r.Steps[1].State = StepNotReached }, Failed, `Step "fence primary": not reached`},
		{"a step skipped", func(r *Report) { r.Steps[1].State = StepSkipped }, Passed, ""},
		{"a mismatch in store", func(r *Report) { r.Integrity[0].Mismatches = 1 }, Failed, "Integrity of packs of orders-db: 1 of 9,120 objects did not match"},
		{"a mismatch after copying", func(r *Report) { r.Replication[0].Mismatches = 2 }, Failed, "Replication frankfurt/repository to ireland/repository: 2 of 18,422 objects read again did not match"},
		{"something left behind", func(r *Report) { r.Cleanup[1].State = Remains }, Failed, "Clean-up: 12 instances tagged holdfast:run=tf-0042 remains"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := good()
			c.change(r)
			f := r.Judge()
			if f.Result != c.want {
				t.Errorf("result %q, want %q: %q", f.Result, c.want, f.Reasons)
			}
			if c.reason == "" && len(f.Reasons) > 0 || c.reason != "" && !slices.Contains(f.Reasons, c.reason) {
				t.Errorf("reasons %q, want %q", f.Reasons, c.reason)
			}
		})
	}
}

func TestStages(t *testing.T) {
	at := func(h int) time.Time { return t0.Add(time.Duration(h) * time.Hour) }
	r := &Report{
		PointsAsOf: at(10),
		Workloads:  []Workload{{Name: "a"}, {Name: "b"}},
		Points: []Point{
			{ID: "1", Workload: "a", At: at(1), Stage: Proven},
			{ID: "2", Workload: "a", At: at(3), Stage: Restorable},
			{ID: "3", Workload: "a", At: at(2), Stage: Arrived}, // out of order
			{ID: "4", Workload: "a", At: at(9), Stage: Committed},
			{ID: "5", Workload: "b", At: at(8), Stage: Committed},
		},
	}
	var got []string
	for _, s := range r.Judge().Stages {
		age := "none"
		if s.Age != nil {
			age = s.Age.String()
		}
		got = append(got, strings.Join([]string{s.Workload, string(s.Stage), grouped(int64(s.Count)), age}, " "))
	}
	want := []string{
		"a committed 4 1 h", "a arrived 3 7 h", "a restorable 2 7 h", "a proven 1 9 h",
		"b committed 1 2 h", "b arrived 0 none", "b restorable 0 none", "b proven 0 none",
	}
	if !slices.Equal(got, want) {
		t.Errorf("stages\n got %q\nwant %q", got, want)
	}
}
