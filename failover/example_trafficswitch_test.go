package failover_test

import (
	"context"
	"fmt"
	"log"

	"github.com/holdfast-go/holdfast/failover"
	"github.com/holdfast-go/holdfast/provider/providertest"
)

// A traffic step that opens one cell and closes the others, without a change of
// any name. Run calls it as the action "traffic" of a plan.
func ExampleNewTrafficSwitch() {
	ctx := context.Background()
	cells := providertest.NewMemoryTrafficSwitch([]string{"eu-1", "us-1", "us-2"}, "us-1", "us-2") // arc.Open(...), or another
	traffic, err := failover.NewTrafficSwitch(failover.TrafficSwitchConfig{
		Switch: cells, Owner: "shop",
		Sites: map[string][]string{"america": {"us-1", "us-2"}, "europe": {"eu-1"}},
	})
	if err != nil {
		log.Fatal(err)
	}
	evidence, err := traffic.Do(ctx, failover.Call{From: "america", To: "europe", Epoch: 17})
	fmt.Println(evidence["before"], "->", evidence["after"], err)

	// A process that was deposed meanwhile can move it no more.
	_, err = traffic.Undo(ctx, failover.Call{From: "america", To: "europe", Epoch: 16})
	fmt.Println(err)
	// Output:
	// us-1 us-2 -> eu-1 <nil>
	// traffic: deposed: another process took over the run: the switch has epoch 17, this process 16: nothing was changed
}
