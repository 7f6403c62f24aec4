package route53

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/route53"
	"github.com/aws/aws-sdk-go-v2/service/route53/types"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/internal/dnsrecord"
)

// A zone is a hosted zone.
type zone struct{ id, name string }

// zoneOf returns the zone that a name is in. The lock is not held while Route
// 53 is asked: nobody waits for the answer to another's question.
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
	switch len(best) {
	case 0:
		return zone{}, fmt.Errorf("%s is in none of the %d hosted zones", name, len(zones))
	case 1:
		return best[0], nil
	}
	var ids []string
	for _, in := range best {
		ids = append(ids, in.id)
	}
	return zone{}, fmt.Errorf("%d hosted zones are called %s (%s): put the ID of one into Config.Zones", len(best), best[0].name, strings.Join(ids, ", "))
}

// list asks for the zones to work in. It never returns nil without an error.
func (z *Zones) list(ctx context.Context) ([]zone, error) {
	zones := []zone{}
	for _, id := range z.c.Zones {
		out, err := z.client.GetHostedZone(ctx, &route53.GetHostedZoneInput{Id: &id})
		if err != nil {
			return nil, fmt.Errorf("hosted zone %s: %w", id, err)
		}
		zones = append(zones, zone{id, plainName(aws.ToString(out.HostedZone.Name))})
	}
	if len(zones) > 0 {
		return zones, nil
	}
	pages := route53.NewListHostedZonesPaginator(z.client, &route53.ListHostedZonesInput{})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, fmt.Errorf("list hosted zones: %w", err)
		}
		for _, hz := range page.HostedZones {
			if private := hz.Config != nil && hz.Config.PrivateZone; private == z.c.Private {
				zones = append(zones, zone{id(hz.Id), plainName(aws.ToString(hz.Name))})
			}
		}
	}
	return zones, nil
}

// sets are all record sets of one name, as Route 53 has them.
type sets struct {
	name string
	all  []types.ResourceRecordSet
}

// read asks for the record sets of a name, pending changes included.
func (z *Zones) read(ctx context.Context, in zone, name string) (sets, error) {
	found := sets{name: name}
	ask := &route53.ListResourceRecordSetsInput{HostedZoneId: &in.id, StartRecordName: aws.String(escapedName(name))}
	for {
		page, err := z.client.ListResourceRecordSets(ctx, ask)
		if err != nil {
			return sets{}, err
		}
		for _, rs := range page.ResourceRecordSets {
			if plainName(aws.ToString(rs.Name)) != name {
				return found, nil // they are in the order of names
			}
			found.all = append(found.all, rs)
		}
		if !page.IsTruncated {
			return found, nil
		}
		ask.StartRecordName, ask.StartRecordType, ask.StartRecordIdentifier = page.NextRecordName, page.NextRecordType, page.NextRecordIdentifier
	}
}

// uncut refuses names that the zone delegates, which are in another one, made
// since the zones were listed or not this account's.
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
		all = append(all, string(rs.Type))
	}
	return all
}

// simple returns the record set of a type, nil if there is none, and an error
// if there is more to it than a RecordSet can say.
func (s sets) simple(typ string) (*types.ResourceRecordSet, error) {
	var held *types.ResourceRecordSet
	for i, rs := range s.all {
		if string(rs.Type) != typ {
			continue
		}
		if what := special(rs); what != "" {
			return nil, dnsrecord.Unsupported("%s %s %s: it is neither read nor changed here", s.name, typ, what)
		}
		held = &s.all[i]
	}
	return held, nil
}

// special says what a record set has besides TTL and values.
func special(rs types.ResourceRecordSet) string {
	switch {
	case rs.AliasTarget != nil:
		return "is an alias of " + aws.ToString(rs.AliasTarget.DNSName)
	case rs.TrafficPolicyInstanceId != nil:
		return "is made by the traffic policy instance " + *rs.TrafficPolicyInstanceId
	case rs.SetIdentifier != nil, rs.Weight != nil, rs.Failover != "", rs.Region != "", rs.GeoLocation != nil, rs.GeoProximityLocation != nil,
		rs.CidrRoutingConfig != nil, aws.ToBool(rs.MultiValueAnswer):
		return fmt.Sprintf("has a routing policy (set identifier %q)", aws.ToString(rs.SetIdentifier))
	case rs.HealthCheckId != nil:
		return "has the health check " + *rs.HealthCheckId
	}
	return ""
}

// same: the zone holds exactly this, or nothing if want is nil.
func (s sets) same(typ string, want *provider.RecordSet) (bool, error) {
	held, err := s.simple(typ)
	if err != nil || held == nil || want == nil {
		return err == nil && held == nil && want == nil, err
	}
	rs, err := recordSet(s.name, *held)
	return err == nil && dnsrecord.Equal(rs, *want), err
}
