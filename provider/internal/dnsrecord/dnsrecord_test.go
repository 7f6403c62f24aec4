package dnsrecord_test

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/internal/dnsrecord"
)

func set(typ string, values ...string) provider.RecordSet {
	return provider.RecordSet{Name: "a.example.com.", Type: typ, TTL: time.Minute, Values: values}
}

func TestCanonical(t *testing.T) {
	var rules dnsrecord.Rules
	for _, c := range []struct{ given, want provider.RecordSet }{
		{set("A", "192.0.2.2", "192.0.2.1"), set("A", "192.0.2.1", "192.0.2.2")},
		{set("AAAA", "2001:DB8:0::1"), set("AAAA", "2001:db8::1")},
		{set("CNAME", "b.example.com."), set("CNAME", "b.example.com.")},
		{set("TXT", "b", `a " \`), set("TXT", `a " \`, "b")},
		{set("TXT", ""), set("TXT", "")},
	} {
		given := fmt.Sprint(c.given)
		if got, err := rules.Canonical(c.given); err != nil || !dnsrecord.Equal(got, c.want) {
			t.Errorf("%v: %v, %v", c.given, got, err)
		}
		if fmt.Sprint(c.given) != given {
			t.Errorf("%s was changed to %v", given, c.given)
		}
	}
}

func TestRefused(t *testing.T) {
	with := func(change func(*provider.RecordSet)) provider.RecordSet {
		rs := set("A", "192.0.2.1")
		change(&rs)
		return rs
	}
	for _, c := range []struct {
		rs    provider.RecordSet
		rules dnsrecord.Rules
		want  string
	}{
		{rs: with(func(rs *provider.RecordSet) { rs.Name = "a.example.com" }), want: "no final dot"},
		{rs: with(func(rs *provider.RecordSet) { rs.Name = "A.example.com." }), want: "lower case"},
		{rs: with(func(rs *provider.RecordSet) { rs.Name = "a..example.com." }), want: "not a domain name"},
		{rs: with(func(rs *provider.RecordSet) { rs.Name = "a/b.example.com." }), want: "not a domain name"},
		{rs: with(func(rs *provider.RecordSet) { rs.Name = strings.Repeat("a", 64) + ".com." }), want: "not a domain name"},
		{rs: with(func(rs *provider.RecordSet) { rs.Name = strings.Repeat("a.", 128) }), want: "too long"},
		{rs: with(func(rs *provider.RecordSet) { rs.Name = "" }), want: "not a domain name"},
		{rs: with(func(rs *provider.RecordSet) { rs.TTL = -time.Second }), want: "TTL"},
		{rs: with(func(rs *provider.RecordSet) { rs.TTL = 1500 * time.Millisecond }), want: "TTL"},
		{rs: with(func(rs *provider.RecordSet) { rs.TTL = 1 << 31 * time.Second }), want: "TTL"},
		{rs: with(func(rs *provider.RecordSet) { rs.TTL = 0 }), rules: dnsrecord.Rules{MinTTL: time.Second}, want: "TTL"},
		{rs: set("A"), want: "no values"},
		{rs: set("A", "192.0.2.1", "192.0.2.1"), want: "twice"},
		{rs: set("AAAA", "2001:db8::1", "2001:db8:0::1"), want: "twice"},
		{rs: set("A", "2001:db8::1"), want: "address"},
		{rs: set("AAAA", "192.0.2.1"), want: "address"},
		{rs: set("AAAA", "fe80::1%eth0"), want: "address"},
		{rs: set("A", "host"), want: "address"},
		{rs: set("CNAME", "b.example.com"), want: "final dot"},
		{rs: set("CNAME", "b.example.com.", "c.example.com."), want: "more than one"},
		{rs: set("TXT", "a\nb"), want: "0x0a"},
		{rs: set("TXT", "\u00e9"), want: "0xc3"},
		{rs: set("TXT", `""`), rules: dnsrecord.Rules{MaxText: 5}, want: "6 characters"},
	} {
		if _, err := c.rules.Canonical(c.rs); err == nil || !strings.Contains(err.Error(), c.want) || errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("%v: %v, want %q", c.rs, err, c.want)
		}
	}
	if _, err := (dnsrecord.Rules{}).Canonical(set("MX", "10 b.example.com.")); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("another type: %v", err)
	}
	if _, err := (dnsrecord.Rules{Extra: "/", MinTTL: time.Minute, MaxText: 6}).Canonical(provider.RecordSet{Name: "a/b.com.", Type: "TXT", TTL: time.Minute, Values: []string{`""`}}); err != nil {
		t.Errorf("just within the rules: %v", err)
	}
}

