package retention

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Span is a length of time written in days and hours ("30d", "1d12h", "90m"):
// what a policy file says and what reasons print. A day has 24 hours, a week
// ("w") 7 days, a year ("y") 365 days; the rest is as in [time.ParseDuration].
type Span time.Duration

// Day is 24 hours.
const Day = Span(24 * time.Hour)

// The usual minimum and maximum ages.
const (
	Days7   = 7 * Day
	Days30  = 30 * Day
	Days90  = 90 * Day
	Days365 = 365 * Day
)

// ParseSpan reads what [Span.String] writes, and weeks and years.
func ParseSpan(s string) (Span, error) {
	fault := func(why string) (Span, error) {
		return 0, fmt.Errorf("span %q: %s; write it like 30d, 36h or 1d12h", s, why)
	}
	rest, negative := strings.CutPrefix(s, "-")
	var total time.Duration
	for _, u := range []struct {
		unit string
		each time.Duration
	}{{"y", time.Duration(Days365)}, {"w", time.Duration(Days7)}, {"d", time.Duration(Day)}} {
		digits, after, found := strings.Cut(rest, u.unit)
		if !found {
			continue
		}
		n, err := strconv.ParseUint(digits, 10, 31)
		if err != nil {
			return fault("no whole number before " + strconv.Quote(u.unit))
		}
		if time.Duration(n) > (math.MaxInt64-total)/u.each {
			return fault("too long")
		}
		total, rest = total+time.Duration(n)*u.each, after
	}
	switch {
	case rest == "" && s != "" && s != "-":
	case rest == "" || rest[0] == '-' || rest[0] == '+':
		return fault("not a span")
	default:
		d, err := time.ParseDuration(rest)
		if err != nil {
			return fault("not a span")
		}
		if d > math.MaxInt64-total {
			return fault("too long")
		}
		total += d
	}
	if negative {
		total = -total
	}
	return Span(total), nil
}

// String writes whole days and then the rest: "30d", "1d12h", "90m".
func (s Span) String() string {
	if s < 0 {
		if s == math.MinInt64 {
			s++ // has no positive counterpart
		}
		return "-" + (-s).String()
	}
	if s == 0 {
		return "0s"
	}
	var b strings.Builder
	if days := s / Day; days > 0 {
		fmt.Fprintf(&b, "%dd", days)
	}
	if rest := time.Duration(s % Day); rest > 0 {
		text := rest.String()
		if strings.HasSuffix(text, "m0s") {
			text = strings.TrimSuffix(text, "0s")
		}
		if strings.HasSuffix(text, "h0m") {
			text = strings.TrimSuffix(text, "0m")
		}
		b.WriteString(text)
	}
	return b.String()
}

// MarshalText writes s as [Span.String] does.
func (s Span) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads s as [ParseSpan] does.
func (s *Span) UnmarshalText(text []byte) error {
	parsed, err := ParseSpan(string(text))
	if err != nil {
		return err
	}
	*s = parsed
	return nil
}
