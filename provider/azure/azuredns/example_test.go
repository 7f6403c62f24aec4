package azuredns_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/azure/azuredns"
)

// A zone with the standard chain of credentials.
func ExampleOpen() {
	ctx := context.Background()
	zones, err := azuredns.Open(ctx, azuredns.Config{Zones: []string{
		"/subscriptions/0000/resourceGroups/dns/providers/Microsoft.Network/dnsZones/example.com",
	}})
	if err != nil {
		log.Fatal(err)
	}
	now, err := zones.Get(ctx, "www.example.com.", "A")
	if err != nil {
		log.Fatal(err)
	}
	next := provider.RecordSet{Name: now.Name, Type: now.Type, TTL: time.Minute, Values: []string{"192.0.2.2"}}
	ref, err := zones.Swap(ctx, provider.Change{Old: &now, New: &next})
	if errors.Is(err, provider.ErrConflict) {
		log.Fatal("somebody else has moved the name")
	}
	fmt.Println(ref, err)
}
