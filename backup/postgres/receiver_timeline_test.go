package postgres_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/backup/postgres"
	"github.com/holdfast-go/holdfast/backup/postgres/internal/wal"
	"github.com/holdfast-go/holdfast/internal/testenv"
	"github.com/holdfast-go/holdfast/provider/providertest"
)

// standby makes a standby of a cluster and starts it.
func standby(t *testing.T, pg *testenv.PG) *testenv.PG {
	t.Helper()
	dir := filepath.Join(pg.Dir, "standby")
	pg.Run(t, "pg_basebackup", "-D", dir, "-d", pg.Socket, "-R", "-c", "fast")
	return pg.Second(t, dir)
}

func caughtUp(t *testing.T, sb *testenv.PG, to string) {
	t.Helper()
	for end := time.Now().Add(time.Minute); sb.SQL(t, "select coalesce(pg_last_wal_replay_lsn(), '0/0') >= '"+to+"'") != "t"; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the standby does not catch up")
		}
	}
}

func promoteStandby(t *testing.T, sb *testenv.PG) {
	t.Helper()
	sb.Run(t, "pg_ctl", "promote", "-w", "-s", "-D", sb.Data)
}

// wholeBranch checks that the log has a timeline without a gap, as the server
// has it, and where it began.
func wholeBranch(t *testing.T, l *backup.Log, pg *testenv.PG, timeline uint32, end wal.LSN) backup.Branch {
	t.Helper()
	c, err := l.Coverage(t.Context(), timeline, uint64(begins(t, l, 1)), uint64(end))
	if err != nil || len(c.Gaps) > 0 {
		t.Fatalf("timeline %d: %+v, %v", timeline, c, err)
	}
	likeServer(t, l, pg, timeline, 16*mib, end)
	from := begins(t, l, 1)
	summarize(t, walBytes(t, l, timeline, from, end), from) // all of it follows from the beginning
	for b, err := range l.Branches(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if b.Branch == timeline {
			return b
		}
	}
	t.Fatalf("no branch %d", timeline)
	return backup.Branch{}
}

// A standby is promoted, under a receiver that is connected to it, and under
// one that was connected to the primary: both go on with the new timeline
// from where it begins. Twice, so that a history has two lines.
func TestReceiverFollowsTimelines(t *testing.T) {
	majors := []int{17}
	if os.Getenv("HOLDFAST_LONG") != "" {
		majors = []int{15, 17}
	}
	for _, major := range majors {
		t.Run(fmt.Sprint(major), func(t *testing.T) {
			t.Parallel()
			pg := testenv.Postgres(t, major, keep(nil))
			pg.SQL(t, "create table t (a text)")
			sb := standby(t, pg)
			key := ageKey(t)
			one, two := walRepository(t, providertest.NewMemory(), key), walRepository(t, providertest.NewMemory(), key)
			both := fmt.Sprintf("host=127.0.0.1,127.0.0.1 port=%d,%d user=postgres dbname=postgres passfile=%s/passfile", pg.Port, sb.Port, pg.Dir)
			first := receive(t, postgres.ReceiverConfig{Conn: both, Repositories: []*backup.Repository{one}, Slot: "one", Seal: 20 * time.Millisecond, Spool: t.TempDir()})
			cascaded := receive(t, postgres.ReceiverConfig{Conn: sb.Conn, Repositories: []*backup.Repository{two}, Slot: "two", Seal: 20 * time.Millisecond})
			pg.SQL(t, "insert into t select repeat('x', 1000) from generate_series(1, 5000)")
			end := reaches(t, first, pg)
			caughtUp(t, sb, end.String())
			until(t, "cascaded", cascaded, func(s postgres.Status) bool { return s.Received >= end })
			pg.Stop(t)
			promoteStandby(t, sb)
			sb.SQL(t, "insert into t select repeat('y', 1000) from generate_series(1, 5000)")
			sb.SQL(t, "select pg_switch_wal()", "insert into t values ('z')")
			for _, x := range []*running{first, cascaded} {
				reaches(t, x, sb)
				if !x.saw(postgres.EventTimeline) || x.Status().Timeline != 2 {
					t.Errorf("%+v", x.Status())
				}
			}
			// And once more: the server itself comes back on another timeline.
			sb.Stop(t)
			signalStandby(t, sb)
			sb.Start(t)
			promoteStandby(t, sb)
			sb.SQL(t, "insert into t values ('third')")
			for i, x := range []*running{first, cascaded} {
				end := reaches(t, x, sb)
				l := walLog(t, []*backup.Repository{one, two}[i], x.Status().System)
				if b := wholeBranch(t, l, sb, 3, end); b.Parent != 2 || len(b.History) == 0 {
					t.Errorf("%+v", b)
				}
				if b := wholeBranch(t, l, sb, 2, wal.LSN(begins(t, l, 3))); b.Parent != 1 || begins(t, l, 2) != wal.LSN(b.At) {
					t.Errorf("%+v", b)
				}
			}
		})
	}
}

