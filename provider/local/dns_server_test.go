package local_test

import (
	"context"
	"encoding/base64"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/holdfast-go/holdfast/provider/local"
)

const testZone = "example.test."

var testKey = local.DNSKey{Name: "holdfast.", Secret: base64.StdEncoding.EncodeToString([]byte("a key for these tests only"))}

func dnsServerConfig(dir string) local.DNSServerConfig {
	return local.DNSServerConfig{Zone: testZone, Dir: dir, Keys: []local.DNSKey{testKey}}
}

// startDNS runs a server until the test ends or stop is called.
func startDNS(t testing.TB, c local.DNSServerConfig) (addr string, stop func()) {
	t.Helper()
	s, err := local.NewDNSServer(c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			t.Errorf("serve: %v", err)
		}
	}
	t.Cleanup(stop)
	return s.Addr(), stop
}

func ask(t *testing.T, net, addr string, m *dns.Msg) *dns.Msg {
	t.Helper()
	c := &dns.Client{Net: net, Timeout: 5 * time.Second, TsigSecret: map[string]string{testKey.Name: testKey.Secret}}
	r, _, err := c.Exchange(m, addr)
	// The library takes NOTAUTH for a bad signature, signed as it may be.
	if err != nil && (r == nil || r.Rcode != dns.RcodeNotAuth) {
		t.Fatalf("%s: %v", net, err)
	}
	return r
}

func question(name string, typ uint16) *dns.Msg {
	m := new(dns.Msg).SetQuestion(name, typ)
	m.RecursionDesired = false
	return m
}

