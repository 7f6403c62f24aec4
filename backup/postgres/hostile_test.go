package postgres_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/backup/postgres"
)

// A forger makes points of kind postgres with what it likes.
type forger struct {
	items []backup.Item
}

func (forger) Kind() string { return "postgres" }

func (f forger) Backup(ctx context.Context, s *backup.Session) error {
	for _, it := range f.items {
		var err error
		if strings.Contains(string(it.Meta), `"dir"`) {
			err = s.Add(ctx, it, nil)
		} else {
			err = s.Add(ctx, it, strings.NewReader("forged"))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (forger) Restore(context.Context, *backup.View, backup.Destination) error {
	return errors.ErrUnsupported
}

// No point makes a restore write outside of the directories it was given, nor
// where the restore keeps what is its own.
func TestHostilePoints(t *testing.T) {
	repo, _ := newRepository(t)
	log, err := repo.Log(postgres.LogName(7))
	must(t, err)
	must(t, log.Append(t.Context(), backup.Segment{Branch: 1, From: 1 << 20}, make([]byte, 4096)))
	const file = `{"t":"file","m":2559,"mt":"2026-01-01T00:00:00Z","s":"30f4a1f2c9a1b4b4b6b8fbf7a4d7f0a0e3d1b3d4b6f4d1a1c1a5d1e5b4a2c3d4"}`
	const dir = `{"t":"dir","m":448,"mt":"2026-01-01T00:00:00Z"}`
	type fields = map[string]any
	describe := func(changes fields) string {
		m := fields{"system": "7", "timeline": 1, "start": 1<<20 + 40, "stop": 1<<20 + 80, "segment": 1 << 20, "began": "2026-01-01T00:00:00Z", "ended": "2026-01-01T00:00:00Z",
			"tablespaces": []fields{{"oid": 16385, "name": "room", "location": "/elsewhere"}}}
		for k, v := range changes {
			m[k] = v
		}
		b, err := json.Marshal(m)
		must(t, err)
		return string(b)
	}
	item := func(path, meta string) backup.Item { return backup.Item{Path: path, Meta: json.RawMessage(meta)} }
	good := []backup.Item{item(".holdfast/base", describe(nil)), item("PG_VERSION", file), item("base", dir), item("base/1", file), item("global/pg_control", file),
		item("pg_tblspc/16385/PG_17/1", file)}
	for i, c := range []struct {
		what string
		with []backup.Item
		want string // empty: it is restored
	}{
		{"nothing", nil, ""},
		{"a path upwards", []backup.Item{item("../outside", file)}, "none that a cluster has"},
		{"a path upwards within", []backup.Item{item("base/../../outside", file)}, "none that a cluster has"},
		{"an absolute path", []backup.Item{item("/outside", file)}, "none that a cluster has"},
		{"an empty segment", []backup.Item{item("base//1", file)}, "none that a cluster has"},
		{"a backslash", []backup.Item{item(`base\..\..\outside`, file)}, "none that a cluster has"},
		{"a drive", []backup.Item{item("c:outside", file)}, "none that a cluster has"},
		{"a directory upwards", []backup.Item{item("base/../..", dir)}, "none that a cluster has"},
		{"upwards out of a tablespace", []backup.Item{item("pg_tblspc/16385/../../../outside", file)}, "none that a cluster has"},
		{"a file in place of a tablespace", []backup.Item{item("pg_tblspc/16385", file)}, "which is a file"},
		{"a directory in place of a tablespace", []backup.Item{item("pg_tblspc/16385", dir)}, "where a tablespace belongs"},
		{"a tablespace that is not announced", []backup.Item{item("pg_tblspc/16386/1", file)}, ""},
		{"the marker", []backup.Item{item(".holdfast-restore", file)}, "none that a cluster has"},
		{"something of ours", []backup.Item{item(".holdfast/more", file)}, "none that a cluster has"},
		{"a link", []backup.Item{item("base/2", `{"t":"symlink","m":448,"mt":"2026-01-01T00:00:00Z","l":"/etc"}`)}, "unknown"},
		{"no sum", []backup.Item{item("base/2", `{"t":"file","m":384,"mt":"2026-01-01T00:00:00Z"}`)}, "no checksum"},
		{"no description", []backup.Item{item("base/2", `7`)}, "description"},
		{"no size of segments", []backup.Item{item(".holdfast/base", describe(fields{"segment": 3}))}, "segments of 3 bytes"},
		{"another system's log", []backup.Item{item(".holdfast/base", describe(fields{"system": "8"}))}, "positions are missing"},
		{"a base that ends before it begins", []backup.Item{item(".holdfast/base", describe(fields{"stop": 1}))}, "no base backup"},
		{"a file below a file", []backup.Item{item("zz", file), item("zz/x/y", file)}, `"zz/x/y" lies below "zz"`},
		{"a directory below a file", []backup.Item{item("zz", file), item("zz/x", dir)}, `"zz/x" lies below "zz"`},
		{"a file beside a directory of nearly its name", []backup.Item{item("zz", file), item("zz-", dir), item("zz-/x", file)}, ""},
		{"pg_control as a directory", []backup.Item{item("global/pg_control", dir)}, "has no global/pg_control"},
	} {
		// A later item of one path counts.
		point, err := repo.Backup(t.Context(), "db", forger{append(append([]backup.Item{}, good...), c.with...)}, backup.BackupOptions{})
		must(t, err)
		world := t.TempDir()
		location := filepath.Join(world, "in", "data")
		err = repo.Restore(t.Context(), point.ID, newTarget(t, postgres.Config{}),
			backup.Destination{Location: location, Options: map[string]string{"tablespace:room": filepath.Join(world, "in", "room")}}, backup.RestoreOptions{})
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%d, %s: %v, want %q", i, c.what, err, c.want)
		}
		for name := range strings.Lines(tree(t, world)) {
			if !strings.HasPrefix(name, filepath.Join(world, "in")) || strings.Contains(name, "outside") {
				t.Errorf("%s made %s", c.what, name)
			}
		}
		if _, err := os.Lstat(filepath.Join(location, "global/pg_control")); (err == nil) != (c.want == "") {
			t.Errorf("%s: pg_control, with which a server starts: %v", c.what, err)
		}
		if c.want == "" {
			if fi, err := os.Stat(filepath.Join(location, "PG_VERSION")); err != nil || fi.Mode() != 0o777 {
				t.Errorf("mode %v, %v", fi.Mode(), err)
			}
			if b, err := os.ReadFile(filepath.Join(world, "in", "room", "PG_17", "1")); err != nil || string(b) != "forged" {
				t.Errorf("in the tablespace: %q, %v", b, err)
			}
		}
	}
	if _, err := os.Lstat("/outside"); err == nil {
		t.Error("there is /outside")
	}
	for _, options := range []string{"", "/etc"} {
		err := repo.Restore(t.Context(), mustPoint(t, repo, good), newTarget(t, postgres.Config{}),
			backup.Destination{Location: filepath.Join(t.TempDir(), "data"), Options: map[string]string{"tablespace:room": options}}, backup.RestoreOptions{})
		if err == nil || !strings.Contains(err.Error(), "tablespace") {
			t.Errorf("a tablespace in %q: %v", options, err)
		}
	}
}

// A restore over a whole cluster that ends half-way leaves one that no server
// starts on.
func TestOverwriteEndsEarly(t *testing.T) {
	repo, _ := newRepository(t)
	log, err := repo.Log(postgres.LogName(7))
	must(t, err)
	must(t, log.Append(t.Context(), backup.Segment{Branch: 1, From: 1 << 20}, make([]byte, 4096)))
	const file = `{"t":"file","m":384,"mt":"2026-01-01T00:00:00Z","s":"30f4a1f2c9a1b4b4b6b8fbf7a4d7f0a0e3d1b3d4b6f4d1a1c1a5d1e5b4a2c3d4"}`
	describe := fmt.Sprintf(`{"system":"7","timeline":1,"start":%d,"stop":%d,"segment":%d}`, 1<<20+40, 1<<20+80, 1<<20)
	items := []backup.Item{{Path: ".holdfast/base", Meta: json.RawMessage(describe)}}
	long := strings.Repeat("z", 300) // a name that no file can have
	for _, path := range []string{"global/pg_control", long} {
		items = append(items, backup.Item{Path: path, Meta: json.RawMessage(file)})
	}
	location := filepath.Join(t.TempDir(), "data")
	control := filepath.Join(location, "global", "pg_control")
	must(t, os.MkdirAll(filepath.Dir(control), 0o700))
	must(t, os.WriteFile(control, append([]byte{7, 0, 0, 0, 0, 0, 0, 0}, make([]byte, 8184)...), 0o600))
	err = repo.Restore(t.Context(), mustPoint(t, repo, items), newTarget(t, postgres.Config{}),
		backup.Destination{Location: location, Options: map[string]string{"overwrite": "true"}}, backup.RestoreOptions{})
	if err == nil || !strings.Contains(err.Error(), long) {
		t.Errorf("%v", err)
	}
	if _, err := os.Lstat(control); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("pg_control is there: %v", err)
	}
}

func mustPoint(t *testing.T, repo *backup.Repository, items []backup.Item) backup.PointID {
	t.Helper()
	p, err := repo.Backup(t.Context(), "db", forger{items}, backup.BackupOptions{})
	must(t, err)
	return p.ID
}

// Quoting holds for any directory: what is written is one command, which copies.
func TestOddDirectories(t *testing.T) {
	for _, name := range []string{"plain", "it's", `back\slash`, "100%f", "$(touch x)", `"quoted"`, "a b"} {
		repo, _ := newRepository(t)
		log, err := repo.Log(postgres.LogName(7))
		must(t, err)
		must(t, log.Append(t.Context(), backup.Segment{Branch: 1, From: 1 << 20}, make([]byte, 4096)))
		const file = `{"t":"file","m":384,"mt":"2026-01-01T00:00:00Z","s":"30f4a1f2c9a1b4b4b6b8fbf7a4d7f0a0e3d1b3d4b6f4d1a1c1a5d1e5b4a2c3d4"}`
		base := fmt.Sprintf(`{"system":"7","timeline":1,"start":%d,"stop":%d,"segment":%d}`, 1<<20+40, 1<<20+80, 1<<20)
		point := mustPoint(t, repo, []backup.Item{{Path: ".holdfast/base", Meta: json.RawMessage(base)}, {Path: "global/pg_control", Meta: json.RawMessage(file)}})
		location := filepath.Join(t.TempDir(), name)
		err = repo.Restore(t.Context(), point, newTarget(t, postgres.Config{}), backup.Destination{Location: location}, backup.RestoreOptions{})
		must(t, err)
		conf, err := os.ReadFile(filepath.Join(location, "postgresql.auto.conf"))
		must(t, err)
		to := filepath.Join(t.TempDir(), "copied")
		if out, err := serverWouldRun(t, string(conf), "000000010000000000000001", to); err != nil {
			t.Errorf("%s: %v %s, of\n%s", name, err, out, conf)
		}
		if fi, err := os.Stat(to); err != nil || fi.Size() != 1<<20 {
			t.Errorf("%s: %v", name, err)
		}
	}
}
