package backup

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"

	"filippo.io/age"
)

// ageStanza is the type of stanzas whose body is an age file, so that the
// age command can unwrap the key with no Holdfast at hand.
const ageStanza = "age"

// AgeRecipients returns recipients for age keys: X25519, the post-quantum
// hybrid, SSH keys, plugins, passphrases. Each is wrapped to separately, so
// kinds that age refuses to mix within one file may stand side by side. Age
// uses ChaCha20-Poly1305; where only approved algorithms are allowed, see
// [ApprovedOnly], they are refused, and [KMSRecipients] take their place.
func AgeRecipients(rs ...age.Recipient) []Recipient {
	out := make([]Recipient, len(rs))
	for i, r := range rs {
		out[i] = ageRecipient{r}
	}
	return out
}

// AgeIdentities returns identities for age keys.
func AgeIdentities(ids ...age.Identity) []Identity {
	out := make([]Identity, len(ids))
	for i, id := range ids {
		out[i] = ageIdentity{id}
	}
	return out
}

type ageRecipient struct{ r age.Recipient }

func (r ageRecipient) Wrap(_ context.Context, secret []byte) (Stanza, error) {
	if err := refuseAge("wrap"); err != nil {
		return Stanza{}, err
	}
	var buf bytes.Buffer
	w, err := age.Encrypt(&buf, r.r)
	if err != nil {
		return Stanza{}, err
	}
	if _, err := w.Write(secret); err != nil {
		return Stanza{}, err
	}
	if err := w.Close(); err != nil {
		return Stanza{}, err
	}
	return Stanza{Type: ageStanza, Recipient: ageFingerprint(r.r), Body: buf.Bytes()}, nil
}

// ageFingerprint is the recipient itself if it is short, as X25519 ones are,
// and a digest of it if it is long, as post-quantum ones are.
func ageFingerprint(r age.Recipient) string {
	s, ok := r.(fmt.Stringer)
	if !ok {
		if _, ok := r.(*age.ScryptRecipient); ok {
			return "passphrase"
		}
		return fmt.Sprintf("age (%T)", r)
	}
	text := s.String()
	if len(text) <= 128 {
		return text
	}
	return fmt.Sprintf("%.16s...sha256:%x", text, sha256.Sum256([]byte(text)))
}

type ageIdentity struct{ id age.Identity }

func (i ageIdentity) Unwrap(_ context.Context, s Stanza) ([]byte, error) {
	if s.Type != ageStanza {
		return nil, ErrNoIdentity
	}
	if err := refuseAge("unwrap"); err != nil {
		return nil, err
	}
	r, err := age.Decrypt(bytes.NewReader(s.Body), i.id)
	if _, ok := errors.AsType[*age.NoIdentityMatchError](err); ok {
		return nil, ErrNoIdentity
	}
	if err != nil {
		return nil, err
	}
	return io.ReadAll(io.LimitReader(r, 1024))
}