func rr(t testing.TB, s string) dns.RR {
	t.Helper()
	r, err := dns.NewRR(s)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func signed(m *dns.Msg) *dns.Msg {
	return m.SetTsig(testKey.Name, dns.HmacSHA256, 300, time.Now().Unix())
}

// insert adds records, and fails the test if it cannot.
func insert(t *testing.T, addr string, lines ...string) {
	t.Helper()
	m := new(dns.Msg).SetUpdate(testZone)
	for _, l := range lines {
		m.Insert([]dns.RR{rr(t, l)})
	}
	if r := ask(t, "tcp", addr, signed(m)); r.Rcode != dns.RcodeSuccess {
		t.Fatalf("insert: %s", dns.RcodeToString[r.Rcode])
	}
}

func serial(t *testing.T, addr string) uint32 {
	t.Helper()
	return ask(t, "tcp", addr, question(testZone, dns.TypeSOA)).Answer[0].(*dns.SOA).Serial
}

func TestDNSAnswers(t *testing.T) {
	c := dnsServerConfig(t.TempDir())
	c.NameserverAddrs = []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")}
	addr, _ := startDNS(t, c)
	insert(t, addr,
		"www.example.test. 30 IN A 192.0.2.7", "www.example.test. 30 IN A 192.0.2.8",
		"www.example.test. 60 IN AAAA 2001:db8::7",
		`www.example.test. 60 IN TXT "a \"quoted\" text; with \\ things"`,
		"alias.example.test. 15 IN CNAME WWW.example.test.",
		"away.example.test. 15 IN CNAME elsewhere.invalid.",
		"loop.example.test. 15 IN CNAME loop.example.test.",
		"deep.below.example.test. 60 IN A 192.0.2.9")
	for _, tc := range []struct {
		name      string
		typ       uint16
		rcode     int
		answer    string // tab-free lines, joined by " | "
		authority string // the type there
	}{
		{testZone, dns.TypeSOA, 0, "example.test. 60 IN SOA ns.example.test. hostmaster.example.test. 2 60 30 604800 5", ""},
		{testZone, dns.TypeNS, 0, "example.test. 3600 IN NS ns.example.test.", ""},
		{"ns.example.test.", dns.TypeA, 0, "ns.example.test. 3600 IN A 192.0.2.1", ""},
		{"ns.example.test.", dns.TypeAAAA, 0, "ns.example.test. 3600 IN AAAA 2001:db8::1", ""},
		{"wWw.eXample.test.", dns.TypeA, 0, "www.example.test. 30 IN A 192.0.2.8 | www.example.test. 30 IN A 192.0.2.7", ""},
		{"www.example.test.", dns.TypeAAAA, 0, "www.example.test. 60 IN AAAA 2001:db8::7", ""},
		{"www.example.test.", dns.TypeTXT, 0, `www.example.test. 60 IN TXT "a \"quoted\" text; with \\ things"`, ""},
		{"alias.example.test.", dns.TypeAAAA, 0, "alias.example.test. 15 IN CNAME WWW.example.test. | www.example.test. 60 IN AAAA 2001:db8::7", ""},
		{"alias.example.test.", dns.TypeCNAME, 0, "alias.example.test. 15 IN CNAME WWW.example.test.", ""},
		{"alias.example.test.", dns.TypeMX, 0, "alias.example.test. 15 IN CNAME WWW.example.test.", "SOA"},
		{"away.example.test.", dns.TypeA, 0, "away.example.test. 15 IN CNAME elsewhere.invalid.", ""},
		{"www.example.test.", dns.TypeMX, 0, "", "SOA"},                           // NODATA
		{"below.example.test.", dns.TypeA, 0, "", "SOA"},                          // an empty name is there
		{"none.example.test.", dns.TypeA, dns.RcodeNameError, "", "SOA"},          // NXDOMAIN
		{"none.below.example.test.", dns.TypeA, dns.RcodeNameError, "", "SOA"},    //
		{"other.test.", dns.TypeA, dns.RcodeRefused, "", ""},                      // not ours
		{"notexample.test.", dns.TypeA, dns.RcodeRefused, "", ""},                 // not below, though it ends so
		{testZone, dns.TypeAXFR, dns.RcodeRefused, "", ""},                        // no transfers
		{"xn--bcher-kva.example.test.", dns.TypeA, dns.RcodeNameError, "", "SOA"}, //
	} {
		for _, net := range []string{"udp", "tcp"} {
			r := ask(t, net, addr, question(tc.name, tc.typ))
			var lines []string
			for _, a := range r.Answer {
				lines = append(lines, strings.ReplaceAll(a.String(), "\t", " "))
			}
			auth := ""
			for _, a := range r.Ns {
				auth += dns.TypeToString[a.Header().Rrtype]
				if a.Header().Ttl != 5 {
					t.Errorf("%s: the SOA of a negative answer lives %d s, want its minimum", tc.name, a.Header().Ttl)
				}
			}
			if r.Rcode != tc.rcode || strings.Join(lines, " | ") != tc.answer || auth != tc.authority ||
				r.Authoritative != (tc.rcode != dns.RcodeRefused) || r.Truncated || r.RecursionAvailable {
				t.Errorf("%s %s %s: got\n%v", net, tc.name, dns.TypeToString[tc.typ], r)
			}
		}
	}
	if r := ask(t, "udp", addr, question("loop.example.test.", dns.TypeA)); len(r.Answer) > 20 {
		t.Errorf("a loop is followed %d times", len(r.Answer))
	}
}

// An answer that does not fit is cut and says so; over TCP it is whole.
func TestDNSTruncation(t *testing.T) {
	addr, _ := startDNS(t, dnsServerConfig(t.TempDir()))
	var lines []string
	for i := range 10 {
		lines = append(lines, "big.example.test. 60 IN TXT \""+strings.Repeat(string(rune('a'+i)), 200)+"\"")
	}
	insert(t, addr, lines...)
	for _, tc := range []struct {
		net   string
		edns  uint16
		limit int
	}{
		{"udp", 0, 512}, {"udp", 600, 600}, {"udp", 4096, 1232},
	} {
		m := question("big.example.test.", dns.TypeTXT)
		if tc.edns > 0 {
			m.SetEdns0(tc.edns, false)
		}
		r := ask(t, tc.net, addr, m)
		if !r.Truncated || len(r.Answer) == 10 || r.Len() > tc.limit || (r.IsEdns0() != nil) != (tc.edns > 0) {
			t.Errorf("EDNS %d: truncated %v, %d records, %d bytes", tc.edns, r.Truncated, len(r.Answer), r.Len())
		}
	}
	if r := ask(t, "tcp", addr, question("big.example.test.", dns.TypeTXT)); r.Truncated || len(r.Answer) != 10 {
		t.Errorf("tcp: truncated %v, %d records", r.Truncated, len(r.Answer))
	}
	m := question("big.example.test.", dns.TypeTXT)
	m.SetEdns0(1232, false).IsEdns0().SetVersion(1)
	if r := ask(t, "udp", addr, m); r.Rcode != dns.RcodeBadVers || len(r.Answer) > 0 {
		t.Errorf("EDNS version 1: %v", r)
	}
}

func TestDNSUpdateNeedsKey(t *testing.T) {
	addr, _ := startDNS(t, dnsServerConfig(t.TempDir()))
	noKeys, _ := startDNS(t, local.DNSServerConfig{Zone: testZone, Dir: t.TempDir()})
	update := func() *dns.Msg {
		m := new(dns.Msg).SetUpdate(testZone)
		m.Insert([]dns.RR{rr(t, "a.example.test. 60 IN A 192.0.2.1")})
		return m
	}
	now := time.Now().Unix()
	for name, tc := range map[string]struct {
		addr  string
		m     *dns.Msg
		with  string
		rcode int
	}{
		"unsigned":            {addr, update(), "", dns.RcodeRefused},
		"wrong secret":        {addr, update().SetTsig(testKey.Name, dns.HmacSHA256, 300, now), base64.StdEncoding.EncodeToString([]byte("another secret altogether")), dns.RcodeNotAuth},
		"unknown key":         {addr, update().SetTsig("other.", dns.HmacSHA256, 300, now), testKey.Secret, dns.RcodeNotAuth},
		"weak algorithm":      {addr, update().SetTsig(testKey.Name, dns.HmacSHA1, 300, now), testKey.Secret, dns.RcodeNotAuth},
		"signed long ago":     {addr, update().SetTsig(testKey.Name, dns.HmacSHA256, 300, now-3600), testKey.Secret, dns.RcodeNotAuth},
		"server without keys": {noKeys, update().SetTsig(testKey.Name, dns.HmacSHA256, 300, now), testKey.Secret, dns.RcodeNotAuth},
		"unsigned, no keys":   {noKeys, update(), "", dns.RcodeRefused},
	} {
		for _, net := range []string{"udp", "tcp"} {
			c := &dns.Client{Net: net, TsigSecret: map[string]string{testKey.Name: tc.with, "other.": tc.with}}
			r, _, err := c.Exchange(tc.m.Copy(), tc.addr)
			if r == nil || r.Rcode != tc.rcode {
				t.Errorf("%s over %s: %v, %v", name, net, r, err)
			}
			if serial(t, tc.addr) != 1 {
				t.Fatalf("%s over %s: the zone was changed", name, net)
			}
		}
	}
	if r := ask(t, "udp", addr, signed(update())); r.Rcode != dns.RcodeSuccess || r.IsTsig() == nil || serial(t, addr) != 2 {
		t.Errorf("a good one: %v", r)
	}
}

// The table of RFC 2136 section 2.4, and what 3.4.2 does with odd updates.
func TestDNSUpdateRules(t *testing.T) {
	addr, _ := startDNS(t, dnsServerConfig(t.TempDir()))
	insert(t, addr, "a.example.test. 60 IN A 192.0.2.1", "a.example.test. 60 IN A 192.0.2.2", "c.example.test. 60 IN CNAME a.example.test.")
	set := func(lines ...string) (rrs []dns.RR) {
		for _, l := range lines {
			rrs = append(rrs, rr(t, l))
		}
		return rrs
	}
	a1, a2, a3 := "a.example.test. 0 IN A 192.0.2.1", "a.example.test. 0 IN A 192.0.2.2", "a.example.test. 0 IN A 192.0.2.3"
	other := set("none.example.test. 0 IN A 192.0.2.1")
	mark := "mark.example.test. 60 IN TXT \"applied\""
	for _, tc := range []struct {
		name    string
		f       func(m *dns.Msg)
		rcode   int
		applied bool
	}{
		{"no prerequisite", func(m *dns.Msg) {}, dns.RcodeSuccess, true},
		{"set as it is, in another order", func(m *dns.Msg) { m.Used(set(a2, a1)) }, dns.RcodeSuccess, true},
		{"set with one less", func(m *dns.Msg) { m.Used(set(a1)) }, dns.RcodeNXRrset, false},
		{"set with one more", func(m *dns.Msg) { m.Used(set(a1, a2, a3)) }, dns.RcodeNXRrset, false},
		{"set with another", func(m *dns.Msg) { m.Used(set(a1, a3)) }, dns.RcodeNXRrset, false},
		{"set that is not there", func(m *dns.Msg) { m.Used(other) }, dns.RcodeNXRrset, false},
		{"set exists", func(m *dns.Msg) { m.RRsetUsed(set(a1)) }, dns.RcodeSuccess, true},
		{"set exists, but not", func(m *dns.Msg) { m.RRsetUsed(other) }, dns.RcodeNXRrset, false},
		{"set does not exist", func(m *dns.Msg) { m.RRsetNotUsed(other) }, dns.RcodeSuccess, true},
		{"set does not exist, but does", func(m *dns.Msg) { m.RRsetNotUsed(set(a1)) }, dns.RcodeYXRrset, false},
		{"name in use", func(m *dns.Msg) { m.NameUsed(set(a1)) }, dns.RcodeSuccess, true},
		{"name in use, but not", func(m *dns.Msg) { m.NameUsed(other) }, dns.RcodeNameError, false},
		{"name not in use", func(m *dns.Msg) { m.NameNotUsed(other) }, dns.RcodeSuccess, true},
		{"name not in use, but is", func(m *dns.Msg) { m.NameNotUsed(set(a1)) }, dns.RcodeYXDomain, false},
		{"prerequisite with a TTL", func(m *dns.Msg) { m.Answer = set("a.example.test. 60 IN A 192.0.2.1") }, dns.RcodeFormatError, false},
		{"prerequisite outside", func(m *dns.Msg) { m.Used(set("a.other. 0 IN A 192.0.2.1")) }, dns.RcodeNotZone, false},
		{"update outside", func(m *dns.Msg) { m.Insert(set("a.other. 60 IN A 192.0.2.1")) }, dns.RcodeNotZone, false},
		{"another zone", func(m *dns.Msg) { m.Question[0].Name = "other." }, dns.RcodeNotAuth, false},
		{"a delegation", func(m *dns.Msg) { m.Insert(set("sub.example.test. 60 IN NS ns.other.")) }, dns.RcodeRefused, false},
		{"a wildcard", func(m *dns.Msg) { m.Insert(set("*.example.test. 60 IN A 192.0.2.1")) }, dns.RcodeRefused, false},
		{"an A beside a CNAME", func(m *dns.Msg) { m.Insert(set("c.example.test. 60 IN A 192.0.2.1")) }, dns.RcodeSuccess, true},
		{"a CNAME beside an A", func(m *dns.Msg) { m.Insert(set("a.example.test. 60 IN CNAME x.example.test.")) }, dns.RcodeSuccess, true},
		{"the SOA goes", func(m *dns.Msg) { m.RemoveRRset(set("example.test. 0 IN SOA . . 1 1 1 1 1")) }, dns.RcodeSuccess, true},
		{"everything at the top goes", func(m *dns.Msg) { m.RemoveName(set("example.test. 0 IN A 192.0.2.1")) }, dns.RcodeSuccess, true},
		{"the last NS goes", func(m *dns.Msg) { m.Remove(set("example.test. 0 IN NS ns.example.test.")) }, dns.RcodeSuccess, true},
		{"an older SOA", func(m *dns.Msg) { m.Insert(set("example.test. 60 IN SOA x. y. 1 1 1 1 1")) }, dns.RcodeSuccess, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			before := serial(t, addr)
			m := new(dns.Msg).SetUpdate(testZone)
			tc.f(m)
			m.Insert([]dns.RR{rr(t, mark)})
			if r := ask(t, "tcp", addr, signed(m)); r.Rcode != tc.rcode {
				t.Errorf("%s, want %s", dns.RcodeToString[r.Rcode], dns.RcodeToString[tc.rcode])
			}
			applied := len(ask(t, "tcp", addr, question("mark.example.test.", dns.TypeTXT)).Answer) > 0
			if applied != tc.applied || (serial(t, addr) == before+1) != tc.applied {
				t.Errorf("applied: %v, serial from %d to %d", applied, before, serial(t, addr))
			}
			for name, typ := range map[string]uint16{testZone: dns.TypeNS, "c.example.test.": dns.TypeCNAME, "a.example.test.": dns.TypeA} {
				if r := ask(t, "tcp", addr, question(name, typ)); len(r.Answer) == 0 {
					t.Errorf("%s %s is gone", name, dns.TypeToString[typ])
				}
			}
			if applied {
				undo := new(dns.Msg).SetUpdate(testZone)
				undo.Remove([]dns.RR{rr(t, mark)})
				if r := ask(t, "tcp", addr, signed(undo)); r.Rcode != dns.RcodeSuccess {
					t.Fatal(r)
				}
			}
		})
	}
	// The same record again is no change, with another TTL it is one.
	before := serial(t, addr)
	insert(t, addr, "a.example.test. 60 IN A 192.0.2.1")
	if serial(t, addr) != before {
		t.Error("a record that was there raised the serial")
	}
	insert(t, addr, "a.example.test. 61 IN A 192.0.2.1")
	if serial(t, addr) != before+1 {
		t.Error("a new TTL did not raise the serial")
	}
	for _, a := range ask(t, "tcp", addr, question("a.example.test.", dns.TypeA)).Answer {
		if a.Header().Ttl != 61 {
			t.Errorf("one record set with two TTLs: %v", a)
		}
	}
}

