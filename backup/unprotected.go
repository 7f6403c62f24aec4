package backup

import (
	"bytes"
	"context"
	"fmt"
)

const unprotectedStanza = "none"

// Unprotected is the recipient and the identity of a repository whose key is
// stored beside it in the clear: whoever can read the store can read
// everything in it. Content is sealed as ever, so that damage is noticed, but
// it is secret from nobody. It stands alone: a [Keyring] with other
// recipients too is refused, because they would protect nothing.
type Unprotected struct{}

var (
	_ Recipient = Unprotected{}
	_ Identity  = Unprotected{}
)

// Wrap returns secret as it is.
func (Unprotected) Wrap(ctx context.Context, secret []byte) (Stanza, error) {
	return Stanza{Type: unprotectedStanza, Recipient: "nobody, in the clear", Body: bytes.Clone(secret)}, nil
}

// Unwrap returns the secret of a stanza that Wrap made.
func (Unprotected) Unwrap(ctx context.Context, s Stanza) ([]byte, error) {
	if s.Type != unprotectedStanza {
		return nil, fmt.Errorf("%w: the key is wrapped to %s, not stored in the clear", ErrNoIdentity, s.Recipient)
	}
	return bytes.Clone(s.Body), nil
}
