package backup_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/providertest"
)

// TestFirstVersionWins: somebody with a writer's credential puts something
// else over every object of a bucket that keeps versions. All points
// restore, to those who open the repository afterwards and to those who had
// it open, whole or from one object to the next; Check finds nothing wrong.
func TestFirstVersionWins(t *testing.T) {
	for name, garbage := range map[string]func(b []byte) []byte{
		"empty":   func([]byte) []byte { return nil },
		"noise":   func(b []byte) []byte { return []byte(random(8, len(b))) },
		"flipped": func(b []byte) []byte { c := []byte(string(b)); c[len(c)/2] ^= 1; return c },
		"longer":  func(b []byte) []byte { return append([]byte(string(b)), "more"...) },
	} {
		t.Run(name, func(t *testing.T) {
			bucket := providertest.NewBucket(providertest.BucketOptions{DefaultKeep: time.Hour})
			repo := newRepo(t, bucket)
			target := treeOf(map[string]string{"a": random(1, 2<<20), "b": "small"})
			p := mustBackup(t, repo, "tree", target, backup.Full)
			open := reopen(t, bucket)
			mustHold(t, open, p.ID, map[string]file{"a": target.files["a"], "b": target.files["b"]})

			attacker := bucket.As(providertest.CreateOnly())
			n := 0
			for _, info := range collect(t, bucket.List(t.Context(), "", provider.ListOptions{})) {
				b, _, err := provider.ReadAll(t.Context(), bucket, info.Key, 1<<30)
				if err != nil {
					t.Fatal(err)
				}
				put(t, attacker, info.Key, garbage(b))
				put(t, attacker, info.Key, nil)
				put(t, attacker, info.Key, garbage(b))
				n++
			}
			if n < 5 {
				t.Fatalf("%d objects", n)
			}
			for what, r := range map[string]*backup.Repository{"open": open, "opened": reopen(t, bucket), "written": repo} {
				points := collect(t, r.Points(t.Context(), "tree"))
				if len(points) != 1 || points[0].ID != p.ID || points[0].Damaged != "" {
					t.Fatalf("%s: points %+v", what, points)
				}
				mustHold(t, r, p.ID, target.files)
			}
			report, err := reopen(t, bucket).Check(t.Context(), backup.CheckOptions{ReadData: true})
			if err != nil || !report.OK() {
				t.Fatalf("%+v, %v", report.Problems, err)
			}
			// The next point is sound, too.
			r := reopen(t, bucket)
			target.files["c"] = file{content: random(3, 1<<20)}
			next := mustBackup(t, r, "tree", target, backup.Full)
			mustHold(t, reopen(t, bucket), next.ID, target.files)
		})
	}
}

// TestForgottenStaysForgotten: what was deleted with the right to do so does
// not come back because its bytes are still in the bucket.
func TestForgottenStaysForgotten(t *testing.T) {
	bucket := providertest.NewBucket(providertest.BucketOptions{})
	repo := newRepo(t, bucket)
	var ids []backup.PointID
	for i := range 3 {
		ids = append(ids, mustBackup(t, repo, "tree", treeOf(map[string]string{"a": fmt.Sprint(i)}), backup.Full).ID)
	}
	if err := repo.Forget(t.Context(), ids[1]); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, p := range collect(t, reopen(t, bucket).Points(t.Context(), "")) {
		got = append(got, string(p.ID))
	}
	if want := string(ids[0]) + " " + string(ids[2]); strings.Join(got, " ") != want {
		t.Errorf("points %s, want %s", got, want)
	}
}
