package postgres

import (
	"context"
	"slices"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// Status says how a [Receiver] is.
type Status struct {
	System    uint64 // 0 before the first connection
	Connected bool
	Err       error // why the last connection ended
	Timeline  uint32

	ServerEnd  LSN       // of the server's WAL, as it said last
	ServerTime time.Time // when it said so, by its clock

	Received     LSN
	Spooled      LSN // on disk; without a spool what was received
	Acknowledged LSN // what the server may take for safe
	Logs         []LogStatus
	Waiting      int64 // bytes in spool or memory that are not in all logs

	// How far what is acknowledged is behind what the server has said it has:
	// in bytes, and for how long something has been missing. Lag is 0 if
	// nothing is.
	LagBytes int64
	Lag      time.Duration

	// Slot is the server's wal_status of the slot: reserved, extended,
	// unreserved or lost; "" if not known, of which SlotErr says why. SafeWAL is how many bytes can be
	// written until the slot is lost, -1 if that is not limited.
	Slot    string
	SafeWAL int64
	SlotErr error

	Synchronous bool // commits wait for the receiver, as far as is known

	Gaps []GapError // that were found since Run began
}

// LogStatus says how far a log is.
type LogStatus struct {
	Durable    LSN       // it has all before; 0 if not known yet
	LastCommit time.Time // of what this process put there
	Err        error     // of the last attempt
}

// A sample is a moment at which the server's WAL ended somewhere.
type sample struct {
	end LSN
	at  time.Time
}

// maxSamples of the server's end are kept; then every second one of them goes.
const maxSamples = 1024

// heard keeps what the server said of itself.
func (r *Receiver) heard(m walMessage) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.state.ServerEnd, r.state.ServerTime, r.heardAt = max(m.end, m.from+LSN(len(m.data))), m.at, time.Now()
	r.samples = append(r.samples, sample{r.state.ServerEnd, m.at})
	if len(r.samples) > maxSamples {
		n := 0
		for i := range r.samples {
			if i%2 == 0 || i == len(r.samples)-1 {
				r.samples[n] = r.samples[i]
				n++
			}
		}
		r.samples = r.samples[:n]
	}
}

// lag forgets the samples that are acknowledged; the oldest other one tells
// since when something is missing. r.mu is held.
func (r *Receiver) lag(safe LSN) time.Duration {
	n := slices.IndexFunc(r.samples, func(s sample) bool { return s.end > safe })
	if n < 0 {
		r.samples = r.samples[:0]
		return 0
	}
	r.samples = r.samples[n:]
	return max(r.state.ServerTime.Sub(r.samples[0].at)+time.Since(r.heardAt), 0)
}

// Status says how the receiver is. It can be called at any time.
func (r *Receiver) Status() Status {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.state
	s.System, s.Timeline = r.system, r.position.timeline
	s.Received, s.Spooled, s.Acknowledged = r.position.at, r.synced, r.safe()
	for _, o := range r.shippers {
		s.Logs = append(s.Logs, LogStatus{o.durable, o.lastCommit, o.err})
	}
	if r.tape != nil {
		s.Waiting = r.tape.Size()
	}
	if s.ServerEnd > s.Acknowledged {
		s.LagBytes = int64(s.ServerEnd - s.Acknowledged)
	}
	s.Lag = r.lag(s.Acknowledged)
	s.Gaps = slices.Clone(s.Gaps)
	return s
}

func (r *Receiver) connected(p place) {
	r.mu.Lock()
	r.state.Connected, r.state.Err, r.samples = true, nil, nil
	r.mu.Unlock()
	r.event(Event{Kind: EventConnected, Timeline: p.timeline, At: p.at})
}

func (r *Receiver) disconnected(err error) {
	r.mu.Lock()
	r.state.Connected, r.state.Err = false, err
	p := r.position
	r.mu.Unlock()
	r.event(Event{Kind: EventDisconnected, Timeline: p.timeline, At: p.at, Err: err})
}

func (r *Receiver) gap(g *GapError) {
	r.mu.Lock()
	r.state.Gaps = append(r.state.Gaps, *g)
	r.mu.Unlock()
	r.event(Event{Kind: EventGap, Timeline: g.Timeline, At: g.To, Repository: g.Repository, Err: g})
}

const slotQuery = `select coalesce(wal_status, ''), coalesce(safe_wal_size, -1),
	exists (select from pg_stat_replication where pid = active_pid and sync_state in ('sync', 'quorum'))
	from pg_replication_slots where slot_name = $1`

// watchSlot asks every second how much longer the server will keep what is not
// acknowledged, and whether commits wait for the receiver. It holds an ordinary
// connection: where pg_hba.conf allows none, Status says so.
func (r *Receiver) watchSlot(ctx context.Context) error {
	var conn *pgconn.PgConn
	for wait := newBackoff(); ctx.Err() == nil; {
		status, left, sync, err := r.askSlot(ctx, &conn)
		r.mu.Lock()
		before := r.state.Slot
		r.state.Slot, r.state.SafeWAL, r.state.SlotErr = status, left, err
		if err == nil {
			r.state.Synchronous = sync
		}
		r.mu.Unlock()
		if status != before && (status == "unreserved" || status == "lost") {
			r.event(Event{Kind: EventSlotAtRisk})
		}
		if err == nil {
			wait = &backoff{time.Second}
		}
		wait.sleep(ctx)
	}
	if conn != nil {
		conn.Close(context.WithoutCancel(ctx))
	}
	return ctx.Err()
}

// askSlot asks over a connection that it makes if there is none.
func (r *Receiver) askSlot(ctx context.Context, conn **pgconn.PgConn) (status string, left int64, sync bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if *conn == nil || (*conn).IsClosed() {
		if *conn, err = pgconn.ConnectConfig(ctx, r.conn); err != nil {
			return "", -1, false, err
		}
	}
	res := (*conn).ExecParams(ctx, slotQuery, [][]byte{[]byte(r.c.Slot)}, nil, nil, nil).Read()
	if res.Err != nil || len(res.Rows) == 0 {
		return "", -1, false, res.Err
	}
	row := res.Rows[0]
	left, err = strconv.ParseInt(string(row[1]), 10, 64)
	return string(row[0]), left, string(row[2]) == "t", err
}
