package azuredns_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/dns/armdns"
	"github.com/miekg/dns"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/azure/azuredns"
	"github.com/holdfast-go/holdfast/provider/azure/internal/wire"
	"github.com/holdfast-go/holdfast/provider/providertest"
)

func suite(t *testing.T, zone string) {
	s := newService()
	providertest.TestDNSProvider(t, func(t *testing.T) provider.DNSProvider { return s.open(t, nil) }, providertest.DNSOptions{
		Zone: zone, Settle: 10 * time.Second,
		Second: func() (provider.DNSProvider, error) { return s.open(t, nil), nil },
	})
}

func TestPublicZone(t *testing.T)  { t.Parallel(); suite(t, "example.com.") }
func TestPrivateZone(t *testing.T) { t.Parallel(); suite(t, "example.internal.") }

// The same suite, races included, in a zone of yours, with the standard chain
// of credentials. HOLDFAST_AZURE_ZONE is its resource ID.
func TestAzure(t *testing.T) {
	id := os.Getenv("HOLDFAST_AZURE_ZONE")
	if id == "" {
		t.Skip("HOLDFAST_AZURE_ZONE names no zone")
	}
	open := func() (provider.DNSProvider, error) {
		return azuredns.Open(t.Context(), azuredns.Config{Zones: []string{id}})
	}
	providertest.TestDNSProvider(t, func(t *testing.T) provider.DNSProvider {
		z, err := open()
		if err != nil {
			t.Fatal(err)
		}
		return z
	}, providertest.DNSOptions{Zone: id[strings.LastIndexByte(id, '/')+1:] + ".", Second: open})
}

func a(values ...string) *provider.RecordSet {
	return &provider.RecordSet{Name: "www.example.com.", Type: "A", TTL: time.Minute, Values: values}
}

const www = "example.com|www|A"

// What goes to Azure, to the letter.
func TestRequests(t *testing.T) {
	t.Parallel()
	s := newService()
	z := s.open(t, nil)
	steps := []struct {
		from, to     *provider.RecordSet
		method, body string
		match, none  string
	}{
		{nil, a("192.0.2.1"), "PUT", `{"properties":{"ARecords":[{"ipv4Address":"192.0.2.1"}],"TTL":60,"metadata":{"holdfastSwap":"*"}}}`, "", "*"},
		{a("192.0.2.1"), a("192.0.2.2", "192.0.2.3"), "PUT", `{"properties":{"ARecords":[{"ipv4Address":"192.0.2.2"},{"ipv4Address":"192.0.2.3"}],"TTL":60,"metadata":{"holdfastSwap":"*"}}}`, "etag-1", ""},
		{a("192.0.2.2", "192.0.2.3"), nil, "DELETE", "", "etag-2", ""},
	}
	for i, step := range steps {
		s.Clear()
		if _, err := z.Swap(t.Context(), provider.Change{Old: step.from, New: step.to}); err != nil {
			t.Fatal(err)
		}
		all := s.Seen("", "")
		if len(all) != 3 || all[0].Method != "GET" || all[0].URL.Path != publicZone+"/NS/www" || all[1].Method != "GET" {
			t.Fatalf("step %d: %d requests", i, len(all))
		}
		r := all[2]
		if r.Method != step.method || r.URL.Path != publicZone+"/A/www" || r.URL.Host != "management.azure.com" {
			t.Errorf("step %d: %s %s", i, r.Method, r.URL)
		}
		if m, n := r.Header.Get("If-Match"), r.Header.Get("If-None-Match"); m != step.match || n != step.none {
			t.Errorf("step %d: If-Match %q, If-None-Match %q", i, m, n)
		}
		if body := regexp.MustCompile(`"holdfastSwap":"[a-z0-9]{26}"`).ReplaceAllString(string(r.Content), `"holdfastSwap":"*"`); body != step.body {
			t.Errorf("step %d: body %s", i, body)
		}
	}
}

