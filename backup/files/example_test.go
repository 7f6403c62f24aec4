package files_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"filippo.io/age"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/backup/files"
	"github.com/holdfast-go/holdfast/provider/local"
)

// Back up a directory to another disk, and restore it.
func Example() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	app := filepath.Join(dir, "app")
	if err := os.MkdirAll(app, 0o755); err != nil {
		log.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(app, "config.yaml"), []byte("port: 8080\n"), 0o644); err != nil {
		log.Fatal(err)
	}

	store, err := local.NewBlobStore(local.Config{Dir: filepath.Join(dir, "disk"), Create: true})
	if err != nil {
		log.Fatal(err)
	}
	key, err := age.GenerateX25519Identity() // keep it away from this machine, and from the backup
	if err != nil {
		log.Fatal(err)
	}
	repo, err := backup.Init(ctx, backup.Config{Store: store, Keyring: backup.Keyring{
		Recipients: backup.AgeRecipients(key.Recipient()),
		Identities: backup.AgeIdentities(key),
	}})
	if err != nil {
		log.Fatal(err)
	}
	target, err := files.New(files.Config{Root: app, Exclude: []string{"*.tmp"}})
	if err != nil {
		log.Fatal(err)
	}
	point, err := repo.Backup(ctx, "app", target, backup.BackupOptions{Mode: backup.Incremental})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(point.Mode, point.Stats.Items, "items", point.Stats.Bytes, "bytes")

	restored := filepath.Join(dir, "restored")
	if err := repo.Restore(ctx, point.ID, target, backup.Destination{Location: restored}, backup.RestoreOptions{}); err != nil {
		log.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(restored, "config.yaml"))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Print(string(b))
	// Output:
	// full 2 items 11 bytes
	// port: 8080
}
