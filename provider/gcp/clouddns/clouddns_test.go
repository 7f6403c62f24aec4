package clouddns_test

import (
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/gcp/clouddns"
	"github.com/holdfast-go/holdfast/provider/gcp/internal/fakegcp"
	"github.com/holdfast-go/holdfast/provider/providertest"
)

const create = "dns.changes.create"

func newService(t *testing.T) *fakegcp.DNS {
	s := fakegcp.NewDNS(t)
	s.Zone("example", "example.com.", "public", nil)
	s.Zone("inner", "inner.example.com.", "public", nil)
	s.Zone("private", "example.com.", "private", nil)
	s.Zone("onprem", "onprem.example.com.", "private", map[string]any{"forwardingConfig": map[string]any{}})
	return s
}

func open(t *testing.T, s *fakegcp.DNS, change func(*clouddns.Config)) *clouddns.Zones {
	t.Helper()
	c := clouddns.Config{Endpoint: s.URL, Attempts: 3, Credentials: fakegcp.Token("p", func() string { return "token" })}
	if change != nil {
		change(&c)
	}
	z, err := clouddns.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return z
}

func TestDNSProvider(t *testing.T) {
	for name, change := range map[string]func(*clouddns.Config){"public": nil, "private": func(c *clouddns.Config) { c.Private = true }} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newService(t)
			providertest.TestDNSProvider(t, func(t *testing.T) provider.DNSProvider { return open(t, s, change) }, providertest.DNSOptions{
				Zone: "example.com.", Second: func() (provider.DNSProvider, error) { return open(t, s, change), nil },
			})
		})
	}
}

// The same suite in a zone of yours: HOLDFAST_GCP_ZONE is its domain name,
// HOLDFAST_GCP_PROJECT its project, if not that of the credentials.
func TestGCP(t *testing.T) {
	zone := os.Getenv("HOLDFAST_GCP_ZONE")
	if zone == "" {
		t.Skip("HOLDFAST_GCP_ZONE names no zone")
	}
	open := func() (provider.DNSProvider, error) {
		return clouddns.Open(t.Context(), clouddns.Config{Project: os.Getenv("HOLDFAST_GCP_PROJECT")})
	}
	providertest.TestDNSProvider(t, func(t *testing.T) provider.DNSProvider {
		z, err := open()
		if err != nil {
			t.Fatal(err)
		}
		return z
	}, providertest.DNSOptions{Zone: zone, Second: open})
}

func set(label, typ string, values ...string) *provider.RecordSet {
	return &provider.RecordSet{Name: label + ".example.com.", Type: typ, TTL: time.Minute, Values: values}
}