// The primary is lost with WAL that the standby never had: the new timeline
// begins before what was received, and what the old one had beyond that stays,
// on its own branch. It is not acknowledged to the new primary.
func TestReceiverAfterAsyncFailover(t *testing.T) {
	t.Parallel()
	pg := testenv.Postgres(t, 17, keep(nil))
	pg.SQL(t, "create table t (a text)")
	sb := standby(t, pg)
	sb.SQL(t, "select 1")
	sb.Stop(t)
	shaky, off := outage(t)
	repo := walRepository(t, shaky, ageKey(t))
	both := fmt.Sprintf("host=127.0.0.1,127.0.0.1 port=%d,%d user=postgres dbname=postgres passfile=%s/passfile", pg.Port, sb.Port, pg.Dir)
	x := receive(t, postgres.ReceiverConfig{Conn: both, Repositories: []*backup.Repository{repo}, Seal: 20 * time.Millisecond})
	pg.SQL(t, "insert into t select repeat('x', 1000) from generate_series(1, 50000)")
	lost := reaches(t, x, pg)
	off.Store(true) // nothing of the new timeline is stored yet
	pg.Kill9(t)
	sb.Start(t)
	promoteStandby(t, sb)
	sb.SQL(t, "insert into t values ('new')")
	end := lsn(t, sb.SQL(t, "select pg_current_wal_flush_lsn()"))
	s := until(t, "on timeline 2", x, func(s postgres.Status) bool { return s.Timeline == 2 && s.Received >= end })
	if s.Acknowledged >= end || s.Logs[0].Durable < lost {
		t.Errorf("what is not stored is acknowledged, as the old timeline had these positions: %+v", s)
	}
	off.Store(false)
	s = until(t, "stored", x, func(s postgres.Status) bool { return s.Acknowledged >= end })
	if end >= lost || s.Acknowledged > lost {
		t.Errorf("the new timeline ends at %v, the old one went to %v, acknowledged %v", end, lost, s.Acknowledged)
	}
	l := walLog(t, repo, s.System)
	b := wholeBranch(t, l, sb, 2, end)
	if wal.LSN(b.At) >= lost {
		t.Errorf("timeline 2 begins at %v", wal.LSN(b.At))
	}
	likeServer(t, l, pg, 1, 16*mib, lost)
	x.stop(t)
	// A new process finds its way, too, and the old primary is not taken back.
	x = receive(t, postgres.ReceiverConfig{Conn: both, Repositories: []*backup.Repository{repo}, Seal: 20 * time.Millisecond})
	sb.SQL(t, "insert into t values ('newer')")
	reaches(t, x, sb)
	sb.Stop(t)
	pg.Start(t)
	until(t, "refusing", x, func(s postgres.Status) bool {
		return !s.Connected && s.Err != nil && contains(s.Err, "not the primary any more")
	})
}

// signalStandby makes a cluster that is stopped come up as a standby.
func signalStandby(t *testing.T, pg *testenv.PG) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(pg.Data, "standby.signal"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	pg.Own(t, pg.Data)
}

func contains(err error, what string) bool { return err != nil && strings.Contains(err.Error(), what) }
