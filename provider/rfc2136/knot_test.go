package rfc2136_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-go/holdfast/internal/testenv"
	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/providertest"
	"github.com/holdfast-go/holdfast/provider/rfc2136"
)

func knot(t testing.TB, zone string) rfc2136.Config {
	t.Helper()
	s := testenv.Knot(t)
	return rfc2136.Config{Zone: zone, Servers: []string{s.Endpoint}, KeyName: s.KeyName, Secret: s.Secret, Secondaries: []string{}}
}

// The contract on Knot, but for what the package comment says it does not keep.
func TestContractKnot(t *testing.T) {
	for zone, breaks := range map[string][]string{
		"plain.test.":  {"dns/ttl-race"},
		"signed.test.": {"dns/ttl-race", "dns/zone-cname"},
	} {
		t.Run(zone, func(t *testing.T) {
			c := knot(t, zone)
			var holds []string
			ended, cancel := context.WithCancel(context.Background())
			cancel() // all are skipped, and named
			for _, r := range providertest.CheckDNS(ended, open(t, c), providertest.DNSOptions{Zone: zone}).Results {
				if !slices.Contains(breaks, r.ID) {
					holds = append(holds, r.ID)
				}
			}
			contract(t, c, holds...)
		})
	}
}

// Where Knot leaves out a part of an update, the swap is no success.
func TestKnotLeavesOutCNAME(t *testing.T) {
	z := open(t, knot(t, "signed.test."))
	x := fresh("signed.test.")
	a, cname := set(x, "A", time.Minute, "192.0.2.1"), set(x, "CNAME", time.Minute, "target.example.")
	swap(t, z, nil, a)
	_, err := z.Swap(t.Context(), provider.Change{Old: a}, provider.Change{New: cname})
	if (err == nil) != (get(t, z, x, "CNAME") == "1m0s target.example.") {
		t.Errorf("%v, and the zone has %s", err, get(t, z, x, "CNAME"))
	}
	if err == nil || errors.Is(err, provider.ErrConflict) || !strings.Contains(err.Error(), "outcome unknown") {
		t.Errorf("%v; correct the package comment if Knot does it now", err)
	}
}

// Of swaps that Knot carries out at one serial, and that change the TTL alone,
// at most one says that it was made.
func TestKnotRaceForTTL(t *testing.T) {
	c := knot(t, "plain.test.")
	z := open(t, c)
	now := set(fresh(c.Zone), "A", time.Minute, "192.0.2.1")
	swap(t, z, nil, now)
	for round := range 5 {
		const racers = 8
		won := make(chan *provider.RecordSet, racers)
		done := make(chan error, racers)
		for i := range racers {
			to := *now
			to.TTL = time.Duration(100*(round+1)+i) * time.Second
			go func() {
				_, err := z.Swap(t.Context(), provider.Change{Old: now, New: &to})
				if err == nil {
					won <- &to
				}
				done <- err
			}()
		}
		for range racers {
			if err := <-done; err != nil && !errors.Is(err, provider.ErrConflict) && !strings.Contains(err.Error(), "outcome unknown") {
				t.Error(err)
			}
		}
		if len(won) > 1 {
			t.Errorf("round %d: %d say that they have won", round, len(won))
		}
		rs, err := z.Get(t.Context(), now.Name, now.Type)
		if err != nil {
			t.Fatal(err)
		}
		if len(won) == 1 && (<-won).TTL != rs.TTL {
			t.Errorf("round %d: another has won", round)
		}
		now = &rs
	}
}
