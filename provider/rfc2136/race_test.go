package rfc2136_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdfast-go/holdfast/internal/testenv/peer"
	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/rfc2136"
)

// A contest is what racers are told: to swap From for a state of their own.
// Each process is given one to a line and answers with those that won.
type contest struct {
	Round   int
	From    *provider.RecordSet
	TTLOnly bool // the states differ in their TTL alone
}

const (
	racerProcesses = 4
	racersEach     = 8  // in each process
	racersHere     = 32 // in the test itself
)

// state is the one that a racer wants to make; no two want the same.
func (c contest) state(racer int) *provider.RecordSet {
	to := *c.From
	if c.TTLOnly {
		to.TTL = time.Duration(100+1000*c.Round+racer) * time.Second
		return &to
	}
	to.Values = []string{fmt.Sprintf("round %d racer %d", c.Round, racer)}
	return &to
}

// race lets racers n to n+count run, and returns the states of those that
// won. To lose is to get ErrConflict.
func race(z *rfc2136.Zone, c contest, n, count int) (won []*provider.RecordSet, err error) {
	var (
		mu   sync.Mutex
		wg   sync.WaitGroup
		errs []error
	)
	for i := n; i < n+count; i++ {
		wg.Go(func() {
			to := c.state(i)
			_, err := z.Swap(context.Background(), provider.Change{Old: c.From, New: to})
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				won = append(won, to)
			case !errors.Is(err, provider.ErrConflict):
				errs = append(errs, err)
			}
		})
	}
	wg.Wait()
	return won, errors.Join(errs...)
}

type racer struct {
	First  int
	Config rfc2136.Config
}

// TestRacer is not a test: it is one of the processes of TestRace.
func TestRacer(t *testing.T) {
	peer.Serve(t, func(me racer) func(contest) ([]*provider.RecordSet, error) {
		z := open(t, me.Config)
		return func(c contest) ([]*provider.RecordSet, error) { return race(z, c, me.First, racersEach) }
	})
}

// 32 goroutines and 4 processes with 8 more each race for one record set of a
// real BIND, round after round, for its values and for its TTL alone: each
// round has exactly one winner, and what the zone then holds is the winner's.
func TestRace(t *testing.T) {
	c := bind(t, "plain.test.")
	z := open(t, c)
	rounds := 12
	if os.Getenv("HOLDFAST_LONG") != "" {
		rounds = 200
	}
	var racers []*peer.Process
	for i := range racerProcesses {
		racers = append(racers, peer.Start(t, "TestRacer", racer{racersHere + i*racersEach, c}))
	}
	now := set(fresh(c.Zone), "TXT", time.Minute, "start")
	swap(t, z, nil, now)
	var elsewhere atomic.Int32
	for round := range rounds {
		match := contest{Round: round, From: now, TTLOnly: round%3 == 2}
		for _, r := range racers {
			if err := r.Ask(match); err != nil {
				t.Fatal(err)
			}
		}
		won, err := race(z, match, 0, racersHere)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range racers {
			var more []*provider.RecordSet
			if err := r.Answer(&more); err != nil {
				t.Fatal(err)
			}
			elsewhere.Add(int32(len(more)))
			won = append(won, more...)
		}
		if len(won) != 1 {
			t.Fatalf("round %d (TTL only: %v): %d winners", round, match.TTLOnly, len(won))
		}
		now = won[0]
		if got, want := get(t, z, now.Name, now.Type), now.TTL.String()+" "+now.Values[0]; got != want {
			t.Fatalf("round %d: the zone holds %s, won has %s", round, got, want)
		}
	}
	t.Logf("%d rounds, %d won by another process", rounds, elsewhere.Load())
}
