package wal

import (
	"bytes"
	"encoding/binary"
	"time"
)

// A Kind says what a record means to recovery.
type Kind uint8

// Kinds of records. All that decide nothing here are Other.
const (
	Other         Kind = iota
	Commit             // also of a prepared transaction
	Abort              // also of a prepared transaction
	Checkpoint         // Redo, Timeline, PrevTimeline, Time to the second
	RestorePoint       // Name
	EndOfRecovery      // Timeline, PrevTimeline: a timeline began
	SwitchSegment      // the rest of the segment is not used
)

func (k Kind) String() string {
	return [...]string{"other", "commit", "abort", "checkpoint", "restore point", "end of recovery", "switch"}[k]
}

// A Record is a record of the WAL.
type Record struct {
	LSN  LSN // where it begins
	End  LSN // where the next one may begin: its end rounded up to 8 bytes, or after SwitchSegment the end of the segment
	Prev LSN // where the record before it begins

	Length  uint32 // without page headers
	Manager uint8  // resource manager
	Info    uint8

	// XID is the transaction that wrote the record, 0 for none. Of a Commit or
	// Abort it is the transaction that ended, which a prepared one has in its
	// body: 0 if that is longer than what is kept of a record.
	XID uint32

	Kind Kind
	Time time.Time // of those kinds that have one; UTC, microseconds
	Name string

	Timeline, PrevTimeline uint32
	Redo                   LSN
}

// keepMax is how much of a record is kept to be understood. What is read of
// most stands in its first bytes; only the number of a prepared transaction
// comes after its subtransactions and the files it dropped.
const keepMax = 4 << 20

const (
	recordHeader = 24

	managerXLOG        = 0
	managerTransaction = 1

	xlogCheckpointShutdown = 0x00
	xlogCheckpointOnline   = 0x10
	xlogSwitch             = 0x40
	xlogRestorePoint       = 0x70
	xlogEndOfRecovery      = 0x90

	xactMask           = 0x70
	xactCommit         = 0x00
	xactAbort          = 0x20
	xactCommitPrepared = 0x30
	xactAbortPrepared  = 0x40
	xactHasInfo        = 0x80
)

// kept is how much of a record of a manager has to be kept.
func kept(manager, info uint8) uint32 {
	switch manager {
	case managerTransaction:
		switch info & xactMask {
		case xactCommitPrepared, xactAbortPrepared:
			return keepMax
		case xactCommit, xactAbort:
			return recordHeader + 64
		}
	case managerXLOG:
		switch info &^ 0x0F {
		case xlogCheckpointShutdown, xlogCheckpointOnline, xlogRestorePoint, xlogEndOfRecovery:
			return recordHeader + 256
		}
	}
	return recordHeader
}

// timeOf is a TimestampTz: microseconds since 2000.
func timeOf(v uint64) time.Time {
	return time.Unix(946684800, 0).UTC().Add(micros(int64(v)))
}

// micros is a duration that does not overflow; what lies beyond some 290 years
// is no time of a record that anybody wrote.
func micros(v int64) time.Duration {
	const most = int64(1<<63-1) / int64(time.Microsecond)
	return time.Duration(max(-most, min(most, v))) * time.Microsecond
}

