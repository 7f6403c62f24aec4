package keyvault_test

import (
	"context"
	"fmt"
	"log"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/azure/keyvault"
)

// A vault with the standard chain of credentials: where this runs in Azure, the
// identity of the machine or of the workload.
func ExampleOpen() {
	ctx := context.Background()
	keys, err := keyvault.Open(ctx, keyvault.Config{Vault: "https://holdfast.vault.azure.net"})
	if err != nil {
		log.Fatal(err)
	}
	secret := make([]byte, provider.WrappedSize) // a new random key, in earnest
	wrapped, err := keys.WrapKey(ctx, "backups", secret, provider.EncryptionContext{"repository": "r1"})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(len(wrapped), "bytes to keep")
}
