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
	switch {
	case os.Getenv("HOLDFAST_LONG") != "":
		return long
	case raceDetector && short > 1:
		return short / 6 // it makes everything so much slower
	}
	return short
}

func TestSimulate(t *testing.T) {
	for kind, n := range map[failover.Kind]int{
		failover.Failover: seeds(3000, 100_000), failover.Switchover: seeds(600, 20_000), failover.Test: seeds(400, 10_000),
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

// Every crash point of every default plan: of one that completes, of one that
// goes back, and of one that stops past the pivot.
func TestCrashPoints(t *testing.T) {
	depth := seeds(1, 2)
	for _, c := range []struct {
		kind   failover.Kind
		broken string
	}{
		{failover.Failover, ""}, {failover.Failover, "restore"}, {failover.Failover, "start"}, {failover.Failover, "traffic"},
		{failover.Switchover, ""}, {failover.Switchover, "check-position"}, {failover.Failback, ""},
		{failover.Test, ""}, {failover.Test, "start"}, {failover.Test, "clean-up"},
	} {
		if raceDetector && c.broken == "" && c.kind != failover.Failover {
			continue // what may race is the same in all of them
		}
		t.Run(string(c.kind)+" "+c.broken, func(t *testing.T) {
			r := failovertest.CrashPoints(t, failovertest.Options{
				NewStore: newStore, Plan: failovertest.DefaultPlan(t, c.kind), StopAtFirst: true,
			}, c.broken, depth)
			for _, v := range r.Violations {
				t.Error(v.Explain())
			}
			if r.Seeds < 100 {
				t.Errorf("only %d crash points", r.Seeds)
			}
			t.Log(r)
		})
	}
}

// A seed tells the same story every time, or a violation could not be studied.
func TestSameSeedSameStory(t *testing.T) {
	for seed := range uint64(40) {
		o := failovertest.Options{NewStore: newStore, First: seed, Seeds: 1}
		a, b := failovertest.Simulate(t, o), failovertest.Simulate(t, o)
		if a.String() != b.String() {
			t.Errorf("seed %d:\n%v\n%v", seed, a, b)
		}
	}
}

// Seeds that once found something, or misled the simulator itself.
func TestSeedsOfOld(t *testing.T) {
	for _, seed := range []uint64{61769} {
		r := failovertest.Simulate(t, failovertest.Options{NewStore: newStore, First: seed, Seeds: 1})
		for _, v := range r.Violations {
			t.Error(v.Explain())
		}
	}
}
