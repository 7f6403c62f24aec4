package backup_test

import (
	"bytes"
	"context"
	"io"
	"iter"
	"strings"
	"testing"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/providertest"
)

// constant is a store that shows one version whatever becomes of an object.
type constant struct{ provider.BlobStore }

func (c constant) List(ctx context.Context, prefix string, o provider.ListOptions) iter.Seq2[provider.Info, error] {
	return func(yield func(provider.Info, error) bool) {
		for info, err := range c.BlobStore.List(ctx, prefix, o) {
			if info.Version = "1"; !yield(info, err) {
				return
			}
		}
	}
}

func (c constant) Get(ctx context.Context, key string, o provider.GetOptions) (io.ReadCloser, provider.Info, error) {
	r, info, err := c.BlobStore.Get(ctx, key, o)
	info.Version = "1"
	return r, info, err
}

// A checkpoint tells and compares what the store holds: not what a cache has,
// and with the keys of now, whoever has changed them.
func TestCheckpointOfWhatIsThere(t *testing.T) {
	store := providertest.NewMemory()
	c := config(constant{store})
	c.Cache = t.TempDir()
	newRepo(t, store)
	repo, err := backup.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	other := reopen(t, store)
	if err := other.Rotate(t.Context(), keyring().Recipients...); err != nil {
		t.Fatal(err)
	}
	p := mustBackup(t, other, "tree", treeOf(map[string]string{"a": "1"}), backup.Full)
	checkpoint, err := repo.Checkpoint(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(checkpoint, []byte(p.ID)) || bytes.Contains(checkpoint, []byte(string(p.ID)+" -")) {
		t.Errorf("the point of the next generation is not told of as it should be:\n%s", checkpoint)
	}
	collect(t, repo.Points(t.Context(), "")) // now in the cache
	key := "points/" + string(p.ID)
	b, _, err := provider.ReadAll(t.Context(), store, key, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Delete(t.Context(), key, provider.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	replay := mustBackup(t, other, "tree", treeOf(map[string]string{"a": "2"}), backup.Full)
	b2, _, err := provider.ReadAll(t.Context(), store, "points/"+string(replay.ID), 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Equal(b, b2) {
		t.Fatal("nothing was replaced")
	}
	if got, err := repo.VerifyCheckpoint(t.Context(), checkpoint); err != nil || len(got) != 1 || !strings.Contains(got[0].String(), string(p.ID)) {
		t.Errorf("omitted %v, %v; want %s", got, err, p.ID)
	}
}

// A damaged point that was forgotten is not missed for ever.
func TestForgottenDamagedIsNotMissed(t *testing.T) {
	store := providertest.NewMemory()
	ids := chain(t, store, 3)
	checkpoint, err := reopen(t, store).Checkpoint(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	key := "points/" + string(ids[1])
	b, _, err := provider.ReadAll(t.Context(), store, key, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)-1] ^= 1
	put(t, store, key, b)
	if err := reopen(t, store).Forget(t.Context(), ids[1]); err != nil {
		t.Fatal(err)
	}
	if got := omitted(t, store); got != "[]" {
		t.Errorf("omitted are %s", got)
	}
	if got, err := reopen(t, store).VerifyCheckpoint(t.Context(), checkpoint); err != nil || len(got) > 0 {
		t.Errorf("omitted are %v, %v", got, err)
	}
}
