package backup_test

import (
	"bytes"
	"crypto/fips140"
	"errors"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"

	"filippo.io/age"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/provider/providertest"
)

// underFIPS reports whether this process allows only approved algorithms. If
// not, it runs the test in one that does, and fails if that does not pass.
func underFIPS(t *testing.T) bool {
	if fips140.Enforced() {
		return true
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), exe, "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), "GODEBUG=fips140=only")
	out, err := cmd.CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte("--- PASS: "+t.Name())) {
		t.Fatalf("under fips140=only: %v\n%s", err, out)
	}
	return false
}

// With KMS recipients a repository's whole life goes by where only approved
// algorithms are allowed.
func TestFIPSLife(t *testing.T) {
	if !underFIPS(t) {
		return
	}
	kms := providertest.NewKMS("east", "key/1", "key/2")
	c := kmsConfig(providertest.NewMemory(), kms)
	r, err := backup.Init(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	target := treeOf(sample())
	p := mustBackup(t, r, "w", target, backup.Full)
	old := mustBackup(t, r, "w", treeOf(map[string]string{"other": random(3, 300_000)}), backup.Incremental)
	r = reopenWith(t, c)
	mustHold(t, r, p.ID, target.files)
	if err := r.Forget(t.Context(), old.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Prune(t.Context(), backup.PruneOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Repair(t.Context(), backup.RepairOptions{}); err != nil {
		t.Fatal(err)
	}
	if rep, err := r.Check(t.Context(), backup.CheckOptions{ReadData: true}); err != nil || !rep.OK() {
		t.Errorf("check: %+v, %v", rep, err)
	}
	mustHold(t, r, p.ID, target.files)
	if err := r.AddRecipients(t.Context(), kmsRecipients(kms, "key/2")...); err != nil {
		t.Fatal(err)
	}
	if err := r.Rotate(t.Context(), kmsRecipients(kms, "key/2", "key/1")...); err != nil {
		t.Fatal(err)
	}
	sealed, err := r.Seal(t.Context(), "host")
	if err != nil {
		t.Fatal(err)
	}
	after := mustBackup(t, reopenWith(t, backup.Config{Store: c.Store, Credential: sealed}), "w", target, backup.Full)
	mustHold(t, reopenWith(t, c), after.ID, target.files)
	var plain bytes.Buffer
	flat := treeOf(map[string]string{"a": "b"})
	p = mustBackup(t, r, "flat", flat, backup.Full)
	if err := r.Export(t.Context(), p.ID, flat, &plain, backup.ExportOptions{Unencrypted: true}); err != nil || plain.Len() == 0 {
		t.Errorf("export in the clear, which uses no algorithm: %v", err)
	}
}

// Every way to age is refused where Go enforces the policy, by its name.
func TestFIPSRefusesAge(t *testing.T) {
	if !underFIPS(t) {
		return
	}
	kms := providertest.NewKMS("east", "key/1")
	c := kmsConfig(providertest.NewMemory(), kms)
	r, err := backup.Init(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	refusesAge(t, c, r, "fips140=only")
	if _, err := backup.AgeRecipients(identity.Recipient())[0].Wrap(t.Context(), make([]byte, 32)); !errors.Is(err, backup.ErrPolicy) {
		t.Errorf("wrap: %v", err)
	}
	if _, err := backup.AgeIdentities(identity)[0].Unwrap(t.Context(), backup.Stanza{Type: "age", Body: []byte("x")}); !errors.Is(err, backup.ErrPolicy) {
		t.Errorf("unwrap: %v", err)
	}
}

// The same policy can be asked for, and is kept by the repository.
func TestPolicy(t *testing.T) {
	kms := providertest.NewKMS("east", "key/1")
	store := providertest.NewMemory()
	c := kmsConfig(store, kms)
	c.Algorithms = backup.ApprovedOnly
	r, err := backup.Init(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	refusesAge(t, c, r, "field Algorithms")

	c.Algorithms = backup.AnyAlgorithm // the repository has not forgotten
	r = reopenWith(t, c)
	target := treeOf(map[string]string{"a": "b"})
	p := mustBackup(t, r, "w", target, backup.Full)
	if err := r.Export(t.Context(), p.ID, target, io.Discard, backup.ExportOptions{Recipients: []age.Recipient{identity.Recipient()}}); !isPolicy(err, "the repository") {
		t.Errorf("export: %v", err)
	}
	for _, ids := range [][]backup.Identity{append(backup.AgeIdentities(identity), kmsIdentities(kms)...), backup.AgeIdentities(identity), {backup.Unprotected{}}} {
		if _, err := backup.Open(t.Context(), backup.Config{Store: store, Keyring: backup.Keyring{Identities: ids}}); !isPolicy(err, "the repository") {
			t.Errorf("open with an identity of age: %v", err)
		}
	}
	c.Algorithms = "approved"
	if _, err := backup.Open(t.Context(), c); err == nil || !strings.Contains(err.Error(), "Algorithms") {
		t.Errorf("an unknown policy: %v", err)
	}
}

// A repository that was made without the policy can be read under it, by an
// identity that the policy allows.
func TestPolicyOfReader(t *testing.T) {
	kms := providertest.NewKMS("east", "key/1")
	c := config(providertest.NewMemory())
	c.Keyring.Recipients = append(c.Keyring.Recipients, kmsRecipients(kms)...)
	r, err := backup.Init(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	target := treeOf(map[string]string{"a": "b"})
	p := mustBackup(t, r, "w", target, backup.Full)
	c.Algorithms, c.Keyring = backup.ApprovedOnly, backup.Keyring{Identities: kmsIdentities(kms)}
	mustHold(t, reopenWith(t, c), p.ID, target.files)
	c.Algorithms, c.Keyring = backup.AnyAlgorithm, keyring()
	mustHold(t, reopenWith(t, c), p.ID, target.files)
}

// refusesAge tries every way to age and to no protection on a repository, all
// of which the policy forbids; the error says who set it.
func refusesAge(t *testing.T, c backup.Config, r *backup.Repository, source string) {
	t.Helper()
	with := func(k backup.Keyring) backup.Config {
		c := c
		c.Store, c.Keyring = providertest.NewMemory(), k
		return c
	}
	for name, k := range map[string]backup.Keyring{
		"recipients": {Recipients: append(backup.AgeRecipients(identity.Recipient()), c.Keyring.Recipients...), Identities: c.Keyring.Identities},
		"identities": {Recipients: c.Keyring.Recipients, Identities: append(c.Keyring.Identities, backup.AgeIdentities(identity)...)},
		"in clear":   {Recipients: []backup.Recipient{backup.Unprotected{}}, Identities: []backup.Identity{backup.Unprotected{}}},
	} {
		if _, err := backup.Init(t.Context(), with(k)); !isPolicy(err, source) {
			t.Errorf("init, %s: %v", name, err)
		}
		o := with(k)
		o.Store = c.Store
		if _, err := backup.Open(t.Context(), o); !isPolicy(err, source) {
			t.Errorf("open, %s: %v", name, err)
		}
	}
	if err := r.AddRecipients(t.Context(), backup.AgeRecipients(identity.Recipient())...); !errors.Is(err, backup.ErrPolicy) {
		t.Errorf("add: %v", err)
	}
	if err := r.Rotate(t.Context(), append(backup.AgeRecipients(identity.Recipient()), c.Keyring.Recipients...)...); !errors.Is(err, backup.ErrPolicy) {
		t.Errorf("rotate: %v", err)
	}
	if _, err := r.OpenedBy(t.Context(), backup.AgeIdentities(identity)[0]); !errors.Is(err, backup.ErrPolicy) {
		t.Errorf("opened by: %v", err)
	}
	target := treeOf(map[string]string{"a": "b"})
	p := mustBackup(t, r, "w", target, backup.Full)
	var out bytes.Buffer
	err := r.Export(t.Context(), p.ID, target, &out, backup.ExportOptions{Recipients: []age.Recipient{identity.Recipient()}})
	if (!isPolicy(err, source) && !isPolicy(err, "the repository")) || out.Len() > 0 {
		t.Errorf("export wrote %d bytes: %v", out.Len(), err)
	}
}

func isPolicy(err error, source string) bool {
	return errors.Is(err, backup.ErrPolicy) && strings.Contains(err.Error(), source) && strings.Contains(err.Error(), "approved-only")
}
