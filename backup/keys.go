package backup

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/hpke"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// The keys of a repository all grow from one random root secret, which is
// stored only wrapped to the recipients:
//
//	root ─┬─ writer secret ─┬─ dedup keys: chunk ids and cut points
//	      │                 └─ index key: what maintenance reads
//	      └─ key pair: each session's secret is encapsulated to the public
//	         half; pack keys and the content of manifests come from it
//
// A process that holds only the writer secret and the public key can
// therefore add points and deduplicate, and can read no content, not even
// what it wrote in an earlier session. Recipients can be added for all
// earlier content by wrapping the root once more.

const (
	formatVersion = 1
	formatKey     = "format"
	suite         = "hpke-mlkem768p256-hkdfsha256-aes256gcm"
	maxFormat     = 2 << 20
)

// format is the content of the format object, which is one line of JSON and
// one line with the MAC of the first, by a key from the root.
type format struct {
	Format  string      `json:"format"` // "holdfast repository"
	Version int         `json:"v"`
	ID      string      `json:"id"` // 32 hex digits, random
	Created time.Time   `json:"created"`
	Cut     cutSettings `json:"cut"`
	Suite   string      `json:"suite"`
	Policy  Algorithms  `json:"policy,omitempty"`
	Public  []byte      `json:"public"` // the key that sessions encapsulate to

	Authority []byte   `json:"authority"` // the key that certifies writers
	Stanzas   []Stanza `json:"stanzas"`   // the root, wrapped
}

// cutSettings say how content is cut into chunks.
type cutSettings struct {
	Algorithm string `json:"algorithm"`
	Min       int    `json:"min"`
	Normal    int    `json:"normal"`
	Max       int    `json:"max"`
}

var defaultCut = cutSettings{Algorithm: "fastcdc-v1.0.0", Min: 64 << 10, Normal: 256 << 10, Max: 1 << 20}

func (c cutSettings) valid() error {
	if c.Min < 64 || c.Min >= c.Normal || c.Normal >= c.Max || c.Max > maxData || c.Normal&(c.Normal-1) != 0 {
		return fmt.Errorf("format object: %w: cut sizes %d, %d, %d", ErrDamaged, c.Min, c.Normal, c.Max)
	}
	return nil
}

// keys are the unwrapped keys of a repository, and its format object.
type keys struct {
	format  format
	encoded []byte // the format object as stored
	dataID  []byte
	metaID  []byte
	cut     []byte
	index   []byte
	logName []byte
	logSum  []byte
	writer  []byte          // the secret that all of the above derive from
	public  hpke.PublicKey  // of the present generation
	private hpke.PrivateKey // likewise; nil in a process that cannot read

	privates map[int]hpke.PrivateKey // by generation
	keysMACs map[int][]byte          // keys of the MACs of keys objects, by generation; of those who can read
	present  *keysObject             // of the present generation; nil if that is the first
	widest   int                     // size of the largest keys object
	trust
}

func derive(secret, salt []byte, info string) []byte {
	k, err := hkdf.Key(sha256.New, secret, salt, "holdfast v1 "+info, 32)
	if err != nil {
		panic(err) // only for impossible lengths
	}
	return k
}

// kem is the key encapsulation of suite: post-quantum and P-256 together,
// both approved by FIPS 140-3.
func kem() hpke.KEM { return hpke.MLKEM768P256() }

func keysFromRoot(root []byte) (*keys, error) {
	private, err := kem().DeriveKeyPair(derive(root, nil, "key pair"))
	if err != nil {
		return nil, fmt.Errorf("derive key pair: %w", err)
	}
	k := keysFromWriter(derive(root, nil, "writer"))
	k.public, k.private, k.trust = private.PublicKey(), private, authorityFromRoot(root, 1)
	k.privates = map[int]hpke.PrivateKey{1: private}
	return k, nil
}

// keysFromWriter derives what a process needs that writes and does not read.
func keysFromWriter(writer []byte) *keys {
	return &keys{
		writer:  writer,
		dataID:  derive(writer, nil, "data chunk id"),
		metaID:  derive(writer, nil, "meta chunk id"),
		cut:     derive(writer, nil, "cut"),
		index:   derive(writer, nil, "index"),
		logName: derive(writer, nil, "log name"),
		logSum:  derive(writer, nil, "log content"),
	}
}

// newFormat makes a new root and returns its format object. wrap wraps the
// root to the recipients.
func newFormat(now time.Time, policy Algorithms, wrap func(root []byte) ([]Stanza, error)) ([]byte, error) {
	root := make([]byte, 32)
	rand.Read(root)
	defer clear(root)
	k, err := keysFromRoot(root)
	if err != nil {
		return nil, err
	}
	stanzas, err := wrap(root)
	if err != nil {
		return nil, err
	}
	id := make([]byte, 16)
	rand.Read(id)
	line, err := json.Marshal(format{
		Format: "holdfast repository", Version: formatVersion,
		ID: hex.EncodeToString(id), Created: now.UTC().Truncate(time.Second),
		Cut: defaultCut, Suite: suite, Policy: policy, Public: k.private.PublicKey().Bytes(),
		Authority: k.authorities[1], Stanzas: stanzas,
	})
	if err != nil {
		return nil, err
	}
	return append(append(line, '\n'), formatMAC(root, line)+"\n"...), nil
}

