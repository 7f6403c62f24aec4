package backup

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"runtime"
	"testing"
	"time"

	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
)

// plainKey wraps by not wrapping: what is fuzzed is everything behind it.
type plainKey struct{}

func (plainKey) Wrap(_ context.Context, secret []byte) (Stanza, error) {
	return Stanza{Type: "plain", Recipient: "test", Body: bytes.Clone(secret)}, nil
}

func (plainKey) Unwrap(_ context.Context, s Stanza) ([]byte, error) {
	if s.Type != "plain" {
		return nil, ErrNoIdentity
	}
	return s.Body, nil
}

func testKeys(t testing.TB) (*keys, []byte) {
	t.Helper()
	ring := Keyring{Recipients: []Recipient{plainKey{}}, Identities: []Identity{plainKey{}}}
	b, err := newFormat(time.Unix(0, 0), AnyAlgorithm, func(root []byte) ([]Stanza, error) { return ring.wrap(t.Context(), root) })
	if err != nil {
		t.Fatal(err)
	}
	k, _, err := openFormat(b, func(s []Stanza, ok func([]byte) bool) ([]byte, error) { return ring.unwrap(t.Context(), s, ok) })
	if err != nil {
		t.Fatal(err)
	}
	return k.as("w"), b
}

// known checks that an error is one callers can tell from a bug.
func known(t *testing.T, err error) {
	t.Helper()
	if err != nil && !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrFormat) && !errors.Is(err, ErrNoIdentity) {
		t.Errorf("an error of no known kind: %v", err)
	}
}

func FuzzFormat(f *testing.F) {
	_, b := testKeys(f)
	f.Add(b)
	f.Add([]byte("{}\n" + string(bytes.Repeat([]byte("0"), 64)) + "\n"))
	ring := Keyring{Identities: []Identity{plainKey{}}}
	f.Fuzz(func(t *testing.T, b []byte) {
		_, _, err := openFormat(b, func(s []Stanza, ok func([]byte) bool) ([]byte, error) { return ring.unwrap(t.Context(), s, ok) })
		known(t, err)
	})
}

func FuzzHeader(f *testing.F) {
	k, _ := testKeys(f)
	_, head, err := k.newHeader(kindPoint, "s", []byte("enc"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(head)
	f.Add([]byte("holdfast\xff\xff\xff\xff{}"))
	f.Fuzz(func(t *testing.T, b []byte) {
		_, head, rest, err := decodeHeader(b, kindPoint)
		known(t, err)
		if err == nil && len(head)+len(rest) != len(b) {
			t.Errorf("%d bytes became %d and %d", len(b), len(head), len(rest))
		}
		_, _, err = cutSection(b)
		known(t, err)
		_, _, err = packTail(b, int64(len(b)))
		known(t, err)
		_, err = k.decodeIndex(b)
		known(t, err)
		_, err = k.decodePack(kindData, [32]byte{}, int64(len(b)), b, b)
		known(t, err)
		_, err = k.decodeManifest("20261123t084735.123z-9f86d081884c7d65", b, k.openSession)
		known(t, err)
		known(t, k.openObject(kindSession, "sessions/x", b))
	})
}

func FuzzPage(f *testing.F) {
	items := []byte{pageItems, 2}
	items = appendItem(items, Item{Path: "a", Size: 3, Meta: json.RawMessage("{}"), content: content{refs: []ref{{plain: 3}}}})
	items = appendItem(items, Item{Path: "b", BlockSize: 4096, content: content{depth: 1, refs: []ref{{plain: 40}}}})
	f.Add(items)
	f.Add(appendNode([]byte{pageNodes, 1}, node{last: "z", page: ref{plain: 100}, items: 9}))
	f.Add(appendRefs([]byte{pageRefs}, []ref{{plain: 1}, {plain: 2}}))
	f.Add([]byte{pageItems, 0xff, 0xff, 0xff, 0xff, 0x7f})
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := decodePage(b)
		known(t, err)
		for i, it := range p.items {
			if err := it.valid(); err != nil {
				t.Error(err)
			}
			if i > 0 && ComparePaths(p.items[i-1].Path, it.Path) >= 0 {
				t.Errorf("%q after %q", it.Path, p.items[i-1].Path)
			}
		}
		_, err = decodeRefPage(b)
		known(t, err)
	})
}

