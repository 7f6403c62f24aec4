package providertest

import (
	"context"
	"errors"
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
	keysSuite(open(t), o).test(t)
}

// CheckKeys checks every clause of the contract against a live service, with
// some fifty calls. It leaves nothing behind. When ctx ends, the remaining
// clauses are skipped.
func CheckKeys(ctx context.Context, s KeyService, o KeysOptions) Report {
	return keysSuite(s, o).report(ctx)
}

type keysClause = clauseOf[*keysProbe]

func keysSentence(id, text string, check func(context.Context, *keysProbe) error) keysClause {
	return keysClause{Clause: Clause{"keys/" + id, text}, check: check}
}

// A keysProbe is what a clause works with: two handles.
type keysProbe struct {
	KeysOptions
	s, second KeyService
}

func keysSuite(s KeyService, o KeysOptions) suite[*keysProbe] {
	second, err := secondOf(s, o.Second)
	switch {
	case o.Key == "":
		err = errors.New("KeysOptions: Key is required")
	case (o.Down == nil) != (o.Up == nil):
		err = errors.New("KeysOptions: Down and Up come together")
	}
	return suite[*keysProbe]{
		contract: "KeyWrapper, KeyUnwrapper", only: o.Only, clauses: keysClauses,
		broken: err, options: Clause{"keys/options", "The options are complete."},
		probe: func(context.Context, string) (*keysProbe, func(context.Context) []string, error) {
			nothing := func(context.Context) []string { return nil }
			return &keysProbe{KeysOptions: o, s: s, second: second}, nothing, nil
		},
	}
}
