package provider

import (
	"context"
	"encoding/binary"
	"errors"
	"maps"
	"slices"
)

// ErrWrongKey: the bytes are no key that was wrapped under this key and
// bound to this context. Nothing tells a wrapped key of somebody else from
// one that was changed, so both are this.
var ErrWrongKey = errors.New("not wrapped by this key in this context")

// WrappedSize is the number of bytes that a key to be wrapped has.
const WrappedSize = 32

// A KeyWrapper wraps keys under a key that never leaves a key management
// service. It and [KeyUnwrapper] are two contracts because they are two
// permissions: who backs up needs neither, who adds a recipient wraps, who
// restores unwraps. Both are safe for concurrent use.
//
// Where the vendor wraps without additional data (Azure Key Vault), an
// implementation wraps a key of its own making and seals the secret under
// that, with the context as additional data of AES-256-GCM.
//
// Errors of both: [ErrNotFound] if there is no such key, or it has been
// destroyed; [fs.ErrPermission] if the credentials do not allow the call; an
// error that is none of this package's if the service does not answer or
// cannot use the key now (disabled, no quorum), so that a caller never
// concludes from an outage that a key is gone.
type KeyWrapper interface {
	// WrapKey wraps secret, which has [WrappedSize] bytes, under the key
	// that the service knows as key, bound to ec. The result differs from
	// call to call and holds all that unwrapping needs besides key and ec:
	// in particular which version of key was used, so that rotating the key
	// within the service keeps what was wrapped before. It is at most 8 KiB.
	// A secret of another size is an error. Neither argument is kept.
	WrapKey(ctx context.Context, key string, secret []byte, ec EncryptionContext) ([]byte, error)
}

// A KeyUnwrapper unwraps what the [KeyWrapper] of the same service wrapped.
type KeyUnwrapper interface {
	// UnwrapKey returns the secret. [ErrWrongKey] if wrapped was not made by
	// WrapKey with this key and an equal ec, or was changed since. Whoever
	// may not unwrap gets [fs.ErrPermission], whatever he asks.
	UnwrapKey(ctx context.Context, key string, wrapped []byte, ec EncryptionContext) ([]byte, error)
}

// An EncryptionContext is what a wrapped key is bound to: names and values
// that unwrapping must repeat exactly, that the service writes to its audit
// log, and that its policies can ask for. It is not secret. Nil and empty
// are equal. Names are not empty.
type EncryptionContext map[string]string

// Bytes is the context as one string of bytes, different for different
// contexts: additional data for services that take bytes. It is nil if the
// context is empty.
func (ec EncryptionContext) Bytes() []byte {
	var b []byte
	for _, name := range slices.Sorted(maps.Keys(ec)) {
		for _, s := range []string{name, ec[name]} {
			b = binary.AppendUvarint(b, uint64(len(s)))
			b = append(b, s...)
		}
	}
	return b
}
