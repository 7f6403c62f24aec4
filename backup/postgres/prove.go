package postgres

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strconv"
	"time"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/backup/postgres/internal/wal"
)

// prove makes certain that the log has the WAL that leads from a backup to a
// target, and that recovery ends there. A [refusal] says why not.
func (t *timelines) prove(ctx context.Context, b base, target target) (*recovery, error) {
	r := &recovery{log: t.log, b: b, target: target}
	for _, n := range t.numbers {
		if x := t.branches[n]; len(x.History) > 0 {
			r.known = append(r.known, x)
		}
	}
	if err := r.follow(t); err != nil {
		return nil, err
	}
	var to wal.LSN
	if target.consistent {
		to = b.Stop
	}
	c, err := t.log.Coverage(ctx, r.timeline(), uint64(b.floor(b.Start)), uint64(to))
	if err != nil {
		return nil, err
	}
	r.end = wal.LSN(c.End)
	switch {
	case r.end < b.Stop:
		return nil, refuse("%w: the backup is consistent with the WAL from %v to %v, and log %q has it up to %v only", backup.ErrGap, b.Start, b.Stop, t.log.Name(), r.end)
	case target.end() && len(c.Gaps) > 0:
		return nil, r.gap(c)
	case target.end(): // or where the backup is consistent
		r.arrive(r.end)
		r.way = r.way[:r.turns]
		return r, nil
	}
	end, err := r.reach(ctx, c)
	if err != nil {
		return nil, err
	}
	r.arrive(min(r.end, end))
	if !r.goesOn() {
		r.end = min(r.end, end)
		r.way = r.way[:r.turns]
	}
	return r, nil
}

// goesOn reports whether somebody may look at what is restored, and then have
// it recover further, as he can who did not want it to promote at the target.
func (r *recovery) goesOn() bool {
	return !r.target.end() && r.target.action != "" && r.target.action != "promote"
}

// arrive counts the timelines of the way that begin before the target. A
// server that was told to follow those behind it, too, would write into the
// history of its new timeline that it has left them, at a position where they
// had not begun. The summarizer of 17 then waits for ever, and keeps all WAL.
func (r *recovery) arrive(end wal.LSN) {
	r.turns = 0
	for _, b := range r.way {
		if wal.LSN(b.At) < end {
			r.turns++
		}
	}
}

// gap says what is missing first.
func (r *recovery) gap(c backup.Coverage) error {
	g, more := c.Gaps[0], ""
	if n := len(c.Gaps) - 1; n > 0 {
		more = fmt.Sprintf(", and %d further gaps", n)
	}
	return refuse("%w: %v to %v on timeline %d in log %q%s", backup.ErrGap, wal.LSN(g.From), wal.LSN(g.To), g.Branch, r.log.Name(), more)
}

// follow finds the way to the timeline that is wanted.
func (r *recovery) follow(t *timelines) (err error) {
	switch {
	case r.target.timeline != 0:
		r.way, err = t.way(r.b, r.target.timeline)
	case !r.target.current && !r.target.consistent:
		r.way, err = t.latest(r.b)
	}
	return err
}

// reach proves that recovery ends at a target within what the log has, and
// says which WAL it reads until then.
func (r *recovery) reach(ctx context.Context, c backup.Coverage) (end wal.LSN, err error) {
	t := r.target
	switch {
	case t.lsn != 0 && t.lsn < r.b.Stop:
		return 0, refuse("target %v lies before %v, where this backup is consistent; take an older one", t.lsn, r.b.Stop)
	case t.lsn >= r.end && len(c.Gaps) > 0:
		return 0, refuse("%w; target %v", r.gap(c), t.lsn)
	case t.lsn >= r.end:
		return 0, refuse("%w: target %v, log %q ends at %v", backup.ErrGap, t.lsn, r.log.Name(), r.end)
	case t.lsn != 0:
		return r.reachRecord(ctx, c, wal.Stop{LSN: t.lsn, Exclusive: t.exclusive}, t.lsn)
	case t.xid != "":
		// As the server does, which leaves the epoch out.
		n, err := strconv.ParseUint(t.xid, 10, 64)
		if err != nil || uint32(n) == 0 {
			return 0, refuse("target transaction %.40q: no transaction has that number", t.xid)
		}
		return r.reachRecord(ctx, c, wal.Stop{XID: uint32(n), Exclusive: t.exclusive}, r.b.Start)
	case t.name != "":
		return r.reachRecord(ctx, c, wal.Stop{Name: t.name}, r.b.Start)
	}
	return r.reachTime(ctx, c)
}

