package rfc2136

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/internal/dnsrecord"
)

// checkName accepts absolute domain names in lower case, of characters that have
// one way to be written, and the root, which is no host ("0 ." of an MX).
func checkName(name string) error {
	if name == "." {
		return nil
	}
	return dnsrecord.Rules{Extra: "/"}.CheckName(name)
}

// types are those whose record sets can be swapped. Not among them are those
// that the server itself looks after (SOA, DNSSEC), and NS and DS, which mean
// something else at the top of a zone and at its edges.
var types = []uint16{
	dns.TypeA, dns.TypeAAAA, dns.TypeCAA, dns.TypeCNAME, dns.TypeHTTPS, dns.TypeMX, dns.TypePTR,
	dns.TypeSRV, dns.TypeSVCB, dns.TypeTLSA, dns.TypeTXT,
}

func recordType(typ string) (uint16, error) {
	if n := dns.StringToType[typ]; slices.Contains(types, n) {
		return n, nil
	}
	return 0, fmt.Errorf("type %q: %w", typ, errors.ErrUnsupported)
}

// canonical checks a record set and returns it with its values in canonical
// form and order, so that two of them are the same set if they are equal.
func canonical(rs provider.RecordSet) (provider.RecordSet, error) {
	rrs, err := records(rs)
	if err != nil {
		return provider.RecordSet{}, err
	}
	rs.Values = nil
	for _, rr := range rrs {
		rs.Values = append(rs.Values, value(rr))
	}
	slices.Sort(rs.Values)
	if len(slices.Compact(slices.Clone(rs.Values))) < len(rs.Values) {
		return provider.RecordSet{}, fmt.Errorf("%s %s: a value is there twice", rs.Name, rs.Type)
	}
	return rs, nil
}

// records turns a record set into fresh records.
func records(rs provider.RecordSet) ([]dns.RR, error) {
	typ, err := recordType(rs.Type)
	if err == nil {
		err = checkName(rs.Name)
	}
	if err == nil {
		err = dnsrecord.CheckSet(rs)
	}
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", rs.Name, rs.Type, err)
	}
	head := dns.RR_Header{Name: rs.Name, Rrtype: typ, Class: dns.ClassINET, Ttl: uint32(rs.TTL / time.Second)}
	var rrs []dns.RR
	for _, v := range rs.Values {
		rr, err := parseRecord(head, v)
		if err == nil {
			// What the library parses it does not always pack.
			if _, err = dns.PackRR(rr, make([]byte, dns.Len(rr)+len(v)+64), 0, nil, false); err != nil {
				err = fmt.Errorf("%.200q is not such a value: %w", v, err)
			}
		}
		if err != nil {
			return nil, fmt.Errorf("%s %s: %w", rs.Name, rs.Type, err)
		}
		rrs = append(rrs, rr)
	}
	return rrs, nil
}

func parseRecord(head dns.RR_Header, v string) (dns.RR, error) {
	if err := dnsrecord.CheckText(v); err != nil {
		return nil, err
	}
	switch head.Rrtype {
	case dns.TypeA, dns.TypeAAAA:
		a, err := dnsrecord.Address(dns.TypeToString[head.Rrtype], v)
		if err != nil {
			return nil, err
		}
		if a.Is4() {
			return &dns.A{Hdr: head, A: net.IP(a.AsSlice())}, nil
		}
		return &dns.AAAA{Hdr: head, AAAA: net.IP(a.AsSlice())}, nil
	case dns.TypeCNAME:
		if err := checkName(v); err != nil {
			return nil, err
		}
		return &dns.CNAME{Hdr: head, Target: v}, nil
	case dns.TypeTXT:
		rr := &dns.TXT{Hdr: head}
		for _, part := range dnsrecord.Strings(v) {
			rr.Txt = append(rr.Txt, dnsrecord.Escape(part)) // as the library wants it
		}
		return rr, nil
	}
	return parsePresentation(head, v)
}

// hostField is where the host name stands among the fields of a value.
var hostField = map[uint16]int{dns.TypeMX: 1, dns.TypePTR: 0, dns.TypeSRV: 3, dns.TypeSVCB: 1, dns.TypeHTTPS: 1}

// parsePresentation leaves the parsing to the library, but for host names,
// which it would complete.
func parsePresentation(head dns.RR_Header, v string) (dns.RR, error) {
	if i, ok := hostField[head.Rrtype]; ok {
		fields := strings.Fields(v)
		if len(fields) <= i {
			return nil, fmt.Errorf("%q has too few fields", v)
		}
		if err := checkName(fields[i]); err != nil {
			return nil, err
		}
	}
	rr, err := dns.NewRR(head.String() + v)
	if err != nil || rr == nil || rr.Header().Rrtype != head.Rrtype {
		return nil, fmt.Errorf("%q is not such a value", v) // what the library says names lines of files
	}
	return rr, nil
}

// value is the presentation form of the data of a record; of a TXT record it
// is the text itself.
func value(rr dns.RR) string {
	rr = dns.Copy(rr)
	switch rr := rr.(type) {
	case *dns.AAAA:
		if a, ok := netip.AddrFromSlice(rr.AAAA.To16()); ok {
			return a.String()
		}
	case *dns.CNAME:
		return dns.CanonicalName(rr.Target)
	case *dns.TXT:
		return dnsrecord.Unescape(strings.Join(rr.Txt, ""), dnsrecord.Decimal)
	case *dns.MX:
		rr.Mx = dns.CanonicalName(rr.Mx)
	case *dns.PTR:
		rr.Ptr = dns.CanonicalName(rr.Ptr)
	case *dns.SRV:
		rr.Target = dns.CanonicalName(rr.Target)
	case *dns.SVCB:
		canonicalService(rr)
	case *dns.HTTPS:
		canonicalService(&rr.SVCB)
	case *dns.TLSA:
		rr.Certificate = strings.ToLower(rr.Certificate)
	}
	return strings.TrimPrefix(rr.String(), rr.Header().String())
}

func canonicalService(rr *dns.SVCB) {
	rr.Target = dns.CanonicalName(rr.Target)
	slices.SortFunc(rr.Value, func(a, b dns.SVCBKeyValue) int { return int(a.Key()) - int(b.Key()) })
}

// recordSet collects the records of one type. No records is none. Two that
// differ only in what the contract does not show, such as the division of a
// text into strings, are one value.
func recordSet(rrs []dns.RR, name string, typ uint16) (rs provider.RecordSet, ok bool) {
	rs = provider.RecordSet{Name: name, Type: dns.TypeToString[typ]}
	for _, rr := range rrs {
		if h := rr.Header(); h.Rrtype == typ {
			rs.TTL = time.Duration(h.Ttl) * time.Second
			rs.Values = append(rs.Values, value(rr))
		}
	}
	slices.Sort(rs.Values)
	rs.Values = slices.Compact(rs.Values)
	return rs, len(rs.Values) > 0
}

// describe is a record set for an error about it.
func describe(rs provider.RecordSet) string {
	if len(rs.Values) == 0 {
		return "none"
	}
	text := strings.Join(rs.Values, " ")
	return fmt.Sprintf("%.200s with a TTL of %v", text, rs.TTL)
}
