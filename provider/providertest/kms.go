package providertest

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"io/fs"
	"slices"
	"sync"

	"github.com/holdfast-go/holdfast/provider"
)

// KMS is a key management service of one region, in memory: it is a
// [provider.KeyWrapper] and a [provider.KeyUnwrapper] that keep the whole
// contract, with AES-256-GCM. Its keys can be rotated and destroyed, and the
// service can be out of reach. It is for tests.
type KMS struct {
	region string

	mu   sync.Mutex
	keys map[string][][]byte // versions of each key, the present one last
	down error
}

var (
	_ provider.KeyWrapper   = (*KMS)(nil)
	_ provider.KeyUnwrapper = (*KMS)(nil)
)

// NewKMS returns a service in a region with keys of these IDs.
func NewKMS(region string, ids ...string) *KMS {
	k := &KMS{region: region, keys: map[string][][]byte{}}
	for _, id := range ids {
		k.keys[id] = [][]byte{newKMSKey()}
	}
	return k
}

func newKMSKey() []byte {
	b := make([]byte, 32)
	rand.Read(b)
	return b
}

// Rotate gives a key a new version, which wraps from now on. Earlier versions
// go on unwrapping. [provider.ErrNotFound].
func (k *KMS) Rotate(id string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.keys[id] == nil {
		return k.fail("rotate key", id, provider.ErrNotFound)
	}
	k.keys[id] = append(k.keys[id], newKMSKey())
	return nil
}

// Destroy destroys a key with all its versions, for good. One that is not
// there is no error.
func (k *KMS) Destroy(id string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, version := range k.keys[id] {
		clear(version)
	}
	delete(k.keys, id)
}

// Down makes every call fail with err, as when the region is gone; nil brings
// it back.
func (k *KMS) Down(err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.down = err
}

// WrapOnly is the service as seen with credentials that may wrap and not
// unwrap.
func (k *KMS) WrapOnly() interface {
	provider.KeyWrapper
	provider.KeyUnwrapper
} {
	return wrapOnly{k}
}

type wrapOnly struct{ *KMS }

func (w wrapOnly) UnwrapKey(ctx context.Context, key string, _ []byte, _ provider.EncryptionContext) ([]byte, error) {
	err := ctx.Err()
	if err == nil {
		w.mu.Lock()
		err = w.down
		w.mu.Unlock()
	}
	if err == nil {
		err = fs.ErrPermission
	}
	return nil, w.fail("unwrap key", key, err)
}

// WrapKey implements [provider.KeyWrapper].
func (k *KMS) WrapKey(ctx context.Context, key string, secret []byte, ec provider.EncryptionContext) ([]byte, error) {
	versions, err := k.find(ctx, key)
	if err == nil && len(secret) != provider.WrappedSize {
		err = fmt.Errorf("a secret of %d bytes, want %d", len(secret), provider.WrappedSize)
	}
	if err != nil {
		return nil, k.fail("wrap key", key, err)
	}
	n := len(versions) - 1
	b := binary.BigEndian.AppendUint32(nil, uint32(n))
	return kmsAEAD(versions[n]).Seal(b, nil, secret, ec.Bytes()), nil
}

// UnwrapKey implements [provider.KeyUnwrapper].
func (k *KMS) UnwrapKey(ctx context.Context, key string, wrapped []byte, ec provider.EncryptionContext) ([]byte, error) {
	versions, err := k.find(ctx, key)
	if err != nil {
		return nil, k.fail("unwrap key", key, err)
	}
	if len(wrapped) < 4 || uint64(binary.BigEndian.Uint32(wrapped)) >= uint64(len(versions)) {
		return nil, k.fail("unwrap key", key, provider.ErrWrongKey)
	}
	secret, err := kmsAEAD(versions[binary.BigEndian.Uint32(wrapped)]).Open(nil, nil, wrapped[4:], ec.Bytes())
	if err != nil {
		return nil, k.fail("unwrap key", key, provider.ErrWrongKey)
	}
	return secret, nil
}

// find returns copies of the versions of a key, which Destroy clears.
func (k *KMS) find(ctx context.Context, key string) ([][]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.down != nil {
		return nil, k.down
	}
	if k.keys[key] == nil {
		return nil, provider.ErrNotFound
	}
	var versions [][]byte
	for _, v := range k.keys[key] {
		versions = append(versions, slices.Clone(v))
	}
	return versions, nil
}

func (k *KMS) fail(op, key string, err error) error {
	return &provider.Error{Op: op, Provider: "kms " + k.region, Key: key, Err: err}
}

func kmsAEAD(key []byte) cipher.AEAD {
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
