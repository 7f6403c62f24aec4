package retention

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Unlimited, as the number of a counting rule, keeps every one of its kind.
const Unlimited = -1

// Policy says which points of a workload are kept. A zero field is no rule;
// the zero Policy is refused, because it would keep nothing. See the package
// comment for what the rules do together.
type Policy struct {
	// The newest points, and the newest point of each of the last non-empty
	// hours, days, ISO weeks, months and years, in UTC. Unlimited is allowed.
	KeepLast int `json:"keep_last,omitempty" yaml:"keep_last,omitempty"`
	Hourly   int `json:"hourly,omitempty" yaml:"hourly,omitempty"`
	Daily    int `json:"daily,omitempty" yaml:"daily,omitempty"`
	Weekly   int `json:"weekly,omitempty" yaml:"weekly,omitempty"`
	Monthly  int `json:"monthly,omitempty" yaml:"monthly,omitempty"`
	Yearly   int `json:"yearly,omitempty" yaml:"yearly,omitempty"`

	// KeepWithin keeps every point at most this much older than the newest
	// one that is not quarantined. It does not depend on the present moment,
	// so it keeps its whole window when backups have stopped.
	KeepWithin Span `json:"keep_within,omitempty" yaml:"keep_within,omitempty"`

	// KeepTags keeps points that have any of these tags.
	KeepTags []string `json:"keep_tags,omitempty" yaml:"keep_tags,omitempty"`

	// MinAge is the age, by Time and by Stored, before which no point is
	// forgotten. By itself it is a whole policy: keep everything so long.
	MinAge Span `json:"min_age,omitempty" yaml:"min_age,omitempty"`

	// MaxAge is the age by Time after which a point is forgotten although a
	// rule would keep it, unless it is pinned, younger than MinAge by its
	// store-side time, or the last proven one. Zero means no maximum. It
	// keeps nothing by itself.
	MaxAge Span `json:"max_age,omitempty" yaml:"max_age,omitempty"`

	// MaxSkew is how far a point may be dated after its store-side time
	// before it is quarantined. Zero means [DefaultMaxSkew].
	MaxSkew Span `json:"max_skew,omitempty" yaml:"max_skew,omitempty"`

	// MaxDelay is how long after its date a point may be stored and still be
	// punctual: longer than the longest backup. Zero means [DefaultMaxDelay].
	MaxDelay Span `json:"max_delay,omitempty" yaml:"max_delay,omitempty"`
}

// What a zero MaxSkew and MaxDelay mean.
const (
	DefaultMaxSkew  = Span(time.Hour)
	DefaultMaxDelay = Span(24 * time.Hour)
)

// Validate returns every fault of the policy, each naming its field.
func (p Policy) Validate() error {
	var errs []error
	keeps := p.KeepWithin > 0 || p.MinAge > 0 || len(p.KeepTags) > 0
	for _, c := range p.counts() {
		if c.n < Unlimited {
			errs = append(errs, fmt.Errorf("%s: %d is negative; use %d to keep all", c.name, c.n, Unlimited))
		}
		keeps = keeps || c.n != 0
	}
	for _, s := range p.spans() {
		if s.span < 0 {
			errs = append(errs, fmt.Errorf("%s: %s is negative", s.name, s.span))
		}
	}
	for i, tag := range p.KeepTags {
		if tag == "" {
			errs = append(errs, fmt.Errorf("keep_tags[%d]: empty", i))
		}
	}
	if !keeps {
		errs = append(errs, errors.New("policy: no rule keeps anything; set one of keep_last, hourly, daily, weekly, monthly, yearly, keep_within, keep_tags, min_age"))
	}
	if p.MaxAge > 0 && p.MaxAge < p.MinAge {
		errs = append(errs, fmt.Errorf("max_age: %s is less than min_age %s", p.MaxAge, p.MinAge))
	}
	if p.MaxAge > 0 && p.MaxAge < p.KeepWithin {
		errs = append(errs, fmt.Errorf("max_age: %s is less than keep_within %s", p.MaxAge, p.KeepWithin))
	}
	return errors.Join(errs...)
}

// String writes the policy in one line, such as
// "daily 7, weekly 4, within 30d, at least 7d, at most 365d".
func (p Policy) String() string {
	var parts []string
	for _, c := range p.counts() {
		switch name := strings.TrimPrefix(c.name, "keep_"); c.n {
		case 0:
		case Unlimited:
			parts = append(parts, name+" all")
		default:
			parts = append(parts, name+" "+strconv.Itoa(c.n))
		}
	}
	if p.KeepWithin != 0 {
		parts = append(parts, "within "+p.KeepWithin.String())
	}
	if len(p.KeepTags) > 0 {
		parts = append(parts, "tags "+strings.Join(p.KeepTags, " "))
	}
	if p.MinAge != 0 {
		parts = append(parts, "at least "+p.MinAge.String())
	}
	if p.MaxAge != 0 {
		parts = append(parts, "at most "+p.MaxAge.String())
	}
	if len(parts) == 0 {
		return "keep nothing"
	}
	return strings.Join(parts, ", ")
}

type namedCount struct {
	name string
	n    int
}

func (p Policy) counts() []namedCount {
	return []namedCount{
		{"keep_last", p.KeepLast}, {"hourly", p.Hourly}, {"daily", p.Daily},
		{"weekly", p.Weekly}, {"monthly", p.Monthly}, {"yearly", p.Yearly},
	}
}

type namedSpan struct {
	name string
	span Span
}

func (p Policy) spans() []namedSpan {
	return []namedSpan{
		{"keep_within", p.KeepWithin}, {"min_age", p.MinAge}, {"max_age", p.MaxAge},
		{"max_skew", p.MaxSkew}, {"max_delay", p.MaxDelay},
	}
}

func (p Policy) maxSkew() time.Duration {
	if p.MaxSkew == 0 {
		return time.Duration(DefaultMaxSkew)
	}
	return time.Duration(p.MaxSkew)
}

func (p Policy) maxDelay() time.Duration {
	if p.MaxDelay == 0 {
		return time.Duration(DefaultMaxDelay)
	}
	return time.Duration(p.MaxDelay)
}

func (p Policy) buckets() []bucket {
	layout := func(l string) func(time.Time) string {
		return func(t time.Time) string { return t.Format(l) }
	}
	return []bucket{
		{"hourly", p.Hourly, layout("2006-01-02T15")},
		{"daily", p.Daily, layout("2006-01-02")},
		{"weekly", p.Weekly, isoWeek},
		{"monthly", p.Monthly, layout("2006-01")},
		{"yearly", p.Yearly, layout("2006")},
	}
}

// isoWeek names the week by ISO 8601, whose year differs from the calendar's
// around the first of January.
func isoWeek(t time.Time) string {
	year, week := t.ISOWeek()
	return fmt.Sprintf("%04d-W%02d", year, week)
}
