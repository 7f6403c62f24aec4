package dr

import (
	"errors"
	"fmt"
)

// A Fault is one thing wrong with a configuration. It never repeats the value
// of a field that may hold a secret.
type Fault struct {
	Field   string // path of the field: "targets[2].frequency"
	Problem string // what is wrong, with the arithmetic where there is any
	Fix     string // what to do
}

// Error reads "targets[2].frequency: problem; fix".
func (f *Fault) Error() string { return f.Field + ": " + f.Problem + "; " + f.Fix }

// Faults returns every fault in an error of [Config.Validate], [New] or
// [Planner.Check], in order.
func Faults(err error) []*Fault {
	switch e := err.(type) {
	case nil:
		return nil
	case *Fault:
		return []*Fault{e}
	case interface{ Unwrap() []error }:
		var all []*Fault
		for _, one := range e.Unwrap() {
			all = append(all, Faults(one)...)
		}
		return all
	case interface{ Unwrap() error }:
		return Faults(e.Unwrap())
	}
	return nil
}

// faults collects.
type faults []error

func (f *faults) add(field, problem, fix string) {
	*f = append(*f, &Fault{Field: field, Problem: problem, Fix: fix})
}

func (f faults) err() error { return errors.Join(f...) }

// at writes the path of an element: at("targets", 2) is "targets[2]".
func at(list string, i int) string { return fmt.Sprintf("%s[%d]", list, i) }
