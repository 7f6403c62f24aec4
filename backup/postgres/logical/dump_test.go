package logical

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/provider"
)

// blocked is a database whose dump waits for ever: for a lock that pg_dump wants
// and the count of rows does not. release lets it go on.
func (w *world) blocked(t *testing.T, name string) (release func()) {
	t.Helper()
	w.small(t, name)
	w.in(t, name, "CREATE TABLE public.parts (k int) PARTITION BY RANGE (k)")
	c, err := parseConninfo(w.Conn)
	if err != nil {
		t.Fatal(err)
	}
	q, err := c.with("application_name", "blocker").dial(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := q.PgConn().Exec(t.Context(), "BEGIN; LOCK TABLE public.parts IN ACCESS EXCLUSIVE MODE").ReadAll(); err != nil {
		t.Fatal(err)
	}
	return func() { hangUp(q) }
}

// dumping waits until pg_dump waits.
func (w *world) dumping(t *testing.T) {
	t.Helper()
	w.until(t, "a pg_dump that waits", func() bool {
		return len(w.list(t, "postgres", `SELECT pid::text FROM pg_stat_activity WHERE application_name ~ '^holdfast pg_dump' AND wait_event_type = 'Lock'`)) > 0
	})
}

func (w *world) until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("there is no %s", what)
		}
	}
}

// start backs up beside the test.
func (w *world) start(ctx context.Context, target *Target) chan error {
	done := make(chan error, 1)
	go func() {
		_, err := w.repo.Backup(ctx, "db", target, backup.BackupOptions{})
		done <- err
	}()
	return done
}

// No password is on a command line while the programs run, and what is
// cancelled leaves no session, no program and no point.
func testCancelledDump(t *testing.T, w *world) {
	release := w.blocked(t, "shop")
	defer release()
	before := points(t, w)
	ctx, cancel := context.WithCancel(t.Context())
	done := w.start(ctx, w.target(t, Config{Databases: []string{"shop"}}))
	w.dumping(t)
	found := 0
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, f := range files {
		b, _ := os.ReadFile(f)
		if bytes.Contains(b, []byte("--snapshot=")) {
			found++
		}
		if bytes.Contains(b, []byte(w.Password)) {
			t.Errorf("%s has the password: %q", f, b)
		}
	}
	if found == 0 {
		t.Error("no pg_dump was seen among the processes")
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) || strings.Contains(err.Error(), w.Password) {
		t.Errorf("cancelled: %v", err)
	}
	w.nothingLeft(t, before)
}

func (w *world) nothingLeft(t *testing.T, points0 int) {
	t.Helper()
	w.until(t, "end of the sessions", func() bool {
		return len(w.list(t, "postgres", `SELECT pid::text FROM pg_stat_activity WHERE (application_name ~ '^holdfast' OR application_name ~ '^pg_') AND pid <> pg_backend_pid()`)) == 0
	})
	w.until(t, "end of pg_dump", func() bool {
		files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
		for _, f := range files {
			if b, _ := os.ReadFile(f); bytes.Contains(b, []byte("--snapshot=")) && bytes.Contains(b, []byte(fmt.Sprint(w.Port))) {
				return false
			}
		}
		return true
	})
	if n := points(t, w); n != points0 {
		t.Errorf("%d points, and were %d", n, points0)
	}
}

// A dump whose program, session or server dies is no point.
func testLostDump(t *testing.T, w *world) {
	for what, kill := range map[string]func(){
		"session of pg_dump": func() {
			w.in(t, "postgres", `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name ~ '^holdfast pg_dump'`)
		},
		"session with the snapshot": func() {
			w.in(t, "postgres", `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'holdfast' AND datname = 'shop'`)
		},
		"server": func() { w.Kill9(t) },
	} {
		t.Run(what, func(t *testing.T) {
			defer w.clean(t)
			release := w.blocked(t, "shop")
			defer release()
			before := points(t, w)
			target := w.target(t, Config{Databases: []string{"shop"}})
			if what == "session with the snapshot" {
				w.in(t, "shop", "CREATE VIEW public.slow AS SELECT 1") // something to be different in
			}
			done := w.start(t.Context(), target)
			w.dumping(t)
			kill()
			if what == "server" {
				w.Start(t)
			} else {
				release()
			}
			err := <-done
			if what == "session with the snapshot" && err == nil {
				return // all was counted, and pg_dump had its snapshot by then
			}
			if err == nil || !strings.Contains(err.Error(), "pg_dump") {
				t.Errorf("the %s is lost: %v", what, err)
			}
			w.nothingLeft(t, before)
		})
	}
}

