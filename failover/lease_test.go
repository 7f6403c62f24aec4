package failover

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/local"
	"github.com/holdfast-go/holdfast/provider/providertest"
)

func openLease(t *testing.T, s provider.BlobStore, holder string) *Lease {
	t.Helper()
	l, err := OpenLease(t.Context(), LeaseConfig{Store: s, Service: "shop", Holder: holder, TTL: 30 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestLeaseEpochGrowsAcrossRelease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := openLease(t, providertest.NewMemory(), "a")
		if _, err := l.Read(t.Context()); !errors.Is(err, provider.ErrNotFound) {
			t.Fatalf("lease that was never taken: %v", err)
		}
		for want := uint64(1); want <= 3; want++ {
			h, err := l.TryAcquire(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if h.Epoch() != want {
				t.Errorf("epoch %d, want %d", h.Epoch(), want)
			}
			if err := h.SetActive(t.Context(), "west"); err != nil {
				t.Fatal(err)
			}
			if err := h.Release(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := h.SetActive(t.Context(), "east"); !errors.Is(err, ErrLost) {
				t.Errorf("after release: %v, want ErrLost", err)
			}
			r, err := l.Read(t.Context())
			if err != nil || !r.Released || r.Epoch != want || r.Active != (Active{"west", want}) {
				t.Errorf("after release: %+v, %v", r, err)
			}
		}
	})
}

// A silent holder loses the lease one TTL after an observer first saw its
// record, not earlier, and by then it knows that itself.
func TestLeaseExpiry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := providertest.NewMemory()
		a, b := openLease(t, s, "a"), openLease(t, s, "b")
		h, err := a.TryAcquire(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Second)
		_, err = b.TryAcquire(t.Context())
		held, ok := errors.AsType[*HeldError](err)
		if !ok || !errors.Is(err, ErrHeld) || held.Wait != 30*time.Second || held.Record.Holder != "a" {
			t.Fatalf("first look: %v, want to be told to wait for a whole TTL", err)
		}
		time.Sleep(30*time.Second - 1)
		if _, err := b.TryAcquire(t.Context()); !errors.Is(err, ErrHeld) {
			t.Fatalf("a moment early: %v", err)
		}
		if err := h.Check(); !errors.Is(err, ErrLost) {
			t.Errorf("the holder must know before anybody takes over: %v", err)
		}
		time.Sleep(time.Nanosecond)
		g, err := b.TryAcquire(t.Context())
		if err != nil || g.Epoch() != 2 {
			t.Fatalf("after a TTL: %v", err)
		}
		if err := h.SetActive(t.Context(), "east"); !errors.Is(err, ErrLost) {
			t.Errorf("the old holder writes: %v", err)
		}
	})
}

func TestLeaseKeep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := providertest.NewMemory()
		f := providertest.NewFaulty(m, nil)
		a, b := openLease(t, f, "a"), openLease(t, m, "b")
		h, err := a.TryAcquire(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		kept := make(chan error, 1)
		go func() { kept <- h.Keep(ctx) }()
		short, stop := context.WithTimeout(t.Context(), 10*time.Minute)
		defer stop()
		if _, err := b.Acquire(short); !errors.Is(err, ErrHeld) || !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("a kept lease was taken: %v", err)
		}
		// Cut off from the store, the holder gives up by its own clock
		// before the other one can take over.
		cut := time.Now()
		f.Use(func(providertest.Call) providertest.Fault {
			return providertest.Fault{Before: providertest.ErrInjected}
		})
		g, err := b.Acquire(t.Context())
		taken := time.Since(cut)
		if err != nil || g.Epoch() != 2 {
			t.Fatal(err)
		}
		if err := <-kept; !errors.Is(err, ErrLost) {
			t.Errorf("Keep of a holder that is cut off: %v", err)
		}
		if taken < 20*time.Second {
			t.Errorf("taken %v after the cut", taken)
		}
		cancel()
	})
}

