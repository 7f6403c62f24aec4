package httpstore_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/providertest"
)

var sentinels = []error{
	provider.ErrNotFound, provider.ErrConflict, provider.ErrLocked,
	provider.ErrCorrupt, provider.ErrRange, provider.ErrInvalidKey,
}

func isSentinel(err error) bool {
	for _, s := range sentinels {
		if errors.Is(err, s) {
			return true
		}
	}
	return false
}

func random(n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{1})
	r.Read(b)
	return b
}

// An upload that is reset after any number of bytes leaves the old object.
func TestUploadCut(t *testing.T) {
	for _, size := range []int{1000, 3 << 20} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			ctx := t.Context()
			mem := providertest.NewMemory()
			p := newProxy(t, serve(t, mem, noTemp(t)))
			old, body := []byte("old"), random(size)

			// Without a cut, to learn how many bytes go up in all.
			if _, err := client(t, p.URL()).Put(ctx, "other", provider.Bytes(body), provider.PutOptions{}); err != nil {
				t.Fatal(err)
			}
			total := p.upSeen.Load()
			if total < int64(size) {
				t.Fatalf("the proxy saw %d bytes of %d", total, size)
			}
			if _, err := mem.Put(ctx, "a", provider.Bytes(old), provider.PutOptions{}); err != nil {
				t.Fatal(err)
			}
			// total varies by no byte, the requests differ by the key.
			last := total - int64(len("other")-len("a")) - 1
			cuts := []int64{0, 1, 100, 400, last, last - 1, last - 100}
			for c := int64(500); c < last; c += last/20 + 1 {
				cuts = append(cuts, c)
			}
			for _, cut := range cuts {
				p.up.Store(cut)
				_, err := client(t, p.URL()).Put(ctx, "a", provider.Bytes(body), provider.PutOptions{})
				if err == nil || isSentinel(err) {
					t.Fatalf("cut after %d of %d bytes: err = %v, want one that says unknown", cut, total, err)
				}
				got, _, err := provider.ReadAll(ctx, mem, "a", 1<<30)
				if err != nil || !bytes.Equal(got, old) {
					t.Fatalf("cut after %d of %d bytes: the store has %d bytes, %v; want the old object", cut, total, len(got), err)
				}
			}
			p.up.Store(-1)
			if _, err := client(t, p.URL()).Put(ctx, "a", provider.Bytes(body), provider.PutOptions{}); err != nil {
				t.Fatalf("without a cut: %v", err)
			}
		})
	}
}

// A lost reply is no sentinel, and the change is there, whole, once.
func TestReplyLost(t *testing.T) {
	for _, up := range []struct {
		size int
		down int64 // what comes back of the answer
	}{
		{1000, 0},
		{1000, 20},
		{100_000, int64(len("HTTP/1.1 100 Continue\r\n\r\n"))},
		{3 << 20, 200},
	} {
		t.Run(fmt.Sprintf("%d bytes, %d of the answer", up.size, up.down), func(t *testing.T) {
			ctx := t.Context()
			mem := providertest.NewMemory()
			faulty := providertest.NewFaulty(mem, nil)
			p := newProxy(t, serve(t, faulty, noTemp(t)))
			p.down.Store(up.down)
			body := random(up.size)
			_, err := client(t, p.URL()).Put(ctx, "a", provider.Bytes(body), provider.PutOptions{})
			if err == nil || isSentinel(err) {
				t.Errorf("put: err = %v, want one that says unknown", err)
			}
			if got, _, err := provider.ReadAll(ctx, mem, "a", 1<<30); err != nil || !bytes.Equal(got, body) {
				t.Errorf("after the lost reply the store has %d bytes, %v", len(got), err)
			}
			p.down.Store(0)
			err = client(t, p.URL()).Delete(ctx, "a", provider.DeleteOptions{})
			if err == nil || isSentinel(err) {
				t.Errorf("delete: err = %v, want one that says unknown", err)
			}
			if _, err := mem.Stat(ctx, "a"); !errors.Is(err, provider.ErrNotFound) {
				t.Errorf("after the lost reply: %v, want it deleted", err)
			}
			// A change is never made twice, however its reply was lost.
			count := map[string]int{}
			for _, c := range faulty.Calls() {
				count[c.Op]++
			}
			if count["put"] != 1 || count["delete"] != 1 {
				t.Errorf("the server was asked for %v", faulty.Calls())
			}
		})
	}
}

