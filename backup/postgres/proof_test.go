package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-go/holdfast/backup/postgres"
	"github.com/holdfast-go/holdfast/internal/testenv"
)

// proofConfig is how what was restored beside a cluster is proven. The programs
// of a test change users by themselves.
func proofConfig(p *testenv.PG, data string) postgres.ProofConfig {
	return postgres.ProofConfig{Data: data, Bin: p.Bin, Run: p.Dir, RunAs: fmt.Sprintf("%d:%d", os.Geteuid(), os.Getegid())}
}

// TestProveChild proves a cluster in a process of its own, which is killed.
func TestProveChild(t *testing.T) {
	args := strings.Split(os.Getenv("HOLDFAST_PROVE"), "\n")
	if len(args) != 3 {
		t.Skip("for TestProve")
	}
	_, err := postgres.Prove(t.Context(), postgres.ProofConfig{Data: args[0], Bin: args[1], Run: args[2], RunAs: fmt.Sprintf("%d:%d", os.Geteuid(), os.Getegid()),
		Queries: []postgres.Query{{SQL: "select pg_sleep(600)"}}})
	t.Error(err)
}

// alone sees that nothing of a proof is left.
func alone(t *testing.T, p *testenv.PG, data string) {
	t.Helper()
	for _, pattern := range []string{p.Dir + "/hfproof*", data + "/postmaster.*"} {
		if left, err := filepath.Glob(pattern); err != nil || len(left) > 0 {
			t.Errorf("left over: %s, %v", left, err)
		}
	}
	if out, err := p.TryRun("pg_ctl", "status", "-D", data); err == nil {
		t.Errorf("a server runs: %s", out)
	}
}

// What was restored is started where nobody sees it, and looked at; what is
// wrong with it is found, and nothing stays behind.
func TestProve(t *testing.T) {
	t.Parallel()
	p := testenv.Postgres(t, 17, testenv.PostgresOptions{WALSegmentMB: 1, Settings: map[string]string{"track_commit_timestamp": "on", "wal_level": "logical", "max_connections": "150"}})
	p.SQL(t, "create database shop", `create table "odd ""t" (n int primary key, s text)`, `insert into "odd ""t" select n, repeat('x', 100) from generate_series(1, 5000) n`,
		"create extension amcheck", // where it is there already, it is used as it is
		`create subscription sub connection 'host=`+p.Dir+`/sock port=1 dbname=postgres' publication pub with (connect = false, slot_name = 'theirs')`,
		"alter subscription sub enable", `alter system set archive_cleanup_command = 'touch `+p.Dir+`/escaped'`)
	repo, _ := newRepository(t)
	point := backUp(t, repo, newTarget(t, postgres.Config{Conn: p.Conn, Watermark: "shop"}))
	if n := p.SQL(t, "select count(*) from pg_database where datname = 'shop'"); n != "1" {
		t.Fatal(n)
	}
	p.SQL(t, `insert into "odd ""t" values (0, 'last')`)
	last, xid, _ := strings.Cut(p.SQL(t, `select to_char(timestamp at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), xid from pg_last_committed_xact()`), "|")
	archive(t, repo, p, 1, point.Logs[0].From)
	dir := filepath.Join(p.Dir, "restored")
	began := time.Now()
	restore(t, repo, point, dir, map[string]string{"owner": ids(p)})
	c := proofConfig(p, dir)
	c.Queries = []postgres.Query{{SQL: `select s from "odd ""t" where n = 0`, Want: "last"}, {Database: "shop", SQL: "select count(*) = 1 from holdfast.watermark"},
		{SQL: "select count(*) = 0 from pg_stat_activity where backend_type like 'logical%' or backend_type in ('archiver', 'autovacuum launcher')"}}
	c.Until = time.Now()
	config := filepath.Join(dir, "postgresql.conf")
	whole, err := os.ReadFile(config)
	must(t, err)
	// What a configuration can say that must not come true.
	p.SQL(t, "select 1")
	must(t, os.WriteFile(config, fmt.Appendf(whole, `
data_directory = '%s'
shared_preload_libraries = 'pg_stat_statements, $libdir/pg_cron'
listen_addresses = '*'
archive_mode = on
archive_command = 'touch %[2]s/escaped'
recovery_end_command = 'touch %[2]s/escaped'
recovery_target_action = pause
synchronous_standby_names = 'nobody'
log_destination = 'syslog'
logging_collector = on
hba_file = '/nowhere'
ssl = on
default_transaction_read_only = on
`, p.Data, p.Dir), 0o600))
	auto, err := os.ReadFile(filepath.Join(dir, "postgresql.auto.conf"))
	must(t, err)

	t.Run("cancelled", func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		why := errors.New("enough")
		go func() {
			for ctx.Err() == nil {
				if _, err := os.Stat(dir + "/postmaster.pid"); err == nil {
					cancel(why)
				}
				time.Sleep(time.Millisecond)
			}
		}()
		c := c
		c.Queries = []postgres.Query{{SQL: "select pg_sleep(600)"}}
		proof, err := postgres.Prove(ctx, c)
		if !errors.Is(err, why) || proof.Passed() {
			t.Errorf("%v\n%v", err, proof)
		}
		alone(t, p, dir)
	})
	t.Run("killed", func(t *testing.T) { proverKilled(t, p, c) })
	t.Run("passed", func(t *testing.T) {
		proof, err := postgres.Prove(t.Context(), c)
		if err != nil || !proof.Passed() {
			t.Fatalf("%v\n%v", err, proof)
		}
		alone(t, p, dir)
		if got := proof.Until.Format("2006"); got == "" || !strings.Contains(proof.Watermark, "of the backup") || proof.Queries != 3 {
			t.Errorf("%v", proof)
		}
		if proof.Began.Before(began) || proof.RTO() < proof.Recovered.Sub(proof.Began) || proof.Consistent.Before(proof.Started) || proof.Recovered.Before(proof.Consistent) {
			t.Errorf("%+v", proof)
		}
		said := proof.String()
		for _, want := range []string{`database "postgres": 1 tables with 5001 rows`, "pg_cron was left out", "amcheck: ", "RTO "} {
			if !strings.Contains(said, want) {
				t.Errorf("%q is not in\n%s", want, said)
			}
		}
		for _, d := range proof.Databases {
			if d.Heaps < 50 || d.Indexes < 100 {
				t.Errorf("%+v", d)
			}
		}
		if after, _ := os.ReadFile(filepath.Join(dir, "postgresql.auto.conf")); string(after) != string(auto) {
			t.Errorf("settings were\n%s\nand are\n%s", auto, after)
		}
		if _, err := os.Lstat(filepath.Join(p.Dir, "escaped")); !errors.Is(err, fs.ErrNotExist) {
			t.Error("a command of the configuration was run")
		}
	})
	t.Run("exact", func(t *testing.T) {
		proofOfMoment(t, p, c, last, func(dir string) {
			restore(t, repo, point, dir, map[string]string{"owner": ids(p), "target-xid": xid, "action": "pause"})
		})
	})
	must(t, os.WriteFile(config, whole, 0o600))
	t.Run("used", func(t *testing.T) { provenIsUsed(t, p, c) })
	t.Run("damaged", func(t *testing.T) { provenDamaged(t, p, c) })
}

