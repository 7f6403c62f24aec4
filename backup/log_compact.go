package backup

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/holdfast-go/holdfast/provider"
)

// Segments are compacted within windows of MaxSegment positions, so that two
// who compact at once, or one after the other, come to the same result. What
// lies in a row within a window is compacted when the log has gone on behind
// it, and before that when so many small segments have gathered at its end
// that it pays.
const compactFew = 64

// A LogAmount is a number of segments and the bytes of their objects.
type LogAmount struct {
	Segments int   `json:"segments"`
	Bytes    int64 `json:"bytes"`
}

func (a *LogAmount) add(bytes int64) {
	a.Segments++
	a.Bytes += bytes
}

// CompactReport tells what [Log.Compact] has done.
type CompactReport struct {
	Written LogAmount      `json:"written"`           // compacted segments
	Deleted LogAmount      `json:"deleted"`           // segments they were made of
	Locked  []LockedObject `json:"locked,omitempty"`  // segments that the store will not delete yet
	Damaged []string       `json:"damaged,omitempty"` // what could not be compacted, and why
}

// A LockedObject is something under retention that is not needed any more.
type LockedObject struct {
	Key   string    `json:"key"`
	Size  int64     `json:"size"`
	Until time.Time `json:"until,omitzero"` // zero if the store did not tell
}

// Compact makes few large segments of many small ones. It may run beside
// everything else, and can be killed at any moment: the next one goes on. A
// small segment is deleted only when the large one is durable and was read
// back. What is under retention stays until a later run.
//
// What cannot be read is reported as damaged and left alone. It needs an
// identity, and a credential that can delete; it reads what it compacts, and
// holds two segments in memory.
func (l *Log) Compact(ctx context.Context) (CompactReport, error) {
	c := &compactor{l: l}
	if err := l.r.readable(); err != nil {
		return c.report, fmt.Errorf("compact log %q: %w", l.name, err)
	}
	branches, err := l.branches(ctx)
	for _, b := range branches {
		if err = c.branch(ctx, b); err != nil {
			break
		}
	}
	if err != nil {
		return c.report, fmt.Errorf("compact log %q: %w", l.name, err)
	}
	return c.report, nil
}

type compactor struct {
	l      *Log
	report CompactReport
}

// branch looks at one window after the other.
func (c *compactor) branch(ctx context.Context, branch uint32) error {
	found, err := c.l.spans(ctx, span{branch, 0, ^uint64(0)})
	if err != nil {
		return err
	}
	for len(found) > 0 {
		n := 1
		w := found[0].from / MaxSegment
		for n < len(found) && found[n].from/MaxSegment == w {
			n++
		}
		if n > 1 {
			if err := c.window(ctx, found[:n], n == len(found)); err != nil {
				return err
			}
		}
		found = found[n:]
	}
	return nil
}

// window compacts what begins within one window, which may be the last.
func (c *compactor) window(ctx context.Context, found []storedSpan, last bool) error {
	// What lies within another is what that was made of: an earlier run was
	// killed, or could not delete it.
	var outer []storedSpan
	for _, f := range found {
		inner := slices.ContainsFunc(found, func(o storedSpan) bool { return o.span != f.span && o.contains(f.span) })
		if !inner {
			outer = append(outer, f)
		}
	}
	for _, o := range outer {
		if err := c.sweep(ctx, o, found); err != nil {
			return err
		}
	}
	for len(outer) > 0 {
		n := 1
		for n < len(outer) && outer[n].from == outer[n-1].to && outer[n].to <= (outer[0].from/MaxSegment+1)*MaxSegment {
			n++
		}
		run := outer[:n]
		if last && n == len(outer) {
			run = worth(run)
		}
		if len(run) > 1 {
			if err := c.merge(ctx, run); err != nil {
				return err
			}
		}
		outer = outer[n:]
	}
	return ctx.Err()
}

// worth returns which segments of a row that may still grow to compact now: the
// small ones at its end, if they are many. So every byte is written again only
// a few times.
func worth(row []storedSpan) []storedSpan {
	to := row[len(row)-1].to
	for len(row) >= compactFew && row[0].to-row[0].from > (to-row[0].to)*4 {
		row = row[1:]
	}
	if len(row) < compactFew && to%MaxSegment != 0 {
		return nil
	}
	return row
}

