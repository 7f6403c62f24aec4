package postgres

import (
	"bytes"
	"context"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"filippo.io/age"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/provider/providertest"
)

// A single is one file of a content.
type single struct {
	content []byte
	block   int
	restore func(ctx context.Context, v *backup.View, it backup.Item) error
}

func (single) Kind() string { return "single" }

func (t single) Backup(ctx context.Context, s *backup.Session) error {
	return s.Add(ctx, backup.Item{Path: "file", BlockSize: t.block}, bytes.NewReader(t.content))
}

func (t single) Restore(ctx context.Context, v *backup.View, _ backup.Destination) error {
	it, err := v.Lookup(ctx, "file")
	if err != nil {
		return err
	}
	return t.restore(ctx, v, it)
}

// Whatever is there before, it is the content afterwards, and only what differs
// was written.
func TestFill(t *testing.T) {
	key, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	repo, err := backup.Init(t.Context(), backup.Config{Store: providertest.NewMemory(), Keyring: backup.Keyring{
		Recipients: backup.AgeRecipients(key.Recipient()), Identities: backup.AgeIdentities(key)}})
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), "file")
	for _, block := range []int{relationBlock, 0} {
		for _, size := range []int{0, 1, relationBlock, batch - 1, batch, batch + 1, 3*batch + 5*relationBlock + 8192} {
			content := make([]byte, size)
			rand.NewChaCha8([32]byte{byte(size)}).Read(content)
			differing := func(at ...int) []byte {
				b := bytes.Clone(content)
				for _, i := range at {
					b[i] ^= 1
				}
				return b
			}
			type state struct {
				was  []byte
				most int // bytes to write
			}
			states := map[string]state{"nothing": {nil, size}, "it": {content, 0}, "more": {append(bytes.Clone(content), 1, 2, 3), 0}}
			if size > batch {
				states["half"] = state{content[:size/2], size}
				states["zeroes"] = state{make([]byte, size), size}
			}
			if size > 3*batch && block > 0 {
				states["half"] = state{content[:size/2], size - size/2 + block}
				states["first, last and one in between"] = state{differing(0, batch+7*block, size-1), 2*block + 8192}
				states["two beside each other, over a border"] = state{differing(batch-1, batch), 2 * block}
				states["every other"] = state{differing(batch+block, batch+3*block, batch+5*block, 2*batch+block), 4 * block}
			}
			for what, s := range states {
				if err := os.WriteFile(name, s.was, 0o600); err != nil {
					t.Fatal(err)
				}
				target := single{content: content, block: block}
				target.restore = func(ctx context.Context, v *backup.View, it backup.Item) error {
					f, err := os.OpenFile(name, os.O_RDWR, 0)
					if err != nil {
						return err
					}
					defer f.Close()
					r := &restorer{v: v, slots: make(chan struct{}, 3)}
					n, err := r.fill(ctx, f, expected{it: it})
					if n > int64(s.most) {
						t.Errorf("%d bytes in blocks of %d, over %s: %d were written, at most %d differ", size, block, what, n, s.most)
					}
					return err
				}
				p, err := repo.Backup(t.Context(), "single", target, backup.BackupOptions{})
				if err != nil {
					t.Fatal(err)
				}
				if err := repo.Restore(t.Context(), p.ID, target, backup.Destination{}, backup.RestoreOptions{}); err != nil {
					t.Errorf("%d bytes in blocks of %d, over %s: %v", size, block, what, err)
				}
				if got, err := os.ReadFile(name); err != nil || !bytes.Equal(got, content) {
					t.Errorf("%d bytes in blocks of %d, over %s: %v, it is not the content", size, block, what, err)
				}
			}
		}
	}
}
