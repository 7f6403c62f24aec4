package backup_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/providertest"
	"github.com/holdfast-go/holdfast/replicate"
)

// In a bucket that keeps versions a copy that was fenced can be repeated: what
// it reports as arrived is there, though a tombstone came first.
func TestHoldFencedInVersions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		from, to := providertest.NewMemory(), providertest.NewBucket(providertest.BucketOptions{})
		r := newRepo(t, from)
		want := map[string]file{"a": {content: random(1, 90_000)}}
		p := mustBackup(t, r, "w", &tree{files: want}, backup.Full)
		slept := false
		c := replicate.Config{Source: r, From: from, Parallel: 1,
			Hold: func(ctx context.Context, m []provider.Info) (replicate.Hold, error) { return r.Hold(ctx, to, m) }}
		c.To = before{to, func(key string) {
			if !slept && strings.HasPrefix(key, "points/") {
				slept = true
				time.Sleep(10 * 24 * time.Hour)
				mayPrune(t, to, backup.PruneOptions{})
			}
		}}
		for range 3 { // a tombstone, and two in its place
			slept = false
			if res, err := replicate.Copy(t.Context(), c); err == nil || len(res.Arrived) > 0 {
				t.Fatalf("arrived: %v, %v; want a fenced copy", res.Arrived, err)
			}
			if got := collect(t, reopen(t, to).Points(t.Context(), "")); len(got) != 0 {
				t.Fatalf("points at the destination: %v", got)
			}
		}
		res, err := copyTo(t.Context(), r, from, to)
		if err != nil || len(res.Arrived) != 1 {
			t.Fatalf("arrived: %v, %v", res.Arrived, err)
		}
		mustHold(t, reopen(t, to), p.ID, want)
		time.Sleep(30 * 24 * time.Hour)
		for range 3 {
			mayPrune(t, to, backup.PruneOptions{})
		}
		mustHold(t, reopen(t, to), p.ID, want)
	})
}
