package fakegcp

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// KMS is a server of cloudkms/v1.
type KMS struct {
	*Server

	mu     sync.Mutex
	keys   map[string]*cryptoKey
	Reader string // the token that may encrypt and not decrypt
}

type cryptoKey struct {
	versions []*keyVersion // 1 is the first
	primary  int
	purpose  string
}

type keyVersion struct {
	state string
	aead  cipher.AEAD
}

// NewKMS starts one.
func NewKMS(t testing.TB) *KMS {
	k := &KMS{keys: map[string]*cryptoKey{}}
	k.Server = start(t, "cloudkms/v1/cloudkms-api.json", k.serve)
	return k
}

// Key makes a key, or a new version of it that becomes the primary one.
func (k *KMS) Key(name string) string {
	k.mu.Lock()
	defer k.mu.Unlock()
	key := k.keys[name]
	if key == nil {
		key = &cryptoKey{purpose: "ENCRYPT_DECRYPT"}
		k.keys[name] = key
	}
	material := make([]byte, 32)
	rand.Read(material)
	block, _ := aes.NewCipher(material)
	aead, _ := cipher.NewGCM(block)
	key.versions = append(key.versions, &keyVersion{"ENABLED", aead})
	key.primary = len(key.versions)
	return name
}

// SetState sets the state of a version of a key: "ENABLED", "DISABLED",
// "DESTROY_SCHEDULED", "DESTROYED".
func (k *KMS) SetState(name string, version int, state string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.keys[name].versions[version-1].state = state
}

// SetPurpose makes it a key of another kind, such as "ASYMMETRIC_SIGN".
func (k *KMS) SetPurpose(name, purpose string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.keys[name].purpose = purpose
}

var (
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
	keyPath    = regexp.MustCompile(`^/v1/(projects/.*/cryptoKeys/[^/:]+):(encrypt|decrypt)$`)
)

func sum(b []byte) string { return strconv.FormatUint(uint64(crc32.Checksum(b, castagnoli)), 10) }

func (k *KMS) serve(r *Request) (any, *Fault) {
	m := keyPath.FindStringSubmatch(r.URL.Path)
	if m == nil {
		return nil, faultf(http.StatusNotImplemented, "notImplemented", "UNIMPLEMENTED", "%s is not known here", r.Method)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.Reader != "" && m[2] == "decrypt" && r.Header.Get("Authorization") == "Bearer "+k.Reader {
		return nil, faultf(http.StatusForbidden, "forbidden", "PERMISSION_DENIED",
			"Permission 'cloudkms.cryptoKeyVersions.useToDecrypt' denied on resource '%s' (or it may not exist).", m[1])
	}
	key := k.keys[m[1]]
	if key == nil {
		return nil, faultf(http.StatusNotFound, "notFound", "NOT_FOUND", "CryptoKey %s not found.", m[1])
	}
	if key.purpose != "ENCRYPT_DECRYPT" {
		return nil, faultf(http.StatusBadRequest, "failedPrecondition", "FAILED_PRECONDITION", "Request with %s is not permitted for key purpose: %s.", m[2], key.purpose)
	}
	body := r.decode()
	in := "plaintext"
	if m[2] == "decrypt" {
		in = "ciphertext"
	}
	content, contentFault := checked(body, in)
	aad, aadFault := checked(body, "additionalAuthenticatedData")
	switch {
	case contentFault != nil:
		return nil, contentFault
	case aadFault != nil:
		return nil, aadFault
	case len(content) == 0:
		return nil, faultf(http.StatusBadRequest, "badRequest", "INVALID_ARGUMENT", "The %s is required.", in)
	case m[2] == "encrypt":
		return k.encrypt(m[1], key, content, aad, body)
	}
	return k.decrypt(m[1], key, content, aad)
}

// checked is a field of bytes, whose checksum is verified if there is one.
func checked(body map[string]any, field string) ([]byte, *Fault) {
	text, _ := body[field].(string)
	b, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		b, _ = base64.URLEncoding.DecodeString(text)
	}
	if given, ok := body[field+"Crc32c"].(string); ok && given != sum(b) {
		return nil, faultf(http.StatusBadRequest, "badRequest", "INVALID_ARGUMENT", "The checksum in field %s_crc32c did not match the data in field %s.", field, field)
	}
	return b, nil
}

func unusable(name string, version int, state string) *Fault {
	return faultf(http.StatusBadRequest, "failedPrecondition", "FAILED_PRECONDITION", "%s/cryptoKeyVersions/%d is not enabled, current state is: %s.", name, version, state)
}

func (k *KMS) encrypt(name string, key *cryptoKey, plaintext, aad []byte, body map[string]any) (any, *Fault) {
	v := key.versions[key.primary-1]
	if v.state != "ENABLED" {
		return nil, unusable(name, key.primary, v.state)
	}
	nonce := make([]byte, v.aead.NonceSize())
	rand.Read(nonce)
	ciphertext := append(binary.BigEndian.AppendUint32([]byte{10, 36}, uint32(key.primary)), v.aead.Seal(nonce, nonce, plaintext, aad)...)
	_, plainSummed := body["plaintextCrc32c"]
	_, aadSummed := body["additionalAuthenticatedDataCrc32c"]
	return map[string]any{
		"name": fmt.Sprintf("%s/cryptoKeyVersions/%d", name, key.primary), "protectionLevel": "SOFTWARE",
		"ciphertext": base64.StdEncoding.EncodeToString(ciphertext), "ciphertextCrc32c": sum(ciphertext),
		"verifiedPlaintextCrc32c": plainSummed, "verifiedAdditionalAuthenticatedDataCrc32c": aadSummed,
	}, nil
}

func (k *KMS) decrypt(name string, key *cryptoKey, ciphertext, aad []byte) (any, *Fault) {
	invalid := faultf(http.StatusBadRequest, "badRequest", "INVALID_ARGUMENT", "Decryption failed: the ciphertext is invalid.")
	if len(ciphertext) < 18 || !strings.HasPrefix(string(ciphertext), "\x0a\x24") {
		return nil, invalid
	}
	n := int(binary.BigEndian.Uint32(ciphertext[2:]))
	if n < 1 || n > len(key.versions) {
		return nil, faultf(http.StatusBadRequest, "badRequest", "INVALID_ARGUMENT", "Decryption failed: verify that 'name' refers to the correct CryptoKey.")
	}
	v := key.versions[n-1]
	if v.state != "ENABLED" {
		return nil, unusable(name, n, v.state)
	}
	plaintext, err := v.aead.Open(nil, ciphertext[6:18], ciphertext[18:], aad)
	if err != nil {
		return nil, invalid
	}
	return map[string]any{
		"plaintext": base64.StdEncoding.EncodeToString(plaintext), "plaintextCrc32c": sum(plaintext),
		"usedPrimary": n == key.primary, "protectionLevel": "SOFTWARE",
	}, nil
}
