//go:build unix

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-go/holdfast/failover"
	"github.com/holdfast-go/holdfast/internal/testenv"
)

// The story on a real PostgreSQL, whose programs run in a container, as a user
// who is there: a stand-in for setpriv lets them.
func TestPostgresStory(t *testing.T) {
	t.Parallel()
	pg := testenv.Postgres(t, 17, testenv.PostgresOptions{})
	pg.Stop(t)
	tools := t.TempDir()
	script := "#!/bin/sh\nwhile [ \"$1\" != -- ]; do shift; done\nshift\nexec \"$@\"\n"
	if err := os.WriteFile(filepath.Join(tools, "setpriv"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(pg.Dir, "state")
	args := []string{"-dir", dir, "-keep", "-postgres", pg.Bin, "-interval", "50ms", "-pace", "5ms", "-lease", "2s", "-step-timeout", "20s", "-restore-timeout", "60s"}
	if os.Geteuid() == 0 {
		if out, err := quickstart(t, "", args...); err == nil || !strings.Contains(out, "-postgres-user") {
			t.Errorf("as root: %v\n%s", err, out)
		}
		args = append(args, "-postgres-user", fmt.Sprintf("%d:%d", pg.UID, pg.GID))
	}
	// The orchestrator is killed again and again, and each time another one goes on.
	crashes := []string{"setup:after", "kill:before", "failover.planned:after", "return:after", ""}
	if os.Getenv("HOLDFAST_LONG") != "" { // within steps, too, whose time has to run out
		crashes = []string{"full:after", "standby:after", "failover.start:after", "failback.quiesce:after", "failback:after", ""}
	}
	for _, at := range crashes {
		cmd := program(t, at, args...)
		cmd.Env = append(cmd.Env, "PATH="+tools+":"+os.Getenv("PATH"))
		said, err := cmd.CombinedOutput()
		t.Logf("%s", said)
		if at == "" && err != nil || at != "" && !killed(err) {
			t.Fatalf("killed at %q: %v", at, err)
		}
		args = []string{"-dir", dir, "-keep", "-resume"}
	}
	log, err := openStageLog(dir)
	if err != nil {
		t.Fatal(err)
	}
	loss, final := log.Facts.Loss, log.Facts.Final
	if len(log.Done) != len(postgresStages) || loss == nil || final == nil || final.Records < final.Promised-len(loss.Lost) || loss.RTO <= 0 || loss.Promised == 0 {
		t.Errorf("%d stages, %+v, %+v", len(log.Done), loss, final)
	}
	for _, name := range []string{"failover", "failback"} {
		if r := log.Facts.Results[name]; r.Outcome != failover.Completed {
			t.Errorf("%s: %+v", name, r)
		}
	}
	for _, site := range []string{primarySite, standbySite} {
		if _, err := os.Stat((layout{dir}).inSite(site, "cluster/data/postmaster.pid")); err == nil {
			t.Errorf("the server of %s still runs", site)
		}
	}
	if found, _ := filepath.Glob(filepath.Join(dir, "report", "report-*.html")); len(found) != 1 {
		t.Errorf("reports: %v", found)
	} else if page, err := os.ReadFile(found[0]); err != nil || !strings.Contains(string(page), "data directory removed") || strings.Contains(string(page), storeProcess(primarySite)) {
		t.Errorf("the report does not tell what was done, or what was not: %v", err)
	}
}

func TestFindPostgres(t *testing.T) {
	if _, err := findPostgres(t.TempDir()); err == nil || !strings.Contains(err.Error(), "initdb") {
		t.Errorf("%v", err)
	}
	for name, ok := range map[string]bool{"0:0": false, "a:b": false, "1000:1000": true, "root": false, "no such user": false} {
		if got, err := findOwner(name); (err == nil) != ok || ok && got != name {
			t.Errorf("%s: %s, %v", name, got, err)
		}
	}
}
