package azuredns

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/arm"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/dns/armdns"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/privatedns/armprivatedns"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/azure/internal/conn"
	"github.com/holdfast-go/holdfast/provider/internal/dnsrecord"
)

// records are the calls about record sets, which public and private zones have
// alike and the SDK has twice. etag empty means that there is no record set.
type records interface {
	get(ctx context.Context, in zone, name, typ string) (vendor, error)
	put(ctx context.Context, in zone, name, typ, etag string, v vendor) error
	remove(ctx context.Context, in zone, name, typ, etag string) error
	servers(ctx context.Context, in zone) ([]string, error) // nil: none that could be asked
}

// A vendor is a record set as the service has it.
type vendor struct {
	etag     string
	ttl      int64
	values   []string // texts in one piece each
	metadata map[string]*string
	special  string // what it has besides TTL and values
}

// A held is what the zone holds under a name and type. Without values set is
// nil, and etag may be there all the same: of an empty record set.
type held struct {
	vendor
	set *provider.RecordSet
}

// read asks for what a zone holds.
func (in zone) read(ctx context.Context, name, typ string) (held, error) {
	v, err := in.records.get(ctx, in, in.relative(name), typ)
	switch {
	case isMissing(err):
		return held{}, nil
	case err != nil:
		return held{}, err
	case v.special != "":
		return held{}, dnsrecord.Unsupported("%s %s %s: it is neither read nor changed here", name, typ, v.special)
	case len(v.values) == 0:
		return held{vendor: v}, nil
	}
	rs, err := rules.Canonical(provider.RecordSet{Name: name, Type: typ, TTL: time.Duration(v.ttl) * time.Second, Values: v.values})
	if err != nil {
		return held{}, dnsrecord.Unsupported("the zone holds what is not swapped: %v", err)
	}
	return held{v, &rs}, nil
}

// uncut refuses a name that the zone delegates. A private zone has no NS records.
func (in zone) uncut(ctx context.Context, name string) error {
	if _, ok := in.records.(private); ok {
		return nil
	}
	for _, at := range dnsrecord.Cuts(name, in.name) {
		v, err := in.records.get(ctx, in, in.relative(at), "NS")
		switch {
		case isMissing(err):
		case err != nil:
			return fmt.Errorf("look for NS records at %s: %w", at, conn.Answered(err))
		case len(v.values) > 0:
			return dnsrecord.Delegated(name, at, in.name)
		}
	}
	return nil
}

const markKey = "holdfastSwap"

// marked is rs as the service takes it, with the metadata that were there and
// the mark of this swap.
func (h held) marked(rs provider.RecordSet, mark string) vendor {
	metadata := maps.Clone(h.metadata)
	if metadata == nil {
		metadata = map[string]*string{}
	}
	metadata[markKey] = &mark
	return vendor{ttl: int64(rs.TTL / time.Second), values: rs.Values, metadata: metadata}
}

func (v vendor) mark() string { return deref(v.metadata[markKey]) }

type public struct {
	sets  *armdns.RecordSetsClient
	zones *armdns.ZonesClient
}

func connectPublic(subscription string, token azcore.TokenCredential, o *arm.ClientOptions) (records, error) {
	sets, err := armdns.NewRecordSetsClient(subscription, token, o)
	if err != nil {
		return nil, err
	}
	zones, err := armdns.NewZonesClient(subscription, token, o)
	return public{sets, zones}, err
}

func (c public) get(ctx context.Context, in zone, name, typ string) (vendor, error) {
	out, err := c.sets.Get(ctx, in.group, in.label, name, armdns.RecordType(typ), nil)
	if err != nil {
		return vendor{}, err
	}
	v := vendor{etag: deref(out.Etag)}
	p := out.Properties
	if p == nil {
		return v, nil
	}
	v.ttl, v.metadata = deref(p.TTL), p.Metadata
	if p.TargetResource != nil && deref(p.TargetResource.ID) != "" {
		v.special = "is an alias of " + *p.TargetResource.ID
	}
	switch typ {
	case "A":
		for _, r := range p.ARecords {
			v.values = append(v.values, deref(r.IPv4Address))
		}
	case "AAAA":
		for _, r := range p.AaaaRecords {
			v.values = append(v.values, deref(r.IPv6Address))
		}
	case "CNAME":
		if r := p.CnameRecord; r != nil && deref(r.Cname) != "" {
			v.values = []string{hostName(*r.Cname)}
		}
	case "TXT":
		for _, r := range p.TxtRecords {
			v.values = append(v.values, joined(r.Value))
		}
	case "NS":
		for _, r := range p.NsRecords {
			v.values = append(v.values, deref(r.Nsdname))
		}
	}
	return v, nil
}

