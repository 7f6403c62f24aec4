package logical

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"filippo.io/age"
	"github.com/jackc/pgx/v5"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/internal/testenv"
	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/local"
)

var errOfProgram = errors.New("exit status 1")

func TestMain(m *testing.M) {
	if os.Getenv(crashStep) != "" {
		crash()
	}
	testenv.Main(m)
}

// A world is a server with a repository beside it.
type world struct {
	*testenv.PG
	bin  string // its programs, which know their version without being started
	dir  string
	repo *backup.Repository
}

func newWorld(t *testing.T, major int) *world {
	w := &world{PG: testenv.Postgres(t, major, testenv.PostgresOptions{}), dir: t.TempDir()}
	w.repo = makeRepo(t, w.dir)
	w.bin = filepath.Join(w.Dir, "quick")
	if err := os.Mkdir(w.bin, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"pg_dump", "pg_restore"} {
		version := strings.TrimSpace(w.Run(t, name, "--version"))
		script := fmt.Sprintf("#!/bin/sh\nif [ \"$1\" = --version ]; then echo '%s'; exit; fi\nexec %s/%s \"$@\"\n", version, w.Bin, name)
		if err := os.WriteFile(filepath.Join(w.bin, name), []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return w
}

// storeIn is the store of a repository, with the key beside it.
func storeIn(dir string) (provider.BlobStore, string, error) {
	store, err := local.NewBlobStore(local.Config{Dir: filepath.Join(dir, "store"), Create: true})
	return store, filepath.Join(dir, "key"), err
}

func makeRepo(t *testing.T, dir string) *backup.Repository {
	t.Helper()
	store, file, err := storeIn(dir)
	if err != nil {
		t.Fatal(err)
	}
	key, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(key.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := backup.Init(t.Context(), backup.Config{Store: store, Writer: "test", Keyring: backup.Keyring{
		Recipients: backup.AgeRecipients(key.Recipient()), Identities: backup.AgeIdentities(key)}})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// reopen opens it in another process.
func reopen(dir string) (*backup.Repository, error) {
	store, _, err := storeIn(dir)
	if err != nil {
		return nil, err
	}
	return reopenOn(store, dir)
}

func reopenOn(store provider.BlobStore, dir string) (*backup.Repository, error) {
	_, file, err := storeIn(dir)
	if err != nil {
		return nil, err
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	key, err := age.ParseX25519Identity(string(b))
	if err != nil {
		return nil, err
	}
	return backup.Open(context.Background(), backup.Config{Store: store, Writer: "test", Keyring: backup.Keyring{Identities: backup.AgeIdentities(key)}})
}

func (w *world) target(t testing.TB, c Config) *Target {
	t.Helper()
	c.Conn = cmp.Or(c.Conn, w.Conn)
	c.Bin = cmp.Or(c.Bin, w.bin)
	c.Spool = w.Dir
	target, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return target
}

func (w *world) backup(t testing.TB, target *Target) backup.Point {
	t.Helper()
	p, err := w.repo.Backup(t.Context(), "db", target, backup.BackupOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// restore restores with options "key=value".
func (w *world) restore(t testing.TB, target *Target, p backup.Point, options ...string) error {
	t.Helper()
	return w.repo.Restore(t.Context(), p.ID, target, backup.Destination{Options: parsed(options)}, backup.RestoreOptions{})
}

func parsed(options []string) map[string]string {
	o := map[string]string{}
	for _, s := range options {
		k, v, _ := strings.Cut(s, "=")
		o[k] = v
	}
	return o
}

// in runs statements in a database.
func (w *world) in(t testing.TB, database string, statements ...string) {
	t.Helper()
	if err := w.try(database, statements...); err != nil {
		t.Fatal(err)
	}
}

func (w *world) try(database string, statements ...string) error {
	c, err := parseConninfo(w.Conn)
	if err != nil {
		return err
	}
	q, err := c.dial(context.Background(), database)
	if err != nil {
		return err
	}
	defer hangUp(q)
	for _, s := range statements {
		if _, err := q.Exec(context.Background(), s); err != nil {
			return fmt.Errorf("%s: %w", s, err)
		}
	}
	return nil
}

// list runs a query of one text column in a database.
func (w *world) list(t testing.TB, database, sql string, args ...any) []string {
	t.Helper()
	out, err := w.tryList(database, sql, args...)
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return out
}

func (w *world) tryList(database, sql string, args ...any) ([]string, error) {
	c, err := parseConninfo(w.Conn)
	if err != nil {
		return nil, err
	}
	q, err := c.dial(context.Background(), database)
	if err != nil {
		return nil, err
	}
	defer hangUp(q)
	rows, err := q.Query(context.Background(), sql, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

// state describes a database: every row, large object, owner and privilege.
func (w *world) state(database string) (string, error) {
	names, err := w.tryList(database, `SELECT quote_ident(nspname) || '.' || quote_ident(relname) FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
		WHERE relkind IN ('r', 'p', 'v', 'm', 'S') AND nspname !~ '^pg_' AND nspname <> 'information_schema' ORDER BY 1`)
	if err != nil {
		return "", err
	}
	out := names
	for _, n := range names {
		columns := "x.*"
		if strings.HasSuffix(n, "_seq") || strings.HasSuffix(n, `_seq"`) {
			columns = "last_value, is_called" // and not how many were fetched ahead
		}
		rows, err := w.tryList(database, `SELECT row(`+columns+`)::text FROM `+n+` x ORDER BY 1`)
		if err != nil {
			return "", err
		}
		out = append(out, fmt.Sprint(n, ": ", len(rows)), strings.Join(rows, "\n"))
	}
	more, err := w.tryList(database, `
		SELECT 'lo ' || m.oid || ' ' || pg_get_userbyid(lomowner) || ' ' || encode(lo_get(m.oid), 'hex') FROM pg_largeobject_metadata m
		UNION ALL SELECT 'rel ' || relname || ' ' || relkind::text || ' ' || pg_get_userbyid(relowner) || ' ' || array_to_string(ARRAY(SELECT concat(pg_get_userbyid(x.grantee), x.privilege_type, x.is_grantable) FROM aclexplode(relacl) x WHERE grantee <> relowner ORDER BY 1), ',')
			FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'
		UNION ALL SELECT 'schema ' || nspname || ' ' || array_to_string(ARRAY(SELECT x::text FROM unnest(coalesce(nspacl, acldefault('n', nspowner))) x ORDER BY 1), ',') FROM pg_namespace WHERE nspname !~ '^pg_t'
		UNION ALL SELECT 'proc ' || pg_get_functiondef(p.oid) FROM pg_proc p JOIN pg_namespace n ON n.oid = pronamespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'
		UNION ALL SELECT 'extension ' || extname FROM pg_extension
		UNION ALL SELECT 'tablespace ' || spcname || ' ' || relname FROM pg_class c JOIN pg_tablespace s ON s.oid = reltablespace WHERE spcname !~ '^pg_'
		UNION ALL SELECT 'database ' || pg_get_userbyid(datdba) || pg_encoding_to_char(encoding) || datcollate || datctype || datlocprovider::text || datconnlimit || datistemplate
			|| coalesce(shobj_description(oid, 'pg_database'), '') || coalesce(array_to_string(ARRAY(SELECT x::text FROM unnest(coalesce(datacl, acldefault('d', datdba))) x ORDER BY 1), ','), '')
			FROM pg_database WHERE datname = current_database()
		UNION ALL SELECT 'setting ' || setrole::regrole || array_to_string(ARRAY(SELECT x FROM unnest(setconfig) x ORDER BY 1), ';') FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase WHERE datname = current_database()
		ORDER BY 1`)
	return strings.Join(append(out, more...), "\n"), err
}

func (w *world) mustState(t testing.TB, database string) string {
	t.Helper()
	s, err := w.state(database)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (w *world) databases(t testing.TB) []string {
	t.Helper()
	return w.list(t, "postgres", `SELECT datname::text FROM pg_database WHERE datname NOT IN ('postgres', 'template0', 'template1') ORDER BY 1`)
}

// of are those that a restore has made or set aside.
func (w *world) ours(t testing.TB, kinds ...string) []string {
	t.Helper()
	return slices.DeleteFunc(w.databases(t), func(n string) bool {
		return !isOurs(n) || !slices.ContainsFunc(kinds, func(k string) bool { return strings.Contains(n, ".holdfast-"+k+"-") })
	})
}

// small makes a database with little in it.
func (w *world) small(t testing.TB, name string) {
	t.Helper()
	w.in(t, "postgres", "CREATE DATABASE "+ident(name))
	w.in(t, name, "CREATE TABLE public.t (id int PRIMARY KEY, v text)", "INSERT INTO public.t SELECT i, repeat('x', i) FROM generate_series(1, 100) i")
}

// rich makes one with all that there is to keep.
func (w *world) rich(t testing.TB, name string) {
	t.Helper()
	db := ident(name)
	w.in(t, "postgres",
		`CREATE ROLE "app owner"`, `CREATE ROLE reader NOLOGIN NOINHERIT`, `CREATE ROLE ann LOGIN PASSWORD 'hush-hush' VALID UNTIL '2031-02-03 04:05:06+00' CONNECTION LIMIT 7 IN ROLE reader`,
		`ALTER ROLE ann SET search_path TO "$user", "odd ""schema"`, `COMMENT ON ROLE ann IS 'it''s ann'`, `GRANT "app owner" TO ann WITH ADMIN OPTION`,
		`CREATE DATABASE `+db+` OWNER "app owner" ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0 CONNECTION LIMIT 50`,
		`COMMENT ON DATABASE `+db+` IS 'shop''s \ "data"'`,
		`ALTER DATABASE `+db+` SET search_path TO "odd ""schema", public`, `ALTER DATABASE `+db+` SET work_mem TO '5MB'`, `ALTER DATABASE `+db+` SET my.own TO 'a, "b" \ c'`,
		`ALTER ROLE ann IN DATABASE `+db+` SET statement_timeout TO '30s'`,
		`REVOKE ALL ON DATABASE `+db+` FROM PUBLIC`, `GRANT CONNECT ON DATABASE `+db+` TO ann WITH GRANT OPTION`)
	space := filepath.Join(w.Dir, "space")
	if err := os.MkdirAll(space, 0o700); err != nil {
		t.Fatal(err)
	}
	w.Own(t, space)
	w.in(t, "postgres", "CREATE TABLESPACE space LOCATION '"+space+"'")
	w.in(t, name,
		`CREATE TABLE public.elsewhere (a int) TABLESPACE space`,
		`CREATE EXTENSION pg_trgm SCHEMA public`,
		`CREATE SCHEMA "odd ""schema" AUTHORIZATION "app owner"`,
		`CREATE TABLE "odd ""schema"."the table; --" (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, v text DEFAULT 'é')`,
		`INSERT INTO "odd ""schema"."the table; --" (v) SELECT md5(i::text) FROM generate_series(1, 2000) i`,
		`ALTER TABLE "odd ""schema"."the table; --" OWNER TO "app owner"`,
		`CREATE TABLE public.parts (k int, v text) PARTITION BY RANGE (k)`,
		`CREATE TABLE public.parts_1 PARTITION OF public.parts FOR VALUES FROM (0) TO (50)`,
		`CREATE TABLE public.parts_2 PARTITION OF public.parts FOR VALUES FROM (50) TO (1000)`,
		`INSERT INTO public.parts SELECT i, 'p' || i FROM generate_series(0, 99) i`,
		`CREATE TABLE public.base (a int)`, `CREATE TABLE public.child (b int) INHERITS (public.base)`,
		`INSERT INTO public.base VALUES (1)`, `INSERT INTO public.child VALUES (2, 3), (4, 5)`,
		`CREATE UNLOGGED TABLE public.fast (a int)`, `INSERT INTO public.fast VALUES (9)`, `CREATE TABLE public.empty ()`,
		`CREATE VIEW public.seen AS SELECT count(*) FROM public.parts`, `CREATE MATERIALIZED VIEW public.kept AS SELECT k FROM public.parts WHERE k < 5`,
		`CREATE FUNCTION public.note() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO public.base VALUES (7); RETURN NEW; END'`,
		`CREATE TRIGGER noting AFTER INSERT ON public.child FOR EACH ROW EXECUTE FUNCTION public.note()`,
		`CREATE SCHEMA secret`, `REVOKE ALL ON SCHEMA secret FROM PUBLIC`, `CREATE TABLE secret.s (x text)`, `INSERT INTO secret.s VALUES ('hidden')`,
		`ALTER TABLE secret.s ENABLE ROW LEVEL SECURITY`, `CREATE POLICY none ON secret.s USING (false)`,
		`GRANT USAGE ON SCHEMA public TO reader`, `GRANT SELECT ON public.parts TO reader WITH GRANT OPTION`,
		`SELECT lo_from_bytea(4711, decode(repeat('00ff41', 100000), 'hex'))`, `SELECT lo_from_bytea(4712, '')`, `ALTER LARGE OBJECT 4711 OWNER TO "app owner"`)
}
