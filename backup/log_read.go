package backup

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/holdfast-go/holdfast/provider"
)

// A Gap is positions that are not in a log.
type Gap struct {
	Branch   uint32
	From, To uint64 // half-open
}

// Coverage says which positions a log holds.
type Coverage struct {
	// End is the durable end: all from the position asked for up to here is
	// there. It is that position itself if nothing is.
	End uint64

	Gaps []Gap // in ascending order; see [Log.Coverage]

	// First and Last are the times of the first and the last commit between
	// the position asked for and End; zero if there is none. Segments that
	// cannot tell because they are damaged are left out.
	First, Last time.Time

	Segments int   // of which this was found out
	Bytes    int64 // of their objects
}

// Coverage finds out whether a log holds the positions of a branch between
// two: what lies before the branch began, on the branches it comes from. With
// to zero it asks for all there is; what is missing at the end of the branch
// is then no gap.
//
// It relies on what the store lists and decrypts only the segments that tell
// the times of commits, so it takes little more than a List request for each
// 1,000 segments. Asked at a standby's store, End and Last tell how much would be
// lost with the primary.
func (l *Log) Coverage(ctx context.Context, branch uint32, from, to uint64) (Coverage, error) {
	if to != 0 && from > to || branch == 0 {
		return Coverage{}, fmt.Errorf("coverage of log %q: branch %d, %d to %d: want a branch, and from not above to", l.name, branch, from, to)
	}
	var last Coverage
	for try := range 5 {
		c, used, err := l.cover(ctx, branch, from, to)
		if err != nil {
			return Coverage{}, fmt.Errorf("coverage of log %q: %w", l.name, err)
		}
		// A listing may miss what is compacted while it runs.
		if len(c.Gaps) > 0 && (try == 0 || !slices.Equal(c.Gaps, last.Gaps)) {
			last = c
			continue
		}
		err = l.commits(ctx, &c, used)
		if errors.Is(err, provider.ErrNotFound) {
			continue
		}
		if err != nil {
			return Coverage{}, fmt.Errorf("coverage of log %q: %w", l.name, err)
		}
		return c, nil
	}
	return Coverage{}, fmt.Errorf("coverage of log %q: segments keep vanishing while they are listed", l.name)
}

// cover compares a listing with what is asked for. used are the segments
// before the first gap.
func (l *Log) cover(ctx context.Context, branch uint32, from, to uint64) (c Coverage, used []storedSpan, err error) {
	way, err := l.way(ctx, branch, from)
	if err != nil {
		return c, nil, err
	}
	c.End = from
	for _, g := range way {
		lo, hi := max(from, g.lo), min(orEnd(to), g.hi)
		if lo >= hi {
			continue
		}
		found, err := l.spans(ctx, span{g.branch, lo, hi})
		if err != nil {
			return c, nil, err
		}
		at := lo
		for _, f := range found {
			c.Segments++
			c.Bytes += f.size
			if f.from > at {
				c.Gaps = append(c.Gaps, Gap{g.branch, at, f.from})
			}
			if len(c.Gaps) == 0 {
				used = append(used, f)
			}
			at = max(at, min(f.to, hi))
			if len(c.Gaps) == 0 {
				c.End = at
			}
		}
		if at < hi && (to != 0 || g.branch != branch) {
			c.Gaps = append(c.Gaps, Gap{g.branch, at, hi})
		}
	}
	return c, used, nil
}

// commits fills in the times of commits.
func (l *Log) commits(ctx context.Context, c *Coverage, used []storedSpan) error {
	look := func(f storedSpan) (sealedSegment, error) {
		seg, err := l.interval(ctx, f.span, f.size)
		if isDamage(err) && !errors.Is(err, provider.ErrNotFound) {
			return sealedSegment{}, nil // Check tells of it; its neighbours tell times, too
		}
		return seg, err
	}
	for _, f := range used {
		seg, err := look(f)
		if err != nil {
			return err
		}
		if c.First = seg.first; !c.First.IsZero() {
			break
		}
	}
	if c.First.IsZero() {
		return nil
	}
	for _, f := range slices.Backward(used) {
		seg, err := look(f)
		if err != nil {
			return err
		}
		if c.Last = seg.last; !c.Last.IsZero() {
			break
		}
	}
	return nil
}