// proverKilled kills a prover while its server runs. The next proof ends that
// server, and no other.
func proverKilled(t *testing.T, p *testenv.PG, c postgres.ProofConfig) {
	cmd := exec.Command(os.Args[0], "-test.run=^TestProveChild$")
	cmd.Env = append(os.Environ(), "HOLDFAST_PROVE="+c.Data+"\n"+c.Bin+"\n"+c.Run)
	must(t, cmd.Start())
	var log []byte
	for end := time.Now().Add(time.Minute); !strings.Contains(string(log), "pg_sleep"); time.Sleep(20 * time.Millisecond) {
		logs, _ := filepath.Glob(c.Run + "/hfproof*/.s.PGSQL.5432")
		if time.Now().After(end) {
			t.Fatal("the prover asks nothing")
		}
		if len(logs) == 1 {
			out, _ := p.TryRun("psql", "-AtXd", "host="+filepath.Dir(logs[0])+" user=postgres dbname=postgres", "-c", "select query from pg_stat_activity where application_name = 'holdfast'")
			log = []byte(out)
		}
	}
	// While it lives, there is no other.
	if _, err := postgres.Prove(t.Context(), c); err == nil || !strings.Contains(err.Error(), "another proof of it is under way") {
		t.Errorf("two proofs: %v", err)
	}
	must(t, cmd.Process.Kill())
	cmd.Wait()
	if p.SQL(t, "select 1") != "1" {
		t.Error("the original does not run")
	}
	proof, err := postgres.Prove(t.Context(), c)
	if err != nil {
		t.Errorf("after a prover was killed: %v\n%v", err, proof)
	}
	alone(t, p, c.Data)
}

