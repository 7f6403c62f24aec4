// Package dnsrecord is what the DNS providers have in common: which record sets
// they take, in which form two of them are equal, and how texts are written. It
// knows no service and no wire format.
package dnsrecord

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-go/holdfast/provider"
)

// Rules are what a service takes, of the types A, AAAA, CNAME and TXT. The zero
// value is what all take.
type Rules struct {
	Extra   string        // characters of names beside letters, digits, "-", "_" and "*"
	MinTTL  time.Duration // 0: none
	MaxText int           // characters of a text as Quote writes it; 0: no limit
}

// Unsupported is an error that wraps [errors.ErrUnsupported].
func Unsupported(format string, args ...any) error {
	return fmt.Errorf(format+": %w", append(args, errors.ErrUnsupported)...)
}

// CheckName accepts absolute domain names in lower case, of the characters
// that have one way to be written.
func (r Rules) CheckName(name string) error {
	for label := range strings.SplitSeq(strings.TrimSuffix(name, "."), ".") {
		if n := len(label); n == 0 || n > 63 || strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789-_*"+r.Extra) != "" {
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

// CheckType accepts the types.
func CheckType(typ string) error {
	switch typ {
	case "A", "AAAA", "CNAME", "TXT":
		return nil
	}
	return Unsupported("type %q", typ)
}

// Canonical checks a record set and returns it with its values in canonical
// form and order, so that two of them are the same if they are [Equal].
func (r Rules) Canonical(rs provider.RecordSet) (provider.RecordSet, error) {
	err := errors.Join(r.CheckName(rs.Name), CheckType(rs.Type))
	if err == nil {
		err = CheckSet(rs)
	}
	if err == nil && rs.TTL < r.MinTTL {
		err = fmt.Errorf("TTL %v is below %v", rs.TTL, r.MinTTL)
	}
	values := slices.Clone(rs.Values)
	for i := range values {
		if err == nil {
			values[i], err = r.value(rs.Type, values[i])
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

// CheckSet accepts the TTL and the number of values of a record set.
func CheckSet(rs provider.RecordSet) error {
	switch {
	case rs.TTL < 0 || rs.TTL%time.Second != 0 || rs.TTL >= 1<<31*time.Second:
		return fmt.Errorf("TTL %v is not a number of whole seconds below 2^31", rs.TTL)
	case len(rs.Values) == 0:
		return errors.New("no values")
	case rs.Type == "CNAME" && len(rs.Values) > 1:
		return errors.New("more than one value")
	}
	return nil
}

// value checks a value of a record set and returns its canonical form.
func (r Rules) value(typ, v string) (string, error) {
	switch typ {
	case "A", "AAAA":
		a, err := Address(typ, v)
		return a.String(), err
	case "CNAME":
		return v, r.CheckName(v)
	}
	if n := len(Quote(v)); r.MaxText > 0 && n > r.MaxText {
		return "", fmt.Errorf("text has %d characters as it is sent, at most %d are taken", n, r.MaxText)
	}
	return v, CheckText(v)
}

// Address reads a value of the type A or AAAA.
func Address(typ, v string) (netip.Addr, error) {
	a, err := netip.ParseAddr(v)
	if err != nil || a.Zone() != "" || a.Is4() != (typ == "A") {
		return a, fmt.Errorf("%q is not such an address", v)
	}
	return a, nil
}

// Equal compares record sets in canonical form.
func Equal(a, b provider.RecordSet) bool {
	return a.Name == b.Name && a.Type == b.Type && a.TTL == b.TTL && slices.Equal(a.Values, b.Values)
}

// Same compares what may not be there.
func Same(a, b *provider.RecordSet) bool {
	if a == nil || b == nil {
		return a == b
	}
	return Equal(*a, *b)
}

// Alone refuses a CNAME beside other record sets of its name (RFC 1034 section
// 3.6.2), as far as changes would make it so. held are the types that are there.
func Alone(name string, held []string, changes []Change) error {
	after := map[string]bool{}
	for _, typ := range held {
		after[typ] = true
	}
	for _, c := range changes {
		if c.Name == name {
			after[c.Type] = c.To != nil
		}
	}
	var types []string
	for typ, there := range after {
		if there {
			types = append(types, typ)
		}
	}
	if after["CNAME"] && len(types) > 1 {
		slices.Sort(types)
		return fmt.Errorf("%s would have %s, and a CNAME has no other beside it", name, strings.Join(types, ", "))
	}
	return nil
}

// Cuts are the names at which a zone may be cut above name: name itself and all
// between it and the zone, whose own name is not among them. What is at or below
// NS records there is in another zone (RFC 9499 section 7).
func Cuts(name, zone string) (at []string) {
	for name != zone && name != "" {
		at = append(at, name)
		_, name, _ = strings.Cut(name, ".")
	}
	return at
}

// Delegated is the error for a name that NS records at a name above it, or at
// it, take out of the zone: what is written there, nobody is told.
func Delegated(name, at, zone string) error {
	return fmt.Errorf("%s is not in zone %s: NS records at %s delegate it to other servers", name, zone, at)
}
