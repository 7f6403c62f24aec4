package postgres

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/backup/postgres/internal/tape"
)

// An echo is WAL that is stored already and comes once more: the last of a
// log, or of the spool. If it is not the same, the server is another branch of
// the same database, or was set back to an older state and went on from
// there, and what it says now must not follow what is stored.
type echo struct {
	segment backup.Segment
	data    []byte
	whole   chan struct{} // closed when all of it has come, or will not come
	ended   bool
}

// hear takes bytes from a position on.
func (e *echo) hear(from LSN, p []byte) {
	if e.ended {
		return
	}
	at := LSN(e.segment.From) + LSN(len(e.data))
	if from > at || from+LSN(len(p)) <= at {
		return
	}
	p = p[at-from:]
	e.data = append(e.data, p[:min(len(p), int(e.segment.To-e.segment.From)-len(e.data))]...)
	if len(e.data) == int(e.segment.To-e.segment.From) {
		e.end()
	}
}

func (e *echo) end() {
	if !e.ended {
		e.ended = true
		close(e.whole)
	}
}

// echoing reports whether some echo is to be heard from its beginning.
func (r *Receiver) echoing() bool {
	for _, s := range r.shippers {
		if s.echo != nil && !s.echo.ended {
			return true
		}
	}
	return false
}

// listen prepares for a stream from a position on. What begins before that
// will not be heard.
func (r *Receiver) listen(from LSN) {
	for _, s := range r.shippers {
		if s.echo == nil || s.echo.ended {
			continue
		}
		s.echo.data = s.echo.data[:0]
		if LSN(s.echo.segment.From) < from {
			s.echo.data = nil
			s.echo.end()
			r.c.Logger.Info("WAL receiver: the end of the log is too long to be compared with the server's", "repository", s.index)
		}
	}
}

// remember finds the last segment of a log, which is to be compared.
func (s *shipper) remember(ctx context.Context, lin lineage) error {
	last := lin.at(s.durable - 1)
	for seg, err := range s.log.Segments(ctx, last.timeline, uint64(s.durable-1), uint64(s.durable)) {
		if err != nil {
			return err
		}
		if seg.To == uint64(s.durable) && seg.Damaged == "" {
			s.echo = &echo{segment: seg, whole: make(chan struct{})}
		}
	}
	return nil
}

// compare waits until the end of the log has come once more, and compares it.
// Append does so by a sum, which needs no key that reads.
func (s *shipper) compare(ctx context.Context) error {
	if s.echo == nil || s.compared {
		return nil
	}
	select {
	case <-s.echo.whole:
	case <-ctx.Done():
		return ctx.Err()
	}
	if len(s.echo.data) > 0 {
		seg := s.echo.segment
		err := s.log.Append(ctx, backup.Segment{Branch: seg.Branch, From: seg.From, To: seg.To, First: seg.First, Last: seg.Last}, s.echo.data)
		if errors.Is(err, backup.ErrSplit) {
			return s.split(err)
		}
		// It has been compacted meanwhile, together with its neighbours.
		if err != nil && !errors.Is(err, backup.ErrOverlap) {
			return err
		}
	}
	s.echo.data, s.compared = nil, true
	return nil
}

// split is the end: nothing here can tell which of the two is right.
func (s *shipper) split(err error) error {
	return &fatal{fmt.Errorf("split brain: the server's WAL is not what repository %d has of system %d at the same positions; "+
		"two servers of one system were writable, or one was set back to an older state: find out which is right, then promote it, so that it begins a timeline of its own: %w", s.index, s.r.system, err)}
}

// spooled compares what comes once more with the frames of the spool.
func (r *Receiver) spooled(timeline uint32, from LSN, p []byte) error {
	first, next := r.tape.Bounds()
	for n := next - 1; n >= first; n-- {
		f, ok := r.tape.Frame(n)
		if !ok || f.Timeline != timeline || LSN(f.To) <= from {
			return nil
		}
		if err := r.same(n, f, from, p); err != nil {
			return err
		}
	}
	return nil
}

func (r *Receiver) same(n int64, f tape.Frame, from LSN, p []byte) error {
	lo, hi := max(LSN(f.From), from), min(LSN(f.To), from+LSN(len(p)))
	if lo >= hi {
		return nil
	}
	b, err := r.tape.Read(nil, n)
	if err != nil {
		// Stored and gone meanwhile, which the logs compare; or not readable,
		// which the shippers tell.
		return nil
	}
	if !bytes.Equal(b[lo-LSN(f.From):hi-LSN(f.From)], p[lo-from:hi-from]) {
		return &fatal{fmt.Errorf("split brain: the server's WAL at %v is not what the spool has: %w", lo, backup.ErrSplit)}
	}
	return nil
}
