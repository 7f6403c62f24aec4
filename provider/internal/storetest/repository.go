package storetest

import (
	"context"
	"errors"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"filippo.io/age"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/provider"
)

// Things are a [backup.Target] in memory: contents by path.
type Things map[string]string

// Kind implements [backup.Target].
func (Things) Kind() string { return "things" }

// Backup implements [backup.Target].
func (f Things) Backup(ctx context.Context, s *backup.Session) error {
	for _, p := range slices.SortedFunc(maps.Keys(f), backup.ComparePaths) {
		if err := s.Add(ctx, backup.Item{Path: p}, strings.NewReader(f[p])); err != nil {
			return err
		}
	}
	return nil
}

// Restore implements [backup.Target].
func (f Things) Restore(ctx context.Context, v *backup.View, _ backup.Destination) error {
	for it, err := range v.Items(ctx) {
		if err != nil {
			return err
		}
		r, err := v.Open(ctx, it)
		if err != nil {
			return err
		}
		b, err := io.ReadAll(r)
		r.Close()
		if err != nil {
			return err
		}
		f[it.Path] = string(b)
	}
	return nil
}

func noise(n int) string {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{byte(n), byte(n >> 16)}).Read(b)
	return string(b)
}

// Repository sees a repository through in a store: made, backed up to whole
// and by an increment, checked, pruned of what was forgotten, checked again,
// and restored from. Under a lock nothing can be forgotten, and all else is
// the same.
func Repository(t *testing.T, store provider.BlobStore, lock backup.Lock) {
	t.Helper()
	ctx := t.Context()
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	config := backup.Config{Store: store, Writer: "w", Lock: lock, PackSize: 2 << 20, Keyring: backup.Keyring{
		Recipients: backup.AgeRecipients(id.Recipient()), Identities: backup.AgeIdentities(id)}}
	if _, err := backup.Init(ctx, config); err != nil {
		t.Fatal(err)
	}
	repo, err := backup.Open(ctx, config)
	if err != nil {
		t.Fatal(err)
	}
	old := Things{"a": noise(5 << 20), "b": "b", "text": strings.Repeat("text ", 10_000)}
	first, err := repo.Backup(ctx, "shop", old, backup.BackupOptions{})
	if err != nil {
		t.Fatal(err)
	}
	young := maps.Clone(old)
	young["a"], young["c"] = noise(1<<20), "c"
	second, err := repo.Backup(ctx, "shop", young, backup.BackupOptions{Mode: backup.Incremental})
	if err != nil {
		t.Fatal(err)
	}
	points := map[backup.PointID]Things{first.ID: old, second.ID: young}
	whole := func(when string) {
		t.Helper()
		rep, err := repo.Check(ctx, backup.CheckOptions{ReadData: true})
		if err != nil || len(rep.Problems) > 0 || len(rep.Damaged) > 0 || rep.Whole != len(points) {
			t.Errorf("%s, check: %v, %d points whole, %v, %v", when, err, rep.Whole, rep.Problems, rep.Damaged)
		}
		for id, want := range points {
			got := Things{}
			if err := repo.Restore(ctx, id, got, backup.Destination{}, backup.RestoreOptions{}); err != nil || !maps.Equal(got, want) {
				t.Errorf("%s, restore %s: %v, the same: %v", when, id, err, maps.Equal(got, want))
			}
		}
	}
	whole("after two backups")
	if err := repo.Forget(ctx, first.ID); lock.Mode != "" {
		if !errors.Is(err, provider.ErrLocked) {
			t.Errorf("forget a point that is locked: %v", err)
		}
		return
	} else if err != nil {
		t.Fatal(err)
	}
	delete(points, first.ID)
	if pruned, err := repo.Prune(ctx, backup.PruneOptions{MinGarbage: 0.01}); err != nil || pruned.Deleted.Bytes == 0 {
		t.Errorf("prune: %+v, %v", pruned, err)
	}
	whole("after the prune")
}