func formatMAC(root, line []byte) string {
	m := hmac.New(sha256.New, derive(root, nil, "format"))
	m.Write(line)
	return hex.EncodeToString(m.Sum(nil))
}

// decodeFormat reads a format object. Nothing in it is authentic before the
// root has been unwrapped.
func decodeFormat(b []byte) (f format, line []byte, mac string, err error) {
	line, rest, _ := bytes.Cut(b, []byte("\n"))
	if len(rest) != 65 || rest[64] != '\n' {
		return f, nil, "", fmt.Errorf("format object: %w: not two lines", ErrDamaged)
	}
	if err := json.Unmarshal(line, &f); err != nil {
		return f, nil, "", fmt.Errorf("format object: %w: %v", ErrDamaged, err)
	}
	if f.Format != "holdfast repository" {
		return f, nil, "", fmt.Errorf("format object: %w: it is no repository of Holdfast", ErrDamaged)
	}
	if f.Version != formatVersion || f.Suite != suite || f.Cut.Algorithm != defaultCut.Algorithm {
		return f, nil, "", fmt.Errorf("%w: version %d, suite %.60q, cut %.60q", ErrFormat, f.Version, f.Suite, f.Cut.Algorithm)
	}
	if err := f.Policy.valid(); err != nil {
		return f, nil, "", fmt.Errorf("%w: policy %w", ErrFormat, err)
	}
	if len(f.Stanzas) == 0 || len(f.Stanzas) > maxStanzas {
		return f, nil, "", fmt.Errorf("format object: %w: %d stanzas", ErrDamaged, len(f.Stanzas))
	}
	for _, s := range f.Stanzas {
		if err := s.valid(); err != nil {
			return f, nil, "", fmt.Errorf("format object: %w: %v", ErrDamaged, err)
		}
	}
	return f, line, string(rest[:64]), nil
}

// openFormat unwraps the root of a format object, returns it too, and checks
// that all of it is what the repository was made with.
func openFormat(b []byte, unwrap func(stanzas []Stanza, accept func([]byte) bool) ([]byte, error)) (*keys, []byte, error) {
	f, line, mac, err := decodeFormat(b)
	if err != nil {
		return nil, nil, err
	}
	root, err := unwrap(f.Stanzas, func(root []byte) bool {
		return len(root) == 32 && hmac.Equal([]byte(formatMAC(root, line)), []byte(mac))
	})
	if err != nil {
		return nil, nil, err
	}
	k, err := keysFromRoot(root)
	if err != nil {
		return nil, nil, err
	}
	if err := f.Cut.valid(); err != nil {
		return nil, nil, err
	}
	if !bytes.Equal(f.Public, k.private.PublicKey().Bytes()) {
		return nil, nil, fmt.Errorf("format object: %w: public key does not belong to the root", ErrDamaged)
	}
	if !bytes.Equal(f.Authority, k.authorities[1]) {
		return nil, nil, fmt.Errorf("format object: %w: authority does not belong to the root", ErrDamaged)
	}
	k.format, k.encoded = f, b
	return k, root, nil
}

// newSession makes a session's secret and what to store so that a reader
// finds it again.
func (k *keys) newSession() (secret, enc []byte, err error) {
	enc, sender, err := hpke.NewSender(k.public, hpke.HKDFSHA256(), hpke.AES256GCM(), []byte("holdfast v1 session"))
	if err != nil {
		return nil, nil, fmt.Errorf("session key: %w", err)
	}
	secret, err = sender.Export("secret", 32)
	return secret, joinEnc(enc, k.generation), err
}

// openSession is the reader's side of newSession. Any enc of the right
// length yields a secret; a wrong one opens nothing.
func (k *keys) openSession(enc []byte) ([]byte, error) {
	if k.private == nil {
		return nil, ErrSealed
	}
	enc, generation := splitEnc(enc)
	private, err := k.privateFor(generation)
	if err != nil {
		return nil, err
	}
	rec, err := hpke.NewRecipient(enc, private, hpke.HKDFSHA256(), hpke.AES256GCM(), []byte("holdfast v1 session"))
	if err != nil {
		return nil, fmt.Errorf("%w: session key: %v", ErrDamaged, err)
	}
	return rec.Export("secret", 32)
}

// newAEAD returns AES-256-GCM with random nonces of its own. Every key made
// here encrypts one object, so that the 2^32 messages a key is good for are
// out of reach; and it is the form of GCM that FIPS 140-3 allows.
func newAEAD(key []byte) cipher.AEAD {
	b, err := aes.NewCipher(key)
	if err != nil {
		panic(err) // only for a wrong length
	}
	a, err := cipher.NewGCMWithRandomNonce(b)
	if err != nil {
		panic(err)
	}
	return a
}

const sealOverhead = 12 + 16 // nonce and tag

var errSealed = errors.New("does not decrypt")
