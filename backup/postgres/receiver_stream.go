package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/holdfast-go/holdfast/backup/postgres/internal/tape"
	"github.com/holdfast-go/holdfast/backup/postgres/internal/wal"
)

// syncSize is how much is received at most before it is synced; if nothing
// more is there to be read, it is synced at once.
const syncSize = 1 << 20

type received struct {
	walMessage
	err error
}

// stream takes WAL from a position on until the connection or the timeline
// ends. All that is sent is sent from here, so the server hears from it in
// time also while nothing is read.
func (r *Receiver) stream(ctx context.Context, s *walStream, from LSN, id identity) error {
	ctx, cancel := context.WithCancel(ctx)
	in := make(chan received, 8)
	go func() {
		defer close(in)
		for {
			m, err := s.receive()
			select {
			case in <- received{m, err}:
			case <-ctx.Done():
				return
			}
			if err != nil {
				return
			}
		}
	}()
	defer func() {
		cancel()
		s.close()
		for range in { // until the goroutine has ended
		}
	}()
	every := 10 * time.Second
	if id.timeout > 0 {
		every = min(every, max(id.timeout/3, 50*time.Millisecond))
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	at, full := from, false
	last := time.Now() // when something came
	for {
		open := in
		if r.tape.Full() {
			if open = nil; !full {
				r.event(Event{Kind: EventFull, Timeline: r.begin.timeline, At: at})
			}
		}
		full = open == nil
		tell, answer := false, false
		select {
		case m, ok := <-open:
			if !ok {
				return ctx.Err()
			}
			last = time.Now()
			if err := r.take(&at, m, s); err != nil {
				return err
			}
			tell = m.reply
			if len(in) > 0 && r.unsynced() < syncSize {
				break
			}
			if err := r.sync(); err != nil {
				return err
			}
			tell = tell || r.c.Acknowledge == Spooled && m.data != nil
		case <-r.stored:
			tell = r.c.Acknowledge != Spooled
		case <-r.tape.Trimmed():
			last = time.Now() // before, nothing was read
		case <-tick.C:
			if !full && len(in) == 0 && time.Since(last) > 4*every {
				return fmt.Errorf("the server has not said anything for %v", time.Since(last).Round(time.Millisecond))
			}
			tell, answer = true, true
		case <-ctx.Done():
			return ctx.Err()
		}
		if tell {
			now := r.told()
			now.answer = answer
			if err := s.tell(now); err != nil {
				return err
			}
		}
	}
}

// take takes one message.
func (r *Receiver) take(at *LSN, m received, s *walStream) error {
	if errors.Is(m.err, errEndOfTimeline) {
		return errors.Join(r.sync(), s.tell(r.told()), s.done(), errEndOfTimeline)
	}
	if m.err != nil {
		return errors.Join(m.err, r.sync())
	}
	r.heard(m.walMessage)
	if m.reply {
		r.mu.Lock()
		r.hurry = time.Now()
		r.mu.Unlock()
	}
	if m.data == nil {
		return nil
	}
	if m.from != *at {
		return fmt.Errorf("the server sent WAL of %v where that of %v follows", m.from, *at)
	}
	*at += LSN(len(m.data))
	return r.hold(m.from, m.data)
}

// hold puts on the tape what is new of some bytes of the stream.
func (r *Receiver) hold(from LSN, data []byte) error {
	for _, s := range r.shippers {
		if s.echo != nil {
			s.echo.hear(from, data)
		}
	}
	if p := r.position; from < p.at {
		n := min(LSN(len(data)), p.at-from)
		if err := r.spooled(p.timeline, from, data[:n]); err != nil {
			return err
		}
		r.scan(data[:n], nil)
		from, data = from+n, data[n:]
	}
	for _, end := range r.cuts(from, from+LSN(len(data))) {
		n := end - from
		if err := r.frame(from, data[:n]); err != nil {
			return err
		}
		from, data = end, data[n:]
	}
	return nil
}

// cuts are the positions at which some bytes have to be cut, with their end:
// where a log ends, so that it goes on with a whole frame.
func (r *Receiver) cuts(from, to LSN) (out []LSN) {
	if from == to {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range r.shippers {
		if from < s.durable && s.durable < to {
			out = append(out, s.durable)
		}
	}
	out = append(out, to)
	slices.Sort(out)
	return slices.Compact(out)
}

// frame puts a frame on the tape.
func (r *Receiver) frame(from LSN, data []byte) error {
	f := tape.Frame{Timeline: r.position.timeline, From: uint64(from), To: uint64(from) + uint64(len(data)), Received: time.Now()}
	r.scan(data, func(rec wal.Record) error {
		if rec.Kind == wal.Commit && commitTime(rec.Time) {
			if f.First.IsZero() || rec.Time.Before(f.First) {
				f.First = rec.Time
			}
			if rec.Time.After(f.Last) {
				f.Last = rec.Time
			}
		}
		return nil
	})
	if err := r.tape.Append(f, data); err != nil {
		r.scanner = nil // what it has read comes again
		return err
	}
	r.mu.Lock()
	r.position.at = LSN(f.To)
	r.mu.Unlock()
	return nil
}

// commitTime reports whether a time is one that a log can keep: the clock of a
// server may be anywhere.
func commitTime(t time.Time) bool { return t.Year() >= 1971 && t.Year() <= 2261 }

// scan reads records. What is no WAL is told, and kept all the same: the server
// has nothing better, and keeping its commits waiting would help nobody.
func (r *Receiver) scan(data []byte, emit func(wal.Record) error) {
	if emit == nil {
		emit = func(wal.Record) error { return nil }
	}
	if err := r.scanner.Scan(data, emit); err != nil {
		at := r.scanner.At()
		r.event(Event{Kind: EventInvalid, Timeline: r.position.timeline, At: at, Err: err})
		r.scans.Start = at
		r.scanner = wal.NewScanner(r.scans)
	}
}

func (r *Receiver) unsynced() LSN { return r.position.at - r.synced }

// sync makes durable what was received, where there is a spool.
func (r *Receiver) sync() error {
	if err := r.tape.Sync(); err != nil {
		return &fatal{err}
	}
	r.mu.Lock()
	r.synced = r.position.at
	r.mu.Unlock()
	return nil
}

// told says what the server is told: what was received, and what is safe.
func (r *Receiver) told() report {
	r.mu.Lock()
	defer r.mu.Unlock()
	return report{written: r.position.at, flushed: r.safe()}
}

// safe is how far WAL of the present stream is where Acknowledge wants it. It is
// never beyond what this stream brought: a position may mean other bytes on
// another timeline. r.mu is held.
func (r *Receiver) safe() LSN {
	if r.c.Acknowledge == Spooled {
		return r.synced
	}
	var ends []LSN
	for _, s := range r.shippers {
		if s.next > r.first {
			ends = append(ends, min(s.durable, r.position.at))
		} else {
			ends = append(ends, min(s.durable, r.begin.at))
		}
	}
	slices.Sort(ends)
	slices.Reverse(ends)
	k := int(r.c.Acknowledge)
	if k == 0 {
		k = len(ends)
	}
	if len(ends) == 0 {
		return 0
	}
	return ends[k-1]
}
