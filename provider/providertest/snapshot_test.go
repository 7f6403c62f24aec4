package providertest_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/providertest"
)

// memoryRegions are two regions of which the first has a flaw.
func memoryRegions(flaw string) (*memorySnapshots, providertest.SnapshotterOptions) {
	east, west := newMemorySnapshots("east", flaw), newMemorySnapshots("west", "")
	west.n = 1000 // IDs of their own
	east.peers["west"] = west
	return east, providertest.SnapshotterOptions{
		NewVolume: east.newVolume, DeleteVolume: east.deleteVolume, WriteVolume: east.writeVolume, ReadVolume: east.readVolume,
		Together: func(context.Context, []string) error { return nil },
		Others:   []string{"them", "these"}, SharedWith: east.sharedWith,
		Region: "west", InRegion: func() (provider.Snapshotter, error) { return west, nil },
		Size: 1000, Patience: 200 * time.Millisecond,
	}
}

func TestMemorySnapshots(t *testing.T) {
	m, o := memoryRegions("")
	o.Patience = time.Minute
	providertest.TestSnapshotter(t, func(*testing.T) provider.Snapshotter { return m }, o)
}

// Each flaw is found, by the clauses that are about it.
func TestCheckSnapshotterFindsFlaws(t *testing.T) {
	for flaw, want := range map[string][]string{
		"token ignored":                     {"snapshot/token", "snapshot/token-race"},
		"token of another volume":           {"snapshot/token-volume"},
		"no token":                          {"snapshot/token-missing"},
		"volume not looked for":             {"snapshot/volume-missing"},
		"not frozen":                        {"snapshot/frozen", "snapshot/restore-apart"},
		"tags lost":                         {"snapshot/create", "snapshot/list-tags"},
		"ready at once":                     {"snapshot/restore-pending"}, // a half-made one is restored
		"progress falls":                    {"snapshot/create"},
		"never done":                        {"snapshot/create"},
		"missing is empty":                  {"snapshot/get-missing", "snapshot/delete"},
		"bare errors":                       {"snapshot/error-type"},
		"ctx":                               {"snapshot/context", "snapshot/group-context"},
		"restore token ignored":             {"snapshot/restore-token"},
		"restore token of another snapshot": {"snapshot/restore-token-ref"},
		"restored again":                    {"snapshot/restore-once"},
		"restore needs the snapshot":        {"snapshot/delete-restored"},
		"restore of a pending one":          {"snapshot/restore-pending"},
		"in place":                          {"snapshot/restore", "snapshot/restore-apart"},
		"delete of a missing one":           {"snapshot/delete-missing"},
		"delete does nothing":               {"snapshot/delete", "snapshot/get-missing"},
		"chain broken":                      {"snapshot/delete"},
		"restored ones go too":              {"snapshot/delete-restored"},
		"any tag":                           {"snapshot/list-tags"},
		"unordered":                         {"snapshot/list-order"},
		"list cut":                          {"snapshot/list-order", "snapshot/list-tags"},
		"any region":                        {"snapshot/copy-missing"},
		"copy token ignored":                {"snapshot/copy-token"},
		"empty copy":                        {"snapshot/copy"},
		"group without a token":             {"snapshot/group-arguments"},
		"group of nothing":                  {"snapshot/group-arguments"},
		"group of one twice":                {"snapshot/group-arguments"},
		"group token ignored":               {"snapshot/group-token", "snapshot/group-token-race"},
		"group unordered":                   {"snapshot/group"},
		"group at several moments":          {"snapshot/group-moment"},
		"group of what is there":            {"snapshot/group-missing"},
		"group added to":                    {"snapshot/group-token-volumes", "snapshot/group-deleted"},
		"group of fewer":                    {"snapshot/group-token-volumes"},
		"group made up":                     {"snapshot/group-deleted"},
		"shared with nobody":                {"snapshot/share-nobody"},
		"shared with everybody":             {"snapshot/share-nobody"},
		"shares what is gone":               {"snapshot/share-missing"},
		"share replaces":                    {"snapshot/share"},
		"share again fails":                 {"snapshot/share"},
		"unshared from all":                 {"snapshot/share"},
		"unshare again fails":               {"snapshot/share"},
	} {
		t.Run(flaw, func(t *testing.T) {
			t.Parallel()
			m, o := memoryRegions(flaw)
			r := providertest.CheckSnapshotter(t.Context(), m, o)
			for _, id := range want {
				if !slices.Contains(r.Failed(), id) {
					t.Errorf("%s does not find it; what does: %q", id, r.Failed())
				}
			}
		})
	}
}

// What the options do not allow to be asked is skipped, and said.
func TestCheckSnapshotterOptions(t *testing.T) {
	m, o := memoryRegions("")
	if r := providertest.CheckSnapshotter(t.Context(), m, providertest.SnapshotterOptions{}); r.Err() == nil {
		t.Error("no functions for volumes are accepted")
	}
	o.ReadVolume, o.Region, o.Together, o.SharedWith = nil, "", nil, nil
	r := providertest.CheckSnapshotter(t.Context(), m, o)
	count := map[providertest.Outcome]int{}
	for _, res := range r.Results {
		count[res.Outcome]++
	}
	if r.Err() != nil || count[providertest.Skipped] != 18 || len(r.Left) > 0 {
		t.Errorf("%v", r)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for _, res := range providertest.CheckSnapshotter(ended, m, o).Results {
		if res.Outcome != providertest.Skipped {
			t.Errorf("%s is %s after the end of its context", res.ID, res.Outcome)
		}
	}
}
