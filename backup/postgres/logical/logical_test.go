package logical

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/backup/backuptest"
	"github.com/holdfast-go/holdfast/provider"
)

// All of these share one server of each version.
func TestOnServers(t *testing.T) {
	older, newer := newWorld(t, 15), newWorld(t, 17)
	t.Run("alone", func(t *testing.T) { // both at once
		older.each(t, map[string]func(*testing.T, *world){"some cannot be dumped": testSomeCannotBeDumped, "restored otherwise": testRestoredOtherwise,
			"hostile point": testHostilePoint, "written meanwhile": testWrittenMeanwhile, "cancelled restore": testCancelledRestore, "steps fail": testStepsFail})
		newer.each(t, map[string]func(*testing.T, *world){"target": testTarget, "many databases": testManyDatabases, "consent": testConsent,
			"restores meet": testRestoresMeet, "crash": testCrash, "cancelled dump": testCancelledDump,
			"lost dump": testLostDump, "stubborn program": testStubbornProgram, "damaged dump": testDamagedDump, "failed restore": testFailedRestore, "plain role": testPlainRole, "standby": testStandby})
	})
	testRestoredIsWhatWasDumped(t, older, newer)
}

// each runs tests, one after the other, beside those of other servers.
func (w *world) each(t *testing.T, tests map[string]func(*testing.T, *world)) {
	t.Run(fmt.Sprint(w.Major), func(t *testing.T) {
		t.Parallel()
		for name, test := range tests {
			w.run(t, name, test)
		}
	})
}

// run is a test on a server without databases.
func (w *world) run(t *testing.T, name string, test func(*testing.T, *world)) {
	t.Run(name, func(t *testing.T) {
		v := &world{PG: w.PG, bin: w.bin, dir: t.TempDir()}
		v.repo = makeRepo(t, v.dir)
		defer v.clean(t)
		test(t, v)
	})
}

func (w *world) clean(t *testing.T) {
	t.Helper()
	for _, d := range w.databases(t) {
		w.in(t, "postgres", "ALTER DATABASE "+ident(d)+" IS_TEMPLATE false", "DROP DATABASE "+ident(d)+" WITH (FORCE)")
	}
}

// What a dump is restored to has every row, large object, owner, privilege and
// setting; also from an older server and on one that has no such roles.
func testRestoredIsWhatWasDumped(t *testing.T, older, newer *world) {
	t.Run("15", func(t *testing.T) { roundTrip(t, older) })
	t.Run("15 to 17", func(t *testing.T) {
		older.in(t, "rich", `REFRESH MATERIALIZED VIEW public.kept`) // as a restore does
		want := older.mustState(t, "rich")
		var p backup.Point
		t.Run("dump", func(t *testing.T) { // with the programs of 17, which find the password in the environment
			t.Setenv("PGPASSWORD", older.Password)
			p = older.backup(t, older.target(t, Config{Conn: fmt.Sprintf("host=127.0.0.1 user=postgres port=%d", older.Port), Databases: []string{"rich"}, Bin: newer.Bin}))
			// And back into the older server, which newer programs can do.
			target := older.target(t, Config{Conn: fmt.Sprintf("host=127.0.0.1 user=postgres port=%d", older.Port), Bin: newer.Bin})
			if err := older.restore(t, target, p, "database=back"); err != nil {
				t.Error(err)
			}
		})
		there := newer.target(t, Config{})
		newer.repo = older.repo
		err := newer.restore(t, there, p)
		if !errors.Is(err, provider.ErrNotFound) || !strings.Contains(err.Error(), `"ann"`) || !strings.Contains(err.Error(), "roles=create") {
			t.Fatalf("without the roles: %v", err)
		}
		if err := newer.restore(t, there, p, "database=mine", "roles=none", "settings=none"); err != nil {
			t.Fatal(err)
		}
		if got := newer.mustState(t, "mine"); strings.Contains(got, "app owner,") || strings.Contains(got, "setting ") || !strings.Contains(got, "the table") {
			t.Errorf("roles=none restored\n%.3000s", got)
		}
		if err := newer.restore(t, there, p, "roles=create"); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(want, "\ntablespace space elsewhere") {
			t.Error("there was no tablespace")
		}
		compare(t, newer.mustState(t, "rich"), strings.Replace(want, "\ntablespace space elsewhere", "", 1)) // there is none of this name
		roles := `SELECT r::text || coalesce(s.setconfig::text, '') || ARRAY(SELECT roleid::regrole::text || admin_option FROM pg_auth_members m WHERE m.member = x.oid ORDER BY 1)::text
			|| coalesce(shobj_description(x.oid, 'pg_authid'), '')
			FROM (SELECT oid, rolname, rolsuper, rolinherit, rolcanlogin, rolconnlimit, rolvaliduntil FROM pg_roles WHERE rolname !~ '^pg_') x LEFT JOIN pg_db_role_setting s ON s.setrole = x.oid AND s.setdatabase = 0,
			LATERAL (SELECT rolname, rolsuper, rolinherit, rolcanlogin, rolconnlimit, rolvaliduntil) r ORDER BY 1`
		compare(t, strings.Join(newer.list(t, "postgres", roles), "\n"), strings.Join(older.list(t, "postgres", roles), "\n"))
		if n := newer.list(t, "postgres", `SELECT rolname::text FROM pg_authid WHERE rolname = 'ann' AND rolpassword IS NOT NULL`); len(n) > 0 {
			t.Error("a password was restored")
		}
	})
	t.Run("17", func(t *testing.T) {
		if err := newer.try("postgres", `DROP DATABASE IF EXISTS mine`, `DROP DATABASE IF EXISTS rich`, `DROP ROLE IF EXISTS ann`, `DROP ROLE IF EXISTS reader`, `DROP ROLE IF EXISTS "app owner"`); err != nil {
			t.Fatal(err)
		}
		roundTrip(t, newer)
	})
	t.Run("17 to 15", func(t *testing.T) {
		newer.small(t, "small")
		p := newer.backup(t, newer.target(t, Config{Databases: []string{"small"}}))
		older.repo = newer.repo
		for bin, want := range map[string]string{older.Bin: "client programs of PostgreSQL 17", newer.Bin: "restore into one of 17"} {
			if err := older.restore(t, older.target(t, Config{Bin: bin}), p); !errors.Is(err, errors.ErrUnsupported) || !strings.Contains(err.Error(), want) {
				t.Errorf("with %s: %v, want %s", bin, err, want)
			}
		}
		_, err := newer.repo.Backup(t.Context(), "db", newer.target(t, Config{Bin: older.Bin}), backup.BackupOptions{})
		if !errors.Is(err, errors.ErrUnsupported) || !strings.Contains(err.Error(), "install the client programs of PostgreSQL 17") {
			t.Errorf("pg_dump of 15 on a server of 17: %v", err)
		}
	})
}

