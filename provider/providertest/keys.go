package providertest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/holdfast-go/holdfast/provider"
)

// KeyService is both halves of a key management service, as the suite needs
// them to see that what one wraps the other unwraps.
type KeyService interface {
	provider.KeyWrapper
	provider.KeyUnwrapper
}

// KeysOptions say how [CheckKeys] and [TestKeys] work. Keys are made by
// whoever operates the service, so the suite is told their IDs.
type KeysOptions struct {
	// Key is the ID of a key to wrap with. Required.
	Key string

	// Other is the ID of another key. Empty skips the clauses about it.
	Other string

	// Missing is an ID that no key has. Empty skips the clauses about it.
	Missing string

	// Second opens another handle to the same service, as another process
	// would. Nil means one handle.
	Second func() (KeyService, error)

	// WrapOnly opens the service with credentials that may wrap with Key and
	// not unwrap. Nil skips the clause about them.
	WrapOnly func() (KeyService, error)

	// Rotate gives Key a new version. Nil skips the clause about it.
	Rotate func(ctx context.Context) error

	// Down puts the service out of reach, Up brings it back. Nil skips the
	// clause about it.
	Down, Up func()

	// Only names the clauses to check by ID. Empty means all.
	Only []string
}

// TestKeys tests the service that open returns, one subtest per clause of
// the contract. It calls open once.
func TestKeys(t *testing.T, open func(t *testing.T) KeyService, o KeysOptions) {
	t.Helper()
	c, err := newKeysCheck(open(t), o)
	if err != nil {
		t.Fatal(err)
	}
	for _, cl := range c.clauses() {
		t.Run(cl.ID, func(t *testing.T) {
			switch r := c.run(t.Context(), cl); {
			case r.Outcome == Fail:
				t.Errorf("%s\n%v", r.Sentence, r.Err)
			case r.Outcome != Pass:
				t.Skipf("%s: %v", r.Outcome, r.Err)
			}
		})
	}
}

// CheckKeys checks every clause of the contract against a live service, with
// some fifty calls. It leaves nothing behind. When ctx ends, the remaining
// clauses are skipped.
func CheckKeys(ctx context.Context, s KeyService, o KeysOptions) Report {
	report := Report{Contract: "KeyWrapper, KeyUnwrapper"}
	c, err := newKeysCheck(s, o)
	if err != nil {
		report.Results = []Result{{Clause{"keys/options", "The options are complete."}, Fail, err}}
		return report
	}
	for _, cl := range c.clauses() {
		report.Results = append(report.Results, c.run(ctx, cl))
	}
	return report
}

type keysClause struct {
	Clause
	check func(context.Context, *keysCheck) error
}

func keysSentence(id, text string, check func(context.Context, *keysCheck) error) keysClause {
	return keysClause{Clause{"keys/" + id, text}, check}
}

type keysCheck struct {
	KeysOptions
	s, second KeyService
}

func newKeysCheck(s KeyService, o KeysOptions) (*keysCheck, error) {
	if o.Key == "" {
		return nil, errors.New("KeysOptions: Key is required")
	}
	if (o.Down == nil) != (o.Up == nil) {
		return nil, errors.New("KeysOptions: Down and Up come together")
	}
	c := &keysCheck{KeysOptions: o, s: s, second: s}
	if o.Second != nil {
		var err error
		if c.second, err = o.Second(); err != nil {
			return nil, fmt.Errorf("open second handle: %w", err)
		}
	}
	return c, nil
}

func (c *keysCheck) clauses() []keysClause {
	return slices.DeleteFunc(slices.Clone(keysClauses), func(cl keysClause) bool {
		return len(c.Only) > 0 && !slices.Contains(c.Only, cl.ID)
	})
}

func (c *keysCheck) run(ctx context.Context, cl keysClause) Result {
	r := Result{Clause: cl.Clause}
	if ctx.Err() != nil {
		r.Outcome, r.Err = Skipped, ctx.Err()
		return r
	}
	r.Err = cl.check(ctx, c)
	_, skipped := errors.AsType[*keysSkipped](r.Err)
	switch {
	case r.Err == nil:
		r.Outcome = Pass
	case skipped || ctx.Err() != nil:
		r.Outcome = Skipped
	default:
		r.Outcome = Fail
	}
	return r
}

// keysSkipped is what a clause returns if the options do not let it ask.
type keysSkipped struct{ option string }

func (e *keysSkipped) Error() string { return "needs KeysOptions." + e.option }
