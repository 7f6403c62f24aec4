package backup

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/hpke"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"strconv"
	"strings"
	"time"

	"github.com/holdfast-go/holdfast/provider"
)

// A generation is one root with those it is wrapped to. The first is the
// format object; each change makes the next one, an object below keys/, which
// is never changed either. It carries the earlier roots, so that whoever
// opens the newest generation reads everything, and it is signed by the
// authority of the one before, so that nobody but a holder can add one.

const (
	keysPrefix     = "keys/"
	maxGenerations = 10_000
	keysFormat     = "holdfast keys"
)

func keysKey(generation int) string { return fmt.Sprintf("%s%016d", keysPrefix, generation) }

// generationOf is the inverse of keysKey.
func generationOf(key string) (int, bool) {
	digits := strings.TrimPrefix(key, keysPrefix)
	n, err := strconv.Atoi(digits)
	return n, err == nil && n > 1 && n <= maxGenerations && key == keysKey(n)
}

// keysObject is the first line of an object below keys/. The second holds,
// separated by spaces, a MAC of the first by a key from the root, and its
// signatures by the authorities of the generation before and of its own.
type keysObject struct {
	Format     string    `json:"format"` // "holdfast keys"
	Version    int       `json:"v"`
	Generation int       `json:"gen"`
	ID         string    `json:"id"` // of the format object
	Created    time.Time `json:"created"`
	Public     []byte    `json:"public"`
	Authority  []byte    `json:"authority"`
	Stanzas    []Stanza  `json:"stanzas"`
	Old        []byte    `json:"old"` // the roots of all earlier generations, sealed

	line         []byte
	mac          string
	before, self []byte // signatures
	encoded      []byte
}

func keysMAC(root, line []byte) string { return keysMACBy(derive(root, nil, "keys"), line) }

func keysMACBy(key, line []byte) string {
	m := hmac.New(sha256.New, key)
	m.Write(line)
	return hex.EncodeToString(m.Sum(nil))
}

func keysText(line []byte) []byte { return append([]byte("holdfast v1 keys\n"), line...) }

// newGeneration makes the object of the generation after those whose roots
// are given. root is its own, which may be that of before.
func newGeneration(id string, now time.Time, roots [][]byte, root []byte, stanzas []Stanza) ([]byte, error) {
	private, err := kem().DeriveKeyPair(derive(root, nil, "key pair"))
	if err != nil {
		return nil, fmt.Errorf("derive key pair: %w", err)
	}
	g := len(roots) + 1
	before, self := authorityFromRoot(roots[g-2], g-1), authorityFromRoot(root, g)
	line, err := json.Marshal(keysObject{
		Format: keysFormat, Version: formatVersion, Generation: g, ID: id, Created: now.UTC().Truncate(time.Second),
		Public: private.PublicKey().Bytes(), Authority: self.authorities[g], Stanzas: stanzas,
		Old: newAEAD(oldKey(root, g)).Seal(nil, nil, bytes.Join(roots, nil), oldAAD(id)),
	})
	if err != nil {
		return nil, err
	}
	return keysLines(line, root, before, self), nil
}

// keysLines completes a keys object, of which line is the first one.
func keysLines(line, root []byte, before, self trust) []byte {
	return fmt.Appendf(nil, "%s\n%s %s %s\n", line, keysMAC(root, line),
		base64.StdEncoding.EncodeToString(ed25519.Sign(before.authority, keysText(line))),
		base64.StdEncoding.EncodeToString(ed25519.Sign(self.authority, keysText(line))))
}

func oldKey(root []byte, generation int) []byte {
	return derive(root, nil, fmt.Sprintf("old roots %d", generation))
}

func oldAAD(id string) []byte { return []byte(id) }

// decodeGeneration reads a keys object. Nothing in it is authentic yet.
func decodeGeneration(b []byte) (*keysObject, error) {
	line, rest, _ := bytes.Cut(b, []byte("\n"))
	k := &keysObject{}
	if err := json.Unmarshal(line, k); err != nil {
		return nil, fmt.Errorf("keys object: %w: %v", ErrDamaged, err)
	}
	if k.Format != keysFormat {
		return nil, fmt.Errorf("keys object: %w: it is none", ErrDamaged)
	}
	if k.Version != formatVersion {
		return nil, fmt.Errorf("keys object: %w: version %d", ErrFormat, k.Version)
	}
	second, ended := strings.CutSuffix(string(rest), "\n")
	fields := strings.Split(second, " ")
	if !ended || len(fields) != 3 || k.Generation < 2 || k.Generation > maxGenerations ||
		len(k.Authority) != ed25519.PublicKeySize || len(k.Stanzas) == 0 || len(k.Stanzas) > maxStanzas {
		return nil, fmt.Errorf("keys object: %w: generation %d of %d stanzas and %d signatures", ErrDamaged, k.Generation, len(k.Stanzas), len(fields)-1)
	}
	var err error
	if k.before, err = base64.StdEncoding.Strict().DecodeString(fields[1]); err == nil {
		k.self, err = base64.StdEncoding.Strict().DecodeString(fields[2])
	}
	for _, s := range k.Stanzas {
		err = errors.Join(err, s.valid())
	}
	if err != nil {
		return nil, fmt.Errorf("keys object: %w: %v", ErrDamaged, err)
	}
	k.line, k.mac, k.encoded = line, fields[0], b
	return k, nil
}

// follows reports whether a holder of the generation before, whose authority
// is given, has made k. It needs no secret.
func (k *keysObject) follows(authority ed25519.PublicKey) bool {
	return len(authority) == ed25519.PublicKeySize && ed25519.Verify(authority, keysText(k.line), k.before) &&
		ed25519.Verify(k.Authority, keysText(k.line), k.self)
}

