package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/backup/postgres"
	"github.com/holdfast-go/holdfast/backup/postgres/internal/wal"
	"github.com/holdfast-go/holdfast/internal/testenv"
	"github.com/holdfast-go/holdfast/provider/providertest"
)

// A store that can be switched off, and loses replies of one call in twenty
// while it is on.
func outage(t *testing.T) (*providertest.Faulty, *atomic.Bool) {
	off := new(atomic.Bool)
	return providertest.NewFaulty(providertest.NewMemory(), func(c providertest.Call) providertest.Fault {
		if off.Load() {
			return providertest.Fault{Before: providertest.ErrInjected}
		}
		if c.Op == "put" && c.N%20 == 19 {
			return providertest.Fault{After: providertest.ErrInjected}
		}
		return providertest.Fault{}
	}), off
}

// While a store is away what comes is kept up to the limit; then no more is
// read, the server keeps the rest, and is still told that the receiver lives,
// for longer than it would wait for one that is silent. With k of n only so
// many stores have to be there.
func TestReceiverStoreAway(t *testing.T) {
	t.Parallel()
	pg := testenv.Postgres(t, 17, keep(map[string]string{"wal_sender_timeout": "1s"}))
	pg.SQL(t, "create table t (a text)")
	key := ageKey(t)
	shaky, off := outage(t)
	one, two := walRepository(t, shaky, key), walRepository(t, providertest.NewMemory(), key)
	x := receive(t, postgres.ReceiverConfig{Conn: pg.Conn, Repositories: []*backup.Repository{one, two}, Acknowledge: 1, Seal: 10 * time.Millisecond, Limit: 3 * mib})
	reaches(t, x, pg)
	off.Store(true)
	pg.SQL(t, "insert into t select repeat('x', 1000) from generate_series(1, 500)")
	half := lsn(t, pg.SQL(t, "select pg_current_wal_flush_lsn()"))
	s := until(t, "acknowledged by one", x, func(s postgres.Status) bool { return s.Acknowledged >= half })
	if s.Logs[0].Durable >= half || s.Logs[1].Durable < half {
		t.Errorf("%+v", s)
	}
	pg.SQL(t, slices.Repeat([]string{"insert into t select repeat('y', 1000) from generate_series(1, 1000)"}, 10)...)
	s = until(t, "full", x, func(s postgres.Status) bool { return x.saw(postgres.EventFull) && s.Logs[0].Err != nil })
	if s.Waiting > 4*mib {
		t.Errorf("%d bytes wait in memory", s.Waiting)
	}
	s = until(t, "more than twice as long as the server waits", x, func(s postgres.Status) bool { return s.Lag > 2*time.Second })
	if !s.Connected || s.LagBytes == 0 || s.Received >= lsn(t, pg.SQL(t, "select pg_current_wal_flush_lsn()")) {
		t.Errorf("after a while: %+v", s)
	}
	off.Store(false)
	end := reaches(t, x, pg)
	if !x.saw(postgres.EventStoreFailed) || !x.saw(postgres.EventStoreBack) || x.saw(postgres.EventDisconnected) {
		t.Errorf("%+v", x.events)
	}
	for _, r := range []*backup.Repository{one, two} {
		likeServer(t, walLog(t, r, s.System), pg, 1, 16*mib, end)
	}
}

// With a spool and its acknowledgement the stores may be away for long; what
// the spool has is stored by the next process, even if the server is gone.
func TestReceiverSpool(t *testing.T) {
	t.Parallel()
	pg := testenv.Postgres(t, 15, keep(nil))
	pg.SQL(t, "create table t (a text)")
	shaky, off := outage(t)
	c := postgres.ReceiverConfig{Conn: pg.Conn, Repositories: []*backup.Repository{walRepository(t, shaky, ageKey(t))}, Spool: filepath.Join(t.TempDir(), "a", "spool"), Acknowledge: postgres.Spooled}
	x := receive(t, c)
	stored := reaches(t, x, pg)
	off.Store(true)
	pg.SQL(t, "insert into t select repeat('x', 1000) from generate_series(1, 20000)")
	end := lsn(t, pg.SQL(t, "select pg_current_wal_flush_lsn()"))
	s := until(t, "spooled", x, func(s postgres.Status) bool { return s.Acknowledged >= end })
	if s.Spooled < end || s.Logs[0].Durable > stored+8*mib || s.Waiting < 10*mib {
		t.Errorf("%+v", s)
	}
	x.stop(t)
	off.Store(false)
	x = receive(t, c)
	likeServer(t, walLog(t, c.Repositories[0], s.System), pg, 1, 16*mib, reaches(t, x, pg))
	until(t, "trimmed", x, func(s postgres.Status) bool { return s.Waiting == 0 })
	if _, err := postgres.NewReceiver(c); err != nil {
		t.Error(err)
	}
	second := receive(t, c)
	if err := second.fails(t); !contains(err, "another process uses it") {
		t.Errorf("two receivers in one spool: %v", err)
	}
	x.stop(t)
	other := testenv.Postgres(t, 15, testenv.PostgresOptions{})
	c.Conn = other.Conn
	if err := receive(t, c).fails(t); !contains(err, "another system") {
		t.Errorf("another system: %v", err)
	}
	c.Spool, c.Acknowledge, c.System = "", postgres.Stored, s.System
	if err := receive(t, c).fails(t); !contains(err, "belongs to") {
		t.Errorf("another system: %v", err)
	}
}

