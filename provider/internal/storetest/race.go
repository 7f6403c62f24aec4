package storetest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/holdfast-go/holdfast/internal/testenv/peer"
	"github.com/holdfast-go/holdfast/provider"
)

const (
	racersHere     = 32 // goroutines in the test itself
	racerProcesses = 4
	racersEach     = 8 // goroutines in each process

	countersEach = 2 // goroutines in each process that count
)

// A Place opens a store of the tests in any process: At is all that another
// process must know.
type Place struct {
	At   string
	Open func(t testing.TB, at string) provider.BlobStore
}

func (p Place) open(t testing.TB) provider.BlobStore { return p.Open(t, p.At) }

// Race lets 32 goroutines, and then 4 processes with 8 goroutines each, race
// for one key by IfAbsent and by IfMatch, round after round: each has exactly
// one winner, the others get ErrConflict, and what the store then holds is the
// winner's. Then the processes count in one object, each as fast as it can: every
// number is written once. The package that calls it needs a test of the name TestRacer, which
// calls [Racer].
func Race(t *testing.T, p Place) {
	t.Helper()
	rounds := 5
	if os.Getenv("HOLDFAST_LONG") != "" {
		rounds = 15
	}
	store := p.open(t)
	t.Run("32 goroutines", func(t *testing.T) {
		err := rally(t.Context(), store, rounds, func(c contest) ([]win, error) { return c.run(t.Context(), store, 0, racersHere) })
		if err != nil {
			t.Error(err)
		}
	})
	t.Run("4 processes", func(t *testing.T) {
		var racers []*peer.Process
		for i := range racerProcesses {
			racers = append(racers, peer.Start(t, "TestRacer", racer{p.At, i * racersEach}))
		}
		winners := map[int]int{}
		ask := func(c contest) (won []win, err error) {
			for _, r := range racers {
				if err := r.Ask(c); err != nil {
					return nil, err
				}
			}
			for i, r := range racers {
				var more []win
				if err := r.Answer(&more); err != nil {
					return nil, err
				}
				winners[i] += len(more)
				won = append(won, more...)
			}
			return won, nil
		}
		err := rally(t.Context(), store, rounds, ask)
		if err != nil {
			t.Error(err)
		}
		if err := counted(t.Context(), store, racerProcesses*countersEach*rounds, contest{Count: rounds}, ask); err != nil {
			t.Error(err)
		}
		t.Logf("rounds won by each process: %v", winners)
	})
}

// Racer is the whole of the test named TestRacer: one of the processes of
// [Race].
func Racer(t *testing.T, open func(t testing.TB, at string) provider.BlobStore) {
	peer.Serve(t, func(me racer) func(contest) ([]win, error) {
		store := open(t, me.At)
		return func(c contest) ([]win, error) {
			if c.Count > 0 {
				return c.count(t.Context(), store, countersEach)
			}
			return c.run(t.Context(), store, me.First, racersEach)
		}
	})
}

type racer struct {
	At    string
	First int // number of the first of its goroutines
}

// A contest is what racers are told: to put an object of their own under one
// key and one condition.
type contest struct {
	Key, Round string
	IfMatch    provider.Version // empty: IfAbsent
	Count      int              // not zero: count so often, instead
}

// A win is a Put that succeeded.
type win struct {
	Body    string
	Version provider.Version
}

// run lets the racers n to n+count put at once. To lose is to get ErrConflict.
func (c contest) run(ctx context.Context, store provider.BlobStore, n, count int) (won []win, err error) {
	var (
		mu    sync.Mutex
		wg    sync.WaitGroup
		errs  []error
		start = make(chan struct{})
	)
	for i := n; i < n+count; i++ {
		wg.Go(func() {
			body := fmt.Sprintf("%s, racer %d", c.Round, i)
			<-start
			info, err := store.Put(ctx, c.Key, strings.NewReader(body), provider.PutOptions{IfAbsent: c.IfMatch == "", IfMatch: c.IfMatch})
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				won = append(won, win{body, info.Version})
			case !errors.Is(err, provider.ErrConflict):
				errs = append(errs, fmt.Errorf("racer %d of %s lost by another error than ErrConflict: %w", i, c.Round, err))
			}
		})
	}
	close(start)
	wg.Wait()
	return won, errors.Join(errs...)
}

// rally judges contests that race runs: each creates an object, which the next
// one replaces.
func rally(ctx context.Context, store provider.BlobStore, rounds int, race func(contest) ([]win, error)) error {
	series := "race/" + strings.ToLower(rand.Text()) + "/"
	for round := range rounds {
		c := contest{Key: fmt.Sprint(series, round)}
		for _, c.Round = range []string{"IfAbsent", "IfMatch", "IfMatch again"} {
			c.Round = fmt.Sprintf("round %d, %s", round, c.Round)
			won, err := race(c)
			if err != nil {
				return err
			}
			if len(won) != 1 {
				return fmt.Errorf("%s: %d have won: %v", c.Round, len(won), won)
			}
			b, info, err := provider.ReadAll(ctx, store, c.Key, 1000)
			if err != nil {
				return fmt.Errorf("%s: %w", c.Round, err)
			}
			if string(b) != won[0].Body || info.Version != won[0].Version {
				return fmt.Errorf("%s: the store holds %q, version %s; won has %v", c.Round, b, info.Version, won[0])
			}
			c.IfMatch = info.Version
		}
	}
	return nil
}

// count lets racers add one to the number in an object, each so often.
func (c contest) count(ctx context.Context, store provider.BlobStore, racers int) ([]win, error) {
	var (
		mu  sync.Mutex
		won []win
		g   errgroup.Group
	)
	for range racers {
		g.Go(func() error {
			for done := 0; done < c.Count; {
				b, info, err := provider.ReadAll(ctx, store, c.Key, 100)
				if err != nil {
					return err
				}
				n, err := strconv.Atoi(string(b))
				if err != nil {
					return err
				}
				next := strconv.Itoa(n + 1)
				switch info, err := store.Put(ctx, c.Key, strings.NewReader(next), provider.PutOptions{IfMatch: info.Version}); {
				case err == nil:
					mu.Lock()
					won = append(won, win{next, info.Version})
					mu.Unlock()
					done++
				case !errors.Is(err, provider.ErrConflict):
					return err
				}
			}
			return nil
		})
	}
	return won, g.Wait()
}

// counted judges a contest in which all count to a total: each number has been
// written once.
func counted(ctx context.Context, store provider.BlobStore, total int, c contest, race func(contest) ([]win, error)) error {
	c.Key = "count/" + strings.ToLower(rand.Text())
	if _, err := store.Put(ctx, c.Key, strings.NewReader("0"), provider.PutOptions{IfAbsent: true}); err != nil {
		return err
	}
	won, err := race(c)
	if err != nil {
		return fmt.Errorf("count: %w", err)
	}
	times := map[string]int{}
	for _, w := range won {
		times[w.Body]++
	}
	for n := 1; n <= total; n++ {
		if got := times[strconv.Itoa(n)]; got != 1 {
			return fmt.Errorf("count: %d was written %d times", n, got)
		}
	}
	if b, _, err := provider.ReadAll(ctx, store, c.Key, 100); err != nil || string(b) != strconv.Itoa(total) {
		return fmt.Errorf("count: the store holds %q, %v, after %d", b, err, total)
	}
	return nil
}
