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
	"github.com/holdfast-go/holdfast/provider/internal/dnsrecord"
)

// rules are what is taken: names of characters that are written in one way only.
var rules = dnsrecord.Rules{Extra: "/"}

// inZone: a name outside of the zone is not one that is not there.
func (z *Zone) inZone(name string) error {
	if err := rules.CheckName(name); err != nil {
		return err
	}
	if !dns.IsSubDomain(z.c.Zone, name) {
		return fmt.Errorf("%s is not in zone %s", name, z.c.Zone)
	}
	return nil
}

// canonical checks a record set and returns it with its values in canonical
// form and order.
func (z *Zone) canonical(rs provider.RecordSet) (provider.RecordSet, error) {
	rs, err := rules.Canonical(rs)
	if err == nil {
		err = z.inZone(rs.Name)
	}
	return rs, err
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

// describe is a record set for an error about it.
func describe(rs *provider.RecordSet) string {
	if rs == nil {
		return "none"
	}
	return fmt.Sprintf("%.200s with a TTL of %v", strings.Join(rs.Values, " "), rs.TTL)
}
