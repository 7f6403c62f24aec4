package local

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/miekg/dns"
)

// A zone is the records of one zone. It is never changed: an update makes a
// new one, so that answers need no lock and an update that fails leaves
// nothing behind.
type zone struct {
	origin string
	names  map[string]map[uint16][]dns.RR // by canonical owner name and type
}

func (z *zone) soa() *dns.SOA { return z.names[z.origin][dns.TypeSOA][0].(*dns.SOA) }

// text is the zone as a master file (RFC 1035 section 5), the SOA first, the
// same for the same records.
func (z *zone) text() string {
	var b strings.Builder
	fmt.Fprintln(&b, z.soa())
	for _, name := range slices.Sorted(maps.Keys(z.names)) {
		types := z.names[name]
		for _, typ := range slices.Sorted(maps.Keys(types)) {
			if typ == dns.TypeSOA {
				continue
			}
			lines := make([]string, 0, len(types[typ]))
			for _, rr := range types[typ] {
				lines = append(lines, rr.String()+"\n")
			}
			slices.Sort(lines)
			b.WriteString(strings.Join(lines, ""))
		}
	}
	return b.String()
}

// parseZone reads what text wrote, or what an operator wrote in its place.
func parseZone(origin, text string) (*zone, error) {
	z := &zone{origin: origin, names: map[string]map[uint16][]dns.RR{}}
	p := dns.NewZoneParser(strings.NewReader(text), origin, "")
	for rr, ok := p.Next(); ok; rr, ok = p.Next() {
		h := rr.Header()
		if !dns.IsSubDomain(origin, h.Name) {
			return nil, fmt.Errorf("record of %s, which is not in zone %s", h.Name, origin)
		}
		if rcode := z.unsuited(rr); rcode != dns.RcodeSuccess {
			return nil, fmt.Errorf("record that this server cannot serve: %s", rr)
		}
		z.insert(rr)
	}
	if err := p.Err(); err != nil {
		return nil, err
	}
	apex := z.names[origin]
	if len(apex[dns.TypeSOA]) != 1 || len(apex[dns.TypeNS]) == 0 {
		return nil, fmt.Errorf("want one SOA record and NS records at %s", origin)
	}
	return z, nil
}

// insert adds a record to a zone that is being made.
func (z *zone) insert(rr dns.RR) {
	name := dns.CanonicalName(rr.Header().Name)
	rr.Header().Name = name
	if z.names[name] == nil {
		z.names[name] = map[uint16][]dns.RR{}
	}
	z.names[name][rr.Header().Rrtype] = append(z.names[name][rr.Header().Rrtype], rr)
}

// unsuited says with which code a record is refused that this server would
// not answer for as the standards want it: wildcards, delegations, DNAME.
func (z *zone) unsuited(rr dns.RR) int {
	h := rr.Header()
	name := dns.CanonicalName(h.Name)
	switch {
	case strings.HasPrefix(name, "*.") || strings.Contains(name, ".*."):
		return dns.RcodeRefused
	case (h.Rrtype == dns.TypeNS || h.Rrtype == dns.TypeSOA) && name != z.origin:
		return dns.RcodeRefused
	case h.Rrtype == dns.TypeDNAME || h.Rrtype == dns.TypeDS:
		return dns.RcodeRefused
	}
	return dns.RcodeSuccess
}

// A reply is what the zone has to say to a question (RFC 1034 section 4.3.2).
type reply struct {
	rcode             int
	answer, authority []dns.RR
}

const maxChain = 8 // CNAME records followed for one answer

func (z *zone) lookup(name string, typ uint16) reply {
	var r reply
	for range maxChain {
		name = dns.CanonicalName(name)
		if !dns.IsSubDomain(z.origin, name) {
			return r // a CNAME out of the zone: the asker goes on from there
		}
		types := z.names[name]
		if typ == dns.TypeANY {
			for _, t := range slices.Sorted(maps.Keys(types)) {
				r.answer = append(r.answer, types[t]...)
			}
		} else {
			r.answer = append(r.answer, types[typ]...)
		}
		switch cname := types[dns.TypeCNAME]; {
		case typ == dns.TypeANY && len(types) > 0, len(types[typ]) > 0:
			return r
		case len(cname) > 0:
			r.answer = append(r.answer, cname...)
			name = cname[0].(*dns.CNAME).Target
		default:
			if len(types) == 0 && !z.hasBelow(name) {
				r.rcode = dns.RcodeNameError
			}
			r.authority = []dns.RR{z.negative()}
			return r
		}
	}
	return r
}

// hasBelow reports whether there is a name under name, so that name itself
// exists, empty (RFC 8020).
func (z *zone) hasBelow(name string) bool {
	for other := range z.names {
		if other != name && dns.IsSubDomain(name, other) {
			return true
		}
	}
	return false
}

// negative is the SOA record of an answer that says no (RFC 2308 section 3).
func (z *zone) negative() dns.RR {
	soa := dns.Copy(z.soa()).(*dns.SOA)
	soa.Hdr.Ttl = min(soa.Hdr.Ttl, soa.Minttl)
	return soa
}

func (z *zone) clone() *zone {
	c := &zone{origin: z.origin, names: make(map[string]map[uint16][]dns.RR, len(z.names))}
	for name, types := range z.names {
		c.names[name] = maps.Clone(types) // slices of records are replaced, not changed
	}
	return c
}
