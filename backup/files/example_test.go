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

// Put one directory back as it was, look at the result, and think better of
// it.
func Example_undo() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	page := filepath.Join(dir, "site", "pages", "index.html")
	if err := os.MkdirAll(filepath.Dir(page), 0o755); err != nil {
		log.Fatal(err)
	}
	write := func(text string) {
		if err := os.WriteFile(page, []byte(text), 0o644); err != nil {
			log.Fatal(err)
		}
	}
	show := func() {
		b, err := os.ReadFile(page)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(string(b))
	}
	store, err := local.NewBlobStore(local.Config{Dir: filepath.Join(dir, "disk"), Create: true})
	if err != nil {
		log.Fatal(err)
	}
	key, err := age.GenerateX25519Identity()
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
	site, err := files.New(files.Config{Root: filepath.Join(dir, "site")})
	if err != nil {
		log.Fatal(err)
	}
	write("written on Monday")
	monday, err := repo.Backup(ctx, "site", site, backup.BackupOptions{})
	if err != nil {
		log.Fatal(err)
	}
	write("written on Tuesday")

	back := backup.Destination{Location: filepath.Join(dir, "site"), Options: map[string]string{
		"include": "/pages", "overwrite": "true", "mirror": "true"}}
	view, err := repo.View(ctx, monday.ID)
	if err != nil {
		log.Fatal(err)
	}
	for change, err := range site.Plan(ctx, view, back) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println("plan:", change.Action, change.Path, change.Bytes)
	}
	var safety backup.Point
	err = repo.Restore(ctx, monday.ID, site, back, backup.RestoreOptions{Safety: func(p backup.Point) error {
		safety = p // a program would keep its ID where it survives a crash
		return nil
	}})
	if err != nil {
		log.Fatal(err)
	}
	show()
	if err := repo.Undo(ctx, safety.ID, site, backup.RestoreOptions{}); err != nil {
		log.Fatal(err)
	}
	show()
	// Output:
	// plan: modify pages/index.html 17
	// written on Monday
	// written on Tuesday
}
