package backup

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// Everything that a reader or a prune acts on is signed by its writer, and
// every writer has a certificate by the authority, a key that only those have
// who can unwrap the root. A writer that cannot read (see [Repository.Seal])
// can therefore neither pass for another nor for maintenance.
//
// Packs are not signed: they are named by their hash in what is.

const (
	roleHolder = "holder" // can unwrap the root, so reads everything
	roleSealed = "sealed" // can write only

	signatureSize = ed25519.SignatureSize
	certPrefix    = "holdfast v1 cert\n"
	signPrefix    = "holdfast v1 sig\n"
)

// signedKind reports whether objects of a kind end with a signature.
func signedKind(kind string) bool {
	return kind != kindSession && kind != kindData && kind != kindMeta
}

// holderKind reports whether objects of a kind count only if a holder has
// signed them: they can make a prune delete something, or keep a check from
// reading it.
func holderKind(kind string) bool {
	return kind == kindPlan || kind == kindAwaited || kind == kindVerdict || kind == kindVerified || kind == kindEnd || kind == kindForgotten
}

// A certificate says whose a signing key is. It is stored as the bytes that
// were signed.
type certificate struct {
	Version    int       `json:"v"`
	Repository string    `json:"repo"` // id of the format object
	Generation int       `json:"gen"`  // of the authority
	Name       string    `json:"name"` // Config.Writer
	Role       string    `json:"role"`
	Public     []byte    `json:"public"`
	Created    time.Time `json:"created"`
}

type signedCertificate struct {
	Body []byte `json:"body"` // a certificate in JSON
	Sig  []byte `json:"sig"`  // by the authority of its generation
}

// An author is who has signed something.
type author struct {
	name   string
	key    [32]byte // public; zero if nobody is known to have signed
	holder bool
}

// trust is what a process needs to sign and to verify.
type trust struct {
	authorities map[int]ed25519.PublicKey // by generation
	certs       *sync.Map                 // verified certificates, by their body and signature

	// The signer is this process as a writer; unset until keys.as.
	signing ed25519.PrivateKey
	cert    *signedCertificate
	self    author

	// Of holders only.
	authority  ed25519.PrivateKey // of the present generation
	generation int
	signSecret []byte // the signing keys of holders derive from it
}

// authorityFromRoot returns what a holder of the root of a generation can
// sign with.
func authorityFromRoot(root []byte, generation int) trust {
	a := ed25519.NewKeyFromSeed(derive(root, nil, "authority"))
	t := trustIn(map[int]ed25519.PublicKey{generation: a.Public().(ed25519.PublicKey)})
	t.authority, t.generation, t.signSecret = a, generation, derive(root, nil, "sign")
	return t
}

// trustIn returns what is needed to verify what writers have signed.
func trustIn(authorities map[int]ed25519.PublicKey) trust {
	return trust{authorities: authorities, certs: new(sync.Map)}
}

// as returns the keys for a process that writes under a name. A sealed
// process has its name and its key from its credential already.
func (k *keys) as(name string) *keys {
	if k.authority == nil {
		return k
	}
	out := *k
	out.signing = ed25519.NewKeyFromSeed(derive(k.signSecret, nil, "sign "+name))
	out.cert, out.self = k.certify(name, roleHolder, out.signing.Public().(ed25519.PublicKey))
	return &out
}

// certify makes a certificate. Only holders can.
func (k *keys) certify(name, role string, public ed25519.PublicKey) (*signedCertificate, author) {
	body, err := json.Marshal(certificate{Version: formatVersion, Repository: k.format.ID, Generation: k.generation,
		Name: name, Role: role, Public: public, Created: time.Now().UTC().Truncate(time.Second)})
	if err != nil {
		panic(err) // all of it can be encoded
	}
	c := &signedCertificate{Body: body, Sig: ed25519.Sign(k.authority, slices.Concat([]byte(certPrefix), body))}
	return c, author{name: name, key: [32]byte(public), holder: role == roleHolder}
}

// trusts reports whether this process believes an author: any holder, and
// itself.
func (k *keys) trusts(a author) bool { return a.holder || a.key == k.self.key && a.key != [32]byte{} }

// author verifies a certificate.
func (k *keys) author(c *signedCertificate) (author, error) {
	if c == nil {
		return author{}, fmt.Errorf("%w: signature without a certificate", ErrDamaged)
	}
	known := string(c.Sig) + string(c.Body)
	if a, ok := k.certs.Load(known); ok {
		return a.(author), nil
	}
	var cert certificate
	if err := json.Unmarshal(c.Body, &cert); err != nil {
		return author{}, fmt.Errorf("%w: signature: certificate: %v", ErrDamaged, err)
	}
	authority, ok := k.authorities[cert.Generation]
	var err error
	switch {
	case cert.Version != formatVersion:
		return author{}, fmt.Errorf("%w: certificate version %d", ErrFormat, cert.Version)
	case !ok:
		err = fmt.Errorf("of an unknown generation %d", cert.Generation)
	case !ed25519.Verify(authority, slices.Concat([]byte(certPrefix), c.Body), c.Sig):
		err = errors.New("not by the authority of this repository")
	case cert.Repository != k.format.ID:
		err = errors.New("for another repository")
	case len(cert.Public) != ed25519.PublicKeySize || cert.Role != roleHolder && cert.Role != roleSealed:
		err = fmt.Errorf("of role %.20q with a key of %d bytes", cert.Role, len(cert.Public))
	default:
		a := author{name: cert.Name, key: [32]byte(cert.Public), holder: cert.Role == roleHolder}
		k.certs.Store(known, a)
		return a, nil
	}
	return author{}, fmt.Errorf("%w: signature: certificate is %w", ErrDamaged, err)
}

// signObject appends the signature of an object. b is all that comes before
// it; its header was made by newHeader for the same kind. key is that of the
// object, or empty if it derives from the content.
func (k *keys) signObject(kind, key string, b []byte) []byte {
	return append(b, ed25519.Sign(k.signing, signedText(kind, key, b))...)
}

// verifyObject reads an object that signObject completed: its header, who has
// signed it, and what stands between header and signature. ErrDamaged if the
// signature does not hold, or the signer may not sign this kind.
func (k *keys) verifyObject(kind, key string, b []byte) (h objectHeader, head, body []byte, by author, err error) {
	h, head, body, err = decodeHeader(b, kind)
	if err != nil {
		return h, nil, nil, author{}, err
	}
	if len(body) < signatureSize {
		return h, nil, nil, author{}, fmt.Errorf("%w: signature is missing", ErrDamaged)
	}
	by, err = k.author(h.Cert)
	if err != nil {
		return h, nil, nil, author{}, err
	}
	n := len(b) - signatureSize
	switch {
	case !ed25519.Verify(by.key[:], signedText(kind, key, b[:n]), b[n:]):
		err = errors.New("is not that of the object")
	case by.name != h.Writer:
		err = fmt.Errorf("is by %q and not by %.64q", by.name, h.Writer)
	case holderKind(kind) && !by.holder:
		err = fmt.Errorf("is by %q, who cannot read and may not sign this", by.name)
	}
	if err != nil {
		return h, nil, nil, author{}, fmt.Errorf("%w: signature %w", ErrDamaged, err)
	}
	return h, head, body[:len(body)-signatureSize], by, nil
}

func signedText(kind, key string, b []byte) []byte {
	sum := sha256.Sum256(b)
	var t bytes.Buffer
	t.WriteString(signPrefix)
	t.WriteString(kind + "\n" + key + "\n")
	t.Write(sum[:])
	return t.Bytes()
}
