package postgres_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/backup/postgres"
	"github.com/holdfast-go/holdfast/internal/testenv"
)

// summarizing are settings of a server that can tell what has changed.
func summarizing() testenv.PostgresOptions {
	return testenv.PostgresOptions{WALSegmentMB: 1, Settings: map[string]string{"summarize_wal": "on", "checkpoint_timeout": "1h", "autovacuum": "off"}}
}

// changedSince makes an incremental backup of which the server sends the
// changes only.
func changedSince(t *testing.T, repo *backup.Repository, c postgres.Config, parent backup.Point) backup.Point {
	t.Helper()
	p, err := repo.Backup(t.Context(), "db", newTarget(t, c), backup.BackupOptions{Mode: backup.Incremental})
	must(t, err)
	if p.Mode != backup.Incremental || p.Parent != parent.ID || whole(t, repo, p) != "" || p.Partial() {
		t.Fatalf("%s of %s, not of %s, since %q; warnings: %v", p.Mode, p.Parent, parent.ID, whole(t, repo, p), p.Warnings)
	}
	return p
}

// whole is why a point was made by reading everything, though changes were
// asked for.
func whole(t *testing.T, repo *backup.Repository, p backup.Point) string {
	t.Helper()
	v, err := repo.View(t.Context(), p.ID)
	must(t, err)
	it, err := v.Lookup(t.Context(), ".holdfast/base")
	must(t, err)
	var b struct{ Whole string }
	must(t, json.Unmarshal(it.Meta, &b))
	return b.Whole
}

// counted passes connections on to a server, and counts what it sends.
func counted(t *testing.T, p *testenv.PG) (conn string, n *atomic.Int64) {
	n = new(atomic.Int64)
	return proxy(t, p, func(b []byte, _ int) []byte { n.Add(int64(len(b))); return b }), n
}

// rowsOf is what is in a cluster: the sums of all tables of all databases.
func rowsOf(t *testing.T, p *testenv.PG) string {
	t.Helper()
	all := ""
	for _, database := range strings.Fields(p.SQL(t, "select datname from pg_database where datallowconn order by 1")) {
		conn := strings.Replace(p.Socket, "dbname=postgres", "dbname="+database, 1)
		names := p.Run(t, "psql", "-AtqXd", conn, "-c", `select string_agg(format('select %L, count(*), sum(hashtextextended(t::text, 0)::numeric) from %s t', oid::regclass, oid::regclass), ' union all ' order by oid::regclass::text)
			from pg_class where relkind = 'r' and relnamespace = 'public'::regnamespace`)
		if strings.TrimSpace(names) != "" {
			all += database + "\n" + p.Run(t, "psql", "-AtqXd", conn, "-c", names)
		}
	}
	return all
}

// Of a server that knows what has changed only that is read, and the points
// are complete all the same: they are restored, by themselves, to what the
// cluster was, to the satisfaction of PostgreSQL's own tools.
func TestChanges(t *testing.T) {
	t.Parallel()
	for _, major := range someVersions(17) {
		if major < 17 {
			continue
		}
		t.Run(fmt.Sprint(major), func(t *testing.T) {
			t.Parallel()
			p := testenv.Postgres(t, major, summarizing())
			space := filepath.Join(p.Dir, "space")
			must(t, os.Mkdir(space, 0o700))
			p.Own(t, space)
			p.SQL(t, "create table big (n int, s text)", "insert into big select n, md5(n::text) || repeat('x', 200) from generate_series(1, 200000) n",
				"create table dropped (n) as select generate_series(1, 50000)", "create table cut (n) as select generate_series(1, 300000)",
				"create table emptied (n) as select generate_series(1, 50000)", "create table turned (n) as select generate_series(1, 50000)",
				"create table still (n) as select generate_series(1, 50000)", "create table none (n int)", "create index on big (n)", "vacuum")
			repo, store := newRepository(t)
			conn, sent := counted(t, p)
			c := postgres.Config{Conn: conn}
			full := backUp(t, repo, newTarget(t, c))
			all := sent.Swap(0)

			p.SQL(t, "update big set s = 'changed' || s where n % 20000 = 0", "drop table dropped", "delete from cut where n > 40000", "vacuum cut", "truncate emptied",
				"insert into emptied select generate_series(1, 100)", "delete from turned where n % 2 = 0", "vacuum full turned", "create table new (n) as select generate_series(1, 1000)",
				"create tablespace space location '"+space+"'", "create table there (n) tablespace space as select generate_series(1, 1000)", "insert into none values (7)",
				"create database other template template0 strategy file_copy", "create database another template template0")
			first := rowsOf(t, p)
			inc1 := changedSince(t, repo, c, full)
			if n := sent.Swap(0); n > all/2 { // two new databases are in it
				t.Errorf("%d bytes were sent of what has changed, and %d of all", n, all)
			}
			p.SQL(t, "update big set s = 'again' || s where n = 77", "insert into there values (-1)", "alter table still set tablespace space", "drop database other", "insert into cut select generate_series(1, 60000)")
			second := rowsOf(t, p)
			inc2 := changedSince(t, repo, c, inc1)
			if n := sent.Swap(0); n > all/5 {
				t.Errorf("%d bytes were sent of what has changed, and %d of all", n, all)
			}
			if n := inc2.Stats.BytesRead; n > all/5 {
				t.Errorf("%d bytes were read", n)
			}
			must(t, repo.Forget(t.Context(), full.ID))
			_, err := repo.Prune(t.Context(), backup.PruneOptions{})
			must(t, err)
			_ = store
			for n, c := range []struct {
				point backup.Point
				want  string
			}{{inc1, first}, {inc2, second}} {
				dir := filepath.Join(p.Dir, fmt.Sprint("restored", n))
				restore(t, repo, c.point, dir, map[string]string{"tablespaces": dir + ".spaces", "target": "consistent", "verify": "true"})
				r := verified(t, p, dir, dir+".spaces")
				if got := rowsOf(t, r); got != c.want {
					t.Errorf("point %d is restored as\n%.2000s\nwant\n%.2000s", n, got, c.want)
				}
				stopped(t, r)
			}
		})
	}
}
