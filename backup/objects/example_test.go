package objects_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"filippo.io/age"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/backup/objects"
	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/local"
)

// Back up a bucket, lose an object, and restore it all into another bucket.
// Directories stand for the buckets here; stores of any cloud take their place.
func Example() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	open := func(name string) provider.BlobStore {
		s, err := local.NewBlobStore(local.Config{Dir: filepath.Join(dir, name), Create: true})
		if err != nil {
			log.Fatal(err)
		}
		return s
	}
	bucket, vault, other := open("bucket"), open("vault"), open("other")
	for _, k := range []string{"photos/cat.jpg", "photos/dog.jpg", "logs/today"} {
		if _, err := bucket.Put(ctx, k, provider.Bytes([]byte("this is "+k)), provider.PutOptions{Meta: map[string]string{"owner": "ann"}}); err != nil {
			log.Fatal(err)
		}
	}

	key, err := age.GenerateX25519Identity() // keep it away from this machine, and from the backup
	if err != nil {
		log.Fatal(err)
	}
	repo, err := backup.Init(ctx, backup.Config{Store: vault, Keyring: backup.Keyring{
		Recipients: backup.AgeRecipients(key.Recipient()),
		Identities: backup.AgeIdentities(key),
	}})
	if err != nil {
		log.Fatal(err)
	}
	photos, err := objects.New(objects.Config{Store: bucket, Prefix: "photos/"})
	if err != nil {
		log.Fatal(err)
	}
	var point backup.Point
	for range 2 {
		point, err = repo.Backup(ctx, "photos", photos, backup.BackupOptions{Mode: backup.Incremental})
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(point.Mode, point.Stats.Items, "objects,", point.Stats.BytesRead, "bytes read")
	}
	if err := bucket.Delete(ctx, "photos/cat.jpg", provider.DeleteOptions{}); err != nil {
		log.Fatal(err)
	}

	elsewhere, err := objects.New(objects.Config{Store: other})
	if err != nil {
		log.Fatal(err)
	}
	if err := repo.Restore(ctx, point.ID, elsewhere, backup.Destination{Location: "pictures/"}, backup.RestoreOptions{}); err != nil {
		log.Fatal(err)
	}
	for info, err := range other.List(ctx, "", provider.ListOptions{}) {
		if err != nil {
			log.Fatal(err)
		}
		info, err := other.Stat(ctx, info.Key)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(info.Key, info.Size, info.Meta)
	}
	// Output:
	// full 2 objects, 44 bytes read
	// incremental 2 objects, 0 bytes read
	// pictures/cat.jpg 22 map[owner:ann]
	// pictures/dog.jpg 22 map[owner:ann]
}
