package backup_test

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"errors"
	"fmt"
	"os"
	"os/exec"
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
	kms := &memoryKMS{key: bytes.Repeat([]byte{7}, 32)}
	store := providertest.NewMemory()
	c := config(store)
	c.Keyring.Recipients = append(backup.AgeRecipients(identity.Recipient(), hybrid.Recipient(), pass), kms)
	r, err := backup.Init(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	target := treeOf(map[string]string{"a": "content"})
	p := mustBackup(t, r, "w", target, backup.Full)
	for name, id := range map[string]backup.Identity{
		"x25519": backup.AgeIdentities(identity)[0], "hybrid": backup.AgeIdentities(hybrid)[0],
		"passphrase": backup.AgeIdentities(passID)[0], "kms": kms,
	} {
		c.Keyring = backup.Keyring{Identities: []backup.Identity{id}}
		r, err := backup.Open(t.Context(), c)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		mustHold(t, r, p.ID, target.files)
	}
	c.Keyring = backup.Keyring{Identities: append(backup.AgeIdentities(wrongPass), &memoryKMS{down: true})}
	_, err = backup.Open(t.Context(), c)
	if text := fmt.Sprint(err); !errors.Is(err, backup.ErrNoIdentity) || !errors.Is(err, errDown) ||
		!strings.Contains(text, "passphrase") || !strings.Contains(text, "memory:1") || !strings.Contains(text, identity.Recipient().String()) {
		t.Errorf("wrong passphrase and no answer from the key service: %v", err)
	}
}

var errDown = errors.New("key service does not answer")

// memoryKMS stands for a key management service: AES-256-GCM with a key that
// never leaves it.
type memoryKMS struct {
	key  []byte
	down bool
}

func (m *memoryKMS) aead() cipher.AEAD {
	b, err := aes.NewCipher(m.key)
	if err != nil {
		panic(err)
	}
	a, err := cipher.NewGCMWithRandomNonce(b)
	if err != nil {
		panic(err)
	}
	return a
}

func (m *memoryKMS) Wrap(_ context.Context, secret []byte) (backup.Stanza, error) {
	return backup.Stanza{Type: "memory", Recipient: "memory:1", Body: m.aead().Seal(nil, nil, secret, nil)}, nil
}

func (m *memoryKMS) Unwrap(_ context.Context, s backup.Stanza) ([]byte, error) {
	switch {
	case s.Type != "memory":
		return nil, backup.ErrNoIdentity
	case m.down:
		return nil, errDown
	}
	return m.aead().Open(nil, nil, s.Body, nil)
}

// With recipients that are approved, too, all works where only approved
// algorithms do.
func TestFIPS(t *testing.T) {
	if os.Getenv("GODEBUG") != "fips140=only" {
		exe, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.CommandContext(t.Context(), exe, "-test.run=^TestFIPS$", "-test.v")
		cmd.Env = append(os.Environ(), "GODEBUG=fips140=only")
		out, err := cmd.CombinedOutput()
		if err != nil || !bytes.Contains(out, []byte("--- PASS: TestFIPS")) {
			t.Fatalf("under fips140=only: %v\n%s", err, out)
		}
		return
	}
	kms := &memoryKMS{key: bytes.Repeat([]byte{7}, 32)}
	store := providertest.NewMemory()
	c := backup.Config{Store: store, Writer: "test", Keyring: backup.Keyring{Recipients: []backup.Recipient{kms}, Identities: []backup.Identity{kms}}}
	r, err := backup.Init(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	target := treeOf(sample())
	p := mustBackup(t, r, "w", target, backup.Full)
	if r, err = backup.Open(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	mustHold(t, r, p.ID, target.files)
	if rep, err := r.Check(t.Context(), backup.CheckOptions{ReadData: true}); err != nil || !rep.OK() {
		t.Errorf("check: %+v, %v", rep, err)
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
