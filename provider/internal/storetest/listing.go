package storetest

import (
	"fmt"
	"os"
	"runtime"
	"runtime/metrics"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/holdfast-go/holdfast/provider"
)

// Many is how many objects a test that lists many has: a million with
// HOLDFAST_LONG=1, and otherwise some thousand, by which the test itself is
// tested.
func Many() int {
	if os.Getenv("HOLDFAST_LONG") == "" {
		return 7_000
	}
	return 1_000_000
}

// ManyKey is the key of object i of [Lists].
func ManyKey(i int) string { return fmt.Sprintf("many/%03d/%03d", i/1000, i%1000) }

// Lists lists n objects whose keys are ManyKey(0) to ManyKey(n-1), and sees
// that each comes once, in order, and that the heap grows by at most so many
// bytes meanwhile, with what is garbage already and not yet collected.
func Lists(t *testing.T, store provider.BlobStore, n int, memory int64) {
	t.Helper()
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	heap := func() int64 { metrics.Read(sample); return int64(sample[0].Value.Uint64()) }
	runtime.GC()
	before, begun := heap(), time.Now()
	peak, count := before, 0
	for info, err := range store.List(t.Context(), "many/", provider.ListOptions{}) {
		if err != nil {
			t.Fatalf("after %d: %v", count, err)
		}
		if info.Key != ManyKey(count) || info.Version == "" {
			t.Fatalf("object %d is %q, version %q; want %q", count, info.Key, info.Version, ManyKey(count))
		}
		if count++; count%100 == 0 {
			peak = max(peak, heap())
		}
	}
	if count != n {
		t.Errorf("%d objects, want %d", count, n)
	}
	t.Logf("%d objects listed in %v, with %.1f MiB of heap more than before at most", count, time.Since(begun).Round(time.Millisecond), float64(peak-before)/(1<<20))
	if peak-before > memory {
		t.Errorf("the heap grew by %d bytes, more than %d", peak-before, memory)
	}
}

// Fill puts n objects for [Lists], for which there is no quicker way.
func Fill(t *testing.T, store provider.BlobStore, n int) {
	t.Helper()
	var g errgroup.Group
	g.SetLimit(16)
	for i := range n {
		g.Go(func() error {
			_, err := store.Put(t.Context(), ManyKey(i), provider.Bytes(nil), provider.PutOptions{})
			return err
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
}
