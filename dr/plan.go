package dr

import (
	"time"

	"github.com/holdfast-go/holdfast/backup"
)

// A Plan says what is due and why, and what it will be worth. It is plain
// data: print it, store it as JSON, have it approved, and hand it to
// [Planner.Run].
type Plan struct {
	Config     string    `json:"config"`      // Config.Name
	ConfigHash string    `json:"config_hash"` // SHA-256 of the configuration
	Time       time.Time `json:"time"`        // when the world was read
	Active     string    `json:"active"`      // the site in charge: "primary" or "standby"

	// World identifies what the plan was made from: the points at both
	// sites and who is in charge. Run refuses the plan if it has changed.
	World string `json:"world"`

	Actions    []Action    `json:"actions"`              // in the order they run
	Blocked    []string    `json:"blocked,omitempty"`    // why something that may be due is not among Actions; Run fails if there is anything here
	Forecasts  []Forecast  `json:"forecasts"`            // one for each workload
	Locks      []SiteLock  `json:"locks,omitempty"`      // one for each site with locks that are extended
	Violations []Violation `json:"violations,omitempty"` // objectives that are or will be missed
	Readiness  Readiness   `json:"readiness"`
}

// ActionKind names what an [Action] does.
type ActionKind string

// The kinds of actions.
const (
	ActInit      ActionKind = "init"      // create the repository at the active site
	ActBackup    ActionKind = "backup"    // make a point
	ActReplicate ActionKind = "replicate" // bring the other site up to date
	ActForget    ActionKind = "forget"    // forget a point at a site
	ActAttest    ActionKind = "attest"    // look at what sealed writers stored at a site
	ActLock      ActionKind = "lock"      // make the locks of a site last
	ActPrune     ActionKind = "prune"     // free what no point of a site needs
	ActDrill     ActionKind = "drill"     // restore a point and judge it
)

// An Action is one thing to do.
type Action struct {
	Kind     ActionKind     `json:"kind"`
	Workload string         `json:"workload,omitempty"`
	Site     string         `json:"site,omitempty"` // where: "primary" or "standby"
	Point    backup.PointID `json:"point,omitempty"`
	Due      time.Time      `json:"due,omitzero"` // since when
	Reason   string         `json:"reason"`
}

// A Forecast says how well a workload is protected now, and how well it can
// be. Durations in JSON are written as in the configuration.
type Forecast struct {
	Workload string     `json:"workload"`
	Promise  Objectives `json:"promise"`

	Points     int            `json:"points"`               // at the active site
	Newest     backup.PointID `json:"newest,omitempty"`     // at the active site
	Restorable backup.PointID `json:"restorable,omitempty"` // newest at the other site that opened with a key usable there
	Proven     backup.PointID `json:"proven,omitempty"`     // newest that a drill restored and checked

	// Age is how much would be lost if the active site vanished at
	// Plan.Time: the age of Restorable. Known is false if there is none.
	Age   Duration `json:"age"`
	Known bool     `json:"known"`

	ProvenAge Duration `json:"proven_age,omitzero"` // of the newest proof

	// Windows are the moments it can be restored to, and NotSurveyed says of
	// which site they are not known, and why. Only what has a [Surveyor] has any.
	Windows     []Window `json:"windows,omitempty"`
	NotSurveyed []string `json:"not_surveyed,omitempty"`

	RPO Prediction `json:"rpo"`
	RTO Prediction `json:"rto"`
}

// A Prediction is an objective's expected value with the arithmetic behind it.
type Prediction struct {
	Value Duration `json:"value"`
	Sum   string   `json:"sum"`   // "5m between points + 12s backup + ... = 6m14s"
	Basis string   `json:"basis"` // "measured on 20 backups", "estimated", "unknown"
	Known bool     `json:"known"` // false if there is nothing to predict from
}

// A Violation is an objective that is missed, or will be by the forecast.
type Violation struct {
	Workload  string `json:"workload"`
	Objective string `json:"objective"` // "rpo", "rto", "proven", "lock at primary", "lock at standby"
	Predicted bool   `json:"predicted"` // not missed yet
	Text      string `json:"text"`
}

// Readiness says whether the other site could take over at Plan.Time.
type Readiness struct {
	Ready    bool     `json:"ready"`
	Mode     string   `json:"mode"`
	Armed    bool     `json:"armed"` // automatic failover would start
	Problems []string `json:"problems,omitempty"`
}

// An Outcome says what came of the actions of a plan.
type Outcome struct {
	Began   time.Time      `json:"began"`
	Ended   time.Time      `json:"ended"`
	Results []ActionResult `json:"results"` // in the order of Plan.Actions
}

// An ActionResult says what came of one action.
type ActionResult struct {
	Action Action         `json:"action"`
	Done   bool           `json:"done"`
	Point  backup.PointID `json:"point,omitempty"` // made by a backup, proven by a drill
	Took   Duration       `json:"took"`
	Error  string         `json:"error,omitempty"`

	// Bytes were read from the target by a backup, copied to the other site
	// by a replication, restored by a drill, found right when attested, or got
	// longer locks.
	Bytes       int64 `json:"bytes,omitempty"`
	BytesNew    int64 `json:"bytes_new,omitempty"`    // backup: of those, not in the repository before
	BytesStored int64 `json:"bytes_stored,omitempty"` // backup: uploaded, compressed and encrypted, with metadata
	BytesFreed  int64 `json:"bytes_freed,omitempty"`  // prune: that are gone
	Objects     int64 `json:"objects,omitempty"`      // replication: copied; lock: with longer locks
	Arrived     int   `json:"arrived,omitempty"`      // replication: points that are complete at the other site now
	Warnings    int64 `json:"warnings,omitempty"`     // backup: items that could not be read as they were; see [backup.Point]
}
