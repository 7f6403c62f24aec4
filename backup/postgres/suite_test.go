package postgres_test

import (
	"fmt"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/backup/backuptest"
	"github.com/holdfast-go/holdfast/backup/postgres"
	"github.com/holdfast-go/holdfast/internal/testenv"
)

// What every target owes to the repository; several backups at once, of one
// cluster into one log, are a part of it.
func TestTarget(t *testing.T) {
	longOnly(t)
	p := testenv.Postgres(t, 17, summarizing()) // where it cannot tell what has changed, every point is a full one
	p.SQL(t, "create table t (n int)", "insert into t select generate_series(1, 1000)")
	state := "select count(*), sum(n) from t"
	var n atomic.Int64
	backuptest.TestTarget(t, func(t *testing.T) backuptest.Subject {
		return backuptest.Subject{
			Target: newTarget(t, postgres.Config{Conn: p.Conn}),
			State:  func() (string, error) { return p.SQL(t, state), nil },
			Change: func() error {
				p.SQL(t, fmt.Sprintf("insert into t values (%d)", n.Add(1)))
				return nil
			},
			Destination: func() (backup.Destination, error) {
				return backup.Destination{Location: filepath.Join(p.Dir, fmt.Sprint("restored", n.Add(1))), Options: map[string]string{"owner": ids(p)}}, nil
			},
			Restored: func(d backup.Destination) (string, error) {
				r := p.Second(t, d.Location)
				defer r.Kill9(t)
				return r.SQL(t, state), nil
			},
		}
	})
}
