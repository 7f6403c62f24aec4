package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/backup/postgres"
	"github.com/holdfast-go/holdfast/internal/testenv"
	"github.com/holdfast-go/holdfast/provider"
)

// What must not be written to is left as it is, and what cannot be reached is
// refused before anything is made.
func TestRefused(t *testing.T) {
	t.Parallel()
	p := testenv.Postgres(t, 17, testenv.PostgresOptions{WALSegmentMB: 1})
	space := filepath.Join(p.Dir, "space")
	if err := os.Mkdir(space, 0o700); err != nil {
		t.Fatal(err)
	}
	p.Own(t, space)
	p.SQL(t, "create tablespace room location '"+space+"'", "create table t (n) tablespace room as select 1")
	repo, store := newRepository(t)
	point := backUp(t, repo, newTarget(t, postgres.Config{Conn: p.Conn}))
	dir := t.TempDir()
	holds := func(files map[string]string) string {
		t.Helper()
		d := filepath.Join(t.TempDir(), "data")
		for name, content := range files {
			if err := os.MkdirAll(filepath.Dir(filepath.Join(d, name)), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(d, name), []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		return d
	}
	later := time.Now().Add(time.Hour).UTC().Format(time.RFC3339)
	for _, c := range []struct {
		name, location string
		options        map[string]string
		want           string
		is             error
	}{
		{"not empty", holds(map[string]string{"a": ""}), nil, "overwrite=true", nil},
		{"no cluster", holds(map[string]string{"a": ""}), map[string]string{"overwrite": "true"}, "holds no cluster", nil},
		{"another cluster", holds(map[string]string{"global/pg_control": "12345678"}), map[string]string{"overwrite": "true"}, "another cluster", nil},
		{"remains of another", holds(map[string]string{".holdfast-restore": "12345\n"}), map[string]string{"overwrite": "true"}, "holds no cluster", nil},
		{"running", p.Data, map[string]string{"overwrite": "true"}, "a server is running", nil},
		{"tablespace without a place", dir + "/a", map[string]string{"tablespace:room": ""}, "tablespace", nil},
		{"tablespace within", dir + "/a", map[string]string{"tablespace:room": dir + "/a/pg_tblspc/x"}, "within each other", nil},
		{"tablespace that is not there", dir + "/a", map[string]string{"tablespace:other": dir + "/o"}, "no such tablespace", nil},
		{"tablespace not empty", dir + "/c", map[string]string{"tablespace:room": space}, "not empty", nil},
		{"tablespace of the running server", dir + "/d", map[string]string{"tablespace:room": space, "overwrite": "true"}, "not empty", nil},
		{"WAL within", dir + "/a", map[string]string{"wal-dir": dir + "/a/pg_wal"}, "within each other", nil},
		{"WAL directory in use", dir + "/e", map[string]string{"wal-dir": holds(map[string]string{"a": ""}), "overwrite": "true"}, "wal-dir", nil},
		{"two targets", dir + "/a", map[string]string{"target-xid": "3", "target-name": "x"}, "one of target", nil},
		{"time behind the log", dir + "/a", map[string]string{"target-time": later}, "no commit", nil},
		{"time before the backup", dir + "/a", map[string]string{"target-time": "2020-01-01T00:00:00Z"}, "older one", nil},
		{"time without a zone", dir + "/a", map[string]string{"target-time": "2020-01-01 00:00"}, "zone", nil},
		{"position behind the log", dir + "/a", map[string]string{"target-lsn": "FF/0"}, "FF/0", backup.ErrGap},
		{"position before the backup", dir + "/a", map[string]string{"target-lsn": "0/1"}, "older one", nil},
		{"unknown timeline", dir + "/a", map[string]string{"target-timeline": "7"}, "timeline 7", nil},
		{"action without a target", dir + "/a", map[string]string{"action": "pause"}, "target", nil},
		{"exclusive without a target", dir + "/a", map[string]string{"exclusive": "true"}, "exclusive", nil},
		{"unknown option", dir + "/a", map[string]string{"nonsense": "true"}, "nonsense", nil},
		{"control characters", dir + "/a\nb", nil, "control characters", nil},
	} {
		if c.options == nil {
			c.options = map[string]string{}
		}
		if _, ok := c.options["tablespace:room"]; !ok {
			c.options["tablespace:room"] = dir + "/room"
		}
		before := tree(t, c.location)
		err := repo.Restore(t.Context(), point.ID, newTarget(t, postgres.Config{}), backup.Destination{Location: c.location, Options: c.options}, backup.RestoreOptions{})
		if err == nil || !strings.Contains(err.Error(), c.want) || c.is != nil && !errors.Is(err, c.is) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
		if after := tree(t, c.location); c.location != p.Data && strings.TrimSpace(after) != strings.TrimSpace(before) {
			t.Errorf("%s: the destination was\n%s\nand is\n%s", c.name, before, after)
		}
	}
	dryRun(t, repo, store, point, map[string]string{"tablespace:room": dir + "/room"})
	if said := p.SQL(t, "select n from t"); said != "1" {
		t.Errorf("the source says %q", said)
	}
	if _, err := os.Lstat(dir + "/a"); !errors.Is(err, fs.ErrNotExist) {
		t.Error("something was made before it was refused")
	}
	withoutWAL(t, repo, store, point, dir)
}

// withoutWAL removes the log, and sees that nothing is restored.
func withoutWAL(t *testing.T, repo *backup.Repository, store provider.BlobStore, point backup.Point, dir string) {
	for info, err := range store.List(t.Context(), "logs/", provider.ListOptions{}) {
		if err == nil {
			err = store.Delete(t.Context(), info.Key, provider.DeleteOptions{})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, target := range []string{"", "consistent"} {
		options := map[string]string{"tablespace:room": dir + "/room"}
		if target != "" {
			options["target"] = target
		}
		err := repo.Restore(t.Context(), point.ID, newTarget(t, postgres.Config{}), backup.Destination{Location: dir + "/a", Options: options}, backup.RestoreOptions{})
		if !errors.Is(err, backup.ErrGap) {
			t.Errorf("without WAL: %v", err)
		}
		if _, err := os.Lstat(dir + "/a"); !errors.Is(err, fs.ErrNotExist) {
			t.Error("something was made although there is no WAL")
		}
	}
}

// tree lists what is below a directory.
func tree(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err == nil && p != dir {
			b.WriteString(p + "\n")
		}
		return nil
	})
	return b.String()
}

// Where a server says no, the error says what to do.
func TestServerErrors(t *testing.T) {
	t.Parallel()
	p := testenv.Postgres(t, 15, testenv.PostgresOptions{})
	corruptPage(t, p)
	p.SQL(t, "create role nobody login", "create role walker login replication")
	as := func(role string) error {
		repo, _ := newRepository(t)
		conn := strings.Replace(p.Socket, "user=postgres", "user="+role, 1)
		_, err := repo.Backup(t.Context(), "db", newTarget(t, postgres.Config{Conn: conn}), backup.BackupOptions{})
		return err
	}
	if err := as("walker"); err != nil {
		t.Errorf("a role with REPLICATION and nothing else: %v", err)
	}
	// What keeps a watermark from being written is told, and costs no backup.
	repo, _ := newRepository(t)
	point := backUp(t, repo, newTarget(t, postgres.Config{Conn: strings.Replace(p.Socket, "user=postgres", "user=walker", 1), Watermark: "postgres"}))
	dir := filepath.Join(p.Dir, "unmarked")
	restore(t, repo, point, dir, map[string]string{"owner": ids(p)})
	c := proofConfig(p, dir)
	c.Amcheck, c.Rows = "none", "none"
	if proof, err := postgres.Prove(t.Context(), c); err != nil || !strings.Contains(fmt.Sprint(proof.NotDone), "permission denied for database postgres") {
		t.Errorf("%v\n%v", err, proof)
	}
	if err := as("nobody"); err == nil || !strings.Contains(err.Error(), "ALTER ROLE") {
		t.Errorf("a role without REPLICATION: %v", err)
	}
	p.SQL(t, "alter system set wal_level = minimal", "alter system set max_wal_senders = 0")
	p.Stop(t)
	p.Start(t)
	if err := as("postgres"); err == nil || !strings.Contains(err.Error(), "wal_level") || !strings.Contains(err.Error(), "max_wal_senders") {
		t.Errorf("wal_level=minimal: %v", err)
	}
	p.Stop(t)
	if err := as("postgres"); err == nil || errors.Is(err, context.Canceled) {
		t.Errorf("no server: %v", err)
	}
}
