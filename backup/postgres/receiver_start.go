package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/backup/postgres/internal/tape"
	"github.com/holdfast-go/holdfast/backup/postgres/internal/wal"
)

// session connects, finds out where to go on, and streams until that ends.
func (r *Receiver) session(ctx context.Context, spawn func(func(context.Context) error), wait *backoff) error {
	conn, err := connectReplication(ctx, r.conn, r.c.Slot)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	id, err := conn.identify(ctx)
	if err != nil {
		return err
	}
	if err := r.meet(id, spawn); err != nil {
		return err
	}
	lin, err := r.lineage(ctx, conn, id.timeline)
	if err != nil {
		return err
	}
	kept, err := r.slot(ctx, conn)
	if err != nil {
		return err
	}
	p, err := r.next(ctx, id, lin, kept)
	if err != nil {
		return err
	}
	from, err := r.enter(p, id)
	if err != nil {
		return err
	}
	s, err := conn.start(ctx, r.c.Slot, from, p.timeline)
	if errors.Is(err, errEndOfTimeline) {
		return fmt.Errorf("timeline %d ends before %v, which was received: the server has lost WAL", p.timeline, p.at)
	}
	if err == nil {
		wait.reset()
		r.connected(p)
		err = r.stream(ctx, s, from, id)
	}
	if gone(err) {
		r.missing = &p
	}
	return err
}

// gone reports whether the server has some WAL no more.
func gone(err error) bool {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	return ok && pg.Code == "58P01"
}

// meet checks that it is the right system, and at the first meeting opens the
// spool and starts what stores.
func (r *Receiver) meet(id identity, spawn func(func(context.Context) error)) error {
	if r.system != 0 && r.system != id.system {
		return &fatal{fmt.Errorf("the server is system %d, and this receiver belongs to %d", id.system, r.system)}
	}
	if r.tape != nil {
		return nil
	}
	t, err := tape.Open(tape.Config{Dir: r.c.Spool, System: id.system, Limit: r.c.Limit})
	if err != nil {
		return &fatal{err}
	}
	var shippers []*shipper
	for i, repo := range r.c.Repositories {
		l, err := repo.Log(LogName(id.system))
		if err != nil {
			return &fatal{errors.Join(err, t.Close())}
		}
		shippers = append(shippers, &shipper{r: r, log: l, index: i})
	}
	r.mu.Lock()
	r.tape, r.system, r.shippers = t, id.system, shippers
	r.mu.Unlock()
	for _, s := range shippers {
		spawn(s.run)
	}
	spawn(r.watchSlot)
	return nil
}

// lineage asks for the .history files of a timeline and of all it comes from,
// and keeps them.
func (r *Receiver) lineage(ctx context.Context, conn *replicationConn, timeline uint32) (lineage, error) {
	if timeline == 1 {
		return lineage{timeline: 1}, nil
	}
	text, err := conn.history(ctx, timeline)
	if err != nil {
		return lineage{}, err
	}
	lin, err := parseLineage(timeline, text)
	if err != nil {
		return lineage{}, err
	}
	for _, a := range lin.ancestors {
		if a.Timeline == 1 || r.tape.History(a.Timeline) != nil {
			continue
		}
		older, err := conn.history(ctx, a.Timeline)
		if gone(err) {
			continue // the descendant's says the same
		}
		if err == nil {
			err = r.tape.SetHistory(a.Timeline, older)
		}
		if err != nil {
			return lineage{}, err
		}
	}
	return lin, r.tape.SetHistory(timeline, text)
}

// slot finds the slot or makes it. One that the server has given up on is
// made again.
func (r *Receiver) slot(ctx context.Context, conn *replicationConn) (LSN, error) {
	kept, _, err := conn.slot(ctx, r.c.Slot)
	if err != nil || kept != 0 {
		return kept, err
	}
	if _, err := conn.row(ctx, "DROP_REPLICATION_SLOT "+r.c.Slot); err != nil {
		return 0, err
	}
	if kept, _, err = conn.slot(ctx, r.c.Slot); err == nil {
		r.event(Event{Kind: EventSlotLost, At: kept})
	}
	return kept, err
}

