package backup

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"

	"github.com/holdfast-go/holdfast/provider"
)

// ErrSealed: this process was opened with a [Credential], so it can write and
// cannot read.
var ErrSealed = errors.New("this process can write and cannot read")

// A Credential lets a process back up to a repository and read nothing of it,
// not even what it wrote in an earlier session; [Repository.Seal] makes one.
// What has not changed since that session is skipped with the help of
// [Config].Cache.
// Whoever steals it can confirm content that he knows already, sees sizes and
// counts, and can add points in this writer's name. He can neither read, nor
// write in another's name, nor make [Repository.Prune] delete what a point
// needs; and no other writer relies on what he stores, until
// [Repository.Attest] has looked at it.
//
// It is printed as "backup.Credential(redacted)". Its text is in Text.
type Credential struct {
	text []byte
	name string
}

// credentialText is the text of a credential.
type credentialText struct {
	Kind    string             `json:"holdfast"` // "writer credential"
	Version int                `json:"v"`
	Format  []byte             `json:"format"` // the format object
	Writer  []byte             `json:"writer"` // the writer secret
	Seed    []byte             `json:"seed"`   // of the signing key
	Cert    *signedCertificate `json:"cert"`

	Keys        []byte   `json:"keys,omitempty"` // the present keys object, if there is one
	Authorities [][]byte `json:"authorities"`    // public, of all generations, the first first
}

const credentialKind = "writer credential"

// Seal makes a credential for a writer of that name, which becomes its
// [Config].Writer: 1 to 64 of [a-zA-Z0-9._-]. Every credential is a writer of
// its own, also where names repeat. There is no record of it in the store.
// [ErrSealed] if this process is itself a sealed one.
func (r *Repository) Seal(ctx context.Context, name string) (Credential, error) {
	if err := errors.Join(ctx.Err(), r.readable()); err != nil {
		return Credential{}, fmt.Errorf("seal: %w", err)
	}
	r, err := r.current(ctx)
	if err != nil {
		return Credential{}, fmt.Errorf("seal: %w", err)
	}
	if !writerPattern.MatchString(name) {
		return Credential{}, fmt.Errorf("seal: name %.80q: want 1 to 64 of [a-zA-Z0-9._-]", name)
	}
	seed := make([]byte, ed25519.SeedSize)
	rand.Read(seed)
	cert, _ := r.keys.certify(name, roleSealed, ed25519.NewKeyFromSeed(seed).Public().(ed25519.PublicKey))
	text, err := json.Marshal(credentialText{Kind: credentialKind, Version: formatVersion,
		Format: r.keys.encoded, Writer: r.keys.writer, Seed: seed, Cert: cert, Keys: r.keys.keysEncoded(), Authorities: r.keys.authorityList()})
	if err != nil {
		return Credential{}, fmt.Errorf("seal: %w", err)
	}
	return Credential{text: text, name: name}, nil
}

// ParseCredential reads the text of a credential. Errors hold nothing of it.
func ParseCredential(text []byte) (Credential, error) {
	c := Credential{text: text}
	k, err := c.keys()
	if err != nil {
		return Credential{}, fmt.Errorf("credential: %w", err)
	}
	c.name = k.self.name
	return c, nil
}

// Text is the credential as one line of JSON. It is a secret: keep it in a
// file with mode 0600 or in the host's store of secrets, never in an argument
// or an environment variable.
func (c Credential) Text() []byte { return append([]byte(nil), c.text...) }

const redacted = "backup.Credential(redacted)"

// String does not tell the secret.
func (c Credential) String() string { return redacted }

// GoString does not tell the secret.
func (c Credential) GoString() string { return redacted }

// Format does not tell the secret, whatever the verb.
func (c Credential) Format(s fmt.State, _ rune) { io.WriteString(s, redacted) }

// LogValue does not tell the secret.
func (c Credential) LogValue() slog.Value { return slog.StringValue(redacted) }

func (c Credential) given() bool { return c.text != nil }

// keys returns what a sealed writer can do: no private key is among them.
func (c Credential) keys() (*keys, error) {
	var t credentialText
	if json.Unmarshal(c.text, &t) != nil || t.Kind != credentialKind {
		return nil, errors.New("it is not the text of a credential")
	}
	if t.Version != formatVersion {
		return nil, fmt.Errorf("%w: credential version %d", ErrFormat, t.Version)
	}
	if len(t.Writer) != 32 || len(t.Seed) != ed25519.SeedSize {
		return nil, fmt.Errorf("%w: a secret in it has not 32 bytes", ErrDamaged)
	}
	f, _, _, err := decodeFormat(t.Format)
	if err != nil {
		return nil, err
	}
	if err := f.Cut.valid(); err != nil {
		return nil, err
	}
	k := keysFromWriter(t.Writer)
	if k.public, err = kem().NewPublicKey(f.Public); err != nil {
		return nil, fmt.Errorf("%w: public key: %v", ErrDamaged, err)
	}
	if len(t.Authorities) == 0 || len(f.Authority) != ed25519.PublicKeySize || !bytes.Equal(f.Authority, t.Authorities[0]) {
		return nil, fmt.Errorf("%w: authority of %d bytes", ErrDamaged, len(f.Authority))
	}
	k.format, k.encoded = f, t.Format
	k.trust = trustIn(map[int]ed25519.PublicKey{})
	for i, a := range t.Authorities {
		if len(a) != ed25519.PublicKeySize {
			return nil, fmt.Errorf("%w: authority of %d bytes", ErrDamaged, len(a))
		}
		k.authorities[i+1] = a
	}
	k.generation = 1
	if t.Keys != nil {
		o, err := decodeGeneration(t.Keys)
		if err == nil {
			err = k.adopt(o)
		}
		if err != nil {
			return nil, err
		}
	}
	if k.generation != len(t.Authorities) {
		return nil, fmt.Errorf("%w: %d authorities of %d generations", ErrDamaged, len(t.Authorities), k.generation)
	}
	if k.self, err = k.author(t.Cert); err != nil {
		return nil, err
	}
	k.signing, k.cert = ed25519.NewKeyFromSeed(t.Seed), t.Cert
	if k.self.holder || [32]byte(k.signing.Public().(ed25519.PublicKey)) != k.self.key {
		return nil, fmt.Errorf("%w: the certificate does not belong to it", ErrDamaged)
	}
	return k, nil
}

// openSealed opens the keys of a credential. That the store holds their
// repository is looked at as far as the writer may.
func openSealed(ctx context.Context, c Config) (*keys, error) {
	k, err := c.Credential.keys()
	if err != nil {
		return nil, err
	}
	b, _, err := provider.ReadAll(ctx, c.Store, formatKey, maxFormat)
	switch {
	case errors.Is(err, provider.ErrNotFound):
		for _, err := range c.Store.List(ctx, pointPrefix, provider.ListOptions{}) {
			return k, err // the format object is lost; a reader repairs it
		}
		return nil, ErrNoRepository
	case errors.Is(err, fs.ErrPermission), errors.Is(err, provider.ErrCorrupt):
		return k, nil
	case err != nil:
		return nil, err
	}
	if f, _, _, err := decodeFormat(b); err == nil && f.ID != k.format.ID {
		return nil, fmt.Errorf("the store holds repository %s, and the credential is for %s", f.ID, k.format.ID)
	} else if err != nil {
		c.Logger.Warn("format object is damaged; using the copy in the credential", "error", err)
	}
	return k, nil
}

// readable returns ErrSealed if this process holds no key to read with.
func (r *Repository) readable() error {
	if r.keys.private == nil {
		return ErrSealed
	}
	return nil
}
