package clouddns_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/gcp/clouddns"
	"github.com/holdfast-go/holdfast/provider/gcp/internal/fakegcp"
	"github.com/holdfast-go/holdfast/provider/providertest"
)

const shop = "shop.example.com."

// failoverSet is a record set with a failover policy as Google returns one.
func failoverSet(trickle float64) map[string]any {
	policy := map[string]any{
		"kind": "dns#rRSetRoutingPolicyPrimaryBackupPolicy", "primaryTargets": map[string]any{"externalEndpoints": []any{"192.0.2.1"}},
		"backupGeoTargets": map[string]any{"kind": "dns#rRSetRoutingPolicyGeoPolicy", "items": []any{
			map[string]any{"kind": "dns#rRSetRoutingPolicyGeoPolicyGeoPolicyItem", "location": "us-east1", "healthCheckedTargets": map[string]any{"externalEndpoints": []any{"192.0.2.2"}}}}},
	}
	if trickle != 0 {
		policy["trickleTraffic"] = trickle
	}
	return map[string]any{"name": shop, "type": "A", "ttl": 30.0, "routingPolicy": map[string]any{
		"kind": "dns#rRSetRoutingPolicy", "healthCheck": "https://www.googleapis.com/compute/v1/projects/p/global/healthChecks/shop", "primaryBackup": policy}}
}

func newPolicies(t *testing.T) *fakegcp.DNS {
	s := newService(t)
	s.Put("example", failoverSet(0))
	s.Put("example", map[string]any{"name": shop, "type": "TXT", "ttl": 300.0, "rrdatas": []any{`"v=spf1 -all"`}})
	return s
}

