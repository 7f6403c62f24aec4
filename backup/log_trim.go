package backup

import (
	"context"
	"encoding/binary"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"
)

// A LogPosition is what a point needs of a log: to restore it, the log is read
// from From on, and the result is consistent from Consistent on.
type LogPosition struct {
	Log        string `json:"log"` // its name
	Branch     uint32 `json:"branch"`
	From       uint64 `json:"from"`
	Consistent uint64 `json:"consistent"` // not below From
}

const maxLogPositions = 64

// NeedLog records that the point needs a log from a position on. No position
// may be older than what the log's source was writing when the session began:
// [Log.Trim] relies on that. Whether the log holds it is for the target to
// find out, see [Session.Log].
func (s *Session) NeedLog(p LogPosition) error {
	if p.Log == "" || len(p.Log) > maxLogName || !printable(p.Log) || p.Branch == 0 || p.From > p.Consistent {
		return fmt.Errorf("need log %.80q, branch %d, %d to %d: want the name of a log, a branch, and From not above Consistent", p.Log, p.Branch, p.From, p.Consistent)
	}
	if len(s.logs) == maxLogPositions {
		return fmt.Errorf("need log: a point needs at most %d", maxLogPositions)
	}
	s.logs = append(s.logs, p)
	return nil
}

// Log returns a log of the session's repository.
func (s *Session) Log(name string) (*Log, error) { return s.p.r.Log(name) }

// Log returns a log of the point's repository; [Point.Logs] says what is
// needed of it.
func (v *View) Log(name string) (*Log, error) { return v.r.Log(name) }

// A logNeed is a LogPosition as whoever has the index key can read it.
type logNeed struct {
	log        [16]byte
	branch     uint32
	from       uint64
	consistent uint64
	stored     time.Time // when the point was
}

func (k *keys) appendLogNeeds(b []byte, logs []LogPosition) []byte {
	b = binary.AppendUvarint(b, uint64(len(logs)))
	for _, p := range logs {
		id := k.logID(p.Log)
		b = append(b, id[:]...)
		b = binary.AppendUvarint(b, uint64(p.Branch))
		b = binary.AppendUvarint(b, p.From)
		b = binary.AppendUvarint(b, p.Consistent)
	}
	return b
}

func (d *decoder) logNeeds() (out []logNeed) {
	for n := d.count("logs", 19); n > 0 && d.err == nil; n-- {
		var p logNeed
		copy(p.log[:], d.take("log", 16))
		p.branch = uint32(d.uint("branch", math.MaxUint32))
		p.from = d.uint("position", math.MaxUint64)
		p.consistent = d.uint("position", math.MaxUint64)
		out = append(out, p)
	}
	return out
}

// TrimOptions say how to trim. The zero value is good.
type TrimOptions struct {
	DryRun bool // changes nothing: the report tells what would be done
}

// TrimReport tells what [Log.Trim] has done.
type TrimReport struct {
	Points  int            `json:"points"`            // that need the log
	Oldest  []LogPosition  `json:"oldest,omitempty"`  // the position of each branch below which nothing is needed
	Deleted LogAmount      `json:"deleted"`           // or, in a dry run, to be deleted
	Waiting []OpenSession  `json:"waiting,omitempty"` // backups whose point may need what no other does; nothing was trimmed
	Locked  []LockedObject `json:"locked,omitempty"`  // segments that the store will not delete yet
}

// trimMargin is how much later than a point a session must have begun, by the
// store's clock, for it to be certain that it needs no older positions.
const trimMargin = time.Hour

// Trim deletes segments that no point needs any more: those that lie wholly
// below the oldest position that a point on their branch needs, and those of
// branches that are left, where all points are on branches that came of them.
// While no point needs the log, nothing is deleted, nor from branches of
// which it is not certain where points there would begin.
//
// It may run beside backups and all that can be done with a log, and can be
// killed at any moment. It never waits: a backup under way that may come to
// need an older position is reported, and nothing is trimmed. It does
// nothing, with an error wrapping [ErrDamaged], if it cannot read what some
// point needs. Prune does not trim.
func (l *Log) Trim(ctx context.Context, o TrimOptions) (TrimReport, error) {
	rep, err := l.trim(ctx, o)
	if err != nil {
		return rep, fmt.Errorf("trim log %q: %w", l.name, err)
	}
	return rep, nil
}

