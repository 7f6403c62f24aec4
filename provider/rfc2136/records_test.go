package rfc2136_test

import (
	"errors"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/holdfast-go/holdfast/internal/testenv"
	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/rfc2136"
)

// Every type comes back in canonical form, and can be swapped by that.
func TestTypes(t *testing.T) {
	z := open(t, bind(t, "plain.test."))
	for typ, values := range map[string][]string{ // as given: as it comes back
		"A":     {"192.0.2.1"},
		"AAAA":  {"2001:db8::1"},
		"CAA":   {`0 issue "ca.example.net; account=1"`, `0 iodef "mailto:a@example.net"`},
		"CNAME": {"target.example."},
		"HTTPS": {`1 . alpn="h2,h3" ipv4hint="192.0.2.1"`, "2 other.example."},
		"MX":    {"10 mail.example.", "20 mail2.example."},
		"PTR":   {"host.example."},
		"SRV":   {"0 5 443 host.example."},
		"SVCB":  {"1 svc.example. port=\"8443\""},
		"TLSA":  {"3 1 1 " + strings.Repeat("0a", 32)},
		"TXT":   {"v=spf1 -all", `quo"ted`},
	} {
		slices.Sort(values)
		x := fresh("plain.test.")
		rs := set(x, typ, time.Minute, values...)
		swap(t, z, nil, rs)
		got, err := z.Get(t.Context(), x, typ)
		if err != nil || !slices.Equal(got.Values, values) || got.TTL != time.Minute {
			t.Errorf("%s: %q, %v; want %q", typ, got.Values, err, values)
			continue
		}
		got.TTL = 2 * time.Minute
		swap(t, z, rs, &got)
		swap(t, z, &got, nil)
	}
}

// Other spellings of a value are taken, and are the same value.
func TestSpellings(t *testing.T) {
	z := open(t, bind(t, "plain.test."))
	x := fresh("plain.test.")
	for typ, spellings := range map[string][2]string{
		"AAAA":  {"2001:DB8:0:0::1", "2001:db8::1"},
		"MX":    {"010   mail.example.", "10 mail.example."},
		"TLSA":  {"3 1 1 " + strings.Repeat("0A", 32), "3 1 1 " + strings.Repeat("0a", 32)},
		"HTTPS": {`1 . ipv4hint=192.0.2.1 alpn=h2`, `1 . alpn="h2" ipv4hint="192.0.2.1"`},
	} {
		swap(t, z, nil, set(x, typ, time.Minute, spellings[0]))
		if got := get(t, z, x, typ); got != "1m0s "+spellings[1] {
			t.Errorf("%s: %s", typ, got)
		}
		swap(t, z, set(x, typ, time.Minute, spellings[0]), nil)
	}
}

func TestRefusedValues(t *testing.T) {
	z := open(t, localServer(t))
	x := "x.local.test."
	for what, rs := range map[string]*provider.RecordSet{
		"a relative host":     set(x, "MX", time.Minute, "10 mail"),
		"a host in capitals":  set(x, "CNAME", time.Minute, "Target.example."),
		"too few fields":      set(x, "SRV", time.Minute, "0 5"),
		"not a number":        set(x, "MX", time.Minute, "ten mail.example."),
		"two lines":           set(x, "TXT", time.Minute, "a\nb"),
		"more after it":       set(x, "TLSA", time.Minute, "3 1 1 zz"),
		"two CNAMEs":          set(x, "CNAME", time.Minute, "a.example.", "b.example."),
		"a value twice":       set(x, "AAAA", time.Minute, "2001:db8::1", "2001:DB8::1"),
		"a TTL past all ends": set(x, "A", 1<<31*time.Second, "192.0.2.1"),
		"a name with a space": set("a b.local.test.", "A", time.Minute, "192.0.2.1"),
	} {
		if _, err := z.Swap(t.Context(), provider.Change{New: rs}); err == nil || errors.Is(err, provider.ErrConflict) || strings.Contains(err.Error(), "outcome unknown") {
			t.Errorf("%s: %v", what, err)
		}
	}
	for _, typ := range []string{"NS", "SOA", "DS", "RRSIG", "ANY", "AXFR", "", "X"} {
		_, getErr := z.Get(t.Context(), x, typ)
		_, swapErr := z.Swap(t.Context(), provider.Change{New: set(x, typ, time.Minute, "v")})
		if !errors.Is(getErr, errors.ErrUnsupported) || !errors.Is(swapErr, errors.ErrUnsupported) {
			t.Errorf("%q: %v, %v", typ, getErr, swapErr)
		}
	}
}

