package testenv_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/holdfast-go/holdfast/internal/testenv"
)

func TestPostgres(t *testing.T) {
	for _, major := range []int{15, 17, 18} {
		t.Run(fmt.Sprint(major), func(t *testing.T) {
			t.Parallel()
			p := testenv.Postgres(t, major, testenv.PostgresOptions{WALSegmentMB: 4})
			for _, conn := range []string{p.Conn, p.Socket} {
				if said := p.Run(t, "psql", "-AtXd", conn, "-c", "select version()"); !strings.HasPrefix(said, fmt.Sprintf("PostgreSQL %d.", major)) {
					t.Errorf("over %s it says %q", conn, said)
				}
			}
			if said := p.SQL(t, "show wal_segment_size", "show data_checksums", "create table t as select generate_series(1, 1000) n"); said != "4MB\non" {
				t.Errorf("%q", said)
			}
			if _, err := os.ReadFile(filepath.Join(p.Data, "PG_VERSION")); err != nil {
				t.Errorf("the host does not read the data: %v", err)
			}
			p.Kill9(t)
			if out, err := p.TryRun("psql", "-AtXd", p.Conn, "-c", "select 1"); err == nil {
				t.Errorf("a killed server says %q", out)
			}
			p.Start(t)
			if n := p.SQL(t, "select count(*) from t"); n != "1000" {
				t.Errorf("%s rows after a crash", n)
			}
			if major != 18 {
				tryTools(t, p)
			}
			p.Stop(t)
		})
	}
}

// The tools beside the server work through their wrappers, on a second
// cluster too.
func tryTools(t *testing.T, p *testenv.PG) {
	copied := filepath.Join(p.Dir, "copied")
	p.Run(t, "pg_basebackup", "-D", copied, "-d", p.Conn, "-c", "fast", "-R")
	p.Run(t, "pg_verifybackup", "-q", copied)
	standby := p.Second(t, copied)
	if said := standby.SQL(t, "select pg_is_in_recovery(), count(*) from t"); said != "t|1000" {
		t.Errorf("the standby says %q", said)
	}
	p.Run(t, "pg_amcheck", "-h", filepath.Join(p.Dir, "sock"), "-p", fmt.Sprint(p.Port), "-U", "postgres", "--install-missing", "postgres")
	standby.Stop(t)
	p.Run(t, "pg_checksums", "-D", copied)
	segments, err := filepath.Glob(filepath.Join(copied, "pg_wal", "0*[0-9A-F]"))
	if err != nil || len(segments) == 0 {
		t.Fatal(segments, err)
	}
	if out, _ := p.TryRun("pg_waldump", segments[0]); !strings.Contains(out, "rmgr:") {
		t.Errorf("pg_waldump says %q", out)
	}
}

// A program of Bin has the caller's input, variables, directory, exit code and
// signals.
func TestPostgresPrograms(t *testing.T) {
	p := testenv.Postgres(t, 17, testenv.PostgresOptions{})
	run := func(dir, in string, args ...string) (string, error) {
		cmd := exec.Command(filepath.Join(p.Bin, "psql"), args...)
		cmd.Dir, cmd.Stdin = dir, strings.NewReader(in)
		cmd.Env = append(os.Environ(), "PGUSER=postgres", "PGDATABASE=postgres", "PGHOST="+p.Dir+"/sock", fmt.Sprint("PGPORT=", p.Port), "PGAPPNAME=a name")
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	if out, err := run(p.Bin, "show application_name;\n\\! pwd\n", "-AtX"); err != nil || out != "a name\n"+p.Bin+"\n" {
		t.Errorf("%q, %v", out, err)
	}
	if out, err := run("/", "", "-AtXc", "select 'two words'", "-c", "nonsense"); err == nil || err.Error() != "exit status 1" || !strings.Contains(out, "two words\n") {
		t.Errorf("%q, %v", out, err)
	}
	cmd := exec.Command(filepath.Join(p.Bin, "psql"), "-AtXd", p.Socket, "-c", "select pg_sleep(600)")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	asleep := "select count(*) from pg_stat_activity where query like 'select pg_sleep%'"
	for p.SQL(t, asleep) != "1" {
		time.Sleep(50 * time.Millisecond)
	}
	cmd.Process.Signal(syscall.SIGTERM)
	if err := cmd.Wait(); err == nil {
		t.Error("a program that was told to end reports success")
	}
	if out, _ := exec.Command("docker", "ps", "-q").Output(); len(out) == 0 {
		t.Error("the container has gone")
	}
	if left := p.Run(t, "psql", "-AtXd", p.Socket, "-c", "select 1"); left != "1\n" {
		t.Errorf("%q", left)
	}
}
