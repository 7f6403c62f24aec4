package report

import (
	"fmt"
	"strings"
	"time"
)

var t0 = time.Date(2026, 11, 21, 2, 0, 0, 0, time.UTC)

func at(d time.Duration) *time.Time { return new(t0.Add(d)) }

func dur(d time.Duration) *Duration { return new(Duration(d)) }

// sample is a rich report of a test failover, in which one objective was
// missed and some were not measured.
func sample() *Report {
	r := &Report{
		ID:    "2026-11-21-tf-0042",
		Title: "Test failover of order processing to Ireland",
		Kind:  TestFailover,
		Summary: "The standby in eu-west-1 took over from an isolated copy of eu-central-1 and served verified orders 4 min 41 s after the assumed fault. " +
			"The database missed its recovery time by 11 s, because the first attempt to fence the primary timed out. Twelve canary records written in the last moments before the fault were lost, within the recovery point objective.",
		Scenario: "Loss of the whole region eu-central-1, including its control plane, at 02:00 UTC, during the nightly settlement run.",
		Faults:   []string{"all egress from eu-central-1 to the repository blocked", "primary database host cut off from the network"},
		Environment: Environment{
			ToolVersion: "holdfast v0.9.2 (go1.26.8 linux/amd64)", Host: "dr-runner-2.eu-north-1",
			Segregation: "The standby lives in another account (4410-2290-1187) and another region. It unwraps with its own KMS key; the primary's key was disabled for the run. No role of the primary account can write to it.",
			Sites: []Site{
				{"frankfurt", "primary", "aws", "1180-5521-0934", "eu-central-1"},
				{"ireland", "standby", "aws", "4410-2290-1187", "eu-west-1"},
				{"stockholm", "witness: lease and journal", "aws", "7702-0031-4415", "eu-north-1"},
			},
		},
		Operator:  "M. Okafor (on call)",
		Approvals: []Approval{{"J. Lindqvist, head of operations", t0.Add(-18 * time.Hour), "quarterly exercise"}},
		Plan:      Plan{ID: "orders-region-loss", Revision: "14", SHA256: strings.Repeat("9f2c41d07be85a36", 4)},
		Started:   t0.Add(-2 * time.Minute), Ended: t0.Add(19*time.Minute + 4*time.Second + 120*time.Millisecond),
		Elapsed: dur(21*time.Minute + 4*time.Second + 118*time.Millisecond),
		Workloads: []Workload{
			{
				Name: "orders-db", Criticality: "tier 1: payment and order records (PostgreSQL 17)",
				RPO:      Objective{dur(15 * time.Minute), dur(12 * time.Second), "fault minus commit time of the last canary record restored"},
				RTO:      Objective{dur(4*time.Minute + 30*time.Second), dur(4*time.Minute + 41*time.Second + 250*time.Millisecond), "fault until three public checks in a row passed"},
				Failover: Objective{dur(5 * time.Minute), dur(4*time.Minute + 3*time.Second), "decision record in the journal until traffic was verified"},
				Proven:   Objective{dur(7 * 24 * time.Hour), dur(6*24*time.Hour + 3*time.Hour), "last passed restore test of a point still kept"},
			},
			{
				Name: "orders-files", Criticality: "tier 2: invoices and labels",
				RPO:    Objective{dur(time.Hour), dur(41*time.Minute + 12*time.Second), "fault minus time of the newest restorable point"},
				RTO:    Objective{dur(time.Hour), dur(4*time.Minute + 41*time.Second + 250*time.Millisecond), "fault until ten sampled invoices were served"},
				Proven: Objective{dur(30 * 24 * time.Hour), nil, "no point of this workload has been proven yet"},
			},
			{
				Name: "search-index", Criticality: "tier 3: can be rebuilt from orders-db",
				RPO: Objective{Measured: dur(0), Basis: "rebuilt from orders-db after the run"},
				RTO: Objective{dur(8 * time.Hour), nil, "left out of this exercise"},
			},
		},
		Timeline: Timeline{Fault: at(0), Pivot: at(3*time.Minute + 8*time.Second + 400*time.Millisecond), Phases: []Phase{
			{PhaseDetect, "", t0, t0.Add(31 * time.Second), "three observers, two signals"},
			{PhaseDecide, "", t0.Add(31 * time.Second), t0.Add(38*time.Second + 200*time.Millisecond), "assisted: one approval"},
			{PhaseFence, "orders-db", t0.Add(38*time.Second + 200*time.Millisecond), t0.Add(84 * time.Second), "second attempt confirmed"},
			{PhaseRestore, "orders-db", t0.Add(84 * time.Second), t0.Add(171 * time.Second), "last 41 WAL segments"},
			{PhaseRestore, "orders-files", t0.Add(84 * time.Second), t0.Add(150 * time.Second), ""},
			{PhaseStart, "", t0.Add(171 * time.Second), t0.Add(188 * time.Second), ""},
			{PhaseVerify, "", t0.Add(188 * time.Second), t0.Add(188*time.Second + 350*time.Millisecond), "in private"},
			{PhaseSwitch, "", t0.Add(188*time.Second + 400*time.Millisecond), t0.Add(188*time.Second + 440*time.Millisecond), "one swap, zone atomic"},
			{PhaseVerify, "", t0.Add(188*time.Second + 440*time.Millisecond), t0.Add(281*time.Second + 250*time.Millisecond), "in public, after 60 s TTL"},
		}},
		Steps: []Step{
			{"verify standby", "", "ireland", StepDone, 1, at(38*time.Second + 210*time.Millisecond), dur(1280 * time.Millisecond), "", []Evidence{
				{"replication lag", "orders-db 12s behind 00000004000001A2000000F1\norders-files 41m12s behind point 2026-11-21T01-18-48Z"}}},
			{"fence primary", "orders-db", "frankfurt", StepDone, 2, at(39*time.Second + 500*time.Millisecond), dur(44500 * time.Millisecond), "first attempt: deadline of 30s exceeded, outcome unknown, observed again before the second", []Evidence{
				{"instance state", `{"InstanceId":"i-0c2f7e91","State":{"Code":80,"Name":"stopped"},"StateTransitionReason":"User initiated (2026-11-21 02:01:23 GMT)"}`},
				{"lease", "epoch 7, holder dr-runner-2, previous epoch 6 expired 02:00:44Z"}}},
			{"restore", "orders-db", "ireland", StepDone, 1, at(84 * time.Second), dur(87 * time.Second), "", []Evidence{
				{"postgres log", "LOG:  restored log file \"00000004000001A2000000F0\" from archive\nLOG:  redo done at 1A2/F0FFFFC8\nLOG:  last completed transaction was at log time 2026-11-21 01:59:48.113+00\nLOG:  selected new timeline ID: 5"}}},
			{"restore", "orders-files", "ireland", StepDone, 1, at(84 * time.Second), dur(66 * time.Second), "", nil},
			{"start services", "", "ireland", StepDone, 1, at(171 * time.Second), dur(17 * time.Second), "", []Evidence{{"rollout", "deployment \"orders-api\" successfully rolled out (12/12)"}}},
			{"verify in private", "", "ireland", StepDone, 1, at(188 * time.Second), dur(350 * time.Millisecond), "", []Evidence{{"GET /healthz", "200 {\"db\":\"rw\",\"timeline\":5}"}}},
			{"switch traffic", "", "", StepDone, 1, at(188*time.Second + 400*time.Millisecond), dur(40 * time.Millisecond), "", []Evidence{{"dns", "orders.test.example. A 203.0.113.10 -> 198.51.100.20 TTL 60 (insync on 4 of 4 servers)\n_holdfast.orders.test.example. TXT \"owner=dr-runner-2 epoch=7\""}}},
			{"verify in public", "", "", StepDone, 3, at(188*time.Second + 440*time.Millisecond), dur(92810 * time.Millisecond), "", nil},
			{"rebuild search index", "search-index", "ireland", StepSkipped, 0, nil, nil, "left out of this exercise by the plan (scope: tier 1 and 2)", nil},
			{"notify", "", "", StepDone, 1, at(285 * time.Second), dur(812 * time.Microsecond), "", nil},
		},
		PointsAsOf: t0.Add(15 * time.Minute),
		Selection:  "orders-db: newest log position; orders-files: at random among the last 30 days (seed 20261121)",
		Retention: []Decision{
			{"2026-11-21T01-00-00Z", "orders-db", Kept, []string{"newest restorable point", "hourly 1 of 48"}, at(14 * 24 * time.Hour)},
			{"2026-11-15T00-00-00Z", "orders-db", Kept, []string{"last proven point: never forgotten", "base of the logs after it"}, at(8 * 24 * time.Hour)},
			{"2026-10-18T00-00-00Z", "orders-db", HeldBack, []string{"past every rule, but locked"}, at(36 * time.Hour)},
			{"2026-10-11T00-00-00Z", "orders-db", Forgotten, []string{"older than 4 weeks; no rule keeps it"}, nil},
		},
		Replication: []Replication{
			{"frankfurt/repository", "ireland/repository", 18422, 96 << 30, 37, 412 << 20, dur(48 * time.Second), 18422, 0},
			{"frankfurt/repository", "stockholm/catalog", 211, 3 << 20, 0, 0, nil, 0, 0},
		},
		Integrity: []Integrity{
			{"packs of orders-db", "ireland", "SHA-256 of ciphertext", "all", 9120, 1 << 41, 0, nil},
			{"packs of orders-files", "ireland", "SHA-256 of ciphertext", "5 % at random, seed 20261121", 460, 58 << 30, 0, nil},
			{"chunks restored", "ireland", "AES-256-GCM tag, HMAC-SHA-256 id", "all that were restored", 1203311, 412 << 30, 0, nil},
		},
		DataChecks: []DataCheck{
			{"orders-db", "canary records, one per second since 00:00 UTC", 7200, 7188, 12, "canary 7188 (01:59:48)", "canary 7199 (01:59:59)"},
			{"orders-db", "rows of ledger against the daily control total", 48211904, 48211904, 0, "", ""},
			{"orders-files", "invoices of a sample", 10, 10, 0, "", ""},
		},
		Notifications: []Notification{
			{"pagerduty", "dr-on-call", "run started", t0.Add(-2 * time.Minute), "dedup_key tf-0042, accepted", ""},
			{"slack", "#incident-dr", "point of no return passed", t0.Add(189 * time.Second), "ok", ""},
			{"mail", "risk@example.com", "run ended", t0.Add(19 * time.Minute), "", "connect: connection refused after 4 attempts"},
		},
		Deviations: []Deviation{
			{"Fencing needed a second attempt: StopInstances timed out after 30 s.", "RTO of orders-db missed by 11 s.", "M. Okafor", at(21 * 24 * time.Hour)},
			{"Mail to the risk team was not delivered.", "The team was told by telephone at 02:31.", "S. Weber", nil},
		},
		NotTested: []Exclusion{
			{"search-index: rebuild in the standby", "out of scope of this exercise; it needs the batch cluster", at(-92 * 24 * time.Hour)},
			{"Failback to eu-central-1", "planned for the yearly live exercise in March", at(-251 * 24 * time.Hour)},
			{"Load: the standby was checked with 2 % of the daily peak", "no load generator in the isolated network", nil},
		},
		Cleanup: []Cleanup{
			{"vpc-0b8d77 (isolated network, eu-west-1)", Removed, t0.Add(18*time.Minute + 40*time.Second), "DescribeVpcs: InvalidVpcID.NotFound"},
			{"12 instances tagged holdfast:run=tf-0042", Removed, t0.Add(18*time.Minute + 44*time.Second), "list by tag: 0 instances, 0 volumes, 0 snapshots"},
			{"orders.test.example. A, _holdfast TXT", Removed, t0.Add(18*time.Minute + 50*time.Second), "NXDOMAIN from 4 of 4 authoritative servers"},
			{"log group /dr/tf-0042", Spared, t0.Add(18*time.Minute + 52*time.Second), "kept for 400 days as evidence"},
		},
	}
	r.Windows = []Window{
		{"orders-db", "frankfurt", t0.Add(-7 * 24 * time.Hour), t0.Add(-time.Second), 28, "timeline 3"},
		{"orders-db", "ireland", t0.Add(-7 * 24 * time.Hour), t0.Add(-12 * time.Second), 27, "timeline 3"},
		{"orders-db", "ireland", t0.Add(-31 * 24 * time.Hour), t0.Add(-31 * 24 * time.Hour), 1, "timeline 2"},
	}
	add := func(id, workload, mode string, at time.Time, stage Stage, read, fresh, stored int64) {
		r.Points = append(r.Points, Point{id, workload, mode, at, stage, read, fresh, stored})
	}
	for i := range 28 {
		when := t0.Add(-time.Duration(27-i)*6*time.Hour - time.Hour)
		stage, mode, read := Restorable, "incremental", int64(18+i*7%11)<<30
		if i%7 == 0 {
			mode, read = "full", int64(1900+i)<<30
		}
		if i == 3 {
			stage = Proven
		}
		fresh := int64(2+i*5%7)<<30 + int64(i)<<20
		add(when.Format("2006-01-02T15-04-05Z"), "orders-db", mode, when, stage, read, fresh, fresh*38/100)
	}
	for i := range 12 {
		when := t0.Add(-time.Duration(11-i)*14*time.Hour - 41*time.Minute - 12*time.Second)
		stage := Restorable
		if i == 11 {
			stage = Arrived
		}
		fresh := int64(i*i) << 24
		add(when.Format("2006-01-02T15-04-05Z"), "orders-files", "incremental", when, stage, 640<<30, fresh, fresh*61/100)
	}
	add("2026-11-21T02-05-00Z", "orders-files", "incremental", t0.Add(5*time.Minute), Committed, 640<<30, 0, 0)
	return r
}