// merge writes the content of some segments as one, and deletes them.
func (c *compactor) merge(ctx context.Context, row []storedSpan) error {
	l := c.l
	v := interval{name: l.name, span: span{row[0].branch, row[0].from, row[len(row)-1].to}}
	data := make([]byte, 0, v.span.to-v.span.from)
	for _, f := range row {
		seg, b, err := l.load(ctx, f.span)
		if errors.Is(err, provider.ErrNotFound) {
			return nil // another has done it, or it was trimmed
		}
		if isDamage(err) {
			c.report.Damaged = append(c.report.Damaged, err.Error())
			return nil
		}
		if err != nil {
			return err
		}
		data = append(data, b...)
		v.add(seg.interval)
	}
	if len(v.parts) > maxParts {
		return nil
	}
	v.sum = l.r.keys.logContent(data)
	b, err := l.seal(v, data)
	if err != nil {
		return err
	}
	_, err = provider.PutOnce(ctx, l.r.c.Store, l.key(v.span), b, l.r.c.put())
	switch {
	case err == nil:
		c.report.Written.add(int64(len(b)))
	case !errors.Is(err, provider.ErrConflict):
		return fmt.Errorf("put segment: %w", err)
	}
	return c.sweep(ctx, storedSpan{span: v.span, size: int64(len(b))}, row)
}

// add makes a segment a part of a compacted one.
func (v *interval) add(s interval) {
	if len(s.parts) > 0 {
		v.parts = append(v.parts, s.parts...)
	} else {
		v.parts = append(v.parts, part{s.span.to, s.sum})
	}
	if v.first.IsZero() || !s.first.IsZero() && s.first.Before(v.first) {
		v.first = s.first
	}
	if s.last.After(v.last) {
		v.last = s.last
	}
}

// sweep deletes, of the segments found, those that a compacted one was made
// of, after all of that was read and verified.
func (c *compactor) sweep(ctx context.Context, whole storedSpan, found []storedSpan) error {
	var big *sealedSegment // once it is verified
	for _, f := range found {
		if f.span == whole.span || !whole.contains(f.span) {
			continue
		}
		if locked, err := c.l.locked(ctx, f); err != nil {
			return err
		} else if locked != nil {
			c.report.Locked = append(c.report.Locked, *locked)
			continue
		}
		if big == nil {
			seg, _, err := c.l.load(ctx, whole.span)
			if isDamage(err) {
				c.report.Damaged = append(c.report.Damaged, err.Error())
				return nil
			}
			if err != nil {
				return err
			}
			big = &seg
		}
		if err := c.drop(ctx, big, f); err != nil {
			return err
		}
	}
	return nil
}

// drop deletes a segment if a large one, which was verified, holds it.
func (c *compactor) drop(ctx context.Context, big *sealedSegment, f storedSpan) error {
	small, err := c.l.interval(ctx, f.span, f.size)
	if errors.Is(err, provider.ErrNotFound) {
		return nil
	}
	if err == nil {
		err = big.made(small.interval)
	}
	if isDamage(err) || errors.Is(err, ErrSplit) || errors.Is(err, ErrOverlap) {
		c.report.Damaged = append(c.report.Damaged, fmt.Sprintf("%s and %s: %v", big.key, c.l.key(f.span), err))
		return nil
	}
	if err != nil {
		return err
	}
	locked, err := c.l.remove(ctx, f)
	if locked != nil {
		c.report.Locked = append(c.report.Locked, *locked)
	} else if err == nil {
		c.report.Deleted.add(f.size)
	}
	return err
}

// made reports whether a compacted segment was made of s, or of what s was
// made of.
func (v interval) made(s interval) error {
	pieces := s.parts
	if len(pieces) == 0 {
		pieces = []part{{s.span.to, s.sum}}
	}
	at := s.span.from
	for _, p := range pieces {
		if _, err := v.holds(interval{span: span{s.span.branch, at, p.to}, sum: p.sum}); err != nil {
			return err
		}
		at = p.to
	}
	return nil
}

// locked tells whether the store would refuse to delete a segment.
func (l *Log) locked(ctx context.Context, f storedSpan) (*LockedObject, error) {
	if _, ok := provider.As[provider.Locker](l.r.c.Store); !ok {
		return nil, nil
	}
	info, err := l.r.c.Store.Stat(ctx, l.key(f.span))
	switch {
	case errors.Is(err, provider.ErrCorrupt): // its retention may be what cannot be read
		return &LockedObject{Key: l.key(f.span), Size: f.size}, nil
	case err != nil && !errors.Is(err, provider.ErrNotFound):
		return nil, fmt.Errorf("stat %s: %w", l.key(f.span), err)
	case info.Retain.Until.After(time.Now()):
		return &LockedObject{l.key(f.span), f.size, info.Retain.Until}, nil
	}
	return nil, nil
}

// remove deletes a segment, or tells that it is locked.
func (l *Log) remove(ctx context.Context, f storedSpan) (*LockedObject, error) {
	key := l.key(f.span)
	err := l.r.c.Store.Delete(ctx, key, provider.DeleteOptions{})
	if errors.Is(err, provider.ErrLocked) {
		info, _ := l.r.c.Store.Stat(ctx, key) // only to tell until when
		return &LockedObject{key, f.size, info.Retain.Until}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("delete %s: %w", key, err)
	}
	return nil, nil
}
