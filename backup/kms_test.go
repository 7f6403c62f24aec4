package backup_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"strings"
	"testing"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/providertest"
)

var kmsContext = provider.EncryptionContext{"repository": "test"}

// kmsRecipients are those of the keys of a service in memory; key/1 if none
// is named.
func kmsRecipients(w provider.KeyWrapper, keys ...string) []backup.Recipient {
	if len(keys) == 0 {
		keys = []string{"key/1"}
	}
	return backup.KMSRecipients("memory-kms", w, kmsContext, keys...)
}

func kmsIdentities(u provider.KeyUnwrapper, keys ...string) []backup.Identity {
	if len(keys) == 0 {
		keys = []string{"key/1"}
	}
	return backup.KMSIdentities("memory-kms", u, keys...)
}

// kmsConfig is a repository of one KMS key.
func kmsConfig(s provider.BlobStore, kms *providertest.KMS) backup.Config {
	return backup.Config{Store: s, Writer: "test", Keyring: backup.Keyring{Recipients: kmsRecipients(kms), Identities: kmsIdentities(kms)}}
}

// Keys in two regions: with the primary region gone the other one opens the
// repository, and a rotation within the service changes nothing.
func TestKMSRegionGone(t *testing.T) {
	east, west := providertest.NewKMS("east", "east/1"), providertest.NewKMS("west", "west/1")
	store := providertest.NewMemory()
	c := config(store)
	c.Keyring = backup.Keyring{
		Recipients: append(kmsRecipients(east, "east/1"), kmsRecipients(west, "west/1")...),
		Identities: append(kmsIdentities(east, "east/1"), kmsIdentities(west, "west/1")...),
	}
	r, err := backup.Init(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	target := treeOf(map[string]string{"a": "content"})
	p := mustBackup(t, r, "w", target, backup.Full)
	if err := errors.Join(east.Rotate("east/1"), west.Rotate("west/1")); err != nil {
		t.Fatal(err)
	}
	gone := errors.New("region does not answer")
	east.Down(gone)
	mustBackup(t, r, "w", target, backup.Full) // needs no key service
	mustHold(t, reopenWith(t, c), p.ID, target.files)
	west.Down(gone)
	if _, err := backup.Open(t.Context(), c); !errors.Is(err, backup.ErrNoIdentity) || !errors.Is(err, gone) || errors.Is(err, provider.ErrNotFound) {
		t.Errorf("both regions gone: %v", err)
	}
	if _, err := backup.Init(t.Context(), kmsConfig(providertest.NewMemory(), east)); !errors.Is(err, gone) {
		t.Errorf("init while a region is gone: %v", err)
	}
}

// What a key service may say, and what opening a repository makes of it.
func TestKMSErrors(t *testing.T) {
	kms := providertest.NewKMS("east", "key/1", "key/2")
	store := providertest.NewMemory()
	if _, err := backup.Init(t.Context(), kmsConfig(store, kms)); err != nil {
		t.Fatal(err)
	}
	open := func(ids ...backup.Identity) error {
		_, err := backup.Open(t.Context(), backup.Config{Store: store, Keyring: backup.Keyring{Identities: ids}})
		return err
	}
	if err := open(kmsIdentities(kms)...); err != nil {
		t.Error(err)
	}
	if err := open(kmsIdentities(kms.WrapOnly())...); !errors.Is(err, backup.ErrNoIdentity) || !errors.Is(err, fs.ErrPermission) {
		t.Errorf("may not unwrap: %v", err)
	}
	if err := open(kmsIdentities(kms, "key/2")...); !errors.Is(err, backup.ErrNoIdentity) || !strings.Contains(err.Error(), "key/1") {
		t.Errorf("another key: %v", err)
	}
	if err := open(backup.KMSIdentities("other-kms", kms, "key/1")...); !errors.Is(err, backup.ErrNoIdentity) {
		t.Errorf("another scheme: %v", err)
	}
	if err := open(backup.KMSIdentities("memory-kms", nil, "key/1")...); err == nil {
		t.Error("no KeyUnwrapper, no error")
	}
	if err := open(kmsIdentities(providertest.NewKMS("west", "key/1"))...); !errors.Is(err, provider.ErrWrongKey) {
		t.Errorf("a key of the same name elsewhere: %v", err)
	}
	for _, scheme := range []string{"age", "none", ""} {
		c := kmsConfig(providertest.NewMemory(), kms)
		c.Keyring.Recipients = backup.KMSRecipients(scheme, kms, nil, "key/1")
		if _, err := backup.Init(t.Context(), c); err == nil {
			t.Errorf("scheme %q was taken", scheme)
		}
	}
}

// The wrapped key is bound to its context, which the service sees.
func TestKMSContext(t *testing.T) {
	kms := providertest.NewKMS("east", "key/1")
	secret := bytes.Repeat([]byte{1}, 32)
	s, err := kmsRecipients(kms)[0].Wrap(t.Context(), secret)
	if err != nil {
		t.Fatal(err)
	}
	var body struct {
		V       int
		Context map[string]string
		Wrapped []byte
	}
	if err := json.Unmarshal(s.Body, &body); err != nil || body.V != 1 || body.Context["repository"] != "test" {
		t.Errorf("stanza %s: %v", s.Body, err)
	}
	if got, err := kms.UnwrapKey(t.Context(), "key/1", body.Wrapped, kmsContext); err != nil || !bytes.Equal(got, secret) {
		t.Errorf("with the context: %x, %v", got, err)
	}
	if _, err := kms.UnwrapKey(t.Context(), "key/1", body.Wrapped, nil); !errors.Is(err, provider.ErrWrongKey) {
		t.Errorf("without the context: %v", err)
	}
	for old, young := range map[string]string{`"test"`: `"prod"`, `"v":1`: `"v":2`, `{`: `[`} {
		bad := s
		bad.Body = bytes.Replace(s.Body, []byte(old), []byte(young), 1)
		if _, err := kmsIdentities(kms)[0].Unwrap(context.Background(), bad); err == nil || errors.Is(err, backup.ErrNoIdentity) {
			t.Errorf("%s instead of %s: %v", young, old, err)
		}
	}
}
