package keyvault

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"fmt"

	"github.com/holdfast-go/holdfast/provider"
)

// An envelope is a wrapped secret:
//
//	1  format, 1
//	1  algorithm: 1 RSA-OAEP-256, 2 A256KW
//	1  length of the version
//	   version of the key in the vault
//	2  length of the wrapped key, big endian
//	   key of 32 bytes, as the vault has wrapped it
//	12 nonce
//	32 secret, sealed under that key by AES-256-GCM
//	16 tag
//
// The additional data of the seal are all bytes before the nonce and
// [provider.EncryptionContext.Bytes].
type envelope struct {
	algorithm byte
	version   string
	wrapped   []byte
	sealed    []byte // nonce, secret and tag
}

const (
	format     = 1
	maxWrapped = 4096 // bytes; a key of RSA of 4096 bits makes 512
	sealedSize = 12 + provider.WrappedSize + 16
)

func newKey() []byte {
	b := make([]byte, 32)
	rand.Read(b) // never fails
	return b
}

func (e envelope) head() []byte {
	b := []byte{format, e.algorithm, byte(len(e.version))}
	b = append(b, e.version...)
	b = binary.BigEndian.AppendUint16(b, uint16(len(e.wrapped)))
	return append(b, e.wrapped...)
}

func aead(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}

// seal returns the envelope with secret in it.
func (e envelope) seal(key, secret []byte, ec provider.EncryptionContext) ([]byte, error) {
	a, err := aead(key)
	if err != nil {
		return nil, err
	}
	head := e.head()
	return append(head, a.Seal(nil, nil, secret, append(head[:len(head):len(head)], ec.Bytes()...))...), nil
}

// open returns the secret.
func (e envelope) open(key []byte, ec provider.EncryptionContext) ([]byte, error) {
	if len(key) != 32 {
		return nil, fmt.Errorf("%w: it holds %d bytes that WrapKey did not wrap", provider.ErrWrongKey, len(key))
	}
	a, err := aead(key)
	if err != nil {
		return nil, err
	}
	secret, err := a.Open(nil, nil, e.sealed, append(e.head(), ec.Bytes()...))
	if err != nil {
		return nil, provider.ErrWrongKey // the error says no more
	}
	return secret, nil
}

var errForm = fmt.Errorf("no wrapped key of this package has this form: %w", provider.ErrWrongKey)

// parse reads an envelope.
func parse(b []byte) (e envelope, err error) {
	if len(b) < 3 || b[0] != format || algorithms[b[1]] == "" {
		return e, errForm
	}
	e.algorithm = b[1]
	n, b := int(b[2]), b[3:]
	if len(b) < n+2 || !keyVersion.Match(b[:n]) {
		return e, errForm
	}
	e.version, b = string(b[:n]), b[n:]
	n, b = int(binary.BigEndian.Uint16(b)), b[2:]
	if n == 0 || n > maxWrapped || len(b) != n+sealedSize {
		return e, errForm
	}
	e.wrapped, e.sealed = b[:n], b[n:]
	return e, nil
}
