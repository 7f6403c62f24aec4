package azuredns

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-go/holdfast/provider"
)

func unsupported(format string, args ...any) error {
	return fmt.Errorf(format+": %w", append(args, errors.ErrUnsupported)...)
}

// checkName accepts absolute domain names in lower case, of the characters
// that have one way to be written and need no escape in a URL.
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
	case rs.TTL < time.Second || rs.TTL%time.Second != 0 || rs.TTL >= 1<<31*time.Second:
		err = fmt.Errorf("TTL %v is not a number of whole seconds from 1 to 2^31-1", rs.TTL)
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

func equal(a, b provider.RecordSet) bool {
	return a.Name == b.Name && a.Type == b.Type && a.TTL == b.TTL && slices.Equal(a.Values, b.Values)
}

// parts are the strings of at most 255 bytes that a text goes in.
func parts(text string) (parts []*string) {
	for part := range slices.Chunk([]byte(text), 255) {
		s := string(part)
		parts = append(parts, &s)
	}
	if parts == nil {
		return []*string{&text}
	}
	return parts
}

func joined(parts []*string) string {
	var b strings.Builder
	for _, p := range parts {
		b.WriteString(deref(p))
	}
	return b.String()
}

// hostName is a name as the service delivers it, in canonical form.
func hostName(s string) string { return strings.TrimSuffix(strings.ToLower(s), ".") + "." }

// deref is what p points to, or the zero value.
func deref[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}