// 32 swaps from one state, to replace and to remove, have one winner each
// round; the others are told that the condition did not hold.
func TestRace(t *testing.T) {
	t.Parallel()
	s := newService()
	zones := []*azuredns.Zones{s.open(t, nil), s.open(t, nil)}
	last := a("192.0.2.1")
	if _, err := zones[0].Swap(t.Context(), provider.Change{New: last}); err != nil {
		t.Fatal(err)
	}
	for round := range 20 {
		var won atomic.Int32
		var winner atomic.Pointer[provider.RecordSet]
		start := make(chan struct{})
		var wg sync.WaitGroup
		for i := range 32 {
			next := a(fmt.Sprintf("192.0.2.%d", 100+i))
			next.TTL += time.Duration(round) * time.Second
			if i%8 == 0 {
				next = nil
			}
			wg.Go(func() {
				<-start
				_, err := zones[i%2].Swap(t.Context(), provider.Change{Old: last, New: next})
				switch {
				case err == nil:
					won.Add(1)
					winner.Store(next)
				case !errors.Is(err, provider.ErrConflict):
					t.Error(err)
				}
			})
		}
		close(start)
		wg.Wait()
		if won.Load() != 1 {
			t.Fatalf("round %d: %d won", round, won.Load())
		}
		last = winner.Load()
		now, err := zones[0].Get(t.Context(), "www.example.com.", "A")
		if last == nil {
			if !errors.Is(err, provider.ErrNotFound) {
				t.Fatalf("round %d: removed, and there is %v, %v", round, now, err)
			}
			last = a("192.0.2.1")
			if _, err := zones[0].Swap(t.Context(), provider.Change{New: last}); err != nil {
				t.Fatal(err)
			}
		} else if err != nil || now.Values[0] != last.Values[0] {
			t.Fatalf("round %d: %v, %v, want %v", round, now, err, last)
		}
	}
}

// Who touches a record set and leaves it as it was does not make a swap fail.
func TestTouched(t *testing.T) {
	t.Parallel()
	s := newService()
	z := s.open(t, nil)
	if _, err := z.Swap(t.Context(), provider.Change{New: a("192.0.2.1")}); err != nil {
		t.Fatal(err)
	}
	touch := func(_ *wire.Request, next func() (*http.Response, error)) (*http.Response, error) {
		s.touch(www)
		return next()
	}
	first, _ := wire.First(2, "PUT", "", touch)
	s.Add(first)
	if _, err := z.Swap(t.Context(), provider.Change{Old: a("192.0.2.1"), New: a("192.0.2.2")}); err != nil {
		t.Error(err)
	}
	if m := s.sets[www].Properties.Metadata; m["touched"] == nil {
		t.Error("the metadata of others are gone")
	}
	always, _ := wire.First(100, "PUT", "", touch)
	s.Add(always)
	_, err := z.Swap(t.Context(), provider.Change{Old: a("192.0.2.2"), New: a("192.0.2.3")})
	if err == nil || errors.Is(err, provider.ErrConflict) {
		t.Errorf("touched for ever: %v", err)
	}
}

// A reply that is lost: a put is found again by its mark, what cannot be told
// is an error that is none of package provider, and a swap of somebody else is
// never taken for one's own.
func TestLostReplies(t *testing.T) {
	t.Parallel()
	for name, rule := range map[string]wire.Rule{
		"lost": wire.Lost, "cut": wire.Cut,
		"applied, then 500": func(r *wire.Request, next func() (*http.Response, error)) (*http.Response, error) {
			next()
			return wire.Fault(r, 500, "InternalServerError", "later", ""), nil
		},
		"500": wire.Answers(500, `{"code":"InternalServerError","message":"later"}`),
		"429": wire.Answers(429, `{"code":"TooManyRequests","message":"later"}`, "Retry-After", "1"),
		"503": wire.Answers(503, `{"code":"ServiceUnavailable","message":"later"}`, "Retry-After", "1"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newService()
			z := s.open(t, nil)
			first, _ := wire.First(1, "PUT", "", rule)
			s.Add(first)
			if _, err := z.Swap(t.Context(), provider.Change{New: a("192.0.2.1")}); err != nil {
				t.Error(err)
			}
			first, _ = wire.First(1, "PUT", "", rule)
			s.Add(first)
			if _, err := z.Swap(t.Context(), provider.Change{Old: a("192.0.2.1"), New: a("192.0.2.2")}); err != nil {
				t.Error(err)
			}
			if rs, err := z.Get(t.Context(), "www.example.com.", "A"); err != nil || rs.Values[0] != "192.0.2.2" {
				t.Errorf("%v, %v", rs, err)
			}
		})
	}
}

