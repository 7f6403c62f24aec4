package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

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

// The data directory of a server on this host is read where it is, which is the
// fastest; the connection is for beginning and ending the backup, and for the
// WAL. If it turns out not to be this server's, files come over the connection.
func ExampleConfig_data() {
	target, err := postgres.New(postgres.Config{
		Conn: "host=/var/run/postgresql user=postgres",
		Data: "/var/lib/postgresql/17/main",
	})
	if err != nil {
		log.Fatal(err)
	}
	var repo *backup.Repository // see backup.Open
	if repo != nil {
		if _, err := repo.Backup(context.Background(), "db1", target, backup.BackupOptions{}); err != nil {
			log.Fatal(err)
		}
	}
	fmt.Println(target.Kind())
	// Output: postgres
}

// A server that is far away is read over several sessions; a way that cannot be
// gone is refused before anything is.
func ExampleConfig_reader() {
	config := postgres.Config{Conn: "host=db1 user=backup passfile=/etc/holdfast/pgpass", Reader: postgres.Parallel, Workers: 8}
	if _, err := postgres.New(config); err != nil {
		log.Fatal(err)
	}
	config.Reader = postgres.Local
	_, err := postgres.New(config)
	fmt.Println(err)
	// Output: postgres config: field Data is empty, and field Reader is local: want the data directory
}

// A cluster is restored as it was at a moment, from the base that leads there.
func ExamplePlanRestore() {
	ctx := context.Background()
	var repo *backup.Repository // see backup.Open
	var target *postgres.Target // see New

	moment := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	plan, err := postgres.PlanRestore(ctx, repo, "db1", postgres.RecoveryTarget{Time: moment}, postgres.PlanOptions{})
	if e, ok := errors.AsType[*postgres.UnreachableError](err); ok {
		log.Fatal(e.Err, e.Before, e.After)
	}
	if err != nil {
		log.Fatal(err)
	}
	log.Print(plan)
	err = repo.Restore(ctx, plan.Point, target, backup.Destination{Location: "/var/lib/postgresql/restored", Options: plan.Options}, backup.RestoreOptions{})
	if err != nil {
		log.Fatal(err)
	}
}

// The WAL of a cluster goes into two regions as it is written, and commits wait
// for one of them.
func ExampleReceiver() {
	var here, there *backup.Repository // see backup.Open

	receiver, err := postgres.NewReceiver(postgres.ReceiverConfig{
		Conn:         "host=db1 user=backup passfile=/etc/holdfast/pgpass",
		Repositories: []*backup.Repository{here, there},
		Slot:         "holdfast", // at the server: synchronous_standby_names = 'holdfast'
		Spool:        "/var/spool/holdfast",
		Acknowledge:  1,
	})
	if err != nil {
		log.Fatal(err)
	}
	// Until a gap, a split brain or the end of ctx.
	log.Fatal(receiver.Run(context.Background()))
}

// What was restored is proven, with a query of the application.
func ExampleProve() {
	proof, err := postgres.Prove(context.Background(), postgres.ProofConfig{
		Data:    "/var/lib/postgresql/restored",
		Bin:     "/usr/lib/postgresql/17/bin",
		Queries: []postgres.Query{{Database: "shop", SQL: "SELECT count(*) > 0 FROM orders"}},
	})
	log.Print(proof)
	if err != nil {
		log.Fatal(err)
	}
	log.Print("recovered in ", proof.RTO())
}