func TestDNSServerRestart(t *testing.T) {
	dir := t.TempDir()
	addr, stop := startDNS(t, dnsServerConfig(dir))
	insert(t, addr, "a.example.test. 60 IN A 192.0.2.1", `t.example.test. 60 IN TXT "a;b \" \\ \200"`)
	want := ask(t, "tcp", addr, question("t.example.test.", dns.TypeTXT)).Answer[0].String()
	if _, err := local.NewDNSServer(dnsServerConfig(dir)); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("a second server on the directory: %v", err)
	}
	stop()
	// What a death in the middle of writing leaves behind does no harm.
	if err := os.WriteFile(filepath.Join(dir, "zone.tmp-X"), []byte("half a zo"), 0o600); err != nil {
		t.Fatal(err)
	}
	addr, stop = startDNS(t, dnsServerConfig(dir))
	if got := ask(t, "tcp", addr, question("t.example.test.", dns.TypeTXT)).Answer[0].String(); got != want {
		t.Errorf("after a restart: %s, want %s", got, want)
	}
	if serial(t, addr) != 2 {
		t.Errorf("serial %d after the restart", serial(t, addr))
	}
	if _, err := os.Stat(filepath.Join(dir, "zone.tmp-X")); err == nil {
		t.Error("the half zone is still there")
	}
	stop()
	other := dnsServerConfig(dir)
	other.Zone = "other.test."
	if _, err := local.NewDNSServer(other); err == nil || !strings.Contains(err.Error(), "example.test.") {
		t.Errorf("another zone in the directory: %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "zone"), []byte("example.test. 60 IN SOA"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := local.NewDNSServer(dnsServerConfig(dir)); err == nil || !strings.Contains(err.Error(), filepath.Join(dir, "zone")) {
		t.Errorf("a damaged zone: %v", err)
	}
}

func TestDNSServerConfig(t *testing.T) {
	bad := local.DNSServerConfig{
		Zone: "Example.test", Addr: "nowhere", Nameserver: "ns", NameserverAddrs: []netip.Addr{{}},
		Keys: []local.DNSKey{{Name: "k.", Secret: "c2VjcmV0"}, {Name: "K", Secret: "not base64, a secret"}},
	}
	_, err := local.NewDNSServer(bad)
	if err == nil {
		t.Fatal("accepted")
	}
	for _, field := range []string{"Zone", "Dir", "Addr", "Nameserver", "NameserverAddrs[0]", "Keys[0].Secret", "Keys[1].Name"} {
		if !strings.Contains(err.Error(), "DNSServerConfig."+field) {
			t.Errorf("nothing about %s in %v", field, err)
		}
	}
	if strings.Contains(err.Error(), "c2Vj") || strings.Contains(err.Error(), "a secret") {
		t.Errorf("the error quotes a secret: %v", err)
	}
}
