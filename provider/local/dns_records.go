package local

import (
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/internal/dnsrecord"
)

// rules are what is taken: names of characters that have one way to be written.
var rules = dnsrecord.Rules{Extra: "/"}

// recordType is the number of a type whose record sets can be swapped: those
// that a failover moves. Others have values with several ways to write them.
func recordType(typ string) (uint16, error) { return dns.StringToType[typ], dnsrecord.CheckType(typ) }

// records turns a record set into fresh records.
func records(rs provider.RecordSet) (rrs []dns.RR, err error) {
	if rs, err = rules.Canonical(rs); err != nil {
		return nil, err
	}
	head := dns.RR_Header{Name: rs.Name, Rrtype: dns.StringToType[rs.Type], Class: dns.ClassINET, Ttl: uint32(rs.TTL / time.Second)}
	for _, v := range rs.Values {
		switch head.Rrtype {
		case dns.TypeA:
			rrs = append(rrs, &dns.A{Hdr: head, A: net.ParseIP(v)})
		case dns.TypeAAAA:
			rrs = append(rrs, &dns.AAAA{Hdr: head, AAAA: net.ParseIP(v)})
		case dns.TypeCNAME:
			rrs = append(rrs, &dns.CNAME{Hdr: head, Target: v})
		default:
			rr := &dns.TXT{Hdr: head}
			for _, part := range dnsrecord.Strings(v) {
				rr.Txt = append(rr.Txt, dnsrecord.Escape(part)) // as the library wants it
			}
			rrs = append(rrs, rr)
		}
	}
	return rrs, nil
}

// value is the presentation form of the data of a record; of a TXT record it
// is the text itself.
func value(rr dns.RR) string {
	switch rr := rr.(type) {
	case *dns.A:
		return rr.A.String()
	case *dns.AAAA:
		if a, ok := netip.AddrFromSlice(rr.AAAA.To16()); ok {
			return a.String()
		}
	case *dns.CNAME:
		return dns.CanonicalName(rr.Target)
	case *dns.TXT:
		return dnsrecord.Unescape(strings.Join(rr.Txt, ""), dnsrecord.Decimal)
	}
	return "" // of no other type; see recordType
}

// recordSet collects the records of one name and type. No records is none.
func recordSet(rrs []dns.RR, name string, typ uint16) (rs provider.RecordSet, ok bool) {
	rs = provider.RecordSet{Name: name, Type: dns.TypeToString[typ]}
	for _, rr := range rrs {
		if h := rr.Header(); h.Rrtype == typ && h.Class == dns.ClassINET && dns.CanonicalName(h.Name) == name {
			rs.TTL = time.Duration(h.Ttl) * time.Second
			rs.Values = append(rs.Values, value(rr))
		}
	}
	slices.Sort(rs.Values)
	return rs, len(rs.Values) > 0
}
