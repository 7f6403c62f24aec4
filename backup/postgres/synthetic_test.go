package postgres_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/backup/postgres"
	"github.com/holdfast-go/holdfast/internal/testenv"
	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/providertest"
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
			rows := slices.Sorted(strings.Lines(p.Run(t, "psql", "-AtqXd", conn, "-c", names))) // the parts of a union come in any order
			all += database + "\n" + strings.Join(rows, "")
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
			manyChanges(t, p)
			if major == 17 {
				t.Run("combined", func(t *testing.T) { likeCombined(t, p) })
			}
			t.Run("loaded", func(t *testing.T) { changesLoaded(t, p) })
			t.Run("cut", func(t *testing.T) { changesCut(t, p) })
			t.Run("damaged", func(t *testing.T) { earlierDamaged(t, p) })
			t.Run("unfit", func(t *testing.T) { earlierUnfit(t, p) })
			t.Run("unknown", func(t *testing.T) { changesUnknown(t, p) })
		})
	}
}

func manyChanges(t *testing.T, p *testenv.PG) {
	space := filepath.Join(p.Dir, "space")
	must(t, os.Mkdir(space, 0o700))
	p.Own(t, space)
	p.SQL(t, "create table big (n int, s text)", "insert into big select n, md5(n::text) || repeat('x', 200) from generate_series(1, 60000) n",
		"create table dropped (n) as select generate_series(1, 50000)", "create table cut (n) as select generate_series(1, 100000)",
		"create table emptied (n) as select generate_series(1, 50000)", "create table turned (n) as select generate_series(1, 50000)",
		"create table still (n) as select generate_series(1, 50000)", "create table none (n int)", "create index on big (n)", "vacuum")
	repo, _ := newRepository(t)
	conn, sent := counted(t, p)
	c := postgres.Config{Conn: conn}
	full := backUp(t, repo, newTarget(t, c))
	all := sent.Swap(0)
	if it := paths(t, repo, full)[p.SQL(t, "select pg_relation_filepath('big')")]; !bytes.Contains(it.Meta, []byte(`"c":"`)) {
		t.Errorf("without its CRC a file is read again to be changed: %s", it.Meta)
	}

	p.SQL(t, "update big set s = 'changed' || s where n % 20000 = 0", "drop table dropped", "delete from cut where n > 40000", "vacuum cut", "truncate emptied",
		"insert into emptied select generate_series(1, 100)", "delete from turned where n % 2 = 0", "vacuum full turned", "create table new (n) as select generate_series(1, 1000)",
		"create tablespace space location '"+space+"'", "create table there (n) tablespace space as select generate_series(1, 1000)", "insert into none values (7)",
		"create database other template template0 strategy file_copy")
	long := os.Getenv("HOLDFAST_LONG") != ""
	first, second := "", ""
	if long {
		first = rowsOf(t, p)
	}
	inc1 := changedSince(t, repo, c, full)
	if n := sent.Swap(0); n > all/2 { // a new database is in it
		t.Errorf("%d bytes were sent of what has changed, and %d of all", n, all)
	}
	if it := paths(t, repo, inc1)[p.SQL(t, "select pg_relation_filepath('pg_proc')")]; !bytes.Contains(it.Meta, []byte(`"c":"`)) {
		t.Errorf("what has not changed is without its CRC: %s", it.Meta)
	}
	p.SQL(t, "update big set s = 'again' || s where n = 77", "insert into there values (-1)", "alter table still set tablespace space", "drop database other", "insert into cut select generate_series(1, 60000)", "vacuum")
	if long {
		second = rowsOf(t, p)
	}
	inc2 := changedSince(t, repo, c, inc1)
	if n := sent.Swap(0); n > all/4 || inc2.Stats.BytesRead > all/4 {
		t.Errorf("%d bytes were sent of what has changed, and %d read, of %d", n, inc2.Stats.BytesRead, all)
	}
	p.SQL(t, "update big set s = 'once more' where n = 78")
	third := rowsOf(t, p)
	inc3 := changedSince(t, repo, c, inc2)
	if n := sent.Swap(0); n > all/4 || inc3.Stats.BytesRead > all/5 || inc3.Stats.BytesNew > all/50 { // with free space maps, and WAL
		t.Errorf("%d bytes were sent of one row that has changed, and %d read, and %d new, of %d", n, inc3.Stats.BytesRead, inc3.Stats.BytesNew, all)
	}
	points, want := []backup.Point{inc1, inc2, inc3}, []string{first, second, third}
	if !long {
		points, want = points[2:], want[2:]
	}
	must(t, repo.Forget(t.Context(), full.ID))
	_, err := repo.Prune(t.Context(), backup.PruneOptions{})
	must(t, err)
	for n, point := range points {
		dir := filepath.Join(p.Dir, fmt.Sprint("restored", n))
		restore(t, repo, point, dir, map[string]string{"tablespaces": dir + ".spaces", "target": "consistent", "verify": "true"})
		r := verified(t, p, dir, dir+".spaces")
		if got := rowsOf(t, r); got != want[n] {
			t.Errorf("point %d is restored as\n%.2000s\nwant\n%.2000s", n, got, want[n])
		}
		stopped(t, r)
	}
}

