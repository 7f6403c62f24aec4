package postgres_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/backup/postgres"
	"github.com/holdfast-go/holdfast/backup/postgres/internal/wal"
	"github.com/holdfast-go/holdfast/internal/testenv"
)

// A backup that ends early leaves no point, and nothing at the server.
func TestEndedEarly(t *testing.T) {
	t.Parallel()
	p := testenv.Postgres(t, 17, testenv.PostgresOptions{Settings: map[string]string{"checkpoint_timeout": "1h"}})
	p.SQL(t, "create table t (n, s) as select n, repeat('TAMPER-ME ', 20) from generate_series(1, 100000) n")
	repo, _ := newRepository(t)
	none := func(what string, err error) {
		t.Helper()
		for p, err := range repo.Points(t.Context(), "") {
			t.Errorf("%s: there is a point: %v, %v", what, p.ID, err)
		}
		if err == nil {
			t.Errorf("%s: no error", what)
		}
	}
	idle := func(what string) {
		t.Helper()
		said := ""
		for range 30 {
			said = p.SQL(t, "select count(*) from pg_stat_progress_basebackup", "select count(*) from pg_replication_slots", "select count(*) from pg_stat_replication")
			if said == "0\n0\n0" {
				return
			}
			time.Sleep(100 * time.Millisecond)
		}
		t.Errorf("%s: the server still has\n%s", what, said)
	}
	try := func(ctx context.Context, c postgres.Config, progress func(backup.Progress)) error {
		_, err := repo.Backup(ctx, "db", newTarget(t, c), backup.BackupOptions{Progress: progress})
		return err
	}

	ctx, cancel := context.WithCancel(t.Context())
	err := try(ctx, postgres.Config{Conn: p.Conn}, func(backup.Progress) { cancel() })
	if none("cancelled", err); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	idle("cancelled")

	// While the server takes its time, and sends nothing.
	p.SQL(t, "update t set n = n + 1")
	ctx, cancel = context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	err = try(ctx, postgres.Config{Conn: p.Conn, Checkpoint: "spread"}, nil)
	if none("cancelled at the checkpoint", err); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("cancelled at the checkpoint: %v", err)
	}
	idle("cancelled at the checkpoint")

	// What arrives is not what was sent.
	err = try(t.Context(), postgres.Config{Conn: proxy(t, p, func(b []byte, _ int) []byte { return bytes.Replace(b, []byte("TAMPER-ME"), []byte("tampered!"), 1) })}, nil)
	if none("tampered with", err); err != nil && !strings.Contains(err.Error(), "other content than the server's manifest says") {
		t.Errorf("tampered with: %v", err)
	}
	idle("tampered with")

	err = try(t.Context(), postgres.Config{Conn: proxy(t, p, func(b []byte, n int) []byte {
		if n > 10<<20 {
			return nil
		}
		return b
	})}, nil)
	if none("cut", err); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("cut: %v", err)
	}
	idle("cut")

	killed := false
	err = try(t.Context(), postgres.Config{Conn: p.Conn}, func(backup.Progress) {
		if !killed {
			killed = true
			p.Kill9(t)
		}
	})
	none("server killed", err)
	p.Start(t)
	backUp(t, repo, newTarget(t, postgres.Config{Conn: p.Conn}))
}

// proxy passes connections on to a server. What the server says goes through
// change, with the number of bytes before it; nil ends the connection.
func proxy(t *testing.T, p *testenv.PG, change func(b []byte, before int) []byte) (conn string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s, err := net.Dial("tcp", fmt.Sprint("127.0.0.1:", p.Port))
			if err != nil {
				c.Close()
				return
			}
			go func() {
				io.Copy(s, c)
				s.Close()
			}()
			go func() {
				defer c.Close()
				defer s.Close()
				buf := make([]byte, 256<<10)
				for before := 0; ; {
					n, err := s.Read(buf)
					b := change(buf[:n], before)
					if before += n; err != nil || b == nil {
						return
					}
					if _, err := c.Write(b); err != nil {
						return
					}
				}
			}()
		}
	}()
	return strings.Replace(p.Conn, fmt.Sprintf("port=%d", p.Port), fmt.Sprintf("port=%d", l.Addr().(*net.TCPAddr).Port), 1)
}

