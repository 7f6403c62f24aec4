package local

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-go/holdfast/provider"
)

func newStore(t *testing.T) *BlobStore {
	t.Helper()
	s, err := NewBlobStore(Config{Dir: t.TempDir(), Create: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// plant writes the file of an object without staging or syncing it.
func plant(t *testing.T, s *BlobStore, key string) {
	t.Helper()
	d := description{Key: key, Size: 0, Version: "v", SHA256: strings.Repeat("0", 64), Modified: fixedTime[:19] + ".000000000Z"}
	b, err := encodeFrame(objectMagic, d)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(s.dir, filepath.FromSlash(objectPath(key)))
	err = os.WriteFile(file, b, 0o600)
	if os.IsNotExist(err) {
		if err = os.MkdirAll(filepath.Dir(file), 0o700); err == nil {
			err = os.WriteFile(file, b, 0o600)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
}

func (s *BlobStore) keys(ctx context.Context, window int, prefix, after string) (keys []string, err error) {
	dir, rest := locate(prefix)
	w := &walk{s: s, prefix: prefix, after: after, window: window, yield: func(i provider.Info, _ error) bool {
		keys = append(keys, i.Key)
		return true
	}}
	err = w.directory(ctx, dir, strings.TrimSuffix(prefix, rest))
	return keys, err
}

// randomKey makes keys that are often neighbours, prefixes of one another, or
// long, out of bytes around "/".
func randomKey(r *rand.Rand) string {
	parts := []string{"a", "b", "-", ".", "/", "0", "A", "~", "ü", "..", "//", "%", strings.Repeat("x", 79), strings.Repeat("x", 80), strings.Repeat("y", 81)}
	var b strings.Builder
	for range 1 + r.IntN(6) {
		b.WriteString(parts[r.IntN(len(parts))])
	}
	return b.String()
}

// TestWindows compares listings through windows of all sizes with a sorted
// slice.
func TestWindows(t *testing.T) {
	s := newStore(t)
	r := rand.New(rand.NewPCG(1, 2))
	var all []string
	for range 400 {
		key := randomKey(r)
		plant(t, s, key)
		all = append(all, key)
	}
	slices.Sort(all)
	all = slices.Compact(all)
	for i := range 40 {
		prefix, after := "", ""
		if i > 0 {
			prefix, after = randomKey(r), randomKey(r)
			prefix = prefix[:r.IntN(len(prefix)+1)]
			if i%3 == 0 {
				after = all[r.IntN(len(all))]
			}
		}
		want := slices.DeleteFunc(slices.Clone(all), func(key string) bool { return !strings.HasPrefix(key, prefix) || key <= after })
		for _, window := range []int{1, 2, 3, 7, 1 << 15} {
			got, err := s.keys(t.Context(), window, prefix, after)
			if err != nil || !slices.Equal(got, want) {
				t.Fatalf("prefix %q after %q, window %d: got %q, %v\nwant %q", prefix, after, window, got, err, want)
			}
		}
	}
}

// TestListMemory lists many objects of one directory and measures the heap on
// the way, against what all the keys together would take.
func TestListMemory(t *testing.T) { listFlat(t, 8_000, 256, 400<<10) }

// TestMillionKeys does the same with a million. Making and removing the files is
// what takes minutes:
//
//	HOLDFAST_LONG=1 go test -run TestMillionKeys -v -timeout 30m ./provider/local
func TestMillionKeys(t *testing.T) {
	if os.Getenv("HOLDFAST_LONG") == "" {
		t.Skip("with HOLDFAST_LONG=1")
	}
	listFlat(t, 1_000_000, window, 24<<20)
}

func listFlat(t *testing.T, objects, size int, most int64) {
	s := newStore(t)
	for i := range objects {
		plant(t, s, fmt.Sprintf("%07d-%s", i*7919%objects, strings.Repeat("k", 60)))
	}
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before, peak, n, last := heap(), uint64(0), 0, ""
	w := &walk{s: s, window: size, yield: func(info provider.Info, _ error) bool {
		if info.Key <= last {
			t.Errorf("%q comes after %q", info.Key, last)
		}
		last = info.Key
		if n++; n%(objects/10) == objects/20 {
			peak = max(peak, heap())
		}
		return true
	}}
	if err := w.directory(t.Context(), dataDir, ""); err != nil {
		t.Fatal(err)
	}
	if n != objects {
		t.Errorf("%d of %d objects", n, objects)
	}
	grown := int64(peak) - int64(before)
	t.Logf("%d objects listed with %d KiB of heap", n, grown>>10)
	if grown > most {
		t.Errorf("heap grew by %d KiB, want at most %d", grown>>10, most>>10)
	}
}

func FuzzNames(f *testing.F) {
	for _, key := range []string{"a", "a/b", "A", "..", "/", "a/", "\x00", "ü.", strings.Repeat("x", 80), strings.Repeat("%/", 100)} {
		f.Add(key, "a-b")
	}
	f.Fuzz(func(t *testing.T, one, two string) {
		paths := [2]string{objectPath(one), objectPath(two)}
		if (one == two) != strings.EqualFold(paths[0], paths[1]) {
			t.Fatalf("keys %q and %q become %q and %q", one, two, paths[0], paths[1])
		}
		// The key comes back out of the sort strings on its path.
		key := ""
		for _, name := range strings.Split(paths[0], "/")[1:] {
			if len(name) > 255 || strings.HasSuffix(name, ".") || strings.ContainsAny(name, "\\:*?\"<>| ") {
				t.Fatalf("key %q has the name %q in its path", one, name)
			}
			s, ok := sortString(name)
			if !ok || entryName(s) != name {
				t.Fatalf("name %q sorts as %q, which is %q", name, s, entryName(s))
			}
			key += s
		}
		if key != one {
			t.Fatalf("key %q becomes %q, which is read as %q", one, paths[0], key)
		}
	})
}

func FuzzDescription(f *testing.F) {
	good, err := encodeFrame(objectMagic, description{Key: "k", SHA256: strings.Repeat("0", 64)})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte("HFobject\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, b []byte) {
		var d description
		n, err := decodeFrame(bytes.NewReader(b), objectMagic, &d)
		if err == nil && n > int64(len(b)) {
			t.Errorf("description of %d bytes in a file of %d", n, len(b))
		}
	})
}
