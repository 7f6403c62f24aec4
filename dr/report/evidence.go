package report

import "time"

// A Timeline splits the time to recover into its phases.
type Timeline struct {
	// Fault is when the service was lost (or was assumed to be), which is
	// where the RTO begins. Nil if the run had no such moment.
	Fault *time.Time `json:"fault"`

	// Phases are in the order they are to be shown. A phase may come twice
	// (verify in private, verify in public), and phases may overlap.
	Phases []Phase `json:"phases"`

	// Pivot is the point of no return: when the standby first accepted
	// writes or traffic. Nil if it was not reached.
	Pivot *time.Time `json:"pivot"`
}

// A PhaseName is one of the parts an RTO is split into.
type PhaseName string

const (
	PhaseDetect  PhaseName = "detect"
	PhaseDecide  PhaseName = "decide"
	PhaseFence   PhaseName = "fence"
	PhaseRestore PhaseName = "restore"
	PhaseStart   PhaseName = "start"
	PhaseSwitch  PhaseName = "switch"
	PhaseVerify  PhaseName = "verify"
)

// A Phase is one stretch of recovery.
type Phase struct {
	Name     PhaseName `json:"name"`
	Workload string    `json:"workload"` // empty: all of them
	Started  time.Time `json:"started"`
	Ended    time.Time `json:"ended"`
	Note     string    `json:"note"`
}

// A StepState says how a step ended.
type StepState string

const (
	StepDone       StepState = "done"
	StepFailed     StepState = "failed"
	StepRolledBack StepState = "rolled back"
	StepSkipped    StepState = "skipped"
	StepNotReached StepState = "not reached"
)

// A Step is one action of the plan and what came of it.
type Step struct {
	Name     string     `json:"name"`
	Workload string     `json:"workload"` // empty: all of them
	Site     string     `json:"site"`
	State    StepState  `json:"state"`
	Attempts int        `json:"attempts"`
	Started  *time.Time `json:"started"` // nil if it was skipped or not reached
	Elapsed  *Duration  `json:"elapsed_seconds"`
	Error    string     `json:"error"` // why it failed or was skipped
	Evidence []Evidence `json:"evidence"`
}

// Evidence is something observed, word for word.
type Evidence struct {
	What string `json:"what"` // "pg_isready", "instance state" ...
	Text string `json:"text"` // raw output; may have several lines
}

// A Stage says how far a recovery point has come. Each includes the ones
// before it.
type Stage string

const (
	Committed  Stage = "committed"  // its manifest is written
	Arrived    Stage = "arrived"    // every object is at the standby, hashes checked
	Restorable Stage = "restorable" // keys, snapshots and logs are there too
	Proven     Stage = "proven"     // restored, data checked, timed
)

// A Point is a recovery point.
type Point struct {
	ID       string    `json:"id"`
	Workload string    `json:"workload"`
	Mode     string    `json:"mode"` // "full", "incremental", "differential", "log" ...
	At       time.Time `json:"at"`   // the moment it can return to
	Stage    Stage     `json:"stage"`

	BytesRead   int64 `json:"bytes_read"`   // read from the workload
	BytesNew    int64 `json:"bytes_new"`    // of which the repository did not have yet
	BytesStored int64 `json:"bytes_stored"` // written for them, compressed and sealed
}

// A Window is a stretch of time of which every moment could be restored.
type Window struct {
	Workload string    `json:"workload"`
	Site     string    `json:"site"` // from where
	Since    time.Time `json:"since"`
	Until    time.Time `json:"until"`  // the last change; not after Since if nothing has changed since
	Points   int       `json:"points"` // in it
	Of       string    `json:"of"`     // what tells it from others, such as "timeline 2"
}

// A Verdict is what retention decided about a point.
type Verdict string

const (
	Kept      Verdict = "kept"
	Forgotten Verdict = "forgotten"
	HeldBack  Verdict = "held back" // to be forgotten, but locked or in use
)

// A Decision of retention.
type Decision struct {
	Point    string     `json:"point"`
	Workload string     `json:"workload"`
	Verdict  Verdict    `json:"verdict"`
	Reasons  []string   `json:"reasons"`
	Until    *time.Time `json:"until"` // end of its lock, if it has one
}

// Replication is the state of one copy.
type Replication struct {
	From string `json:"from"`
	To   string `json:"to"`

	Objects        int64 `json:"objects"` // copied in the period
	Bytes          int64 `json:"bytes"`
	BacklogObjects int64 `json:"backlog_objects"` // still to be copied
	BacklogBytes   int64 `json:"backlog_bytes"`

	// Lag is the age of the oldest object not yet copied; nil if it was not
	// measured.
	Lag *Duration `json:"lag_seconds"`

	// Verified is how many objects were read again at To and hashed.
	Verified   int64 `json:"verified_objects"`
	Mismatches int64 `json:"mismatches"`
}

// Integrity is one check of stored content.
type Integrity struct {
	What       string `json:"what"`
	Site       string `json:"site"`
	Algorithm  string `json:"algorithm"` // "SHA-256 of ciphertext", "AES-256-GCM tag" ...
	Sample     string `json:"sample"`    // "all", "5 % at random, seed 7" ...
	Objects    int64  `json:"objects"`   // checked
	Bytes      int64  `json:"bytes"`
	Mismatches int64  `json:"mismatches"`

	// Mismatched are the names of the objects that failed, all or the first.
	Mismatched []string `json:"mismatched"`
}

// A DataCheck asks the recovered service for its records. Expected is Present
// plus Lost.
type DataCheck struct {
	Workload string `json:"workload"`
	What     string `json:"what"` // "rows of ledger", "canary records, one per second" ...
	Expected int64  `json:"expected"`
	Present  int64  `json:"present"`
	Lost     int64  `json:"lost"`

	// FirstLost and LastLost name the ends of what is missing; both are set
	// if and only if something is.
	FirstLost string `json:"first_lost"`
	LastLost  string `json:"last_lost"`
}

// A Notification is a message sent about the run.
type Notification struct {
	Channel   string    `json:"channel"`
	To        string    `json:"to"`
	Event     string    `json:"event"`
	At        time.Time `json:"at"`
	Delivered string    `json:"delivered"` // the receipt of the receiver; empty if there was none
	Error     string    `json:"error"`
}

// A Deviation is where the run did not go by the plan, or a rule was waived.
type Deviation struct {
	What   string     `json:"what"`
	Impact string     `json:"impact"`
	Owner  string     `json:"owner"`
	Due    *time.Time `json:"due"` // of the correction
}

// An Exclusion is something that was not tested.
type Exclusion struct {
	What       string     `json:"what"`
	Why        string     `json:"why"`
	LastTested *time.Time `json:"last_tested"` // nil: never, or not known
}

// A CleanupState says what became of something the run made.
type CleanupState string

const (
	Removed CleanupState = "removed" // and looked for afterwards: gone
	Remains CleanupState = "remains" // should be gone
	Spared  CleanupState = "kept"    // on purpose
)

// Cleanup is something the run made, and the proof of what became of it.
type Cleanup struct {
	Resource string       `json:"resource"`
	State    CleanupState `json:"state"`
	Checked  time.Time    `json:"checked"` // when State was observed
	Proof    string       `json:"proof"`
}