func TestUncertain(t *testing.T) {
	t.Parallel()
	swap := func(t *testing.T, s *service, to *provider.RecordSet, rules ...wire.Rule) error {
		t.Helper()
		if _, err := s.open(t, nil).Swap(t.Context(), provider.Change{New: a("192.0.2.1")}); err != nil {
			t.Fatal(err)
		}
		s.Add(rules...)
		_, err := s.open(t, nil).Swap(t.Context(), provider.Change{Old: a("192.0.2.1"), New: to})
		if err == nil {
			t.Fatal("no error")
		}
		for _, sentinel := range []error{provider.ErrConflict, provider.ErrNotFound, fs.ErrPermission} {
			if errors.Is(err, sentinel) {
				t.Errorf("%v is %v", err, sentinel)
			}
		}
		return err
	}
	t.Run("replaced meanwhile by another with the same content", func(t *testing.T) {
		s := newService()
		first, _ := wire.First(1, "PUT", "", func(r *wire.Request, next func() (*http.Response, error)) (*http.Response, error) {
			// Lost on the way, and somebody else makes the same change.
			s.mu.Lock()
			ip, ttl := "192.0.2.2", int64(60)
			s.store(www, armdns.RecordSet{Properties: &armdns.RecordSetProperties{TTL: &ttl, ARecords: []*armdns.ARecord{{IPv4Address: &ip}}}})
			s.mu.Unlock()
			return wire.Cut(r, next)
		})
		swap(t, s, a("192.0.2.2"), first)
	})
	t.Run("removed", func(t *testing.T) {
		s := newService()
		first, _ := wire.First(1, "DELETE", "", wire.Lost)
		swap(t, s, nil, first)
		if s.sets[www] != nil {
			t.Error("still there")
		}
	})
	t.Run("denied after a lost reply", func(t *testing.T) {
		s := newService()
		first, _ := wire.First(1, "PUT", "", wire.Lost)
		swap(t, s, a("192.0.2.2"), first, func(r *wire.Request, next func() (*http.Response, error)) (*http.Response, error) {
			if len(s.Seen("PUT", "")) < 3 {
				return next()
			}
			return wire.Fault(r, 403, "AuthorizationFailed", "no", ""), nil
		})
	})
}

// A removal that finds nothing has not won.
func TestRemovedMeanwhile(t *testing.T) {
	t.Parallel()
	s := newService()
	z := s.open(t, nil)
	if _, err := z.Swap(t.Context(), provider.Change{New: a("192.0.2.1")}); err != nil {
		t.Fatal(err)
	}
	s.Add(func(r *wire.Request, next func() (*http.Response, error)) (*http.Response, error) {
		if r.Method == "DELETE" {
			s.mu.Lock()
			delete(s.sets, www)
			s.mu.Unlock()
		}
		return next()
	})
	if _, err := z.Swap(t.Context(), provider.Change{Old: a("192.0.2.1")}); !errors.Is(err, provider.ErrConflict) {
		t.Error(err)
	}
}

