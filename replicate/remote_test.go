package replicate

import (
	"bytes"
	"context"
	"errors"
	"io"
	"iter"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
	"testing/iotest"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/providertest"
)

func TestRemoteIsAReaderAt(t *testing.T) {
	content := make([]byte, 10_007)
	for i := range content {
		content[i] = byte(rand.Uint32())
	}
	f := providertest.NewFaulty(providertest.NewMemory(), nil)
	info, err := f.Put(t.Context(), "k", provider.Bytes(content), provider.PutOptions{})
	if err != nil {
		t.Fatal(err)
	}
	open := func() *remote {
		b := openRemote(t.Context(), f, nil, info)
		b.ahead = 1000
		return b
	}
	b := open()
	defer b.Close()
	if err := iotest.TestReader(io.NewSectionReader(b, 0, b.Size()), content); err != nil {
		t.Error(err)
	}

	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 200 {
				off := rand.Int64N(b.Size())
				p := make([]byte, rand.IntN(3000))
				n, err := b.ReadAt(p, off)
				if err != nil && err != io.EOF || err == nil && n != len(p) || !bytes.Equal(p[:n], content[off:off+int64(n)]) {
					t.Errorf("read %d at %d: %d, %v", len(p), off, n, err)
				}
			}
		})
	}
	wg.Wait()
	if len(b.idle) > maxIdle {
		t.Errorf("%d readers kept open", len(b.idle))
	}

	// In order, whatever the size of the pieces, it is one request per window.
	before := len(f.Calls())
	s := open()
	defer s.Close()
	got, err := io.ReadAll(io.NewSectionReader(s, 0, s.Size()))
	if err != nil || !bytes.Equal(got, content) {
		t.Errorf("sequential read: %v", err)
	}
	if n := len(f.Calls()) - before; n != 11 {
		t.Errorf("%d requests for 11 windows", n)
	}
}

// An object that changes while it is read is never delivered as a mixture.
func TestRemoteStaysWithItsVersion(t *testing.T) {
	m := providertest.NewMemory()
	store := func(content string) provider.Info {
		info, err := m.Put(t.Context(), "k", provider.Bytes([]byte(content)), provider.PutOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return info
	}
	info := store("aaaaaaaaaa")
	for _, pinned := range []bool{true, false} {
		if !pinned {
			info.Version = ""
		}
		b := openRemote(t.Context(), m, nil, info)
		b.ahead = 5
		p := make([]byte, 5)
		if pinned {
			store("bbbbbbbbbb")
		} else {
			if _, err := b.ReadAt(p, 0); err != nil {
				t.Fatal(err)
			}
			store("cccccccccc")
		}
		if _, err := b.ReadAt(p, 5); !isDamage(err) || b.failure() == nil {
			t.Errorf("pinned %v: read %q of another version, %v", pinned, p, err)
		}
		b.Close()
	}
}

// unversioned delivers what is there now, whatever version is asked for.
type unversioned struct{ provider.BlobStore }

func (u unversioned) Get(ctx context.Context, key string, o provider.GetOptions) (io.ReadCloser, provider.Info, error) {
	o.Version = ""
	return u.BlobStore.Get(ctx, key, o)
}

func TestRemoteDoesNotRelyOnTheStoreForThat(t *testing.T) {
	m := providertest.NewMemory()
	info, err := m.Put(t.Context(), "k", provider.Bytes([]byte("aaaaaaaaaa")), provider.PutOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.Put(t.Context(), "k", provider.Bytes([]byte("bbbbbbbbbb")), provider.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	b := openRemote(t.Context(), unversioned{m}, nil, info)
	defer b.Close()
	if _, err := b.ReadAt(make([]byte, 5), 0); !errors.Is(err, provider.ErrCorrupt) {
		t.Errorf("read of another version: %v", err)
	}
}

// endless stands for a store with an object that is never in memory.
type endless struct {
	provider.BlobStore
	size int64
}

func (e endless) Get(ctx context.Context, key string, o provider.GetOptions) (io.ReadCloser, provider.Info, error) {
	return io.NopCloser(io.LimitReader(zeros{}, min(o.Length, e.size-o.Offset))), provider.Info{Key: key, Size: e.size, Version: "1"}, nil
}

func (endless) Stat(ctx context.Context, key string) (provider.Info, error) {
	return provider.Info{}, provider.ErrNotFound
}

func (endless) List(context.Context, string, provider.ListOptions) iter.Seq2[provider.Info, error] {
	return func(func(provider.Info, error) bool) {}
}

// Put reads its body in two halves at the same time, as a multipart upload does.
func (e endless) Put(ctx context.Context, key string, body provider.Body, o provider.PutOptions) (provider.Info, error) {
	errs := make([]error, 2)
	var wg sync.WaitGroup
	for i := range errs {
		wg.Go(func() {
			_, errs[i] = io.Copy(io.Discard, io.NewSectionReader(body, int64(i)*body.Size()/2, body.Size()/2))
		})
	}
	wg.Wait()
	return provider.Info{}, errors.Join(errs...)
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestObjectsAreNeverHeldInMemory(t *testing.T) {
	const size = 512 << 20
	s := endless{size: size}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	r := run{Config: Config{From: s, To: s}, hold: free{}}
	o := provider.Info{Key: "big", Size: size, SHA256: [32]byte{1}}
	if err := r.object(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	if grown := after.TotalAlloc - before.TotalAlloc; grown > 4<<20 {
		t.Errorf("copying %d MiB allocated %d KiB in all", size>>20, grown>>10)
	}
}

func TestInventoryOfManyKeys(t *testing.T) {
	m := providertest.NewMemory()
	for _, key := range []string{"a", "a/b", "a-b", "ä"} {
		if _, err := m.Put(t.Context(), key, provider.Bytes([]byte(key)), provider.PutOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	inv := inventory{}
	if err := inv.add(t.Context(), m, ""); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		key  string
		size int64
		want standing
	}{{"a", 1, same}, {"a", 2, other}, {"a/b", 3, same}, {"b", 1, absent}, {"ä", 2, same}} {
		if got := inv.standing(provider.Info{Key: tc.key, Size: tc.size}); got != tc.want {
			t.Errorf("%s of %d bytes: %v, want %v", tc.key, tc.size, got, tc.want)
		}
	}
}

func TestCommonPrefix(t *testing.T) {
	for _, tc := range []struct {
		keys []string
		want string
	}{
		{[]string{"points/1"}, "points/1"},
		{[]string{"points/10", "points/11", "points/2"}, "points/"},
		{[]string{"a", "b"}, ""},
	} {
		var infos []provider.Info
		for _, k := range tc.keys {
			infos = append(infos, provider.Info{Key: k})
		}
		if got := commonPrefix(infos); got != tc.want {
			t.Errorf("%v: %q, want %q", tc.keys, got, tc.want)
		}
	}
}
