package throttle_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/providertest"
	"github.com/holdfast-go/holdfast/provider/throttle"
)

// weather fails calls at random, in runs as an outage does, and each in any of
// the ways there are.
func weather(seed uint64) providertest.Script {
	rnd := rand.New(rand.NewPCG(seed, 1))
	bad := 0.0
	return func(providertest.Call) (f providertest.Fault) {
		if rnd.IntN(20) == 0 {
			bad = []float64{0, 0, 0.2, 0.6, 0.95}[rnd.IntN(5)]
		}
		delay := time.Duration(rnd.IntN(50)) * time.Millisecond
		f.Wait = func(ctx context.Context) error { time.Sleep(delay); return ctx.Err() }
		if rnd.Float64() >= bad {
			return f
		}
		switch rnd.IntN(4) {
		case 0:
			f.Before = providertest.ErrInjected
		case 1:
			f.Before = provider.ErrThrottled
		case 2:
			f.Before = &provider.Throttled{After: time.Duration(rnd.IntN(3000)) * time.Millisecond}
		case 3:
			f.After = providertest.ErrInjected
		}
		return f
	}
}

// known says of an error that it is one of those that the contract names, or
// one that leaves the outcome of a change unknown.
func known(err error) (sentinel bool) {
	for _, s := range []error{provider.ErrNotFound, provider.ErrConflict, provider.ErrLocked, provider.ErrCorrupt, provider.ErrRange, provider.ErrInvalidKey} {
		if errors.Is(err, s) {
			return true
		}
	}
	return false
}

// Under random faults, with several who race on the same keys: what is there is
// whole and was put by somebody; who was told that he created or replaced an
// object has; who was told that a condition did not hold has changed nothing;
// and whoever reads gets one version.
func TestRandomFaults(t *testing.T) {
	seeds := uint64(500)
	if os.Getenv("HOLDFAST_LONG") != "" {
		seeds = 20_000
	}
	var told [3]int
	for seed := range seeds {
		synctest.Test(t, func(t *testing.T) {
			w := &world{t: t, seed: seed, mem: &history{Memory: providertest.NewMemory(), put: map[string]int{}}}
			f := providertest.NewFaulty(w.mem, weather(seed))
			w.s, w.th = wrap(t, f, throttle.Config{Attempts: 4, Retries: 200, Write: throttle.Limit{InFlight: 3}})
			var wg sync.WaitGroup
			for i := range 4 {
				wg.Go(func() { w.work(i) })
			}
			wg.Wait()
			for class, c := range w.th.Stats() {
				if c.InFlight != 0 {
					t.Errorf("seed %d: %s: %d in flight at the end", seed, class, c.InFlight)
				}
			}
			for i, n := range w.told {
				told[i] += n
			}
		})
	}
	t.Logf("%d done, %d refused, %d unknown", told[0], told[1], told[2])
	for _, n := range told {
		if n < int(seeds) {
			t.Errorf("%d done, %d refused, %d unknown: one of them hardly happens", told[0], told[1], told[2])
		}
	}
}

// history is a store that remembers how often each content was put.
type history struct {
	*providertest.Memory
	mu  sync.Mutex
	put map[string]int
}

func (h *history) Put(ctx context.Context, key string, body provider.Body, o provider.PutOptions) (provider.Info, error) {
	info, err := h.Memory.Put(ctx, key, body, o)
	if err == nil {
		b, _ := io.ReadAll(io.NewSectionReader(body, 0, 30))
		h.mu.Lock()
		defer h.mu.Unlock()
		h.put[name(b)]++
	}
	return info, err
}

func (h *history) times(name string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.put[name]
}

// A content is a name, and that again and again.
func content(name string) []byte { return bytes.Repeat([]byte(name+" "), 200) }
func name(b []byte) string       { n, _, _ := strings.Cut(string(b), " "); return n }

type world struct {
	t    *testing.T
	seed uint64
	mem  *history
	s    provider.BlobStore
	th   *throttle.Throttle

	mu   sync.Mutex
	told [3]int // done, refused, unknown
}

func (w *world) work(worker int) {
	rnd := rand.New(rand.NewPCG(w.seed, uint64(worker+10)))
	for step := range 25 {
		key := fmt.Sprint("k", rnd.IntN(3))
		mine := fmt.Sprintf("%s-%d-%d", key, worker, step)
		ctx, cancel := context.WithTimeout(w.t.Context(), time.Duration(1+rnd.IntN(60))*time.Second)
		switch rnd.IntN(6) {
		case 0, 1:
			w.putIf(ctx, key, mine, provider.PutOptions{IfAbsent: true})
		case 2:
			if info, err := w.s.Stat(ctx, key); err == nil {
				w.putIf(ctx, key, mine, provider.PutOptions{IfMatch: info.Version})
			}
		case 3:
			w.read(ctx, key)
		case 4:
			w.delete(ctx, key, rnd.IntN(2) == 0)
		case 5:
			w.list(ctx)
		}
		cancel()
	}
}

func (w *world) outcome(i int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.told[i]++
}

func (w *world) putIf(ctx context.Context, key, mine string, o provider.PutOptions) {
	info, err := w.s.Put(ctx, key, provider.Bytes(content(mine)), o)
	n := w.mem.times(mine)
	switch {
	case err == nil:
		w.outcome(0)
		if n == 0 || info.Size != int64(len(content(mine))) {
			w.t.Errorf("seed %d: put %s succeeded, %+v, and never was", w.seed, mine, info)
		}
	case errors.Is(err, provider.ErrConflict):
		w.outcome(1)
		if n != 0 {
			w.t.Errorf("seed %d: put %s was there %d times, and is said to be a conflict: %v", w.seed, mine, n, err)
		}
	case known(err):
		w.t.Errorf("seed %d: put %s: %v", w.seed, mine, err)
	default:
		w.outcome(2)
	}
}

func (w *world) read(ctx context.Context, key string) {
	b, info, err := provider.ReadAll(ctx, w.s, key, 1<<20)
	switch {
	case err == nil:
		if n := name(b); !bytes.Equal(b, content(n)) || !strings.HasPrefix(n, key+"-") || info.Size != int64(len(b)) {
			w.t.Errorf("seed %d: %s has %d bytes that nobody put: %.60q", w.seed, key, len(b), b)
		}
	case known(err) && !errors.Is(err, provider.ErrNotFound):
		w.t.Errorf("seed %d: get %s: %v", w.seed, key, err)
	}
}

func (w *world) delete(ctx context.Context, key string, versioned bool) {
	var o provider.DeleteOptions
	if versioned {
		info, err := w.s.Stat(ctx, key)
		if err != nil {
			return
		}
		o.Version = info.Version
	}
	if err := w.s.Delete(ctx, key, o); known(err) && (!errors.Is(err, provider.ErrConflict) || !versioned) {
		w.t.Errorf("seed %d: delete %s: %v", w.seed, key, err)
	}
}

func (w *world) list(ctx context.Context) {
	last := ""
	for info, err := range w.s.List(ctx, "k", provider.ListOptions{}) {
		if known(err) || err == nil && info.Key <= last {
			w.t.Errorf("seed %d: list: %q behind %q, %v", w.seed, info.Key, last, err)
		}
		last = info.Key
	}
}