// reachRecord finds the record that ends recovery, in the WAL from a position on.
func (r *recovery) reachRecord(ctx context.Context, c backup.Coverage, stop wal.Stop, from wal.LSN) (end wal.LSN, err error) {
	for rec, err := range r.records(ctx, from, r.end) {
		if err != nil {
			return 0, err
		}
		switch {
		case stop.Before(rec) && rec.LSN < r.b.Stop, stop.After(rec) && rec.End < r.b.Stop:
			return 0, refuse("target %s is at %v, before %v, where this backup is consistent; take an older one", r.target, rec.LSN, r.b.Stop)
		case stop.Before(rec), stop.After(rec):
			return rec.End, nil
		}
	}
	switch {
	case len(c.Gaps) > 0:
		return 0, refuse("%w; target %s is not in the WAL before", r.gap(c), r.target)
	case stop.LSN != 0: // the record that begins there has more to come
		return 0, refuse("%w: target %s, log %q ends at %v", backup.ErrGap, r.target, r.log.Name(), r.end)
	}
	return 0, refuse("target %s is not in the WAL behind this backup, which log %q has from %v to %v", r.target, r.log.Name(), r.b.Start, r.end)
}

// Clocks of the server and of who made the backup differ by no more than this.
// Further from the backup, the WAL that belongs to it is not looked at.
const clockSkew = time.Hour

// reachTime proves it for a time: recovery ends at the first commit behind it,
// so there has to be one, and none before all is consistent.
func (r *recovery) reachTime(ctx context.Context, c backup.Coverage) (end wal.LSN, err error) {
	t := r.target.at
	switch {
	case t.Before(r.b.Began):
		return 0, refuse("target %s lies before this backup, which began at %s; take an older one", stamp(t), stamp(r.b.Began))
	case len(c.Gaps) > 0 && c.Last.IsZero():
		return 0, refuse("%w; there is no commit before, target %s", r.gap(c), stamp(t))
	case len(c.Gaps) > 0 && !r.target.behind(c.Last):
		return 0, refuse("%w; the last commit before is of %s, target %s", r.gap(c), stamp(c.Last), stamp(t))
	case c.Last.IsZero():
		return 0, refuse("target %s: there is no commit in the WAL behind the backup, up to %v; restore without a target", stamp(t), r.end)
	case !r.target.behind(c.Last):
		return 0, refuse("target %s is not before the last commit in log %q, at %s; restore without a target for all there is", stamp(t), r.log.Name(), stamp(c.Last))
	}
	if t.Before(r.b.Ended.Add(clockSkew)) {
		if err := r.checkBegin(ctx); err != nil {
			return 0, err
		}
	}
	return r.commitBehind(ctx, fewBytes)
}

// behind reports whether a commit of that moment ends recovery.
func (t target) behind(commit time.Time) bool {
	return commit.After(t.at) || t.exclusive && commit.Equal(t.at)
}

// checkBegin compares a time with the clock of the server, in the WAL that was
// written during the backup: what was committed before that is in its files.
func (r *recovery) checkBegin(ctx context.Context) error {
	stop := wal.Stop{Time: r.target.at, Exclusive: r.target.exclusive}
	var doubt error  // that the server's clock was behind the target when the backup began
	certain := false // that it was
	for rec, err := range r.records(ctx, r.b.Start, r.end) {
		if certain {
			doubt = nil
		}
		switch {
		case err != nil:
			return err
		case stop.Before(rec) && rec.LSN < r.b.Stop:
			return refuse("target %s lies before the commit at %v, of %s, and this backup is consistent at %v; take an older one",
				stamp(r.target.at), rec.LSN, stamp(rec.Time), r.b.Stop)
		case rec.LSN >= r.b.Stop && doubt == nil, stop.Before(rec):
			return doubt
		case rec.Kind == wal.Checkpoint && rec.Redo == r.b.Start && r.target.at.Before(rec.Time.Add(2*time.Second)):
			// Its time was taken before the moment that it stands for, in seconds.
			doubt = refuse("target %s is about when this backup began, with a checkpoint at %s by the server's clock; take an older one",
				stamp(r.target.at), stamp(rec.Time))
		case (rec.Kind == wal.Commit || rec.Kind == wal.Abort) && rec.Time.Add(100*time.Millisecond).Before(r.target.at):
			certain = true // but for one that was overtaken so long
		}
	}
	return doubt
}

