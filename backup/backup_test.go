package backup_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/provider/providertest"
)

func sample() map[string]string {
	return map[string]string{
		"a":             "",
		"a-b":           "beside",
		"a/x":           "below",
		"big":           random(1, 3<<20),
		"edge/64k":      random(2, 64<<10),
		"edge/64k+1":    random(3, 64<<10+1),
		"text":          strings.Repeat("the same line again and again\n", 100_000),
		"zero":          strings.Repeat("\x00", 5<<20),
		"odd\xff\nname": "bytes that are no UTF-8",
	}
}

func TestRoundTrip(t *testing.T) {
	store := providertest.NewMemory()
	r := newRepo(t, store)
	target := treeOf(sample())
	target.files["db"] = file{content: random(4, 1<<20+17), block: 32 << 10}
	p := mustBackup(t, r, "web", target, backup.Full)
	mustHold(t, r, p.ID, target.files)
	mustHold(t, reopen(t, store), p.ID, target.files)

	var size int64
	for _, f := range target.files {
		size += int64(len(f.content))
	}
	if p.Stats.Items != int64(len(target.files)) || p.Stats.Bytes != size || p.Stats.BytesRead != size {
		t.Errorf("stats %+v, want %d items of %d bytes, all read", p.Stats, len(target.files), size)
	}
	got := collect(t, reopen(t, store).Points(t.Context(), ""))
	if len(got) != 1 || got[0].ID != p.ID || got[0].Name != "web" || got[0].Kind != "tree" || got[0].Stored.IsZero() {
		t.Errorf("points: %+v", got)
	}
	rep, err := r.Check(t.Context(), backup.CheckOptions{ReadData: true})
	if err != nil || !rep.OK() || rep.Points != 1 || rep.Read != rep.Bytes {
		t.Errorf("check: %+v, %v", rep, err)
	}
}

// Many items come back sorted, in whatever order they were added and however
// many runs that took.
func TestOrder(t *testing.T) {
	for name, shuffle := range map[string]func(r *rand.Rand, paths []string){
		"sorted": func(*rand.Rand, []string) {},
		"random": func(r *rand.Rand, paths []string) {
			r.Shuffle(len(paths), func(i, j int) { paths[i], paths[j] = paths[j], paths[i] })
		},
		"nearly sorted": func(r *rand.Rand, paths []string) {
			for range 1000 {
				i, j := r.IntN(len(paths)), r.IntN(len(paths))
				paths[i], paths[j] = paths[j], paths[i]
			}
		},
	} {
		t.Run(name, func(t *testing.T) { testOrder(t, shuffle) })
	}
}

func testOrder(t *testing.T, shuffle func(r *rand.Rand, paths []string)) {
	target := &tree{files: map[string]file{}}
	for i := range 40_000 {
		p := fmt.Sprintf("dir%d/sub-%d/file%d", i%7, i%53, i)
		target.files[p] = file{content: p[:i%5]}
	}
	sorted := slices.SortedFunc(maps.Keys(target.files), backup.ComparePaths)
	shuffled := slices.Clone(sorted)
	shuffle(rand.New(rand.NewPCG(1, 2)), shuffled)
	target.order = shuffled
	r := newRepo(t, providertest.NewMemory())
	p := mustBackup(t, r, "web", target, backup.Full)
	v, err := r.View(t.Context(), p.ID)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, it := range collect(t, v.Items(t.Context())) {
		got = append(got, it.Path)
	}
	if !slices.Equal(got, sorted) {
		t.Fatalf("%d items in another order than the %d sorted ones", len(got), len(sorted))
	}
	for _, i := range []int{0, 1, 777, len(sorted) / 2, len(sorted) - 1} {
		if it, err := v.Lookup(t.Context(), sorted[i]); err != nil || it.Path != sorted[i] {
			t.Errorf("lookup %q: %q, %v", sorted[i], it.Path, err)
		}
	}
}
