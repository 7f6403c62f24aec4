package backup

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"

	"github.com/holdfast-go/holdfast/provider"
)

// KMSRecipients returns a recipient for each of the keys of a key management
// service. scheme names the kind of service ("aws-kms") and becomes the type
// of the stanzas: it is not that of another kind of recipient. ec is what
// the wrapped key is bound to; the service logs it and can ask for it in its
// policies, so that one key serves several repositories and who may unwrap
// for one may not for another: {"repository": "shop"}, say. It is stored in
// the clear with the wrapped key.
//
// For a repository that has to be readable when the primary region is gone,
// name a key of another region as well: each recipient suffices alone. All of
// them are asked by Init and by what changes recipients, and none by backups.
func KMSRecipients(scheme string, w provider.KeyWrapper, ec provider.EncryptionContext, keys ...string) []Recipient {
	out := make([]Recipient, len(keys))
	for i, key := range keys {
		out[i] = kmsRecipient{scheme, w, maps.Clone(ec), key}
	}
	return out
}

// KMSIdentities returns an identity for each of the keys of a key management
// service, which opens what was wrapped with the same scheme and key. It
// repeats the context that was given to [KMSRecipients].
func KMSIdentities(scheme string, u provider.KeyUnwrapper, keys ...string) []Identity {
	out := make([]Identity, len(keys))
	for i, key := range keys {
		out[i] = kmsIdentity{scheme, u, key}
	}
	return out
}

// kmsBody is the body of the stanza of a key management service, in JSON.
// Whatever is in it, a root that comes out is accepted only if it is the one
// that the format object was made with.
type kmsBody struct {
	Version int                        `json:"v"`
	Context provider.EncryptionContext `json:"context,omitempty"`
	Wrapped []byte                     `json:"wrapped"` // in the words of the service
}

type kmsRecipient struct {
	scheme string
	w      provider.KeyWrapper
	ec     provider.EncryptionContext
	key    string
}

func (r kmsRecipient) Wrap(ctx context.Context, secret []byte) (Stanza, error) {
	if r.w == nil || r.scheme == ageStanza || r.scheme == unprotectedStanza {
		return Stanza{}, fmt.Errorf("key %.200s of scheme %.40q: want a KeyWrapper, and a scheme that is no other kind's", r.key, r.scheme)
	}
	wrapped, err := r.w.WrapKey(ctx, r.key, secret, r.ec)
	if err != nil {
		return Stanza{}, err
	}
	body, err := json.Marshal(kmsBody{Version: 1, Context: r.ec, Wrapped: wrapped})
	if err != nil {
		return Stanza{}, err
	}
	return Stanza{Type: r.scheme, Recipient: r.key, Body: body}, nil
}

type kmsIdentity struct {
	scheme string
	u      provider.KeyUnwrapper
	key    string
}

func (i kmsIdentity) Unwrap(ctx context.Context, s Stanza) ([]byte, error) {
	if s.Type != i.scheme || s.Recipient != i.key {
		return nil, ErrNoIdentity
	}
	if i.u == nil {
		return nil, errors.New("KMSIdentities: the KeyUnwrapper is nil")
	}
	var b kmsBody
	if err := json.Unmarshal(s.Body, &b); err != nil {
		return nil, fmt.Errorf("%w: stanza: %v", ErrDamaged, err)
	}
	if b.Version != 1 {
		return nil, fmt.Errorf("%w: stanza version %d", ErrFormat, b.Version)
	}
	return i.u.UnwrapKey(ctx, i.key, b.Wrapped, b.Context)
}