// must swaps one record set.
func must(t *testing.T, z *clouddns.Zones, from, to *provider.RecordSet) provider.ChangeRef {
	t.Helper()
	ref, err := z.Swap(t.Context(), provider.Change{Old: from, New: to})
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

// The request of a swap, byte by byte: what is deleted is what the zone holds,
// in its order and its quoting.
func TestRequest(t *testing.T) {
	s := newService(t)
	z := open(t, s, nil)
	s.Put("example", map[string]any{"name": "x.example.com.", "type": "A", "ttl": 60.0, "rrdatas": []any{"192.0.2.9", "192.0.2.10"}, "signatureRrdatas": []any{"A 8 2"}})
	s.Put("example", map[string]any{"name": "_holdfast.x.example.com.", "type": "TXT", "ttl": 60.0, "rrdatas": []any{`"owner=" "a"`}})
	s.Put("example", map[string]any{"name": "y.example.com.", "type": "A", "ttl": 0.0, "rrdatas": []any{"192.0.2.1"}})
	y := set("y", "A", "192.0.2.1")
	y.TTL = 0
	ref, err := z.Swap(t.Context(),
		provider.Change{Old: set("x", "A", "192.0.2.10", "192.0.2.9"), New: set("x", "A", "192.0.2.11")},
		provider.Change{Old: set("_holdfast.x", "TXT", "owner=a"), New: set("_holdfast.x", "TXT", `owner=b "c" \`)},
		provider.Change{Old: y, New: y})
	if err != nil || ref != "example/1" {
		t.Fatalf("%q, %v", ref, err)
	}
	sent := s.Seen(create)
	if len(sent) != 1 {
		t.Fatalf("%d requests", len(sent))
	}
	if got, want := sent[0].URL.RequestURI(), "/dns/v1/projects/p/managedZones/example/changes?alt=json&prettyPrint=false"; got != want {
		t.Errorf("sent to %s, want %s", got, want)
	}
	want := `{"additions":[` +
		`{"name":"x.example.com.","rrdatas":["192.0.2.11"],"ttl":60,"type":"A"},` +
		`{"name":"_holdfast.x.example.com.","rrdatas":["\"owner=b \\\"c\\\" \\\\\""],"ttl":60,"type":"TXT"},` +
		`{"name":"y.example.com.","rrdatas":["192.0.2.1"],"ttl":0,"type":"A"}],` +
		`"deletions":[` +
		`{"name":"x.example.com.","rrdatas":["192.0.2.9","192.0.2.10"],"ttl":60,"type":"A"},` +
		`{"name":"_holdfast.x.example.com.","rrdatas":["\"owner=\" \"a\""],"ttl":60,"type":"TXT"},` +
		`{"name":"y.example.com.","rrdatas":["192.0.2.1"],"ttl":0,"type":"A"}]}`
	if got := strings.TrimSpace(string(sent[0].Content)); got != want {
		t.Errorf("sent\n%s\nwant\n%s", got, want)
	}
}

// What has more to it than TTL and values is refused and stays as it is.
func TestRefused(t *testing.T) {
	s := newService(t)
	z := open(t, s, nil)
	policy := map[string]any{"wrr": map[string]any{"items": []any{map[string]any{"weight": 1.0, "rrdatas": []any{"192.0.2.1"}}}}}
	s.Put("example", map[string]any{"name": "x.example.com.", "type": "A", "ttl": 60.0, "routingPolicy": policy})
	s.Put("example", map[string]any{"name": "example.com.", "type": "ALIAS", "ttl": 60.0, "rrdatas": []any{"lb.example."}})
	x, apex := set("x", "A", "192.0.2.1"), &provider.RecordSet{Name: "example.com.", Type: "AAAA", TTL: time.Minute, Values: []string{"2001:db8::1"}}
	for _, rs := range []*provider.RecordSet{x, apex} {
		_, getErr := z.Get(t.Context(), rs.Name, rs.Type)
		for _, change := range []provider.Change{{Old: rs}, {New: rs}, {Old: rs, New: rs}} {
			_, swapErr := z.Swap(t.Context(), change)
			for _, err := range []error{getErr, swapErr} {
				if !errors.Is(err, errors.ErrUnsupported) || errors.Is(err, provider.ErrConflict) || errors.Is(err, provider.ErrNotFound) {
					t.Errorf("%s: %v", rs.Name, err)
				}
			}
		}
	}
	must(t, z, nil, set("x", "TXT", "beside it"))
	if held := s.Holds("example", "x.example.com.", "A"); held["routingPolicy"] == nil {
		t.Errorf("the routing policy is gone: %v", held)
	}
	if n := len(s.Seen(create)); n != 1 {
		t.Errorf("%d changes were sent, want 1", n)
	}
}

func TestCNAMEIsAlone(t *testing.T) {
	s := newService(t)
	z := open(t, s, nil)
	a, cname := set("alone", "A", "192.0.2.1"), set("alone", "CNAME", "other.example.com.")
	must(t, z, nil, a)
	n := len(s.Seen(create))
	for _, changes := range [][]provider.Change{
		{{New: cname}},
		{{New: set("alone", "TXT", "x")}, {New: cname}},
	} {
		if _, err := z.Swap(t.Context(), changes...); err == nil || !strings.Contains(err.Error(), "no other beside it") {
			t.Errorf("%d changes: %v", len(changes), err)
		}
	}
	if len(s.Seen(create)) != n {
		t.Error("a request was sent")
	}
	if _, err := z.Swap(t.Context(), provider.Change{Old: a}, provider.Change{New: cname}); err != nil {
		t.Errorf("in place of it: %v", err)
	}
}

func TestText(t *testing.T) {
	s := newService(t)
	z := open(t, s, nil)
	for rdata, want := range map[string]string{
		`"a b" "c"`: "a bc", `plain`: "plain", `two words`: "twowords", `"\065\066\"\\"`: `AB"\`, `""`: "", `"\z\9"`: "z9", `"\999"`: "999",
	} {
		s.Put("example", map[string]any{"name": "t.example.com.", "type": "TXT", "ttl": 60.0, "rrdatas": []any{rdata}})
		if rs, err := z.Get(t.Context(), "t.example.com.", "TXT"); err != nil || rs.Values[0] != want {
			t.Errorf("%s: %q, %v, want %q", rdata, rs.Values, err, want)
		}
	}
	for rdata, unsupported := range map[string]bool{`"open`: false, `"\001"`: true} {
		s.Put("example", map[string]any{"name": "t.example.com.", "type": "TXT", "ttl": 60.0, "rrdatas": []any{rdata}})
		if _, err := z.Get(t.Context(), "t.example.com.", "TXT"); err == nil || errors.Is(err, errors.ErrUnsupported) != unsupported {
			t.Errorf("%s: %v", rdata, err)
		}
	}
}

func TestZones(t *testing.T) {
	s := newService(t)
	z := open(t, s, nil)
	for label, zone := range map[string]string{"x": "example", "x.inner": "inner", "inner": "inner", "xinner": "example"} {
		if ref := must(t, z, nil, set(label, "A", "192.0.2.1")); !strings.HasPrefix(string(ref), zone+"/") {
			t.Errorf("%s is changed by %s, want the zone %s", label, ref, zone)
		}
	}
	if _, err := z.Swap(t.Context(), provider.Change{New: set("y", "A", "192.0.2.1")}, provider.Change{New: set("y.inner", "A", "192.0.2.1")}); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("changes in two zones: %v", err)
	}
	private := open(t, s, func(c *clouddns.Config) { c.Private = true })
	if ref := must(t, private, nil, set("x.inner", "A", "192.0.2.1")); ref != "private/1" {
		t.Errorf("the private zone is changed by %s", ref)
	}
	if _, err := private.Get(t.Context(), "x.onprem.example.com.", "A"); err == nil || !strings.Contains(err.Error(), "forwards") || errors.Is(err, provider.ErrNotFound) {
		t.Errorf("a zone that forwards: %v", err)
	}
	s.Zone("twin", "example.com.", "private", nil)
	if _, err := open(t, s, func(c *clouddns.Config) { c.Private = true }).Get(t.Context(), "x.example.com.", "A"); err == nil || !strings.Contains(err.Error(), "private, twin") {
		t.Errorf("two zones of one name: %v", err)
	}
	named := open(t, s, func(c *clouddns.Config) { c.Zones = []string{"twin"} })
	if ref := must(t, named, nil, set("x.inner", "A", "192.0.2.1")); ref != "twin/1" {
		t.Errorf("with a name in Config.Zones: %s", ref)
	}
	// One that was made after the listing, and one that is gone.
	s.Zone("young", "young.example.net.", "public", nil)
	if _, err := z.Get(t.Context(), "x.young.example.net.", "A"); !errors.Is(err, provider.ErrNotFound) {
		t.Errorf("a young zone: %v", err)
	}
	s.Drop("inner")
	_, err := z.Get(t.Context(), "x.inner.example.com.", "A")
	isUnknown(t, err)
	if _, err := z.Get(t.Context(), "x.inner.example.com.", "A"); !errors.Is(err, provider.ErrNotFound) {
		t.Errorf("its parent has it now: %v", err)
	}
}

func TestConfig(t *testing.T) {
	_, err := clouddns.Open(t.Context(), clouddns.Config{Zones: []string{"Example.com."}, Private: true, Endpoint: "x", Attempts: -1, CA: []byte("none")})
	if err == nil {
		t.Fatal("no error")
	}
	for _, field := range []string{"Zones", "Private", "Endpoint", "Attempts", "CA"} {
		if !strings.Contains(err.Error(), "clouddns: Config."+field+":") {
			t.Errorf("%v does not name %s", err, field)
		}
	}
	if _, err := clouddns.Open(t.Context(), clouddns.Config{Credentials: fakegcp.Token("", func() string { return "" })}); err == nil || !strings.Contains(err.Error(), "Config.Project") {
		t.Errorf("no project: %v", err)
	}
}

// isUnknown: nobody may take the error for a certain answer.
func isUnknown(t *testing.T, err error) {
	t.Helper()
	for _, sentinel := range []error{provider.ErrConflict, provider.ErrNotFound, fs.ErrPermission, errors.ErrUnsupported} {
		if err == nil || errors.Is(err, sentinel) {
			t.Errorf("%v is %v", err, sentinel)
		}
	}
}

// refusal is one of the three ways in which Cloud DNS refuses a Change.
func refusal(code int) fakegcp.Rule {
	return fakegcp.Refuses(fakegcp.Fault{Code: code, Reason: fmt.Sprint(code), Message: http.StatusText(code)})
}

// What the zone delegates is in another one, of another project perhaps. Written
// here it would be done, and nobody would be told.
func TestDelegated(t *testing.T) {
	s := newService(t)
	s.Put("example", map[string]any{"name": "sub.example.com.", "type": "NS", "ttl": 60.0, "rrdatas": []any{"ns.elsewhere.example."}})
	z := open(t, s, nil)
	for _, label := range []string{"sub", "www.sub", "_holdfast.www.sub"} {
		rs := set(label, "A", "192.0.2.1")
		_, getErr := z.Get(t.Context(), rs.Name, "A")
		_, swapErr := z.Swap(t.Context(), provider.Change{New: set("beside", "A", "192.0.2.1")}, provider.Change{New: rs})
		policy, err := z.Policy(clouddns.PolicyConfig{Name: rs.Name, Primary: "east", Backup: "west"})
		if err != nil {
			t.Fatal(err)
		}
		s.Put("example", map[string]any{"name": rs.Name, "type": "A", "ttl": 60.0, "routingPolicy": failoverSet(0)["routingPolicy"]})
		_, stateErr := policy.State(t.Context())
		for _, err := range []error{getErr, swapErr, stateErr} {
			if err == nil || errors.Is(err, provider.ErrNotFound) || errors.Is(err, provider.ErrConflict) || !strings.Contains(err.Error(), "NS records at sub.example.com.") {
				t.Errorf("%s: %v", label, err)
			}
		}
	}
	if n := len(s.Seen(create)); n > 0 {
		t.Errorf("%d changes were sent", n)
	}
	// Its zone, made after the zones were listed, is found.
	s.Zone("sub", "sub.example.com.", "public", nil)
	must(t, z, nil, set("x.sub", "A", "192.0.2.1"))
}