// likeCombined compares what is made here of what has changed with what
// pg_combinebackup makes of it.
func likeCombined(t *testing.T, p *testenv.PG) {
	repo, _ := newRepository(t)
	c := postgres.Config{Conn: p.Conn, ManifestChecksums: "CRC32C"}
	dir := func(name string) string { return filepath.Join(p.Dir, "combine."+name) }
	space := "-T" + filepath.Join(p.Dir, "space") + "="
	take := func(name string, more ...string) {
		p.Run(t, "pg_basebackup", append([]string{"-d", p.Socket, "-D", dir(name), "-X", "none", "-c", "fast", space + dir(name) + ".space"}, more...)...)
	}
	p.SQL(t, "vacuum")
	full := backUp(t, repo, newTarget(t, c))
	take("full")
	p.SQL(t, "delete from big where n > 50000 or n % 1000 = 7", "vacuum big", "insert into big select n, 'new' from generate_series(1, 30000) n", "create table after (n) as select 1",
		"insert into cut select 1", "create index on cut (n)", "truncate emptied", "vacuum full there", "checkpoint")
	inc := changedSince(t, repo, c, full)
	take("inc", "--incremental", dir("full")+"/backup_manifest")
	p.Run(t, "pg_combinebackup", dir("full"), dir("inc"), "-o", dir("made"), "-T"+dir("inc")+".space="+dir("made")+".space")
	v, err := repo.View(t.Context(), inc.ID)
	must(t, err)
	made := 0
	for it, err := range v.Items(t.Context()) {
		must(t, err)
		if !regexp.MustCompile(`^(base|global|pg_tblspc)/.*/?[0-9_a-z.]+$`).MatchString(it.Path) || it.Size == 0 || it.Path == "global/pg_control" {
			continue
		}
		in, err := v.Open(t.Context(), it)
		must(t, err)
		got, err := io.ReadAll(in)
		must(t, errors.Join(err, in.Close()))
		want, err := os.ReadFile(filepath.Join(dir("made"), it.Path))
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %d bytes differ from the %d that pg_combinebackup makes; %v", it.Path, len(got), len(want), err)
		}
		if _, err := os.Stat(filepath.Join(dir("inc"), filepath.Dir(it.Path), "INCREMENTAL."+filepath.Base(it.Path))); err == nil {
			made++
		}
	}
	if made < 100 {
		t.Errorf("only %d files were sent as changes", made)
	}
}

// changesLoaded: while transactions go on, all of one is there, or nothing.
func changesLoaded(t *testing.T, p *testenv.PG) {
	longOnly(t)
	repo, _ := newRepository(t)
	c := postgres.Config{Conn: p.Conn}
	point := backUp(t, repo, newTarget(t, c))
	stop := load(t, p)
	point = changedSince(t, repo, c, point)
	p.SQL(t, "create table kept (n int)", "insert into kept values (1)", "vacuum full pgbench_tellers")
	point = changedSince(t, repo, c, point)
	p.SQL(t, "insert into kept values (2)")
	stop()
	dir := filepath.Join(p.Dir, "loaded")
	restore(t, repo, point, dir, map[string]string{"tablespaces": dir + ".spaces", "target": "consistent", "verify": "true"})
	r := verified(t, p, dir, dir+".spaces")
	if said := r.SQL(t, "select * from kept", balanced); said != "1\nt" {
		t.Errorf("restored: %q", said)
	}
	stopped(t, r)
}