// next says where to go on: behind what this process has, behind what the
// spool has, where the logs end, or where the slot begins.
func (r *Receiver) next(ctx context.Context, id identity, lin lineage, kept LSN) (place, error) {
	p := r.position
	if first, n := r.tape.Bounds(); p.timeline == 0 && n > first {
		f, _ := r.tape.Frame(n - 1)
		p = place{f.Timeline, LSN(f.To)}
	}
	if p.timeline == 0 {
		end, err := r.ends(ctx, lin)
		if err != nil {
			return p, err
		}
		if end != 0 {
			p = lin.at(end)
		}
	}
	if p.timeline == 0 {
		at := min(kept, id.end)
		return lin.at(at - at%LSN(id.segment)), nil
	}
	if _, has := lin.end(p.timeline); !has && id.timeline < p.timeline {
		return p, fmt.Errorf("the server is on timeline %d, and %d has begun: it is not the primary any more", id.timeline, p.timeline)
	}
	ours, err := parseLineage(p.timeline, r.tape.History(p.timeline))
	if err != nil {
		return p, err
	}
	before := p
	if p = lin.follow(p, ours); p.timeline != before.timeline {
		r.event(Event{Kind: EventTimeline, Timeline: p.timeline, At: p.at})
	}
	if r.missing != nil && *r.missing == p {
		p = r.beyond(p, id, lin, kept)
	}
	r.missing = nil
	if p.timeline == id.timeline && p.at > id.end {
		return p, fmt.Errorf("%v was received, and the server has WAL to %v only: it lost some, or is a standby that is behind", p, id.end)
	}
	return p, nil
}

// beyond says where to go on if the server has nothing at p any more: where
// the next of the logs ends, where the slot begins, or what is written now.
// Whose log then has a gap is for the shippers to tell.
func (r *Receiver) beyond(p place, id identity, lin lineage, kept LSN) place {
	r.mu.Lock()
	defer r.mu.Unlock()
	at := LSN(0)
	for _, s := range r.shippers {
		if s.durable > p.at && (at == 0 || s.durable < at) {
			at = s.durable
		}
	}
	segment := LSN(id.segment)
	if at == 0 {
		at = kept - kept%segment
	}
	if at <= p.at {
		at = id.end - id.end%segment
	}
	return lin.at(max(at, p.at))
}

// ends finds out where the logs end: the least of those that have anything,
// 0 if none has.
func (r *Receiver) ends(ctx context.Context, lin lineage) (LSN, error) {
	least := LSN(0)
	for _, s := range r.shippers {
		if err := s.start(ctx, lin); err != nil {
			return 0, err
		}
		end, err := s.end(ctx, lin.timeline)
		if err != nil {
			return 0, err
		}
		r.mu.Lock()
		s.durable = end
		r.mu.Unlock()
		if end != 0 && (least == 0 || end < least) {
			least = end
		}
	}
	for _, s := range r.shippers {
		if s.durable != 0 {
			if err := s.remember(ctx, lin); err != nil {
				return 0, err
			}
		}
	}
	return least, nil
}

// enter begins a stream at a place, and says from where on it has to be sent:
// some of what is there already comes again, so that records which began
// before can be read, and compared with what is there.
func (r *Receiver) enter(p place, id identity) (LSN, error) {
	// What the last session appended and did not sync is to be counted, too.
	if err := r.tape.Sync(); err != nil {
		return 0, &fatal{err}
	}
	_, next := r.tape.Bounds()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.position, r.begin, r.first, r.synced = p, p, next, p.at
	from := p.at
	if r.scanner == nil || r.scanner.At() != p.at || r.echoing() {
		window := LSN(min(id.segment, backup.MaxSegment))
		from -= from % window
		r.scans = wal.Config{Start: from, SegmentSize: id.segment, BlockSize: uint32(id.block), System: id.system}
		r.scanner = wal.NewScanner(r.scans)
	}
	r.listen(from)
	return from, nil
}