// Every reply may be lost, of every request: what was written is found out by
// reading, and nobody else's record is taken for one's own.
func TestLeaseLostReplies(t *testing.T) {
	for _, after := range []bool{false, true} {
		for n := 1; n <= 12; n++ {
			t.Run(fmt.Sprintf("request %d, after %v", n, after), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					m := providertest.NewMemory()
					f := providertest.NewFaulty(m, nil)
					l := openLease(t, f, "a")
					base := len(f.Calls())
					f.Use(func(c providertest.Call) providertest.Fault {
						if c.N != base+n {
							return providertest.Fault{}
						}
						if after {
							return providertest.Fault{After: providertest.ErrInjected}
						}
						return providertest.Fault{Before: providertest.ErrInjected}
					})
					h, err := l.Acquire(t.Context())
					if err != nil {
						t.Fatal(err)
					}
					if err := h.SetActive(t.Context(), "west"); err != nil {
						t.Fatal(err)
					}
					if err := h.setRun(t.Context(), "r"); err != nil {
						t.Fatal(err)
					}
					r, err := ReadLease(t.Context(), m, "", "shop")
					if err != nil || r.Epoch != 1 || r.Active.Site != "west" || r.Run != "r" || h.Epoch() != 1 {
						t.Errorf("%+v, %v", r, err)
					}
				})
			})
		}
	}
}

// A renewal that was given up may land at any later moment; it must neither
// be taken for somebody else's nor bring back what was changed since.
func TestLeaseLateWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &lateStore{BlobStore: providertest.NewMemory()}
		h, err := openLease(t, s, "a").TryAcquire(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		s.delay = time.Second
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		if err := h.SetActive(ctx, "east"); err == nil {
			t.Fatal("write that was given up succeeds")
		}
		s.delay = 0
		time.Sleep(2 * time.Second) // it lands
		if err := h.SetActive(t.Context(), "west"); err != nil {
			t.Fatal(err)
		}
		if r, err := ReadLease(t.Context(), s, "", "shop"); err != nil || r.Active.Site != "west" {
			t.Errorf("%+v, %v", r, err)
		}
	})
}

// lateStore answers conditional writes with an error and carries them out
// later, while delay is set.
type lateStore struct {
	provider.BlobStore
	delay time.Duration
}

func (s *lateStore) Put(ctx context.Context, key string, b provider.Body, o provider.PutOptions) (provider.Info, error) {
	if s.delay > 0 {
		d := s.delay
		s.delay = 0
		time.AfterFunc(d, func() { s.BlobStore.Put(context.WithoutCancel(ctx), key, b, o) })
		<-ctx.Done()
		return provider.Info{}, ctx.Err()
	}
	return s.BlobStore.Put(ctx, key, b, o)
}

func TestCheckStore(t *testing.T) {
	m := providertest.NewMemory()
	if err := CheckStore(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	for info, err := range m.List(t.Context(), "", provider.ListOptions{}) {
		t.Errorf("left behind: %s %v", info.Key, err)
	}
	for _, ignore := range []string{"IfAbsent", "IfMatch", "both"} {
		err := CheckStore(t.Context(), ignorant{providertest.NewMemory(), ignore})
		if !errors.Is(err, ErrUnconditional) {
			t.Errorf("a store that ignores %s: %v", ignore, err)
		}
		if _, err := OpenLease(t.Context(), LeaseConfig{Store: ignorant{m, ignore}, Service: "shop", Holder: "a"}); !errors.Is(err, ErrUnconditional) {
			t.Errorf("OpenLease on a store that ignores %s: %v", ignore, err)
		}
	}
}

type ignorant struct {
	provider.BlobStore
	what string
}

func (s ignorant) Put(ctx context.Context, key string, b provider.Body, o provider.PutOptions) (provider.Info, error) {
	if s.what != "IfMatch" {
		o.IfAbsent = false
	}
	if s.what != "IfAbsent" {
		o.IfMatch = ""
	}
	return s.BlobStore.Put(ctx, key, b, o)
}

func TestLeaseConfigComplaints(t *testing.T) {
	_, err := OpenLease(t.Context(), LeaseConfig{Service: "Shop", TTL: -1})
	for _, want := range []string{"Store", "Service", "Holder", "TTL"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("no complaint about %s in: %v", want, err)
		}
	}
}

