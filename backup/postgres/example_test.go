package postgres_test

import (
	"context"
	"log"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/backup/postgres"
)

// A cluster is backed up, and restored as it was at a moment.
func Example() {
	ctx := context.Background()
	var repo *backup.Repository // see backup.Open

	target, err := postgres.New(postgres.Config{Conn: "host=db1 user=backup passfile=/etc/holdfast/pgpass"})
	if err != nil {
		log.Fatal(err)
	}
	point, err := repo.Backup(ctx, "db1", target, backup.BackupOptions{})
	if err != nil {
		log.Fatal(err)
	}
	err = repo.Restore(ctx, point.ID, target, backup.Destination{
		Location: "/var/lib/postgresql/restored",
		Options:  map[string]string{"target-time": "2026-03-01T12:00:00Z"},
	}, backup.RestoreOptions{})
	if err != nil {
		log.Fatal(err)
	}
	// Then: pg_ctl -D /var/lib/postgresql/restored start
}
