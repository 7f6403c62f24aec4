package libdns

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	upstream "github.com/libdns/libdns"
	"github.com/miekg/dns"

	"github.com/holdfast-go/holdfast/provider"
)

// checkName accepts absolute domain names in lower case, of characters that
// are written in one way only.
func checkName(name string) error {
	odd := strings.Trim(strings.ToLower(name), "abcdefghijklmnopqrstuvwxyz0123456789-_./*")
	switch _, ok := dns.IsDomainName(name); {
	case !ok || odd != "":
		return fmt.Errorf("%q is not a domain name", name)
	case !dns.IsFqdn(name):
		return fmt.Errorf("%q has no final dot", name)
	case dns.CanonicalName(name) != name:
		return fmt.Errorf("%q is not in lower case", name)
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

func checkType(typ string) error {
	if !slices.Contains([]string{"A", "AAAA", "CNAME", "TXT"}, typ) {
		return fmt.Errorf("type %q: %w", typ, errors.ErrUnsupported)
	}
	return nil
}

// canonical checks a record set and returns it with its values in canonical
// form and order.
func (z *Zone) canonical(rs provider.RecordSet) (*provider.RecordSet, error) {
	if err := errors.Join(checkType(rs.Type), z.inZone(rs.Name)); err != nil {
		return nil, err
	}
	switch {
	case rs.TTL < 0 || rs.TTL%time.Second != 0 || rs.TTL >= 1<<31*time.Second:
		return nil, fmt.Errorf("%s %s: TTL %v is not a number of whole seconds below 2^31", rs.Name, rs.Type, rs.TTL)
	case len(rs.Values) == 0:
		return nil, fmt.Errorf("%s %s: no values", rs.Name, rs.Type)
	case rs.Type == "CNAME" && len(rs.Values) > 1:
		return nil, fmt.Errorf("%s CNAME: more than one value", rs.Name)
	}
	values := slices.Clone(rs.Values)
	for i, v := range values {
		if err := checkValue(rs.Type, v); err != nil {
			return nil, fmt.Errorf("%s %s: %w", rs.Name, rs.Type, err)
		}
		values[i] = canonicalValue(rs.Type, v)
	}
	slices.Sort(values)
	if len(slices.Compact(slices.Clone(values))) < len(values) {
		return nil, fmt.Errorf("%s %s: a value is there twice", rs.Name, rs.Type)
	}
	rs.Values = values
	return &rs, nil
}

func checkValue(typ, v string) error {
	switch typ {
	case "A", "AAAA":
		a, err := netip.ParseAddr(v)
		if err != nil || a.Zone() != "" || a.Is4() != (typ == "A") {
			return fmt.Errorf("%q is not such an address", v)
		}
	case "CNAME":
		return checkName(v)
	case "TXT":
		for _, c := range []byte(v) {
			if c < ' ' || c > '~' {
				return fmt.Errorf("text has byte 0x%02x: want printable ASCII", c)
			}
		}
	}
	return nil
}

// canonicalValue takes what packages of libdns deliver: some host names come
// without the final dot.
func canonicalValue(typ, v string) string {
	switch typ {
	case "A", "AAAA":
		if a, err := netip.ParseAddr(v); err == nil {
			return a.String()
		}
	case "CNAME":
		return dns.CanonicalName(v)
	}
	return v
}

// records are a record set as libdns has it.
func (z *Zone) records(rs *provider.RecordSet) (recs []upstream.Record, err error) {
	for _, v := range rs.Values {
		rr := upstream.RR{Name: upstream.RelativeName(rs.Name, z.c.Zone), TTL: rs.TTL, Type: rs.Type, Data: v}
		if rr.TTL == 0 {
			rr.TTL = 1 // not the service's default; fractions are cut off
		}
		rec, err := rr.Parse()
		if err != nil {
			return nil, fmt.Errorf("%s %s: %w", rs.Name, rs.Type, err)
		}
		recs = append(recs, rec)
	}
	return recs, nil
}

// A zoneView is all that the service has in the zone, by name and type.
type zoneView map[[2]string]*provider.RecordSet

// read lists the zone.
func (z *Zone) read(ctx context.Context) (zoneView, error) {
	recs, err := z.c.Provider.GetRecords(ctx, z.c.Zone)
	if err != nil {
		return nil, fmt.Errorf("list zone %s: %w", z.c.Zone, withCause(ctx, err))
	}
	view := zoneView{}
	for _, rec := range recs {
		rr := rec.RR()
		name := dns.CanonicalName(upstream.AbsoluteName(rr.Name, z.c.Zone))
		k := [2]string{name, rr.Type}
		if view[k] == nil {
			view[k] = &provider.RecordSet{Name: name, Type: rr.Type, TTL: rr.TTL.Truncate(time.Second)}
		}
		view[k].Values = append(view[k].Values, canonicalValue(rr.Type, rr.Data))
	}
	for _, rs := range view {
		slices.Sort(rs.Values)
		rs.Values = slices.Compact(rs.Values)
	}
	return view, nil
}

// withCause makes an error match that of ctx, if ctx has ended.
func withCause(ctx context.Context, err error) error {
	if ended := ctx.Err(); ended != nil && !errors.Is(err, ended) {
		return fmt.Errorf("%w: %w", ended, err)
	}
	return err
}

func same(a, b *provider.RecordSet) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.Name == b.Name && a.Type == b.Type && a.TTL == b.TTL && slices.Equal(a.Values, b.Values)
}

// describe is a record set for an error about it.
func describe(rs *provider.RecordSet) string {
	if rs == nil {
		return "none"
	}
	return fmt.Sprintf("%.200s with a TTL of %v", strings.Join(rs.Values, " "), rs.TTL)
}
