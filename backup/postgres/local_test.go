package postgres_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/backup/postgres"
	"github.com/holdfast-go/holdfast/internal/testenv"
)

// atData is how a data directory of this host is read.
func atData(p *testenv.PG) postgres.Config {
	return postgres.Config{Conn: p.Conn, Data: p.Data, Reader: postgres.Local}
}

// paths are the items of a point.
func paths(t *testing.T, repo *backup.Repository, point backup.Point) map[string]backup.Item {
	t.Helper()
	v, err := repo.View(t.Context(), point.ID)
	must(t, err)
	all := map[string]backup.Item{}
	for it, err := range v.Items(t.Context()) {
		must(t, err)
		all[it.Path] = it
	}
	return all
}

// quietly waits until nothing in a cluster has been written for so long that a
// backup trusts its times.
func quietly(t *testing.T, p *testenv.PG) {
	t.Helper()
	p.SQL(t, "checkpoint")
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(200 * time.Millisecond) {
		newest := time.Time{}
		must(t, filepath.WalkDir(filepath.Join(p.Data, "base"), func(path string, d os.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			fi, err := d.Info()
			if err == nil && fi.ModTime().After(newest) {
				newest = fi.ModTime()
			}
			return err
		}))
		if time.Since(newest) > 4*time.Second {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("the cluster does not come to rest")
		}
	}
}

// What is read from a data directory is what the server itself would send, to
// the file and byte, where nothing is being written. Restored, it satisfies
// PostgreSQL's own tools, and so does what was read under load.
func TestLocal(t *testing.T) {
	t.Parallel()
	for _, major := range someVersions(17) {
		t.Run(fmt.Sprint(major), func(t *testing.T) {
			t.Parallel()
			p := testenv.Postgres(t, major, testenv.PostgresOptions{Settings: map[string]string{"autovacuum": "off", "checkpoint_timeout": "1h"}})
			space := oddities(t, p)
			repo, _ := newRepository(t)
			likeSent(t, p, repo, atData(p), "")
			underLoad(t, p, repo, postgres.Config{Conn: p.Conn, Data: p.Data}, "local", space)
		})
	}
}

// What SQL functions show is what the server itself would send, but that links
// are followed; and a role that may call them, and replicate, is enough.
func TestParallel(t *testing.T) {
	t.Parallel()
	for _, major := range someVersions(15) {
		t.Run(fmt.Sprint(major), func(t *testing.T) {
			t.Parallel()
			p := testenv.Postgres(t, major, testenv.PostgresOptions{Settings: map[string]string{"autovacuum": "off", "checkpoint_timeout": "1h"}})
			space := oddities(t, p)
			p.SQL(t, `create role "a role" login replication password '`+p.Password+"'")
			c := postgres.Config{Conn: strings.Replace(p.Conn, "user=postgres", "user='a role'", 1), Reader: postgres.Parallel, ManifestChecksums: "SHA256"}
			repo, _ := newRepository(t)
			_, err := repo.Backup(t.Context(), "db", newTarget(t, c), backup.BackupOptions{})
			if err == nil || !strings.Contains(err.Error(), "pg_read_binary_file") {
				t.Fatalf("a role without rights: %v", err)
			}
			p.SQL(t, granted(t, err, c))
			likeSent(t, p, repo, c, "link")
			underLoad(t, p, repo, c, "parallel", space)
		})
	}
}

