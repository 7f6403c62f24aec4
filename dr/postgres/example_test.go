package postgres_test

import (
	"context"
	"log"
	"os"

	physical "github.com/holdfast-go/holdfast/backup/postgres"
	"github.com/holdfast-go/holdfast/dr"
	"github.com/holdfast-go/holdfast/dr/postgres"
)

// A cluster is protected by a configuration, its WAL goes to both sites as it is
// written, and a drill proves it.
func Example() {
	ctx := context.Background()
	file, err := os.Open("/etc/holdfast/dr.yaml")
	if err != nil {
		log.Fatal(err)
	}
	config, err := dr.Load(file)
	if err != nil {
		log.Fatal(err)
	}
	var parts dr.Parts // and the stores
	postgres.Add(&parts, postgres.Config{Bin: "/usr/lib/postgresql/MAJOR/bin"})
	planner, err := dr.New(config, parts)
	if err != nil {
		log.Fatal(err)
	}
	receiver, err := postgres.Receiver(ctx, planner, "db", dr.PrimarySite, physical.ReceiverConfig{Spool: "/var/spool/holdfast"})
	if err != nil {
		log.Fatal(err)
	}
	go func() { log.Fatal(receiver.Run(ctx)) }()
	proof, err := planner.Drill(ctx, "db")
	log.Print(proof.Findings)
	if err != nil {
		log.Fatal(err)
	}
	rpo, _ := proof.RPO()
	log.Print("RTO ", proof.RTO(), ", RPO at most ", rpo)
}
