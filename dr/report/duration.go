package report

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// A Duration is a length of time. In JSON it is an exact decimal number of
// seconds, and the names of its fields end in "_seconds".
type Duration time.Duration

// MarshalJSON returns seconds with at most nine decimals: 252.5.
func (d Duration) MarshalJSON() ([]byte, error) {
	sign, n := "", uint64(d)
	if d < 0 {
		sign, n = "-", -n
	}
	s := fmt.Sprintf("%s%d.%09d", sign, n/1e9, n%1e9)
	return []byte(strings.TrimSuffix(strings.TrimRight(s, "0"), ".")), nil
}

// UnmarshalJSON reads what MarshalJSON wrote, and nothing that it could not
// have written (an exponent, a tenth decimal, a value out of range).
func (d *Duration) UnmarshalJSON(b []byte) error {
	s := string(b)
	whole, frac, dot := strings.Cut(strings.TrimPrefix(s, "-"), ".")
	if len(frac) > 9 || dot && frac == "" {
		return fmt.Errorf("duration %q: want seconds with at most 9 decimals", s)
	}
	sec, err := strconv.ParseUint(whole, 10, 63)
	if err != nil || sec > math.MaxInt64/1_000_000_000 {
		return fmt.Errorf("duration %q: want seconds as a decimal number", s)
	}
	nsec, err := strconv.ParseUint((frac + "000000000")[:9], 10, 63)
	if err != nil {
		return fmt.Errorf("duration %q: want seconds as a decimal number", s)
	}
	n := sec*1e9 + nsec
	if n > math.MaxInt64 {
		return fmt.Errorf("duration %q: out of range", s)
	}
	*d = Duration(n)
	if strings.HasPrefix(s, "-") {
		*d = -*d
	}
	return nil
}

// String is for people: "4 min 12.5 s", "350 ms", "3 d 2 h". Parts too small
// to matter beside the largest are rounded away; the twin has them exactly.
func (d Duration) String() string {
	t, sign := time.Duration(d), ""
	if t < 0 {
		t, sign = -t, "−"
	}
	return sign + humanDuration(t)
}

func humanDuration(t time.Duration) string {
	switch {
	case t == 0:
		return "0 s"
	case t < time.Microsecond:
		return fmt.Sprintf("%d ns", t)
	case t < time.Millisecond:
		return fmt.Sprintf("%d µs", t.Round(time.Microsecond)/time.Microsecond)
	case t.Round(time.Millisecond) < time.Second:
		return fmt.Sprintf("%d ms", t.Round(time.Millisecond)/time.Millisecond)
	case t.Round(100*time.Millisecond) < time.Minute:
		return decimal(t.Round(100*time.Millisecond)) + " s"
	case t.Round(100*time.Millisecond) < time.Hour:
		t = t.Round(100 * time.Millisecond)
		return parts(int64(t/time.Minute), "min", decimal(t%time.Minute), "s")
	case t.Round(time.Minute) < 48*time.Hour:
		t = t.Round(time.Minute)
		return parts(int64(t/time.Hour), "h", strconv.FormatInt(int64(t%time.Hour/time.Minute), 10), "min")
	}
	t = t.Round(time.Hour)
	return parts(int64(t/(24*time.Hour)), "d", strconv.FormatInt(int64(t%(24*time.Hour)/time.Hour), 10), "h")
}

// exact loses nothing: "4 min 41.25 s". It is for places where two durations
// are compared, and a rounded one could seem to equal its target.
func (d Duration) exact() string {
	t, sign := time.Duration(d), ""
	if t < 0 {
		t, sign = -t, "−"
	}
	if t < time.Second {
		return d.exactSmall()
	}
	var b []string
	for _, u := range []struct {
		size time.Duration
		name string
	}{{24 * time.Hour, "d"}, {time.Hour, "h"}, {time.Minute, "min"}} {
		if n := t / u.size; n > 0 {
			b = append(b, fmt.Sprintf("%d %s", n, u.name))
			t %= u.size
		}
	}
	if t > 0 {
		s := strings.TrimRight(fmt.Sprintf("%d.%09d", t/time.Second, t%time.Second), "0")
		b = append(b, strings.TrimSuffix(s, ".")+" s")
	}
	return sign + strings.Join(b, " ")
}

// exactSmall is for less than a second either way.
func (d Duration) exactSmall() string {
	t, sign := int64(d), ""
	if t < 0 {
		t, sign = -t, "−"
	}
	unit, name := int64(1), "ns"
	switch {
	case t == 0:
		return "0 s"
	case t >= 1e6:
		unit, name = 1e6, "ms"
	case t >= 1e3:
		unit, name = 1e3, "µs"
	}
	s := strconv.FormatInt(t/unit, 10)
	if rest := t % unit; rest > 0 {
		s += "." + strings.TrimRight(fmt.Sprintf("%0*d", len(strconv.FormatInt(unit, 10))-1, rest), "0")
	}
	return sign + s + " " + name
}

func decimal(t time.Duration) string {
	return strconv.FormatFloat(t.Seconds(), 'f', -1, 64)
}

func parts(n int64, unit, rest, restUnit string) string {
	s := strconv.FormatInt(n, 10) + " " + unit
	if rest != "0" {
		s += " " + rest + " " + restUnit
	}
	return s
}
