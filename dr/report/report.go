package report

import "time"

// Format is the version of the JSON twin that this package writes.
const Format = 1

// A Report is what one run found. It is plain data: every time is an instant
// (written in UTC), every length of time a [Duration], every size in bytes.
//
// A nil or empty list means that there was nothing of the kind to report, and
// the page says so in place; NotTested is the exception, see there.
type Report struct {
	// ID names the report and its files: 1 to 100 of [A-Za-z0-9._-].
	ID    string `json:"id"`
	Title string `json:"title"`
	Kind  Kind   `json:"kind"`

	// Summary is for a reader who reads nothing else. Scenario is what was
	// assumed or made to happen; Faults are the faults injected for it.
	Summary  string   `json:"summary"`
	Scenario string   `json:"scenario"`
	Faults   []string `json:"faults"`

	Environment Environment `json:"environment"`
	Operator    string      `json:"operator"`
	Approvals   []Approval  `json:"approvals"`
	Plan        Plan        `json:"plan"`

	// Started and Ended are by the clock of Environment.Host. Elapsed is
	// by its monotonic clock, nil if not known.
	Started time.Time `json:"started"`
	Ended   time.Time `json:"ended"`
	Elapsed *Duration `json:"elapsed_seconds"`

	// Workloads are all that the plan covers, tested or not.
	Workloads []Workload `json:"workloads"`

	Timeline Timeline `json:"timeline"`
	Steps    []Step   `json:"steps"`

	// Points are all recovery points of the workloads within the period that
	// the report covers; PointsAsOf is when they were listed, and what their
	// ages are counted from. Selection says how the points that were
	// restored were chosen, with the seed if by chance.
	Points     []Point   `json:"points"`
	PointsAsOf time.Time `json:"points_as_of"`
	Selection  string    `json:"selection"`

	// Windows are the moments that could be restored from each site then,
	// where a log goes on behind the points. Without any the twin has no such
	// field, as those that were written before it.
	Windows []Window `json:"windows,omitempty"`

	Retention []Decision `json:"retention"`

	Replication []Replication `json:"replication"`
	Integrity   []Integrity   `json:"integrity"`
	DataChecks  []DataCheck   `json:"data_checks"`

	Notifications []Notification `json:"notifications"`
	Deviations    []Deviation    `json:"deviations"`

	// NotTested is what the run left out. It must be set: an empty list that
	// is not nil states that nothing was left out; nil is refused.
	NotTested []Exclusion `json:"not_tested"`

	Cleanup []Cleanup `json:"cleanup"`

	// SignOff is who is to sign. If it is empty, the page has lines for
	// operator, reviewer and management.
	SignOff []SignOff `json:"sign_off"`
}

// A Kind says what kind of run is reported.
type Kind string

const (
	RestoreTest  Kind = "restore test"  // points were restored to a scratch place
	TestFailover Kind = "test failover" // a failover in isolation
	Switchover   Kind = "switchover"    // planned, without loss
	Failover     Kind = "failover"      // real; loss bounded and reported
	Failback     Kind = "failback"      // a switchover back to the first site
)

// Environment says with what and where the run was made.
type Environment struct {
	ToolVersion string `json:"tool_version"`
	Host        string `json:"host"`
	Sites       []Site `json:"sites"`

	// Segregation says how the place restored to is kept apart from the
	// one backed up: accounts, regions, keys. Free text.
	Segregation string `json:"segregation"`
}

// A Site is a place where a workload can run.
type Site struct {
	Name     string `json:"name"`
	Role     string `json:"role"` // "primary", "standby", "witness", "scratch" ...
	Provider string `json:"provider"`
	Account  string `json:"account"`
	Region   string `json:"region"`
}

// An Approval is somebody's consent to the run.
type Approval struct {
	By   string    `json:"by"`
	At   time.Time `json:"at"`
	Note string    `json:"note"`
}

// Plan names the plan that was run.
type Plan struct {
	ID       string `json:"id"`
	Revision string `json:"revision"`
	SHA256   string `json:"sha256"` // of the stored plan, 64 lower-case hex digits
}

// A Workload is what is to be recovered, with its objectives. An [Objective]
// left at zero shows as one without target and not measured.
type Workload struct {
	Name        string `json:"name"`
	Criticality string `json:"criticality"` // free text: "tier 1", "payment orders"

	RPO      Objective `json:"rpo"`      // age of the data recovered: fault minus commit of the last record restored
	RTO      Objective `json:"rto"`      // fault until verified in service
	Failover Objective `json:"failover"` // decision until traffic is served by the standby
	Proven   Objective `json:"proven"`   // age of the newest proven point when the run began
}

// An Objective is a target and what was measured against it. Whether it was
// met is for [Report.Judge] to say.
type Objective struct {
	Target   *Duration `json:"target_seconds"`   // at most this; nil if there is no target
	Measured *Duration `json:"measured_seconds"` // nil if it was not measured

	// Basis says how it was measured, or why it was not.
	Basis string `json:"basis"`
}

// A SignOff is a line to sign on. Name and At may be left for the pen.
type SignOff struct {
	Role      string     `json:"role"`
	Name      string     `json:"name"`
	Statement string     `json:"statement"`
	At        *time.Time `json:"at"`
}
