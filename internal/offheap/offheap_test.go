package offheap

import (
	"bytes"
	"runtime"
	"sync"
	"testing"
)

func TestBuffers(t *testing.T) {
	const n = 4 << 20
	a, b := Get(n), Get(n)
	if len(a) != n || len(b) != n || Out() != 2*n {
		t.Fatalf("%d and %d bytes, %d handed out", len(a), len(b), Out())
	}
	for i := range n {
		a[i], b[i] = 1, 2
	}
	if bytes.IndexByte(a, 2) >= 0 || bytes.IndexByte(b, 1) >= 0 {
		t.Error("two buffers share memory")
	}
	Put(a)
	_ = a[n-1] // does not crash
	if c := Get(n); &c[0] == &b[0] {
		t.Error("a buffer was handed out twice")
	} else {
		Put(c)
	}
	Put(b)
	if Out() != 0 {
		t.Errorf("%d bytes are still handed out", Out())
	}
}

func TestOfManyGoroutines(t *testing.T) {
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 200 {
				b := Get(1<<20 + i%3)
				b[0], b[len(b)-1] = byte(g), byte(g)
				runtime.Gosched()
				if b[0] != byte(g) || b[len(b)-1] != byte(g) {
					t.Error("somebody else writes to this buffer")
				}
				Put(b)
			}
		})
	}
	wg.Wait()
	if Out() != 0 {
		t.Errorf("%d bytes are still handed out", Out())
	}
}

// What is handed out is not on the heap, where that is possible.
func TestNotOnTheHeap(t *testing.T) {
	if !maps {
		t.Skip("buffers are on the heap here")
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	b := Get(64 << 20)
	defer Put(b)
	clear(b)
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 32<<20 {
		t.Errorf("the heap has grown by %d bytes", grown)
	}
}
