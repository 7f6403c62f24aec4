package dr

import (
	"errors"
	"fmt"
)

// Retention says which points to keep. In YAML it is either a duration, which
// keeps every point of that age ("30d"), or the fields below; a point that any
// of them names is kept. Whatever it says, the newest point and the last
// proven one are never forgotten.
type Retention struct {
	Within  Duration `yaml:"within,omitempty" json:"within,omitzero"`   // every point of this age
	Last    int      `yaml:"last,omitempty" json:"last,omitzero"`       // so many newest points
	Hourly  int      `yaml:"hourly,omitempty" json:"hourly,omitzero"`   // the newest of each of so many hours
	Daily   int      `yaml:"daily,omitempty" json:"daily,omitzero"`     // ... days
	Weekly  int      `yaml:"weekly,omitempty" json:"weekly,omitzero"`   // ... weeks
	Monthly int      `yaml:"monthly,omitempty" json:"monthly,omitzero"` // ... months
	Yearly  int      `yaml:"yearly,omitempty" json:"yearly,omitzero"`   // ... years
}

// IsZero reports whether r keeps nothing.
func (r Retention) IsZero() bool { return r == Retention{} }

// UnmarshalYAML reads both forms.
func (r *Retention) UnmarshalYAML(decode func(any) error) error {
	var span Duration
	spanErr := decode(&span)
	if spanErr == nil {
		*r = Retention{Within: span}
		return nil
	}
	type fields Retention // without this method
	var f fields
	if err := decode(&f); err != nil {
		var text string
		if decode(&text) == nil {
			return fmt.Errorf("retention: %w", spanErr)
		}
		return err
	}
	*r = Retention(f)
	return nil
}

func (r Retention) check() error {
	for _, n := range []int{r.Last, r.Hourly, r.Daily, r.Weekly, r.Monthly, r.Yearly} {
		if n < 0 {
			return errors.New("a count is negative")
		}
	}
	if r.IsZero() {
		return errors.New("keeps nothing")
	}
	return nil
}
