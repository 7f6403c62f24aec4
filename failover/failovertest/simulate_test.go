package failovertest_test

import (
	"os"
	"testing"

	"github.com/holdfast-go/holdfast/failover"
	"github.com/holdfast-go/holdfast/failover/failovertest"
	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/providertest"
)

func newStore() provider.BlobStore { return providertest.NewMemory() }

func seeds(short, long int) int {
	if os.Getenv("HOLDFAST_LONG") != "" {
		return long
	}
	return short
}

func TestSimulate(t *testing.T) {
	for kind, n := range map[failover.Kind]int{
		failover.Failover: seeds(1500, 100_000), failover.Switchover: seeds(300, 20_000), failover.Test: seeds(200, 10_000),
	} {
		t.Run(string(kind), func(t *testing.T) {
			r := failovertest.Simulate(t, failovertest.Options{
				NewStore: newStore, Seeds: n, Plan: failovertest.DefaultPlan(t, kind), StopAtFirst: true,
			})
			for _, v := range r.Violations {
				t.Error(v.Explain())
			}
			t.Log(r)
		})
	}
}
