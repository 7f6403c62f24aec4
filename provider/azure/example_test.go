package azure_test

import (
	"context"
	"fmt"
	"log"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/azure"
)

// A container of an account, with the standard chain of credentials: where this
// runs in Azure, the identity of the machine or of the workload.
func ExampleOpen() {
	ctx := context.Background()
	store, err := azure.Open(ctx, azure.Config{Account: "account", Container: "backups"})
	if err != nil {
		log.Fatal(err)
	}
	_, err = store.Put(ctx, "points/1", provider.Bytes([]byte("content")), provider.PutOptions{IfAbsent: true})
	if err != nil {
		log.Fatal(err)
	}
	for info, err := range store.List(ctx, "points/", provider.ListOptions{}) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(info.Key, info.Size, info.Modified)
	}
}
