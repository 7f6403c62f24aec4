package rfc2136_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"time"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/local"
	"github.com/holdfast-go/holdfast/provider/rfc2136"
)

// A record set is replaced only if it is what was read. The server stands for
// any that takes DNS UPDATE.
func Example() {
	dir, err := os.MkdirTemp("", "zone")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	key := local.DNSKey{Name: "holdfast.", Secret: "bm90IGEgc2VjcmV0LCBhbiBleGFtcGxlIQ=="}
	server, err := local.NewDNSServer(local.DNSServerConfig{Zone: "example.test.", Dir: dir, Keys: []local.DNSKey{key}})
	if err != nil {
		log.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); server.Serve(ctx) }()
	defer func() { cancel(); <-done }()

	zone, err := rfc2136.New(rfc2136.Config{
		Zone: "example.test.", Servers: []string{server.Addr()}, KeyName: key.Name, Secret: key.Secret,
		Secondaries: []string{}, // there are none
	})
	if err != nil {
		log.Fatal(err)
	}
	east := provider.RecordSet{Name: "www.example.test.", Type: "A", TTL: time.Minute, Values: []string{"192.0.2.1"}}
	west := provider.RecordSet{Name: "www.example.test.", Type: "A", TTL: time.Minute, Values: []string{"198.51.100.7"}}
	if _, err := zone.Swap(ctx, provider.Change{New: &east}); err != nil {
		log.Fatal(err)
	}
	ref, err := zone.Swap(ctx, provider.Change{Old: &east, New: &west})
	if err != nil {
		log.Fatal(err)
	}
	status, err := zone.Status(ctx, ref)
	fmt.Println(status, err)
	_, err = zone.Swap(ctx, provider.Change{Old: &east, New: &west})
	fmt.Println(err)
	// Output:
	// insync <nil>
	// rfc2136: dns swap www.example.test. A: condition not met: the zone has 198.51.100.7 with a TTL of 1m0s
}
