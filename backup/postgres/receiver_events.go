package postgres

import (
	"fmt"

	"github.com/holdfast-go/holdfast/backup"
)

// An EventKind says what happened to a [Receiver].
type EventKind string

// What happens.
const (
	EventConnected    EventKind = "connected"     // streaming from Timeline and At on
	EventDisconnected EventKind = "disconnected"  // Err says why; it tries again
	EventTimeline     EventKind = "timeline"      // the server went on to Timeline, at At
	EventGap          EventKind = "gap"           // Err is a *GapError: a new base is needed
	EventStoreFailed  EventKind = "store failed"  // the log of Repository takes nothing; it tries again
	EventStoreBack    EventKind = "store back"    // and does so again
	EventSlotLost     EventKind = "slot lost"     // the server let go of what had not been acknowledged, and a new slot was made
	EventSlotAtRisk   EventKind = "slot at risk"  // the server is about to; see Status.Slot
	EventInvalid      EventKind = "invalid"       // what the server sent at At is not valid WAL; it is kept, without times of commits
	EventOverlap      EventKind = "other writer"  // somebody else writes the log of Repository; it goes on where that ends
	EventFull         EventKind = "spool is full" // nothing is read until something was stored
)

// An Event is something that happened to a [Receiver].
type Event struct {
	Kind       EventKind
	Timeline   uint32
	At         LSN
	Repository int // index in ReceiverConfig.Repositories, where it is one's
	Err        error
}

// A GapError says that WAL is missing in a log for good, unless somebody still
// has it: [ArchiveSegment] would take it. errors.Is finds [backup.ErrGap] in it.
type GapError struct {
	Repository int // index in ReceiverConfig.Repositories
	Log        string
	Timeline   uint32 // of To
	From, To   LSN    // half-open
}

func (e *GapError) Error() string {
	return fmt.Sprintf("log %q of repository %d has nothing from %v to %v (timeline %d), and the server has it no more: no moment behind that can be reached from bases before it; take a new base",
		e.Log, e.Repository, e.From, e.To, e.Timeline)
}

// Unwrap returns [backup.ErrGap].
func (e *GapError) Unwrap() error { return backup.ErrGap }

func (r *Receiver) event(e Event) {
	args := []any{"timeline", e.Timeline, "at", e.At.String()}
	if e.Err != nil {
		args = append(args, "error", e.Err)
	}
	switch e.Kind {
	case EventStoreFailed, EventStoreBack, EventGap, EventOverlap:
		args = append(args, "repository", e.Repository)
	}
	switch e.Kind {
	case EventConnected, EventTimeline, EventStoreBack:
		r.c.Logger.Info("WAL receiver: "+string(e.Kind), args...)
	default:
		r.c.Logger.Warn("WAL receiver: "+string(e.Kind), args...)
	}
	if r.c.Events != nil {
		r.c.Events(e)
	}
}
