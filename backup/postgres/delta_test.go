package postgres_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/backup/postgres"
	"github.com/holdfast-go/holdfast/internal/testenv"
	"github.com/holdfast-go/holdfast/provider"
)

// A restore over what is there writes what differs, removes what does not
// belong there, leaves other names of files alone, and goes on where one was
// stopped.
func TestDelta(t *testing.T) {
	t.Parallel()
	p := testenv.Postgres(t, 17, testenv.PostgresOptions{WALSegmentMB: 1})
	space, moved := filepath.Join(p.Dir, "space"), filepath.Join(p.Dir, "moved")
	if err := os.Mkdir(space, 0o700); err != nil {
		t.Fatal(err)
	}
	p.Own(t, space)
	p.SQL(t, "create tablespace room location '"+space+"'", "create table t (n) tablespace room as select generate_series(1, 50000)",
		"create table u (n) as select generate_series(1, 50000)")
	rel := p.SQL(t, "select pg_relation_filepath('u')")
	inSpace := p.SQL(t, "select pg_relation_filepath('t')")
	repo, _ := newRepository(t)
	point := backUp(t, repo, newTarget(t, postgres.Config{Conn: p.Conn}))
	dir := filepath.Join(p.Dir, "restored")
	options := map[string]string{"tablespace:room": moved, "overwrite": "true", "owner": ids(p), "verify": "true"}
	again := func(cancelAt int64) (backup.Progress, error) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var last backup.Progress
		err := repo.Restore(ctx, point.ID, newTarget(t, postgres.Config{}), backup.Destination{Location: dir, Options: options}, backup.RestoreOptions{
			Progress: func(p backup.Progress) {
				if last = p; cancelAt > 0 && p.Bytes >= cancelAt {
					cancel()
				}
			}})
		return last, err
	}
	// Stopped in between: no server starts on that.
	if _, err := again(1 << 20); !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "overwrite=true") {
		t.Fatalf("a cancelled restore: %v", err)
	}
	if _, err := os.Lstat(filepath.Join(dir, "global/pg_control")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a restore that was stopped left pg_control: %v", err)
	}
	if _, err := again(0); err != nil {
		t.Fatal(err)
	}
	r := verified(t, p, dir, moved)
	r.SQL(t, "update u set n = n + 1 where n < 100", "create table more (n) as select 1", "checkpoint", "select pg_switch_wal()")
	if _, err := again(0); err == nil || !strings.Contains(err.Error(), "a server is running") {
		t.Errorf("over a running server: %v", err)
	}
	r.Kill9(t) // leaves postmaster.pid

	path := func(name string) string { return filepath.Join(dir, name) }
	linked := filepath.Join(p.Dir, "linked")
	must(t, os.Link(path(rel), linked))
	before, err := os.ReadFile(linked)
	must(t, err)
	must(t, os.WriteFile(path("base/5/99999"), []byte("junk"), 0o600))
	must(t, os.WriteFile(path("pg_wal/00000001000000000000FFFF"), []byte("junk"), 0o600))
	must(t, os.WriteFile(path("standby.signal"), nil, 0o600))
	must(t, os.MkdirAll(filepath.Join(moved, "PG_15_202209061/5"), 0o700)) // of another version, which may live there
	must(t, os.WriteFile(filepath.Join(moved, "PG_15_202209061/5/1"), []byte("other"), 0o600))
	must(t, os.Remove(path("base/5/PG_VERSION")))
	must(t, os.Symlink("/etc/passwd", path("base/5/PG_VERSION")))
	must(t, os.WriteFile(path(inSpace)+".1", []byte("junk"), 0o600))
	progress, err := again(0)
	must(t, err)
	if progress.Bytes < point.Stats.Bytes-1000 || progress.Read > point.Stats.Bytes/3 {
		t.Errorf("progress %+v of %d bytes: a delta restore writes what differs", progress, point.Stats.Bytes)
	}
	if after, err := os.ReadFile(linked); err != nil || string(after) != string(before) {
		t.Errorf("another name of a file was written to: %v", err)
	}
	for _, gone := range []string{"base/5/99999", "pg_wal/00000001000000000000FFFF", "standby.signal", "postmaster.pid", inSpace + ".1", ".holdfast-restore"} {
		if _, err := os.Lstat(path(gone)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is there: %v", gone, err)
		}
	}
	if b, err := os.ReadFile(filepath.Join(moved, "PG_15_202209061/5/1")); err != nil || string(b) != "other" {
		t.Errorf("what another version has in the tablespace: %q, %v", b, err)
	}
	must(t, os.RemoveAll(filepath.Join(moved, "PG_15_202209061")))
	r = verified(t, p, dir, moved)
	if said := r.SQL(t, "select sum(n) from u", "select count(*) from t", "select to_regclass('more') is null"); said != "1250025000\n50000\nt" {
		t.Errorf("restored: %q", said)
	}
	stopped(t, r)
}

// dryRun reads everything and makes nothing.
func dryRun(t *testing.T, repo *backup.Repository, store provider.BlobStore, point backup.Point, options map[string]string) {
	t.Helper()
	options["dry-run"] = "true"
	dir := filepath.Join(t.TempDir(), "restored")
	try := func() (last backup.Progress, err error) {
		err = repo.Restore(t.Context(), point.ID, newTarget(t, postgres.Config{}), backup.Destination{Location: dir, Options: options},
			backup.RestoreOptions{Progress: func(p backup.Progress) { last = p }})
		return last, err
	}
	if progress, err := try(); err != nil || progress.Bytes != point.Stats.Bytes || progress.Bytes != progress.TotalBytes {
		t.Errorf("%+v of %d bytes, %v", progress, point.Stats.Bytes, err)
	}
	lose(t, store)
	if _, err := try(); !errors.Is(err, backup.ErrDamaged) {
		t.Errorf("without the content: %v", err)
	}
	if _, err := os.Lstat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a dry run has made something: %v", err)
	}
}