// race acquires and releases n times and reports the epochs it held. Whoever
// finds the lease held asks again soon: nobody here keeps it for long.
func race(ctx context.Context, l *Lease, n int, report func(uint64)) error {
	for n > 0 {
		h, err := l.TryAcquire(ctx)
		if errors.Is(err, ErrHeld) && ctx.Err() == nil {
			time.Sleep(time.Millisecond)
			continue
		}
		if err != nil {
			return err
		}
		report(h.Epoch())
		if err := h.Release(ctx); err != nil {
			return err
		}
		n--
	}
	return nil
}

// oneEach checks that every epoch from 1 on had exactly one holder.
func oneEach(t *testing.T, epochs []uint64, want int) {
	t.Helper()
	slices.Sort(epochs)
	if len(epochs) != want {
		t.Fatalf("%d acquisitions, want %d", len(epochs), want)
	}
	for i, e := range epochs {
		if e != uint64(i+1) {
			t.Fatalf("epochs %v: not one holder each", epochs)
		}
	}
}

func TestLeaseRaceGoroutines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := providertest.NewMemory()
		var (
			mu     sync.Mutex
			epochs []uint64
			wg     sync.WaitGroup
		)
		for i := range 16 {
			l := openLease(t, s, fmt.Sprint(i))
			wg.Go(func() {
				last := uint64(0)
				err := race(t.Context(), l, 10, func(e uint64) {
					mu.Lock()
					defer mu.Unlock()
					if e <= last {
						t.Errorf("epoch %d after %d", e, last)
					}
					last = e
					epochs = append(epochs, e)
				})
				if err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		oneEach(t, epochs, 160)
	})
}

const childDir = "HOLDFAST_TEST_LEASE_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		if err := leaseChild(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

func leaseChild(dir string) error {
	s, err := local.NewBlobStore(local.Config{Dir: dir, Create: true})
	if err != nil {
		return err
	}
	defer s.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	l, err := OpenLease(ctx, LeaseConfig{Store: s, Service: "shop", Holder: fmt.Sprint(os.Getpid()), TTL: time.Minute})
	if err != nil {
		return err
	}
	fmt.Println("ready")
	io.Copy(io.Discard, os.Stdin) // until all are
	out := json.NewEncoder(os.Stdout)
	return race(ctx, l, 8, func(e uint64) { out.Encode(e) })
}

// Real processes race for a lease in a real directory.
func TestLeaseRaceProcesses(t *testing.T) {
	const processes = 4
	dir := t.TempDir()
	var epochs []uint64
	type child struct {
		cmd *exec.Cmd
		in  io.WriteCloser
		out *bufio.Scanner
	}
	var children []child
	for range processes {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), childDir+"="+dir)
		cmd.Stderr = os.Stderr
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		c := child{cmd, in, bufio.NewScanner(out)}
		if !c.out.Scan() || c.out.Text() != "ready" {
			t.Fatalf("child says %q", c.out.Text())
		}
		children = append(children, c)
	}
	for _, c := range children {
		c.in.Close() // go
	}
	for _, c := range children {
		last := uint64(0)
		for c.out.Scan() {
			var e uint64
			if err := json.Unmarshal(c.out.Bytes(), &e); err != nil {
				t.Fatal(err)
			}
			if e <= last {
				t.Errorf("epoch %d after %d", e, last)
			}
			last = e
			epochs = append(epochs, e)
		}
		if err := c.cmd.Wait(); err != nil {
			t.Error(err)
		}
	}
	oneEach(t, epochs, processes*8)
}