// underLoad backs up a cluster that files come and go in, and restores it.
func underLoad(t *testing.T, p *testenv.PG, repo *backup.Repository, c postgres.Config, reader, space string) {
	t.Helper()
	odd, err := filepath.Glob(filepath.Join(p.Data, "base/*/t3_notes")) // at which pg_checksums stops
	must(t, errors.Join(err, os.Remove(odd[0])))
	stop := load(t, p)
	churning := churn(t, p)
	p.SQL(t, "create table kept (n int)", "insert into kept values (1)")
	point := backUp(t, repo, newTarget(t, c))
	p.SQL(t, "insert into kept values (2)")
	churning()
	stop()
	if point.Partial() {
		t.Errorf("under load: warnings: %v", point.Warnings)
	}
	if it := paths(t, repo, point)[".holdfast/base"]; !strings.Contains(string(it.Meta), `"reader":"`+reader+`"`) {
		t.Errorf("under load: %s", it.Meta)
	}
	dir, moved := filepath.Join(p.Dir, "restored"), filepath.Join(p.Dir, "moved")
	restore(t, repo, point, dir, map[string]string{"tablespace:" + filepath.Base(space): moved, "target": "consistent", "verify": "true"})
	r := verified(t, p, dir, moved)
	if said := r.SQL(t, "select * from kept", "select count(*) from there", "select count(*) from unlogged", balanced); said != "1\n1000\n0\nt" {
		t.Errorf("restored: %q", said)
	}
	stopped(t, r)
}

// granted is the SQL that an error tells, and Preflight too.
func granted(t *testing.T, err error, c postgres.Config) string {
	t.Helper()
	_, grants, found := strings.Cut(err.Error(), `in the database "postgres": `)
	if !found || !strings.Contains(grants, `"a role"`) {
		t.Fatal(err)
	}
	all, err := postgres.Preflight(t.Context(), c, postgres.ReceiverConfig{})
	must(t, err)
	said := ""
	for _, f := range all {
		if f.Severity == postgres.Blocks {
			said += strings.Join(f.SQL, " ")
		}
	}
	if said != grants {
		t.Errorf("Preflight says %q, the backup %q", said, grants)
	}
	return grants
}

// someVersions are all of them in the long form, and else those named.
func someVersions(short ...int) []int {
	if os.Getenv("HOLDFAST_LONG") != "" {
		return versions
	}
	return short
}

// oddities makes what a backup has to leave out, or to find. It returns where
// the tablespace is, whose name is that of the directory.
func oddities(t *testing.T, p *testenv.PG) (space string) {
	t.Helper()
	space = filepath.Join(p.Dir, "a Space")
	must(t, os.Mkdir(space, 0o700))
	p.Own(t, space)
	p.SQL(t, `create tablespace "a Space" location '`+space+"'", `create database "däta 'b"" c"`,
		`create table there (n) tablespace "a Space" as select generate_series(1, 1000)`,
		`create unlogged table unlogged (n int primary key) tablespace "a Space"`, "insert into unlogged select generate_series(1, 1000)",
		"create unlogged table also (n) as select generate_series(1, 1000)", "create table empty (n int)", "checkpoint")
	database := filepath.Dir(p.SQL(t, "select pg_relation_filepath('empty')"))
	outside := filepath.Join(p.Dir, "outside")
	must(t, os.WriteFile(outside, []byte("not of the cluster"), 0o644))
	must(t, os.Symlink(outside, filepath.Join(p.Data, "link")))
	must(t, os.Mkdir(filepath.Join(p.Data, "base", "pgsql_tmp"), 0o700))
	must(t, os.Mkdir(filepath.Join(p.Data, "own"), 0o700))
	for _, name := range []string{
		"base/pgsql_tmp/pgsql_tmp1.0", database + "/t3_16384", database + "/t3_16384_fsm", database + "/t12_16384.1", database + "/pg_internal.init.77",
		database + "/t3_notes", "own/t3_16384", "own/postmaster.pid", "own/backup_label", "own/16384_init", "own/16384",
		"backup_label.old", "tablespace_map", "postgresql.auto.conf.tmp", "current_logfiles.tmp", "backup_manifest",
		"pg_stat_tmp/x", "pg_snapshots/x", "pg_notify/x", "pg_dynshmem/x", "pg_serial/x", "pg_subtrans/x", "pg_wal/x",
	} {
		must(t, os.WriteFile(filepath.Join(p.Data, name), []byte(name), 0o600))
	}
	p.Own(t, p.Data)
	return space
}

