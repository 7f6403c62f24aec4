package azuredns

import (
	"strings"
	"time"

	"github.com/holdfast-go/holdfast/provider/internal/dnsrecord"
)

// rules are what Azure DNS takes.
var rules = dnsrecord.Rules{MinTTL: time.Second}

// parts are the strings of at most 255 bytes that a text goes in.
func parts(text string) (parts []*string) {
	for _, part := range dnsrecord.Strings(text) {
		parts = append(parts, &part)
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
