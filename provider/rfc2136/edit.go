package rfc2136

import (
	"errors"
	"fmt"
	"slices"

	"github.com/miekg/dns"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/internal/dnsrecord"
)

// An edit is a change that has been checked, of records of a type.
type edit struct {
	dnsrecord.Change
	typ uint16
}

// edits checks changes, also against each other.
func (z *Zone) edits(wanted []provider.Change) (edits []edit, err error) {
	changes, err := dnsrecord.Check(wanted, func(rs provider.RecordSet) (provider.RecordSet, error) {
		rs, err := canonical(rs)
		if err == nil {
			err = z.inZone(rs.Name)
		}
		return rs, err
	})
	for _, c := range changes {
		e := edit{c, dns.StringToType[c.Type]}
		err = errors.Join(err, fits(e, edits))
		edits = append(edits, e)
	}
	return edits, err
}

// fits: one swap puts nothing beside a CNAME.
func fits(e edit, others []edit) error {
	for _, o := range others {
		if o.Name == e.Name && o.To != nil && e.To != nil && (o.typ == dns.TypeCNAME || e.typ == dns.TypeCNAME) {
			return fmt.Errorf("%s cannot be beside %s", e, o)
		}
	}
	return nil
}

// inZone: a name outside of the zone is not one that is not there.
func (z *Zone) inZone(name string) error {
	if err := checkName(name); err != nil {
		return err
	}
	if !dns.IsSubDomain(z.c.Zone, name) {
		return fmt.Errorf("%s is not in zone %s", name, z.c.Zone)
	}
	return nil
}

// update is the message that makes edits in the zone as it was when soa and
// held were read; held are the records of each edit's set. All records in it
// are copies, since the library changes those it is given.
func (z *Zone) update(soa *dns.SOA, held [][]dns.RR, edits []edit) *dns.Msg {
	m := new(dns.Msg).SetUpdate(z.c.Zone)
	if !z.c.InlineSigning {
		m.Used([]dns.RR{dns.Copy(soa)})
	}
	for i, e := range edits {
		if e.From == nil {
			m.RRsetNotUsed(anyOf(e.Name, e.typ))
		} else {
			// As the server has them: a host name in capitals or a text cut
			// elsewhere is the same value, but not the same record.
			m.Used(copies(held[i]))
		}
		if z.c.InlineSigning && e.To != nil {
			m.RRsetNotUsed(besides(e, edits))
		}
		if e.From != nil && e.Alters() {
			m.RemoveRRset(anyOf(e.Name, e.typ))
		}
	}
	for _, e := range edits { // after all removals: a CNAME makes room first
		if e.To != nil && e.Alters() {
			m.Insert(must(records(*e.To)))
		}
	}
	return m
}

// besides are the record sets that must not be there for e.To to be added,
// and that the swap has no edit of. Servers ignore a record beside a CNAME
// without a word (RFC 2136 section 3.4.2.2), which would make a swap half
// done. Where the serial is a prerequisite, having looked is enough.
func besides(e edit, edits []edit) (rrs []dns.RR) {
	for _, typ := range types {
		exclusive := (typ == dns.TypeCNAME) != (e.typ == dns.TypeCNAME)
		edited := slices.ContainsFunc(edits, func(o edit) bool { return o.Name == e.Name && o.typ == typ })
		if exclusive && !edited {
			rrs = append(rrs, anyOf(e.Name, typ)...)
		}
	}
	return rrs
}

func anyOf(name string, typ uint16) []dns.RR {
	return []dns.RR{&dns.ANY{Hdr: dns.RR_Header{Name: name, Rrtype: typ}}}
}

func copies(rrs []dns.RR) []dns.RR {
	out := make([]dns.RR, len(rrs))
	for i, rr := range rrs {
		out[i] = dns.Copy(rr)
	}
	return out
}

// must: the record sets of an edit have been through canonical.
func must(rrs []dns.RR, err error) []dns.RR {
	if err != nil {
		panic(err)
	}
	return rrs
}