func (c public) put(ctx context.Context, in zone, name, typ, etag string, v vendor) error {
	p := &armdns.RecordSetProperties{TTL: &v.ttl, Metadata: v.metadata}
	for _, s := range v.values {
		switch typ {
		case "A":
			p.ARecords = append(p.ARecords, &armdns.ARecord{IPv4Address: &s})
		case "AAAA":
			p.AaaaRecords = append(p.AaaaRecords, &armdns.AaaaRecord{IPv6Address: &s})
		case "CNAME":
			host := strings.TrimSuffix(s, ".")
			p.CnameRecord = &armdns.CnameRecord{Cname: &host}
		case "TXT":
			p.TxtRecords = append(p.TxtRecords, &armdns.TxtRecord{Value: parts(s)})
		}
	}
	var o armdns.RecordSetsClientCreateOrUpdateOptions
	o.IfMatch, o.IfNoneMatch = conditions(etag)
	_, err := c.sets.CreateOrUpdate(ctx, in.group, in.label, name, armdns.RecordType(typ), armdns.RecordSet{Properties: p}, &o)
	return err
}

// conditions are If-Match and If-None-Match of a request: that the record set
// is still what has etag, or that there is none.
func conditions(etag string) (match, none *string) {
	if etag == "" {
		star := "*"
		return nil, &star
	}
	return &etag, nil
}

func (c public) remove(ctx context.Context, in zone, name, typ, etag string) error {
	_, err := c.sets.Delete(ctx, in.group, in.label, name, armdns.RecordType(typ), &armdns.RecordSetsClientDeleteOptions{IfMatch: &etag})
	return err
}

func (c public) servers(ctx context.Context, in zone) (servers []string, err error) {
	out, err := c.zones.Get(ctx, in.group, in.label, nil)
	if err != nil || out.Properties == nil {
		return nil, err
	}
	for _, s := range out.Properties.NameServers {
		servers = append(servers, deref(s))
	}
	return servers, nil
}

type private struct {
	sets *armprivatedns.RecordSetsClient
}

func connectPrivate(subscription string, token azcore.TokenCredential, o *arm.ClientOptions) (records, error) {
	sets, err := armprivatedns.NewRecordSetsClient(subscription, token, o)
	return private{sets}, err
}

func (c private) get(ctx context.Context, in zone, name, typ string) (vendor, error) {
	out, err := c.sets.Get(ctx, in.group, in.label, armprivatedns.RecordType(typ), name, nil)
	if err != nil {
		return vendor{}, err
	}
	v := vendor{etag: deref(out.Etag)}
	p := out.Properties
	if p == nil {
		return v, nil
	}
	v.ttl, v.metadata = deref(p.TTL), p.Metadata
	if deref(p.IsAutoRegistered) {
		v.special = "is registered by a virtual network"
	}
	switch typ {
	case "A":
		for _, r := range p.ARecords {
			v.values = append(v.values, deref(r.IPv4Address))
		}
	case "AAAA":
		for _, r := range p.AaaaRecords {
			v.values = append(v.values, deref(r.IPv6Address))
		}
	case "CNAME":
		if r := p.CnameRecord; r != nil && deref(r.Cname) != "" {
			v.values = []string{hostName(*r.Cname)}
		}
	case "TXT":
		for _, r := range p.TxtRecords {
			v.values = append(v.values, joined(r.Value))
		}
	}
	return v, nil
}

func (c private) put(ctx context.Context, in zone, name, typ, etag string, v vendor) error {
	p := &armprivatedns.RecordSetProperties{TTL: &v.ttl, Metadata: v.metadata}
	for _, s := range v.values {
		switch typ {
		case "A":
			p.ARecords = append(p.ARecords, &armprivatedns.ARecord{IPv4Address: &s})
		case "AAAA":
			p.AaaaRecords = append(p.AaaaRecords, &armprivatedns.AaaaRecord{IPv6Address: &s})
		case "CNAME":
			host := strings.TrimSuffix(s, ".")
			p.CnameRecord = &armprivatedns.CnameRecord{Cname: &host}
		case "TXT":
			p.TxtRecords = append(p.TxtRecords, &armprivatedns.TxtRecord{Value: parts(s)})
		}
	}
	var o armprivatedns.RecordSetsClientCreateOrUpdateOptions
	o.IfMatch, o.IfNoneMatch = conditions(etag)
	_, err := c.sets.CreateOrUpdate(ctx, in.group, in.label, armprivatedns.RecordType(typ), name, armprivatedns.RecordSet{Properties: p}, &o)
	return err
}

func (c private) remove(ctx context.Context, in zone, name, typ, etag string) error {
	_, err := c.sets.Delete(ctx, in.group, in.label, armprivatedns.RecordType(typ), name, &armprivatedns.RecordSetsClientDeleteOptions{IfMatch: &etag})
	return err
}

func (c private) servers(context.Context, zone) ([]string, error) { return nil, nil }
