package disks_test

import (
	"context"
	"fmt"
	"log"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/azure/disks"
)

// A snapshot of a disk, and a copy of it in another region once it is Ready.
func ExampleOpen() {
	ctx := context.Background()
	here, err := disks.Open(ctx, disks.Config{Subscription: "0000", ResourceGroup: "backups", Region: "westeurope"})
	if err != nil {
		log.Fatal(err)
	}
	disk := "/subscriptions/0000/resourceGroups/app/providers/Microsoft.Compute/disks/data"
	snap, err := here.Create(ctx, disk, provider.SnapshotOptions{Token: "2026-05-01T02:00Z"})
	if err != nil {
		log.Fatal(err)
	}
	copied, err := here.CopySnapshot(ctx, snap.Ref, "northeurope", provider.SnapshotOptions{Token: "2026-05-01T02:00Z"})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(copied.State, copied.Progress)
}