// hostile is the sample with the worst in every place a text can come from.
func hostile() *Report {
	r := sample()
	const script = `</script><script>document.title="pwned"</script><img src=x onerror=alert(1)>`
	long := strings.Repeat("ACGT0123456789", 900)
	spaced := strings.Repeat("lorem ipsum dolor ", 300)
	rtl := "abc \u202etxt.exe\u202c \u2066x\u2069 שלום עולם مرحبا \u200f\u0007\x1b[31mred\x1b[0m"
	zalgo := "z" + strings.Repeat("\u0301\u0302\u0327", 40)
	r.Title = "Test " + script + " " + rtl
	r.Summary = spaced + long[:300] + rtl
	r.Scenario = "<!--" + script + "{{.Report}}" + `"'` + "`" + "\x00\xff"
	r.Operator = script
	r.Workloads[0].Criticality = long
	r.Workloads[2].Name = "search-" + strings.Repeat("x", 200) + script
	r.Steps[8].Workload = r.Workloads[2].Name
	r.Timeline.Phases[3].Note = long[:200] + script
	r.Timeline.Phases = append(r.Timeline.Phases, Phase{PhaseRestore, r.Workloads[2].Name, t0.Add(84 * time.Second), t0.Add(84*time.Second + 40*time.Nanosecond), rtl})
	r.Steps[0].Name = script + long[:100]
	r.Steps[0].Evidence = append(r.Steps[0].Evidence,
		Evidence{"<b>what</b>" + long[:80], script + "\n" + long + "\n" + rtl + "\n" + zalgo}, Evidence{"style", `</style><style>*{display:none}</style> <svg/onload=alert(1)> javascript:alert(1)`})
	r.Points[0].ID = long[:120] + script
	r.Points[1].Mode = script
	r.Retention[0].Reasons = append(r.Retention[0].Reasons, script, long, rtl, zalgo)
	r.Integrity[0].Mismatches = 30
	for i := range 30 {
		r.Integrity[0].Mismatched = append(r.Integrity[0].Mismatched, fmt.Sprintf("packs/%02d/%s", i, long[:64]))
	}
	r.Replication[0].From = long[:150]
	r.DataChecks[0].FirstLost, r.DataChecks[0].LastLost = script, long[:200]
	r.Notifications[0].To = rtl + long[:150]
	r.Deviations[0].Impact = spaced
	r.NotTested[0].Why = script + long[:300]
	r.Cleanup[0].Resource = script + long[:90]
	r.Environment.Sites[0].Account = long[:90]
	r.SignOff = []SignOff{{Role: script, Name: rtl, Statement: long[:120], At: at(0)}, {Role: "Reviewer"}}
	return r
}
