package failover_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"time"

	"github.com/holdfast-go/holdfast/failover"
	"github.com/holdfast-go/holdfast/provider/local"
)

// machine is a site of the example: it accepts writes or it does not.
type machine struct{ writable bool }

func (m *machine) Fence(context.Context, uint64) (failover.FenceEvidence, error) {
	m.writable = false
	return failover.FenceEvidence{Method: "stopped", Confirmed: true}, nil
}

func (m *machine) Fenced(context.Context) (failover.FenceEvidence, error) {
	return failover.FenceEvidence{Method: "stopped", Confirmed: !m.writable}, nil
}

func (m *machine) Unfence(context.Context, uint64) error {
	m.writable = true
	return nil
}

func (m *machine) Promote(context.Context, uint64) (failover.Evidence, error) {
	m.writable = true
	return nil, nil
}

func (m *machine) Promoted(context.Context) (failover.Observation, error) {
	return failover.Observation{Done: m.writable}, nil
}

func Example() {
	dir, err := os.MkdirTemp("", "witness")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	store, err := local.NewBlobStore(local.Config{Dir: dir, Create: true})
	if err != nil {
		log.Fatal(err)
	}
	defer store.Close()

	east, west := &machine{writable: true}, &machine{}
	nothing := failover.ActionFuncs{DoFunc: func(context.Context, failover.Call) (failover.Evidence, error) { return nil, nil }}
	restore := failover.ActionFuncs{DoFunc: func(context.Context, failover.Call) (failover.Evidence, error) {
		return failover.Evidence{failover.EvidenceAge: "42s"}, nil // how old the newest recovered write is
	}}

	plan, err := failover.NewPlan(failover.PlanConfig{
		Kind: failover.Failover, Service: "shop", From: "east", To: "west",
		Created: time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC),
		Settle:  10 * time.Millisecond, // nothing here lands late
	})
	if err != nil {
		log.Fatal(err)
	}
	result, err := failover.Run(context.Background(), failover.Config{
		Store: store,
		Actions: map[string]failover.Action{
			"verify-standby": nothing, "fence": failover.FenceAction(east), "restore": restore,
			"start": failover.PromoteAction(west), "verify-private": nothing,
			"traffic": nothing, "verify-public": nothing, "notify": nothing,
		},
	}, plan)
	if err != nil {
		log.Fatal(err)
	}
	for _, step := range result.Steps {
		fmt.Printf("%-15s %s\n", step.Name, step.Status)
	}
	fmt.Println(result.Outcome, "with a loss of at most", result.Loss.Bound)
	fmt.Println("east accepts writes:", east.writable, "- west accepts writes:", west.writable)
	// Output:
	// verify-standby  done
	// fence           done
	// restore         done
	// start           done
	// verify-private  done
	// traffic         done
	// verify-public   done
	// notify          done
	// completed with a loss of at most 42s
	// east accepts writes: false - west accepts writes: true
}

func ExampleArm() {
	err := failover.Arm(failover.Conditions{
		Now: time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC), Primary: "east", Standby: "west",
		Witness: "west", FenceConfirms: true,
		LastProof: time.Date(2026, 11, 1, 3, 0, 0, 0, time.UTC),
		Lag:       4 * time.Minute, LagKnown: true, RPO: 15 * time.Minute,
	})
	fmt.Println(err)
	// Output:
	// automatic failover: the witness "west" is one of the two sites; it must be a third
}