func TestCheck(t *testing.T) {
	a, b, txt := set("A", "192.0.2.1"), set("A", "192.0.2.2"), set("TXT", "x")
	other := a
	other.Name = "b.example.com."
	good := []provider.Change{{Old: &a, New: &b}, {New: &txt}, {Old: &other}}
	changes, err := dnsrecord.Check(good, dnsrecord.Rules{}.Canonical)
	want := []dnsrecord.Change{{"a.example.com.", "A", &a, &b}, {"a.example.com.", "TXT", nil, &txt}, {"b.example.com.", "A", &other, nil}}
	if err != nil || !reflect.DeepEqual(changes, want) {
		t.Errorf("%v, %v", changes, err)
	}
	if same := (dnsrecord.Change{From: &a, To: &a}); same.Alters() || !changes[0].Alters() || !changes[1].Alters() || !changes[2].Alters() {
		t.Error("what alters something is not told from what does not")
	}
	if got := dnsrecord.Keys(good); got != "a.example.com. A, a.example.com. TXT, b.example.com. A" {
		t.Errorf("keys are %s", got)
	}
	bad := set("A", "host")
	for want, changes := range map[string][]provider.Change{
		"no changes":                                {},
		"change 1: neither":                         {{New: &a}, {}},
		"change 0: from a.example.com. A to":        {{Old: &a, New: &txt}},
		"change 0: from a.example.com. A to b.":     {{Old: &a, New: &other}},
		"change 1: an earlier":                      {{Old: &a}, {New: &b}},
		`change 0: a.example.com. A: "host" is not`: {{Old: &a, New: &bad}},
	} {
		if _, err := dnsrecord.Check(changes, dnsrecord.Rules{}.Canonical); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

func TestAlone(t *testing.T) {
	name, set := "a.example.com.", set("A", "192.0.2.1")
	a := dnsrecord.Change{Name: name, Type: "A", To: &set}
	noA := dnsrecord.Change{Name: name, Type: "A", From: &set}
	cname := dnsrecord.Change{Name: name, Type: "CNAME", To: &set}
	elsewhere := dnsrecord.Change{Name: "b.example.com.", Type: "A", To: &set}
	for _, c := range []struct {
		held    []string
		changes []dnsrecord.Change
		ok      bool
	}{
		{nil, []dnsrecord.Change{cname, elsewhere}, true},
		{nil, []dnsrecord.Change{cname, a}, false},
		{[]string{"A"}, []dnsrecord.Change{cname}, false},
		{[]string{"A"}, []dnsrecord.Change{cname, noA}, true},
		{[]string{"CNAME"}, []dnsrecord.Change{a}, false},
		{[]string{"MX", "TXT"}, []dnsrecord.Change{a}, true},
	} {
		if err := dnsrecord.Alone(name, c.held, c.changes); (err == nil) != c.ok {
			t.Errorf("%v and then %v: %v", c.held, c.changes, err)
		}
	}
}

func TestTexts(t *testing.T) {
	long := strings.Repeat("x", 255)
	for text, want := range map[string]string{
		"": `""`, "a b": `"a b"`, `"\`: `"\"\\"`, long + `"y`: `"` + long + `" "\"y"`,
	} {
		if got := dnsrecord.Quote(text); got != want {
			t.Errorf("%q is written %s, want %s", text, got, want)
		}
		for _, first := range []dnsrecord.First{dnsrecord.Decimal, dnsrecord.Octal} {
			if got, err := dnsrecord.Unquote(want, first); err != nil || got != text {
				t.Errorf("%s is read as %q, %v", want, got, err)
			}
		}
	}
	for written, want := range map[string][2]string{ // decimal, octal
		`"\065\101"`: {"A" + "e", "5A"}, `plain`: {"plain", "plain"}, `two "strings"`: {"twostrings", "twostrings"},
		`"\300"`: {"300", "\xc0"}, `"\389"`: {"389", "389"}, `"\1"`: {"1", "1"}, "\"a\"\t\"b\"": {"ab", "ab"},
	} {
		for i, first := range []dnsrecord.First{dnsrecord.Decimal, dnsrecord.Octal} {
			if got, err := dnsrecord.Unquote(written, first); err != nil || got != want[i] {
				t.Errorf("%s is read as %q, %v, want %q", written, got, err, want[i])
			}
		}
	}
	if _, err := dnsrecord.Unquote(`"open`, dnsrecord.Decimal); err == nil {
		t.Error("a quote that is not closed is accepted")
	}
	if got := dnsrecord.Unescape(`a\"b\\c\032\`, dnsrecord.Decimal); got != `a"b\c \` {
		t.Errorf("unescaped: %q", got)
	}
}
