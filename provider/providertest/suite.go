package providertest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
)

// A suite is the clauses of one contract, to be asked of one implementation,
// with a P for each clause.
type suite[P any] struct {
	contract string
	clauses  []clauseOf[P]
	only     []string // IDs; empty means all

	// broken is why nothing can be asked, which is reported as a failure of
	// the clause options.
	broken  error
	options Clause

	// probe makes what the clause of an ID works with, and says how that
	// removes what it has made and tells of what it could not.
	probe func(ctx context.Context, id string) (P, func(context.Context) (left []string), error)
}

// A clauseOf is a sentence of a contract with the way to see whether it holds.
type clauseOf[P any] struct {
	Clause
	check  func(context.Context, P) error
	leaves bool // what cannot be removed is no failure
}

// test makes each clause a subtest.
func (s suite[P]) test(t *testing.T) {
	t.Helper()
	if s.broken != nil {
		t.Fatal(s.broken)
	}
	for _, cl := range s.selected() {
		t.Run(cl.ID, func(t *testing.T) {
			switch r, left := s.run(t.Context(), cl); {
			case r.Outcome == Fail:
				t.Errorf("%s\n%v", r.Sentence, r.Err)
			case r.Outcome != Pass:
				t.Skipf("%s: %v", r.Outcome, r.Err)
			case len(left) > 0 && !cl.leaves:
				t.Errorf("could not remove %q", left)
			}
		})
	}
}

// report asks all clauses; those that are left when ctx ends are skipped.
func (s suite[P]) report(ctx context.Context) Report {
	report := Report{Contract: s.contract}
	if s.broken != nil {
		report.Results = []Result{{s.options, Fail, s.broken}}
		return report
	}
	for _, cl := range s.selected() {
		r, left := s.run(ctx, cl)
		report.Results = append(report.Results, r)
		report.Left = append(report.Left, left...)
	}
	return report
}

func (s suite[P]) selected() []clauseOf[P] {
	return slices.DeleteFunc(slices.Clone(s.clauses), func(cl clauseOf[P]) bool {
		return len(s.only) > 0 && !slices.Contains(s.only, cl.ID)
	})
}

// run checks one clause, and returns what could not be removed afterwards.
func (s suite[P]) run(ctx context.Context, cl clauseOf[P]) (r Result, left []string) {
	r.Clause = cl.Clause
	if ctx.Err() != nil {
		r.Outcome, r.Err = Skipped, ctx.Err()
		return r, nil
	}
	p, clean, err := s.probe(ctx, cl.ID)
	if err != nil {
		r.Outcome, r.Err = Fail, err
		return r, nil
	}
	r.Err = cl.calling(ctx, p)
	_, unsupported := errors.AsType[*unsupportedError](r.Err)
	_, skipped := errors.AsType[*skippedError](r.Err)
	switch {
	case r.Err == nil:
		r.Outcome = Pass
	case ctx.Err() != nil, skipped:
		r.Outcome = Skipped
	case unsupported:
		r.Outcome = Unsupported
	default:
		r.Outcome = Fail
	}
	return r, clean(ctx)
}

// calling checks a clause. A panic fails it: an iterator that goes on after a
// break panics in its own goroutine, which is this one.
func (cl clauseOf[P]) calling(ctx context.Context, p P) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("panic: %v", v)
		}
	}()
	return cl.check(ctx, p)
}

// secondOf opens the second handle that options give, if they do.
func secondOf[T any](first T, open func() (T, error)) (T, error) {
	if open == nil {
		return first, nil
	}
	second, err := open()
	if err != nil {
		return first, fmt.Errorf("open second handle: %w", err)
	}
	return second, nil
}

// unsupportedError is what a clause returns if the implementation declined as
// the contract allows.
type unsupportedError struct{ err error }

func (e *unsupportedError) Error() string { return e.err.Error() }
func (e *unsupportedError) Unwrap() error { return e.err }

// skippedError is what a clause returns if the options do not let it ask.
type skippedError struct{ why string }

func (e *skippedError) Error() string { return e.why }