func compare(t *testing.T, got, want string) {
	t.Helper()
	if got == want {
		return
	}
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	for _, l := range g {
		if !slices.Contains(w, l) {
			t.Errorf("+ %.300s", l)
		}
	}
	for _, l := range w {
		if !slices.Contains(g, l) {
			t.Errorf("- %.300s", l)
		}
	}
	t.Error("it differs")
}

func roundTrip(t *testing.T, w *world) {
	w.rich(t, "rich")
	want := w.mustState(t, "rich")
	target := w.target(t, Config{Databases: []string{"rich"}})
	w.in(t, "rich", `CREATE SUBSCRIPTION s CONNECTION 'host=evil password=hush' PUBLICATION p WITH (connect = false)`)
	p := w.backup(t, target)
	w.in(t, "rich", `ALTER SUBSCRIPTION s SET (slot_name = NONE)`, `DROP SUBSCRIPTION s`)
	if p.Partial() {
		t.Errorf("the point is partial: %v", p.Warnings)
	}
	v, err := w.repo.View(t.Context(), p.ID)
	if err != nil {
		t.Fatal(err)
	}
	all, _, err := contents(t.Context(), v)
	if err != nil || len(all) != 1 {
		t.Fatalf("%d databases, %v", len(all), err)
	}
	if m := all[0].meta; m.Database != "rich" || m.Encoding != "LATIN1" || m.Server/10000 != w.Major || !strings.HasPrefix(m.Tool, fmt.Sprint(w.Major, ".")) || time.Since(m.Taken) > time.Minute {
		t.Errorf("described as %+v", m)
	}
	var inv inventory
	if err := decode(t.Context(), v, all[0].inventory, &inv); err != nil {
		t.Fatal(err)
	}
	rows := map[string]int64{}
	for _, t := range inv.Tables {
		rows[t.Name] = t.Rows
	}
	if rows["the table; --"] != 2000 || rows["parts_1"] != 50 || rows["base"] != 1 || rows["s"] != 1 || rows["fast"] != 1 || inv.Objects["large objects"] != 2 || inv.Objects["triggers"] != 1 {
		t.Errorf("inventory %v, %v", rows, inv.Objects)
	}
	w.in(t, "rich", `DELETE FROM public.parts`) // the point is of the past
	bin := readable(t, w)
	for _, options := range [][]string{{"database=copy"}, {"database=copy2", "jobs=2"}} {
		if err := w.restore(t, w.target(t, Config{Bin: bin}), p, options...); err != nil {
			t.Fatal(err)
		}
		name := strings.TrimPrefix(options[0], "database=")
		compare(t, w.mustState(t, name), want)
		if n := w.list(t, name, `SELECT tablename::text FROM pg_stats WHERE schemaname !~ '^pg_' AND schemaname <> 'information_schema'`); len(n) == 0 {
			t.Error("there are no statistics")
		}
		if n := w.list(t, name, `SELECT s.subname::text FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid WHERE datname = current_database()`); len(n) > 0 {
			t.Errorf("subscriptions %v were restored", n)
		}
	}
	left, _ := filepath.Glob(filepath.Join(w.Dir, ".holdfast*"))
	if len(w.ours(t, isNew, isOld, isDrop)) > 0 || len(left) > 0 {
		t.Errorf("left behind: %v, %v", w.databases(t), left)
	}
}

