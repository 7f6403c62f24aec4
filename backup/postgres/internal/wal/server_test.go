package wal_test

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-go/holdfast/backup/postgres/internal/wal"
	"github.com/holdfast-go/holdfast/internal/testenv"
)

// load makes WAL with every kind of record that is understood, and records
// over many pages.
func load(t *testing.T, pg *testenv.PG) {
	t.Helper()
	var subs strings.Builder
	subs.WriteString("do $$ begin for i in 1..300 loop begin insert into t select i; exception when others then null; end; end loop; end $$")
	pg.SQL(t, "create table t (a int, b text default repeat(md5(random()::text), 20))")
	pg.Run(t, "pgbench", "-i", "-q", "-s", "1", pg.Socket)
	pg.Run(t, "pgbench", "-n", "-t", "400", "-c", "2", pg.Socket)
	pg.SQL(t,
		"insert into t select generate_series(1, 20000)",
		subs.String(),
		"select pg_create_restore_point('before it')",
		"begin; insert into t values (1); rollback",
		"begin; insert into t values (1); prepare transaction 'one'",
		"begin; create table dropped (a int); insert into dropped values (1); prepare transaction 'two'",
		"commit prepared 'one'",
		"rollback prepared 'two'",
		"drop table if exists pgbench_history",
		"checkpoint",
		"select pg_switch_wal()",
		"begin; create table made (a int); drop table t; prepare transaction 'three'",
		"commit prepared 'three'",
		"vacuum",
		"select pg_create_restore_point('after it')",
		"select pg_switch_wal()")
	pg.Run(t, "pgbench", "-n", "-t", "100", "-S", pg.Socket)
}

// Real servers' WAL is read as the server's own pg_waldump reads it: each
// record's position, length, transaction, link, and what commits, aborts and
// restore points say.
func TestLikeWaldump(t *testing.T) {
	for _, tc := range []struct{ major, segment int }{{15, 16}, {17, 1}, {18, 16}} {
		t.Run(fmt.Sprint(tc.major), func(t *testing.T) {
			t.Parallel()
			pg := testenv.Postgres(t, tc.major, testenv.PostgresOptions{WALSegmentMB: tc.segment,
				Settings: map[string]string{"max_prepared_transactions": "5", "wal_keep_size": "1GB", "wal_level": "logical"}})
			load(t, pg)
			pg.Stop(t)
			like(t, pg, int64(tc.segment)*mib)
		})
	}
}

func like(t *testing.T, pg *testenv.PG, segment int64) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(pg.Data, "pg_wal", "0*"))
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	slices.Sort(files)
	timeline, start, err := wal.ParseSegmentName(filepath.Base(files[0]), uint64(segment))
	if err != nil || timeline != 1 {
		t.Fatal(timeline, err)
	}
	s := wal.NewScanner(wal.Config{Start: start, SegmentSize: uint64(segment), Timeline: 1})
	var got []wal.Record
	kinds := map[wal.Kind]int{}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if err = s.Scan(b, func(r wal.Record) error { got = append(got, r); kinds[r.Kind]++; return nil }); err != nil {
			t.Log(err) // the end, told from what follows
			break
		}
	}
	if s.Version() != pg.Major {
		t.Errorf("version %d", s.Version())
	}
	for k, least := range map[wal.Kind]int{wal.Commit: 500, wal.Abort: 2, wal.Checkpoint: 2, wal.RestorePoint: 2, wal.SwitchSegment: 2} {
		if kinds[k] < least {
			t.Errorf("%d records of kind %v", kinds[k], k)
		}
	}
	if pg.Major == 18 {
		return // its package has no pg_waldump; the sums and links of all records were checked
	}
	lines := strings.Split(strings.TrimSpace(pg.Run(t, "pg_waldump", "-p", filepath.Join(pg.Data, "pg_wal"), "-s", start.String(), "-e", s.End().String(), filepath.Base(files[0]), filepath.Base(files[len(files)-1]))), "\n")
	for i, line := range lines {
		if i >= len(got) {
			t.Fatalf("%d records, and pg_waldump has %d; the next one is\n%s", len(got), len(lines), line)
		}
		if mine := asWaldump(t, got[i], line); mine != "" {
			t.Fatalf("record %d: %s\n%+v\n%s", i, mine, got[i], line)
		}
	}
	if len(got) != len(lines) {
		t.Errorf("%d records, and pg_waldump has %d", len(got), len(lines))
	}
	t.Logf("%d records, %v", len(got), kinds)
}

var (
	waldump = regexp.MustCompile(`^rmgr: (\S+)\s+len \(rec/tot\):\s*(\d+)/\s*(\d+), tx:\s*(\d+), lsn: (\S+), prev (\S+), desc: (\S*) ?(.*)$`)
	ended   = regexp.MustCompile(`^(?:(\d+): )?(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+ UTC)`)
)

// asWaldump compares a record with a line of pg_waldump.
func asWaldump(t *testing.T, r wal.Record, line string) string {
	t.Helper()
	m := waldump.FindStringSubmatch(line)
	if m == nil {
		t.Fatalf("pg_waldump says %q", line)
	}
	at, err1 := wal.ParseLSN(m[5])
	prev, err2 := wal.ParseLSN(m[6])
	length, err3 := strconv.ParseUint(m[3], 10, 32)
	xid, err4 := strconv.ParseUint(m[4], 10, 32)
	if err := cmp.Or(err1, err2, err3, err4); err != nil {
		t.Fatal(err)
	}
	if r.LSN != at || r.Prev != prev || uint64(r.Length) != length {
		return "another place or length"
	}
	want := wal.Other
	switch m[1] + " " + m[7] {
	case "Transaction COMMIT", "Transaction COMMIT_PREPARED":
		want = wal.Commit
	case "Transaction ABORT", "Transaction ABORT_PREPARED":
		want = wal.Abort
	case "XLOG CHECKPOINT_ONLINE", "XLOG CHECKPOINT_SHUTDOWN":
		want = wal.Checkpoint
	case "XLOG RESTORE_POINT":
		want = wal.RestorePoint
	case "XLOG END_OF_RECOVERY":
		want = wal.EndOfRecovery
	case "XLOG SWITCH":
		want = wal.SwitchSegment
	}
	if r.Kind != want {
		return "another kind, want " + want.String()
	}
	switch want {
	case wal.Commit, wal.Abort:
		e := ended.FindStringSubmatch(m[8])
		if e == nil {
			t.Fatalf("pg_waldump says %q", line)
		}
		if e[1] != "" {
			if xid, err1 = strconv.ParseUint(e[1], 10, 32); err1 != nil {
				t.Fatal(err1)
			}
		}
		when, err := time.Parse("2006-01-02 15:04:05.999999 MST", e[2])
		if err != nil || !r.Time.Equal(when) {
			return fmt.Sprintf("at %v, want %v (%v)", r.Time, when, err)
		}
	case wal.RestorePoint:
		if m[8] != r.Name {
			return "name " + r.Name
		}
	case wal.Checkpoint:
		if !strings.Contains(m[8], fmt.Sprintf("redo %v; tli %d; prev tli %d;", r.Redo, r.Timeline, r.PrevTimeline)) {
			return "another place to redo from, or timeline"
		}
	case wal.EndOfRecovery:
		if !strings.Contains(m[8], fmt.Sprintf("tli %d; prev tli %d;", r.Timeline, r.PrevTimeline)) {
			return "another timeline"
		}
	}
	if uint64(r.XID) != xid {
		return fmt.Sprintf("transaction %d, want %d", r.XID, xid)
	}
	return ""
}
