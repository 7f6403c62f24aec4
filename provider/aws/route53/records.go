package route53

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/route53/types"

	"github.com/holdfast-go/holdfast/provider"
)

const maxText = 4000 // characters of the value of a TXT record, quotes included

func unsupported(format string, args ...any) error {
	return fmt.Errorf(format+": %w", append(args, errors.ErrUnsupported)...)
}

// checkName accepts absolute domain names in lower case, of the characters
// that have one way to be written.
func checkName(name string) error {
	for label := range strings.SplitSeq(strings.TrimSuffix(name, "."), ".") {
		if n := len(label); n == 0 || n > 63 || strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789-_/*") != "" {
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
	switch types.RRType(typ) {
	case types.RRTypeA, types.RRTypeAaaa, types.RRTypeCname, types.RRTypeTxt:
		return nil
	}
	return unsupported("type %q", typ)
}

// escapedName writes a name as Route 53 wants it: what is not a letter, a
// digit, "-", "_" or "*" as its octal code.
func escapedName(name string) string { return strings.ReplaceAll(name, "/", `\057`) }

// plainName undoes the codes in a name that Route 53 delivers, except that of
// a dot within a label, which is no name of ours.
func plainName(name string) string {
	var b strings.Builder
	for len(name) > 0 {
		c, rest := unescape(name)
		if c == '.' && name[0] == '\\' {
			b.WriteString(`\056`)
		} else {
			b.WriteByte(c)
		}
		name = rest
	}
	return strings.TrimSuffix(strings.ToLower(b.String()), ".") + "."
}

// unescape returns the first character of s, which is not empty, and the rest:
// of \ooo the one with that octal code, of \x that x.
func unescape(s string) (byte, string) {
	if s[0] != '\\' || len(s) == 1 {
		return s[0], s[1:]
	}
	if len(s) >= 4 && s[1] >= '0' && s[1] <= '3' && s[2] >= '0' && s[2] <= '7' && s[3] >= '0' && s[3] <= '7' {
		return (s[1]-'0')<<6 | (s[2]-'0')<<3 | (s[3] - '0'), s[4:]
	}
	return s[1], s[2:]
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
	if n := len(quoted(v)); n > maxText {
		return "", fmt.Errorf("text has %d characters as it is sent, Route 53 takes %d", n, maxText)
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

// unquoted is the text of character-strings as Route 53 delivers them.
func unquoted(s string) (string, error) {
	var b strings.Builder
	inside := false
	for len(s) > 0 {
		c, rest := unescape(s)
		switch {
		case s[0] == '"':
			inside = !inside
		case inside:
			b.WriteByte(c)
		case s[0] != ' ' && s[0] != '\t':
			return "", fmt.Errorf("%q outside of quotes", s)
		}
		s = rest
	}
	if inside {
		return "", errors.New("a quote is not closed")
	}
	return b.String(), nil
}

// vendor is a canonical record set as Route 53 takes it.
func vendor(rs provider.RecordSet) *types.ResourceRecordSet {
	out := &types.ResourceRecordSet{Name: aws.String(escapedName(rs.Name)), Type: types.RRType(rs.Type), TTL: aws.Int64(int64(rs.TTL / time.Second))}
	for _, v := range rs.Values {
		switch rs.Type {
		case "TXT":
			v = quoted(v)
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
			text, err := unquoted(v)
			if err != nil {
				return provider.RecordSet{}, fmt.Errorf("%s TXT: %w", name, err)
			}
			v = text
		case "CNAME":
			v = plainName(v)
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
