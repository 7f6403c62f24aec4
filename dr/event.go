package dr

import "time"

// An Event is something a Planner did or noticed.
type Event struct {
	Time     time.Time     `json:"time"`
	Kind     EventKind     `json:"kind"`
	Workload string        `json:"workload,omitempty"`
	Point    string        `json:"point,omitempty"`
	Text     string        `json:"text"` // one sentence for people
	Took     time.Duration `json:"took_ns,omitempty"`
	Bytes    int64         `json:"bytes,omitempty"`
	Err      error         `json:"-"` // nil if it went well
}

// EventKind names what an [Event] is about.
type EventKind string

// The kinds of events.
const (
	EventBackup    EventKind = "backup"    // a backup ended
	EventReplicate EventKind = "replicate" // a replication ended
	EventForget    EventKind = "forget"    // retention forgot a point
	EventPrune     EventKind = "prune"     // space was freed, or not
	EventAttest    EventKind = "attest"    // what sealed writers stored was looked at, or is not right
	EventLock      EventKind = "lock"      // locks were extended, or not
	EventDrill     EventKind = "drill"     // a drill ended
	EventHealth    EventKind = "health"    // the judgement on the active site changed
	EventFailover  EventKind = "failover"  // a failover run began or ended
	EventObjective EventKind = "objective" // an objective began or ceased to be missed
	EventRecord    EventKind = "record"    // a record could not be kept
)
