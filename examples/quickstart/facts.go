package main

import (
	"time"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/failover"
)

// facts are what one stage leaves for later ones and for the report.
type facts struct {
	Archived int64 `json:"archived"` // bytes the service started with

	Points    []pointFact    `json:"points,omitempty"` // backups, in order
	Verified  verifyFact     `json:"verified"`         // at the standby, before the disaster
	Decisions []decisionFact `json:"decisions,omitempty"`

	// Operations by name ("test", "failover", "failback"): a plan is kept
	// here before it runs, so that a resumed story goes on with that very run.
	Plans   map[string]failover.Plan   `json:"plans,omitempty"`
	Runs    map[string][]string        `json:"runs,omitempty"` // IDs of all plans so far
	Results map[string]failover.Result `json:"results,omitempty"`

	Fault      time.Time `json:"fault,omitzero"` // just before the primary was killed
	FaultClock int64     `json:"fault_clock,omitempty"`

	Ports           map[string]int `json:"ports,omitempty"`            // of PostgreSQL, by site
	KilledCluster   string         `json:"killed_cluster,omitempty"`   // site whose PostgreSQL was killed, all of it
	StoppedClusters []string       `json:"stopped_clusters,omitempty"` // sites whose PostgreSQL ran when the orchestrator failed, and stopped them

	FirstFailed time.Time `json:"first_failed,omitzero"` // first health check that failed
	DetectedAt  time.Time `json:"detected_at,omitzero"`
	Detected    string    `json:"detected,omitempty"` // by what

	Proof *proofFact `json:"proof,omitempty"`
	Loss  *lossFact  `json:"loss,omitempty"`
	Final *finalFact `json:"final,omitempty"`

	FencedReply string `json:"fenced_reply,omitempty"` // what the old primary said to a write
}

// plan notes the plan of an operation that is about to run.
func (f *facts) plan(name string, p failover.Plan) {
	if f.Plans == nil {
		f.Plans, f.Runs = map[string]failover.Plan{}, map[string][]string{}
	}
	f.Plans[name] = p
	f.Runs[name] = append(f.Runs[name], p.ID)
}

// pointFact is a backup with its way to the other site.
type pointFact struct {
	Point   backup.Point  `json:"point"`
	Site    string        `json:"site"` // that wrote it
	Took    time.Duration `json:"took"`
	Objects int64         `json:"objects"` // copied to the other site
	Bytes   int64         `json:"bytes"`   // of those
	Lag     time.Duration `json:"lag"`     // from the beginning of the backup to its arrival
}

// verifyFact is a reading of everything that has arrived at a site.
type verifyFact struct {
	Objects int64 `json:"objects"`
	Bytes   int64 `json:"bytes"`
}

// decisionFact is what retention decided about a point.
type decisionFact struct {
	Point   backup.PointID `json:"point"`
	Keep    bool           `json:"keep"`
	Reasons []string       `json:"reasons"`
}

// proofFact is the passed test failover.
type proofFact struct {
	Point   backup.PointID `json:"point"`
	At      time.Time      `json:"at"`
	Records int            `json:"records"` // or files
}

// lossFact is what the standby had when it took over.
type lossFact struct {
	Restored int           `json:"restored"` // records, or files, at the standby
	Promised int           `json:"promised"` // acknowledged by the primary
	Lost     []string      `json:"lost"`     // keys of acknowledged records that the standby does not have
	RPO      time.Duration `json:"rpo"`      // fault minus the last restored write
	RTO      time.Duration `json:"rto"`      // fault until served under the name
	Failover time.Duration `json:"failover"` // decision until served under the name
	Compared string        `json:"compared"` // how
}

// finalFact is the ledger at the end.
type finalFact struct {
	Records   int    `json:"records"`
	Sum       string `json:"sum"`
	Promised  int    `json:"promised"`
	Intervals int    `json:"intervals"` // in which a site was writable
}
