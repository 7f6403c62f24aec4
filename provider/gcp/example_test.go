package gcp_test

import (
	"context"
	"fmt"
	"log"

	"cloud.google.com/go/auth/credentials"
	"cloud.google.com/go/storage"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/gcp"
)

// The credentials are those of a file, and not the machine's own.
func ExampleOpen() {
	ctx := context.Background()
	id, err := credentials.NewCredentialsFromFile(credentials.ServiceAccount, "/etc/holdfast/writer.json",
		&credentials.DetectOptions{Scopes: []string{storage.ScopeFullControl}})
	if err != nil {
		log.Fatal(err)
	}
	store, err := gcp.Open(ctx, gcp.Config{Bucket: "backups", Credentials: id})
	if err != nil {
		log.Fatal(err)
	}
	for object, err := range store.List(ctx, "points/", provider.ListOptions{}) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(object.Key, object.Size)
	}
}