// nsupdate edits the zone as a person would, without this package.
func nsupdate(t *testing.T, zone string, edit func(*dns.Msg)) {
	t.Helper()
	s := testenv.BIND(t)
	m := new(dns.Msg).SetUpdate(zone)
	edit(m)
	m.SetTsig(s.KeyName, dns.HmacSHA256, 300, time.Now().Unix())
	c := &dns.Client{Net: "tcp", TsigSecret: map[string]string{s.KeyName: s.Secret}}
	if r, _, err := c.Exchange(m, s.Endpoint); err != nil || r.Rcode != dns.RcodeSuccess {
		t.Fatalf("%v, %v", r, err)
	}
}

func parse(t *testing.T, lines ...string) (rrs []dns.RR) {
	t.Helper()
	for _, l := range lines {
		rr, err := dns.NewRR(l)
		if err != nil {
			t.Fatal(err)
		}
		rrs = append(rrs, rr)
	}
	return rrs
}

// Records that others have written otherwise, with capitals or a text in
// other pieces, are read in canonical form and can be replaced by it.
func TestRecordsOfOthers(t *testing.T) {
	for _, zone := range []string{"plain.test.", "inline.test."} {
		z := open(t, bind(t, zone))
		x, y := fresh(zone), fresh(zone)
		nsupdate(t, zone, func(m *dns.Msg) {
			m.Insert(parse(t, x+` 60 TXT "in t" "wo pieces"`, y+" 60 CNAME Target.EXAMPLE."))
		})
		a, b := set(x, "TXT", time.Minute, "in two pieces"), set(y, "CNAME", time.Minute, "target.example.")
		for until := time.Now().Add(5 * time.Second); get(t, z, y, "CNAME") != "1m0s target.example." && time.Now().Before(until); {
			time.Sleep(10 * time.Millisecond) // the zone that is served follows
		}
		_, err := z.Swap(t.Context(),
			provider.Change{Old: a, New: set(x, "TXT", time.Minute, "other")},
			provider.Change{Old: b, New: set(y, "CNAME", time.Minute, "other.example.")})
		if err != nil {
			t.Errorf("%s: %v", zone, err)
		}
	}
}

// What a wildcard answers for a name is not the name's, and a name below it
// can be made, swapped and removed like any other.
func TestWildcard(t *testing.T) {
	c := bind(t, "plain.test.")
	z := open(t, c)
	x := fresh("wild.plain.test.")
	if _, err := z.Get(t.Context(), x, "A"); !errors.Is(err, provider.ErrNotFound) {
		t.Errorf("a name that only the wildcard covers: %v", err)
	}
	a, b := set(x, "A", time.Minute, "192.0.2.77"), set(x, "A", time.Minute, "192.0.2.2")
	if _, err := z.Swap(t.Context(), provider.Change{Old: a, New: b}); !errors.Is(err, provider.ErrConflict) {
		t.Errorf("replace what only the wildcard has: %v", err)
	}
	swap(t, z, nil, a)
	if got := get(t, z, x, "A"); got != "1m0s 192.0.2.77" {
		t.Errorf("made: %s", got)
	}
	swap(t, z, a, b)
	swap(t, z, b, nil)
	if _, err := z.Get(t.Context(), x, "A"); !errors.Is(err, provider.ErrNotFound) {
		t.Errorf("removed: %v", err)
	}
	swap(t, z, nil, set(x, "CNAME", time.Minute, "target.example."))

	wild := set("*.wild.plain.test.", "A", time.Minute, "192.0.2.77")
	if got := get(t, z, wild.Name, "A"); got != "1m0s 192.0.2.77" {
		t.Errorf("the wildcard itself: %s", got)
	}
	next := *wild
	next.TTL = 2 * time.Minute
	swap(t, z, wild, &next)
	swap(t, z, &next, wild)
}

