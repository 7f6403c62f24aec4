package azuredns_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"

	azfake "github.com/Azure/azure-sdk-for-go/sdk/azcore/fake"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/dns/armdns"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/dns/armdns/fake"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/privatedns/armprivatedns"
	privatefake "github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/privatedns/armprivatedns/fake"
	"github.com/miekg/dns"

	"github.com/holdfast-go/holdfast/provider/azure/azuredns"
	"github.com/holdfast-go/holdfast/provider/azure/internal/wire"
)

const (
	publicZone  = "/subscriptions/s1/resourceGroups/g1/providers/Microsoft.Network/dnsZones/example.com"
	privateZone = "/subscriptions/s1/resourceGroups/g1/providers/Microsoft.Network/privateDnsZones/example.internal"
)

// service is the SDK's fake servers of public and private zones, with what
// Azure documents behind them: ETags that change with every write, conditions,
// 204 for a deletion of nothing, a CNAME alone, answers of name servers that
// lag behind.
type service struct {
	*wire.Proxy

	mu   sync.Mutex
	n    int // of ETags
	sets map[string]*armdns.RecordSet
	lag  map[string]int // looks until name servers have a set
	old  map[string][]dns.RR
}

func newService() *service {
	s := &service{sets: map[string]*armdns.RecordSet{}, lag: map[string]int{}, old: map[string][]dns.RR{}}
	public := fake.NewServerFactoryTransport(&fake.ServerFactory{
		RecordSetsServer: fake.RecordSetsServer{Get: s.get, CreateOrUpdate: s.put, Delete: s.remove},
		ZonesServer:      fake.ZonesServer{Get: s.zone},
	})
	private := privatefake.NewRecordSetsServerTransport(&privatefake.RecordSetsServer{Get: s.privateGet, CreateOrUpdate: s.privatePut, Delete: s.privateRemove})
	s.Proxy = &wire.Proxy{Server: both{public, private}}
	return s
}

type both struct {
	public  *fake.ServerFactoryTransport
	private *privatefake.RecordSetsServerTransport
}

func (b both) Do(r *http.Request) (*http.Response, error) {
	if strings.Contains(r.URL.Path, "/privateDnsZones/") {
		return b.private.Do(r)
	}
	return b.public.Do(r)
}

func (s *service) open(t *testing.T, change func(*azuredns.Config)) *azuredns.Zones {
	t.Helper()
	c := azuredns.Config{Zones: []string{publicZone, privateZone}, Attempts: 2, Credential: &wire.Tokens{Prefix: "owner"}}
	if change != nil {
		change(&c)
	}
	z, err := azuredns.OpenOn(t.Context(), c, s, s.answer)
	if err != nil {
		t.Fatal(err)
	}
	return z
}

func key(zone, name string, typ any) string { return fmt.Sprintf("%s|%s|%v", zone, name, typ) }

func (s *service) get(_ context.Context, _, zone, name string, typ armdns.RecordType, _ *armdns.RecordSetsClientGetOptions) (resp azfake.Responder[armdns.RecordSetsClientGetResponse], errResp azfake.ErrorResponder) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if zone != "example.com" && zone != "example.internal" {
		errResp.SetResponseError(404, "ResourceNotFound")
	} else if rs := s.sets[key(zone, name, typ)]; rs == nil {
		errResp.SetResponseError(404, "NotFound")
	} else {
		resp.SetResponse(200, armdns.RecordSetsClientGetResponse{RecordSet: *rs}, nil)
	}
	return
}

