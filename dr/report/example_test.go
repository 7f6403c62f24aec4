package report_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/holdfast-go/holdfast/dr/report"
)

// A restore test is reported, written, and checked as a reader would check
// it.
func Example() {
	began := time.Date(2026, 11, 21, 2, 0, 0, 0, time.UTC)
	r := &report.Report{
		ID:          "2026-11-21-restore-7",
		Title:       "Weekly restore test",
		Kind:        report.RestoreTest,
		Operator:    "scheduler",
		Environment: report.Environment{ToolVersion: "holdfast v0.9.2", Host: "runner-2", Sites: []report.Site{{Name: "ireland", Role: "scratch", Region: "eu-west-1"}}},
		Plan:        report.Plan{ID: "weekly-restore", SHA256: strings.Repeat("9f2c41d0", 8)},
		Started:     began,
		Ended:       began.Add(7 * time.Minute),
		Workloads: []report.Workload{{
			Name: "orders-db",
			RTO: report.Objective{
				Target:   new(report.Duration(15 * time.Minute)),
				Measured: new(report.Duration(6*time.Minute + 20*time.Second)),
				Basis:    "first byte read until the row counts matched",
			},
			RPO: report.Objective{Target: new(report.Duration(15 * time.Minute))},
		}},
		// Without this field the report would be refused.
		NotTested: []report.Exclusion{{What: "failover", Why: "a restore test does not move traffic"}},
	}

	f := r.Judge()
	fmt.Println("result:", f.Result)
	for _, why := range f.Reasons {
		fmt.Println("because:", why)
	}
	for _, o := range f.Objectives[:2] {
		fmt.Printf("%s: %s\n", o.Objective, o.Outcome)
	}

	dir, err := os.MkdirTemp("", "report")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	htmlPath, jsonPath, err := r.Write(dir)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(filepath.Base(htmlPath), filepath.Base(jsonPath))

	page, _ := os.ReadFile(htmlPath)
	twin, _ := os.ReadFile(jsonPath)
	_, err = report.Verify(page, twin)
	fmt.Println("verify:", err)

	forged := strings.Replace(string(page), "not measured", "met", 1)
	_, err = report.Verify([]byte(forged), twin)
	fmt.Println("verify a page that says met:", err != nil)

	// Output:
	// result: incomplete
	// because: RPO of orders-db was not measured; its target is 15 min
	// RPO: not measured
	// RTO: met
	// report-2026-11-21-restore-7.html report-2026-11-21-restore-7.json
	// verify: <nil>
	// verify a page that says met: true
}