// A CNAME is not put beside a record of a type that this package cannot swap,
// nor at the top of a zone.
func TestBesideOthers(t *testing.T) {
	z := open(t, bind(t, "plain.test."))
	x := fresh("plain.test.")
	nsupdate(t, "plain.test.", func(m *dns.Msg) { m.Insert(parse(t, x+" 60 SSHFP 4 2 "+strings.Repeat("ab", 32))) })
	for _, name := range []string{x, "plain.test."} {
		_, err := z.Swap(t.Context(), provider.Change{New: set(name, "CNAME", time.Minute, "target.example.")})
		if err == nil || errors.Is(err, provider.ErrConflict) || !strings.Contains(err.Error(), "beside which no CNAME can be") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A name below a delegation is in another zone.
func TestDelegated(t *testing.T) {
	z := open(t, bind(t, "plain.test."))
	sub := fresh("plain.test.")
	nsupdate(t, "plain.test.", func(m *dns.Msg) { m.Insert(parse(t, sub+" 60 NS ns.elsewhere.example.")) })
	_, err := z.Get(t.Context(), "www."+sub, "A")
	if err == nil || errors.Is(err, provider.ErrNotFound) || !strings.Contains(err.Error(), "delegated") {
		t.Errorf("get: %v", err)
	}
	_, err = z.Swap(t.Context(), provider.Change{New: set("www."+sub, "A", time.Minute, "192.0.2.1")})
	if err == nil || errors.Is(err, provider.ErrConflict) {
		t.Errorf("swap: %v", err)
	}
}

// So is one in a zone that the same server serves, which answers for it with
// authority and does not look for it in the zone that is updated.
func TestZoneBelow(t *testing.T) {
	for server, of := range map[string]func(testing.TB, string) rfc2136.Config{"BIND": bind, "Knot": knot} {
		above, below := open(t, of(t, "plain.test.")), open(t, of(t, "child.plain.test."))
		a, cname := fresh("child.plain.test."), fresh("child.plain.test.")
		held := set(a, "A", time.Minute, "192.0.2.1")
		swap(t, below, nil, held)
		swap(t, below, nil, set(cname, "CNAME", time.Minute, "ns1.plain.test."))
		for _, name := range []string{a, cname, fresh("child.plain.test."), "child.plain.test.", "x." + a} {
			_, err := above.Get(t.Context(), name, "A")
			if err == nil || errors.Is(err, provider.ErrNotFound) || !strings.Contains(err.Error(), "in zone child.plain.test.") {
				t.Errorf("%s: get %s: %v", server, name, err)
			}
			next := set(name, "A", time.Minute, "192.0.2.2")
			for _, c := range []provider.Change{{New: next}, {Old: held, New: next}} {
				if name != a && c.Old != nil {
					continue
				}
				_, err := above.Swap(t.Context(), c)
				if err == nil || errors.Is(err, provider.ErrConflict) || !strings.Contains(err.Error(), "in zone child.plain.test.") {
					t.Errorf("%s: swap %s: %v", server, name, err)
				}
			}
		}
	}
}

// BIND keeps TTLs below max-zone-ttl in silence where a policy for signing
// says so. That is no success.
func TestLimitedTTL(t *testing.T) {
	z := open(t, bind(t, "signed.test."))
	x := fresh("signed.test.")
	_, err := z.Swap(t.Context(), provider.Change{New: set(x, "A", 48*time.Hour, "192.0.2.1")})
	got := get(t, z, x, "A")
	if (err == nil) != (got == "48h0m0s 192.0.2.1") || errors.Is(err, provider.ErrConflict) {
		t.Errorf("%v, and the zone holds %s", err, got)
	}
	t.Logf("%v; %s", err, got)
}

// A change is pending until a secondary that hears of it late has it.
func TestStatusFollowsTheSecondary(t *testing.T) {
	s := testenv.BIND(t)
	z := open(t, bind(t, "quiet.test."))
	var refs []provider.ChangeRef
	var last *provider.RecordSet
	x := fresh("quiet.test.")
	for _, v := range []string{"192.0.2.1", "192.0.2.2"} {
		next := set(x, "A", time.Minute, v)
		refs = append(refs, swap(t, z, last, next))
		last = next
	}
	for _, ref := range refs {
		if st, err := z.Status(t.Context(), ref); err != nil || st != provider.ChangePending {
			t.Errorf("before: %s, %v", st, err)
		}
	}
	c := &dns.Client{Net: "tcp"}
	if _, _, err := c.Exchange(new(dns.Msg).SetNotify("quiet.test."), s.Secondary); err != nil {
		t.Fatal(err)
	}
	for _, ref := range refs {
		for st := provider.ChangePending; st != provider.ChangeInSync; {
			var err error
			if st, err = z.Status(t.Context(), ref); err != nil {
				t.Fatal(err)
			}
		}
	}
	if _, err := z.Status(t.Context(), "quiet.test./1000000000"); !errors.Is(err, provider.ErrNotFound) {
		t.Errorf("a serial that the zone never had: %v", err)
	}
}

// Without Secondaries the servers are those of the NS records; one that does
// not answer is named.
func TestStatusOfNameservers(t *testing.T) {
	c := bind(t, "plain.test.")
	c.Secondaries = nil // ns1.plain.test. is 127.0.0.1
	z := open(t, c)
	ref := swap(t, z, nil, set(fresh(c.Zone), "A", time.Minute, "192.0.2.1"))
	_, port, _ := net.SplitHostPort(c.Servers[0])
	z.SetNameserverPort(port)
	if st, err := z.Status(t.Context(), ref); err != nil || st != provider.ChangeInSync {
		t.Errorf("%s, %v", st, err)
	}
	dead, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dead.Close()
	_, port, _ = net.SplitHostPort(dead.Addr().String())
	z.SetNameserverPort(port)
	if _, err := z.Status(t.Context(), ref); err == nil || !strings.Contains(err.Error(), dead.Addr().String()) {
		t.Errorf("a name server that is dead: %v", err)
	}
	c.Secondaries = []string{}
	if st, err := open(t, c).Status(t.Context(), ref); err != nil || st != provider.ChangeInSync {
		t.Errorf("no secondaries: %s, %v", st, err)
	}
}
