package logical

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/provider"
)

// steps of a restore, in order; after the one before the last there is no way
// back.
var steps = []string{"create", "load", "verify", "finish", "swap", "commit", "committed", "drop"}

// done reports whether the new database is in its place when a step begins.
func done(step string) bool { return slices.Index(steps, step) >= slices.Index(steps, "committed") }

// sampled are some of the steps, or all in the long form.
func sampled(some ...string) []string {
	if os.Getenv("HOLDFAST_LONG") != "" {
		return steps
	}
	return some
}

var errStep = errors.New("this step fails")

// shop makes a point of a database, and changes it afterwards, so that old and
// new can be told apart.
func (w *world) shop(t *testing.T, name string) (p backup.Point, then, now string) {
	t.Helper()
	w.small(t, name)
	then = w.mustState(t, name)
	p = w.backup(t, w.target(t, Config{Databases: []string{name}}))
	w.in(t, name, "INSERT INTO public.t VALUES (1000, 'newer')")
	return p, then, w.mustState(t, name)
}

func testConsent(t *testing.T, w *world) {
	p, then, now := w.shop(t, "shop")
	target := w.target(t, Config{})
	target.step = func(string) error { return errors.New("something was done") }
	err := w.restore(t, target, p)
	if !errors.Is(err, provider.ErrConflict) || !strings.Contains(err.Error(), "overwrite=true") {
		t.Errorf("without consent: %v", err)
	}
	if e, ok := errors.AsType[*provider.Error](err); !ok || e.Op != "restore" || e.Key != "shop" {
		t.Errorf("%v is no provider.Error of a restore", err)
	}
	for _, o := range []string{"overwrite=yes", "old=burn", "roles=all", "settings=some", "jobs=0", "jobs=x", "database=", "old=drop", "database=" + strings.Repeat("x", 64)} {
		key, _, _ := strings.Cut(o, "=")
		if err := w.restore(t, target, p, o); err == nil || !strings.Contains(err.Error(), key) || strings.Contains(err.Error(), "something") {
			t.Errorf("%s: %v", o, err)
		}
	}
	err = w.repo.Restore(t.Context(), p.ID, target, backup.Destination{Location: "host=db2 password=hush"}, backup.RestoreOptions{})
	if err == nil || !strings.Contains(err.Error(), "passfile") || strings.Contains(err.Error(), "hush") {
		t.Errorf("a password in the location: %v", err)
	}
	compare(t, w.mustState(t, "shop"), now)
	if d := w.databases(t); len(d) != 1 {
		t.Errorf("databases %q", d)
	}

	// With it, the old one is kept, also from under clients that come again and
	// again.
	stop := make(chan struct{})
	client := make(chan struct{})
	missed := 0
	go func() {
		defer close(client)
		for {
			select {
			case <-stop:
				return
			default:
				if err := w.try("shop", "SELECT pg_sleep(60)"); hasCode(err, codeNoDB) { // others are of being disconnected
					missed++
				}
			}
		}
	}()
	var log strings.Builder
	target = w.target(t, Config{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	err = w.restore(t, target, p, "overwrite=true")
	close(stop)
	for waiting := true; waiting; { // for a client that has come again, and would sleep for a minute
		w.try("postgres", `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(60)%' AND pid <> pg_backend_pid()`)
		select {
		case <-client:
			waiting = false
		case <-time.After(20 * time.Millisecond):
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	if missed > 1 {
		t.Errorf("a client was told %d times that there is no database", missed)
	}
	compare(t, w.mustState(t, "shop"), then)
	old := w.ours(t, isOld)
	if len(old) != 1 || len(w.databases(t)) != 2 || !strings.Contains(log.String(), old[0]) {
		t.Fatalf("databases %q, log %s", w.databases(t), log.String())
	}
	compare(t, w.mustState(t, old[0]), now)
}

// A restore that fails at any step leaves the old database as it was, and
// nothing of its own; one whose reply is lost knows what became of it.
func testStepsFail(t *testing.T, w *world) {
	p, then, now := w.shop(t, "shop")
	for _, step := range sampled("load", "commit", "committed") {
		w.reset(t, "shop", now)
		target := w.target(t, Config{})
		target.step = func(name string) error {
			if name == step {
				return errStep
			}
			return nil
		}
		err := w.restore(t, target, p, "overwrite=true", "old=drop")
		if errors.Is(err, errStep) != (step != "committed") { // by which it is done
			t.Errorf("%s: %v", step, err)
		}
		w.afterwards(t, step, then, now)
		if left := w.ours(t, isNew, isOld); len(left) > 0 {
			t.Errorf("%s: left behind %q", step, left)
		}
	}
	// The connection is lost: before and after the server has committed.
	for _, step := range []string{"commit", "committed"} {
		w.reset(t, "shop", now)
		target := w.target(t, Config{})
		target.step = func(name string) error {
			if name != step {
				return nil
			}
			w.in(t, "postgres", `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'holdfast' AND pid <> pg_backend_pid()`)
			if done(step) {
				return errors.New("the reply is lost")
			}
			return nil
		}
		err := w.restore(t, target, p, "overwrite=true")
		if done(step) != (err == nil) {
			t.Errorf("connection lost at %s: %v", step, err)
		}
		w.afterwards(t, step, then, now)
		if left := w.ours(t, isNew); len(left) > 0 {
			t.Errorf("connection lost at %s: left behind %q", step, left)
		}
	}
}

// reset makes the database what it was before a restore.
func (w *world) reset(t *testing.T, name, now string) {
	t.Helper()
	for _, d := range w.ours(t, isNew, isOld, isDrop) {
		w.in(t, "postgres", "DROP DATABASE "+ident(d)+" WITH (FORCE)")
	}
	w.in(t, name, "INSERT INTO public.t VALUES (1000, 'newer') ON CONFLICT DO NOTHING")
	compare(t, w.mustState(t, name), now)
}

func (w *world) afterwards(t *testing.T, step, then, now string) {
	t.Helper()
	want := now
	if done(step) {
		want = then
	}
	got := w.mustState(t, "shop")
	if got != want {
		t.Errorf("%s: what is there is %s", step, map[string]string{then: "the new one", now: "the old one"}[got])
	}
}

// What was restored is compared with what was dumped, before it takes anybody's
// place.
func testRestoredOtherwise(t *testing.T, w *world) {
	p, _, now := w.shop(t, "shop")
	for changes, want := range map[string][]string{
		`DELETE FROM public.t WHERE id = 7; CREATE TABLE public.more (); ALTER TABLE public.t DROP CONSTRAINT t_pkey; SELECT lo_create(0); CREATE VIEW public.v AS SELECT 1`: {
			`table "public"."t" has 99 rows, and had 100`, `table "public"."more" was not there`, "there are 0 indexes, and were 1",
			"there are 1 large objects, and were 0", "there are 1 views, and were 0"},
		"DROP TABLE public.t": {`table "public"."t" is missing`},
	} {
		target := w.target(t, Config{})
		target.step = func(name string) error {
			if name == "verify" {
				w.in(t, w.ours(t, isNew)[0], changes)
			}
			return nil
		}
		err := w.restore(t, target, p, "overwrite=true")
		if !errors.Is(err, provider.ErrCorrupt) {
			t.Errorf("%s: %v", changes, err)
		}
		for _, text := range want {
			if !strings.Contains(fmt.Sprint(err), text) {
				t.Errorf("%s: %v, want %s", changes, err, text)
			}
		}
	}
	compare(t, w.mustState(t, "shop"), now)
	if d := w.databases(t); len(d) != 1 {
		t.Errorf("databases %q", d)
	}
}

// Two restores into one name do not meet, and one that finds another database
// than when it began stops.
func testRestoresMeet(t *testing.T, w *world) {
	p, _, now := w.shop(t, "shop")
	target := w.target(t, Config{})
	target.step = func(name string) error {
		if name == "load" {
			if err := w.restore(t, w.target(t, Config{}), p, "overwrite=true"); !errors.Is(err, provider.ErrConflict) || !strings.Contains(err.Error(), "under way") {
				t.Errorf("the second restore: %v", err)
			}
			if err := w.restore(t, w.target(t, Config{}), p, "database=another"); err != nil {
				t.Errorf("into another name: %v", err)
			}
		}
		if name == "swap" {
			w.in(t, "postgres", "ALTER DATABASE shop RENAME TO moved", "CREATE DATABASE shop")
		}
		return nil
	}
	if err := w.restore(t, target, p, "overwrite=true"); !errors.Is(err, provider.ErrConflict) || !strings.Contains(err.Error(), "another database has this name") {
		t.Errorf("the first restore: %v", err)
	}
	compare(t, w.mustState(t, "moved"), now)

	// A name that is taken only at the end.
	target.step = func(name string) error {
		if name == "swap" {
			w.in(t, "postgres", "CREATE DATABASE taken")
		}
		return nil
	}
	if err := w.restore(t, target, p, "database=taken"); !errors.Is(err, provider.ErrConflict) {
		t.Errorf("a name that was taken meanwhile: %v", err)
	}
	if d := w.databases(t); !slices.Equal(d, []string{"another", "moved", "shop", "taken"}) {
		t.Errorf("databases %q", d)
	}
}

const crashStep = "HOLDFAST_TEST_CRASH" // where a process that restores kills itself

// crash is that process.
func crash() {
	repo, err := reopen(os.Getenv("HOLDFAST_TEST_DIR"))
	if err != nil {
		panic(err)
	}
	target, err := New(Config{Conn: os.Getenv("HOLDFAST_TEST_CONN"), Bin: os.Getenv("HOLDFAST_TEST_BIN")})
	if err != nil {
		panic(err)
	}
	target.step = func(name string) error {
		if name == os.Getenv(crashStep) {
			self, _ := os.FindProcess(os.Getpid())
			self.Kill()
			select {}
		}
		return nil
	}
	err = repo.Restore(context.Background(), backup.PointID(os.Getenv("HOLDFAST_TEST_POINT")), target,
		backup.Destination{Options: parsed([]string{"overwrite=true", "old=drop"})}, backup.RestoreOptions{})
	fmt.Println("not killed:", err)
	os.Exit(1)
}

// A restore that is killed at any step leaves the old database or the new one in
// place; run again, it drops what was left.
func testCrash(t *testing.T, w *world) {
	p, then, now := w.shop(t, "shop")
	for _, step := range sampled("load", "commit", "drop") {
		w.reset(t, "shop", now)
		w.crash(t, step, p)
		w.afterwards(t, step, then, now)
		if left := w.ours(t, isNew, isDrop); (len(left) == 1) != (step != "create") {
			t.Errorf("%s: left behind %q", step, left)
		}
		if err := w.restore(t, w.target(t, Config{}), p, "overwrite=true"); err != nil {
			t.Errorf("%s: again: %v", step, err)
		}
		compare(t, w.mustState(t, "shop"), then)
		if left := w.ours(t, isNew, isDrop); len(left) > 0 {
			t.Errorf("%s: left behind in the end: %q", step, left)
		}
	}
}

func (w *world) crash(t *testing.T, step string, p backup.Point) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), crashStep+"="+step, "HOLDFAST_TEST_DIR="+w.dir, "HOLDFAST_TEST_CONN="+w.Conn, "HOLDFAST_TEST_BIN="+w.bin, "HOLDFAST_TEST_POINT="+string(p.ID))
	out, err := cmd.CombinedOutput()
	if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.ExitCode() != -1 {
		t.Fatalf("%s: %v\n%s", step, err, out)
	}
}

// A point that holds what this package does not make is refused, before
// anything is done. (That of paths and descriptions is in TestTarget.)
func testHostilePoint(t *testing.T, w *world) {
	w.small(t, "shop")
	good := `{"format":1,"database":"shop","server":150000,"tool":"15.1"}`
	dump := backup.Item{Path: itemPath("shop", "dump"), Meta: []byte(good)}
	inv := backup.Item{Path: itemPath("shop", "inventory")}
	globals := backup.Item{Path: globalsPath}
	for name, c := range map[string]struct {
		items []backup.Item
		text  string
		want  string
	}{
		"no globals":      {[]backup.Item{dump, inv}, "{}", "no cluster"},
		"no inventory":    {[]backup.Item{globals, dump}, "{}", "no inventory"},
		"another name":    {[]backup.Item{globals, {Path: itemPath("other", "dump"), Meta: []byte(good)}, inv}, "{}", "not described"},
		"more":            {[]backup.Item{globals, dump, inv, {Path: "databases/x/y"}}, "{}", "not made by this package"},
		"another format":  {[]backup.Item{globals, {Path: dump.Path, Meta: []byte(strings.Replace(good, ":1,", ":2,", 1))}, inv}, "{}", "format 2"},
		"no JSON":         {[]backup.Item{globals, dump, inv}, "{", "unexpected end"},
		"no dump":         {[]backup.Item{globals, dump, inv}, `{"properties":{"encoding":"UTF8","collate":"C","ctype":"C"}}`, "pg_restore"},
		"statements":      {[]backup.Item{globals, dump, inv}, `{"properties":{"encoding":"UTF8'; DROP DATABASE shop; --","collate":"C","ctype":"C"}}`, "not a valid encoding"},
		"extension":       {[]backup.Item{globals, dump, inv}, `{"extensions":["nosuch"]}`, `lacks the extensions ["nosuch"]`},
		"tool of no kind": {[]backup.Item{globals, {Path: dump.Path, Meta: []byte(strings.Replace(good, "15.1", "x", 1))}, inv}, "{}", "which is none"},
	} {
		f := forged{c.items, c.text}
		p, err := w.repo.Backup(t.Context(), "db", f, backup.BackupOptions{})
		if err != nil {
			t.Fatal(err)
		}
		err = w.restore(t, w.target(t, Config{}), p, "database=evil", "roles=none")
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %s", name, err, c.want)
		}
	}
	if d := w.databases(t); !slices.Equal(d, []string{"shop"}) {
		t.Errorf("databases %q", d)
	}
}

type forged struct {
	items []backup.Item
	text  string
}

func (f forged) Kind() string { return "postgres-dump" }
func (f forged) Backup(ctx context.Context, s *backup.Session) error {
	for _, it := range f.items {
		if err := s.Add(ctx, it, strings.NewReader(f.text)); err != nil {
			return err
		}
	}
	return nil
}
func (f forged) Restore(context.Context, *backup.View, backup.Destination) error {
	return errors.ErrUnsupported
}

// Programs that are not there, or are no programs of PostgreSQL.
func TestPrograms(t *testing.T) {
	dir := t.TempDir()
	target, err := New(Config{Bin: dir})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := target.program(t.Context(), "pg_dump"); !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "Config.Bin") {
		t.Errorf("a program that is missing: %v", err)
	}
	for script, want := range map[string]string{"echo hello": "no version", "exit 3": "exit status 3", "echo 'pg_dump (PostgreSQL) 18beta1'": ""} {
		if err := os.WriteFile(filepath.Join(dir, "pg_dump"), []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		p, err := target.program(t.Context(), "pg_dump")
		if want == "" && (err != nil || p.major != 18 || p.version != "18beta1") || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %+v, %v", script, p, err)
		}
	}
}
