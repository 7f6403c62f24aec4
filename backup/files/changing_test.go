package files_test

import (
	"context"
	"crypto/rand"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"filippo.io/age"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/backup/files"
	"github.com/holdfast-go/holdfast/provider/providertest"
)

// A file that changes while it is read is read again.
func TestChangingFile(t *testing.T) {
	root := t.TempDir()
	// More than all buffers together hold: when the first pack is
	// stored, the file is still being read.
	b := make([]byte, 32<<20)
	rand.Read(b)
	write(t, root, "large", string(b))
	var changed atomic.Int64
	grow := func(context.Context) error {
		if changed.Add(1) > 1 {
			return nil
		}
		f, err := os.OpenFile(filepath.Join(root, "large"), os.O_APPEND|os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = f.WriteString("more")
		return err
	}
	store := providertest.NewFaulty(providertest.NewMemory(), nil)
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	r, err := backup.Init(t.Context(), backup.Config{Store: store, PackSize: 1 << 20, Keyring: backup.Keyring{
		Recipients: backup.AgeRecipients(id.Recipient()), Identities: backup.AgeIdentities(id)}})
	if err != nil {
		t.Fatal(err)
	}
	store.Use(func(call providertest.Call) providertest.Fault {
		if call.Op == "put" && strings.HasPrefix(call.Key, "data/") {
			return providertest.Fault{Wait: grow}
		}
		return providertest.Fault{}
	})
	target := newTarget(t, files.Config{Root: root})
	p, err := r.Backup(t.Context(), "w", target, backup.BackupOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if changed.Load() == 0 {
		t.Fatal("no pack was stored while the file was read")
	}
	if p.Partial() {
		t.Errorf("warnings: %v", p.Warnings)
	}
	dest := t.TempDir()
	if err := r.Restore(t.Context(), p.ID, target, backup.Destination{Location: dest}, backup.RestoreOptions{}); err != nil {
		t.Fatal(err)
	}
	same(t, snapshot(t, dest), snapshot(t, root))
}