// readable are the programs, of which pg_restore runs as a user who could not
// read what this one spools.
func readable(t *testing.T, w *world) string {
	t.Helper()
	dir, err := os.MkdirTemp(w.Dir, "bin")
	if err != nil {
		t.Fatal(err)
	}
	script := fmt.Sprintf("#!/bin/sh\nfor f; do :; done\ncase $f in *.dump) test $(stat -c %%a $f) = 600 || exit 9; chown %d $f ;; esac\nexec %s/pg_restore \"$@\"\n", w.UID, w.Bin)
	if err := os.WriteFile(filepath.Join(dir, "pg_restore"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

func testTarget(t *testing.T, w *world) {
	var n atomic.Int64
	backuptest.TestTarget(t, func(t *testing.T) backuptest.Subject {
		name := fmt.Sprint("subject", n.Add(1))
		w.small(t, name)
		t.Cleanup(func() { w.in(t, "postgres", "DROP DATABASE "+name+" WITH (FORCE)") })
		return backuptest.Subject{
			Target: w.target(t, Config{Databases: []string{name}}),
			State:  func() (string, error) { return w.state(name) },
			Change: func() error {
				return w.try(name, fmt.Sprintf("INSERT INTO public.t VALUES (%d, 'new')", 1000+n.Add(1)))
			},
			Destination: func() (backup.Destination, error) {
				return backup.Destination{Location: w.Conn, Options: map[string]string{"database": fmt.Sprint("restored", n.Add(1))}}, nil
			},
			Restored: func(d backup.Destination) (string, error) { return w.state(d.Options["database"]) },
		}
	})
}

func testManyDatabases(t *testing.T, w *world) {
	odd := []string{"a b", `q"uo'te`, "-x", "host=evil dbname=postgres", "postgres://evil/x", "größe", "a/b", "..", "%2E", `back\slash`, strings.Repeat("n", maxName), "$(touch x)`;", "new\nline"}
	for _, name := range odd {
		w.small(t, name)
	}
	w.in(t, "postgres", "CREATE DATABASE closed ALLOW_CONNECTIONS false", "CREATE DATABASE pattern IS_TEMPLATE true", "CREATE DATABASE "+ident(ourName("x", isOld)))
	all := w.target(t, Config{})
	p := w.backup(t, all)
	if len(p.Warnings) != 1 || !strings.Contains(p.Warnings[0].Text, `"closed"`) {
		t.Errorf("warnings %v", p.Warnings)
	}
	v, err := w.repo.View(t.Context(), p.ID)
	if err != nil {
		t.Fatal(err)
	}
	held, _, err := contents(t.Context(), v)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, h := range held {
		names = append(names, h.meta.Database)
	}
	want := append(slices.Clone(odd), "postgres", "template1", "pattern")
	slices.Sort(want)
	if !slices.Equal(names, want) {
		t.Errorf("databases %q, want %q", names, want)
	}
	if err := w.restore(t, all, p); err == nil || !strings.Contains(err.Error(), "option from is needed") {
		t.Errorf("without from: %v", err)
	}
	if err := w.restore(t, all, p, "from=nobody"); !errors.Is(err, provider.ErrNotFound) || !strings.Contains(err.Error(), `"größe"`) {
		t.Errorf("from another: %v", err)
	}
	for _, name := range []string{odd[1], odd[3], odd[10]} {
		state := w.mustState(t, name)
		w.in(t, name, "DELETE FROM public.t")
		if err := w.restore(t, all, p, "from="+name, "overwrite=true", "old=drop"); err != nil {
			t.Errorf("%q: %v", name, err)
			continue
		}
		compare(t, w.mustState(t, name), state)
	}
	// Templates, which cannot be dropped as they are, and the database that one
	// connects to.
	for _, name := range []string{"pattern", "postgres"} {
		state := w.mustState(t, name)
		if err := w.restore(t, all, p, "from="+name, "overwrite=true", "old=drop"); err != nil {
			t.Fatalf("%q: %v", name, err)
		}
		compare(t, w.mustState(t, name), state)
	}
	if left := w.ours(t, isNew, isDrop); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

func testSomeCannotBeDumped(t *testing.T, w *world) {
	w.small(t, "open")
	w.small(t, "closed")
	w.in(t, "postgres", "CREATE ROLE dumper LOGIN", "GRANT pg_read_all_data TO dumper", "REVOKE CONNECT ON DATABASE closed FROM PUBLIC", "CREATE ROLE nobody LOGIN")
	as := func(role string, names ...string) *Target {
		return w.target(t, Config{Conn: strings.Replace(w.Socket, "user=postgres", "user="+role, 1), Databases: names})
	}
	p := w.backup(t, as("dumper", "open", "closed", "missing"))
	if len(p.Warnings) != 2 || !strings.Contains(p.Warnings[0].Text, "permission denied") || !strings.Contains(p.Warnings[1].Text, "missing") {
		t.Errorf("warnings %v", p.Warnings)
	}
	for _, c := range []struct {
		target *Target
		want   string
		is     error
	}{
		{as("dumper", "closed"), `permission denied for database "closed"`, fs.ErrPermission},
		{as("nobody", "open"), "permission denied for table t", fs.ErrPermission},
		{as("dumper", "missing"), "missing", provider.ErrNotFound},
	} {
		_, err := w.repo.Backup(t.Context(), "db", c.target, backup.BackupOptions{})
		if !errors.Is(err, c.is) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v, want %s", err, c.want)
		}
		if e, ok := errors.AsType[*provider.Error](err); !ok || e.Op != "dump" {
			t.Errorf("%v is no provider.Error of a dump", err)
		}
	}
	if n := points(t, w); n != 1 {
		t.Errorf("%d points", n)
	}
}

// A role that can create databases, and is no superuser, restores and replaces
// what is its own; of sessions that it cannot end it is told.
func testPlainRole(t *testing.T, w *world) {
	w.small(t, "shop")
	then := w.mustState(t, "shop")
	p := w.backup(t, w.target(t, Config{Databases: []string{"shop"}}))
	w.in(t, "postgres", "CREATE ROLE loader LOGIN CREATEDB")
	defer w.in(t, "postgres", "DROP ROLE loader")
	defer w.clean(t)
	target := w.target(t, Config{Conn: strings.Replace(w.Socket, "user=postgres", "user=loader", 1)})
	for _, options := range [][]string{{"database=copy"}, {"database=copy", "overwrite=true", "old=drop"}} {
		if err := w.restore(t, target, p, append(options, "roles=none")...); err != nil {
			t.Fatal(err)
		}
	}
	compare(t, strings.ReplaceAll(w.mustState(t, "copy"), "loader", "postgres"), then)
	c, err := parseConninfo(w.Conn)
	if err != nil {
		t.Fatal(err)
	}
	q, err := c.dial(t.Context(), "copy")
	if err != nil {
		t.Fatal(err)
	}
	defer hangUp(q)
	err = w.restore(t, target, p, "database=copy", "overwrite=true", "roles=none")
	if !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), "being accessed by other users") || !strings.Contains(err.Error(), "disconnect clients") {
		t.Errorf("with a superuser connected: %v", err)
	}
	if err := w.restore(t, target, p, "database=shop", "overwrite=true", "roles=none"); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("over what is another's: %v", err)
	}
	compare(t, w.mustState(t, "shop"), then)
}

