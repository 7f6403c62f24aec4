package logical_test

import (
	"context"
	"log"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/backup/postgres/logical"
)

// Dump a database each night, and put last night's beside the one that runs, to
// look for what was deleted since. It needs a server; the password is in
// ~/.pgpass.
func Example() {
	ctx := context.Background()
	var repo *backup.Repository // from backup.Open

	shop, err := logical.New(logical.Config{Conn: "host=db1 user=backup sslmode=verify-full", Databases: []string{"shop"}})
	if err != nil {
		log.Fatal(err)
	}
	point, err := repo.Backup(ctx, "shop", shop, backup.BackupOptions{})
	if err != nil {
		log.Fatal(err)
	}
	err = repo.Restore(ctx, point.ID, shop, backup.Destination{
		Location: "host=db1 user=postgres sslmode=verify-full",
		Options:  map[string]string{"database": "shop_last_night"},
	}, backup.RestoreOptions{})
	if err != nil {
		log.Fatal(err)
	}
}