// What the server has no more is told, ends the receiver or not as OnGap
// says, and stays visible in the log. A slot that was lost is made again.
func TestReceiverGap(t *testing.T) {
	t.Parallel()
	pg := testenv.Postgres(t, 17, testenv.PostgresOptions{WALSegmentMB: 1, Settings: map[string]string{
		"max_slot_wal_keep_size": "2MB", "min_wal_size": "2MB", "max_wal_size": "4MB", "wal_keep_size": "0"}})
	pg.SQL(t, "create table t (a text)")
	repo := walRepository(t, providertest.NewMemory(), ageKey(t))
	c := postgres.ReceiverConfig{Conn: pg.Conn, Repositories: []*backup.Repository{repo}, Seal: 10 * time.Millisecond}
	x := receive(t, c)
	end := reaches(t, x, pg)
	system := x.Status().System
	x.stop(t)
	pg.SQL(t, slices.Repeat([]string{"insert into t select repeat('x', 1000) from generate_series(1, 1000)", "checkpoint"}, 20)...)
	if s := pg.SQL(t, "select wal_status from pg_replication_slots"); s != "lost" {
		t.Fatalf("the slot is %s", s)
	}
	x = receive(t, c)
	pg.SQL(t, "insert into t values ('more')")
	err := x.fails(t)
	g, ok := errors.AsType[*postgres.GapError](err)
	if !ok || !errors.Is(err, backup.ErrGap) || g.From != end || g.To <= end || !strings.Contains(err.Error(), "new base") {
		t.Fatalf("%v", err)
	}
	if s := x.Status(); len(s.Gaps) != 1 || !x.saw(postgres.EventGap) || !x.saw(postgres.EventSlotLost) {
		t.Errorf("%+v", s)
	}
	l := walLog(t, repo, system)
	if got, err := l.Coverage(t.Context(), 1, uint64(begins(t, l, 1)), 0); err != nil || wal.LSN(got.End) != end || len(got.Gaps) != 0 {
		t.Errorf("something was appended behind the gap: %+v, %v", got, err)
	}
	asked := 0
	c.OnGap = func(ctx context.Context, g postgres.GapError) error { asked++; return nil }
	x = receive(t, c)
	pg.SQL(t, "insert into t values ('and more')")
	last := reaches(t, x, pg)
	x.stop(t)
	got, err := l.Coverage(t.Context(), 1, uint64(begins(t, l, 1)), uint64(last))
	if err != nil || len(got.Gaps) != 1 || wal.LSN(got.Gaps[0].From) != end || asked != 1 {
		t.Errorf("%+v, %v, asked %d times", got, err, asked)
	}
	x = receive(t, c) // which goes on behind the gap, and asks nobody
	pg.SQL(t, "insert into t values ('still more')")
	reaches(t, x, pg)
	if asked != 1 {
		t.Errorf("asked %d times", asked)
	}
}

