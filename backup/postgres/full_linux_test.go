package postgres_test

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/backup/postgres"
	"github.com/holdfast-go/holdfast/internal/testenv"
)

// smallDisk is a file system of its own, which can be made larger.
func smallDisk(t *testing.T, size string) (dir string, grow func(size string)) {
	t.Helper()
	dir = t.TempDir()
	mount := func(options string) {
		t.Helper()
		if out, err := exec.Command("mount", "-t", "tmpfs", "-o", options, "tmpfs", dir).CombinedOutput(); err != nil {
			if os.Getenv("CI") == "true" {
				t.Fatalf("mount a small tmpfs: %s", out)
			}
			t.Skipf("no right to mount a small tmpfs here: %s", out)
		}
	}
	mount("size=" + size)
	t.Cleanup(func() {
		if out, err := exec.Command("umount", dir).CombinedOutput(); err != nil {
			t.Errorf("umount: %s", out)
		}
	})
	return dir, func(size string) { t.Helper(); mount("remount,size=" + size) }
}

// A disk that is full ends a restore, which leaves nothing that a server would
// start on, and goes on when there is room; a receiver whose spool is on one
// says so, loses nothing, and goes on when what it has is stored.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	p := testenv.Postgres(t, 17, keep(map[string]string{"wal_sender_timeout": "5s"}))
	p.SQL(t, "create table t (a text)")
	t.Run("restore", func(t *testing.T) {
		repo, _ := newRepository(t)
		point := backUp(t, repo, newTarget(t, postgres.Config{Conn: p.Conn}))
		disk, grow := smallDisk(t, "8m")
		d := backup.Destination{Location: filepath.Join(disk, "data"), Options: map[string]string{"wal-dir": filepath.Join(t.TempDir(), "wal"), "verify": "true"}}
		try := func() error {
			return repo.Restore(t.Context(), point.ID, newTarget(t, postgres.Config{}), d, backup.RestoreOptions{})
		}
		err := try()
		if !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), "holds a part of the cluster") || !strings.Contains(err.Error(), d.Location) {
			t.Errorf("on a full disk: %v", err)
		}
		control := filepath.Join(d.Location, "global", "pg_control")
		if _, err := os.Lstat(control); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("a server would start on a part of the cluster: %v", err)
		}
		grow("200m")
		d.Options["overwrite"] = "true"
		must(t, try())
		if _, err := os.Lstat(control); err != nil {
			t.Error(err)
		}
	})
	t.Run("spool", func(t *testing.T) {
		shaky, off := outage(t)
		repo := walRepository(t, shaky, ageKey(t))
		disk, _ := smallDisk(t, "4m")
		x := receive(t, postgres.ReceiverConfig{Conn: p.Conn, Repositories: []*backup.Repository{repo}, Spool: disk, Seal: 10 * time.Millisecond, Acknowledge: postgres.Spooled})
		reaches(t, x, p)
		off.Store(true)
		p.SQL(t, slices.Repeat([]string{"insert into t select repeat('x', 1000) from generate_series(1, 1000)"}, 8)...)
		s := until(t, "full", x, func(s postgres.Status) bool { return errors.Is(s.Err, syscall.ENOSPC) })
		if end := lsn(t, p.SQL(t, "select pg_current_wal_flush_lsn()")); s.Spooled >= end || s.Acknowledged > s.Spooled || s.Acknowledged >= end {
			t.Errorf("more is acknowledged than there is room for: %+v, the server has %v", s, end)
		}
		off.Store(false)
		end := reaches(t, x, p)
		likeServer(t, walLog(t, repo, x.Status().System), p, 1, 16*mib, end)
	})
}
