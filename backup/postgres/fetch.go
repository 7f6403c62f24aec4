package postgres

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/backup/postgres/internal/wal"
)

// A fetcher puts the WAL of a backup into the log, as far as nobody else has.
type fetcher struct {
	t    *Target
	src  *source
	log  *backup.Log
	conn *pgconn.PgConn // as long as it lives, so does the slot

	slot   slot
	before uint64 // where the log ended when the backup began
}

// A slot is a temporary one of a backup.
type slot struct {
	name string    // empty: there is none
	made time.Time // or before
}

// fetchWAL makes the server keep the WAL from now on.
func (t *Target) fetchWAL(ctx context.Context, src *source, log *backup.Log) (*fetcher, error) {
	f := &fetcher{t: t, src: src, log: log}
	var err error
	if f.conn, err = t.connect(ctx); err != nil {
		return nil, err
	}
	var name [8]byte
	rand.Read(name[:])
	made := slot{"holdfast_base_" + hex.EncodeToString(name[:]), time.Now()}
	err = f.conn.Exec(ctx, "CREATE_REPLICATION_SLOT "+made.name+" TEMPORARY PHYSICAL (RESERVE_WAL)").Close()
	if err == nil {
		f.slot = made
		return f, nil
	}
	if ctx.Err() != nil {
		f.close()
		return nil, context.Cause(ctx)
	}
	// All in use, or not allowed. What is missing in the end is an error then.
	t.c.Logger.Warn("no replication slot: the server may remove WAL before it is fetched", "error", err)
	return f, nil
}

func (f *fetcher) close() { hangUp(f.conn) }

// begins is told where the backup begins.
func (f *fetcher) begins(ctx context.Context, start position) error {
	if err := f.history(ctx, start.timeline); err != nil {
		return err
	}
	c, err := f.log.Coverage(ctx, start.timeline, uint64(start.at)&^(f.src.segment-1), 0)
	f.before = c.End
	return err
}

// history records where the timeline comes from, if it is not the first.
func (f *fetcher) history(ctx context.Context, timeline uint32) error {
	if timeline == 1 {
		return nil
	}
	row, err := query(ctx, f.conn, fmt.Sprintf("TIMELINE_HISTORY %d", timeline), 2)
	if err != nil {
		return err
	}
	ancestors, err := wal.ParseHistory(timeline, []byte(row[1]))
	if err != nil {
		return err
	}
	parent := ancestors[len(ancestors)-1]
	return f.log.StartBranch(ctx, backup.Branch{Branch: timeline, Parent: parent.Timeline, At: uint64(parent.At), History: []byte(row[1])})
}

const (
	patience = 5 * time.Second // with a receiver that has stopped; who seals every second is not behind by more
	pause    = 200 * time.Millisecond
	tries    = 10 // to fill gaps that others fill, too
)

// ends is told where the backup ends, and returns when the log has the WAL of
// it. While somebody else is filling the log, that is waited for.
func (f *fetcher) ends(ctx context.Context, b base) error {
	from, to := uint64(b.floor(b.Start)), uint64(b.Stop)
	last, since := f.before, time.Now()
	for {
		c, err := f.log.Coverage(ctx, b.Timeline, from, to)
		if err != nil || len(c.Gaps) == 0 {
			return err
		}
		if c.End > last {
			last, since = c.End, time.Now()
		}
		if last == f.before || time.Since(since) > patience {
			break
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(pause):
		}
	}
	var overlap error
	for try := 1; ; try++ {
		c, err := f.log.Coverage(ctx, b.Timeline, from, to)
		if err != nil || len(c.Gaps) == 0 {
			return err
		}
		if try > tries {
			return errors.Join(backup.ErrGap, overlap)
		}
		f.t.c.Logger.Info("fetching WAL", "from", wal.LSN(c.Gaps[0].From), "to", wal.LSN(c.Gaps[len(c.Gaps)-1].To))
		for _, g := range c.Gaps {
			if err = f.gap(ctx, b, g); err != nil {
				break
			}
		}
		if err != nil && !errors.Is(err, backup.ErrOverlap) {
			return err
		}
		overlap = err // somebody else was faster
	}
}