func openPolicy(t *testing.T, s *fakegcp.DNS) *clouddns.Policy {
	t.Helper()
	p, err := open(t, s, nil).Policy(clouddns.PolicyConfig{Name: shop, Primary: "west", Backup: "east"})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func traffic(epoch uint64, sites ...string) provider.TrafficState {
	s := provider.TrafficState{Sites: sites}
	if epoch > 0 {
		s.Mark = provider.TrafficMark{Owner: "shop", Epoch: epoch}
	}
	return s
}

func TestPolicyTrafficSwitch(t *testing.T) {
	t.Parallel()
	s := newPolicies(t)
	before, text := s.Holds("example", shop, "A"), s.Holds("example", shop, "TXT")
	providertest.TestTrafficSwitch(t, func(t *testing.T) provider.TrafficSwitch { return openPolicy(t, s) }, providertest.TrafficOptions{
		Second: func() (provider.TrafficSwitch, error) { return openPolicy(t, s), nil },
	})
	kinds := regexp.MustCompile(`kind:[^ \]]*| `) // which the service adds
	plain := func(set map[string]any) string { return kinds.ReplaceAllString(fmt.Sprint(set), "") }
	if plain(s.Holds("example", shop, "A")) != plain(before) || !reflect.DeepEqual(s.Holds("example", shop, "TXT"), text) || s.Holds("example", "_holdfast."+shop, "TXT") != nil {
		t.Errorf("something is left: %v", s.Holds("example", shop, "A"))
	}
}

// The same suite on a policy of yours: HOLDFAST_GCP_POLICY is the name of a
// record set of type A with a failover policy.
func TestGCPPolicy(t *testing.T) {
	name := os.Getenv("HOLDFAST_GCP_POLICY")
	if name == "" {
		t.Skip("HOLDFAST_GCP_POLICY names no record set")
	}
	open := func() (provider.TrafficSwitch, error) {
		z, err := clouddns.Open(t.Context(), clouddns.Config{Project: os.Getenv("HOLDFAST_GCP_PROJECT")})
		if err != nil {
			return nil, err
		}
		return z.Policy(clouddns.PolicyConfig{Name: name, Primary: "primary", Backup: "backup"})
	}
	providertest.TestTrafficSwitch(t, func(t *testing.T) provider.TrafficSwitch {
		p, err := open()
		if err != nil {
			t.Fatal(err)
		}
		return p
	}, providertest.TrafficOptions{Second: open})
}

// The Change of a switch, to the letter: exactly what is there goes, and comes
// back with another trickle, and the mark with it.
func TestPolicyRequest(t *testing.T) {
	s := newPolicies(t)
	p := openPolicy(t, s)
	if err := errors.Join(p.Switch(t.Context(), traffic(0, "west"), traffic(7, "east")), p.Switch(t.Context(), traffic(7, "east"), traffic(8, "west"))); err != nil {
		t.Fatal(err)
	}
	set := func(trickle string) string {
		return `{"name":"` + shop + `","routingPolicy":{"healthCheck":"https://www.googleapis.com/compute/v1/projects/p/global/healthChecks/shop",` +
			`"primaryBackup":{"backupGeoTargets":{"items":[{"healthCheckedTargets":{"externalEndpoints":["192.0.2.2"]},"location":"us-east1"}]},` +
			`"primaryTargets":{"externalEndpoints":["192.0.2.1"]}` + trickle + `}},"ttl":30,"type":"A"}`
	}
	mark := func(epoch string) string {
		return `{"name":"_holdfast.` + shop + `","rrdatas":["\"v=1 owner=shop epoch=` + epoch + `\""],"ttl":60,"type":"TXT"}`
	}
	want := []string{
		`{"additions":[` + set(`,"trickleTraffic":1`) + `,` + mark("7") + `],"deletions":[` + set("") + `]}`,
		`{"additions":[` + set("") + `,` + mark("8") + `],"deletions":[` + set(`,"trickleTraffic":1`) + `,` + mark("7") + `]}`,
	}
	for i, r := range s.Seen(create) {
		if got := strings.TrimSpace(string(r.Content)); i > 1 || got != want[i] {
			t.Errorf("%d: sent\n%s\nwant\n%s", i, got, want[min(i, 1)])
		}
	}
	if n := len(s.Seen(create)); n != 2 {
		t.Errorf("%d Changes", n)
	}
	if traits := p.Traits(); !traits.Compared || !traits.Marked || traits.Endpoints[0].DataPlane {
		t.Errorf("%+v", traits)
	}
}

// A TTL of 0 is one: a deletion without it would be of another record set.
func TestPolicyTTLZero(t *testing.T) {
	s := newPolicies(t)
	set := failoverSet(0)
	set["ttl"] = 0.0
	s.Put("example", set)
	if err := openPolicy(t, s).Switch(t.Context(), traffic(0, "west"), traffic(7, "east")); err != nil {
		t.Error(err)
	}
	if held := s.Holds("example", shop, "A"); held["ttl"] != 0.0 {
		t.Errorf("it has become %v", held)
	}
}

// What is no state is an error, and nothing is written.
func TestPolicyNoState(t *testing.T) {
	s := newPolicies(t)
	p := openPolicy(t, s)
	geo := failoverSet(0)
	geo["routingPolicy"] = map[string]any{"geo": map[string]any{"items": []any{map[string]any{"location": "us-east1", "rrdatas": []any{"192.0.2.1"}}}}}
	text := func(v string) map[string]any {
		return map[string]any{"name": "_holdfast." + shop, "type": "TXT", "ttl": 60.0, "rrdatas": []any{v}}
	}
	for want, sets := range map[string][]map[string]any{
		"trickle of 0.1": {failoverSet(0.1)},
		"no failover":    {geo},
		"no mark":        {failoverSet(0), text(`"heritage=external-dns"`)},
		"which is no ma": {failoverSet(0), text(`"v=1 owner=shop epoch=07"`)},
		"of a switch":    {failoverSet(0), text(`"v=1 owner=shop epoch=7 active=east plan=x"`)},
	} {
		s.Put("example", failoverSet(0))
		for _, set := range sets {
			s.Put("example", maps.Clone(set))
		}
		if _, err := p.State(t.Context()); err == nil || errors.Is(err, provider.ErrNotFound) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
		if err := p.Switch(t.Context(), traffic(0, "west"), traffic(7, "east")); err == nil || errors.Is(err, provider.ErrConflict) {
			t.Errorf("%s: %v", want, err)
		}
	}
	gone, err := open(t, s, nil).Policy(clouddns.PolicyConfig{Name: "gone.example.com.", Primary: "a", Backup: "b"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := gone.State(t.Context()); err == nil || errors.Is(err, provider.ErrNotFound) {
		t.Errorf("%v", err)
	}
	if n := len(s.Seen(create)); n != 0 {
		t.Errorf("%d Changes", n)
	}
}

// A lost reply is resolved by reading, also when the Change was sent again and
// refused because it was made.
func TestPolicyLostReply(t *testing.T) {
	t.Parallel()
	s := newPolicies(t)
	p, other := openPolicy(t, s), openPolicy(t, s)
	for i, times := range []int32{1, 3} {
		from, to := traffic(0, "west"), traffic(7, "east")
		if i > 0 {
			from, to = traffic(7, "east"), traffic(8, "west")
		}
		s.Clear()
		lost, done := fakegcp.First(times, create, fakegcp.Lost)
		s.Add(lost)
		if err := p.Switch(t.Context(), from, to); err != nil || done.Load() != times {
			t.Errorf("%d lost: %v", done.Load(), err)
		}
	}
	s.Clear()
	cut, _ := fakegcp.First(3, create, fakegcp.Cut)
	s.Add(cut)
	if err := p.Switch(t.Context(), traffic(8, "west"), traffic(9, "east")); err != nil {
		t.Errorf("not made, seen, and made then: %v", err)
	}
	// Lost, and moved on by a greater epoch.
	s.Clear()
	lost, _ := fakegcp.First(1, create, func(r *fakegcp.Request, next func() (*http.Response, error)) (*http.Response, error) {
		resp, err := fakegcp.Lost(r, next)
		if err := other.Switch(t.Context(), traffic(10, "west"), traffic(11, "east")); err != nil {
			t.Error(err)
		}
		return resp, err
	})
	s.Add(lost)
	isUnknown(t, p.Switch(t.Context(), traffic(9, "east"), traffic(10, "west")))
	if now, err := p.State(t.Context()); err != nil || now.Mark.Epoch != 11 {
		t.Errorf("%+v, %v", now, err)
	}
}

// The zone changes between the look and the Change: Cloud DNS itself refuses.
func TestPolicyChangedInBetween(t *testing.T) {
	t.Parallel()
	s := newPolicies(t)
	p, other := openPolicy(t, s), openPolicy(t, s)
	first, done := fakegcp.First(1, create, func(_ *fakegcp.Request, next func() (*http.Response, error)) (*http.Response, error) {
		if err := other.Switch(t.Context(), traffic(0, "west"), traffic(9, "east")); err != nil {
			t.Error(err)
		}
		return next()
	})
	s.Add(first)
	if err := p.Switch(t.Context(), traffic(0, "west"), traffic(7, "east")); !errors.Is(err, provider.ErrConflict) || done.Load() != 1 {
		t.Errorf("%v", err)
	}
	// The policy is edited, and the state is the same: gone on with, edit kept.
	s.Clear()
	first, _ = fakegcp.First(1, create, func(_ *fakegcp.Request, next func() (*http.Response, error)) (*http.Response, error) {
		edited := failoverSet(1)
		edited["ttl"] = 60.0
		s.Put("example", edited)
		return next()
	})
	s.Add(first)
	if err := p.Switch(t.Context(), traffic(9, "east"), traffic(10, "west")); err != nil || s.Holds("example", shop, "A")["ttl"] != 60.0 {
		t.Errorf("%v", err)
	}
	// Refused for a reason that nobody sees in the zone.
	s.Clear()
	s.Add(func(r *fakegcp.Request, next func() (*http.Response, error)) (*http.Response, error) {
		if strings.Contains(r.URL.Path, "/changes") {
			return fakegcp.Refuses(fakegcp.Fault{Code: http.StatusPreconditionFailed, Reason: "conditionNotMet", Message: "in words nobody has seen"})(r, next)
		}
		return next()
	})
	if err := p.Switch(t.Context(), traffic(10, "west"), traffic(11, "east")); !errors.Is(err, provider.ErrRefused) || !strings.Contains(err.Error(), "nobody has seen") {
		t.Errorf("%v", err)
	}
}

func TestPolicyRefusals(t *testing.T) {
	t.Parallel()
	s := newPolicies(t)
	p := openPolicy(t, s)
	err := p.Switch(t.Context(), traffic(0, "west"), traffic(7))
	if !errors.Is(err, provider.ErrRefused) || errors.Is(err, provider.ErrConflict) || len(s.Seen(create)) != 0 {
		t.Errorf("%v", err)
	}
	busy, done := fakegcp.First(1, create, fakegcp.Refuses(fakegcp.Fault{Code: http.StatusTooManyRequests, Reason: "rateLimitExceeded"}))
	s.Add(busy)
	if err := p.Switch(t.Context(), traffic(0, "west"), traffic(7, "east")); err != nil || done.Load() != 1 {
		t.Errorf("throttled: %v", err)
	}
	s.Clear()
	hole, _ := fakegcp.First(9, create, fakegcp.Hole)
	s.Add(hole)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	err = p.Switch(ctx, traffic(7, "east"), traffic(8, "west"))
	isUnknown(t, err)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
	s.Clear()
	s.Add(fakegcp.Refuses(fakegcp.Fault{Code: http.StatusForbidden, Reason: "forbidden"}))
	_, stateErr := p.State(t.Context())
	if err := p.Switch(t.Context(), traffic(7, "east"), traffic(8, "west")); !errors.Is(err, fs.ErrPermission) || !errors.Is(stateErr, fs.ErrPermission) {
		t.Errorf("%v, %v", err, stateErr)
	}
	for want, c := range map[string]clouddns.PolicyConfig{
		"Name":         {Name: "shop", Primary: "a", Backup: "b"},
		"Type":         {Name: shop, Type: "CNAME", Primary: "a", Backup: "b"},
		"there twice":  {Name: shop, Primary: "a", Backup: "a"},
		"no name of a": {Name: shop, Primary: "a"},
	} {
		if _, err := open(t, s, nil).Policy(c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
	if !slices.Equal(p.Traits().Sites, []string{"east", "west"}) {
		t.Error(fmt.Sprint(p.Traits()))
	}
}
