package wal

import (
	"io"
	"time"
)

// A Stop says where recovery is to end, as PostgreSQL's settings
// recovery_target_* do; exactly one of Time, LSN, XID and Name is set.
type Stop struct {
	Time time.Time // up to the last commit or abort that is not later
	LSN  LSN       // the first record that begins here or later is the last one
	XID  uint32    // of the transaction that is the last one
	Name string    // of a restore point

	// Exclusive leaves out what is exactly at the target. A restore point
	// is never left out, since it changes nothing.
	Exclusive bool
}

// Before reports whether recovery ends without r; see recoveryStopsBefore in
// PostgreSQL's xlogrecovery.c.
func (t Stop) Before(r Record) bool {
	ends := r.Kind == Commit || r.Kind == Abort
	switch {
	case t.LSN != 0:
		return t.Exclusive && r.LSN >= t.LSN
	case !ends:
		return false
	case t.XID != 0:
		return t.Exclusive && r.XID == t.XID
	case !t.Time.IsZero():
		return r.Time.After(t.Time) || t.Exclusive && r.Time.Equal(t.Time)
	}
	return false
}

// After reports whether recovery ends with r; see recoveryStopsAfter.
func (t Stop) After(r Record) bool {
	switch {
	case t.Name != "":
		return r.Kind == RestorePoint && r.Name == t.Name
	case t.LSN != 0:
		return !t.Exclusive && r.LSN >= t.LSN
	case t.XID != 0:
		return !t.Exclusive && r.XID == t.XID && (r.Kind == Commit || r.Kind == Abort)
	}
	return false
}

// A Summary says what a stretch of WAL has.
type Summary struct {
	Records int
	Commits int
	First   time.Time // of commits, the earliest and the latest; zero if there is none
	Last    time.Time
	Begin   LSN // of the first record
	End     LSN // of the last one

	// Stopped says that the target was met. Stop is then the record that
	// decided it, and all others come before it: those that recovery replays,
	// and with Included that record, too.
	Stopped  bool
	Included bool
	Stop     Record
}

// Summarize validates a stretch of WAL and says what it has up to the target,
// or with a zero target, or one that it does not reach, all of it. (Of two
// commits the later one in the WAL may have the earlier time.)
func Summarize(r io.Reader, c Config, target Stop) (Summary, error) {
	var s Summary
	for rec, err := range Records(r, c) {
		if err != nil {
			return s, err
		}
		if s.Records == 0 {
			s.Begin = rec.LSN
		}
		before, after := target.Before(rec), target.After(rec)
		if !before {
			s.add(rec)
		}
		if before || after {
			s.Stopped, s.Included, s.Stop = true, after, rec
			return s, nil
		}
	}
	return s, nil
}

func (s *Summary) add(r Record) {
	s.Records++
	s.End = r.End
	if r.Kind != Commit {
		return
	}
	s.Commits++
	if s.First.IsZero() || r.Time.Before(s.First) {
		s.First = r.Time
	}
	if r.Time.After(s.Last) {
		s.Last = r.Time
	}
}