// open unwraps the root of a generation and with it those of all before. It
// returns them oldest first, and checks all that they can say of k.
func (k *keysObject) open(unwrap func([]Stanza, func([]byte) bool) ([]byte, error)) ([][]byte, error) {
	root, err := unwrap(k.Stanzas, func(root []byte) bool {
		return len(root) == 32 && hmac.Equal([]byte(keysMAC(root, k.line)), []byte(k.mac))
	})
	if err != nil {
		return nil, err
	}
	old, err := newAEAD(oldKey(root, k.Generation)).Open(nil, nil, k.Old, oldAAD(k.ID))
	if err != nil || len(old) != 32*(k.Generation-1) {
		return nil, fmt.Errorf("keys object %d: %w: earlier roots do not decrypt", k.Generation, ErrDamaged)
	}
	var roots [][]byte
	for i := 0; i < len(old); i += 32 {
		roots = append(roots, old[i:i+32])
	}
	before, self := authorityFromRoot(roots[k.Generation-2], k.Generation-1), authorityFromRoot(root, k.Generation)
	if !k.follows(before.authorities[k.Generation-1]) || !bytes.Equal(k.Authority, self.authorities[k.Generation]) {
		return nil, fmt.Errorf("keys object %d: %w: signature is not by the authority", k.Generation, ErrDamaged)
	}
	return append(roots, root), nil
}

// addGenerations makes the keys those of the newest generation, which still
// open what earlier ones sealed. roots are of all generations, the first
// being that of the keys already; o is the newest object.
func (k *keys) addGenerations(roots [][]byte, o *keysObject) error {
	k.keysMACs = map[int][]byte{}
	for i, root := range roots[1:] {
		g := i + 2
		k.keysMACs[g] = derive(root, nil, "keys")
		private, err := kem().DeriveKeyPair(derive(root, nil, "key pair"))
		if err != nil {
			return fmt.Errorf("derive key pair: %w", err)
		}
		k.public, k.private, k.privates[g] = private.PublicKey(), private, private
		t := authorityFromRoot(root, g)
		k.authorities[g] = t.authorities[g]
		k.authority, k.generation, k.signSecret = t.authority, t.generation, t.signSecret
	}
	if o.ID != k.format.ID || !bytes.Equal(o.Public, k.private.PublicKey().Bytes()) {
		return fmt.Errorf("keys object %d: %w: is of another repository, or its public key is not that of the root", o.Generation, ErrDamaged)
	}
	k.present = o
	return nil
}

// follow returns the keys of a process that cannot read with the generations
// that were made since, or k itself. It takes their public halves only.
func (k *keys) follow(ctx context.Context, s provider.BlobStore) (*keys, error) {
	out := *k
	for {
		g := out.generation + 1
		b, _, err := provider.ReadAll(ctx, s, keysKey(g), maxFormat)
		if err != nil && !isDamage(err) && !errors.Is(err, fs.ErrPermission) {
			return nil, err
		}
		o, decodeErr := decodeGeneration(b)
		if err != nil || decodeErr != nil || o.Generation != g || o.ID != k.format.ID || !o.follows(out.authorities[g-1]) {
			break
		}
		if err := out.adopt(o); err != nil {
			return nil, err
		}
	}
	if out.generation == k.generation {
		return k, nil
	}
	return &out, nil
}

// adopt makes a generation the present one of a process that cannot read.
func (k *keys) adopt(o *keysObject) (err error) {
	if k.public, err = kem().NewPublicKey(o.Public); err != nil {
		return fmt.Errorf("keys object %d: %w: public key: %v", o.Generation, ErrDamaged, err)
	}
	k.authorities = maps.Clone(k.authorities)
	k.authorities[o.Generation] = o.Authority
	k.present, k.generation, k.widest = o, o.Generation, max(k.widest, len(o.encoded))
	return nil
}

// stanzas are those of the present generation.
func (k *keys) stanzas() []Stanza {
	if k.present != nil {
		return k.present.Stanzas
	}
	return k.format.Stanzas
}

// authorityList is the public halves of all authorities, the first first.
func (k *keys) authorityList() [][]byte {
	out := make([][]byte, k.generation)
	for g, a := range k.authorities {
		out[g-1] = a
	}
	return out
}

// keysEncoded is the present keys object, nil in the first generation.
func (k *keys) keysEncoded() []byte {
	if k.present != nil {
		return k.present.encoded
	}
	return nil
}

// copies is how much of a header the copies of format and keys objects take
// at most, in whatever generation it was written.
func (k *keys) copies() int { return len(k.encoded) + k.widest }

// What is called enc all over this package is the encapsulated secret of a
// session, followed, if that was not the first, by the generation it was
// encapsulated to. Headers store the two apart.

const encSize = 1088 + 65 // of ML-KEM-768 and of P-256

func joinEnc(enc []byte, generation int) []byte {
	if generation <= 1 || len(enc) == 0 {
		return enc
	}
	return binary.AppendUvarint(bytes.Clone(enc), uint64(generation))
}

// splitEnc is the inverse of joinEnc. What has no such form is left alone: it
// opens nothing.
func splitEnc(b []byte) (enc []byte, generation int) {
	if len(b) <= encSize {
		return b, 1
	}
	g, n := binary.Uvarint(b[encSize:])
	if n != len(b)-encSize || g < 2 || g > maxGenerations {
		return b, 1
	}
	return b[:encSize], int(g)
}

// privateFor finds the key for a session.
func (k *keys) privateFor(generation int) (hpke.PrivateKey, error) {
	if p, ok := k.privates[generation]; ok {
		return p, nil
	}
	return nil, fmt.Errorf("%w: session key is of generation %d, the newest known is %d", ErrDamaged, generation, max(k.generation, 1))
}