// likeSent compares a backup of a cluster at rest with what the server sends.
// more is an item that it does not. A server that is asked something may note
// that in a page, so it may take more than one try.
func likeSent(t *testing.T, p *testenv.PG, repo *backup.Repository, c postgres.Config, more string) {
	t.Helper()
	var found []string
	for range 5 {
		sent := paths(t, repo, backUp(t, repo, newTarget(t, postgres.Config{Conn: p.Conn, ManifestChecksums: cmp.Or(c.ManifestChecksums, "CRC32C")})))
		point := backUp(t, repo, newTarget(t, c))
		if point.Partial() {
			t.Errorf("warnings: %v", point.Warnings)
		}
		got := paths(t, repo, point)
		if it, ok := got[more]; more != "" && (!ok || it.Size == 0) {
			t.Errorf("%s is missing", more)
		}
		delete(got, more)
		if len(sent) < 500 {
			t.Fatalf("only %d items: this tests nothing", len(sent))
		}
		if found = differences(got, sent); len(found) == 0 {
			return
		}
	}
	t.Errorf("it is not as sent: %s", strings.Join(found, "\n"))
}

func differences(got, want map[string]backup.Item) (found []string) {
	for path, w := range want {
		g, ok := got[path]
		if !ok {
			found = append(found, path+" is missing")
			continue
		}
		if strings.HasPrefix(path, ".holdfast") || path == "backup_label" || path == "backup_manifest" || path == "global/pg_control" || strings.HasPrefix(path, "pg_wal") {
			continue
		}
		// The times that the server sends are whole seconds.
		if a, b := sumOf(g), sumOf(w); a != b || g.Size != w.Size || g.BlockSize != w.BlockSize {
			found = append(found, fmt.Sprintf("%q: %d bytes, %s; sent are %d, %s", path, g.Size, a, w.Size, b))
		}
	}
	for path := range got {
		if _, ok := want[path]; !ok {
			found = append(found, path+" is there, and not sent")
		}
	}
	return found
}

// sumOf is the type and the content that a description tells.
func sumOf(it backup.Item) string {
	_, sum, _ := strings.Cut(string(it.Meta), `"s":`)
	kind, _, _ := strings.Cut(string(it.Meta), `,"m`)
	return kind + sum
}

// churn keeps files coming, growing, shrinking and going, until the function
// that it returns is called.
func churn(t *testing.T, p *testenv.PG) (stop func()) {
	t.Helper()
	script := filepath.Join(p.Dir, "churn.sql")
	must(t, os.WriteFile(script, []byte(`create table c:client_id (n, s) as select n, repeat('x', 500) from generate_series(1, 2000) n;
insert into c:client_id select n, repeat('y', 500) from generate_series(1, 2000) n;
delete from c:client_id where n > 10; vacuum c:client_id; truncate c:client_id; insert into c:client_id select 1; drop table c:client_id;
create temp table private (n) as select generate_series(1, 1000); drop table private;
`), 0o644))
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		p.TryRun("pgbench", "-n", "-c", "2", "-R", "5", "-T", "600", "-f", script, p.Socket) // 5 a second: some 10 MB of WAL
	}()
	for seen := p.SQL(t, "select pg_current_wal_lsn()"); p.SQL(t, "select pg_wal_lsn_diff(pg_current_wal_lsn(), '"+seen+"') > 4000000") != "t"; {
		time.Sleep(50 * time.Millisecond)
	}
	return func() {
		p.TryRun("psql", "-Xd", p.Socket, "-c", "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'pgbench' and query like '% c_ %' or query like '%private%' and pid <> pg_backend_pid()")
		p.TryRun("psql", "-Xd", p.Socket, "-c", "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'pgbench'")
		<-ended
	}
}