// gap copies the WAL between two positions: it streams from the beginning of a
// file on, as a scanner wants it, and appends what is asked for.
func (f *fetcher) gap(ctx context.Context, b base, g backup.Gap) error {
	conn, err := f.t.connect(ctx)
	if err != nil {
		return err
	}
	defer hangUp(conn)
	defer conn.Conn().Close() // the server would go on for ever
	stop := context.AfterFunc(ctx, func() { conn.Conn().SetDeadline(time.Unix(1, 0)) })
	defer stop()
	broken := func(err error) error {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return err
	}
	at := b.floor(wal.LSN(g.From))
	command := fmt.Sprintf("START_REPLICATION PHYSICAL %v TIMELINE %d", at, g.Branch)
	fe := conn.Frontend()
	fe.Send(&pgproto3.Query{String: command})
	if err := fe.Flush(); err != nil {
		return broken(err)
	}
	p := newPieces(f.log, b, g, at)
	for p.at < g.To {
		m, err := fe.Receive()
		if err != nil {
			return broken(err)
		}
		switch m := m.(type) {
		case *pgproto3.CopyData:
			err = p.message(ctx, m.Data, fe)
		case *pgproto3.ErrorResponse:
			err = fmt.Errorf("%s: %w", command, advised(pgconn.ErrorResponseToPgError(m)))
		case *pgproto3.CopyDone:
			err = fmt.Errorf("%s: the server's WAL ends at %v, before %v", command, wal.LSN(p.at), wal.LSN(g.To))
		}
		if err != nil {
			return broken(err)
		}
	}
	return p.flush(ctx)
}

// pieces makes segments of what is streamed.
type pieces struct {
	log     *backup.Log
	gap     backup.Gap
	at      uint64
	scan    *wal.Scanner
	piece   []byte
	from    uint64 // of piece
	first   time.Time
	last    time.Time
	replied time.Time
}

func newPieces(log *backup.Log, b base, g backup.Gap, at wal.LSN) *pieces {
	return &pieces{log: log, gap: g, at: uint64(at), from: g.From, replied: time.Now(),
		scan: wal.NewScanner(wal.Config{Start: at, SegmentSize: b.Segment, System: b.System, Timeline: b.Timeline})}
}

// message takes a message of the stream in: WAL, or a sign of life.
func (p *pieces) message(ctx context.Context, b []byte, fe *pgproto3.Frontend) error {
	switch {
	case len(b) >= 18 && b[0] == 'k':
		if b[17] == 1 || time.Since(p.replied) > 5*time.Second {
			return p.reply(fe)
		}
		return nil
	case len(b) >= 25 && b[0] == 'w':
		if at := binary.BigEndian.Uint64(b[1:]); at != p.at {
			return fmt.Errorf("WAL of %v arrives where %v was to come", wal.LSN(at), wal.LSN(p.at))
		}
		if time.Since(p.replied) > 5*time.Second {
			if err := p.reply(fe); err != nil {
				return err
			}
		}
		return p.take(ctx, b[25:])
	}
	return fmt.Errorf("unknown message of %d bytes in the stream of WAL", len(b))
}

// reply tells the server that we are there. Nothing is confirmed by it.
func (p *pieces) reply(fe *pgproto3.Frontend) error {
	p.replied = time.Now()
	fe.Send(&pgproto3.CopyData{Data: append([]byte{'r'}, make([]byte, 33)...)})
	return fe.Flush()
}

// take takes WAL in. What reaches beyond the gap is left.
func (p *pieces) take(ctx context.Context, b []byte) error {
	if left := p.gap.To - p.at; uint64(len(b)) > left {
		b = b[:left]
	}
	for len(b) > 0 {
		n := min(len(b), 64<<10)
		if err := p.scan.Scan(b[:n], p.seen); err != nil {
			return err
		}
		start := p.at
		p.at += uint64(n)
		if p.at > p.from {
			p.piece = append(p.piece, b[max(p.from+uint64(len(p.piece)), start)-start:n]...)
		}
		b = b[n:]
		if len(p.piece) >= backup.MaxSegment-(64<<10) {
			if err := p.flush(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

// seen is told of every record.
func (p *pieces) seen(r wal.Record) error {
	if r.Kind != wal.Commit || uint64(r.End) <= p.from {
		return nil
	}
	if p.first.IsZero() || r.Time.Before(p.first) {
		p.first = r.Time
	}
	if r.Time.After(p.last) {
		p.last = r.Time
	}
	return nil
}

func (p *pieces) flush(ctx context.Context) error {
	if len(p.piece) == 0 {
		return nil
	}
	s := backup.Segment{Branch: p.gap.Branch, From: p.from, First: p.first, Last: p.last}
	if err := p.log.Append(ctx, s, p.piece); err != nil {
		return err
	}
	p.from += uint64(len(p.piece))
	p.piece, p.first, p.last = p.piece[:0], time.Time{}, time.Time{}
	return nil
}
