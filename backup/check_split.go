package backup

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/holdfast-go/holdfast/provider"
)

// overlaps compares segments of a branch that have the same positions. They
// may be repetitions, or what others were made of; otherwise two sources have
// written to the branch.
func (c *checker) overlaps(ctx context.Context, g *checkedLog, branch uint32) error {
	var good []checkedSegment
	for _, s := range g.segments[branch] {
		if !s.bad {
			good = append(good, s)
		}
	}
	for len(good) > 0 {
		n, end := 1, good[0].to
		for n < len(good) && good[n].from < end {
			end = max(end, good[n].to)
			n++
		}
		if n > 1 {
			if err := c.cluster(ctx, g, good[:n]); err != nil {
				return err
			}
		}
		good = good[n:]
	}
	return nil
}

// cluster compares segments of which each has positions of another. As a
// reader would, it goes from one to the next along the longest ones, and
// compares with each of them the others. So each is read a few times at most,
// however many there are.
func (c *checker) cluster(ctx context.Context, g *checkedLog, segments []checkedSegment) error {
	var end uint64
	for _, s := range segments {
		end = max(end, s.to)
	}
	done := make([]bool, len(segments))
	for at, next, lo, longest := segments[0].from, 0, 0, 0; at < end; at = segments[longest].to {
		for ; next < len(segments) && segments[next].from <= at; next++ {
			if segments[next].to > segments[longest].to {
				longest = next
			}
		}
		done[longest] = true
		for lo < len(segments) && segments[lo].to <= at {
			lo++
		}
		big := &comparedSegment{c: c, g: g, s: segments[longest]}
		for i := lo; i < len(segments) && segments[i].from < big.s.to; i++ {
			if !done[i] && segments[i].overlaps(big.s.span) {
				if err := big.compare(ctx, segments[i]); err != nil {
					return err
				}
			}
		}
	}
	return ctx.Err()
}

// A comparedSegment is one that others are compared with. What that takes is
// read once.
type comparedSegment struct {
	c    *checker
	g    *checkedLog
	s    checkedSegment
	says *interval
	data []byte
}

// compare reports where another segment has other bytes.
func (b *comparedSegment) compare(ctx context.Context, other checkedSegment) error {
	err := b.made(ctx, other)
	if errors.Is(err, ErrOverlap) {
		err = b.bytes(ctx, other)
	}
	switch {
	case errors.Is(err, ErrSplit):
		from, to := max(b.s.from, other.from), min(b.s.to, other.to)
		key := b.g.l.key(other.span)
		b.c.problem(key, fmt.Sprintf("has other bytes than %s at positions %d to %d: %v", b.g.l.key(b.s.span), from, to, ErrSplit))
		b.g.lose(loss{span: span{other.branch, from, to}, key: key, first: other.first, last: other.last})
		return nil
	case isDamage(err):
		return nil // one of them is damaged or gone; told by whoever reads it
	}
	return err
}

// made compares by what the segments say of themselves. ErrOverlap if that
// does not tell.
func (b *comparedSegment) made(ctx context.Context, other checkedSegment) error {
	if b.s.parts == 0 && b.s.span != other.span {
		return ErrOverlap
	}
	small := interval{span: other.span, sum: other.sum}
	if b.says == nil {
		seg, err := b.g.l.interval(ctx, b.s.span, b.s.size)
		if err != nil {
			return err
		}
		b.says = &seg.interval
	}
	if other.parts > 0 {
		seg, err := b.g.l.interval(ctx, other.span, other.size)
		if err != nil {
			return err
		}
		small = seg.interval
	}
	return b.says.made(small)
}

// bytes compares by reading both. What is found damaged by that is reported.
func (b *comparedSegment) bytes(ctx context.Context, other checkedSegment) (err error) {
	load := func(s span) ([]byte, error) {
		_, data, err := b.g.l.load(ctx, s)
		if isDamage(err) && !errors.Is(err, provider.ErrNotFound) {
			b.c.problem(b.g.l.key(s), textOf(b.g.l.key(s), err))
			b.c.badSegments[b.g.l.key(s)] = true
		}
		return data, err
	}
	if b.data == nil {
		if b.data, err = load(b.s.span); err != nil {
			return err
		}
	}
	data, err := load(other.span)
	if err != nil {
		return err
	}
	from, to := max(b.s.from, other.from), min(b.s.to, other.to)
	if !bytes.Equal(b.data[from-b.s.from:to-b.s.from], data[from-other.from:to-other.from]) {
		return ErrSplit
	}
	return nil
}