// A server that was set back to an older state of itself and went on: its WAL
// is another one at the same positions. It is found by a log, sealed or not,
// and by a spool, and nothing is appended.
func TestReceiverSplitBrain(t *testing.T) {
	t.Parallel()
	pg := testenv.Postgres(t, 17, keep(nil))
	pg.SQL(t, "create table t (a text)")
	pg.Stop(t)
	old := filepath.Join(pg.Dir, "old")
	if err := os.CopyFS(old, os.DirFS(pg.Data)); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(old, 0o700); err != nil {
		t.Fatal(err)
	}
	pg.Start(t)
	key := ageKey(t)
	repo := walRepository(t, providertest.NewMemory(), key)
	shaky, away := outage(t)
	spooled := walRepository(t, shaky, key)
	off := postgres.ReceiverConfig{Conn: pg.Conn, Repositories: []*backup.Repository{spooled}, Slot: "spooled", Spool: t.TempDir(), Acknowledge: postgres.Spooled, Seal: time.Millisecond}
	on := postgres.ReceiverConfig{Conn: pg.Conn, Repositories: []*backup.Repository{repo}, Seal: time.Millisecond}
	pg.SQL(t, "select pg_create_physical_replication_slot('holdfast', true)", "select pg_create_physical_replication_slot('spooled', true)")
	x, y := receive(t, on), receive(t, off)
	reaches(t, y, pg)
	away.Store(true) // so that only the spool has what follows
	pg.SQL(t, "insert into t select repeat('x', 1000) from generate_series(1, 300)")
	end := reaches(t, x, pg)
	until(t, "spooled", y, func(s postgres.Status) bool { return s.Acknowledged >= end })
	x.stop(t)
	y.stop(t)
	pg.Stop(t)
	set := pg.Second(t, old)
	on.Conn, off.Conn = set.Conn, set.Conn

	// As long as it is behind, it is waited for: a standby may be.
	x = receive(t, on)
	until(t, "waiting", x, func(s postgres.Status) bool { return s.Err != nil })
	if err := x.Status().Err; !contains(err, "behind") {
		t.Errorf("%v", err)
	}
	x.stop(t)
	set.SQL(t, "insert into t select repeat('y', 1000) from generate_series(1, 900)")
	for name, c := range map[string]postgres.ReceiverConfig{"log": on, "spool": off} {
		away.Store(true)
		x := receive(t, c)
		set.SQL(t, "insert into t values ('z')")
		if err := x.fails(t); !errors.Is(err, backup.ErrSplit) || !contains(err, "split brain") {
			t.Errorf("%s: %v", name, err)
		}
		away.Store(false)
		l := walLog(t, c.Repositories[0], x.Status().System)
		if got, err := l.Coverage(t.Context(), 1, uint64(begins(t, l, 1)), 0); err != nil || wal.LSN(got.End) > end+mib {
			t.Errorf("%s: something was appended: %+v, %v", name, got, err)
		}
	}
}

// Segments as archive_command hands them over fill what the receiver left out,
// beside it and again; what is not the same is refused.
func TestArchiveSegment(t *testing.T) {
	t.Parallel()
	pg := testenv.Postgres(t, 15, keep(nil))
	repo := walRepository(t, providertest.NewMemory(), ageKey(t))
	pg.SQL(t, "create table t (a text)", "select pg_switch_wal()", "insert into t values ('x')", "select pg_switch_wal()", "insert into t values ('y')")
	x := receive(t, postgres.ReceiverConfig{Conn: pg.Conn, Repositories: []*backup.Repository{repo}, Seal: 10 * time.Millisecond})
	pg.SQL(t, "select pg_switch_wal()", "insert into t values ('y')")
	end := reaches(t, x, pg)
	x.stop(t)
	pg.SQL(t, "insert into t select repeat('x', 1000) from generate_series(1, 20000)", "select pg_switch_wal()", "insert into t values ('y')")
	l := walLog(t, repo, x.Status().System)
	files, err := filepath.Glob(filepath.Join(pg.Data, "pg_wal", "0*"))
	if err != nil {
		t.Fatal(err)
	}
	now := lsn(t, pg.SQL(t, "select pg_current_wal_flush_lsn()"))
	var last wal.LSN
	for range 2 {
		for _, f := range files {
			_, start, err := wal.ParseSegmentName(filepath.Base(f), 16*mib)
			if err != nil || start+16*mib > now {
				continue
			}
			if err := postgres.ArchiveSegment(t.Context(), l, f); err != nil {
				t.Fatal(err)
			}
			last = max(last, start+16*mib)
		}
	}
	if last <= end {
		t.Fatal("nothing was archived behind what the receiver had")
	}
	b := likeServer(t, l, pg, 1, 16*mib, last)
	c, err := l.Coverage(t.Context(), 1, uint64(begins(t, l, 1)), uint64(last))
	if sum := summarize(t, b, begins(t, l, 1)); err != nil || !c.Last.Equal(sum.Last) || !c.First.Equal(sum.First) {
		t.Errorf("%+v, and %+v", c, sum)
	}

	dir := t.TempDir()
	name := wal.SegmentName(1, last-1, 16*mib)
	text, err := os.ReadFile(filepath.Join(pg.Data, "pg_wal", name))
	if err != nil {
		t.Fatal(err)
	}
	put := func(name string, b []byte) string {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
		return filepath.Join(dir, name)
	}
	other := append([]byte(nil), text...)
	other[len(other)-1] ^= 1 // behind the switch, where no sum protects it
	for what, tc := range map[string]struct {
		file string
		want string
	}{
		"other bytes":   {put(name, other), backup.ErrSplit.Error()},
		"short":         {put(wal.SegmentName(1, last, 16*mib), text[:mib]), "belongs to"},
		"another place": {put(wal.SegmentName(1, last+16*mib, 16*mib), text), "belongs to"},
		"no name":       {put("x", text), "no name"},
		"no history":    {put(wal.SegmentName(2, last-1, 16*mib), text), "00000002.history first"},
		"bad history":   {put("00000002.history", []byte("3\t0/1\tx")), "no ancestor"},
		"missing":       {filepath.Join(dir, "000000010000000000000077"), "no such file"},
	} {
		if err := postgres.ArchiveSegment(t.Context(), l, tc.file); !contains(err, tc.want) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if err := postgres.ArchiveSegment(t.Context(), walLog(t, repo, 5), filepath.Join(pg.Data, "pg_wal", name)); !contains(err, "belongs into log") {
		t.Errorf("into another log: %v", err)
	}
	if err := postgres.ArchiveSegment(t.Context(), l, put(name+".00000028.backup", nil)); err != nil {
		t.Errorf("a file of no WAL: %v", err)
	}

	// A timeline, and the end of the one before.
	at := last + 100
	for range 2 {
		if err := postgres.ArchiveSegment(t.Context(), l, put("00000002.history", fmt.Appendf(nil, "1\t%v\tx\n", at))); err != nil {
			t.Fatal(err)
		}
	}
	current := filepath.Join(pg.Data, "pg_wal", wal.SegmentName(1, now, 16*mib))
	text, err = os.ReadFile(current)
	if err != nil {
		t.Fatal(err)
	}
	partial := put(wal.SegmentName(1, now, 16*mib)+".partial", text)
	for range 2 {
		if err := postgres.ArchiveSegment(t.Context(), l, partial); err != nil {
			t.Fatal(err)
		}
	}
	c, err = l.Coverage(t.Context(), 1, uint64(begins(t, l, 1)), 0)
	if err != nil || wal.LSN(c.End) < now || len(c.Gaps) > 0 || wal.LSN(c.End) >= now+mib {
		t.Errorf("to %v, want %v; %+v, %v", wal.LSN(c.End), now, c.Gaps, err)
	}
}

// A silencer stands between a receiver and a server, and can fall silent.
type silencer struct {
	net.Listener
	mu    sync.Mutex
	mutes []*atomic.Bool
}

func newSilencer(t *testing.T, port int) *silencer {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	p := &silencer{Listener: l}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
			if err != nil {
				c.Close()
				continue
			}
			mute := new(atomic.Bool)
			p.mu.Lock()
			p.mutes = append(p.mutes, mute)
			p.mu.Unlock()
			go forward(c, s, mute)
			go forward(s, c, mute)
		}
	}()
	return p
}

