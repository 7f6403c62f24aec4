package backup_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"

	"filippo.io/age"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/providertest"
)

// A tree is a target in memory. Its content stands for files, each with a
// version that changes when the content does.
type tree struct {
	files    map[string]file
	order    []string // of adding; nil: sorted
	listed   bool     // the parent's items are listed once, and not looked up one by one
	restored map[string]string
	during   func(path string) error // called before each item is added or restored
}

type file struct {
	content string
	version int
	block   int
}

func (t *tree) Kind() string { return "tree" }

func (t *tree) Backup(ctx context.Context, s *backup.Session) error {
	paths := t.order
	if paths == nil {
		paths = slices.SortedFunc(maps.Keys(t.files), backup.ComparePaths)
	}
	lookup := func(ctx context.Context, p string) (backup.Item, error) { return s.Parent().Lookup(ctx, p) }
	if t.listed && s.Parent() != nil {
		items := map[string]backup.Item{}
		for it, err := range s.Parent().Items(ctx) {
			if err != nil {
				return err
			}
			items[it.Path] = it
		}
		lookup = func(_ context.Context, p string) (backup.Item, error) {
			it, ok := items[p]
			if !ok {
				return it, provider.ErrNotFound
			}
			return it, nil
		}
	}
	for _, p := range paths {
		if t.during != nil {
			if err := t.during(p); err != nil {
				return err
			}
		}
		f := t.files[p]
		it := backup.Item{Path: p, Meta: json.RawMessage(strconv.Itoa(f.version)), BlockSize: f.block}
		if s.Parent() != nil {
			prev, err := lookup(ctx, p)
			if err == nil && string(prev.Meta) == string(it.Meta) {
				if err := s.Reuse(ctx, prev, it); err == nil {
					continue
				} else if !errors.Is(err, backup.ErrDamaged) {
					return err
				}
			} else if err != nil && !errors.Is(err, provider.ErrNotFound) {
				return err
			}
		}
		if err := s.Add(ctx, it, &plainReader{f.content}); err != nil {
			return err
		}
	}
	return nil
}

func (t *tree) Restore(ctx context.Context, v *backup.View, d backup.Destination) error {
	t.restored = map[string]string{}
	for it, err := range v.Items(ctx) {
		if err != nil {
			return err
		}
		if t.during != nil {
			if err := t.during(it.Path); err != nil {
				return err
			}
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
		if int64(len(b)) != it.Size {
			return fmt.Errorf("%s: read %d of %d bytes", it.Path, len(b), it.Size)
		}
		t.restored[it.Path] = string(b)
		v.Wrote(1, it.Size)
	}
	return nil
}

// plainReader is a reader without any other method, that reads a little at a
// time.
type plainReader struct{ s string }

func (r *plainReader) Read(p []byte) (int, error) {
	if len(r.s) == 0 {
		return 0, io.EOF
	}
	n := copy(p[:min(len(p), 70_001)], r.s)
	r.s = r.s[n:]
	return n, nil
}

func treeOf(contents map[string]string) *tree {
	t := &tree{files: map[string]file{}}
	for p, c := range contents {
		t.files[p] = file{content: c}
	}
	return t
}

// random returns n bytes that do not compress, the same for the same seed.
func random(seed uint64, n int) string {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(seed >> 16)})
	r.Read(b)
	return string(b)
}

var identity = newIdentity()

func newIdentity() *age.X25519Identity {
	id, err := age.GenerateX25519Identity()
	if err != nil {
		panic(err)
	}
	return id
}

func keyring() backup.Keyring {
	return backup.Keyring{Recipients: backup.AgeRecipients(identity.Recipient()), Identities: backup.AgeIdentities(identity)}
}

func config(s provider.BlobStore) backup.Config {
	return backup.Config{Store: s, Keyring: keyring(), Writer: "test"}
}

func newRepo(t testing.TB, s provider.BlobStore) *backup.Repository {
	t.Helper()
	r, err := backup.Init(t.Context(), config(s))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func reopen(t testing.TB, s provider.BlobStore) *backup.Repository {
	t.Helper()
	r, err := backup.Open(t.Context(), config(s))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func mustBackup(t testing.TB, r *backup.Repository, name string, target backup.Target, mode backup.Mode) backup.Point {
	t.Helper()
	p, err := r.Backup(t.Context(), name, target, backup.BackupOptions{Mode: mode})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// mustHold checks that a point restores to exactly want.
func mustHold(t testing.TB, r *backup.Repository, id backup.PointID, want map[string]file) {
	t.Helper()
	var got tree
	if err := r.Restore(t.Context(), id, &got, backup.Destination{}, backup.RestoreOptions{}); err != nil {
		t.Fatalf("restore %s: %v", id, err)
	}
	if len(got.restored) != len(want) {
		t.Errorf("restored %d items, want %d", len(got.restored), len(want))
	}
	for p, f := range want {
		if c, ok := got.restored[p]; !ok || c != f.content {
			t.Errorf("%s: restored %d bytes (there: %t), want the %d that were backed up", p, len(c), ok, len(f.content))
		}
	}
}

func collect[T any](t testing.TB, seq iter.Seq2[T, error]) []T {
	t.Helper()
	var out []T
	for v, err := range seq {
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, v)
	}
	return out
}

// stored is the sum of the sizes of all objects.
func stored(t testing.TB, s provider.BlobStore) (n int64) {
	for _, info := range collect(t, s.List(t.Context(), "", provider.ListOptions{})) {
		n += info.Size
	}
	return n
}

// copyStore returns a copy of a store.
func copyStore(t testing.TB, s provider.BlobStore) *providertest.Memory {
	t.Helper()
	out := providertest.NewMemory()
	for _, info := range collect(t, s.List(t.Context(), "", provider.ListOptions{})) {
		b, _, err := provider.ReadAll(t.Context(), s, info.Key, 1<<30)
		if err != nil {
			t.Fatal(err)
		}
		put(t, out, info.Key, b)
	}
	return out
}

func put(t testing.TB, s provider.BlobStore, key string, b []byte) {
	t.Helper()
	if _, err := s.Put(t.Context(), key, provider.Bytes(b), provider.PutOptions{}); err != nil {
		t.Fatal(err)
	}
}

// unmarshalLine decodes the first line of b.
func unmarshalLine(t testing.TB, b []byte, v any) {
	t.Helper()
	line, _, _ := bytes.Cut(b, []byte("\n"))
	if err := json.Unmarshal(line, v); err != nil {
		t.Fatal(err)
	}
}
