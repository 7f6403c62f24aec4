package postgres

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/backup/postgres/internal/tape"
	"github.com/holdfast-go/holdfast/backup/postgres/internal/wal"
)

// An LSN is a position in the WAL, in bytes; it is written as 16/B374D848.
type LSN = wal.LSN

// Acknowledge says when a [Receiver] tells the server that WAL is safe. The
// server then forgets it, and if the receiver is named in
// synchronous_standby_names, lets commits return. A number k above 0 means in
// at least k of the repositories.
type Acknowledge int

const (
	// Stored: when it is in the logs of all repositories.
	Stored Acknowledge = 0

	// Spooled: when it is on the disk of [ReceiverConfig].Spool. It is lost
	// with that disk until it is stored.
	Spooled Acknowledge = -1
)

// ReceiverConfig is the configuration of a [Receiver].
type ReceiverConfig struct {
	// Conn says how to connect, as libpq does: keywords and values, or a URL.
	// The role needs REPLICATION, and pg_hba.conf an entry for it. A password
	// belongs in a passfile, a service file or PGPASSWORD, and is refused here.
	Conn string

	// Repositories are where the WAL goes: into the log of each that
	// [LogName] names.
	Repositories []*backup.Repository

	// Slot is the name of the physical replication slot by which the server
	// keeps what has not been acknowledged. It is made if it is not there. It
	// is also what the server calls the receiver: in synchronous_standby_names.
	// Lower-case letters, digits and underscores, 63 at most; "" is "holdfast".
	Slot string

	// Spool is a directory that keeps what has been received and is not in all
	// logs yet. With "" that is kept in memory, and fetched again after a
	// crash. One receiver has a directory for itself, on a file system that
	// has locks and honours fsync.
	Spool string

	// Limit is how many bytes of WAL spool or memory hold; when there are
	// more, no more are read, and the server keeps them by the slot. 0 is
	// 1 GiB for a spool, and 64 MiB for memory.
	Limit int64

	// System is the identifier of the database system; any other is refused. 0
	// takes that of the first server that answers.
	System uint64

	Acknowledge Acknowledge

	// Seal is how long bytes wait at most before they are stored, unless there
	// is 1 MiB of them; 0 is a second. While the server counts the receiver
	// as synchronous, which is found out over an ordinary connection every few
	// seconds, and with another Acknowledge than Spooled, they do not wait: what has
	// come is stored as soon as what came before is, and commits that come
	// meanwhile share a segment.
	Seal time.Duration

	// OnGap is asked when WAL that a log lacks cannot be had any more. From the
	// bases before the gap nothing behind it can be reached, so a new base is
	// needed. If it returns nil, the receiver goes on behind the gap; any other
	// error ends Run, as a nil OnGap does. The gap stays visible in
	// [backup.Log.Coverage].
	OnGap func(ctx context.Context, g GapError) error

	Events func(Event)  // nil: nobody is told; must return soon
	Logger *slog.Logger // nil: none
}

// A Receiver is a standby that has no database: it takes the WAL of a server
// as it is written, and puts it into logs of repositories, so that nothing
// that was acknowledged is lost with the server.
//
// It starts where the logs end, follows the server to new timelines and keeps
// their .history files, and connects again when a connection ends. What is
// durable in a log is not sent again, whenever it is killed. What it cannot
// have any more is a gap, which it tells, and never hides; two contents for
// one position are a split brain, at which it stops.
//
// It needs no identity of the repositories: a sealed writer is enough.
//
// Commits wait for it if the server's synchronous_standby_names names
// [ReceiverConfig].Slot and synchronous_commit is on, or remote_write, which
// is weaker: then what was received counts. It applies nothing, so
// remote_apply would wait for ever. When the server is shut down in order, it
// waits until everything is acknowledged.
type Receiver struct {
	c    ReceiverConfig
	conn *pgconn.Config

	mu       sync.Mutex
	running  bool
	system   uint64
	state    Status
	samples  []sample // of the server's end, for the lag
	heardAt  time.Time
	shippers []*shipper
	hurry    time.Time // what was received before is to be sealed now

	tape     *tape.Tape
	position place         // where the next byte belongs; branch 0: not known
	synced   LSN           // what of the present stream is spooled
	begin    place         // of the present stream
	first    int64         // number of its first frame
	stored   chan struct{} // something was stored
	scanner  *wal.Scanner
	scans    wal.Config // what scanner was made from
	missing  *place     // where the server has nothing any more
}

