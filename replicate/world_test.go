package replicate_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"math/rand/v2"
	"testing"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/providertest"
	"github.com/holdfast-go/holdfast/replicate"
)

// A manifest of these tests is JSON that lists the objects of its point.
type manifest struct {
	Objects []promised `json:"objects"`
}

type promised struct {
	Key    string
	Size   int64
	SHA256 [32]byte
}

// source reads points from a store, as a repository does.
type source struct{ store provider.BlobStore }

func (s source) Manifests(ctx context.Context) iter.Seq2[provider.Info, error] {
	return s.store.List(ctx, "points/", provider.ListOptions{})
}

func (s source) Objects(ctx context.Context, key string) iter.Seq2[provider.Info, error] {
	return func(yield func(provider.Info, error) bool) {
		b, _, err := provider.ReadAll(ctx, s.store, key, 1<<20)
		var m manifest
		if err == nil {
			err = json.Unmarshal(b, &m)
		}
		if err != nil {
			yield(provider.Info{}, err)
			return
		}
		for _, o := range m.Objects {
			if !yield(provider.Info{Key: o.Key, Size: o.Size, SHA256: o.SHA256}, nil) {
				return
			}
		}
	}
}

// generate fills a store with points, each of which shares most of its objects
// with the one before, as deduplication makes it. Sizes include 0 and 1. It
// returns the manifests, oldest first.
func generate(t testing.TB, s provider.BlobStore, points int) []string {
	t.Helper()
	rnd := rand.New(rand.NewPCG(1, uint64(points)))
	var shared []promised
	var manifests []string
	for n := range points {
		for i := range 2 {
			body := make([]byte, []int{rnd.IntN(5000), n % 2}[i])
			for j := range body {
				body[j] = byte(rnd.Uint32())
			}
			sum := sha256.Sum256(body)
			o := promised{fmt.Sprintf("packs/%x", sum[:8]), int64(len(body)), sum}
			put(t, s, o.Key, body)
			shared = append(shared, o)
		}
		m := manifest{Objects: shared[max(0, len(shared)-6):]}
		m.Objects = append(m.Objects[:len(m.Objects):len(m.Objects)], m.Objects[0]) // named twice
		b, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		key := fmt.Sprintf("points/%03d", n)
		put(t, s, key, b)
		manifests = append(manifests, key)
	}
	put(t, s, "sessions/other", []byte("no part of any point"))
	return manifests
}

func put(t testing.TB, s provider.BlobStore, key string, b []byte) {
	t.Helper()
	if _, err := s.Put(t.Context(), key, provider.Bytes(b), provider.PutOptions{}); err != nil {
		t.Fatal(err)
	}
}

func read(t testing.TB, s provider.BlobStore, key string) []byte {
	t.Helper()
	b, _, err := provider.ReadAll(t.Context(), s, key, 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func keys(t testing.TB, s provider.BlobStore, prefix string) []string {
	t.Helper()
	var found []string
	for info, err := range s.List(t.Context(), prefix, provider.ListOptions{}) {
		if err != nil {
			t.Fatal(err)
		}
		found = append(found, info.Key)
	}
	return found
}

// whole checks the promise: every manifest at the destination is that of the
// source, and every object it needs is there with the promised bytes. It
// returns how many points there are.
func whole(t testing.TB, from, to provider.BlobStore) int {
	t.Helper()
	points := keys(t, to, "points/")
	for _, m := range points {
		if !bytes.Equal(read(t, to, m), read(t, from, m)) {
			t.Fatalf("%s differs from the source", m)
		}
		for o, err := range (source{to}).Objects(t.Context(), m) {
			if err != nil {
				t.Fatal(err)
			}
			b, _, err := provider.ReadAll(t.Context(), to, o.Key, 1<<30)
			if err != nil {
				t.Fatalf("%s has arrived without %s: %v", m, o.Key, err)
			}
			if sha256.Sum256(b) != o.SHA256 {
				t.Fatalf("%s has arrived with a wrong %s", m, o.Key)
			}
		}
	}
	return len(points)
}

func copyAll(t testing.TB, c replicate.Config) replicate.Result {
	t.Helper()
	r, err := replicate.Copy(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func configOf(from, to provider.BlobStore) replicate.Config {
	return replicate.Config{Source: source{from}, From: from, To: to}
}

// forgetful keeps no hashes: what many stores are.
type forgetful struct{ provider.BlobStore }

func (f forgetful) List(ctx context.Context, prefix string, o provider.ListOptions) iter.Seq2[provider.Info, error] {
	return func(yield func(provider.Info, error) bool) {
		for i, err := range f.BlobStore.List(ctx, prefix, o) {
			i.SHA256 = [32]byte{}
			if !yield(i, err) {
				return
			}
		}
	}
}

func (f forgetful) Stat(ctx context.Context, key string) (provider.Info, error) {
	i, err := f.BlobStore.Stat(ctx, key)
	i.SHA256 = [32]byte{}
	return i, err
}

// rotten delivers one bit of one object wrong, whichever way it is read.
type rotten struct {
	provider.BlobStore
	key string
	at  int64
}

func (r rotten) Get(ctx context.Context, key string, o provider.GetOptions) (io.ReadCloser, provider.Info, error) {
	rc, info, err := r.BlobStore.Get(ctx, key, o)
	if err != nil || key != r.key {
		return rc, info, err
	}
	defer rc.Close()
	b, err := io.ReadAll(rc)
	if i := r.at - o.Offset; i >= 0 && i < int64(len(b)) {
		b[i] ^= 1
	}
	return io.NopCloser(bytes.NewReader(b)), info, err
}

// puts returns the keys that were stored through f, in order of the calls.
func puts(f *providertest.Faulty) []string {
	var stored []string
	for _, c := range f.Calls() {
		if c.Op == "put" && c.Err == nil {
			stored = append(stored, c.Key)
		}
	}
	return stored
}

// needed returns an object, neither empty nor tiny, that a point needs.
func needed(t testing.TB, s provider.BlobStore, by string) provider.Info {
	t.Helper()
	for o, err := range (source{s}).Objects(t.Context(), by) {
		if err != nil {
			t.Fatal(err)
		}
		if o.Size > 100 {
			return o
		}
	}
	t.Fatalf("%s needs no object of any size", by)
	return provider.Info{}
}

// users returns the manifests of the points that need an object.
func users(t testing.TB, s provider.BlobStore, key string) map[string]bool {
	t.Helper()
	found := map[string]bool{}
	for _, m := range keys(t, s, "points/") {
		for o, err := range (source{s}).Objects(t.Context(), m) {
			if err != nil {
				t.Fatal(err)
			}
			if o.Key == key {
				found[m] = true
			}
		}
	}
	return found
}

var errUnreachable = errors.New("no route to host")
