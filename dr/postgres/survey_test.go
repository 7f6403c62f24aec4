package postgres

import (
	"math"
	"testing"
	"time"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/dr"
)

// Rates are the slowest of the latest three drills that restored; those of WAL
// only where there was enough of it.
func TestRates(t *testing.T) {
	began := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	proof := func(point string, passed bool, mib, seconds, wal, replay float64) dr.Proof {
		began = began.Add(time.Hour)
		return dr.Proof{Point: backup.PointID(point), Began: began, Passed: passed, Checked: true, Bytes: int64(mib * (1 << 20)), Restore: dr.Duration(seconds * 1e9),
			Measured: map[string]float64{walBytes: wal * (1 << 20), replaySeconds: replay}}
	}
	old := proof("a", true, 1, 100, 100, 1000) // forgotten
	all := []dr.Proof{old, proof("a", true, 100, 2, 20, 1), proof("b", false, 1, 50, 20, 50), proof("b", true, 90, 1, 1, 1), proof("b", true, 90, 1, 64, 2)}
	for name, test := range map[string]struct {
		proofs          []dr.Proof
		restore, replay float64 // MiB/s
		drills          int
	}{
		"none":          {nil, 0, 0, 0},
		"none passed":   {all[2:3], 0, 0, 0},
		"little WAL":    {all[3:4], 91, 0, 1},
		"the slowest":   {all, 60, 20, 3},
		"the only ones": {all[:1], 1.01, 0.1, 1},
	} {
		o, drills := planOptions(test.proofs)
		if math.Abs(o.RestoreRate/(1<<20)-test.restore) > 1e-6 || math.Abs(o.ReplayRate/(1<<20)-test.replay) > 1e-6 || drills != test.drills {
			t.Errorf("%s: %v and %v MiB/s of %d drills", name, o.RestoreRate/(1<<20), o.ReplayRate/(1<<20), drills)
		}
	}
	if o, _ := planOptions(all); len(o.Proven) != 2 || o.Proven["a"] != all[1].Began || o.Proven["b"] != all[4].Began {
		t.Errorf("%v", o.Proven)
	}
}