// records are those of the WAL that recovery reads which begin between two
// positions. What is not whole before to is left out.
func (r *recovery) records(ctx context.Context, from, to wal.LSN) iter.Seq2[wal.Record, error] {
	return func(yield func(wal.Record, error) bool) {
		page := max(from&^(walPage-1), r.b.floor(r.b.Start))
		if page >= to {
			return
		}
		in, err := r.log.Open(ctx, r.timeline(), uint64(page), uint64(to))
		if err != nil {
			yield(wal.Record{}, err)
			return
		}
		defer in.Close()
		config := wal.Config{Start: page, SegmentSize: r.b.Segment, System: r.b.System, Timeline: r.timeline()}
		for rec, err := range wal.Records(in, config) {
			if errors.Is(err, wal.ErrEnd) || errors.Is(err, wal.ErrInvalid) { // recovery ends there, too
				err = refuse("log %q: %w", r.log.Name(), err)
			}
			if err == nil && rec.LSN < from {
				continue
			}
			if !yield(rec, err) || err != nil {
				return
			}
		}
	}
}

const walPage = 8 << 10

// A leg is WAL of one timeline, without what it has of others.
type leg struct {
	timeline uint32
	from, to wal.LSN
}

// legs are those of the WAL behind the backup.
func (r *recovery) legs() (out []leg) {
	at := leg{r.b.Timeline, r.b.Start, r.end}
	for _, b := range r.way {
		next := leg{b.Branch, max(at.from, wal.LSN(b.At)), r.end}
		at.to = min(next.from, r.end)
		out = append(out, at)
		at = next
	}
	return append(out, at)
}

// commitBehind finds the segment of the log that has the commit with which
// recovery ends: no more WAL is read.
func (r *recovery) commitBehind(ctx context.Context, few wal.LSN) (end wal.LSN, err error) {
	for _, l := range r.legs() {
		if l.from >= l.to {
			continue
		}
		from, err := r.skip(ctx, l, few)
		if err != nil {
			return 0, err
		}
		for s, err := range r.log.Segments(ctx, l.timeline, uint64(from), uint64(l.to)) {
			if err != nil {
				return 0, err
			}
			if s.Last.IsZero() || !r.target.behind(s.Last) {
				continue
			}
			if wal.LSN(s.To) > l.to {
				// The timeline was written to behind where it was left.
				if found, err := r.endsBefore(ctx, max(l.from, wal.LSN(s.From)-min(wal.LSN(s.From), 1<<20)), l.to); err != nil {
					return 0, err
				} else if !found {
					break
				}
			}
			return min(max(wal.LSN(s.To), r.b.Stop), l.to), nil
		}
	}
	return r.end, nil
}

// endsBefore reports whether the record that ends recovery is between two
// positions.
func (r *recovery) endsBefore(ctx context.Context, from, to wal.LSN) (bool, error) {
	stop := wal.Stop{Time: r.target.at, Exclusive: r.target.exclusive}
	for rec, err := range r.records(ctx, from, to) {
		if err != nil || stop.Before(rec) {
			return err == nil, err
		}
	}
	return false, nil
}

const (
	overtaking = time.Minute // a commit record may be behind one that is so much later
	fewBytes   = 64 << 20    // segments of so much WAL are looked at one by one
)

// skip returns a position of a leg before which all commits are before the
// target.
func (r *recovery) skip(ctx context.Context, l leg, few wal.LSN) (wal.LSN, error) {
	lo, hi := l.from, l.to
	for hi > lo && hi-lo > few {
		mid := lo + (hi-lo)/2
		s, err := r.commitAt(ctx, l.timeline, mid, hi)
		if err != nil {
			return 0, err
		}
		if s.Last.IsZero() || !s.Last.Add(overtaking).Before(r.target.at) {
			hi = mid
		} else {
			lo = max(mid, wal.LSN(s.To))
		}
	}
	return lo, nil
}

// commitAt is the first segment from a position on that has a commit.
func (r *recovery) commitAt(ctx context.Context, timeline uint32, from, to wal.LSN) (backup.Segment, error) {
	for s, err := range r.log.Segments(ctx, timeline, uint64(from), uint64(to)) {
		if err != nil || !s.Last.IsZero() {
			return s, err
		}
	}
	return backup.Segment{}, nil
}

// lastRecord is where the last record begins that is whole in the WAL up to a
// position; 0 if there is none.
func (r *recovery) lastRecord(ctx context.Context) (at wal.LSN, err error) {
	for size := wal.LSN(256 << 10); ; size *= 8 {
		from := r.b.Start
		if r.end > from+size {
			from = r.end - size
		}
		for rec, err := range r.records(ctx, from, r.end) {
			if _, bad := errors.AsType[*refusal](err); bad {
				break
			}
			if err != nil {
				return 0, err
			}
			at = rec.LSN
		}
		if at != 0 || from == r.b.Start {
			return at, nil
		}
	}
}