// Open reads the bytes of a branch between two positions, of which those
// before the branch began come from the branches it comes from. Nothing is
// delivered that was not verified. [ErrGap], before anything is read, if some
// are missing; the reader fails with [ErrDamaged], or with [ErrSplit] where
// two segments have the same positions and other bytes. It may run beside
// Append and Compact. It holds one segment in memory, or two.
func (l *Log) Open(ctx context.Context, branch uint32, from, to uint64) (io.ReadCloser, error) {
	if from > to || to == 0 {
		return nil, fmt.Errorf("open log %q: %d to %d: want from not above to", l.name, from, to)
	}
	if err := l.r.readable(); err != nil {
		return nil, fmt.Errorf("open log %q: %w", l.name, err)
	}
	c, err := l.Coverage(ctx, branch, from, to)
	if err != nil {
		return nil, err
	}
	if len(c.Gaps) > 0 {
		g := c.Gaps[0]
		return nil, fmt.Errorf("open log %q: %w: branch %d, %d to %d, and %d further gaps", l.name, ErrGap, g.Branch, g.From, g.To, len(c.Gaps)-1)
	}
	way, err := l.way(ctx, branch, from)
	if err != nil {
		return nil, fmt.Errorf("open log %q: %w", l.name, err)
	}
	r := &logReader{l: l, at: from, to: to, way: way}
	r.next = func() ([]byte, error) { return r.piece(ctx) }
	return r, nil
}

// A logReader reads a log, segment by segment.
type logReader struct {
	l      *Log
	way    []leg
	at, to uint64
	found  []storedSpan // what a listing showed behind at, on the present leg
	branch uint32       // of that listing
	rest   []byte       // verified and not delivered
	next   func() ([]byte, error)
	err    error
}

func (r *logReader) Read(p []byte) (int, error) {
	for len(r.rest) == 0 {
		if r.err == nil && r.at == r.to {
			r.err = io.EOF
		}
		if r.err == nil {
			if r.rest, r.err = r.next(); r.err != nil {
				r.err = fmt.Errorf("read log %q at %d: %w", r.l.name, r.at, r.err)
			}
		}
		if r.err != nil {
			return 0, r.err
		}
		r.at += uint64(len(r.rest))
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

// Close ends reading.
func (r *logReader) Close() error {
	r.rest, r.err = nil, errors.New("is closed")
	return nil
}

// piece returns what one segment has from the present position on.
func (r *logReader) piece(ctx context.Context) ([]byte, error) {
	n := slices.IndexFunc(r.way, func(g leg) bool { return g.lo <= r.at && r.at < g.hi })
	if n < 0 {
		return nil, fmt.Errorf("%w: no branch has this position", ErrGap)
	}
	g := r.way[n]
	for try := range 5 {
		if err := ctx.Err(); err != nil {
			return nil, context.Cause(ctx)
		}
		if try > 0 || r.branch != g.branch {
			found, err := r.l.spans(ctx, span{g.branch, r.at, min(r.to, g.hi)})
			if err != nil {
				return nil, err
			}
			r.found, r.branch = found, g.branch
		}
		data, err := r.choose(ctx, min(r.to, g.hi))
		if err == nil || !errors.Is(err, provider.ErrNotFound) && !errors.Is(err, ErrGap) {
			return data, err
		}
		if try == 4 {
			return nil, err
		}
	}
	return nil, nil // not reached
}

// choose reads the longest of the segments that have the present position, or
// if that is damaged another.
func (r *logReader) choose(ctx context.Context, hi uint64) ([]byte, error) {
	r.found = slices.DeleteFunc(r.found, func(f storedSpan) bool { return f.to <= r.at })
	var here []storedSpan
	for _, f := range r.found {
		if f.from > r.at {
			break
		}
		here = append(here, f)
	}
	slices.SortFunc(here, func(a, b storedSpan) int { return cmp.Compare(b.to, a.to) })
	var errs []error
	for _, f := range here {
		seg, data, err := r.l.load(ctx, f.span)
		if err != nil && !isDamage(err) {
			return nil, err
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if err := r.agree(ctx, seg, data, hi); err != nil {
			return nil, err
		}
		return data[r.at-f.from : min(f.to, hi)-f.from], nil
	}
	return nil, errors.Join(append(errs, ErrGap)...)
}

// agree compares a segment with others that have some of its positions, except
// those it was made of.
func (r *logReader) agree(ctx context.Context, seg sealedSegment, data []byte, hi uint64) error {
	bounds := map[uint64]bool{seg.span.from: true}
	for _, p := range seg.parts {
		bounds[p.to] = true
	}
	for _, f := range r.found {
		if f.span == seg.span || !f.overlaps(seg.span) || f.from >= hi || bounds[f.from] && bounds[f.to] {
			continue
		}
		_, other, err := r.l.load(ctx, f.span)
		if isDamage(err) {
			continue // nothing to compare with; Segments tells of it
		}
		if err != nil {
			return err
		}
		from, to := max(f.from, seg.span.from), min(f.to, seg.span.to, hi)
		if !bytes.Equal(data[from-seg.span.from:to-seg.span.from], other[from-f.from:to-f.from]) {
			return fmt.Errorf("%w: %s and %s differ", ErrSplit, seg.key, r.l.key(f.span))
		}
	}
	return nil
}
