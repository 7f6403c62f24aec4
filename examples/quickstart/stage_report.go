package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/user"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-go/holdfast/dr/report"
	"github.com/holdfast-go/holdfast/failover"
)

// writeReport is stage 11: what was done and found, for somebody who was not
// there. The page and its twin hold the same; see package dr/report.
func (st *story) writeReport(context.Context) error {
	r := st.report()
	page, twin, err := r.Write(st.inSite("report", ""))
	if err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	if err != nil {
		// A crashed orchestrator had written it. It says the same but for
		// when it ended.
		page = filepath.Join(st.dir, "report", "report-"+r.ID+".html")
		twin = strings.TrimSuffix(page, ".html") + ".json"
	}
	st.ok("report   %s", page)
	st.ok("its twin %s", twin)
	f := r.Judge()
	if f.Result == report.Passed {
		st.ok("judged from its own numbers: %s", f.Result)
		return nil
	}
	err = fmt.Errorf("the report says %s: %s", f.Result, strings.Join(f.Reasons, "; "))
	if st.log.Resumed == 0 {
		return err
	}
	// While the orchestrator was dead nobody recovered anything. That is in
	// the report; the rest held.
	st.miss("%v", err)
	return nil
}

func (st *story) report() *report.Report {
	f := st.log.Facts
	res := f.Results["failover"]
	host, _ := os.Hostname()
	ended := time.Now().UTC()
	r := &report.Report{
		ID: st.log.Run, Title: "Quickstart: loss of the primary site", Kind: report.Failover,
		Summary: fmt.Sprintf("The primary was killed. The standby took over by itself and answered under the service's name %s after the fault. "+
			"%d of %d acknowledged records were lost. Afterwards the old primary found itself fenced, and the service went home without loss.",
			short(f.Loss.RTO), len(f.Loss.Lost), f.Loss.Promised),
		Scenario: "Service and store of the primary end at once (SIGKILL); the directory of its store is moved away.",
		Faults:   []string{"SIGKILL of " + serviceProcess(primarySite), "SIGKILL of " + storeProcess(primarySite), "directory of the store moved away"},
		Environment: report.Environment{
			ToolVersion: "holdfast quickstart, " + runtime.Version(), Host: host, Sites: []report.Site{
				{Name: primarySite, Role: "primary", Provider: "local", Region: primarySite},
				{Name: standbySite, Role: "standby", Provider: "local", Region: standbySite},
				{Name: witnessSite, Role: "witness", Provider: "local", Region: witnessSite},
			},
			Segregation: "None but by process: all three sites are directories and processes of one machine.",
		},
		Operator: operator(), Plan: report.Plan{ID: res.Plan.ID, Revision: "1", SHA256: planHash(res.Plan)},
		Started: st.log.Started, Ended: ended, Elapsed: seconds(ended.Sub(st.log.Started)),
		Selection: "The newest point that had arrived at the standby.",
	}
	if st.postgres() {
		r.Summary = fmt.Sprintf("The PostgreSQL server of the primary was killed. The standby, which had streamed from it, was promoted and answered under the service's name %s after the fault. "+
			"%d of %d acknowledged rows were lost. Afterwards the old primary became a standby, and the service went home without loss, as the LSNs of both servers show.",
			short(f.Loss.RTO), len(f.Loss.Lost), f.Loss.Promised)
		r.Scenario = "The PostgreSQL server of the primary and all its processes end at once (SIGKILL); its data directory is removed. The stores go on."
		r.Faults = []string{"SIGKILL of the PostgreSQL server of " + primarySite, "data directory removed"}
		r.Selection = "None: the standby had been restored from the newest point, and streamed since."
	}
	st.reportObjectives(r)
	st.reportTimeline(r, res)
	st.reportSteps(r)
	st.reportPoints(r, ended)
	st.reportData(r)
	st.reportRest(r)
	return r
}

func operator() string {
	if u, err := user.Current(); err == nil && u.Username != "" {
		return u.Username
	}
	return "unknown"
}

