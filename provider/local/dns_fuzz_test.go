package local

import (
	"slices"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/internal/dnsrecord"
)

// What is accepted as a value comes back from the wire, and from the zone
// file, as it went there.
func FuzzRecordSet(f *testing.F) {
	for _, v := range []string{"", `a "quoted" \ text; \065`, "192.0.2.1", "2001:DB8::1", "::ffff:1.2.3.4", "target.example.", "10 mx.example."} {
		for _, typ := range []string{"A", "AAAA", "CNAME", "TXT", "MX"} {
			f.Add(typ, v, uint32(60))
		}
	}
	f.Fuzz(func(t *testing.T, typ, v string, ttl uint32) {
		const name = "a.example.test."
		want, err := rules.Canonical(provider.RecordSet{Name: name, Type: typ, TTL: time.Duration(ttl) * time.Second, Values: []string{v}})
		if err != nil {
			return
		}
		rrs, err := records(want)
		if err != nil {
			t.Fatalf("canonical form %q of %q is refused: %v", want.Values, v, err)
		}
		m := &dns.Msg{Answer: rrs}
		b, err := m.Pack()
		if err != nil {
			return // accepted here and refused on the way is an error in time
		}
		var back dns.Msg
		if err := back.Unpack(b); err != nil {
			t.Fatalf("%q: %v", v, err)
		}
		n := dns.StringToType[typ]
		got, _ := recordSet(back.Answer, name, n)
		if !dnsrecord.Equal(got, want) {
			t.Errorf("%s %q went to the wire as %q and came back as %q", typ, v, want.Values, got.Values)
		}
		head := "example.test. 60 IN SOA ns. h. 1 1 1 1 1\nexample.test. 60 IN NS ns.\n"
		z, err := parseZone("example.test.", head+back.Answer[0].String()+"\n")
		if err != nil {
			return // of a type that the server does not serve
		}
		if got, _ := recordSet(z.names[name][n], name, n); !slices.Equal(got.Values, want.Values) {
			t.Errorf("%s %q went to the zone file and came back as %q", typ, want.Values, got.Values)
		}
	})
}

// No message makes an update that leaves a zone that cannot be read again.
func FuzzUpdate(f *testing.F) {
	z, err := parseZone("example.test.", "example.test. 60 IN SOA ns. h. 1 1 1 1 1\nexample.test. 60 IN NS ns.\na.example.test. 60 IN A 192.0.2.1\n")
	if err != nil {
		f.Fatal(err)
	}
	m := new(dns.Msg).SetUpdate("example.test.")
	rr, _ := dns.NewRR("b.example.test. 60 IN TXT \"x\"")
	m.Insert([]dns.RR{rr})
	b, _ := m.Pack()
	f.Add(b)
	m.RemoveName([]dns.RR{rr})
	m.NameNotUsed([]dns.RR{rr})
	b, _ = m.Pack()
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		var m dns.Msg
		if m.Unpack(b) != nil {
			return
		}
		next, rcode := z.updated(&m)
		if rcode != dns.RcodeSuccess {
			return
		}
		again, err := parseZone(z.origin, next.text())
		if err != nil {
			t.Fatalf("the zone cannot be read again: %v\n%s", err, next.text())
		}
		if again.text() != next.text() {
			t.Errorf("the zone was\n%s\nand is read as\n%s", next.text(), again.text())
		}
	})
}
