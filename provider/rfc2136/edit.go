package rfc2136

import (
	"errors"
	"fmt"
	"slices"

	"github.com/miekg/dns"

	"github.com/holdfast-go/holdfast/provider"
)

// An edit is a change that has been checked, with its sets in canonical form.
type edit struct {
	name     string
	typ      uint16
	old, new *provider.RecordSet
}

// same: nothing is to be changed.
func (e edit) same() bool { return e.old != nil && e.new != nil && sameSet(*e.old, *e.new) }

func (e edit) String() string { return e.name + " " + dns.TypeToString[e.typ] }

// edits checks changes, also against each other.
func (z *Zone) edits(changes []provider.Change) ([]edit, error) {
	if len(changes) == 0 {
		return nil, errors.New("no changes")
	}
	var edits []edit
	for i, c := range changes {
		e, err := z.edit(c)
		if err == nil {
			err = fits(e, edits)
		}
		if err != nil {
			return nil, fmt.Errorf("change %d: %w", i, err)
		}
		edits = append(edits, e)
	}
	return edits, nil
}

func (z *Zone) edit(c provider.Change) (e edit, err error) {
	for _, part := range []struct {
		from *provider.RecordSet
		to   **provider.RecordSet
	}{{c.Old, &e.old}, {c.New, &e.new}} {
		if part.from == nil {
			continue
		}
		rs, err := canonical(*part.from)
		if err == nil {
			err = z.inZone(rs.Name)
		}
		if err != nil {
			return e, err
		}
		*part.to = &rs
		e.name, e.typ = rs.Name, dns.StringToType[rs.Type]
	}
	switch {
	case e.old == nil && e.new == nil:
		return e, errors.New("neither Old nor New")
	case e.old != nil && e.new != nil && (e.old.Name != e.new.Name || e.old.Type != e.new.Type):
		return e, errors.New("its Old and New are not of one name and type")
	}
	return e, nil
}

// fits: one swap does not change a record set twice, nor put anything beside
// a CNAME.
func fits(e edit, others []edit) error {
	for _, o := range others {
		switch {
		case o.name != e.name:
		case o.typ == e.typ:
			return fmt.Errorf("%s: an earlier change has this record set", e)
		case o.new != nil && e.new != nil && (o.typ == dns.TypeCNAME || e.typ == dns.TypeCNAME):
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
		if e.old == nil {
			m.RRsetNotUsed(anyOf(e.name, e.typ))
		} else {
			// As the server has them: a host name in capitals or a text cut
			// elsewhere is the same value, but not the same record.
			m.Used(copies(held[i]))
		}
		if z.c.InlineSigning && e.new != nil {
			m.RRsetNotUsed(besides(e, edits))
		}
		if e.old != nil && !e.same() {
			m.RemoveRRset(anyOf(e.name, e.typ))
		}
	}
	for _, e := range edits { // after all removals: a CNAME makes room first
		if e.new != nil && !e.same() {
			m.Insert(must(records(*e.new)))
		}
	}
	return m
}

// besides are the record sets that must not be there for e.new to be added,
// and that the swap has no edit of. Servers ignore a record beside a CNAME
// without a word (RFC 2136 section 3.4.2.2), which would make a swap half
// done. Where the serial is a prerequisite, having looked is enough.
func besides(e edit, edits []edit) (rrs []dns.RR) {
	for _, typ := range types {
		exclusive := (typ == dns.TypeCNAME) != (e.typ == dns.TypeCNAME)
		edited := slices.ContainsFunc(edits, func(o edit) bool { return o.name == e.name && o.typ == typ })
		if exclusive && !edited {
			rrs = append(rrs, anyOf(e.name, typ)...)
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
