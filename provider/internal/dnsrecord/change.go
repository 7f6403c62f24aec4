package dnsrecord

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/holdfast-go/holdfast/provider"
)

// A Change is a [provider.Change] that is well formed, with its sets in
// canonical form.
type Change struct {
	Name, Type string
	From, To   *provider.RecordSet
}

// Alters: it is not from what is there to the same.
func (c Change) Alters() bool { return !Same(c.From, c.To) }

func (c Change) String() string { return c.Name + " " + c.Type }

// Check accepts changes that are well formed and of different record sets, which
// canonical checks and returns in canonical form.
func Check(wanted []provider.Change, canonical func(provider.RecordSet) (provider.RecordSet, error)) ([]Change, error) {
	if len(wanted) == 0 {
		return nil, errors.New("no changes")
	}
	var changes []Change
	var errs []error
	for i, w := range wanted {
		c, err := checkOne(w, canonical)
		if err == nil && slices.ContainsFunc(changes, func(o Change) bool { return o.Name == c.Name && o.Type == c.Type }) {
			err = fmt.Errorf("an earlier change has the record set %s", c)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("change %d: %w", i, err))
			continue
		}
		changes = append(changes, c)
	}
	return changes, errors.Join(errs...)
}

func checkOne(w provider.Change, canonical func(provider.RecordSet) (provider.RecordSet, error)) (c Change, err error) {
	for _, side := range []struct {
		rs *provider.RecordSet
		to **provider.RecordSet
	}{{w.Old, &c.From}, {w.New, &c.To}} {
		if side.rs == nil {
			continue
		}
		rs, err := canonical(*side.rs)
		if err != nil {
			return c, err
		}
		if c.Name != "" && (c.Name != rs.Name || c.Type != rs.Type) {
			return c, fmt.Errorf("from %s to %s %s: Old and New are not of one name and type", c, rs.Name, rs.Type)
		}
		c.Name, c.Type, *side.to = rs.Name, rs.Type, &rs
	}
	if c.From == nil && c.To == nil {
		return c, errors.New("neither Old nor New")
	}
	return c, nil
}

// Keys names the record sets of changes, well formed or not, for an error about
// them.
func Keys(changes []provider.Change) string {
	var names []string
	for _, c := range changes {
		for _, rs := range []*provider.RecordSet{c.Old, c.New} {
			if rs != nil && !slices.Contains(names, rs.Name+" "+rs.Type) {
				names = append(names, rs.Name+" "+rs.Type)
			}
		}
	}
	return strings.Join(names, ", ")
}