// A place is a position on a timeline.
type place struct {
	timeline uint32
	at       LSN
}

func (p place) String() string { return fmt.Sprintf("%v on timeline %d", p.at, p.timeline) }

var slotName = regexp.MustCompile(`^[a-z0-9_]{1,63}$`)

// NewReceiver checks a configuration; it connects to nothing.
func NewReceiver(c ReceiverConfig) (*Receiver, error) {
	var errs []error
	conn, err := parseConn(c.Conn)
	if err == nil && c.Conn == "" {
		err = errors.New("want how to connect")
	}
	if err != nil {
		errs = append(errs, fmt.Errorf("field Conn: %w", err))
	}
	if len(c.Repositories) == 0 {
		errs = append(errs, errors.New("field Repositories: want one or more"))
	}
	if c.Slot == "" {
		c.Slot = "holdfast"
	}
	if !slotName.MatchString(c.Slot) {
		errs = append(errs, fmt.Errorf("field Slot: %.80q: want 1 to 63 lower-case letters, digits and underscores", c.Slot))
	}
	if c.Acknowledge < Spooled || int(c.Acknowledge) > len(c.Repositories) {
		errs = append(errs, fmt.Errorf("field Acknowledge: %d of %d repositories", c.Acknowledge, len(c.Repositories)))
	}
	if c.Acknowledge == Spooled && c.Spool == "" {
		errs = append(errs, errors.New("field Acknowledge: Spooled needs a Spool"))
	}
	if c.Seal < 0 || c.Limit < 0 {
		errs = append(errs, errors.New("fields Seal and Limit: want none below 0"))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("postgres receiver: %w", err)
	}
	if c.Seal == 0 {
		c.Seal = time.Second
	}
	if c.Limit == 0 && c.Spool == "" {
		c.Limit = 64 << 20
	} else if c.Limit == 0 {
		c.Limit = 1 << 30
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return &Receiver{c: c, conn: conn, system: c.System, stored: make(chan struct{}, 1)}, nil
}

// Run receives until ctx ends or something happens that waiting does not mend:
// a [GapError], [backup.ErrSplit], another system, damage in the spool, or a
// spool whose disk does not keep what is written. It can be called once. A
// server or store that does not answer is tried again, and seen in
// [Receiver.Status].
func (r *Receiver) Run(ctx context.Context) error {
	r.mu.Lock()
	again := r.running
	r.running = true
	r.mu.Unlock()
	if again {
		return errors.New("postgres receiver: Run was called before")
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	defer func() {
		cancel(nil)
		wg.Wait()
		if r.tape != nil {
			r.tape.Close()
		}
	}()
	wait := newBackoff()
	for ctx.Err() == nil {
		err := r.session(ctx, func(run func(context.Context) error) {
			wg.Go(func() {
				if err := run(ctx); err != nil && ctx.Err() == nil {
					cancel(err)
				}
			})
		}, wait)
		if f, ok := errors.AsType[*fatal](err); ok {
			cancel(f.error)
		}
		if ctx.Err() != nil {
			break
		}
		if errors.Is(err, errEndOfTimeline) {
			continue
		}
		r.disconnected(err)
		wait.sleep(ctx)
	}
	return fmt.Errorf("postgres receiver: %w", context.Cause(ctx))
}

// A fatal error ends Run.
type fatal struct{ error }

func (f *fatal) Unwrap() error { return f.error }

// A backoff grows from a tenth of a second to five.
type backoff struct{ next time.Duration }

func newBackoff() *backoff { return &backoff{100 * time.Millisecond} }

func (b *backoff) reset() { b.next = 100 * time.Millisecond }

func (b *backoff) sleep(ctx context.Context) {
	t := time.NewTimer(b.next)
	defer t.Stop()
	b.next = min(2*b.next, 5*time.Second)
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