// A download that is reset after any number of bytes is never taken for a
// whole object, even by a caller who stops reading at the known size.
func TestDownloadCut(t *testing.T) {
	ctx := t.Context()
	mem := providertest.NewMemory()
	body := random(200_000)
	if _, err := mem.Put(ctx, "a", provider.Bytes(body), provider.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	p := newProxy(t, serve(t, mem, noTemp(t)))
	for _, read := range []struct {
		name string
		f    func(s provider.BlobStore) ([]byte, error)
	}{
		{"to the size", func(s provider.BlobStore) ([]byte, error) {
			b, _, err := provider.ReadAll(ctx, s, "a", 1<<30)
			return b, err
		}},
		{"to the end", func(s provider.BlobStore) ([]byte, error) {
			r, _, err := s.Get(ctx, "a", provider.GetOptions{})
			if err != nil {
				return nil, err
			}
			defer r.Close()
			return io.ReadAll(r)
		}},
	} {
		t.Run(read.name, func(t *testing.T) {
			p.down.Store(-1)
			before := p.downSeen.Load()
			if b, err := read.f(client(t, p.URL())); err != nil || !bytes.Equal(b, body) {
				t.Fatalf("without a cut: %d bytes, %v", len(b), err)
			}
			total := p.downSeen.Load() - before
			var cuts []int64
			for c := int64(1000); c < total-64; c += total / 40 {
				cuts = append(cuts, c)
			}
			for c := total - 64; c < total; c++ {
				cuts = append(cuts, c)
			}
			for _, cut := range append(cuts, 0, 200) {
				p.down.Store(cut)
				b, err := read.f(client(t, p.URL()))
				if err == nil || isSentinel(err) {
					t.Fatalf("cut after %d of %d bytes: %d bytes, err = %v", cut, total, len(b), err)
				}
			}
		})
	}
}

// A listing that is reset anywhere is never taken for a whole one.
func TestListCut(t *testing.T) {
	ctx := t.Context()
	mem := providertest.NewMemory()
	const n = 120
	for i := range n {
		if _, err := mem.Put(ctx, fmt.Sprintf("k%03d", i), provider.Bytes(nil), provider.PutOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	p := newProxy(t, serve(t, mem, noTemp(t)))
	count := func() (int, error) {
		k := 0
		for _, err := range client(t, p.URL()).List(ctx, "", provider.ListOptions{}) {
			if err != nil {
				return k, err
			}
			k++
		}
		return k, nil
	}
	if k, err := count(); k != n || err != nil {
		t.Fatalf("without a cut: %d objects, %v", k, err)
	}
	total := p.downSeen.Load()
	cuts := []int64{0, 150}
	for c := int64(600); c < total-60; c += 211 {
		cuts = append(cuts, c)
	}
	// The last eight bytes are the line break after the end marker and the end
	// of the chunked encoding. By then the listing is complete.
	for c := total - 60; c < total-8; c++ {
		cuts = append(cuts, c)
	}
	for _, cut := range cuts {
		p.down.Store(cut)
		if k, err := count(); err == nil || isSentinel(err) {
			t.Fatalf("cut after %d of %d bytes: %d objects, err = %v", cut, total, k, err)
		}
	}
}

// What the store finds out while it reads reaches the other end by name.
func TestDamageFoundLate(t *testing.T) {
	ctx := t.Context()
	mem := providertest.NewMemory()
	body := random(150_000)
	if _, err := mem.Put(ctx, "a", provider.Bytes(body), provider.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	s := client(t, serve(t, damaged{mem}, noTemp(t)))
	if b, _, err := provider.ReadAll(ctx, s, "a", 1<<30); !errors.Is(err, provider.ErrCorrupt) {
		t.Errorf("%d bytes, err = %v, want ErrCorrupt", len(b), err)
	}
}

// damaged delivers everything and says at the end that it was damaged.
type damaged struct{ provider.BlobStore }

func (d damaged) Get(ctx context.Context, key string, o provider.GetOptions) (io.ReadCloser, provider.Info, error) {
	r, info, err := d.BlobStore.Get(ctx, key, o)
	return struct {
		io.Reader
		io.Closer
	}{io.MultiReader(r, badEnd{}), r}, info, err
}

type badEnd struct{}

func (badEnd) Read([]byte) (int, error) { return 0, provider.ErrCorrupt }

// cold is a store all of whose objects are in a cold tier.
type cold struct{ provider.BlobStore }

func (cold) Get(_ context.Context, key string, _ provider.GetOptions) (io.ReadCloser, provider.Info, error) {
	return nil, provider.Info{}, &provider.Error{Op: "get", Provider: "cold", Key: key, Err: provider.ErrCold}
}

// What is in a cold tier there is whole, and so it is here.
func TestColdCrossesTheWire(t *testing.T) {
	s := client(t, serve(t, cold{providertest.NewMemory()}, noTemp(t)))
	if _, _, err := s.Get(t.Context(), "x", provider.GetOptions{}); !errors.Is(err, provider.ErrCold) {
		t.Errorf("%v", err)
	}
}

// A moment that the protocol cannot say is an error, of a Put as of a Lock.
func TestRetentionBeyondTime(t *testing.T) {
	mem := providertest.NewMemory()
	s := client(t, serve(t, mem, noTemp(t)))
	never := provider.Retention{Mode: provider.Compliance, Until: time.Date(10_000, 1, 1, 0, 0, 0, 0, time.UTC)}
	if _, err := s.Put(t.Context(), "x", provider.Bytes(nil), provider.PutOptions{Retain: never}); err == nil {
		t.Error("put: no error")
	}
	if _, err := mem.Stat(t.Context(), "x"); !errors.Is(err, provider.ErrNotFound) {
		t.Errorf("after the put: %v", err)
	}
	if err := s.Lock(t.Context(), "x", never); err == nil {
		t.Error("lock: no error")
	}
}