// Alias record sets, and those of virtual networks, are neither read nor
// changed.
func TestAlias(t *testing.T) {
	t.Parallel()
	s := newService()
	z := s.open(t, nil)
	target, ttl := "/subscriptions/s1/resourceGroups/g1/providers/Microsoft.Network/publicIPAddresses/ip", int64(60)
	s.store(www, armdns.RecordSet{Properties: &armdns.RecordSetProperties{TTL: &ttl, TargetResource: &armdns.SubResource{ID: &target}}})
	before, _ := json.Marshal(s.sets[www])
	if _, err := z.Get(t.Context(), "www.example.com.", "A"); !errors.Is(err, errors.ErrUnsupported) || !strings.Contains(err.Error(), target) {
		t.Error(err)
	}
	for _, c := range []provider.Change{{New: a("192.0.2.1")}, {Old: a("192.0.2.1")}, {Old: a("192.0.2.1"), New: a("192.0.2.2")}} {
		if _, err := z.Swap(t.Context(), c); !errors.Is(err, errors.ErrUnsupported) {
			t.Error(err)
		}
	}
	if after, _ := json.Marshal(s.sets[www]); string(after) != string(before) {
		t.Errorf("%s has become %s", before, after)
	}
	if n := len(s.Seen("PUT", "")) + len(s.Seen("DELETE", "")); n != 0 {
		t.Errorf("%d writes", n)
	}
}

// A record set without records holds nothing; it is filled under its ETag.
func TestEmptyRecordSet(t *testing.T) {
	t.Parallel()
	s := newService()
	z := s.open(t, nil)
	ttl := int64(60)
	s.store(www, armdns.RecordSet{Properties: &armdns.RecordSetProperties{TTL: &ttl}})
	if _, err := z.Get(t.Context(), "www.example.com.", "A"); !errors.Is(err, provider.ErrNotFound) {
		t.Error(err)
	}
	if _, err := z.Swap(t.Context(), provider.Change{New: a("192.0.2.1")}); err != nil {
		t.Error(err)
	}
	if r := s.Seen("PUT", ""); len(r) != 1 || r[0].Header.Get("If-Match") != "etag-1" {
		t.Error("not under its ETag")
	}
}

// The service's own errors: a zone that is gone is no record set that is not
// there, and whoever may not is told so; nothing waits for ever.
func TestErrors(t *testing.T) {
	t.Parallel()
	s := newService()
	gone := s.open(t, func(c *azuredns.Config) {
		c.Zones = []string{strings.ReplaceAll(publicZone, "example.com", "example.org")}
	})
	if _, err := gone.Get(t.Context(), "www.example.org.", "A"); err == nil || errors.Is(err, provider.ErrNotFound) || !strings.Contains(err.Error(), "ResourceNotFound") {
		t.Errorf("a zone that is gone: %v", err)
	}
	z := s.open(t, nil)
	s.Add(wire.Answers(403, `{"error":{"code":"AuthorizationFailed","message":"The client does not have authorization"}}`))
	if _, err := z.Swap(t.Context(), provider.Change{New: a("192.0.2.1")}); !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), "403 AuthorizationFailed: The client") {
		t.Error(err)
	}
	s.Clear()
	s.Add(wire.Hole)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := z.Swap(ctx, provider.Change{New: a("192.0.2.1")}); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	s.Clear()
	s.Add(func(r *wire.Request, next func() (*http.Response, error)) (*http.Response, error) {
		if r.Token() == "owner-1" {
			return wire.Fault(r, 401, "ExpiredAuthenticationToken", "The access token expiry UTC time is earlier than now", ""), nil
		}
		return next()
	})
	if _, err := z.Swap(t.Context(), provider.Change{New: a("192.0.2.1")}); err != nil {
		t.Errorf("a token that can be renewed: %v", err)
	}
}