func forward(to, from net.Conn, mute *atomic.Bool) {
	defer to.Close()
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		for mute.Load() {
			time.Sleep(10 * time.Millisecond)
		}
		if err != nil {
			return
		}
		if _, err := to.Write(buf[:n]); err != nil {
			return
		}
	}
}

// mute silences the connections there are, without ending them.
func (p *silencer) mute(silent bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, m := range p.mutes {
		m.Store(silent)
	}
}

// A connection that has died without a word is noticed, and made again; a
// server that has nothing to say is not taken for dead.
func TestReceiverSilence(t *testing.T) {
	t.Parallel()
	pg := testenv.Postgres(t, 17, keep(map[string]string{"wal_sender_timeout": "1s"}))
	pg.SQL(t, "create table t (a text)")
	p := newSilencer(t, pg.Port)
	conn := strings.Replace(pg.Conn, fmt.Sprintf("port=%d", pg.Port), fmt.Sprintf("port=%d", p.Addr().(*net.TCPAddr).Port), 1)
	repo := walRepository(t, providertest.NewMemory(), ageKey(t))
	x := receive(t, postgres.ReceiverConfig{Conn: conn, Repositories: []*backup.Repository{repo}, Seal: 10 * time.Millisecond})
	reaches(t, x, pg)
	begun := x.Status().ServerTime // and then for longer than a silence may last
	until(t, "hearing an idle server", x, func(s postgres.Status) bool {
		return x.saw(postgres.EventDisconnected) || s.ServerTime.Sub(begun) > 2500*time.Millisecond
	})
	if x.saw(postgres.EventDisconnected) {
		t.Errorf("a server without work was taken for dead: %+v", x.events)
	}
	p.mute(true)
	defer p.mute(false)
	pg.SQL(t, "insert into t values ('x')")
	until(t, "disconnected", x, func(postgres.Status) bool { return x.saw(postgres.EventDisconnected) })
	likeServer(t, walLog(t, repo, x.Status().System), pg, 1, 16*mib, reaches(t, x, pg))
}
