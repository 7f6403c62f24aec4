package backup_test

import (
	"errors"
	"strings"
	"testing"

	"filippo.io/age"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/provider/providertest"
)

func TestUnprotected(t *testing.T) {
	store, open := providertest.NewMemory(), backup.Unprotected{}
	key, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	none := backup.Keyring{Recipients: []backup.Recipient{open}, Identities: []backup.Identity{open}}
	mixed := backup.Keyring{Recipients: append(backup.AgeRecipients(key.Recipient()), open), Identities: none.Identities}
	if _, err := backup.Init(t.Context(), backup.Config{Store: store, Keyring: mixed}); err == nil || !strings.Contains(err.Error(), "the other recipients protect nothing") {
		t.Errorf("mixed with a recipient: %v", err)
	}
	if _, err := backup.Init(t.Context(), backup.Config{Store: store, Keyring: none}); err != nil {
		t.Fatal(err)
	}
	if _, err := backup.Open(t.Context(), backup.Config{Store: store, Keyring: none}); err != nil {
		t.Errorf("open with nothing: %v", err)
	}
	// Who comes with keys of his own does not take it for protected.
	keyed := backup.Keyring{Recipients: backup.AgeRecipients(key.Recipient()), Identities: backup.AgeIdentities(key)}
	if _, err := backup.Open(t.Context(), backup.Config{Store: store, Keyring: keyed}); !errors.Is(err, backup.ErrNoIdentity) {
		t.Errorf("open with keys: %v", err)
	}
	// And nothing that is protected opens without a key.
	store = providertest.NewMemory()
	if _, err := backup.Init(t.Context(), backup.Config{Store: store, Keyring: keyed}); err != nil {
		t.Fatal(err)
	}
	if _, err := backup.Open(t.Context(), backup.Config{Store: store, Keyring: none}); !errors.Is(err, backup.ErrNoIdentity) {
		t.Errorf("open a protected one with nothing: %v", err)
	}
}
