package dr

import (
	"fmt"

	"github.com/holdfast-go/holdfast/retention"
)

// Retention says which points to keep. In YAML it is either a duration, which
// keeps every point of that age ("30d"), or the fields of [retention.Policy]
// ({daily: 7, weekly: 4, monthly: 12}). Whatever it says, the newest point
// and the last proven one are never forgotten.
type Retention retention.Policy

// KeepFor keeps every point for so long.
func KeepFor(d Duration) Retention { return Retention{MinAge: retention.Span(d)} }

// Policy returns the policy in effect.
func (r Retention) Policy() retention.Policy {
	p := retention.Policy(r)
	if p.KeepLast == 0 {
		p.KeepLast = 1 // or a workload that stopped would lose its last point
	}
	return p
}

// preset returns the duration if r is nothing but one.
func (r Retention) preset() (Duration, bool) {
	span := retention.Policy(r).MinAge
	p := retention.Policy(r)
	p.MinAge = 0
	return Duration(span), span > 0 && p.Validate() != nil && p.MaxAge == 0
}

// UnmarshalYAML reads both forms.
func (r *Retention) UnmarshalYAML(decode func(any) error) error {
	var text string
	if decode(&text) == nil {
		span, err := retention.ParseSpan(text)
		if err != nil {
			return fmt.Errorf("retention: %w", err)
		}
		*r = KeepFor(Duration(span))
		return nil
	}
	var p retention.Policy
	if err := decode(&p); err != nil {
		return err
	}
	*r = Retention(p)
	return nil
}