// What is written during a dump is in it or not, and counted as it is; and what
// truncates a table does not make the dump see it half.
func testWrittenMeanwhile(t *testing.T, w *world) {
	w.small(t, "shop")
	w.in(t, "shop", "CREATE TABLE public.a AS SELECT i, md5(i::text) AS v FROM generate_series(1, 60000) i", "CREATE TABLE public.b AS TABLE public.a WITH NO DATA", "CREATE TABLE public.gone ()")
	target := w.target(t, Config{Databases: []string{"shop"}})
	first := w.backup(t, target)
	calls := 0
	target.listed = func() {
		if calls++; calls > 1 {
			return
		}
		w.in(t, "shop", "INSERT INTO public.b SELECT * FROM public.a; TRUNCATE public.a; DROP TABLE public.gone; CREATE TABLE public.came AS SELECT 1 AS x")
	}
	target.step = func(string) error { // and by then it cannot be truncated any more
		if err := w.try("shop", "SET lock_timeout = '50ms'", "TRUNCATE public.b"); !hasCode(err, "55P03") {
			t.Errorf("TRUNCATE after the snapshot: %v", err)
		}
		return nil
	}
	stop, stopped := make(chan struct{}), make(chan error)
	go func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				stopped <- nil
				return
			default:
			}
			if err := w.try("shop", fmt.Sprintf("INSERT INTO public.t SELECT i, 'new' FROM generate_series(%d, %d) i; WITH d AS (DELETE FROM public.b WHERE i = (SELECT max(i) FROM public.b) RETURNING *) INSERT INTO public.a SELECT * FROM d", 1000*(i+1), 1000*(i+1)+99)); err != nil {
				stopped <- err
				return
			}
		}
	}()
	second := w.backup(t, target)
	close(stop)
	if err := <-stopped; err != nil {
		t.Fatal(err)
	}
	if calls != 2 {
		t.Errorf("tables were listed %d times, want twice, as some came and went", calls)
	}
	target.step = func(string) error { return nil }
	if err := w.restore(t, target, second, "database=copy"); err != nil {
		t.Fatal(err)
	}
	sum := w.list(t, "copy", "SELECT ((SELECT count(*) FROM public.a) + (SELECT count(*) FROM public.b))::text")[0]
	if sum != "60000" {
		t.Errorf("there are %s rows in both tables, want 60000: the dump saw half of a transaction", sum)
	}
	if n := w.list(t, "copy", "SELECT relname::text FROM pg_class WHERE relname IN ('gone', 'came')"); len(n) != 1 || n[0] != "came" {
		t.Errorf("tables %v", n)
	}

	// What is stored a second time is what is new.
	calls = 1
	third := w.backup(t, target)
	if third.Stats.BytesStored > first.Stats.BytesStored/3 {
		t.Errorf("the third backup stored %d bytes, the first %d", third.Stats.BytesStored, first.Stats.BytesStored)
	}
}

// A restore that is cancelled while pg_restore is at it leaves nothing; nor does
// one whose dump is damaged.
func testCancelledRestore(t *testing.T, w *world) {
	w.small(t, "shop")
	w.in(t, "shop", "CREATE FUNCTION public.slow(int) RETURNS bool LANGUAGE sql AS 'SELECT pg_catalog.pg_sleep(0) IS NOT NULL'", "ALTER TABLE public.t ADD CHECK (public.slow(id))",
		"CREATE OR REPLACE FUNCTION public.slow(int) RETURNS bool LANGUAGE sql AS 'SELECT pg_catalog.pg_sleep(60) IS NOT NULL'")
	now := w.mustState(t, "shop")
	p := w.backup(t, w.target(t, Config{Databases: []string{"shop"}}))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- w.repo.Restore(ctx, p.ID, w.target(t, Config{}), backup.Destination{Options: parsed([]string{"overwrite=true"})}, backup.RestoreOptions{})
	}()
	w.until(t, "pg_restore at work", func() bool {
		return len(w.list(t, "postgres", `SELECT pid::text FROM pg_stat_activity WHERE query ~ '^COPY' AND wait_event = 'PgSleep'`)) > 0
	})
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	compare(t, w.mustState(t, "shop"), now)
	if left := w.ours(t, isNew, isOld, isDrop); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
	w.nothingLeft(t, points(t, w))
}

