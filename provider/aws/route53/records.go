package route53

import (
	"fmt"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/route53/types"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/internal/dnsrecord"
)

// rules are what Route 53 takes; a text goes to it as [dnsrecord.Quote] writes it.
var rules = dnsrecord.Rules{Extra: "/", MaxText: 4000}

// escapedName writes a name as Route 53 wants it: what is not a letter, a
// digit, "-", "_" or "*" as its octal code.
func escapedName(name string) string { return strings.ReplaceAll(name, "/", `\057`) }

// plainName undoes the codes in a name that Route 53 delivers, except that of
// a dot within a label, which is no name of ours.
func plainName(name string) string {
	var b strings.Builder
	for len(name) > 0 {
		c, rest := dnsrecord.Octal(name)
		if c == '.' && name[0] == '\\' {
			b.WriteString(`\056`)
		} else {
			b.WriteByte(c)
		}
		name = rest
	}
	return strings.TrimSuffix(strings.ToLower(b.String()), ".") + "."
}

// vendor is a canonical record set as Route 53 takes it.
func vendor(rs provider.RecordSet) *types.ResourceRecordSet {
	out := &types.ResourceRecordSet{Name: aws.String(escapedName(rs.Name)), Type: types.RRType(rs.Type), TTL: aws.Int64(int64(rs.TTL / time.Second))}
	for _, v := range rs.Values {
		switch rs.Type {
		case "TXT":
			v = dnsrecord.Quote(v)
		case "CNAME":
			v = escapedName(v)
		}
		out.ResourceRecords = append(out.ResourceRecords, types.ResourceRecord{Value: &v})
	}
	return out
}

// recordSet is a simple record set of Route 53, in canonical form.
func recordSet(name string, held types.ResourceRecordSet) (provider.RecordSet, error) {
	rs := provider.RecordSet{Name: name, Type: string(held.Type), TTL: time.Duration(aws.ToInt64(held.TTL)) * time.Second}
	for _, r := range held.ResourceRecords {
		v := aws.ToString(r.Value)
		switch rs.Type {
		case "TXT":
			text, err := dnsrecord.Unquote(v, dnsrecord.Octal)
			if err != nil {
				return provider.RecordSet{}, fmt.Errorf("%s TXT: %w", name, err)
			}
			v = text
		case "CNAME":
			v = plainName(v)
		}
		rs.Values = append(rs.Values, v)
	}
	rs, err := rules.Canonical(rs)
	if err != nil {
		return provider.RecordSet{}, dnsrecord.Unsupported("the zone holds what is not swapped: %v", err)
	}
	return rs, nil
}