func (s *service) put(_ context.Context, _, zone, name string, typ armdns.RecordType, in armdns.RecordSet, o *armdns.RecordSetsClientCreateOrUpdateOptions) (resp azfake.Responder[armdns.RecordSetsClientCreateOrUpdateResponse], errResp azfake.ErrorResponder) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := key(zone, name, typ)
	now := s.sets[k]
	var match, none string
	if o != nil {
		match, none = deref(o.IfMatch), deref(o.IfNoneMatch)
	}
	if match != "" && (now == nil || *now.Etag != match) || none == "*" && now != nil {
		errResp.SetResponseError(412, "PreconditionFailed")
		return
	}
	for other := range s.sets {
		if strings.HasPrefix(other, key(zone, name, "")) && other != k && (typ == "CNAME" || strings.HasSuffix(other, "|CNAME")) {
			errResp.SetResponseError(409, "Conflict")
			return
		}
	}
	status := 200
	if now == nil {
		status = 201
	}
	s.lagging(zone, name, string(typ))
	s.store(k, in)
	resp.SetResponse(status, armdns.RecordSetsClientCreateOrUpdateResponse{RecordSet: *s.sets[k]}, nil)
	return
}

func (s *service) store(k string, in armdns.RecordSet) {
	s.n++
	etag := fmt.Sprintf("etag-%d", s.n)
	in.Etag = &etag
	s.sets[k] = &in
}

func (s *service) remove(_ context.Context, _, zone, name string, typ armdns.RecordType, o *armdns.RecordSetsClientDeleteOptions) (resp azfake.Responder[armdns.RecordSetsClientDeleteResponse], errResp azfake.ErrorResponder) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := key(zone, name, typ)
	now := s.sets[k]
	switch {
	case now == nil:
		resp.SetResponse(204, armdns.RecordSetsClientDeleteResponse{}, nil)
	case o != nil && o.IfMatch != nil && *o.IfMatch != *now.Etag:
		errResp.SetResponseError(412, "PreconditionFailed")
	default:
		s.lagging(zone, name, string(typ))
		delete(s.sets, k)
		resp.SetResponse(200, armdns.RecordSetsClientDeleteResponse{}, nil)
	}
	return
}

func (s *service) zone(context.Context, string, string, *armdns.ZonesClientGetOptions) (resp azfake.Responder[armdns.ZonesClientGetResponse], _ azfake.ErrorResponder) {
	a, b := "ns1.azure-dns.test.", "ns2.azure-dns.test."
	resp.SetResponse(200, armdns.ZonesClientGetResponse{Zone: armdns.Zone{Properties: &armdns.ZoneProperties{NameServers: []*string{&a, &b}}}}, nil)
	return
}

var (
	toPrivate = strings.NewReplacer(`"ARecords"`, `"aRecords"`, `"AAAARecords"`, `"aaaaRecords"`, `"CNAMERecord"`, `"cnameRecord"`, `"TXTRecords"`, `"txtRecords"`, `"TTL"`, `"ttl"`)
	toPublic  = strings.NewReplacer(`"aRecords"`, `"ARecords"`, `"aaaaRecords"`, `"AAAARecords"`, `"cnameRecord"`, `"CNAMERecord"`, `"txtRecords"`, `"TXTRecords"`, `"ttl"`, `"TTL"`)
)

// same turns a value of one of the SDK's packages into that of the other.
func same[T any](in any, names *strings.Replacer) (out T) {
	b, err := json.Marshal(in)
	if err == nil {
		err = json.Unmarshal([]byte(names.Replace(string(b))), &out)
	}
	if err != nil {
		panic(err)
	}
	return out
}

func (s *service) privateGet(ctx context.Context, g, zone string, typ armprivatedns.RecordType, name string, _ *armprivatedns.RecordSetsClientGetOptions) (resp azfake.Responder[armprivatedns.RecordSetsClientGetResponse], errResp azfake.ErrorResponder) {
	s.mu.Lock()
	defer s.mu.Unlock()
	rs := s.sets[key(zone, name, typ)]
	if rs == nil {
		errResp.SetResponseError(404, "NotFound")
		return
	}
	resp.SetResponse(200, armprivatedns.RecordSetsClientGetResponse{RecordSet: same[armprivatedns.RecordSet](rs, toPrivate)}, nil)
	return
}