// planHash is the hash of the plan as it was run, without its prefix.
func planHash(p failover.Plan) string {
	if h, ok := strings.CutPrefix(p.Hash(), "sha256:"); ok {
		return h
	}
	b, _ := json.Marshal(p)
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// seconds rounds up to what can be read: nobody promises nanoseconds.
func seconds(d time.Duration) *report.Duration {
	r := report.Duration(d.Truncate(time.Millisecond))
	if r < report.Duration(d) {
		r += report.Duration(time.Millisecond)
	}
	return &r
}

func (st *story) reportObjectives(r *report.Report) {
	l := st.log.Facts.Loss
	target := st.objectives()
	proven := st.log.Facts.Fault.Sub(st.log.Facts.Proof.At)
	basis := "age of the test failover at the fault"
	if st.postgres() {
		basis = "age of the restore of which the standby was made, at the fault"
	}
	r.Workloads = []report.Workload{{
		Name: service, Criticality: "the only one",
		RPO:      report.Objective{Target: seconds(target.RPO), Measured: seconds(l.RPO), Basis: "fault minus acceptance of the last restored record, one machine's clock"},
		RTO:      report.Objective{Target: seconds(target.RTO), Measured: seconds(l.RTO), Basis: "fault until the standby was verified under the service's name and had served the client"},
		Failover: report.Objective{Target: seconds(target.Failover), Measured: seconds(l.Failover), Basis: "decision until the same"},
		Proven:   report.Objective{Target: seconds(time.Hour), Measured: seconds(proven), Basis: basis},
	}}
}

// phases says which part of the recovery time a role is.
var phases = map[failover.Role]report.PhaseName{
	failover.RoleCheck: report.PhaseVerify, failover.RoleFence: report.PhaseFence, failover.RoleRestore: report.PhaseRestore,
	failover.RoleStart: report.PhaseStart, failover.RoleVerify: report.PhaseVerify, failover.RoleTraffic: report.PhaseSwitch,
}

func (st *story) reportTimeline(r *report.Report, res failover.Result) {
	f := st.log.Facts
	decide := "conditions of automatic failover judged"
	if st.postgres() {
		decide = "planned, as soon as both signals were lost"
	}
	t := &r.Timeline
	t.Fault = &f.Fault
	t.Phases = []report.Phase{
		{Name: report.PhaseDetect, Started: f.Fault, Ended: f.DetectedAt, Note: f.Detected},
		{Name: report.PhaseDecide, Started: f.DetectedAt, Ended: res.Plan.Created, Note: decide},
	}
	for _, s := range res.Steps {
		name, ok := phases[s.Role]
		if !ok || s.Status != failover.StepDone {
			continue
		}
		t.Phases = append(t.Phases, report.Phase{Name: name, Started: s.Started, Ended: s.Started.Add(s.Took), Note: s.Name})
		if s.Role == failover.RoleStart {
			pivot := s.Started.Add(s.Took)
			t.Pivot = &pivot
		}
	}
}

func (st *story) reportSteps(r *report.Report) {
	for _, op := range []string{"test", "failover", "failback"} {
		res := st.log.Facts.Results[op]
		for _, s := range res.Steps {
			step := report.Step{
				Name: op + ": " + s.Name, Site: res.Plan.To, State: report.StepDone, Attempts: s.Attempts,
				Started: &s.Started, Elapsed: seconds(s.Took), Error: s.Error,
			}
			if s.Status != failover.StepDone {
				step.State = report.StepFailed
			}
			for _, k := range slices.Sorted(maps.Keys(s.Evidence)) {
				step.Evidence = append(step.Evidence, report.Evidence{What: k, Text: s.Evidence[k]})
			}
			r.Steps = append(r.Steps, step)
		}
	}
}

func (st *story) reportPoints(r *report.Report, now time.Time) {
	f := st.log.Facts
	r.PointsAsOf = now
	restored := f.Results["failover"].Steps
	proven := map[string]bool{string(f.Proof.Point): true}
	for _, s := range restored {
		proven[s.Evidence["point"]] = true
	}
	flow := map[string]*report.Replication{}
	for _, p := range f.Points {
		s := p.Point.Stats
		stage := report.Restorable
		if proven[string(p.Point.ID)] {
			stage = report.Proven
		}
		r.Points = append(r.Points, report.Point{
			ID: string(p.Point.ID), Workload: service, Mode: string(p.Point.Mode), At: p.Point.Time, Stage: stage,
			BytesRead: s.BytesRead, BytesNew: s.BytesNew, BytesStored: s.BytesStored,
		})
		x := flow[p.Site]
		if x == nil {
			x = &report.Replication{From: p.Site, To: otherSite(p.Site)}
			flow[p.Site] = x
		}
		x.Bytes += p.Bytes
		x.Lag = seconds(p.Lag)
	}
	if x := flow[primarySite]; x != nil {
		x.Objects, x.Verified = f.Verified.Objects, f.Verified.Objects
	}
	for _, site := range slices.Sorted(maps.Keys(flow)) {
		r.Replication = append(r.Replication, *flow[site])
	}
	for _, d := range f.Decisions {
		v := report.Kept
		if !d.Keep {
			v = report.Forgotten
		}
		r.Retention = append(r.Retention, report.Decision{Point: string(d.Point), Workload: service, Verdict: v, Reasons: d.Reasons})
	}
}

func (st *story) reportData(r *report.Report) {
	l, fin := st.log.Facts.Loss, st.log.Facts.Final
	what := "records acknowledged by the old primary, at the standby when it took over"
	if st.tree() {
		what = "files, directories and links of " + st.log.Settings.Data + ", at the standby when it took over"
	}
	d := report.DataCheck{Workload: service, What: what, Expected: int64(l.Promised), Present: int64(l.Promised - len(l.Lost)), Lost: int64(len(l.Lost))}
	if n := len(l.Lost); n > 0 {
		d.FirstLost, d.LastLost = l.Lost[0], l.Lost[n-1]
	}
	r.DataChecks = []report.DataCheck{d}
	v := st.log.Facts.Verified
	r.Integrity = []report.Integrity{{
		What: "objects at the standby before the disaster", Site: standbySite, Algorithm: "SHA-256 of stored bytes", Sample: "all",
		Objects: v.Objects, Bytes: v.Bytes,
	}, {
		What: "data at home after the failback", Site: primarySite, Algorithm: "SHA-256", Sample: "all", Objects: int64(fin.Records),
	}}
}

func (st *story) reportRest(r *report.Report) {
	f := st.log.Facts
	for _, s := range f.Results["test"].Steps {
		if s.Role != failover.RoleCleanUp {
			continue
		}
		for _, k := range []string{"process", "directory"} {
			r.Cleanup = append(r.Cleanup, report.Cleanup{
				Resource: "test failover: " + k, State: report.Removed, Checked: s.Started.Add(s.Took), Proof: s.Evidence[k],
			})
		}
	}
	var pages []page
	if readLines(filepath.Join(st.dir, "client", "pager.jsonl"), &pages) == nil {
		for _, p := range pages {
			r.Notifications = append(r.Notifications, report.Notification{
				Channel: "webhook", To: pagerProcess, Event: "failover or failback completed", At: p.At, Delivered: "written down by the receiver",
			})
		}
	}
	if n := st.log.Resumed; n > 0 {
		r.Deviations = append(r.Deviations, report.Deviation{
			What:   fmt.Sprintf("the orchestrator died and was resumed %d times", n),
			Impact: "recovery took longer by the time until it was started again", Owner: operator(),
		})
	}
	r.NotTested = []report.Exclusion{
		{What: "loss of a region", Why: "all sites share one machine, its power, its disk and its kernel"},
		{What: "loss of the witness", Why: "not part of this story"},
		{What: "recursive resolvers and caches that ignore TTLs", Why: "the client asks the authoritative server"},
	}
}
