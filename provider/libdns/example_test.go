package libdns_test

import (
	"context"
	"fmt"
	"log"
	"time"

	"github.com/holdfast-go/holdfast/failover"
	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/libdns"
)

// Any package of libdns is a provider, which says that it has no
// compare-and-swap.
func Example() {
	zone, err := libdns.New(libdns.Config{
		Zone:     "example.test.",
		Provider: &service{}, // &cloudflare.Provider{APIToken: ...}
		Settle:   100 * time.Millisecond,
		Servers:  []string{},
	})
	if err != nil {
		log.Fatal(err)
	}
	www := provider.RecordSet{Name: "www.example.test.", Type: "A", TTL: time.Minute, Values: []string{"192.0.2.1"}}
	if _, err := zone.Swap(context.Background(), provider.Change{New: &www}); err != nil {
		log.Fatal(err)
	}
	fmt.Println("atomicity:", zone.Atomicity())
	_, err = failover.NewTraffic(failover.TrafficConfig{
		DNS: zone, Owner: "shop", Name: www.Name,
		Sites: map[string][]string{"east": {"192.0.2.1"}, "west": {"198.51.100.7"}},
	})
	fmt.Println(err)
	// Output:
	// atomicity: none
	// traffic config: DNS has no compare-and-swap (atomicity "none"): two orchestrators could overwrite each other unseen; set AllowNotAtomic to accept that
}