func (l *Log) trim(ctx context.Context, o TrimOptions) (rep TrimReport, err error) {
	if err := l.r.readable(); err != nil {
		return rep, err
	}
	// In this order: what is listed before the sessions was written before any
	// session that is not listed, and what sessions that have ended need is in
	// the manifests that are read after that.
	numbers, err := l.branches(ctx)
	if err != nil {
		return rep, err
	}
	listed := map[uint32][]storedSpan{}
	for _, b := range numbers {
		if listed[b], err = l.spans(ctx, span{b, 0, math.MaxUint64}); err != nil {
			return rep, err
		}
	}
	open, err := l.r.openSessions(ctx)
	if err != nil {
		return rep, err
	}
	needs, err := l.needs(ctx)
	if err != nil || len(needs) == 0 {
		return rep, err
	}
	rep.Points = len(needs)
	floors, err := l.floors(ctx, numbers, needs)
	if err != nil {
		return rep, err
	}
	var decided time.Time // when the youngest of the points that decide was stored
	for _, b := range slices.Sorted(maps.Keys(floors)) {
		f := floors[b]
		rep.Oldest = append(rep.Oldest, LogPosition{Log: l.name, Branch: b, From: f.at, Consistent: f.at})
		if f.stored.After(decided) {
			decided = f.stored
		}
	}
	// Who began well after that needs nothing older than those points do.
	for _, id := range slices.Sorted(maps.Keys(open)) {
		if !open[id].After(decided.Add(trimMargin)) {
			rep.Waiting = append(rep.Waiting, OpenSession{id, open[id]})
		}
	}
	if len(rep.Waiting) > 0 {
		return rep, nil
	}
	for _, b := range numbers {
		for _, f := range listed[b] { // the oldest first, so that what is left has no gap
			if floor, ok := floors[b]; !ok || f.to > floor.at {
				continue
			}
			if err := l.trimOne(ctx, f, o, &rep); err != nil {
				return rep, err
			}
		}
	}
	return rep, ctx.Err()
}

func (l *Log) trimOne(ctx context.Context, f storedSpan, o TrimOptions, rep *TrimReport) error {
	locked, err := l.locked(ctx, f)
	if err == nil && locked == nil && !o.DryRun {
		locked, err = l.remove(ctx, f)
	}
	switch {
	case err != nil:
		return err
	case locked != nil:
		rep.Locked = append(rep.Locked, *locked)
	default:
		rep.Deleted.add(f.size)
	}
	return nil
}

// needs reads what all points need of the log.
func (l *Log) needs(ctx context.Context) (out []logNeed, err error) {
	id := l.r.keys.logID(l.name)
	for m, err := range l.r.manifests(ctx) {
		if err != nil {
			return nil, err
		}
		if m.point.Damaged != "" {
			return nil, fmt.Errorf("%w: what point %s needs cannot be found out; see Check, and Forget it if it is lost: %s", ErrDamaged, m.point.ID, m.point.Damaged)
		}
		for _, n := range m.logs {
			if n.log == id {
				n.stored = m.point.Stored
				out = append(out, n)
			}
		}
	}
	return out, nil
}

// A floor is the position of a branch below which nothing is needed, and when
// the point was stored that needs it.
type floor struct {
	at     uint64
	stored time.Time
}

func (l *Log) floors(ctx context.Context, branches []uint32, needs []logNeed) (map[uint32]floor, error) {
	floors := map[uint32]floor{}
	lower := func(branch uint32, f floor) {
		if was, ok := floors[branch]; !ok || f.at < was.at || f.at == was.at && f.stored.Before(was.stored) {
			floors[branch] = f
		}
	}
	all := slices.Clone(branches)
	for _, n := range needs {
		all = append(all, n.branch)
	}
	slices.Sort(all)
	for _, b := range slices.Compact(all) {
		way, err := l.way(ctx, b, 0)
		if err != nil {
			return nil, err
		}
		ancestors := way[:len(way)-1]
		for _, n := range needs {
			if n.branch == b {
				lower(b, floor{n.from, n.stored})
				for _, g := range ancestors { // left for this branch
					lower(g.branch, floor{n.from, n.stored})
				}
				continue
			}
			// Whoever restores the point can go on to a branch that came of
			// the point's later, and needs all of that.
			for i, g := range ancestors {
				if g.branch == n.branch && n.from < g.hi {
					for _, later := range way[i+1:] {
						lower(later.branch, floor{})
					}
				}
			}
		}
	}
	return floors, nil
}
