package clouddns

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"google.golang.org/api/dns/v1"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/gcp/internal/conn"
	"github.com/holdfast-go/holdfast/provider/internal/dnsrecord"
)

// A zone is a managed zone.
type zone struct {
	id   string // its name at Cloud DNS
	name string // the domain name
	not  string // why it has no records, or empty
}

// zoneOf returns the zone that a name is in. The lock is not held while Cloud
// DNS is asked: nobody waits for the answer to another's question.
func (z *Zones) zoneOf(ctx context.Context, name string) (zone, error) {
	z.mu.Lock()
	known := z.known
	z.mu.Unlock()
	if known != nil {
		if in, err := longest(known, name); err == nil {
			return in, nil
		} // it may have been made meanwhile
	}
	known, err := z.list(ctx)
	if err != nil {
		return zone{}, err
	}
	z.mu.Lock()
	z.known = known
	z.mu.Unlock()
	return longest(known, name)
}

func (z *Zones) forget() {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.known = nil
}

// longest finds the zone with the longest name at or above name.
func longest(zones []zone, name string) (zone, error) {
	var best []zone
	for _, in := range zones {
		if in.name != "." && name != in.name && !strings.HasSuffix(name, "."+in.name) {
			continue
		}
		switch {
		case len(best) == 0 || len(in.name) > len(best[0].name):
			best = []zone{in}
		case len(in.name) == len(best[0].name):
			best = append(best, in)
		}
	}
	switch {
	case len(best) == 0:
		return zone{}, fmt.Errorf("%s is in none of the %d managed zones", name, len(zones))
	case len(best) == 1 && best[0].not != "":
		return zone{}, fmt.Errorf("%s is in the managed zone %s, which has no records: it %s", name, best[0].id, best[0].not)
	case len(best) == 1:
		return best[0], nil
	}
	var ids []string
	for _, in := range best {
		ids = append(ids, in.id)
	}
	return zone{}, fmt.Errorf("%d managed zones are of %s (%s): put the name of one into Config.Zones", len(best), best[0].name, strings.Join(ids, ", "))
}

// list asks for the zones to work in. It never returns nil without an error.
func (z *Zones) list(ctx context.Context) ([]zone, error) {
	zones := []zone{}
	for _, id := range z.c.Zones {
		held, err := conn.Do(ctx, z.service, &conn.Attempts{}, func(ctx context.Context) (*dns.ManagedZone, error) {
			return z.client.ManagedZones.Get(z.c.Project, id).Context(ctx).Do()
		})
		if err != nil {
			return nil, fmt.Errorf("managed zone %s: %w", id, err)
		}
		zones = append(zones, zoneFrom(held))
	}
	if len(zones) > 0 {
		return zones, nil
	}
	for token := ""; ; {
		page, err := conn.Do(ctx, z.service, &conn.Attempts{}, func(ctx context.Context) (*dns.ManagedZonesListResponse, error) {
			call := z.client.ManagedZones.List(z.c.Project)
			if token != "" {
				call.PageToken(token)
			}
			return call.Context(ctx).Do()
		})
		if err != nil {
			return nil, fmt.Errorf("list managed zones: %w", err)
		}
		for _, held := range page.ManagedZones {
			if private := held.Visibility == "private"; private == z.c.Private {
				zones = append(zones, zoneFrom(held))
			}
		}
		if token = page.NextPageToken; token == "" {
			return zones, nil
		}
	}
}

func zoneFrom(held *dns.ManagedZone) zone {
	in := zone{id: held.Name, name: strings.ToLower(held.DnsName)}
	switch {
	case held.ForwardingConfig != nil:
		in.not = "forwards queries to other servers"
	case held.PeeringConfig != nil:
		in.not = "answers from another network"
	case held.ServiceDirectoryConfig != nil:
		in.not = "answers from Service Directory"
	}
	return in
}

// sets are all record sets of one name, as Cloud DNS has them.
type sets struct {
	name string
	all  []*dns.ResourceRecordSet
}

// read asks for the record sets of a name, pending changes included.
func (z *Zones) read(ctx context.Context, in zone, name string) (sets, error) {
	found := sets{name: name}
	for token := ""; ; {
		page, err := conn.Do(ctx, z.service, &conn.Attempts{}, func(ctx context.Context) (*dns.ResourceRecordSetsListResponse, error) {
			call := z.client.ResourceRecordSets.List(z.c.Project, in.id).Name(name)
			if token != "" {
				call.PageToken(token)
			}
			return call.Context(ctx).Do()
		})
		if err != nil {
			return sets{}, err
		}
		for _, rs := range page.Rrsets {
			if strings.EqualFold(rs.Name, name) {
				found.all = append(found.all, rs)
			}
		}
		if token = page.NextPageToken; token == "" {
			return found, nil
		}
	}
}

// uncut refuses names that the zone delegates, which are in another one, made
// since the zones were listed or not this project's.
func (z *Zones) uncut(ctx context.Context, in zone, names map[string]sets) error {
	read := maps.Clone(names)
	for name := range names {
		for _, at := range dnsrecord.Cuts(name, in.name) {
			s, ok := read[at]
			if !ok {
				var err error
				if s, err = z.read(ctx, in, at); err != nil {
					return err
				}
				read[at] = s
			}
			if slices.Contains(s.types(), "NS") {
				z.forget()
				return dnsrecord.Delegated(name, at, in.name)
			}
		}
	}
	return nil
}

func (s sets) types() (all []string) {
	for _, rs := range s.all {
		all = append(all, rs.Type)
	}
	return all
}

// simple returns the record set of a type, nil if there is none, and an error
// if there is more to it than a RecordSet can say.
func (s sets) simple(typ string) (held *dns.ResourceRecordSet, err error) {
	for _, rs := range s.all {
		switch {
		case rs.Type == "ALIAS" && (typ == "A" || typ == "AAAA"):
			return nil, dnsrecord.Unsupported("%s %s is an alias of %s: it is neither read nor changed here", s.name, typ, strings.Join(rs.Rrdatas, " "))
		case rs.Type == typ && rs.RoutingPolicy != nil:
			return nil, dnsrecord.Unsupported("%s %s has a routing policy: it is neither read nor changed here", s.name, typ)
		case rs.Type == typ:
			held = rs
		}
	}
	return held, nil
}

// same: the zone holds exactly this, or nothing if want is nil.
func (s sets) same(typ string, want *provider.RecordSet) (bool, error) {
	held, err := s.simple(typ)
	if err != nil || held == nil || want == nil {
		return err == nil && held == nil && want == nil, err
	}
	rs, err := recordSet(held)
	return err == nil && dnsrecord.Equal(rs, *want), err
}