// changesCut: a connection that ends among the changes, and a manifest that
// does not agree with them, leave no point; the next backup succeeds.
func changesCut(t *testing.T, p *testenv.PG) {
	repo, _ := newRepository(t)
	full := backUp(t, repo, newTarget(t, postgres.Config{Conn: p.Conn}))
	p.SQL(t, "update big set s = s || 'CHANGE-ME' where n % 100 = 0")
	for what, change := range map[string]func(b []byte, n int) []byte{
		"the server has closed the connection": func(b []byte, n int) []byte {
			if n > 2<<20 {
				return nil
			}
			return b
		},
		"other content than the server's manifest says": func(b []byte, n int) []byte {
			return bytes.ReplaceAll(b, []byte("CHANGE-ME"), []byte("tampered!"))
		},
	} {
		_, err := repo.Backup(t.Context(), "db", newTarget(t, postgres.Config{Conn: proxy(t, p, change)}), backup.BackupOptions{Mode: backup.Incremental})
		if err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%v, want %s", err, what)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	_, err := repo.Backup(ctx, "db", newTarget(t, postgres.Config{Conn: p.Conn}), backup.BackupOptions{Mode: backup.Incremental, Progress: func(backup.Progress) { cancel() }})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	changedSince(t, repo, postgres.Config{Conn: p.Conn}, full)
}

// readWhole makes an incremental backup for which all is read, and compares
// the reason.
func readWhole(t *testing.T, repo *backup.Repository, p *testenv.PG, why string) backup.Point {
	t.Helper()
	var said bytes.Buffer
	c := postgres.Config{Conn: p.Conn, Logger: slog.New(slog.NewTextHandler(&said, nil))}
	point, err := repo.Backup(t.Context(), "db", newTarget(t, c), backup.BackupOptions{Mode: backup.Incremental})
	if err != nil {
		t.Errorf("%s: %v", why, err)
		return point
	}
	if got := whole(t, repo, point); !strings.Contains(got, why) || point.Mode != backup.Full || point.Partial() || !strings.Contains(said.String(), "the server sends everything") {
		t.Errorf("%s: %s, because %q; warnings: %v; said:\n%s", why, point.Mode, got, point.Warnings, &said)
	}
	return point
}

// earlierDamaged: what the earlier backup has lost is read again, with all else.
func earlierDamaged(t *testing.T, p *testenv.PG) {
	key := ageKey(t)
	store := providertest.NewMemory()
	repo, err := backup.Init(t.Context(), smallPacks(store, key))
	must(t, err)
	backUp(t, repo, newTarget(t, postgres.Config{Conn: p.Conn}))
	var packs []provider.Info
	for info, err := range store.List(t.Context(), "data/", provider.ListOptions{}) {
		must(t, err)
		packs = append(packs, info)
	}
	slices.SortFunc(packs, func(a, b provider.Info) int { return a.Modified.Compare(b.Modified) })
	for _, info := range packs[:len(packs)/2] { // not those that have the manifest
		must(t, store.Delete(t.Context(), info.Key, provider.DeleteOptions{}))
	}
	repo, err = backup.Open(t.Context(), smallPacks(store, key))
	must(t, err)
	p.SQL(t, "update big set s = s || 'x' where n % 100 = 0")
	point := readWhole(t, repo, p, "is in no pack")
	sound(t, repo, p, point)
	changedSince(t, repo, postgres.Config{Conn: p.Conn}, point)
	if os.Getenv("HOLDFAST_LONG") == "" {
		return
	}
	lose(t, store)
	repo, err = backup.Open(t.Context(), smallPacks(store, key))
	must(t, err)
	readWhole(t, repo, p, "backup_manifest")
}

// A forgedBase is a target whose point is a base with some items changed.
type forgedBase struct {
	of   *backup.View
	edit func(it backup.Item, content []byte) []byte // nil: left out
	meta func(json.RawMessage) json.RawMessage
	warn error
}

func (forgedBase) Kind() string { return "postgres" }

func (f forgedBase) Backup(ctx context.Context, s *backup.Session) error {
	for it, err := range f.of.Items(ctx) {
		if err != nil {
			return err
		}
		in, err := f.of.Open(ctx, it)
		if err != nil {
			return err
		}
		content, err := io.ReadAll(in)
		if err = errors.Join(err, in.Close()); err != nil {
			return err
		}
		if it.Path == ".holdfast/base" {
			it.Meta = f.edit(it, it.Meta)
		} else if content = f.edit(it, content); content == nil {
			continue
		}
		if f.meta != nil {
			it.Meta = f.meta(it.Meta)
		}
		if err := s.Add(ctx, it, bytes.NewReader(content)); err != nil {
			return err
		}
	}
	if f.warn != nil {
		s.Warn("", f.warn)
	}
	return nil
}

func (forgedBase) Restore(context.Context, *backup.View, backup.Destination) error { return nil }

// earlierUnfit: a point that is not what is needed is not built on.
func earlierUnfit(t *testing.T, p *testenv.PG) {
	repo, _ := newRepository(t)
	full := backUp(t, repo, newTarget(t, postgres.Config{Conn: p.Conn}))
	v, err := repo.View(t.Context(), full.ID)
	must(t, err)
	replace := func(path, old, new string) func(backup.Item, []byte) []byte {
		return func(it backup.Item, b []byte) []byte {
			if it.Path == path {
				if !bytes.Contains(b, []byte(old)) {
					t.Errorf("%s: no %s in %.2000s", path, old, b)
				}
				return bytes.Replace(b, []byte(old), []byte(new), 1)
			}
			return b
		}
	}
	system := p.SQL(t, "select system_identifier from pg_control_system()")
	same := func(_ backup.Item, b []byte) []byte { return b }
	big := p.SQL(t, "select pg_relation_filepath('big')")
	for why, f := range map[string]forgedBase{
		"of another cluster, 7":     {edit: replace(".holdfast/base", system, "7")},
		"of a server of version 16": {edit: replace(".holdfast/base", fmt.Sprintf(`"version":%d`, p.Major), `"version":16`)},
		"pages had other checksums": {edit: replace(".holdfast/base", `"checksums":true`, `"checksums":false`)},
		"or another size":           {edit: replace(".holdfast/base", `"block":8192`, `"block":4096`)},
		"has warnings":              {edit: same, warn: errors.New("odd")},
		"UPLOAD_MANIFEST":           {edit: replace("backup_manifest", "Manifest-Version", "Manifest-Verse")},
		"does not have this file":   {edit: func(it backup.Item, b []byte) []byte { return map[bool][]byte{false: b}[it.Path == big] }},
	} {
		if f.of = v; os.Getenv("HOLDFAST_LONG") == "" && why != "does not have this file" {
			continue
		}
		if _, err := repo.Backup(t.Context(), "db", f, backup.BackupOptions{}); err != nil {
			t.Fatal(err)
		}
		if why == "does not have this file" {
			p.SQL(t, "update big set s = s || 'y' where n = 1")
		}
		readWhole(t, repo, p, why)
	}
	// One that has no CRC beside its sums is read to know them.
	bare := forgedBase{of: v, edit: same, meta: func(b json.RawMessage) json.RawMessage {
		return regexp.MustCompile(`"c":"[0-9a-f]{8}",`).ReplaceAll(b, nil)
	}}
	parent, err := repo.Backup(t.Context(), "db", bare, backup.BackupOptions{})
	must(t, err)
	sound(t, repo, p, changedSince(t, repo, postgres.Config{Conn: p.Conn}, parent))
}

// sound reads all of a point, and compares it with its manifest.
func sound(t *testing.T, repo *backup.Repository, p *testenv.PG, point backup.Point) {
	t.Helper()
	restore(t, repo, point, filepath.Join(p.Dir, "nowhere"), map[string]string{"dry-run": "true", "tablespaces": filepath.Join(p.Dir, "nowhere.spaces")})
}

// changesUnknown: a server that does not write down what has changed, or has
// not since the earlier backup, sends everything.
func changesUnknown(t *testing.T, p *testenv.PG) {
	repo, _ := newRepository(t)
	set := func(on string) {
		p.SQL(t, "alter system set summarize_wal = "+on, "select pg_reload_conf()")
		eventually(t, "change of summarize_wal", func() bool { return p.SQL(t, "show summarize_wal") == on })
	}
	set("off")
	backUp(t, repo, newTarget(t, postgres.Config{Conn: p.Conn}))
	readWhole(t, repo, p, "ALTER SYSTEM SET summarize_wal = on")
	p.SQL(t, "checkpoint", "create table gap (n) as select generate_series(1, 10000)", "select pg_switch_wal()", "checkpoint", "checkpoint")
	set("on")
	point := readWhole(t, repo, p, "WAL summaries are required")
	changedSince(t, repo, postgres.Config{Conn: p.Conn}, point)
	if os.Getenv("HOLDFAST_LONG") == "" {
		return
	}
	// It is the same who has read the files before.
	local, err := repo.Backup(t.Context(), "db", newTarget(t, atData(p)), backup.BackupOptions{})
	must(t, err)
	p.SQL(t, "update big set s = s || 'z' where n % 1000 = 0")
	sound(t, repo, p, changedSince(t, repo, postgres.Config{Conn: p.Conn}, local))
	// A full backup does not ask.
	if full := backUp(t, repo, newTarget(t, postgres.Config{Conn: p.Conn})); full.Mode != backup.Full || whole(t, repo, full) != "" {
		t.Errorf("%s, because %q", full.Mode, whole(t, repo, full))
	}
}

// Changes are told over a promotion, and by standbys; what is not an ancestor
// of the server's history is not built on.
func TestChangesTimelines(t *testing.T) {
	longOnly(t)
	t.Parallel()
	p := testenv.Postgres(t, 17, summarizing())
	p.SQL(t, "create table t (n) as select generate_series(1, 100000)", "vacuum")
	repo, _ := newRepository(t)
	sb := standby(t, p) // before, so that it has what has changed since
	full := backUp(t, repo, newTarget(t, postgres.Config{Conn: p.Conn}))
	p.SQL(t, "update t set n = -n where n % 1000 = 0", "checkpoint")
	caughtUp(t, sb, p.SQL(t, "select pg_current_wal_flush_lsn()"))
	sb.SQL(t, "checkpoint")
	restored := func(point backup.Point, of *testenv.PG) {
		t.Helper()
		dir := filepath.Join(p.Dir, "restored-"+string(point.ID))
		restore(t, repo, point, dir, map[string]string{"target": "consistent", "verify": "true", "target-timeline": "current"})
		r := verified(t, p, dir)
		if got, want := rowsOf(t, r), rowsOf(t, of); got != want {
			t.Errorf("%s is restored as\n%s\nwant\n%s", point.ID, got, want)
		}
		stopped(t, r)
	}
	atStandby := changedSince(t, repo, postgres.Config{Conn: sb.Conn}, full)
	restored(atStandby, p)
	promoteStandby(t, sb)
	sb.SQL(t, "update t set n = -n where n % 1000 = 500", "checkpoint")
	promoted := changedSince(t, repo, postgres.Config{Conn: sb.Conn}, atStandby)
	restored(promoted, sb)
	// The old primary goes on where it should not.
	p.SQL(t, "update t set n = -n where n % 1000 = 7")
	restored(readWhole(t, repo, p, "timeline"), p)
	// What has been promoted does not know of that, either.
	again, err := repo.Backup(t.Context(), "db", newTarget(t, postgres.Config{Conn: sb.Conn}), backup.BackupOptions{Mode: backup.Incremental})
	must(t, err)
	if why := whole(t, repo, again); why == "" {
		t.Errorf("it is built on a point of the old primary: %s", why)
	}
	restored(again, sb)
}

// A relation of several files is told file by file. When it was cut down in
// the last, there are servers that count on over the end of the first.
func TestChangesSegments(t *testing.T) {
	longOnly(t)
	t.Parallel()
	p := testenv.Postgres(t, 17, summarizing())
	// Pages of one row each, which compress well.
	p.SQL(t, "create table huge (n int, s text)", "alter table huge alter s set storage plain",
		"insert into huge select n, repeat('x', 7000) from generate_series(1, 140000) n", "vacuum huge")
	repo, _ := newRepository(t)
	conn, sent := counted(t, p)
	full := backUp(t, repo, newTarget(t, postgres.Config{Conn: conn}))
	all := sent.Swap(0)
	p.SQL(t, "update huge set n = -n where n % 10000 = 0", "delete from huge where n > 138000 or n < 0", "vacuum huge")
	inc := changedSince(t, repo, postgres.Config{Conn: conn}, full)
	if n := sent.Load(); n > all/20 {
		t.Errorf("%d bytes were sent of what has changed, and %d of all", n, all)
	}
	path := p.SQL(t, "select pg_relation_filepath('huge')")
	items := paths(t, repo, inc)
	v, err := repo.View(t.Context(), inc.ID)
	must(t, err)
	for path, least := range map[string]int64{path: 1 << 30, path + ".1": 1 << 20} {
		f, err := os.Open(filepath.Join(p.Data, path))
		must(t, err)
		defer f.Close()
		fi, err := f.Stat()
		must(t, err)
		in, err := v.Open(t.Context(), items[path])
		must(t, err)
		defer in.Close()
		if fi.Size() < least || items[path].Size != fi.Size() || !sameContent(t, in, f) {
			t.Errorf("%s: %d bytes, which are not those of the file, of %d", path, items[path].Size, fi.Size())
		}
	}
}

func sameContent(t *testing.T, a, b io.Reader) bool {
	t.Helper()
	x, y := sha256.New(), sha256.New()
	_, err1 := io.Copy(x, a)
	_, err2 := io.Copy(y, b)
	must(t, errors.Join(err1, err2))
	return bytes.Equal(x.Sum(nil), y.Sum(nil))
}
