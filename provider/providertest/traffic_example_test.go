package providertest_test

import (
	"context"
	"fmt"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/providertest"
)

// Before a failover relies on somebody's switch, check it against the contract:
// here, how it tells conflicts from what is done already. Without Only it is all
// clauses, with some fifty moves of traffic: use a switch that nobody depends on.
func ExampleCheckTrafficSwitch() {
	var s provider.TrafficSwitch = providertest.NewMemoryTrafficSwitch([]string{"east", "west"}, "east") // arc.Open(...), or another
	report := providertest.CheckTrafficSwitch(context.Background(), s, providertest.TrafficOptions{
		Only: []string{"traffic/switch", "traffic/conflict", "traffic/done"},
	})
	fmt.Print(report)
	now, err := s.State(context.Background())
	fmt.Println(now.Sites, err, report.Err())
	// Output:
	// pass         traffic/switch            Switch moves traffic from one site to another, and back.
	// pass         traffic/conflict          If the state is neither from nor to, nothing changes and the error is ErrConflict.
	// pass         traffic/done              If the state is to already, whatever from is, nothing changes and the error is nil.
	// TrafficSwitch: 3 pass, 0 fail, 0 unsupported, 0 skipped
	// [east] <nil> <nil>
}