// A program that does not end when asked to is killed, and its session ended at
// the server.
func testStubbornProgram(t *testing.T, w *world) {
	release := w.blocked(t, "shop")
	defer release()
	bin, err := os.MkdirTemp(w.Dir, "stubborn")
	if err != nil {
		t.Fatal(err)
	}
	script := fmt.Sprintf("#!/bin/sh\ntrap '' INT TERM\nexec %s/pg_dump \"$@\"\n", w.bin)
	if err := os.WriteFile(filepath.Join(bin, "pg_dump"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	target := w.target(t, Config{Databases: []string{"shop"}, Bin: bin})
	target.grace = 100 * time.Millisecond
	before := points(t, w)
	ctx, cancel := context.WithCancel(t.Context())
	done := w.start(ctx, target)
	w.dumping(t)
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	w.nothingLeft(t, before)
}

// A dump that is damaged in the repository is told as that, whatever pg_restore
// makes of the half of it.
func testDamagedDump(t *testing.T, w *world) {
	w.small(t, "shop")
	w.in(t, "shop", "INSERT INTO public.t SELECT i, md5(i::text) FROM generate_series(1000, 200000) i") // more than is read at once
	now := w.mustState(t, "shop")
	p := w.backup(t, w.target(t, Config{Databases: []string{"shop"}}))
	store, _, err := storeIn(w.dir)
	if err != nil {
		t.Fatal(err)
	}
	broken := &breaking{BlobStore: store}
	repo, err := reopenOn(broken, w.dir)
	if err != nil {
		t.Fatal(err)
	}
	target := w.target(t, Config{})
	target.step = func(name string) error {
		broken.broken.Store(name == "load")
		return nil
	}
	err = repo.Restore(t.Context(), p.ID, target, backup.Destination{Options: parsed([]string{"overwrite=true"})}, backup.RestoreOptions{})
	if !errors.Is(err, backup.ErrDamaged) {
		t.Errorf("a damaged dump: %v", err)
	}
	compare(t, w.mustState(t, "shop"), now)
	if left := w.ours(t, isNew, isOld, isDrop); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

// breaking is a store whose packs are gone from some moment on.
type breaking struct {
	provider.BlobStore
	broken atomic.Bool
}

func (b *breaking) Get(ctx context.Context, key string, o provider.GetOptions) (io.ReadCloser, provider.Info, error) {
	if b.broken.Load() && strings.HasPrefix(key, "data/") {
		return nil, provider.Info{}, &provider.Error{Op: "get", Provider: "breaking", Key: key, Err: provider.ErrNotFound}
	}
	return b.BlobStore.Get(ctx, key, o)
}

// A pg_restore that fails leaves the old database, and says why.
func testFailedRestore(t *testing.T, w *world) {
	w.small(t, "shop")
	w.in(t, "shop", "CREATE FUNCTION public.odd() RETURNS bool LANGUAGE sql AS 'SELECT true'", "ALTER TABLE public.t ADD CHECK (public.odd())",
		"CREATE OR REPLACE FUNCTION public.odd() RETURNS bool LANGUAGE sql AS 'SELECT false'") // rows that do not go in again
	now := w.mustState(t, "shop")
	p := w.backup(t, w.target(t, Config{Databases: []string{"shop"}}))
	err := w.restore(t, w.target(t, Config{}), p, "overwrite=true")
	if err == nil || !strings.Contains(err.Error(), "violates check constraint") {
		t.Errorf("rows that are refused: %v", err)
	}
	compare(t, w.mustState(t, "shop"), now)
	if left := w.ours(t, isNew, isOld, isDrop); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}
