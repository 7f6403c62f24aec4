package clouddns

import (
	"fmt"
	"strings"
	"time"

	"google.golang.org/api/dns/v1"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/internal/dnsrecord"
)

// rules are what Cloud DNS takes.
var rules dnsrecord.Rules

// vendor is a canonical record set as Cloud DNS takes it.
func vendor(rs provider.RecordSet) *dns.ResourceRecordSet {
	out := &dns.ResourceRecordSet{Name: rs.Name, Type: rs.Type, Ttl: int64(rs.TTL / time.Second), ForceSendFields: []string{"Ttl"}}
	for _, v := range rs.Values {
		if rs.Type == "TXT" {
			v = dnsrecord.Quote(v)
		}
		out.Rrdatas = append(out.Rrdatas, v)
	}
	return out
}

// exact is what deletes a record set that the zone holds: what the service has
// added to it, such as signatures, is not part of it.
func exact(held *dns.ResourceRecordSet) *dns.ResourceRecordSet {
	return &dns.ResourceRecordSet{Name: held.Name, Type: held.Type, Ttl: held.Ttl, Rrdatas: held.Rrdatas, ForceSendFields: []string{"Ttl"}}
}

// recordSet is a simple record set of Cloud DNS, in canonical form.
func recordSet(held *dns.ResourceRecordSet) (provider.RecordSet, error) {
	rs := provider.RecordSet{Name: strings.ToLower(held.Name), Type: held.Type, TTL: time.Duration(held.Ttl) * time.Second}
	for _, v := range held.Rrdatas {
		switch rs.Type {
		case "TXT":
			text, err := dnsrecord.Unquote(v, dnsrecord.Decimal)
			if err != nil {
				return provider.RecordSet{}, fmt.Errorf("%s TXT: %w", rs.Name, err)
			}
			v = text
		case "CNAME":
			v = strings.ToLower(v)
		}
		rs.Values = append(rs.Values, v)
	}
	rs, err := rules.Canonical(rs)
	if err != nil {
		return provider.RecordSet{}, dnsrecord.Unsupported("the zone holds what is not swapped: %v", err)
	}
	return rs, nil
}