// proofOfMoment restores again, and sees that the last transaction that was
// replayed is the last one of the source, to the microsecond.
func proofOfMoment(t *testing.T, p *testenv.PG, c postgres.ProofConfig, last string, restore func(dir string)) {
	c.Data = filepath.Join(p.Dir, "second")
	restore(c.Data)
	c.Rows, c.Amcheck, c.Queries = "estimate", "none", nil
	for _, name := range []string{"postgresql.conf", "pg_hba.conf", "pg_ident.conf"} { // as where they are in /etc
		must(t, os.Remove(filepath.Join(c.Data, name)))
	}
	proof, err := postgres.Prove(t.Context(), c)
	rpo, known := proof.RPO()
	if got := proof.LastCommit.Format("2006-01-02T15:04:05.000000Z"); err != nil || got != last || !known || rpo != c.Until.Sub(proof.LastCommit) || proof.Timeline != 2 {
		t.Errorf("%v: the last transaction is of %s, want %s\n%v", err, got, last, proof)
	}
	// Without the WAL there is no proof, and it is said why.
	must(t, os.RemoveAll(c.Data))
	must(t, os.RemoveAll(c.Data+".wal"))
	restore(c.Data)
	must(t, os.RemoveAll(c.Data+".wal"))
	if proof, err = postgres.Prove(t.Context(), c); err == nil || proof.Passed() || !strings.Contains(err.Error(), "FATAL") {
		t.Errorf("without WAL: %v\n%v", err, proof)
	}
	alone(t, p, c.Data)
}

// provenIsUsed sees that a proven cluster is as it was restored.
func provenIsUsed(t *testing.T, p *testenv.PG, c postgres.ProofConfig) {
	s := p.Second(t, c.Data)
	if said := s.SQL(t, "show archive_cleanup_command", "select count(*) from pg_namespace where nspname = 'holdfast_proof'"); said != "touch "+p.Dir+"/escaped\n0" {
		t.Errorf("it says %q", said)
	}
	if said := s.Run(t, "psql", "-AtXd", strings.Replace(s.Socket, "dbname=postgres", "dbname=shop", 1), "-c", "select count(*) from pg_extension where extname = 'amcheck'"); said != "0\n" {
		t.Errorf("amcheck has stayed: %q", said)
	}
	if _, err := postgres.Prove(t.Context(), c); err == nil || !strings.Contains(err.Error(), "a server is running") {
		t.Errorf("while it is used: %v", err)
	}
	if s.SQL(t, "select 1") != "1" {
		t.Error("a proof has ended the server of somebody else")
	}
	s.Stop(t)
}

// provenDamaged damages an index, a table and a row, each of which is found.
func provenDamaged(t *testing.T, p *testenv.PG, c postgres.ProofConfig) {
	s := p.Second(t, c.Data)
	s.SQL(t, "create table thin (n) as select generate_series(1, 1000)", "checkpoint")
	index, table := s.SQL(t, "select pg_relation_filepath(oid) from pg_class where relname = 'odd \"t_pkey'"), s.SQL(t, "select pg_relation_filepath('thin')")
	s.Run(t, "psql", "-AtXd", strings.Replace(s.Socket, "dbname=postgres", "dbname=shop", 1), "-c", "update holdfast.watermark set at = at - interval '1 second'")
	s.Stop(t)
	for file, at := range map[string]int64{index: 3*8192 + 5000, table: 8192 + 100} {
		f, err := os.OpenFile(filepath.Join(c.Data, file), os.O_RDWR, 0)
		must(t, err)
		_, err = f.WriteAt([]byte("damage"), at)
		must(t, errors.Join(err, f.Close()))
	}
	c.Queries = append(c.Queries, postgres.Query{SQL: "select count(*) from thin where false"}, postgres.Query{SQL: "create table x ()"}, postgres.Query{Database: "nowhere", SQL: "select true"})
	proof, err := postgres.Prove(t.Context(), c)
	if !errors.Is(err, postgres.ErrUnproven) || proof.Passed() || proof.RTO() != 0 {
		t.Fatalf("%v\n%v", err, proof)
	}
	said := proof.String()
	for _, want := range []string{`WRONG amcheck: database "postgres": public."odd ""t_pkey"`, `WRONG amcheck: database "postgres": public.thin`, `WRONG rows: database "postgres": public.thin`, `WRONG watermark: database "shop"`,
		`WRONG query: database "postgres": select count(*) from thin where false: it yields "0", want "t"`, "create table x (): cannot execute CREATE TABLE in a read-only transaction", `WRONG query: database "nowhere"`} {
		if !strings.Contains(said, want) {
			t.Errorf("%s is not in\n%s", want, said)
		}
	}
	alone(t, p, c.Data)
}