func points(t *testing.T, w *world) (n int) {
	for _, err := range w.repo.Points(context.WithoutCancel(t.Context()), "") {
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	return n
}

// A standby is as good a source, and is not written to.
func testStandby(t *testing.T, w *world) {
	w.small(t, "small")
	w.in(t, "small", `CREATE UNLOGGED TABLE public.lost AS SELECT generate_series(1, 10) n`, `SELECT lo_from_bytea(0, 'large')`)
	dir := filepath.Join(w.Dir, "standby")
	w.Run(t, "pg_basebackup", "-D", dir, "-d", w.Conn, "-c", "fast", "-R")
	standby := &world{PG: w.Second(t, dir), bin: w.bin, dir: w.dir, repo: w.repo}
	defer standby.Kill9(t)
	lsn := w.list(t, "postgres", `SELECT pg_current_wal_flush_lsn()::text`)[0]
	for late := time.Now().Add(time.Minute); standby.list(t, "postgres", `SELECT (pg_last_wal_replay_lsn() >= $1::pg_lsn)::text`, lsn)[0] != "true"; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(late) {
			t.Fatal("the standby does not follow")
		}
	}
	p := standby.backup(t, standby.target(t, Config{Databases: []string{"small"}}))
	if p.Partial() {
		t.Errorf("%v", p.Warnings)
	}
	if err := w.restore(t, w.target(t, Config{}), p, "database=copy"); err != nil {
		t.Fatal(err)
	}
	w.in(t, "small", `TRUNCATE public.lost`) // whose rows no standby has
	compare(t, w.mustState(t, "copy"), w.mustState(t, "small"))
}
