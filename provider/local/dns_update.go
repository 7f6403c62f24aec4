package local

import (
	"maps"
	"slices"

	"github.com/miekg/dns"
)

// Dynamic update as in RFC 2136 section 3, but for the signature and the
// writing to disk. Comments name its sections.

// updated applies an UPDATE message. It returns z itself if nothing changed,
// and nil with the code of the failure if nothing may be.
func (z *zone) updated(m *dns.Msg) (*zone, int) {
	if rcode := z.checkZone(m.Question); rcode != dns.RcodeSuccess {
		return nil, rcode
	}
	if rcode := z.checkPrerequisites(m.Answer); rcode != dns.RcodeSuccess {
		return nil, rcode
	}
	for _, rr := range m.Ns {
		if rcode := z.prescan(rr); rcode != dns.RcodeSuccess {
			return nil, rcode
		}
	}
	next := z.clone()
	for _, rr := range m.Ns {
		next.apply(rr)
	}
	if next.text() == z.text() {
		return z, dns.RcodeSuccess
	}
	// 3.6: every change is a new serial, or secondaries would not see it, nor
	// would those who use the SOA record as a prerequisite.
	if next.soa().Serial == z.soa().Serial {
		soa := dns.Copy(next.soa()).(*dns.SOA)
		soa.Serial++
		next.names[next.origin][dns.TypeSOA] = []dns.RR{soa}
	}
	return next, dns.RcodeSuccess
}

// checkZone is 3.1.
func (z *zone) checkZone(q []dns.Question) int {
	switch {
	case len(q) != 1 || q[0].Qtype != dns.TypeSOA:
		return dns.RcodeFormatError
	case dns.CanonicalName(q[0].Name) != z.origin || q[0].Qclass != dns.ClassINET:
		return dns.RcodeNotAuth
	}
	return dns.RcodeSuccess
}

type rrKey struct {
	name string
	typ  uint16
}

func keyOf(rr dns.RR) rrKey {
	return rrKey{dns.CanonicalName(rr.Header().Name), rr.Header().Rrtype}
}

// checkPrerequisites is 3.2.
func (z *zone) checkPrerequisites(rrs []dns.RR) int {
	wanted := map[rrKey][]dns.RR{}
	for _, rr := range rrs {
		h, k := rr.Header(), keyOf(rr)
		if h.Ttl != 0 {
			return dns.RcodeFormatError
		}
		if !dns.IsSubDomain(z.origin, k.name) {
			return dns.RcodeNotZone
		}
		if h.Class == dns.ClassINET {
			wanted[k] = append(wanted[k], rr)
			continue
		}
		if rcode := z.checkExistence(h, k); rcode != dns.RcodeSuccess {
			return rcode
		}
	}
	for k, want := range wanted {
		if !sameRecords(want, z.names[k.name][k.typ]) {
			return dns.RcodeNXRrset
		}
	}
	return dns.RcodeSuccess
}

// checkExistence is a prerequisite without data.
func (z *zone) checkExistence(h *dns.RR_Header, k rrKey) int {
	switch {
	case h.Rdlength != 0 || (h.Class != dns.ClassANY && h.Class != dns.ClassNONE):
		return dns.RcodeFormatError
	case k.typ == dns.TypeANY && h.Class == dns.ClassANY && len(z.names[k.name]) == 0:
		return dns.RcodeNameError
	case k.typ == dns.TypeANY && h.Class == dns.ClassNONE && len(z.names[k.name]) > 0:
		return dns.RcodeYXDomain
	case k.typ == dns.TypeANY:
		return dns.RcodeSuccess
	case h.Class == dns.ClassANY && len(z.names[k.name][k.typ]) == 0:
		return dns.RcodeNXRrset
	case h.Class == dns.ClassNONE && len(z.names[k.name][k.typ]) > 0:
		return dns.RcodeYXRrset
	}
	return dns.RcodeSuccess
}

