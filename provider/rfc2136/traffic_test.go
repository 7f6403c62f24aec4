package rfc2136_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-go/holdfast/failover"
	"github.com/holdfast-go/holdfast/internal/testenv"
	"github.com/holdfast-go/holdfast/provider"
)

// The whole switch of traffic on BIND: the address and the owner mark change
// in one swap, an older epoch and a foreign hand are refused, a lost reply is
// resolved, and the step waits until primary and secondary serve it.
func TestTraffic(t *testing.T) {
	for _, zone := range []string{"plain.test.", "signed.test.", "inline.test."} {
		t.Run(zone, func(t *testing.T) {
			s := testenv.BIND(t)
			z, n := through(t, bind(t, zone), time.Second)
			www := fresh(zone)
			swap(t, z, nil, set(www, "A", time.Minute, "192.0.2.1"))
			traffic, err := failover.NewTraffic(failover.TrafficConfig{
				DNS: z, Owner: "shop", Name: www, Servers: []string{s.Endpoint, s.Secondary},
				Sites: map[string][]string{"east": {"192.0.2.1"}, "west": {"198.51.100.8", "198.51.100.7"}},
			})
			if err != nil {
				t.Fatal(err)
			}
			call := func(epoch uint64) failover.Call {
				return failover.Call{Run: "r", Plan: "sha256:00", Kind: failover.Failover, Service: "shop", From: "east", To: "west", Step: "traffic", Attempt: 1, Epoch: epoch}
			}
			if o, err := traffic.Observe(t.Context(), call(7)); err != nil || o.Done {
				t.Fatalf("before: %+v, %v", o, err)
			}
			n.fates(nil, map[int]fate{1: lose}) // its reply is lost
			ev, err := traffic.Do(t.Context(), call(7))
			if err != nil {
				t.Fatal(err)
			}
			for _, server := range []string{s.Endpoint, s.Secondary} {
				if !strings.HasPrefix(ev["ns "+server], "198.51.100.7 198.51.100.8") {
					t.Errorf("evidence %v", ev)
				}
			}
			if got := get(t, z, "_holdfast."+www, "TXT"); got != "1m0s v=1 owner=shop epoch=7 active=west plan=sha256:00" {
				t.Errorf("mark %s", got)
			}
			if o, err := traffic.Observe(t.Context(), call(7)); err != nil || !o.Done {
				t.Errorf("after: %+v, %v", o, err)
			}
			if _, err := traffic.Do(t.Context(), call(6)); !errors.Is(err, failover.ErrDeposed) {
				t.Errorf("an older epoch: %v", err)
			}
			if _, err := traffic.Undo(t.Context(), call(8)); err != nil || get(t, z, www, "A") != "1m0s 192.0.2.1" {
				t.Errorf("undo: %v", err)
			}
			now, err := z.Get(t.Context(), www, "A")
			if err != nil {
				t.Fatal(err)
			}
			if _, err := z.Swap(t.Context(), provider.Change{Old: &now, New: set(www, "A", time.Minute, "203.0.113.9")}); err != nil {
				t.Fatal(err)
			}
			if _, err := traffic.Do(t.Context(), call(9)); !errors.Is(err, failover.ErrForeign) || !errors.Is(err, failover.ErrNoEffect) {
				t.Errorf("changed by hand: %v", err)
			}
		})
	}
}
