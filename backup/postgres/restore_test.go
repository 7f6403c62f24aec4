package postgres_test

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/backup/postgres"
	"github.com/holdfast-go/holdfast/internal/testenv"
)

// eachVersion runs a test against a server of every version.
func eachVersion(t *testing.T, test func(t *testing.T, p *testenv.PG)) {
	for _, major := range versions {
		t.Run(fmt.Sprint(major), func(t *testing.T) {
			t.Parallel()
			test(t, testenv.Postgres(t, major, testenv.PostgresOptions{WALSegmentMB: map[int]int{15: 1, 17: 64, 18: 8}[major]}))
		})
	}
}

// load keeps transactions coming until the test ends, or the function that it
// returns is called.
func load(t *testing.T, p *testenv.PG) (stop func()) {
	t.Helper()
	p.Run(t, "pgbench", "-i", "-q", "-s", "2", p.Socket)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		p.TryRun("pgbench", "-n", "-c", "2", "-R", "100", "-T", "600", p.Socket)
	}()
	for p.SQL(t, "select count(*) > 20 from pgbench_history") != "t" {
		time.Sleep(100 * time.Millisecond)
	}
	stop = func() {
		p.TryRun("psql", "-Xd", p.Socket, "-c", "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'pgbench'")
		<-ended
	}
	t.Cleanup(stop)
	return stop
}

// balanced are sums that every transaction of the load keeps equal.
const balanced = "select count(*) > 20 and sum(delta) = (select sum(abalance) from pgbench_accounts)" +
	" and sum(delta) = (select sum(tbalance) from pgbench_tellers) and sum(delta) = (select sum(bbalance) from pgbench_branches) from pgbench_history"

func restore(t *testing.T, repo *backup.Repository, point backup.Point, location string, options map[string]string) {
	t.Helper()
	err := repo.Restore(t.Context(), point.ID, newTarget(t, postgres.Config{}), backup.Destination{Location: location, Options: options}, backup.RestoreOptions{})
	if err != nil {
		t.Fatal(err)
	}
}

// verified checks what was restored, before it is started and while it runs.
func verified(t *testing.T, p *testenv.PG, dir string, spaces ...string) *testenv.PG {
	t.Helper()
	p.Own(t, append(spaces, dir, dir+".wal")...)
	if p.Major != 18 {
		p.Run(t, "pg_verifybackup", "--no-parse-wal", "-q", dir)
	}
	restored := p.Second(t, dir)
	for start := time.Now(); restored.SQL(t, "select pg_is_in_recovery()") == "t"; time.Sleep(100 * time.Millisecond) {
		if time.Since(start) > time.Minute {
			t.Fatalf("it does not end its recovery\n%s", restored.Log())
		}
	}
	if p.Major != 18 {
		p.Run(t, "pg_amcheck", "-h", filepath.Join(p.Dir, "sock"), "-p", fmt.Sprint(restored.Port), "-U", "postgres", "--install-missing", "-a")
	}
	return restored
}

// stopped checks the pages of a cluster after it has run.
func stopped(t *testing.T, p *testenv.PG) {
	t.Helper()
	p.Stop(t)
	if p.Major != 18 {
		p.Run(t, "pg_checksums", "-D", p.Data)
	}
}