// corruptPage makes a page that does not match its checksum, which is a
// warning: the rest of the cluster is not lost for it.
func corruptPage(t *testing.T, p *testenv.PG) {
	t.Helper()
	p.SQL(t, "create table t (n) as select generate_series(1, 10000)", "create table u (n) as select 1")
	file := p.SQL(t, "select pg_relation_filepath('t')")
	p.Stop(t)
	f, err := os.OpenFile(filepath.Join(p.Data, file), os.O_RDWR, 0)
	must(t, err)
	_, err = f.WriteAt([]byte("damage"), 3*8192+5000)
	must(t, errors.Join(err, f.Close()))
	p.Start(t)
	repo, _ := newRepository(t)
	point := backUp(t, repo, newTarget(t, postgres.Config{Conn: p.Conn}))
	if !point.Partial() || !strings.Contains(fmt.Sprint(point.Warnings), filepath.Base(file)) {
		t.Errorf("partial: %v, warnings: %v", point.Partial(), point.Warnings)
	}
	dir := filepath.Join(p.Dir, "restored")
	restore(t, repo, point, dir, nil)
	p.Own(t, dir, dir+".wal")
	p.Run(t, "pg_verifybackup", "--no-parse-wal", "-q", dir)
	restored := p.Second(t, dir)
	if n := restored.SQL(t, "select n from u"); n != "1" {
		t.Errorf("restored: %q", n)
	}
	restored.Kill9(t)
	p.SQL(t, "drop table t")
}

// WAL is fetched as the server has it, however much there is, and only where
// the log has none.
func TestFetchWAL(t *testing.T) {
	t.Parallel()
	p := testenv.Postgres(t, 15, testenv.PostgresOptions{WALSegmentMB: 1, Settings: map[string]string{"wal_keep_size": "200"}})
	repo, _ := newRepository(t)
	target := newTarget(t, postgres.Config{Conn: p.Conn})
	lsn := func() wal.LSN {
		l, err := wal.ParseLSN(p.SQL(t, "select pg_current_wal_flush_lsn()"))
		must(t, err)
		return l
	}
	p.SQL(t, "create table early (n int)") // a commit that is not asked for
	from, before := lsn(), time.Now()
	p.SQL(t, "create table t (n, s) as select n, md5(n::text) from generate_series(1, 300000) n", "insert into t values (1)", "checkpoint")
	to := lsn()
	if to-from < 20<<20 {
		t.Fatalf("%v to %v: not enough for two segments", from, to)
	}
	want := walOf(t, p, from&^(1<<20-1), to)
	begin := uint64(from) &^ (1<<20 - 1)
	log := logOf(t, repo, p)
	// Somebody has put in the beginning, and something in the middle.
	must(t, log.Append(t.Context(), backup.Segment{Branch: 1, From: begin}, want[:uint64(from)-begin]))
	must(t, log.Append(t.Context(), backup.Segment{Branch: 1, From: begin + 3<<20 + 17}, want[3<<20+17:5<<20+1]))
	must(t, target.FetchWAL(t.Context(), log, 1, from, to))
	in, err := log.Open(t.Context(), 1, begin, uint64(to))
	must(t, err)
	got, err := io.ReadAll(in)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("the log has %d bytes, the server %d; %v", len(got), len(want), err)
	}
	c, err := log.Coverage(t.Context(), 1, begin, uint64(to))
	if err != nil || c.Last.Before(before) || c.Last.After(time.Now().Add(time.Minute)) || c.First.Before(before) || c.Last.Before(c.First) {
		t.Errorf("the log has commits from %v to %v, %v", c.First, c.Last, err)
	}
	segments := c.Segments
	must(t, target.FetchWAL(t.Context(), log, 1, from, to))
	if c, _ = log.Coverage(t.Context(), 1, begin, uint64(to)); c.Segments != segments {
		t.Errorf("%d segments became %d although there was nothing to fetch", segments, c.Segments)
	}
	// What the server does not have any more.
	if err := target.FetchWAL(t.Context(), log, 1, 1<<20, 2<<20); err == nil {
		t.Error("WAL that is long gone was fetched")
	}
}

// walOf is the WAL of a server, of timeline 1 in files of 1 MiB.
func walOf(t *testing.T, p *testenv.PG, from, to wal.LSN) (out []byte) {
	t.Helper()
	for at := from; at < to; at += 1 << 20 {
		b, err := os.ReadFile(filepath.Join(p.Data, "pg_wal", wal.SegmentName(1, at, 1<<20)))
		must(t, err)
		out = append(out, b[:min(to-at, 1<<20)]...)
	}
	return out
}
