package failover

import "time"

// RecordVersion is the version of the journal records written by this
// package.
const RecordVersion = 1

// A RecordKind says what a journal record is about.
type RecordKind string

const (
	RecordAccepted    RecordKind = "accepted"     // first record: the plan, how it was approved
	RecordTakeover    RecordKind = "takeover"     // a process with a higher epoch goes on from here
	RecordSettled     RecordKind = "settled"      // every earlier effect has landed or never will
	RecordStarted     RecordKind = "started"      // Do is about to be called
	RecordDone        RecordKind = "done"         // the step is done
	RecordFailed      RecordKind = "failed"       // an attempt failed
	RecordReopened    RecordKind = "reopened"     // a fence was found not to hold any more
	RecordRollback    RecordKind = "rollback"     // from here on the run goes back
	RecordUndoStarted RecordKind = "undo-started" // Undo is about to be called
	RecordUndone      RecordKind = "undone"
	RecordUndoFailed  RecordKind = "undo-failed"
	RecordPaused      RecordKind = "paused" // a person must act
	RecordFinished    RecordKind = "finished"
)

// A Record is one entry of the journal of a run: one object,
// journal/<run>/<seq as 8 digits>, created with IfAbsent. Creating it is the
// lock on its sequence number, which is what stops a deposed process.
type Record struct {
	Version int        `json:"version"`
	Run     string     `json:"run"`
	Seq     int        `json:"seq"`   // from 1
	Nonce   string     `json:"nonce"` // random: two processes never write the same bytes
	At      time.Time  `json:"at"`    // by the writer's clock; for people and durations, decides nothing
	Holder  string     `json:"holder"`
	Epoch   uint64     `json:"epoch"`
	Kind    RecordKind `json:"kind"`

	// Accepted.
	Plan     *Plan     `json:"plan,omitempty"`
	PlanHash string    `json:"plan_hash,omitempty"`
	Mode     Mode      `json:"mode,omitempty"`
	Approval *Approval `json:"approval,omitempty"`

	// Started, done, failed, reopened, undo-...
	Step     string        `json:"step,omitempty"`
	Attempt  int           `json:"attempt,omitempty"`
	Deadline time.Duration `json:"deadline_ns,omitempty"` // started, undo-started: no later than this after the record, the effect has landed or never will
	Observed bool          `json:"observed,omitempty"`    // done: found done
	NoEffect bool          `json:"no_effect,omitempty"`   // failed: certainly changed nothing
	Took     time.Duration `json:"took_ns,omitempty"`
	Evidence Evidence      `json:"evidence,omitempty"`
	Error    string        `json:"error,omitempty"`

	// Rollback, paused, finished.
	Outcome   Outcome `json:"outcome,omitempty"`
	Reason    string  `json:"reason,omitempty"`
	Requested bool    `json:"requested,omitempty"` // rollback: by a person
	Active    string  `json:"active,omitempty"`    // finished as abandoned: the site declared active
}