// A backup under load is restored elsewhere, tablespaces too, and comes up with
// everything that was committed before it, by tools that know nothing of us.
func TestRestore(t *testing.T) {
	eachVersion(t, func(t *testing.T, p *testenv.PG) {
		space, odd := filepath.Join(p.Dir, "space"), filepath.Join(p.Dir, "it's 100%")
		for _, dir := range []string{space, odd} {
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			p.Own(t, dir)
		}
		p.SQL(t, `create tablespace "a Space" location '`+space+"'", `create database "däta 'b"" c"`,
			`create table there (n) tablespace "a Space" as select generate_series(1, 1000)`,
			"create unlogged table unlogged (n) as select generate_series(1, 1000)",
			`create database icu template template0 locale_provider icu icu_locale 'de-AT'`, "create table kept (n int)")
		stop := load(t, p)
		sorted := holdTemporary(t, p)
		p.SQL(t, "insert into kept values (1)")
		repo, _ := newRepository(t)
		point := backUp(t, repo, newTarget(t, postgres.Config{Conn: p.Conn}))
		p.SQL(t, "insert into kept values (2)")
		stop()
		if point.Partial() {
			t.Errorf("warnings: %v", point.Warnings)
		}
		view, err := repo.View(t.Context(), point.ID)
		must(t, err)
		for it, err := range view.Items(t.Context()) {
			if must(t, err); temporary.MatchString(it.Path) {
				t.Errorf("%s is backed up", it.Path)
			}
		}
		moved := filepath.Join(odd, "space")
		dir := filepath.Join(odd, "data")
		restore(t, repo, point, dir, map[string]string{"tablespace:a Space": moved, "target": "consistent", "verify": "true"})
		r := verified(t, p, dir, moved)
		if said := r.SQL(t, "select * from kept", "select count(*) from there", "select count(*) from unlogged", balanced,
			"select count(*) from pg_database where datname = 'däta ''b\" c'", "show data_directory"); said != "1\n1000\n0\nt\n1\n"+dir {
			t.Errorf("restored: %q", said)
		}
		if where := r.SQL(t, `select pg_tablespace_location(oid) from pg_tablespace where spcname = 'a Space'`); where != moved {
			t.Errorf("the tablespace is in %s", where)
		}
		icu := strings.Replace(r.Socket, "dbname=postgres", "dbname=icu", 1)
		if said := r.Run(t, "psql", "-AtqXd", icu, "-c", "select string_agg(c, '' order by c) from regexp_split_to_table('zäaA', '') c"); said != sorted {
			t.Errorf("ICU sorts %q, it was %q", said, sorted)
		}
		stopped(t, r)
		if p.Major != 17 { // see TestProve
			if proof, err := postgres.Prove(t.Context(), proofConfig(p, dir)); err != nil || len(proof.Databases) != 4 {
				t.Errorf("%v\n%v", err, proof)
			}
		}
		if left, _ := filepath.Glob(filepath.Join(dir, ".holdfast*")); len(left) > 0 {
			t.Errorf("left over: %s", left)
		}
		for _, f := range []string{"", "base", "PG_VERSION", "postgresql.auto.conf"} {
			if fi, err := os.Stat(filepath.Join(dir, f)); err != nil || fi.Mode().Perm()&0o077 != 0 {
				t.Errorf("%s: %v, %v", f, fi.Mode(), err)
			}
		}
	})
}

// temporary matches files that are of no use behind a restart.
var temporary = regexp.MustCompile(`(^|/)(t\d+_\d+|pgsql_tmp)`)

// holdTemporary has a session hold a temporary table and a temporary file, and
// returns what the database icu sorts.
func holdTemporary(t *testing.T, p *testenv.PG) (sorted string) {
	t.Helper()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		p.TryRun("psql", "-AtqXd", p.Socket, "-c", "set work_mem = '64kB'; create temp table mine (s) as select repeat('x', 1000) from generate_series(1, 3000); "+
			"begin; declare c cursor for select s from mine a order by random(); fetch 1 from c; select pg_sleep(600)")
	}()
	t.Cleanup(func() {
		p.TryRun("psql", "-Xd", p.Socket, "-c", "select pg_terminate_backend(pid) from pg_stat_activity where query like '%pg_sleep(600)%' and pid <> pg_backend_pid()")
		<-ended
	})
	for end := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		var found int
		filepath.WalkDir(filepath.Join(p.Data, "base"), func(path string, _ fs.DirEntry, _ error) error {
			if temporary.MatchString(strings.TrimPrefix(path, p.Data)) {
				found++
			}
			return nil
		})
		if found >= 3 { // table, directory, file
			break
		}
		if time.Now().After(end) {
			t.Fatal("the session has nothing temporary")
		}
	}
	return p.Run(t, "psql", "-AtqXd", strings.Replace(p.Socket, "dbname=postgres", "dbname=icu", 1), "-c", "select string_agg(c, '' order by c) from regexp_split_to_table('zäaA', '') c")
}
