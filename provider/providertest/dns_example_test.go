package providertest_test

import (
	"context"
	"fmt"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/providertest"
)

// Before a failover relies on somebody's zone, check it against the contract:
// here, how Get and removals behave. Without Only it is all clauses, also
// races, with some three hundred swaps of names that the check makes and
// removes again.
func ExampleCheckDNS() {
	var zone provider.DNSProvider = providertest.NewMemoryDNS("example.test.") // rfc2136.New(...), or another
	report := providertest.CheckDNS(context.Background(), zone, providertest.DNSOptions{
		Zone: "example.test.",
		Only: []string{"dns/get", "dns/get-missing", "dns/remove", "dns/old-ttl"},
	})
	fmt.Print(report)
	fmt.Println("err:", report.Err())
	// Output:
	// pass         dns/get                   Get returns the record set that was swapped in: name, type, TTL, values in ascending order.
	// pass         dns/get-missing           A name without records of that type is ErrNotFound, which matches fs.ErrNotExist.
	// pass         dns/remove                With New nil the record set is removed.
	// pass         dns/old-ttl               If the TTL is not that of Old, nothing changes and the error is ErrConflict.
	// DNSProvider: 4 pass, 0 fail, 0 unsupported, 0 skipped
	// err: <nil>
}