// What is wrong with a ProofConfig is said all at once.
func TestProofConfig(t *testing.T) {
	_, err := postgres.Prove(t.Context(), postgres.ProofConfig{Run: strings.Repeat("/long", 30), RunAs: "postgres", Amcheck: "some", Rows: "many", Timeout: -1,
		Settings: map[string]string{"archive_mode": "on", "a b": ""}, Queries: []postgres.Query{{}}})
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{"Data", "Run", "RunAs", "Amcheck", "Rows", "Timeout", "archive_mode", "a b", "Queries"} {
		if !strings.Contains(err.Error(), "field "+want) && !strings.Contains(err.Error(), want) {
			t.Errorf("%s is not in %v", want, err)
		}
	}
	if _, err := postgres.Prove(t.Context(), postgres.ProofConfig{Data: t.TempDir()}); err == nil || !strings.Contains(err.Error(), "no data directory") {
		t.Errorf("an empty directory: %v", err)
	}
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "PG_VERSION"), []byte("17\n"), 0o600))
	if os.Geteuid() == 0 {
		if _, err := postgres.Prove(t.Context(), postgres.ProofConfig{Data: dir}); err == nil || !strings.Contains(err.Error(), "belongs to root") {
			t.Errorf("a directory of root: %v", err)
		}
	}
	must(t, os.WriteFile(filepath.Join(dir, ".holdfast-restore"), nil, 0o600))
	if _, err := postgres.Prove(t.Context(), postgres.ProofConfig{Data: dir}); err == nil || !strings.Contains(err.Error(), "its restore has not ended") {
		t.Errorf("half a restore: %v", err)
	}
}

// Root starts the programs as the owner of the cluster.
func TestProofRunsAs(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can be others")
	}
	dir, err := os.MkdirTemp("", "pg")
	must(t, err)
	defer os.RemoveAll(dir)
	must(t, os.Chmod(dir, 0o755))
	data := filepath.Join(dir, "data")
	must(t, os.Mkdir(data, 0o700))
	for name, content := range map[string]string{"data/PG_VERSION": "17\n", "data/postgresql.conf": "", "postgres": "#!/bin/sh\necho I am $(id -u):$(id -g) $(env | grep -c ^PG) $(ls -nd . | cut -c1-10) >&2\nexit 1\n"} {
		must(t, os.WriteFile(filepath.Join(dir, name), []byte(content), 0o755))
	}
	must(t, os.Chown(data, 1234, 5678))
	t.Setenv("PGPORT", "1")
	for as, want := range map[string]string{"": "I am 1234:5678 0 drwx------", "0:0": "I am 0:0 0 drwx------"} {
		if _, err := postgres.Prove(t.Context(), postgres.ProofConfig{Data: data, Bin: dir, Run: dir, RunAs: as}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", as, err)
		}
	}
	if left, _ := filepath.Glob(dir + "/hfproof*"); len(left) > 0 {
		t.Errorf("left over: %s", left)
	}
}

// A server that somebody else has started meanwhile is left alone.
func TestProofOfAnothers(t *testing.T) {
	dir, err := os.MkdirTemp("", "pg")
	must(t, err)
	defer os.RemoveAll(dir)
	data := filepath.Join(dir, "data")
	must(t, os.Mkdir(data, 0o700))
	for name, content := range map[string]string{"data/PG_VERSION": "17\n", "data/postgresql.conf": "", "data/postmaster.opts": "theirs", "postgres": "#!/bin/sh\n",
		"pg_ctl": "#!/bin/sh\nif [ $1 = start ]; then printf '1\\nx\\n0\\n5432\\n/elsewhere\\n' > " + data + "/postmaster.pid; sleep 1; exit 1; fi\ntouch " + dir + "/stopped\n"} {
		must(t, os.WriteFile(filepath.Join(dir, name), []byte(content), 0o755))
	}
	if os.Geteuid() == 0 {
		must(t, os.Chown(data, 1234, 5678))
	}
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		for ctx.Err() == nil {
			if _, err := os.Stat(data + "/postmaster.pid"); err == nil {
				cancel()
			}
			time.Sleep(time.Millisecond)
		}
	}()
	if _, err := postgres.Prove(ctx, postgres.ProofConfig{Data: data, Bin: dir, Run: dir, RunAs: fmt.Sprintf("%d:%d", os.Geteuid(), os.Getegid())}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "stopped")); !errors.Is(err, fs.ErrNotExist) {
		t.Error("it was stopped")
	}
	if b, _ := os.ReadFile(filepath.Join(data, "postmaster.opts")); string(b) != "theirs" {
		t.Error("its options are gone")
	}
}