func FuzzIndex(f *testing.F) {
	dir := appendDirectory(nil, []packEntry{{ref: ref{plain: 5}, off: 10, stored: 50}})
	one := append([]byte{1, 1, 's', 1, 'e', 1}, make([]byte, 32)...)
	one = append(one, 'd', 100)
	one = append(one, make([]byte, 32)...)
	one = append(one, 0, 0)
	f.Add(append(one, dir...))
	f.Add([]byte{0, 0})
	f.Add(append([]byte{1}, make([]byte, 34)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		packs, err := decodeIndexSection(b, author{holder: true})
		known(t, err)
		for _, p := range packs {
			if len(p.salt) != 32 || p.kind == "" {
				t.Errorf("pack without salt or kind")
			}
			for _, e := range p.entries {
				if int64(e.off)+int64(e.stored) > p.size || e.plain > maxData {
					t.Errorf("chunk outside its pack: %+v", e)
				}
			}
		}
		if err == nil {
			newIndex(func(a author) bool { return a.holder }).add("o", packs)
		}
		_, err = decodePackSums(b)
		known(t, err)
	})
}

func FuzzContent(f *testing.F) {
	id := PointID("20261123t084735.123z-9f86d081884c7d65")
	b, err := json.Marshal(manifestContent{Point: Point{ID: id}, Runs: []manifestRun{{Page: string(bytes.Repeat([]byte("ab"), 32)), Plain: 3}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte(`{"id":"x","runs":[{}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, roots, err := decodeContent(id, b)
		known(t, err)
		if err == nil && p.ID != id {
			t.Errorf("id %q", p.ID)
		}
		for _, r := range roots {
			if r.page.plain > maxData {
				t.Errorf("root page of %d bytes", r.page.plain)
			}
		}
	})
}

// Frames of any content, under the right key: what a writer with the keys
// can do to a reader.
func FuzzFrame(f *testing.F) {
	k, _ := testKeys(f)
	aead := newAEAD(make([]byte, 32))
	d := newDecoder(1)
	ids := k.newIdentifier()
	bomb, err := zstd.NewWriter(nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(append([]byte{compressionZstd}, bomb.EncodeAll(make([]byte, 64<<20), nil)...), uint32(maxData))
	f.Add(append([]byte{compressionSnappy}, s2.EncodeSnappy(nil, make([]byte, 64<<20))...), uint32(maxData))
	f.Add(append([]byte{compressionSnappy}, s2.EncodeSnappy(nil, make([]byte, 1000))...), uint32(1000))
	f.Add([]byte{compressionSnappy, 0xff, 0xff, 0x3f, 0}, uint32(1<<20-1))
	f.Add([]byte{compressionNone, 'x'}, uint32(1))
	f.Add([]byte{9, 'x'}, uint32(1))
	f.Add([]byte{}, uint32(0))
	f.Fuzz(func(t *testing.T, inner []byte, plain uint32) {
		var r ref
		r.plain = plain
		frame := aead.Seal(nil, nil, inner, r.id[:])
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		b, err := openFrame(aead, d, ids, kindData, r, frame, nil)
		runtime.ReadMemStats(&after)
		known(t, err)
		if err == nil {
			t.Errorf("%d bytes have the id that was all zeroes", len(b))
		}
		if took := after.TotalAlloc - before.TotalAlloc; took > 16<<20 {
			t.Errorf("a frame of %d bytes, announced as %d, took %d bytes of memory", len(frame), plain, took)
		}
	})
}

func FuzzPointID(f *testing.F) {
	f.Add("20261123t084735.123z-9f86d081884c7d65")
	f.Add("20261399t084735.123z-9f86d081884c7d65")
	f.Add("../../format")
	f.Fuzz(func(t *testing.T, s string) {
		at, err := PointID(s).Time()
		if err != nil {
			return
		}
		if got := at.Format(pointIDTime); got != s[:len(got)] || len(s) != len(newPointID(at)) {
			t.Errorf("%q has the time %v", s, at)
		}
		if id, ok := pointIDOf(pointKey(PointID(s))); !ok || string(id) != s {
			t.Errorf("%q does not survive being a key", s)
		}
	})
}

// ComparePaths is the order in which a sorted walk of a tree meets its
// paths.
func FuzzComparePaths(f *testing.F) {
	f.Add("a", "a/b", "a-b")
	f.Add("", "/", "a//b")
	f.Fuzz(func(t *testing.T, a, b, c string) {
		segments := func(x, y string) int {
			return slicesCompare(bytes.Split([]byte(x), []byte("/")), bytes.Split([]byte(y), []byte("/")))
		}
		for _, p := range [][2]string{{a, b}, {b, c}, {a, c}} {
			if x, y := sign(ComparePaths(p[0], p[1])), sign(segments(p[0], p[1])); x != y {
				t.Errorf("compare %q, %q: %d, by segments %d", p[0], p[1], x, y)
			}
		}
	})
}

func slicesCompare(x, y [][]byte) int {
	for i := range min(len(x), len(y)) {
		if c := bytes.Compare(x[i], y[i]); c != 0 {
			return c
		}
	}
	return len(x) - len(y)
}

func sign(n int) int { return min(1, max(-1, n)) }