// A data directory that is not what the server works on is not read, however
// alike it is.
func TestLocalOfAnother(t *testing.T) {
	t.Parallel()
	p := testenv.Postgres(t, 17, testenv.PostgresOptions{})
	repo, _ := newRepository(t)
	backUp(t, repo, newTarget(t, atData(p)))
	copied, other := filepath.Join(p.Dir, "copy"), filepath.Join(p.Dir, "other")
	must(t, os.CopyFS(copied, os.DirFS(p.Data)))
	must(t, os.CopyFS(other, os.DirFS(p.Data)))
	control, err := os.ReadFile(filepath.Join(other, "global/pg_control"))
	must(t, err)
	control[3]++
	must(t, os.WriteFile(filepath.Join(other, "global/pg_control"), control, 0o600))
	for dir, want := range map[string]string{copied: "not what the server of Conn works on", other: "is of the cluster", p.Dir: "no data directory", p.Dir + "/none": "no such file"} {
		c := atData(p)
		c.Data = dir
		_, err := repo.Backup(t.Context(), "db", newTarget(t, c), backup.BackupOptions{})
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "Data") {
			t.Errorf("%s: %v, want %q", dir, err, want)
		}
		c.Reader = ""
		point := backUp(t, repo, newTarget(t, c))
		if it := paths(t, repo, point)[".holdfast/base"]; !strings.Contains(string(it.Meta), `"reader":"stream"`) {
			t.Errorf("%s: chosen: %s", dir, it.Meta)
		}
	}
}

// What a role may not is said, with the SQL that allows it.
func TestLocalRole(t *testing.T) {
	t.Parallel()
	p := testenv.Postgres(t, 17, testenv.PostgresOptions{})
	p.SQL(t, `create role "a role" login replication password '`+p.Password+"'")
	c := atData(p)
	c.Conn = strings.Replace(c.Conn, "user=postgres", "user='a role'", 1)
	repo, _ := newRepository(t)
	_, err := repo.Backup(t.Context(), "db", newTarget(t, c), backup.BackupOptions{})
	if err == nil {
		t.Fatal("a role without rights has made a backup")
	}
	p.SQL(t, granted(t, err, c))
	backUp(t, repo, newTarget(t, c))
}

// An incremental backup skips files that are as they were, and only those.
func TestLocalUnchanged(t *testing.T) {
	t.Parallel()
	p := testenv.Postgres(t, 17, testenv.PostgresOptions{Settings: map[string]string{"autovacuum": "off", "checkpoint_timeout": "1h"}})
	p.SQL(t, "create table a (n) as select generate_series(1, 100000)", "create table b (n) as select generate_series(1, 100000)", "vacuum freeze a", "vacuum freeze b")
	file := func(table string) string { return p.SQL(t, "select pg_relation_filepath('"+table+"')") }
	a, b := file("a"), file("b")
	repo, _ := newRepository(t)
	save := func(mode backup.Mode) backup.Point {
		t.Helper()
		point, err := repo.Backup(t.Context(), "db", newTarget(t, atData(p)), backup.BackupOptions{Mode: mode})
		must(t, err)
		return point
	}
	trusted := func(point backup.Point, path string) bool {
		return strings.Contains(string(paths(t, repo, point)[path].Meta), `"i":"`)
	}
	if first := save(backup.Full); trusted(first, a) {
		t.Error("what was written just before the backup is trusted not to change unseen")
	}
	quietly(t, p)
	second := save(backup.Incremental)
	if !trusted(second, a) || second.Stats.BytesRead < 6<<20 {
		t.Errorf("what is at rest is not trusted, or was not read: %+v", second.Stats)
	}
	third := save(backup.Incremental)
	if third.Stats.BytesRead > 1<<20 || third.Stats.Bytes != second.Stats.Bytes {
		t.Errorf("nothing has changed, and %+v, after %+v", third.Stats, second.Stats)
	}
	if full := save(backup.Full); full.Stats.BytesRead < full.Stats.Bytes {
		t.Errorf("a full backup has not read all: %+v", full.Stats)
	}
	// A page, without the size; and then the time is set back.
	p.SQL(t, "update b set n = -n where n = 5", "checkpoint")
	fourth := save(backup.Incremental)
	if n := fourth.Stats.BytesRead; n < 3<<20 || n > 6<<20 {
		t.Errorf("one of two tables was changed, and %d bytes were read", n)
	}
	fi, err := os.Stat(filepath.Join(p.Data, a))
	must(t, err)
	p.SQL(t, "update a set n = -n where n = 5", "checkpoint")
	must(t, os.Chtimes(filepath.Join(p.Data, a), fi.ModTime(), fi.ModTime()))
	before := paths(t, repo, fourth)
	after := save(backup.Incremental)
	if is := paths(t, repo, after); sumOf(is[a]) == sumOf(before[a]) || sumOf(is[b]) != sumOf(before[b]) {
		t.Error("a change whose time was set back is not in the backup")
	}
	dir := filepath.Join(p.Dir, "restored")
	restore(t, repo, after, dir, map[string]string{"target": "consistent", "verify": "true"})
	r := verified(t, p, dir)
	if said := r.SQL(t, "select sum(n) from a", "select sum(n) from b"); said != "5000049990\n5000049990" {
		t.Errorf("restored: %q", said)
	}
	stopped(t, r)
}

