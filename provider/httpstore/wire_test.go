package httpstore_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/httpstore"
	"github.com/holdfast-go/holdfast/provider/providertest"
)

// meddling changes the bodies of answers, as something on the way might that
// takes them in and sends them on by itself.
type meddling struct {
	meddle func([]byte) []byte
}

func (m *meddling) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if m.meddle != nil {
		b = m.meddle(b)
	}
	resp.Body = io.NopCloser(bytes.NewReader(b))
	return resp, err
}

func meddled(t *testing.T, store provider.BlobStore) (*httpstore.Store, *meddling) {
	t.Helper()
	m := &meddling{}
	s, err := httpstore.New(httpstore.Config{URL: serve(t, store, noTemp(t)), Token: token, Client: &http.Client{Transport: m}})
	if err != nil {
		t.Fatal(err)
	}
	return s, m
}

// An answer that ends in good order, but early, is no whole answer.
func TestAnswerShortened(t *testing.T) {
	ctx := t.Context()
	mem := providertest.NewMemory()
	for i := range 20 {
		if _, err := mem.Put(ctx, fmt.Sprintf("k%02d", i), provider.Bytes(random(1000)), provider.PutOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	s, m := meddled(t, mem)
	list := func() (n int, err error) {
		for _, err := range s.List(ctx, "", provider.ListOptions{}) {
			if err != nil {
				return n, err
			}
			n++
		}
		return n, nil
	}
	get := func() (int, error) {
		b, _, err := provider.ReadAll(ctx, s, "k00", 1<<20)
		return len(b), err
	}
	stat := func() (int, error) {
		_, err := s.Stat(ctx, "k00")
		return 0, err
	}
	for name, call := range map[string]func() (int, error){"list": list, "get": get, "stat": stat} {
		var whole int
		m.meddle = func(b []byte) []byte { whole = len(b); return b }
		if _, err := call(); err != nil {
			t.Fatal(name, err)
		}
		// The last byte of a listing is a line break after its end.
		for keep := range whole - 1 {
			m.meddle = func(b []byte) []byte { return b[:keep] }
			if n, err := call(); err == nil || isSentinel(err) {
				t.Fatalf("%s, %d of %d bytes: %d, err = %v", name, keep, whole, n, err)
			}
		}
	}
}

// Content that was changed on the way is ErrCorrupt.
func TestAnswerDamaged(t *testing.T) {
	ctx := t.Context()
	mem := providertest.NewMemory()
	if _, err := mem.Put(ctx, "a", provider.Bytes(random(200_000)), provider.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	s, m := meddled(t, mem)
	for _, at := range []int{4, 5, 100_000, 199_000} {
		m.meddle = func(b []byte) []byte { b[at] ^= 1; return b }
		if b, _, err := provider.ReadAll(ctx, s, "a", 1<<20); !errors.Is(err, provider.ErrCorrupt) {
			t.Errorf("byte %d changed: %d bytes, err = %v", at, len(b), err)
		}
	}
}

// The server checks the content itself: a store behind it may not.
func TestUploadDamaged(t *testing.T) {
	store := &hashing{BlobStore: providertest.NewMemory()}
	s := client(t, serve(t, store, noTemp(t)))
	for _, size := range []int{100, 2 << 20} {
		if _, err := s.Put(t.Context(), "a", &changingBody{b: random(size)}, provider.PutOptions{}); !errors.Is(err, provider.ErrCorrupt) {
			t.Errorf("%d bytes that changed: %v", size, err)
		}
		if _, err := s.Put(t.Context(), "a", provider.Bytes(random(size)), provider.PutOptions{SHA256: [32]byte{1}}); !errors.Is(err, provider.ErrCorrupt) {
			t.Errorf("%d bytes that are not those announced: %v", size, err)
		}
	}
	if store.size != 0 {
		t.Error("the store was given damaged content")
	}
}

// How long the store takes has nothing to do with a stalled transfer.
func TestSlowStore(t *testing.T) {
	c := noTemp(t)
	c.Stall = 20 * time.Millisecond
	s := client(t, serve(t, slow{providertest.NewMemory(), 10 * c.Stall}, c))
	for _, size := range []int{10, 2 << 20} {
		if _, err := s.Put(t.Context(), "a", provider.Bytes(random(size)), provider.PutOptions{}); err != nil {
			t.Errorf("%d bytes: %v", size, err)
		}
	}
	if _, err := s.Stat(t.Context(), "a"); err != nil { // on a connection that was used before
		t.Error(err)
	}
}

type slow struct {
	provider.BlobStore
	pause time.Duration
}

func (s slow) Put(ctx context.Context, key string, body provider.Body, o provider.PutOptions) (provider.Info, error) {
	select {
	case <-time.After(s.pause):
		return s.BlobStore.Put(ctx, key, body, o)
	case <-ctx.Done():
		return provider.Info{}, ctx.Err()
	}
}

// A size below zero must not get to those who make room for it.
func TestNegativeSize(t *testing.T) {
	ctx := t.Context()
	mem := providertest.NewMemory()
	if _, err := mem.Put(ctx, "k", provider.Bytes(random(1000)), provider.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	s, m := meddled(t, mem)
	m.meddle = func(b []byte) []byte { return bytes.Replace(b, []byte(`"size":1000`), []byte(`"size":-1000`), 1) }
	if info, err := s.Stat(ctx, "k"); err == nil {
		t.Errorf("stat delivers %+v", info)
	}
	for info, err := range s.List(ctx, "", provider.ListOptions{}) {
		if err == nil {
			t.Errorf("list yields %+v", info)
		}
	}
}