// A name server that does not answer, or not for the zone, is an error; one
// that lags behind is pending.
func TestNameServers(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var rcode atomic.Int32
	server := &dns.Server{Listener: l, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, r *dns.Msg) {
		m := new(dns.Msg).SetReply(r)
		m.Authoritative, m.Rcode = true, int(rcode.Load())
		if rr, err := dns.NewRR(r.Question[0].Name + ` 60 IN TXT "a \"quoted\" \\ \009text" "` + strings.Repeat("x", 255) + `"`); err == nil && m.Rcode == 0 {
			m.Answer = []dns.RR{rr}
		}
		w.WriteMsg(m)
	})}
	go server.ActivateAndServe()
	t.Cleanup(func() { server.Shutdown() })
	rrs, err := azuredns.AskServer(t.Context(), l.Addr().String(), "x.example.com.", dns.TypeTXT)
	if err != nil || len(rrs) != 1 {
		t.Fatalf("%v, %v", rrs, err)
	}
	if got, want := azuredns.Text(rrs[0].(*dns.TXT)), `a "quoted" \ `+"\ttext"+strings.Repeat("x", 255); got != want {
		t.Errorf("%q, want %q", got, want)
	}
	rcode.Store(dns.RcodeRefused)
	if _, err := azuredns.AskServer(t.Context(), l.Addr().String(), "x.example.com.", dns.TypeTXT); err == nil || !strings.Contains(err.Error(), "REFUSED") {
		t.Error(err)
	}
	l.Close()
	if _, err := azuredns.AskServer(t.Context(), l.Addr().String(), "x.example.com.", dns.TypeTXT); err == nil || !strings.Contains(err.Error(), "does not answer") {
		t.Error(err)
	}

	s := newService()
	z := s.open(t, nil)
	ref, err := z.Swap(t.Context(), provider.Change{New: a("192.0.2.1")})
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []provider.ChangeStatus{provider.ChangePending, provider.ChangePending, provider.ChangeInSync, provider.ChangeInSync} {
		if st, err := z.Status(t.Context(), ref); err != nil || st != want {
			t.Errorf("look %d: %s, %v, want %s", i, st, err, want)
		}
	}
}

func TestConfig(t *testing.T) {
	_, err := azuredns.Open(t.Context(), azuredns.Config{Zones: []string{"example.com", publicZone, strings.ReplaceAll(publicZone, "example", "EXAMPLE")}, Attempts: -1, CA: []byte("none")})
	for _, text := range []string{`Config.Zones: "example.com" is not`, "Config.Zones: two are called example.com", "Config.Attempts", "Config.CA"} {
		if err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%v does not say %q", err, text)
		}
	}
	if _, err := azuredns.Open(t.Context(), azuredns.Config{}); err == nil || !strings.Contains(err.Error(), "Config.Zones: empty") {
		t.Error(err)
	}
}

// Who moves names in Azure compiles no other service and no other cloud.
func TestBringsNothingElse(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	for pkg := range strings.Lines(string(out)) {
		for _, other := range []string{"github.com/aws/", "cloud.google.com/", "google.golang.org/", "k8s.io/", "armcompute", "/azblob", "azkeys"} {
			if strings.Contains(pkg, other) {
				t.Errorf("brings %s", pkg)
			}
		}
	}
	if !strings.Contains(string(out), "armdns") {
		t.Error("go list does not name the SDK")
	}
}

// What a public zone delegates is in another one. Written here it would be
// accepted, and nobody would be told.
func TestDelegated(t *testing.T) {
	t.Parallel()
	s := newService()
	ns, ttl := "ns.elsewhere.example.", int64(60)
	s.store(key("example.com", "sub", "NS"), armdns.RecordSet{Properties: &armdns.RecordSetProperties{TTL: &ttl, NsRecords: []*armdns.NsRecord{{Nsdname: &ns}}}})
	z := s.open(t, nil)
	for _, name := range []string{"sub.example.com.", "www.sub.example.com.", "_holdfast.www.sub.example.com."} {
		rs := a("192.0.2.1")
		rs.Name = name
		_, getErr := z.Get(t.Context(), name, "A")
		_, swapErr := z.Swap(t.Context(), provider.Change{New: rs})
		for _, err := range []error{getErr, swapErr} {
			if err == nil || errors.Is(err, provider.ErrNotFound) || errors.Is(err, provider.ErrConflict) || !strings.Contains(err.Error(), "NS records at sub.example.com.") {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	if n := len(s.Seen("PUT", "")); n > 0 {
		t.Errorf("%d writes", n)
	}
}
