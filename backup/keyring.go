package backup

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// A Stanza is a secret wrapped to one recipient. It holds nothing secret.
type Stanza struct {
	Type      string `json:"type"`      // the scheme: "age", "aws-kms" ...
	Recipient string `json:"recipient"` // fingerprint, for people
	Body      []byte `json:"body"`      // in the scheme's own format
}

// A Recipient wraps secrets so that only the matching [Identity] can unwrap
// them. [AgeRecipients] makes some; key management services are others.
type Recipient interface {
	// Wrap wraps secret, which has 32 bytes.
	Wrap(ctx context.Context, secret []byte) (Stanza, error)
}

// An Identity unwraps what was wrapped to its [Recipient].
type Identity interface {
	// Unwrap returns the secret in s, or an error wrapping [ErrNoIdentity]
	// if s is not addressed to this identity. Any other error (a key
	// service that does not answer) is reported if no identity succeeds.
	Unwrap(ctx context.Context, s Stanza) ([]byte, error)
}

// A Keyring says whom a repository is encrypted to and who is opening it.
type Keyring struct {
	Recipients []Recipient // wrapped to by Init; at least one
	Identities []Identity  // tried in order by Open, and by Init to prove that one of them fits
}

const (
	maxStanzas    = 64
	maxStanzaBody = 16 << 10
)

// wrap wraps secret to every recipient.
func (k Keyring) wrap(ctx context.Context, secret []byte) ([]Stanza, error) {
	if len(k.Recipients) == 0 {
		return nil, errors.New("keyring: Recipients is empty; give at least one, or nobody could ever read the repository")
	}
	if len(k.Recipients) > maxStanzas {
		return nil, fmt.Errorf("keyring: %d recipients, at most %d are possible", len(k.Recipients), maxStanzas)
	}
	var stanzas []Stanza
	for i, r := range k.Recipients {
		s, err := r.Wrap(ctx, secret)
		if err != nil {
			return nil, fmt.Errorf("keyring: wrap to recipient %d: %w", i, err)
		}
		if err := s.valid(); err != nil {
			return nil, fmt.Errorf("keyring: recipient %d: %w", i, err)
		}
		if s.Type == unprotectedStanza && len(k.Recipients) > 1 {
			return nil, errors.New("keyring: Unprotected stores the key in the clear, so the other recipients protect nothing; use it alone or not at all")
		}
		stanzas = append(stanzas, s)
	}
	return stanzas, nil
}

// unwrap tries every identity on every stanza; accept says whether what came
// out is the secret that was put in.
func (k Keyring) unwrap(ctx context.Context, stanzas []Stanza, accept func(secret []byte) bool) ([]byte, error) {
	var problems []error
	for _, id := range k.Identities {
		for _, s := range stanzas {
			secret, err := id.Unwrap(ctx, s)
			switch {
			case err == nil && accept(secret):
				return secret, nil
			case err == nil:
				problems = append(problems, fmt.Errorf("the key wrapped to %s is not the one the repository was made with: %w", s.Recipient, ErrDamaged))
			case !errors.Is(err, ErrNoIdentity):
				problems = append(problems, fmt.Errorf("unwrap for %s: %w", s.Recipient, err))
			}
			if err := ctx.Err(); err != nil {
				return nil, err
			}
		}
	}
	names := make([]string, len(stanzas))
	for i, s := range stanzas {
		names[i] = s.Recipient
	}
	err := fmt.Errorf("%w: %d given, the repository is encrypted to %s", ErrNoIdentity, len(k.Identities), strings.Join(names, ", "))
	return nil, errors.Join(append([]error{err}, problems...)...)
}

func (s Stanza) valid() error {
	switch {
	case s.Type == "" || len(s.Type) > 64 || len(s.Recipient) > 256:
		return errors.New("stanza: type or recipient is empty or too long")
	case len(s.Body) == 0 || len(s.Body) > maxStanzaBody:
		return fmt.Errorf("stanza: body of %d bytes, 1 to %d are possible", len(s.Body), maxStanzaBody)
	}
	for _, r := range s.Type + s.Recipient {
		if r < ' ' || r > '~' {
			return errors.New("stanza: type and recipient must be printable ASCII")
		}
	}
	return nil
}
