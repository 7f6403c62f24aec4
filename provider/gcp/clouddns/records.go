package clouddns

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"google.golang.org/api/dns/v1"

	"github.com/holdfast-go/holdfast/provider"
)

func unsupported(format string, args ...any) error {
	return fmt.Errorf(format+": %w", append(args, errors.ErrUnsupported)...)
}

// checkName accepts absolute domain names in lower case, of the characters
// that have one way to be written.
func checkName(name string) error {
	for label := range strings.SplitSeq(strings.TrimSuffix(name, "."), ".") {
		if n := len(label); n == 0 || n > 63 || strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789-_*") != "" {
			return fmt.Errorf("%q is not a domain name in lower case", name)
		}
	}
	switch {
	case len(name) > 254:
		return fmt.Errorf("%q is too long for a domain name", name)
	case !strings.HasSuffix(name, "."):
		return fmt.Errorf("%q has no final dot", name)
	}
	return nil
}

func checkType(typ string) error {
	switch typ {
	case "A", "AAAA", "CNAME", "TXT":
		return nil
	}
	return unsupported("type %q", typ)
}

// canonical checks a record set and returns it with its values in canonical
// form and order, so that two of them are the same if they are equal.
func canonical(rs provider.RecordSet) (provider.RecordSet, error) {
	err := errors.Join(checkName(rs.Name), checkType(rs.Type))
	switch {
	case err != nil:
	case rs.TTL < 0 || rs.TTL%time.Second != 0 || rs.TTL >= 1<<31*time.Second:
		err = fmt.Errorf("TTL %v is not a number of whole seconds below 2^31", rs.TTL)
	case len(rs.Values) == 0:
		err = errors.New("no values")
	case rs.Type == "CNAME" && len(rs.Values) > 1:
		err = errors.New("more than one value")
	}
	values := slices.Clone(rs.Values)
	for i := range values {
		if err == nil {
			values[i], err = value(rs.Type, values[i])
		}
	}
	slices.Sort(values)
	if err == nil && len(slices.Compact(slices.Clone(values))) < len(values) {
		err = errors.New("a value is there twice")
	}
	if err != nil {
		return provider.RecordSet{}, fmt.Errorf("%s %s: %w", rs.Name, rs.Type, err)
	}
	rs.Values = values
	return rs, nil
}

// value checks a value of a record set and returns its canonical form.
func value(typ, v string) (string, error) {
	switch typ {
	case "A", "AAAA":
		a, err := netip.ParseAddr(v)
		if err != nil || a.Zone() != "" || a.Is4() != (typ == "A") {
			return "", fmt.Errorf("%q is not such an address", v)
		}
		return a.String(), nil
	case "CNAME":
		return v, checkName(v)
	}
	for _, c := range []byte(v) {
		if c < ' ' || c > '~' {
			return "", fmt.Errorf("text has byte 0x%02x: want printable ASCII", c)
		}
	}
	return v, nil
}

// quoted writes a text as character-strings of at most 255 bytes.
func quoted(text string) string {
	escape := strings.NewReplacer(`\`, `\\`, `"`, `\"`)
	var parts []string
	for part := range slices.Chunk([]byte(text), 255) {
		parts = append(parts, `"`+escape.Replace(string(part))+`"`)
	}
	if parts == nil {
		return `""`
	}
	return strings.Join(parts, " ")
}

// unquoted is the text of character-strings in presentation form (RFC 1035
// section 5.1), with and without quotes.
func unquoted(s string) (string, error) {
	var b strings.Builder
	inside := false
	for len(s) > 0 {
		c, rest := unescape(s)
		switch {
		case s[0] == '"':
			inside = !inside
		case inside || s[0] != ' ' && s[0] != '\t':
			b.WriteByte(c)
		}
		s = rest
	}
	if inside {
		return "", errors.New("a quote is not closed")
	}
	return b.String(), nil
}

// unescape returns the first character of s, which is not empty, and the rest:
// of \ddd the one with that decimal code, of \x that x.
func unescape(s string) (byte, string) {
	if s[0] != '\\' || len(s) == 1 {
		return s[0], s[1:]
	}
	if len(s) >= 4 && strings.Trim(s[1:4], "0123456789") == "" {
		if n := int(s[1]-'0')*100 + int(s[2]-'0')*10 + int(s[3]-'0'); n < 256 {
			return byte(n), s[4:]
		}
	}
	return s[1], s[2:]
}

// vendor is a canonical record set as Cloud DNS takes it.
func vendor(rs provider.RecordSet) *dns.ResourceRecordSet {
	out := &dns.ResourceRecordSet{Name: rs.Name, Type: rs.Type, Ttl: int64(rs.TTL / time.Second), ForceSendFields: []string{"Ttl"}}
	for _, v := range rs.Values {
		if rs.Type == "TXT" {
			v = quoted(v)
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
			text, err := unquoted(v)
			if err != nil {
				return provider.RecordSet{}, fmt.Errorf("%s TXT: %w", rs.Name, err)
			}
			v = text
		case "CNAME":
			v = strings.ToLower(v)
		}
		rs.Values = append(rs.Values, v)
	}
	rs, err := canonical(rs)
	if err != nil {
		return provider.RecordSet{}, unsupported("the zone holds what is not swapped: %v", err)
	}
	return rs, nil
}

func equal(a, b provider.RecordSet) bool {
	return a.Name == b.Name && a.Type == b.Type && a.TTL == b.TTL && slices.Equal(a.Values, b.Values)
}
