package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/backup/postgres/internal/tape"
)

// How much goes into one segment of a log: what comes slowly is sealed when it
// is so much, or so old; what has piled up goes in larger pieces, since a
// request takes the same time whatever it carries.
const (
	sealSize = 1 << 20
	pileSize = 8 << 20
)

// A shipper puts what the tape has into one log.
type shipper struct {
	r     *Receiver
	log   *backup.Log
	index int

	// Of run alone.
	known    map[uint32]bool // timelines whose origin the log has
	place    place           // behind what was shipped last; timeline 0: not known
	compared bool            // with echo
	failing  bool
	overlaps int

	echo *echo // nil: none; not changed once there are frames

	// Guarded by r.mu.
	next       int64 // number of the first frame that is not in the log, whole
	durable    LSN   // the log has all before
	lastCommit time.Time
	err        error // of the last attempt
}

// run ships until ctx ends, or with an error that waiting does not mend.
func (s *shipper) run(ctx context.Context) error {
	wait := newBackoff()
	for {
		if err := s.r.tape.Wait(ctx, s.next); err != nil {
			return err
		}
		err := s.ship(ctx)
		if f, ok := errors.AsType[*fatal](err); ok {
			return f.error
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		s.note(err)
		if err != nil {
			wait.sleep(ctx)
			continue
		}
		wait.reset()
	}
}

// note keeps what became of an attempt.
func (s *shipper) note(err error) {
	s.r.mu.Lock()
	s.err = err
	s.r.mu.Unlock()
	if (err != nil) == s.failing {
		return
	}
	s.failing = err != nil
	kind := EventStoreBack
	if s.failing {
		kind = EventStoreFailed
	}
	s.r.event(Event{Kind: kind, Timeline: s.place.timeline, At: s.place.at, Repository: s.index, Err: err})
}

// ship puts the next piece into the log, when it is time to.
func (s *shipper) ship(ctx context.Context) error {
	if err := s.compare(ctx); err != nil {
		return err
	}
	f, ok := s.r.tape.Frame(s.next)
	if !ok {
		return nil
	}
	if p := s.place; p.timeline != f.Timeline || p.at < LSN(f.From) || p.at >= LSN(f.To) {
		if skipped, err := s.align(ctx, f); skipped || err != nil {
			return err
		}
	}
	last, err := s.gather(ctx)
	if err != nil {
		return err
	}
	seg := backup.Segment{Branch: f.Timeline, From: uint64(s.place.at)}
	var data []byte
	for n := s.next; n <= last; n++ {
		f, _ := s.r.tape.Frame(n)
		if data, err = s.r.tape.Read(data, n); err != nil {
			return &fatal{err}
		}
		addTimes(&seg, f)
		seg.To = f.To
	}
	data = data[s.place.at-LSN(f.From):]
	err = s.log.Append(ctx, seg, data)
	switch {
	case errors.Is(err, backup.ErrSplit):
		return s.split(err)
	case errors.Is(err, backup.ErrOverlap):
		return s.overlapped(err)
	case err != nil:
		return err
	}
	s.overlaps = 0
	s.shipped(last+1, place{seg.Branch, LSN(seg.To)}, LSN(seg.To), seg.Last)
	return nil
}

func addTimes(seg *backup.Segment, f tape.Frame) {
	if f.First.IsZero() {
		return
	}
	if seg.First.IsZero() || f.First.Before(seg.First) {
		seg.First = f.First
	}
	if f.Last.After(seg.Last) {
		seg.Last = f.Last
	}
}

// shipped records that the frames before next are in the log, which are those
// before p, and that it has all before durable.
func (s *shipper) shipped(next int64, p place, durable LSN, commit time.Time) {
	r := s.r
	s.place = p
	r.mu.Lock()
	s.next, s.durable = next, durable
	if !commit.IsZero() {
		s.lastCommit = commit
	}
	least := next
	for _, o := range r.shippers {
		least = min(least, o.next)
	}
	r.mu.Unlock()
	if err := r.tape.Trim(least); err != nil {
		r.c.Logger.Warn("WAL receiver: what was stored stays in the spool", "error", err)
	}
	select {
	case r.stored <- struct{}{}:
	default:
	}
}

// gather waits until a piece is to be sealed, and returns the number of its
// last frame.
func (s *shipper) gather(ctx context.Context) (int64, error) {
	t := s.r.tape
	first, _ := t.Frame(s.next)
	for {
		last, size, closed := s.piece()
		due := s.due(first)
		if closed || size >= sealSize || !time.Now().Before(due) {
			return last, nil
		}
		// The server may become impatient meanwhile.
		ctx, cancel := context.WithTimeout(ctx, min(time.Until(due), 100*time.Millisecond))
		err := t.Wait(ctx, last+1)
		cancel()
		if err != nil && !errors.Is(err, context.DeadlineExceeded) {
			return 0, err
		}
	}
}

// due says when a piece that begins with a frame is to be sealed: at once if
// somebody waits for it.
func (s *shipper) due(first tape.Frame) time.Time {
	r := s.r
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.state.Synchronous && r.c.Acknowledge != Spooled || !r.hurry.Before(first.Received) {
		return time.Time{}
	}
	return first.Received.Add(r.c.Seal)
}

// piece returns the last frame that can go into one segment with the next one,
// how many bytes that is, and whether no more can be added.
func (s *shipper) piece() (last, size int64, closed bool) {
	first, _ := s.r.tape.Frame(s.next)
	last, size = s.next, int64(first.To-first.From)
	end := first.To
	for {
		f, ok := s.r.tape.Frame(last + 1)
		if !ok {
			return last, size, false
		}
		if f.Timeline != first.Timeline || f.From != end || size+int64(f.To-f.From) > pileSize {
			return last, size, true
		}
		last, size, end = last+1, size+int64(f.To-f.From), f.To
	}
}

// start records where a timeline and its ancestors come from.
func (s *shipper) start(ctx context.Context, lin lineage) error {
	for _, b := range lin.branches(s.r.tape.History) {
		if s.known[b.Branch] {
			continue
		}
		err := s.log.StartBranch(ctx, b)
		if errors.Is(err, backup.ErrSplit) {
			return s.split(err)
		}
		if err != nil {
			return err
		}
		if s.known == nil {
			s.known = map[uint32]bool{}
		}
		s.known[b.Branch] = true
	}
	return nil
}

// end finds out how far the log goes on a timeline and those it comes from: to
// where the last position is that it has. 0 if it has nothing.
func (s *shipper) end(ctx context.Context, timeline uint32) (LSN, error) {
	c, err := s.log.Coverage(ctx, timeline, 0, 0)
	if err != nil || c.Segments == 0 {
		return 0, err
	}
	if len(c.Gaps) == 0 {
		return LSN(c.End), nil
	}
	// Behind the last gap, unless nothing follows it.
	g := c.Gaps[len(c.Gaps)-1]
	after, err := s.log.Coverage(ctx, timeline, g.To, 0)
	if err != nil {
		return 0, err
	}
	if after.End > g.To {
		return LSN(after.End), nil
	}
	from := g.From
	for i := len(c.Gaps) - 2; i >= 0 && c.Gaps[i].To == from; i-- {
		from = c.Gaps[i].From
	}
	return LSN(from), nil
}

// align finds out what of a frame the log has already, and that it has what
// comes before. skipped tells that it has the frame, whole.
func (s *shipper) align(ctx context.Context, f tape.Frame) (skipped bool, err error) {
	lin, err := parseLineage(f.Timeline, s.r.tape.History(f.Timeline))
	if err != nil {
		return false, &fatal{err}
	}
	if err := s.start(ctx, lin); err != nil {
		return false, err
	}
	c, err := s.log.Coverage(ctx, f.Timeline, f.From, 0)
	if err != nil {
		return false, err
	}
	if c.End > f.From {
		next, reach := s.next, f.To
		for reach <= c.End {
			next++
			g, ok := s.r.tape.Frame(next)
			if !ok || g.Timeline != f.Timeline || g.From != reach {
				break
			}
			reach = g.To
		}
		p := place{f.Timeline, LSN(min(c.End, reach))}
		if next > s.next {
			s.shipped(next, p, LSN(c.End), c.Last)
			return true, nil
		}
		s.place = p
		return false, nil
	}
	if err := s.whole(ctx, f); err != nil {
		return false, err
	}
	s.place = place{f.Timeline, LSN(f.From)}
	return false, nil
}

// whole checks that the log has what comes before a frame, or has nothing yet.
func (s *shipper) whole(ctx context.Context, f tape.Frame) error {
	if f.From == 0 {
		return nil
	}
	before, err := s.log.Coverage(ctx, f.Timeline, f.From-1, f.From)
	if err != nil || len(before.Gaps) == 0 {
		return err
	}
	end, err := s.end(ctx, f.Timeline)
	if err != nil || end == 0 || uint64(end) > f.From {
		return err // it has nothing yet; or the frame fills a gap
	}
	g := &GapError{s.index, s.log.Name(), f.Timeline, end, LSN(f.From)}
	s.r.gap(g)
	if s.r.c.OnGap == nil {
		return &fatal{g}
	}
	if err := s.r.c.OnGap(ctx, *g); err != nil {
		return &fatal{errors.Join(g, err)}
	}
	return nil
}

// overlapped goes on where another writer's segments end, unless nothing comes
// of it.
func (s *shipper) overlapped(err error) error {
	s.r.event(Event{Kind: EventOverlap, Timeline: s.place.timeline, At: s.place.at, Repository: s.index, Err: err})
	if s.overlaps++; s.overlaps > 100 {
		return &fatal{fmt.Errorf("another writer keeps the log of repository %d: %w", s.index, err)}
	}
	s.place = place{}
	return nil
}