// sameRecords compares without order and TTL, as 1.1.1 defines equality.
func sameRecords(a, b []dns.RR) bool {
	has := func(set []dns.RR, rr dns.RR) bool {
		return slices.ContainsFunc(set, func(o dns.RR) bool { return sameData(o, rr) })
	}
	for _, rr := range a {
		if !has(b, rr) {
			return false
		}
	}
	for _, rr := range b {
		if !has(a, rr) {
			return false
		}
	}
	return true
}

// sameData compares two records but for TTL and class.
func sameData(a, b dns.RR) bool {
	if a.Header().Class != b.Header().Class {
		b = dns.Copy(b)
		b.Header().Class = a.Header().Class
	}
	return dns.IsDuplicate(a, b)
}

// prescan is 3.4.1, and refuses what this server would not serve rightly.
func (z *zone) prescan(rr dns.RR) int {
	h := rr.Header()
	// 128 to 255 are types of questions and of transport (RFC 6895 section
	// 3.1), OPT is one by mistake.
	meta := h.Rrtype >= 128 && h.Rrtype <= 255 || h.Rrtype == dns.TypeOPT || h.Rrtype == dns.TypeNone
	switch {
	case !dns.IsSubDomain(z.origin, h.Name):
		return dns.RcodeNotZone
	case h.Class == dns.ClassINET && !meta && h.Rdlength > 0:
		return z.unsuited(rr)
	case h.Class == dns.ClassANY && h.Ttl == 0 && h.Rdlength == 0 && (!meta || h.Rrtype == dns.TypeANY):
		return dns.RcodeSuccess
	case h.Class == dns.ClassNONE && h.Ttl == 0 && !meta:
		return dns.RcodeSuccess
	}
	return dns.RcodeFormatError
}

// apply is 3.4.2 for one record.
func (z *zone) apply(rr dns.RR) {
	k := keyOf(rr)
	apex := k.name == z.origin
	switch rr.Header().Class {
	case dns.ClassINET:
		z.add(rr, k)
	case dns.ClassANY:
		for typ := range z.names[k.name] {
			keep := apex && (typ == dns.TypeSOA || typ == dns.TypeNS)
			if !keep && (k.typ == dns.TypeANY || k.typ == typ) {
				z.set(rrKey{k.name, typ}, nil)
			}
		}
	case dns.ClassNONE:
		left := slices.DeleteFunc(slices.Clone(z.names[k.name][k.typ]), func(o dns.RR) bool { return sameData(o, rr) })
		if k.typ == dns.TypeSOA || apex && k.typ == dns.TypeNS && len(left) == 0 {
			return
		}
		z.set(k, left)
	}
}

// add is 3.4.2.2. What may not stand beside a CNAME is ignored in silence,
// which is why a client must look before it asks.
func (z *zone) add(rr dns.RR, k rrKey) {
	types := z.names[k.name]
	others := len(types) - min(1, len(types[dns.TypeCNAME]))
	if k.typ == dns.TypeCNAME && others > 0 || k.typ != dns.TypeCNAME && len(types[dns.TypeCNAME]) > 0 {
		return
	}
	rr = dns.Copy(rr)
	rr.Header().Name = k.name
	if soa, ok := rr.(*dns.SOA); ok && !serialAfter(soa.Serial, z.soa().Serial) {
		return
	}
	set := []dns.RR{rr}
	if k.typ != dns.TypeCNAME && k.typ != dns.TypeSOA {
		for _, o := range types[k.typ] {
			if !sameData(o, rr) {
				// One record set has one TTL (RFC 2181 section 5.2).
				o = dns.Copy(o)
				o.Header().Ttl = rr.Header().Ttl
				set = append(set, o)
			}
		}
	}
	z.set(k, set)
}

// set replaces a record set; none removes it.
func (z *zone) set(k rrKey, rrs []dns.RR) {
	types := maps.Clone(z.names[k.name])
	if types == nil {
		types = map[uint16][]dns.RR{}
	}
	types[k.typ] = rrs
	if len(rrs) == 0 {
		delete(types, k.typ)
	}
	z.names[k.name] = types
	if len(types) == 0 {
		delete(z.names, k.name)
	}
}

// serialAfter compares as RFC 1982 does: serials turn over.
func serialAfter(a, b uint32) bool { return int32(a-b) > 0 }
