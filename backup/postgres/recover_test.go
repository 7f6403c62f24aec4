package postgres_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/backup/postgres"
	"github.com/holdfast-go/holdfast/backup/postgres/internal/wal"
	"github.com/holdfast-go/holdfast/internal/testenv"
)

// logOf is the log of a cluster.
func logOf(t *testing.T, repo *backup.Repository, p *testenv.PG) *backup.Log {
	t.Helper()
	system, err := strconv.ParseUint(p.SQL(t, "select system_identifier from pg_control_system()"), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	log, err := repo.Log(postgres.LogName(system))
	if err != nil {
		t.Fatal(err)
	}
	return log
}

// archive puts what a cluster has of the WAL into the log, from a point on, as
// a receiver does: to where the server has written.
func archive(t *testing.T, repo *backup.Repository, p *testenv.PG, timeline uint32, from uint64) (end wal.LSN) {
	t.Helper()
	log := logOf(t, repo, p)
	size, err := strconv.ParseUint(p.SQL(t, "select setting from pg_settings where name = 'wal_segment_size'"), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	if end, err = wal.ParseLSN(p.SQL(t, "select pg_switch_wal()")); err != nil {
		t.Fatal(err)
	}
	c, err := log.Coverage(t.Context(), timeline, from, uint64(end))
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range c.Gaps {
		for at := g.From; at < g.To; {
			to := min(g.To, (at/size+1)*size)
			b, err := os.ReadFile(filepath.Join(p.Data, "pg_wal", wal.SegmentName(timeline, wal.LSN(at), size)))
			if err != nil {
				t.Fatal(err)
			}
			sum, err := wal.Summarize(strings.NewReader(string(b[:to-at/size*size])), wal.Config{Start: wal.LSN(at / size * size), SegmentSize: size}, wal.Stop{})
			if err != nil {
				t.Fatal(err)
			}
			s := backup.Segment{Branch: timeline, From: at, First: sum.First, Last: sum.Last}
			if err := log.Append(t.Context(), s, b[at%size:at%size+to-at]); err != nil {
				t.Fatal(err)
			}
			at = to
		}
	}
	return end
}

// A cluster that was promoted goes on along its own timeline: a backup of it
// records where that came from, and one of before can be restored to what the
// new timeline has, to what the old one had, and to the new one's backup.
func TestTimelines(t *testing.T) {
	t.Parallel()
	longOnly(t)
	p := testenv.Postgres(t, 17, testenv.PostgresOptions{WALSegmentMB: 1, Settings: map[string]string{"wal_keep_size": "100"}})
	repo, _ := newRepository(t)
	p.SQL(t, "create table t (n int)", "insert into t values (0)")
	first := backUp(t, repo, newTarget(t, postgres.Config{Conn: p.Conn}))
	p.SQL(t, "insert into t values (1)", "select pg_create_restore_point('here')")
	archive(t, repo, p, 1, first.Logs[0].From)
	p.SQL(t, "insert into t values (10)")
	archive(t, repo, p, 1, first.Logs[0].From)

	// Another line from "here" on.
	dir := filepath.Join(p.Dir, "promoted")
	restore(t, repo, first, dir, map[string]string{"target-name": "here"})
	second := verified(t, p, dir)
	second.SQL(t, "insert into t values (2)")
	point := backUp(t, repo, newTarget(t, postgres.Config{Conn: second.Conn}))
	if n := point.Logs[0].Branch; n != 2 {
		t.Fatalf("the backup of a promoted cluster is on timeline %d", n)
	}
	second.SQL(t, "insert into t values (3)")
	// From the beginning of the timeline, which no backup has.
	for b, err := range logOf(t, repo, p).Branches(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if b.Branch == 2 {
			archive(t, repo, second, 2, b.At)
		}
	}
	p.Stop(t)
	second.Stop(t)
	for i, c := range []struct {
		point   backup.Point
		options map[string]string
		want    string
	}{
		{first, nil, "0 1 2 3"},
		{first, map[string]string{"target-timeline": "2"}, "0 1 2 3"},
		{first, map[string]string{"target-timeline": "current"}, "0 1 10"},
		{first, map[string]string{"target-timeline": "1"}, "0 1 10"},
		{point, nil, "0 1 2 3"},
		{point, map[string]string{"target": "consistent"}, "0 1 2"},
	} {
		dir := filepath.Join(p.Dir, fmt.Sprint("restored", i))
		restore(t, repo, c.point, dir, c.options)
		r := verified(t, p, dir)
		if got := r.SQL(t, "select string_agg(n::text, ' ' order by n) from t"); got != c.want {
			t.Errorf("%d, %v: %q, want %q", i, c.options, got, c.want)
		}
		if file := r.SQL(t, "select pg_walfile_name(pg_current_wal_lsn())"); !strings.HasPrefix(file, "00000003") {
			t.Errorf("%d, %v: it goes on in %s, on a timeline that the log has already", i, c.options, file)
		}
		r.Kill9(t)
	}
}

// A standby is as good a source, whichever way it is read: restored, all is
// there that it had replayed when the backup began.
func TestStandby(t *testing.T) {
	t.Parallel()
	majors := []int{17}
	if os.Getenv("HOLDFAST_LONG") != "" {
		majors = []int{15, 17} // what there is of 18 makes no standby
	}
	for _, major := range majors {
		t.Run(fmt.Sprint(major), func(t *testing.T) {
			t.Parallel()
			testStandby(t, testenv.Postgres(t, major, testenv.PostgresOptions{}))
		})
	}
}

func testStandby(t *testing.T, p *testenv.PG) {
	stop := load(t, p)
	copied := filepath.Join(p.Dir, "standby")
	p.Run(t, "pg_basebackup", "-D", copied, "-d", p.Conn, "-c", "fast", "-R")
	standby := p.Second(t, copied)
	repo, _ := newRepository(t)
	points := map[postgres.Reader]backup.Point{}
	p.SQL(t, "create table kept (n text)")
	for _, reader := range []postgres.Reader{postgres.Local, postgres.Parallel, postgres.Stream} {
		p.SQL(t, fmt.Sprintf("insert into kept values ('%s')", reader), "checkpoint") // of which the standby makes a restart point
		replays(t, standby, p.SQL(t, "select pg_current_wal_flush_lsn()"))
		c := postgres.Config{Conn: standby.Conn, Watermark: "postgres", Reader: reader}
		if reader == postgres.Local {
			c.Data, c.Reader = standby.Data, "" // which it finds out to be the standby's
		}
		points[reader] = backUp(t, repo, newTarget(t, c))
		if got := paths(t, repo, points[reader])[".holdfast/base"].Meta; !strings.Contains(string(got), fmt.Sprintf(`"standby":true,"reader":"%s"`, reader)) || points[reader].Partial() {
			t.Errorf("%s: %s, %v", reader, got, points[reader].Warnings)
		}
	}
	// The primary's directory is not what the standby works on.
	_, err := repo.Backup(t.Context(), "db", newTarget(t, postgres.Config{Conn: standby.Conn, Data: p.Data, Reader: postgres.Local}), backup.BackupOptions{})
	if err == nil || !strings.Contains(err.Error(), "not what the server of Conn works on") {
		t.Errorf("the data directory of the primary: %v", err)
	}
	stop()
	for reader, want := range map[postgres.Reader]string{postgres.Local: "local", postgres.Parallel: "local parallel", postgres.Stream: "local parallel stream"} {
		dir := filepath.Join(p.Dir, "restored-"+string(reader))
		restore(t, repo, points[reader], dir, map[string]string{"target": "consistent", "verify": "true"})
		r := verified(t, p, dir)
		if said := r.SQL(t, "select string_agg(n, ' ' order by n) from kept", balanced); said != want+"\nt" {
			t.Errorf("%s: restored: %q", reader, said)
		}
		stopped(t, r)
		if reader != postgres.Stream {
			continue
		}
		if proof, err := postgres.Prove(t.Context(), proofConfig(p, dir)); err != nil || !strings.Contains(fmt.Sprint(proof.NotDone), "the source is a standby") {
			t.Errorf("%v\n%v", err, proof)
		}
	}
	standby.Stop(t)
}

// replays waits until a standby has replayed the WAL up to a position.
func replays(t *testing.T, standby *testenv.PG, lsn string) {
	t.Helper()
	for end := time.Now().Add(time.Minute); standby.SQL(t, "select pg_last_wal_replay_lsn() >= '"+lsn+"'") != "t"; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("the standby does not replay up to %s", lsn)
		}
	}
}
