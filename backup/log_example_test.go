package backup_test

import (
	"context"
	"fmt"
	"io"
	"log"

	"filippo.io/age"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/provider/providertest"
)

// What a database writes is kept beside its backups, as it is written.
func ExampleLog() {
	ctx := context.Background()
	key, err := age.GenerateX25519Identity()
	if err != nil {
		log.Fatal(err)
	}
	repo, err := backup.Init(ctx, backup.Config{
		Store:   providertest.NewMemory(), // a bucket, in real life
		Keyring: backup.Keyring{Recipients: backup.AgeRecipients(key.Recipient()), Identities: backup.AgeIdentities(key)},
	})
	if err != nil {
		log.Fatal(err)
	}
	wal, err := repo.Log("orders")
	if err != nil {
		log.Fatal(err)
	}
	at := uint64(0)
	for _, text := range []string{"begin; ", "insert; ", "commit; "} {
		if err := wal.Append(ctx, backup.Segment{Branch: 1, From: at}, []byte(text)); err != nil {
			log.Fatal(err)
		}
		at += uint64(len(text)) // durable up to here
	}

	// The first branch ended at 15: somebody was promoted there and goes on.
	if err := wal.StartBranch(ctx, backup.Branch{Branch: 2, Parent: 1, At: 15}); err != nil {
		log.Fatal(err)
	}
	if err := wal.Append(ctx, backup.Segment{Branch: 2, From: 15}, []byte("rollback;")); err != nil {
		log.Fatal(err)
	}

	// Before a restore touches anything: is all there that it will need?
	c, err := wal.Coverage(ctx, 2, 0, 0)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("durable up to", c.End, "with", len(c.Gaps), "gaps")
	r, err := wal.Open(ctx, 2, 0, c.End)
	if err != nil {
		log.Fatal(err)
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s\n", b)
	// Output:
	// durable up to 24 with 0 gaps
	// begin; insert; rollback;
}
