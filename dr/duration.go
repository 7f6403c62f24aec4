package dr

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// A Duration is a [time.Duration] that is written with days and weeks too:
// "90s", "15m", "1h30m", "7d", "2w", "1w2d". A number without a unit is
// refused, because nobody remembers which unit was meant.
type Duration time.Duration

// Units of a Duration that package time does not have. Both are fixed spans,
// not calendar days: a day is always 24 hours.
const (
	Day  = 24 * time.Hour
	Week = 7 * Day
)

// ParseDuration reads the form that [Duration] describes. Negative durations
// are refused.
func ParseDuration(s string) (Duration, error) {
	rest := strings.TrimSpace(s)
	if rest == "" {
		return 0, fmt.Errorf("duration is empty; write for example 15m, 24h or 7d")
	}
	if rest == "0" {
		return 0, nil
	}
	var total time.Duration
	for rest != "" {
		i := strings.IndexFunc(rest, func(r rune) bool { return (r < '0' || r > '9') && r != '.' })
		if i <= 0 {
			return 0, fmt.Errorf("duration %q: want numbers with units, for example 15m, 24h or 7d", s)
		}
		number := rest[:i]
		rest = rest[i:]
		j := strings.IndexFunc(rest, func(r rune) bool { return (r >= '0' && r <= '9') || r == '.' })
		if j < 0 {
			j = len(rest)
		}
		part, err := span(number, rest[:j])
		if err != nil {
			return 0, fmt.Errorf("duration %q: %w", s, err)
		}
		if total > math.MaxInt64-part {
			return 0, fmt.Errorf("duration %q is too long", s)
		}
		total += part
		rest = rest[j:]
	}
	return Duration(total), nil
}

// span converts one number and its unit.
func span(number, unit string) (time.Duration, error) {
	var size time.Duration
	switch unit {
	case "w":
		size = Week
	case "d":
		size = Day
	default:
		d, err := time.ParseDuration(number + unit)
		if err != nil {
			return 0, fmt.Errorf("unit %q is none of w, d, h, m, s, ms", unit)
		}
		return d, nil
	}
	n, err := strconv.ParseFloat(number, 64)
	if err != nil || n*float64(size) > math.MaxInt64/2 {
		return 0, fmt.Errorf("number %q is not usable", number)
	}
	return time.Duration(n * float64(size)), nil
}

// Std returns d as a [time.Duration].
func (d Duration) Std() time.Duration { return time.Duration(d) }

// String writes d as [ParseDuration] reads it: whole days from two days on
// ("7d"), else hours, minutes and seconds without empty parts ("24h", "1h30m").
func (d Duration) String() string {
	t := time.Duration(d)
	if t >= 2*Day && t%Day == 0 {
		return strconv.FormatInt(int64(t/Day), 10) + "d"
	}
	s := t.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// MarshalText implements [encoding.TextMarshaler].
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := ParseDuration(string(b))
	if err != nil {
		return err
	}
	*d = v
	return nil
}
