package backup

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/providertest"
)

// What is fuzzed here is what stands behind the seals and signatures: whoever
// holds a writer's keys can put anything there.

const fuzzedPoint = PointID("20261123t084735.123z-9f86d081884c7d65")

// fuzzedObject seals sections and signs the object.
func fuzzedObject(t *testing.T, k *keys, kind, key string, sections ...fuzzedSection) []byte {
	t.Helper()
	h, head, err := k.newHeader(kind, string(fuzzedPoint), nil)
	if err != nil {
		t.Fatal(err)
	}
	b := slices.Clone(head)
	for _, s := range sections {
		b = appendSection(b, sealSection(nil, s.secret, h, head, s.name, key, s.plain))
	}
	return k.signObject(kind, key, b)
}

type fuzzedSection struct {
	name          string
	secret, plain []byte
}

// Headers of any JSON.
func FuzzHeaderText(f *testing.F) {
	k, _ := testKeys(f)
	_, head, err := k.newLinkedHeader(kindPoint, "s", []byte("enc"), []link{{ID: fuzzedPoint, Sum: make([]byte, 32)}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(head[12:])
	f.Add([]byte(`{"v":1,"kind":"point","prev":[` + strings.Repeat("{},", 5000) + `{}]}`))
	f.Add([]byte(`{"v":1,"kind":"point","gen":2}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		b := append(binary.BigEndian.AppendUint32([]byte(objectMagic), uint32(len(text))), text...)
		bounded(t, 1<<20+16*uint64(len(b)), func() {
			h, _, _, err := decodeHeader(b, kindPoint)
			known(t, err)
			if err != nil {
				return
			}
			enc, generation := splitEnc(h.Enc)
			if again := joinEnc(enc, generation); !bytes.Equal(again, h.Enc) || generation < 1 || generation > maxGenerations {
				t.Errorf("session key of generation %d: %d bytes became %d", generation, len(h.Enc), len(again))
			}
			_, err = k.openSession(h.Enc)
			known(t, err)
		})
	})
}

// Manifests with any sections.
func FuzzManifest(f *testing.F) {
	k, _ := testKeys(f)
	objects := k.appendLogNeeds(encodePackSums([]packSum{{kind: kindMeta, size: 9}}), []LogPosition{{"x", 1, 2, 3}})
	content, err := encodeContent(Point{ID: fuzzedPoint, Name: "n", Kind: "k", Writer: "w", Tags: map[string]string{"a": "b"}}, []node{{page: ref{plain: 9}, items: 1}})
	if err != nil {
		f.Fatal(err)
	}
	secret := make([]byte, 32)
	f.Add(objects, content)
	f.Add(encodePackSums(nil), content)
	f.Add([]byte{1}, []byte(`{"id":"x"}`))
	f.Fuzz(func(t *testing.T, objects, content []byte) {
		b := fuzzedObject(t, k, kindPoint, pointKey(fuzzedPoint), fuzzedSection{"objects", k.index, objects}, fuzzedSection{"content", secret, content})
		bounded(t, 1<<20+64*uint64(len(b)), func() {
			m, err := k.decodeManifest(fuzzedPoint, b, func([]byte) ([]byte, error) { return secret, nil })
			known(t, err)
			if err == nil && (m.point.ID != fuzzedPoint || m.point.Writer != "w" || m.point.Damaged != "" || m.point.Sealed) {
				t.Errorf("%+v", m.point)
			}
			_, err = k.decodeManifest(fuzzedPoint, b, func([]byte) ([]byte, error) { return nil, ErrSealed })
			if err != ErrSealed {
				known(t, err)
			}
		})
	})
}

// Packs with any directory, and any frames.
func FuzzPack(f *testing.F) {
	k, _ := testKeys(f)
	f.Add([]byte("0123456789"), appendDirectory(nil, []packEntry{{ref: ref{plain: 5}, off: 0, stored: frameOverhead}}))
	f.Add([]byte{}, []byte{0xff, 0xff, 0xff, 0xff, 0x7f})
	f.Fuzz(func(t *testing.T, frames, dir []byte) {
		h, head, err := k.newHeader(kindData, "s", nil)
		if err != nil {
			t.Fatal(err)
		}
		sealed := sealSection(nil, k.index, h, head, "directory", "", dir)
		b := binary.BigEndian.AppendUint32(slices.Concat(head, frames, sealed), uint32(len(sealed)))
		bounded(t, 1<<20+16*uint64(len(b)), func() {
			rec, err := k.decodePack(kindData, [32]byte{}, int64(len(b)), b, b)
			known(t, err)
			for _, e := range rec.entries {
				if int64(e.off)+int64(e.stored) > int64(len(b)) || e.plain > maxData || e.stored < frameOverhead {
					t.Errorf("chunk outside its pack: %+v", e)
				}
			}
		})
	})
}

// Indexes by a holder and by a writer who is none, with any attributes of a
// pack and any marks of its chunks.
func FuzzIndexAttributes(f *testing.F) {
	one := packRecord{kind: kindData, size: 1000, salt: make([]byte, 32), session: "s", by: author{name: "other"}, locked: 7,
		entries: []packEntry{{ref: ref{id: chunkID{1}, plain: 5}, stored: 50}, {ref: ref{id: chunkID{2}, plain: 5}, off: 50, stored: 50}}}
	section := func(attributes []byte) []byte {
		b := slices.Concat([]byte{1, 1, 's', 0, 1}, make([]byte, 32), []byte{'d'}, binary.AppendUvarint(nil, 1000), make([]byte, 32), []byte{0})
		return appendDirectory(appendBytes(b, attributes), one.entries)
	}
	f.Add(section(packAttributes(author{holder: true}, one)))
	one.by.holder, one.bad = true, []chunkID{{2}}
	f.Add(section(packAttributes(author{holder: true}, one)))
	f.Add(section([]byte{attributeBad, 2, 1, 200}))
	f.Add(section([]byte{attributeLock, 0, 99, 1, 1}))
	f.Fuzz(func(t *testing.T, plain []byte) {
		for _, by := range []author{{holder: true}, {name: "sealed"}} {
			bounded(t, 1<<20+64*uint64(len(plain)), func() {
				packs, err := decodeIndexSection(plain, by)
				known(t, err)
				for _, p := range packs {
					if !by.holder && (p.by != by || len(p.bad) > 0) {
						t.Errorf("who is no holder says that %q says that %d chunks are damaged", p.by.name, len(p.bad))
					}
				}
				if err == nil {
					x := newIndex(func(a author) bool { return a.holder })
					x.add("o", packs)
					for _, p := range packs {
						x.badIn(p.sum)
					}
				}
			})
		}
	})
}

// Starts of branches, with any origin and history.
func FuzzBranch(f *testing.F) {
	l := testLog(f)
	o := origin{name: "fuzz", branch: 2, parent: 1, at: 9, history: l.r.keys.logContent([]byte("history"))}
	good, err := l.sealBranch(o, []byte("history"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good, o.encode(), []byte("history"))
	f.Add([]byte{}, []byte{}, []byte{})
	f.Add([]byte{}, origin{name: "fuzz", branch: 2, parent: 2}.encode(), []byte("x"))
	f.Fuzz(func(t *testing.T, whole, plain, history []byte) {
		k, key := l.r.keys, l.startKey(2)
		secret, enc, _, err := l.session()
		if err != nil {
			t.Fatal(err)
		}
		h, head, err := k.newHeader(kindBranch, "", enc)
		if err != nil {
			t.Fatal(err)
		}
		b := appendSection(slices.Clone(head), sealSection(nil, k.index, h, head, "branch", key, plain))
		b = appendSection(b, sealSection(nil, secret, h, head, "history", key, history))
		bounded(t, 2<<20+16*uint64(len(b)+len(whole)), func() {
			for _, b := range [][]byte{whole, k.signObject(kindBranch, key, b)} {
				o, read, err := l.openBranch(b, key)
				known(t, err)
				if err != nil {
					continue
				}
				text, err := read()
				known(t, err)
				if err == nil && k.logContent(text) != o.history {
					t.Errorf("history of %d bytes", len(text))
				}
			}
		})
	})
}

// Objects below keys/, as they are and completed by the holder of the roots.
func FuzzGeneration(f *testing.F) {
	first, second := bytes.Repeat([]byte{1}, 32), bytes.Repeat([]byte{2}, 32)
	ring := Keyring{Recipients: []Recipient{plainKey{}}, Identities: []Identity{plainKey{}}}
	stanzas, err := ring.wrap(context.Background(), second)
	if err != nil {
		f.Fatal(err)
	}
	before, self := authorityFromRoot(first, 1), authorityFromRoot(second, 2)
	good, err := newGeneration("id", time.Unix(0, 0), [][]byte{first}, second, stanzas)
	if err != nil {
		f.Fatal(err)
	}
	base, err := keysFromRoot(first)
	if err != nil {
		f.Fatal(err)
	}
	base.format.ID = "id"
	f.Add(good, []byte{})
	f.Add(good, first)
	f.Add(good, append(first, 0))
	f.Add([]byte(`{"format":"holdfast keys","v":1,"gen":2,"authority":"","stanzas":[{}]}`+"\n0 0 0\n"), []byte{})
	f.Fuzz(func(t *testing.T, b, old []byte) {
		look := func(b []byte) {
			o, err := decodeGeneration(b)
			known(t, err)
			if err != nil {
				return
			}
			o.follows(before.authorities[1])
			known(t, (&keys{trust: trustIn(maps.Clone(before.authorities))}).adopt(o))
			roots, err := o.open(func(s []Stanza, ok func([]byte) bool) ([]byte, error) { return ring.unwrap(t.Context(), s, ok) })
			known(t, err)
			if err != nil {
				return
			}
			if len(roots) != o.Generation || !bytes.Equal(roots[0], first) {
				t.Errorf("%d roots of generation %d", len(roots), o.Generation)
			}
			k, err := keysFromRoot(first)
			if err != nil {
				t.Fatal(err)
			}
			k.format = base.format
			known(t, k.addGenerations(roots, o))
		}
		bounded(t, 4<<20+16*uint64(len(b)+len(old)), func() {
			look(b)
			o, err := decodeGeneration(b)
			if err != nil {
				return
			}
			if len(old) > 0 {
				o.Old = newAEAD(oldKey(second, o.Generation)).Seal(nil, nil, old, oldAAD(o.ID))
			}
			o.Stanzas = stanzas
			line, err := json.Marshal(o)
			if err != nil {
				t.Fatal(err)
			}
			look(keysLines(line, second, before, self))
		})
	})
}

// Texts of any content, signed by a holder.
func FuzzCheckpoint(f *testing.F) {
	k, _ := testKeys(f)
	sign := func(text string) []byte {
		b, err := note.Sign(&note.Note{Text: text}, checkpointSigner{k.format.ID, k.generation, k.authority})
		if err != nil {
			return nil // note refuses it
		}
		return b
	}
	head := checkpointTitle + "\n" + k.format.ID + "\n2026-11-23T08:47:35Z\n1\n"
	good := head + string(fuzzedPoint) + " " + strings.Repeat("ab", 32) + "\n"
	f.Add(good, sign(good))
	f.Add(head+string(fuzzedPoint)+" -\n", []byte{})
	f.Add(head+strings.Repeat("x", 70<<10)+"\n", []byte{})
	f.Add("\n", []byte("\n\xe2\x80\x94 holdfast/x AAAA\n"))
	f.Fuzz(func(t *testing.T, text string, raw []byte) {
		signed := sign(text)
		bounded(t, 1<<20+32*uint64(len(signed)+len(raw)), func() {
			for _, b := range [][]byte{signed, raw} {
				links, err := k.openCheckpoint(b)
				known(t, err)
				for _, l := range links {
					if _, terr := l.ID.Time(); err == nil && (terr != nil || len(l.Sum) != 32) {
						t.Errorf("%+v", l)
					}
				}
			}
		})
	})
}

// Records of what was forgotten, and what copies announce.
func FuzzRecord(f *testing.F) {
	f.Add([]byte(`{"sum":"AAAA","at":"2026-11-23T08:47:35Z","prev":[{"id":"20261123t084735.123z-9f86d081884c7d65","sum":"AAAA"}]}`))
	f.Add([]byte(`{"copies":["20261123t084735.123z-9f86d081884c7d65"]}`))
	f.Add([]byte(`{"copies":[` + strings.Repeat(`"",`, 1000) + `""]}`))
	f.Add([]byte(`{"prev":[` + strings.Repeat(`{},`, 17) + `{}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		bounded(t, 1<<20+64*uint64(len(b)), func() {
			r, err := decodeForgotten(b)
			known(t, err)
			if err == nil && len(r.Prev) > maxLinks {
				t.Errorf("%d links", len(r.Prev))
			}
			ids, err := decodeCopied(b)
			known(t, err)
			for _, id := range ids {
				if _, terr := id.Time(); terr != nil {
					t.Error(terr)
				}
			}
		})
	})
}

// Entries of the cache: whoever has the key of the cache has written them, and
// that may have been another version of this program.
func FuzzRecall(f *testing.F) {
	k, _ := testKeys(f)
	c, err := Config{Store: providertest.NewMemory(), Writer: "fuzz", Keyring: Keyring{Recipients: []Recipient{plainKey{}}, Identities: []Identity{plainKey{}}}}.withDefaults()
	if err != nil {
		f.Fatal(err)
	}
	content, err := encodeContent(Point{ID: fuzzedPoint, Writer: "w"}, []node{{page: ref{plain: 9}, items: 1}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(append(make([]byte, 32), content...))
	f.Add(make([]byte, 31))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := newRepository(c, k)
		r.cache = newCache(r, &ramShelf{})
		for _, name := range []string{cachedOwn(fuzzedPoint), cachedManifest(provider.Info{Key: pointKey(fuzzedPoint), Version: "1"}), indexKey([32]byte{})} {
			r.cache.put(name, b)
		}
		bounded(t, 1<<20+64*uint64(len(b)), func() {
			o, ok := r.recall(fuzzedPoint)
			if ok && (o.point.ID != fuzzedPoint || !bytes.Equal(o.sum[:], b[:32])) {
				t.Errorf("%+v", o)
			}
			_, err := r.decodeManifest(fuzzedPoint, b, provider.Info{})
			known(t, err)
			_, err = r.decodeIndexObject(indexKey([32]byte{}), b)
			known(t, err)
		})
	})
}

// leaky gives what it is given.
type leaky struct{}

func (leaky) UnwrapKey(_ context.Context, _ string, wrapped []byte, _ provider.EncryptionContext) ([]byte, error) {
	return wrapped, nil
}

// Bodies of stanzas.
func FuzzStanza(f *testing.F) {
	f.Add([]byte(`{"v":1,"context":{"repository":"shop"},"wrapped":"AAAA"}`))
	f.Add([]byte(`{"v":2}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		s := Stanza{Type: "kms", Recipient: "key", Body: body}
		if s.valid() != nil {
			return
		}
		bounded(t, 1<<20+64*uint64(len(body)), func() {
			_, err := kmsIdentity{"kms", leaky{}, "key"}.Unwrap(t.Context(), s)
			known(t, err)
		})
	})
}
