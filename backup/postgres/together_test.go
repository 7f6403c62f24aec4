package postgres_test

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/backup/postgres"
	"github.com/holdfast-go/holdfast/backup/postgres/internal/wal"
	"github.com/holdfast-go/holdfast/internal/testenv"
)

// A backup and a receiver fill one log beside each other, and neither minds.
// What is restored has all that was committed before and after the backup.
func TestBackupBesideReceiver(t *testing.T) {
	t.Parallel()
	p := testenv.Postgres(t, 17, testenv.PostgresOptions{WALSegmentMB: 1})
	stop := load(t, p)
	p.SQL(t, "create table kept (n int)", "insert into kept values (1)")
	repo, _ := newRepository(t)
	r := receive(t, postgres.ReceiverConfig{Conn: p.Conn, Repositories: []*backup.Repository{repo}})
	target := newTarget(t, postgres.Config{Conn: p.Conn})
	point := backUp(t, repo, target)
	backUp(t, repo, target) // while the receiver has something to go on from
	p.SQL(t, "insert into kept values (2)")
	stop()
	end, err := wal.ParseLSN(p.SQL(t, "select pg_switch_wal()"))
	must(t, err)
	log := logOf(t, repo, p)
	for start := time.Now(); ; time.Sleep(100 * time.Millisecond) {
		c, err := log.Coverage(t.Context(), 1, point.Logs[0].From, uint64(end))
		must(t, err)
		if len(c.Gaps) == 0 {
			break
		}
		if time.Since(start) > time.Minute {
			t.Fatalf("the log ends at %v, not at %v: %+v", wal.LSN(c.End), end, r.Status())
		}
	}
	dir := filepath.Join(p.Dir, "restored")
	restore(t, repo, point, dir, nil)
	restored := verified(t, p, dir)
	if said := restored.SQL(t, "select n from kept order by n", balanced); strings.ReplaceAll(said, "\n", " ") != "1 2 t" {
		t.Errorf("restored: %q", said)
	}
	stopped(t, restored)
}