// A page that fails is a warning of every backup that has it, whether or not
// its file was changed.
func TestLocalCorrupt(t *testing.T) {
	t.Parallel()
	p := testenv.Postgres(t, 17, testenv.PostgresOptions{Settings: map[string]string{"autovacuum": "off"}})
	p.SQL(t, "create table t (n) as select generate_series(1, 10000)", "vacuum freeze t")
	path := p.SQL(t, "select pg_relation_filepath('t')")
	p.Stop(t)
	f, err := os.OpenFile(filepath.Join(p.Data, path), os.O_RDWR, 0)
	must(t, err)
	_, err = f.WriteAt([]byte("damage"), 3*8192+5000)
	must(t, err)
	// One that claims to have been changed after everything else.
	_, err = f.WriteAt([]byte{0xff, 0, 0, 0}, 5*8192)
	must(t, errors.Join(err, f.Close()))
	p.Start(t)
	quietly(t, p)
	repo, _ := newRepository(t)
	for range 2 {
		point, err := repo.Backup(t.Context(), "db", newTarget(t, atData(p)), backup.BackupOptions{Mode: backup.Incremental})
		must(t, err)
		said := fmt.Sprint(point.Warnings)
		if len(point.Warnings) != 2 || !strings.Contains(said, path) || !strings.Contains(said, "page 3 ") || !strings.Contains(said, "page 5 ") {
			t.Errorf("warnings: %s", said)
		}
	}
}

// A backup that ends early leaves no point, and no backup at the server.
func TestLocalEndedEarly(t *testing.T) {
	t.Parallel()
	p := testenv.Postgres(t, 17, testenv.PostgresOptions{})
	p.SQL(t, "create table t (n, s) as select n, repeat('x', 200) from generate_series(1, 100000) n")
	repo, _ := newRepository(t)
	try := func(progress func(stop func())) error {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		once := false
		_, err := repo.Backup(ctx, "db", newTarget(t, atData(p)), backup.BackupOptions{Progress: func(backup.Progress) {
			if !once {
				once = true
				progress(cancel)
			}
		}})
		for p, err := range repo.Points(t.Context(), "") {
			t.Errorf("there is a point: %v, %v", p.ID, err)
		}
		return err
	}
	if err := try(func(stop func()) { stop() }); err == nil {
		t.Error("cancelled: no error")
	}
	idle(t, p)
	if err := try(func(func()) { p.Kill9(t); p.Start(t) }); err == nil {
		t.Error("server restarted: no error")
	}
	idle(t, p)
	backUp(t, repo, newTarget(t, atData(p)))
	idle(t, p)
}

// idle waits until a server is as if there had been no backup.
func idle(t *testing.T, p *testenv.PG) {
	t.Helper()
	said := ""
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		said = p.SQL(t, "select count(*) from pg_stat_activity where application_name = 'holdfast'", "select count(*) from pg_replication_slots")
		if said == "0\n0" {
			return
		}
	}
	t.Errorf("the server still has\n%s", said)
}
