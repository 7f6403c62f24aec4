package backup

import (
	"crypto/fips140"
	"errors"
	"fmt"
)

// Algorithms say which cryptographic algorithms may protect a repository.
type Algorithms string

const (
	// AnyAlgorithm is the zero value: content is sealed with AES-256-GCM,
	// and keys are wrapped by whatever the recipients use. Those of age use
	// X25519 and ChaCha20-Poly1305.
	AnyAlgorithm Algorithms = ""

	// ApprovedOnly allows AES-256-GCM, SHA-256, HMAC, HKDF, Ed25519, P-256 and
	// ML-KEM, and nothing else: the algorithms of FIPS 140-3. Recipients and
	// identities of age, [Repository.Export] to recipients of age, and
	// [Unprotected] are refused with [ErrPolicy]; key management services
	// take their place, see [KMSRecipients]. A [Recipient] made elsewhere is
	// taken at its word. It is recorded in a repository made under it and
	// then holds for all who open that, and it is forced where Go enforces
	// it (GODEBUG=fips140=only).
	ApprovedOnly Algorithms = "approved-only"
)

// ErrPolicy: the policy on algorithms does not allow what was asked for. The
// text names the policy and where it comes from.
var ErrPolicy = errors.New("not allowed by the policy on algorithms")

// policyError says what the policy forbids, whose it is, and what to do.
func policyError(what, source string) error {
	return fmt.Errorf("%s: %w %q, set by %s; use recipients of a key management service", what, ErrPolicy, ApprovedOnly, source)
}

const (
	policyOfGo     = "GODEBUG=fips140=only"
	policyOfConfig = "field Algorithms"
	policyOfFormat = "the repository"
)

// restricted reports whether only approved algorithms may be used, and who
// says so.
func (c Config) restricted() (source string, ok bool) {
	switch {
	case fips140.Enforced():
		return policyOfGo, true
	case c.Algorithms == ApprovedOnly:
		return policyOfConfig, true
	}
	return "", false
}

// obey returns the configuration with the policy of a format object added.
func (c Config) obey(f format) (Config, error) {
	if f.Policy != ApprovedOnly {
		return c, nil
	}
	c.Algorithms = ApprovedOnly
	return c, c.Keyring.obeys(policyOfFormat)
}

// explain adds to the error of a format object that could not be opened that
// its policy does not allow the identities there are.
func (c Config) explain(object []byte, err error) error {
	f, _, _, bad := decodeFormat(object)
	if bad != nil {
		return err
	}
	_, policy := c.obey(f)
	return errors.Join(err, policy)
}

func (a Algorithms) valid() error {
	if a != AnyAlgorithm && a != ApprovedOnly {
		return fmt.Errorf("%.40q: want %q or nothing", string(a), ApprovedOnly)
	}
	return nil
}

// checkPolicy checks the policy itself, and the keyring against it.
func (c Config) checkPolicy() error {
	if err := c.Algorithms.valid(); err != nil {
		return fmt.Errorf("field Algorithms: %w", err)
	}
	if source, ok := c.restricted(); ok {
		return c.Keyring.obeys(source)
	}
	return nil
}

// obeys checks what a keyring would use if only approved algorithms may be.
func (k Keyring) obeys(source string) error {
	var errs []error
	for i, r := range k.Recipients {
		errs = append(errs, refuse(fmt.Sprintf("field Keyring: Recipients[%d]", i), r, source))
	}
	for i, id := range k.Identities {
		errs = append(errs, refuse(fmt.Sprintf("field Keyring: Identities[%d]", i), id, source))
	}
	return errors.Join(errs...)
}

// refuse is the error if v, a recipient or an identity, is not approved.
func refuse(where string, v any, source string) error {
	switch v.(type) {
	case ageRecipient, ageIdentity:
		return policyError(where+" is of age, which uses ChaCha20-Poly1305", source)
	case Unprotected, *Unprotected:
		return policyError(where+" is Unprotected, which stores the key in the clear", source)
	}
	return nil
}

// refuseAge is the error of age itself, however it is reached, where Go
// enforces the policy.
func refuseAge(what string) error {
	if fips140.Enforced() {
		return policyError(what+" by age, which uses ChaCha20-Poly1305", policyOfGo)
	}
	return nil
}

// refuseExport is the error of an export to age recipients.
func (r *Repository) refuseExport() error {
	source, ok := r.c.restricted()
	if !ok {
		return nil
	}
	if r.keys.format.Policy == ApprovedOnly {
		source = policyOfFormat
	}
	return policyError("field Recipients: archives are encrypted by age, which uses ChaCha20-Poly1305", source)
}