// decode fills in what the kept bytes of a record say; header included.
func (r *Record) decode(b []byte, version int) {
	data, ok := mainData(b[recordHeader:])
	d := &fields{b: data, bad: !ok}
	switch {
	case r.Manager == managerTransaction:
		r.transaction(d, version)
	case r.Manager == managerXLOG && r.Info&^0x0F == xlogRestorePoint:
		r.Kind, r.Time = RestorePoint, timeOf(d.u64())
		name, _, _ := bytes.Cut(d.take(64), []byte{0})
		r.Name = string(name)
	case r.Manager == managerXLOG && r.Info&^0x0F == xlogEndOfRecovery:
		r.Kind, r.Time = EndOfRecovery, timeOf(d.u64())
		r.Timeline, r.PrevTimeline = d.u32(), d.u32()
	case r.Manager == managerXLOG && (r.Info&^0x0F == xlogCheckpointOnline || r.Info&^0x0F == xlogCheckpointShutdown):
		r.Kind, r.Redo = Checkpoint, LSN(d.u64())
		r.Timeline, r.PrevTimeline = d.u32(), d.u32()
		d.take(48) // full_page_writes, counters of transactions, objects and multixacts
		r.Time = time.Unix(int64(d.u64()), 0).UTC()
	case r.Manager == managerXLOG && r.Info&^0x0F == xlogSwitch:
		r.Kind = SwitchSegment
	}
	// A record that is too short for its kind is none of that kind; of a
	// prepared transaction the number may be missing.
	if d.bad && r.Kind != SwitchSegment && (r.Time.IsZero() || r.Manager == managerXLOG) {
		*r = Record{LSN: r.LSN, End: r.End, Prev: r.Prev, Length: r.Length, Manager: r.Manager, Info: r.Info, XID: r.XID}
	}
}

// What follows in a commit or abort record, by a bit for each.
const (
	hasDatabase = 1 << iota
	hasSubtransactions
	hasFiles
	hasInvalidations
	hasTwoPhase
	_ // origin
	_ // AccessExclusive locks
	_ // name of the prepared transaction
	hasStatistics
)

func (r *Record) transaction(d *fields, version int) {
	op := r.Info & xactMask
	switch op {
	case xactCommit, xactCommitPrepared:
		r.Kind = Commit
	case xactAbort, xactAbortPrepared:
		r.Kind = Abort
	default:
		return
	}
	at := d.u64()
	if d.bad {
		return // and it is taken for Other
	}
	r.Time = timeOf(at)
	if op == xactCommit || op == xactAbort {
		return
	}
	r.XID = 0
	if r.Info&xactHasInfo == 0 {
		return
	}
	has := d.u32()
	if has&hasDatabase != 0 {
		d.take(8)
	}
	if has&hasSubtransactions != 0 {
		d.list(4)
	}
	if has&hasFiles != 0 {
		d.list(12)
	}
	if has&hasStatistics != 0 {
		if version >= 18 {
			d.list(16)
		} else {
			d.list(12)
		}
	}
	if has&hasInvalidations != 0 && r.Kind == Commit {
		d.list(16)
	}
	if has&hasTwoPhase != 0 {
		if xid := d.u32(); !d.bad {
			r.XID = xid
		}
	}
}

// mainData finds the main data of a record whose bytes behind the header are
// b, or begin with them. Records that are understood here refer to no block.
func mainData(b []byte) ([]byte, bool) {
	for len(b) > 0 {
		var skip int
		switch b[0] {
		case 255: // length in one byte
			if len(b) < 2 {
				return nil, false
			}
			return b[2:min(len(b), 2+int(b[1]))], true
		case 254: // length in four
			if len(b) < 5 {
				return nil, false
			}
			n := uint64(binary.LittleEndian.Uint32(b[1:]))
			return b[5:min(uint64(len(b)), 5+n)], true
		case 253: // origin of replication
			skip = 3
		case 252: // top-level transaction
			skip = 5
		default:
			return nil, false
		}
		if len(b) < skip {
			return nil, false
		}
		b = b[skip:]
	}
	return nil, false
}

// fields reads numbers one after the other; behind the end they are 0, and bad
// is set.
type fields struct {
	b   []byte
	bad bool
}

func (f *fields) take(n uint64) []byte {
	if uint64(len(f.b)) < n {
		f.b, f.bad = nil, true
		return nil
	}
	out := f.b[:n]
	f.b = f.b[n:]
	return out
}

func (f *fields) u32() uint32 {
	if b := f.take(4); b != nil {
		return binary.LittleEndian.Uint32(b)
	}
	return 0
}

func (f *fields) u64() uint64 {
	if b := f.take(8); b != nil {
		return binary.LittleEndian.Uint64(b)
	}
	return 0
}

// list skips a counted list of entries of so many bytes.
func (f *fields) list(size uint64) { f.take(uint64(f.u32()) * size) }
