package backup_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"filippo.io/age"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/providertest"
)

// Each recipient opens the repository alone, of whatever kind it is.
func TestRecipients(t *testing.T) {
	hybrid, err := age.GenerateHybridIdentity()
	if err != nil {
		t.Fatal(err)
	}
	pass, err := age.NewScryptRecipient("correct horse")
	if err != nil {
		t.Fatal(err)
	}
	pass.SetWorkFactor(10)
	passID, err := age.NewScryptIdentity("correct horse")
	if err != nil {
		t.Fatal(err)
	}
	wrongPass, err := age.NewScryptIdentity("wrong")
	if err != nil {
		t.Fatal(err)
	}
	kms := providertest.NewKMS("east", "key/1")
	store := providertest.NewMemory()
	c := config(store)
	c.Keyring.Recipients = append(backup.AgeRecipients(identity.Recipient(), hybrid.Recipient(), pass), kmsRecipients(kms)...)
	r, err := backup.Init(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	target := treeOf(map[string]string{"a": "content"})
	p := mustBackup(t, r, "w", target, backup.Full)
	for name, id := range map[string]backup.Identity{
		"x25519": backup.AgeIdentities(identity)[0], "hybrid": backup.AgeIdentities(hybrid)[0],
		"passphrase": backup.AgeIdentities(passID)[0], "kms": kmsIdentities(kms)[0],
	} {
		c.Keyring = backup.Keyring{Identities: []backup.Identity{id}}
		r, err := backup.Open(t.Context(), c)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		mustHold(t, r, p.ID, target.files)
	}
	errDown := errors.New("key service does not answer")
	kms.Down(errDown)
	c.Keyring = backup.Keyring{Identities: append(backup.AgeIdentities(wrongPass), kmsIdentities(kms)...)}
	_, err = backup.Open(t.Context(), c)
	if text := fmt.Sprint(err); !errors.Is(err, backup.ErrNoIdentity) || !errors.Is(err, errDown) ||
		!strings.Contains(text, "passphrase") || !strings.Contains(text, "key/1") || !strings.Contains(text, identity.Recipient().String()) {
		t.Errorf("wrong passphrase and no answer from the key service: %v", err)
	}
}

// The root can be unwrapped with the age command from the format object.
func TestFormatIsReadableWithAge(t *testing.T) {
	store := providertest.NewMemory()
	newRepo(t, store)
	b, _, err := provider.ReadAll(t.Context(), store, "format", 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	var f struct{ Stanzas []backup.Stanza }
	unmarshalLine(t, b, &f)
	r, err := age.Decrypt(bytes.NewReader(f.Stanzas[0].Body), identity)
	if err != nil {
		t.Fatal(err)
	}
	var root bytes.Buffer
	if _, err := root.ReadFrom(r); err != nil || root.Len() != 32 {
		t.Errorf("root of %d bytes, %v", root.Len(), err)
	}
}