func (s *service) privatePut(ctx context.Context, g, zone string, typ armprivatedns.RecordType, name string, in armprivatedns.RecordSet, o *armprivatedns.RecordSetsClientCreateOrUpdateOptions) (resp azfake.Responder[armprivatedns.RecordSetsClientCreateOrUpdateResponse], errResp azfake.ErrorResponder) {
	_, errResp = s.put(ctx, g, zone, name, armdns.RecordType(typ), same[armdns.RecordSet](in, toPublic), (*armdns.RecordSetsClientCreateOrUpdateOptions)(o))
	s.mu.Lock()
	defer s.mu.Unlock()
	if rs := s.sets[key(zone, name, typ)]; rs != nil {
		resp.SetResponse(200, armprivatedns.RecordSetsClientCreateOrUpdateResponse{RecordSet: same[armprivatedns.RecordSet](rs, toPrivate)}, nil)
	}
	return
}

func (s *service) privateRemove(ctx context.Context, g, zone string, typ armprivatedns.RecordType, name string, o *armprivatedns.RecordSetsClientDeleteOptions) (resp azfake.Responder[armprivatedns.RecordSetsClientDeleteResponse], errResp azfake.ErrorResponder) {
	s.mu.Lock()
	status := 204
	if s.sets[key(zone, name, typ)] != nil {
		status = 200
	}
	s.mu.Unlock()
	_, errResp = s.remove(ctx, g, zone, name, armdns.RecordType(typ), (*armdns.RecordSetsClientDeleteOptions)(o))
	resp.SetResponse(status, armprivatedns.RecordSetsClientDeleteResponse{}, nil)
	return
}

// lagging makes the name servers serve for two more looks what they serve now.
func (s *service) lagging(zone, name, typ string) {
	fqdn := name + "." + zone + "."
	k := fqdn + "|" + typ
	s.old[k], s.lag[k] = s.served(zone, name, fqdn, typ), 2
}

func (s *service) served(zone, name, fqdn, typ string) (rrs []dns.RR) {
	rs := s.sets[key(zone, name, typ)]
	if rs == nil {
		return nil
	}
	p := rs.Properties
	h := dns.RR_Header{Name: fqdn, Rrtype: dns.StringToType[typ], Class: dns.ClassINET, Ttl: uint32(*p.TTL)}
	for _, r := range p.ARecords {
		rrs = append(rrs, &dns.A{Hdr: h, A: net.ParseIP(*r.IPv4Address)})
	}
	for _, r := range p.AaaaRecords {
		rrs = append(rrs, &dns.AAAA{Hdr: h, AAAA: net.ParseIP(*r.IPv6Address)})
	}
	if r := p.CnameRecord; r != nil {
		rrs = append(rrs, &dns.CNAME{Hdr: h, Target: dns.Fqdn(*r.Cname)})
	}
	for _, r := range p.TxtRecords {
		txt := &dns.TXT{Hdr: h}
		for _, part := range r.Value {
			txt.Txt = append(txt.Txt, strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(*part))
		}
		rrs = append(rrs, txt)
	}
	return rrs
}

// answer is that of a name server.
func (s *service) answer(ctx context.Context, server, fqdn string, typ uint16) ([]dns.RR, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := fqdn + "|" + dns.TypeToString[typ]
	if s.lag[k] > 0 && server == "ns2.azure-dns.test." {
		s.lag[k]--
		return s.old[k], nil
	}
	name := strings.TrimSuffix(fqdn, ".example.com.")
	return s.served("example.com", name, fqdn, dns.TypeToString[typ]), nil
}

// touch changes the ETag and metadata of a set, and nothing else.
func (s *service) touch(k string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.n++
	etag, n := fmt.Sprintf("etag-%d", s.n), fmt.Sprint(s.n)
	rs := *s.sets[k]
	p := *rs.Properties
	p.Metadata = maps.Clone(p.Metadata)
	if p.Metadata == nil {
		p.Metadata = map[string]*string{}
	}
	p.Metadata["touched"] = &n
	rs.Etag, rs.Properties = &etag, &p
	s.sets[k] = &rs
}

func deref[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}
