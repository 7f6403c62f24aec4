package backup_test

import (
	"context"
	"fmt"
	"io"
	"iter"
	"strings"
	"sync"
	"testing"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/providertest"
)

// requests counts what a store is asked for, by call and first segment.
type requests struct {
	provider.BlobStore
	mu sync.Mutex
	n  map[string]int
}

func (r *requests) count(call, key string) {
	first, _, _ := strings.Cut(key, "/")
	r.mu.Lock()
	defer r.mu.Unlock()
	r.n[call+" "+first]++
}

func (r *requests) Get(ctx context.Context, key string, o provider.GetOptions) (io.ReadCloser, provider.Info, error) {
	r.count("get", key)
	return r.BlobStore.Get(ctx, key, o)
}

func (r *requests) Stat(ctx context.Context, key string) (provider.Info, error) {
	r.count("stat", key)
	return r.BlobStore.Stat(ctx, key)
}

func (r *requests) List(ctx context.Context, prefix string, o provider.ListOptions) iter.Seq2[provider.Info, error] {
	r.count("list", prefix)
	return r.BlobStore.List(ctx, prefix, o)
}

const pointsMade = 20

func manyTimes(t *testing.T) (*requests, *backup.Repository) {
	t.Helper()
	store := &requests{BlobStore: providertest.NewMemory(), n: map[string]int{}}
	r := newRepo(t, store)
	for i := range pointsMade {
		mustBackup(t, r, "w", treeOf(map[string]string{"f": fmt.Sprint("content ", i)}), backup.Incremental)
	}
	fresh, err := backup.Open(t.Context(), config(store))
	if err != nil {
		t.Fatal(err)
	}
	clear(store.n)
	return store, fresh
}

// What many points need costs one look at the store, not one for each.
func TestObjectsOfManyPointsListOnce(t *testing.T) {
	store, r := manyTimes(t)
	objects := func() (keys int) {
		for m, err := range r.Manifests(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			for o, err := range r.Objects(t.Context(), m.Key) {
				if err != nil {
					t.Fatal(err)
				}
				if _, err := store.BlobStore.Stat(t.Context(), o.Key); err != nil {
					t.Errorf("%s needs %s: %v", m.Key, o.Key, err)
				}
				keys++
			}
		}
		return keys
	}
	if n := objects(); n < 3*pointsMade {
		t.Errorf("%d points need %d objects", pointsMade, n)
	}
	if l, s := store.n["list index"], store.n["stat format"]; l > 4 || s > 2 {
		t.Errorf("for %d points the indexes were listed %d times and the format object looked at %d times", pointsMade, l, s)
	}

	// And a point that was made since is complete all the same.
	other, err := backup.Open(t.Context(), config(store))
	if err != nil {
		t.Fatal(err)
	}
	p := mustBackup(t, other, "w", treeOf(map[string]string{"g": "other content"}), backup.Full)
	var index, pack int
	for o, err := range r.Objects(t.Context(), "points/"+string(p.ID)) {
		if err != nil {
			t.Fatal(err)
		}
		index += strings.Count(o.Key, "index/")
		pack += strings.Count(o.Key, "data/")
	}
	if index == 0 || pack == 0 {
		t.Errorf("a point made after the listing needs %d indexes and %d packs of content", index, pack)
	}
}

// The parent is most often the newest point; those before need not be read.
func TestParentIsReadNewestFirst(t *testing.T) {
	store, r := manyTimes(t)
	mustBackup(t, r, "w", treeOf(map[string]string{"f": "content"}), backup.Incremental)
	if n := store.n["get points"]; n > 3 {
		t.Errorf("a backup read %d of %d manifests to find its parent", n, pointsMade)
	}

	// It is the newest of this name that counts, however many of others
	// there are since.
	want := ""
	for p, err := range r.Points(t.Context(), "w") {
		if err != nil {
			t.Fatal(err)
		}
		want = string(p.ID)
	}
	for i := range pointsMade {
		mustBackup(t, r, fmt.Sprint("other", i%3), treeOf(map[string]string{"f": "content"}), backup.Full)
	}
	p := mustBackup(t, r, "w", treeOf(map[string]string{"f": "content"}), backup.Incremental)
	if string(p.Parent) != want {
		t.Errorf("the parent is %s, want %s", p.Parent, want)
	}
	full := mustBackup(t, r, "w", treeOf(map[string]string{"f": "content"}), backup.Full)
	mustBackup(t, r, "w", treeOf(map[string]string{"f": "content"}), backup.Incremental)
	if p := mustBackup(t, r, "w", treeOf(map[string]string{"f": "content"}), backup.Differential); p.Parent != full.ID {
		t.Errorf("the parent of a differential is %s, want the full %s", p.Parent, full.ID)
	}
}
