package main

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/hpke"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/klauspost/compress/zstd"
)

// forger makes the packs of somebody who has the keys.
type forger struct {
	*repository
	dir string
}

func newForger(t testing.TB) forger {
	r := newRepository()
	root := make([]byte, 32)
	r.writer = derive(root, nil, "writer")
	r.index = derive(r.writer, nil, "index")
	private, err := hpke.MLKEM768P256().DeriveKeyPair(derive(root, nil, "key pair"))
	if err != nil {
		t.Fatal(err)
	}
	r.private = []hpke.PrivateKey{private}
	if r.zstd, err = zstd.NewReader(nil, zstd.WithDecoderMaxMemory(8<<20)); err != nil {
		t.Fatal(err)
	}
	return forger{r, t.TempDir()}
}

// again is the same with nothing stored.
func (f forger) again(t testing.TB) forger {
	r := newRepository()
	r.writer, r.index, r.private, r.zstd = f.writer, f.index, f.private, f.zstd
	return forger{r, t.TempDir()}
}

func sealWith(t testing.TB, key, plain, ad []byte) []byte {
	b, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	a, err := cipher.NewGCMWithRandomNonce(b)
	if err != nil {
		t.Fatal(err)
	}
	return a.Seal(nil, nil, plain, ad)
}

// put stores an object and returns its key, which ends in its hash.
func (f forger) put(t testing.TB, prefix string, b []byte) string {
	sum := sha256.Sum256(b)
	key := prefix + hex.EncodeToString(sum[:])
	p := filepath.Join(f.dir, hex.EncodeToString(sum[:]))
	if err := os.WriteFile(p, b, 0o600); err != nil {
		t.Fatal(err)
	}
	f.files[key] = file{p, 0}
	return key
}

// page makes a chunk of metadata known, and returns its id.
func (f forger) page(t testing.TB, form byte, plain, stored []byte) (id [32]byte) {
	m := hmac.New(sha256.New, derive(f.writer, nil, "meta chunk id"))
	m.Write(plain)
	copy(id[:], m.Sum(nil))
	key := make([]byte, 32)
	frame := sealWith(t, key, append([]byte{form}, stored...), id[:])
	pack := f.put(t, "meta/", frame)
	f.chunks[id] = append(f.chunks[id], place{pack, key, 0, uint64(len(frame)), uint64(len(plain))})
	return id
}

// What the reader is given may be anything: it does not crash, and it does not
// run for ever.
func FuzzReader(f *testing.F) {
	k := newForger(f)
	leaf := append([]byte{1, 1, 1, 'a', 2, '{', '}', 0, 0, 0}, 0)
	f.Add([]byte("holdfast\x00\x00\x00\x02{}rest"), []byte{1}, leaf)
	f.Add([]byte("holdfast\xff\xff\xff\xff{}"), binary.AppendUvarint(nil, 1<<60), []byte{2, 0xff, 0xff, 0xff, 0x7f})
	f.Add([]byte(`{"gen":2,"stanzas":[{"Type":"../x"}]}`+"\nx"), append(append([]byte{1}, make([]byte, 32)...), 0, 0xff, 0xff, 0xff, 0xff, 0x7f, 5), []byte{3, 1})
	f.Fuzz(func(t *testing.T, object, dir, page []byte) {
		k := k.again(t)
		_, _, _, _ = cut(object)
		for _, prefix := range []string{"format", "keys/", "points/", "meta/", "logs/"} {
			key := k.put(t, prefix, object)
			if err := k.pack(key); err == nil {
				t.Errorf("%s is a pack", key)
			}
		}
		_, _ = k.point(filepath.Base(k.under("points/")[0]))
		k.keyObjects()
		if _, err := k.roots(make([]byte, 32)); err == nil {
			t.Error("it is a root key")
		}
		if err := k.wrapped(filepath.Join(k.dir, "out")); err == nil {
			out, err := filepath.Glob(filepath.Join(k.dir, "*", "*"))
			for _, p := range out {
				if filepath.Dir(p) != filepath.Join(k.dir, "out") || err != nil {
					t.Errorf("%s was written, %v", p, err)
				}
			}
		}

		enc, _, err := hpke.NewSender(k.private[0].PublicKey(), hpke.HKDFSHA256(), hpke.AES256GCM(), []byte("holdfast v1 session"))
		if err != nil {
			t.Fatal(err)
		}
		h := header{V: 1, Kind: "meta", Salt: make([]byte, 32), Enc: enc}
		text, err := json.Marshal(h)
		if err != nil {
			t.Fatal(err)
		}
		head := slices.Concat([]byte("holdfast"), binary.BigEndian.AppendUint32(nil, uint32(len(text))), text)
		sum := sha256.Sum256(head)
		sealed := sealWith(t, derive(k.index, h.Salt, "meta directory"), dir, append(sum[:], "directory\x00"...))
		_ = k.pack(k.put(t, "meta/", binary.BigEndian.AppendUint32(append(head, sealed...), uint32(len(sealed)))))
		for id := range k.chunks {
			_, _ = k.chunk("meta", id)
		}

		items := map[string]item{}
		_ = k.walk(k.page(t, 0, page, page), 0, map[[32]byte]bool{}, items)
		for _, it := range items {
			_ = k.content(&room{&bytes.Buffer{}, 1 << 20}, it.depth, it.refs)
		}
		_ = k.content(&room{&bytes.Buffer{}, 1 << 20}, 1, [][32]byte{k.page(t, 0, page, page)})
	})
}

// A small tree that is endless to walk, and a frame that is endless to
// decompress.
func TestReaderHostile(t *testing.T) {
	k := newForger(t)
	id := k.page(t, 0, []byte{1, 1, 1, 'a', 0, 0, 0, 0, 0}, []byte{1, 1, 1, 'a', 0, 0, 0, 0, 0})
	for range 14 {
		page := []byte{2, 16}
		for range 16 {
			page = append(append(append(page, 1, 'a'), id[:]...), 9, 1)
		}
		id = k.page(t, 0, page, page)
	}
	items := map[string]item{}
	if err := k.walk(id, 0, map[[32]byte]bool{}, items); err == nil {
		t.Error("a tree with the same page again and again was walked")
	}
	list := k.page(t, 0, []byte{3, 0}, []byte{3, 0})
	for range 5 {
		page := []byte{3, 16}
		for range 16 {
			page = append(append(page, list[:]...), 1)
		}
		list = k.page(t, 0, page, page)
	}
	if err := k.content(&room{&bytes.Buffer{}, 1 << 20}, 6, [][32]byte{list}); err == nil {
		t.Error("a list with the same page again and again was read")
	}
	w, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	huge := make([]byte, 64<<20)
	bomb := k.page(t, 1, huge, w.EncodeAll(huge, nil))
	if b, err := k.chunk("meta", bomb); err == nil {
		t.Errorf("%d bytes were decompressed", len(b))
	}
}
