package postgres_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/backup/postgres"
	"github.com/holdfast-go/holdfast/backup/postgres/internal/wal"
	"github.com/holdfast-go/holdfast/internal/testenv"
	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/providertest"
)

const mib = 1 << 20

func ageKey(t testing.TB) *age.X25519Identity {
	t.Helper()
	key, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func walRepository(t testing.TB, store provider.BlobStore, key *age.X25519Identity) *backup.Repository {
	t.Helper()
	c := backup.Config{Store: store, Keyring: backup.Keyring{Recipients: backup.AgeRecipients(key.Recipient()), Identities: backup.AgeIdentities(key)}}
	r, err := backup.Init(t.Context(), c)
	if errors.Is(err, backup.ErrExists) {
		r, err = backup.Open(t.Context(), c)
	}
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// A running is a receiver that runs.
type running struct {
	*postgres.Receiver
	cancel func()
	done   chan error

	mu     sync.Mutex
	events []postgres.Event
}

func receive(t testing.TB, c postgres.ReceiverConfig) *running {
	t.Helper()
	x := &running{done: make(chan error, 1)}
	c.Events = func(e postgres.Event) {
		x.mu.Lock()
		defer x.mu.Unlock()
		x.events = append(x.events, e)
	}
	var err error
	if x.Receiver, err = postgres.NewReceiver(c); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	x.cancel = cancel
	go func() { x.done <- x.Run(ctx) }()
	t.Cleanup(func() { cancel(); x.stop(t) })
	return x
}

// stop stops the receiver in order, if it has not ended by itself.
func (x *running) stop(t testing.TB) {
	t.Helper()
	x.cancel()
	select {
	case err := <-x.done:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("receiver: %v", err)
		}
		x.done <- err
	case <-time.After(time.Minute):
		t.Fatal("the receiver does not end")
	}
}

// fails waits for the receiver to end by itself.
func (x *running) fails(t testing.TB) error {
	t.Helper()
	select {
	case err := <-x.done:
		x.done <- context.Canceled
		return err
	case <-time.After(time.Minute):
		t.Fatalf("the receiver does not end: %+v", x.Status())
		return nil
	}
}

func (x *running) saw(kind postgres.EventKind) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return slices.ContainsFunc(x.events, func(e postgres.Event) bool { return e.Kind == kind })
}

func until(t testing.TB, what string, x *running, ok func(postgres.Status) bool) postgres.Status {
	t.Helper()
	for end := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		s := x.Status()
		if ok(s) {
			return s
		}
		if time.Now().After(end) {
			x.mu.Lock()
			defer x.mu.Unlock()
			t.Fatalf("not %s: %+v, %+v", what, s, x.events)
		}
	}
}

func lsn(t testing.TB, s string) wal.LSN {
	t.Helper()
	l, err := wal.ParseLSN(s)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// reaches waits until all logs have what the server has.
func reaches(t testing.TB, x *running, pg *testenv.PG) wal.LSN {
	t.Helper()
	end := lsn(t, pg.SQL(t, "select pg_current_wal_flush_lsn()"))
	until(t, "stored to "+end.String(), x, func(s postgres.Status) bool {
		for _, l := range s.Logs {
			if l.Durable < end {
				return false
			}
		}
		return len(s.Logs) > 0
	})
	return end
}

func walLog(t testing.TB, r *backup.Repository, system uint64) *backup.Log {
	t.Helper()
	l, err := r.Log(postgres.LogName(system))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func walBytes(t testing.TB, l *backup.Log, timeline uint32, from, to wal.LSN) []byte {
	t.Helper()
	r, err := l.Open(t.Context(), timeline, uint64(from), uint64(to))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func begins(t testing.TB, l *backup.Log, timeline uint32) wal.LSN {
	t.Helper()
	for s, err := range l.Segments(t.Context(), timeline, 0, 0) {
		if err != nil {
			t.Fatal(err)
		}
		return wal.LSN(s.From)
	}
	t.Fatalf("nothing of timeline %d", timeline)
	return 0
}

// likeServer compares a log with the files of the server, and returns what it
// has.
func likeServer(t testing.TB, l *backup.Log, pg *testenv.PG, timeline uint32, size uint64, to wal.LSN) []byte {
	t.Helper()
	from := begins(t, l, timeline)
	mine := walBytes(t, l, timeline, from, to)
	var theirs []byte
	for at := from - from%wal.LSN(size); at < to; at += wal.LSN(size) {
		b, err := os.ReadFile(filepath.Join(pg.Data, "pg_wal", wal.SegmentName(timeline, at, size)))
		if err != nil {
			t.Fatal(err)
		}
		theirs = append(theirs, b...)
	}
	theirs = theirs[from%wal.LSN(size):][:to-from]
	if !bytes.Equal(mine, theirs) {
		t.Fatalf("the log is not what the server has from %v to %v", from, to)
	}
	return mine
}

func summarize(t testing.TB, b []byte, from wal.LSN) wal.Summary {
	t.Helper()
	s, err := wal.Summarize(bytes.NewReader(b), wal.Config{Start: from}, wal.Stop{})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func keep(more map[string]string) testenv.PostgresOptions {
	s := map[string]string{"wal_keep_size": "1GB", "wal_sender_timeout": "5s"}
	for k, v := range more {
		s[k] = v
	}
	return testenv.PostgresOptions{Settings: s}
}

// Under load the log gets what the server's files have, and the times of
// commits; and goes on where it was when the receiver is stopped and started,
// with and without a spool, into one log and two.
func TestReceiver(t *testing.T) {
	for _, tc := range []struct {
		major, segment, logs int
		spool                bool
	}{{15, 16, 1, true}, {17, 1, 2, false}, {18, 16, 1, false}} {
		t.Run(fmt.Sprint(tc.major), func(t *testing.T) {
			if tc.major == 15 && os.Getenv("HOLDFAST_LONG") == "" {
				t.Skip("of 15 other tests show it; HOLDFAST_LONG=1 runs this, too")
			}
			t.Parallel()
			o := keep(nil)
			o.WALSegmentMB = tc.segment
			pg := testenv.Postgres(t, tc.major, o)
			key := ageKey(t)
			var repos []*backup.Repository
			for range tc.logs {
				repos = append(repos, walRepository(t, providertest.NewMemory(), key))
			}
			c := postgres.ReceiverConfig{Conn: pg.Conn, Repositories: repos, Seal: 50 * time.Millisecond}
			if tc.spool {
				c.Spool = t.TempDir()
			}
			x := receive(t, c)
			pg.Run(t, "pgbench", "-i", "-q", "-s", "2", pg.Socket)
			pg.Run(t, "pgbench", "-n", "-t", "300", "-c", "2", pg.Socket)
			reaches(t, x, pg)
			x.stop(t)
			pg.Run(t, "pgbench", "-n", "-t", "200", "-c", "2", pg.Socket)
			x = receive(t, c)
			pg.Run(t, "pgbench", "-n", "-t", "200", "-c", "2", pg.Socket)
			pg.SQL(t, "select pg_switch_wal()", "create table after (a int)")
			end := reaches(t, x, pg)
			s := until(t, "acknowledged", x, func(s postgres.Status) bool { return s.Acknowledged >= end && s.LagBytes == 0 && s.Slot != "" })
			if s.Lag != 0 || !s.Connected || s.Timeline != 1 || s.Slot != "reserved" || s.Waiting > 2*mib {
				t.Errorf("%+v", s)
			}
			restart := lsn(t, pg.SQL(t, "select restart_lsn from pg_replication_slots where slot_name = 'holdfast'"))
			if restart < end {
				t.Errorf("the slot keeps WAL from %v, and %v is stored", restart, end)
			}
			for _, r := range repos {
				l := walLog(t, r, s.System)
				b := likeServer(t, l, pg, 1, uint64(tc.segment)*mib, end)
				from := begins(t, l, 1)
				c, err := l.Coverage(t.Context(), 1, uint64(from), uint64(end))
				if err != nil || len(c.Gaps) > 0 {
					t.Fatalf("%+v, %v", c, err)
				}
				sum := summarize(t, b, from)
				if sum.Commits < 1400 || !c.First.Equal(sum.First) || !c.Last.Equal(sum.Last) {
					t.Errorf("log says commits from %v to %v, its WAL has %d from %v to %v", c.First, c.Last, sum.Commits, sum.First, sum.Last)
				}
				timesOfSegments(t, l, b, from)
			}
		})
	}
}

// timesOfSegments checks the times of each segment of a log: of the commits of
// which the last byte is in it.
func timesOfSegments(t *testing.T, l *backup.Log, b []byte, from wal.LSN) {
	t.Helper()
	n, sc := 0, wal.NewScanner(wal.Config{Start: from})
	for seg, err := range l.Segments(t.Context(), 1, 0, 0) {
		if err != nil {
			t.Fatal(err)
		}
		if seg.To > uint64(from)+uint64(len(b)) {
			break // what the server wrote by itself since
		}
		var first, last time.Time
		if err := sc.Scan(b[seg.From-uint64(from):seg.To-uint64(from)], func(r wal.Record) error {
			if r.Kind == wal.Commit && (first.IsZero() || r.Time.Before(first)) {
				first = r.Time
			}
			if r.Kind == wal.Commit && r.Time.After(last) {
				last = r.Time
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		if !first.Equal(seg.First) || !last.Equal(seg.Last) {
			t.Errorf("%v to %v: commits from %v to %v, want %v to %v", wal.LSN(seg.From), wal.LSN(seg.To), seg.First, seg.Last, first, last)
		}
		n++
	}
	if n < 2 {
		t.Errorf("%d segments", n)
	}
}

// One log is ahead of the other, and its end lies within what the server sends
// at once: each gets what it lacks, once, and the right times.
func TestReceiverLogsApart(t *testing.T) {
	t.Parallel()
	pg := testenv.Postgres(t, 17, keep(nil))
	key := ageKey(t)
	ahead, behind := walRepository(t, providertest.NewMemory(), key), walRepository(t, providertest.NewMemory(), key)
	pg.Run(t, "pgbench", "-i", "-q", "-s", "1", pg.Socket)
	c := postgres.ReceiverConfig{Conn: pg.Conn, Repositories: []*backup.Repository{ahead, behind}, Seal: 10 * time.Millisecond}
	x := receive(t, c)
	reaches(t, x, pg)
	x.stop(t)
	c.Repositories = c.Repositories[:1]
	x = receive(t, c)
	pg.Run(t, "pgbench", "-n", "-t", "300", pg.Socket)
	reaches(t, x, pg)
	x.stop(t)
	pg.Run(t, "pgbench", "-n", "-t", "300", pg.Socket)
	c.Repositories = []*backup.Repository{behind, ahead}
	x = receive(t, c)
	end := reaches(t, x, pg)
	for _, r := range c.Repositories {
		l := walLog(t, r, x.Status().System)
		timesOfSegments(t, l, likeServer(t, l, pg, 1, 16*mib, end), begins(t, l, 1))
	}
	if x.saw(postgres.EventOverlap) {
		t.Error("what a log had was sent again")
	}
}

func TestReceiverConfig(t *testing.T) {
	r := walRepository(t, providertest.NewMemory(), ageKey(t))
	good := postgres.ReceiverConfig{Conn: "host=/tmp", Repositories: []*backup.Repository{r}}
	if _, err := postgres.NewReceiver(good); err != nil {
		t.Error(err)
	}
	for want, change := range map[string]func(*postgres.ReceiverConfig){
		"Conn":            func(c *postgres.ReceiverConfig) { c.Conn = "" },
		"password":        func(c *postgres.ReceiverConfig) { c.Conn = "host=/tmp password=secret" },
		"a password":      func(c *postgres.ReceiverConfig) { c.Conn = "postgres://u:secret@h/d" },
		"Repositories":    func(c *postgres.ReceiverConfig) { c.Repositories = nil },
		"Slot":            func(c *postgres.ReceiverConfig) { c.Slot = "Big; drop" },
		"Acknowledge":     func(c *postgres.ReceiverConfig) { c.Acknowledge = 2 },
		"needs a Spool":   func(c *postgres.ReceiverConfig) { c.Acknowledge = postgres.Spooled },
		"Seal":            func(c *postgres.ReceiverConfig) { c.Seal = -1 },
		"field Acknowled": func(c *postgres.ReceiverConfig) { c.Acknowledge = -2 },
	} {
		c := good
		change(&c)
		if _, err := postgres.NewReceiver(c); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", want, err)
		}
	}
}
