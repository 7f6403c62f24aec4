package backup

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"runtime"
	"strings"
	"testing"
)

// allocated is how much memory f takes in all, which is more than it ever
// holds at once.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// Whoever holds a writer's keys can seal anything. What a reader takes in
// memory is bounded by what it has read, whatever numbers stand in it.
func TestHostileSizes(t *testing.T) {
	huge := binary.AppendUvarint(nil, 1<<60)
	entries := binary.AppendUvarint(nil, 1<<32) // of a directory, and none of them there
	onePack := slicesConcat([]byte{1, 1, 's', 1, 'e', 1}, make([]byte, 32), []byte{'d', 100}, make([]byte, 32), []byte{0, 0})
	const id = PointID("20261123t084735.123z-9f86d081884c7d65")
	content := func(fields string) []byte { return fmt.Appendf(nil, `{"id":%q,%s}`, id, fields) }
	many := func(what string, n int) []byte {
		return content(fmt.Sprintf(`%q:[%s{}]`, what, strings.Repeat("{},", n)))
	}
	index := func(b []byte) error { _, err := decodeIndexSection(b, author{holder: true}); return err }
	page := func(b []byte) error { _, err := decodePage(b); return err }
	manifest := func(b []byte) error { _, _, err := decodeContent(id, b); return err }
	head := func(text string) []byte {
		return append(binary.BigEndian.AppendUint32([]byte(objectMagic), uint32(len(text))), text...)
	}
	header := func(b []byte) error { _, _, _, err := decodeHeader(b, kindPoint); return err }
	decode := map[string]func(*decoder){
		"packs": func(d *decoder) { d.packSums() }, "logs": func(d *decoder) { d.logNeeds() }, "directory": func(d *decoder) { d.directory(1 << 30) }}
	by := func(what string) func([]byte) error {
		return func(b []byte) error { d := &decoder{b: b}; decode[what](d); return d.end() }
	}
	for name, c := range map[string]struct {
		b      []byte
		decode func([]byte) error
		limit  uint64 // bytes
	}{
		"index: sessions":             {huge, index, 1 << 16},
		"index: packs":                {slicesConcat([]byte{0}, huge), index, 1 << 16},
		"index: chunks":               {slicesConcat(onePack, entries), index, 1 << 16},
		"index: length of attributes": {slicesConcat(onePack[:len(onePack)-1], huge), index, 1 << 16},
		"page: items":                 {slicesConcat([]byte{pageItems}, huge), page, 1 << 16},
		"page: nodes":                 {slicesConcat([]byte{pageNodes}, huge), page, 1 << 16},
		"page: length of a path":      {slicesConcat([]byte{pageItems, 1}, huge, make([]byte, 64)), page, 1 << 16},
		"page: duplicate paths":       {slicesConcat([]byte{pageItems, 2}, appendItem(nil, Item{Path: "a"}), appendItem(nil, Item{Path: "a"})), page, 1 << 16},
		"page: a zero in a path":      {slicesConcat([]byte{pageItems, 1}, appendItem(nil, Item{Path: "a\x00b"})), page, 1 << 16},
		"page: a very long path":      {slicesConcat([]byte{pageItems, 1}, appendItem(nil, Item{Path: strings.Repeat("a", maxPath+1)})), page, 1 << 16},
		"page: size of an item":       {slicesConcat([]byte{pageItems, 1}, appendItem(nil, Item{Path: "a", Size: 1 << 62})), page, 1 << 16},
		"list: refs":                  {slicesConcat([]byte{pageRefs}, huge), func(b []byte) error { _, err := decodeRefPage(b); return err }, 1 << 16},
		"packs of a manifest":         {huge, func(b []byte) error { _, err := decodePackSums(b); return err }, 1 << 16},
		"awaited":                     {huge, func(b []byte) error { _, err := decodeSessions(b); return err }, 1 << 16},
		"verified":                    {huge, func(b []byte) error { _, err := decodeVerified(b); return err }, 1 << 16},
		"header: length":              {append([]byte(objectMagic), 0xff, 0xff, 0xff, 0xff, '{', '}'), header, 1 << 12},
		"header: links":               {head(`{"v":1,"kind":"point","prev":[` + strings.Repeat("{},", 1<<20) + "{}]}"), header, 1 << 12},
		"header: salt in numbers":     {head(`{"v":1,"kind":"point","salt":[` + strings.Repeat("1,", 1<<20) + "1]}"), header, 1 << 12},
		"header: nesting":             {head(`{"v":1,"kind":"point","x":` + strings.Repeat("[", 1<<20)), header, 1 << 12},
		"section: length":             {[]byte{0xff, 0xff, 0xff, 0xff, 1}, func(b []byte) error { _, _, err := cutSection(b); return err }, 1 << 12},
		"pack: length of directory":   {[]byte{1, 0xff, 0xff, 0xff, 0xff}, func(b []byte) error { _, _, err := packTail(b, 5); return err }, 1 << 12},
		"pack: chunks":                {entries, by("directory"), 1 << 12},
		"needs of logs":               {huge, by("logs"), 1 << 12},
		"interval: frames":            {hugeInterval(t), func(b []byte) error { _, err := decodeInterval(b); return err }, 1 << 12},
		"origin: length of a name":    {slicesConcat(huge, make([]byte, 64)), func(b []byte) error { _, err := decodeOrigin(b); return err }, 1 << 12},
		"forgotten: links":            {[]byte(`{"prev":[` + strings.Repeat("{},", 1<<22) + "{}]}"), func(b []byte) error { _, err := decodeForgotten(b); return err }, 1 << 12},
		"copies":                      {[]byte(`{"copies":[` + strings.Repeat(`"",`, 1<<22) + `""]}`), func(b []byte) error { _, err := decodeCopied(b); return err }, 1 << 12},
		"manifest: runs":              {many("runs", 1<<22), manifest, 1 << 20},
		"manifest: externals":         {many("externals", 1<<22), manifest, 1 << 20},
		"manifest: warnings":          {many("warnings", 1<<22), manifest, 1 << 20},
		"manifest: tags":              {content(`"tags":{` + strings.Repeat(`"a":"",`, 1<<22) + `"b":""}`), manifest, 1 << 20},
		"manifest: nesting":           {content(`"x":` + strings.Repeat("[", 1<<20)), manifest, 1 << 22},
	} {
		var err error
		took := allocated(func() { err = c.decode(c.b) })
		if err == nil {
			t.Errorf("%s: accepted", name)
		}
		known(t, err)
		if took > c.limit {
			t.Errorf("%s: %d bytes took %d of memory, more than %d", name, len(c.b), took, c.limit)
		}
	}
}

// hugeInterval says that it has as many frames as fit into a segment, and ends
// before them.
func hugeInterval(t *testing.T) []byte {
	b := interval{name: "x", span: span{1, 0, MaxSegment}}.encode()
	if b[len(b)-1] != 0 {
		t.Fatal("no frames were wanted")
	}
	return binary.AppendUvarint(b[:len(b)-1], frameCount(span{1, 0, MaxSegment}))
}

// What is well formed takes a small multiple of its length, at the worst.
func TestMemoryOfLists(t *testing.T) {
	const n = 50_000
	dir := binary.AppendUvarint(nil, n)
	for range n {
		dir = append(dir, make([]byte, 32)...)
		dir = append(dir, 0, frameOverhead, 0)
	}
	head := slicesConcat([]byte{1, 1, 's', 1, 'e', 1}, make([]byte, 32), []byte{'d', 100}, make([]byte, 32), []byte{0, 0})
	index := slicesConcat(head, dir)
	took := allocated(func() {
		packs, err := decodeIndexSection(index, author{holder: true})
		if err != nil {
			t.Error(err)
			return
		}
		newIndex(func(author) bool { return true }).add("o", packs)
	})
	if took > 12*uint64(len(index)) {
		t.Errorf("an index of %d bytes took %d", len(index), took)
	}
	paths := binary.AppendUvarint([]byte{pageItems}, n)
	for i := range n {
		paths = appendItem(paths, Item{Path: fmt.Sprintf("%06x", i)})
	}
	took = allocated(func() {
		if _, err := decodePage(paths); err != nil {
			t.Error(err)
		}
	})
	if took > 64*uint64(len(paths)) { // a page has at most 1 MiB
		t.Errorf("a page of %d bytes took %d", len(paths), took)
	}
}

func slicesConcat(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

func FuzzState(f *testing.F) {
	f.Add(encodeVerified([]verdictOnPack{{damaged: true}, {}}))
	f.Add(encodeSessions([]PointID{"20261123t084735.123z-9f86d081884c7d65"}))
	f.Add(encodePackSums([]packSum{{kind: kindMeta, size: 9}}))
	f.Add([]byte(`{"format":"holdfast keys","v":1,"gen":2}` + "\n0 0 0\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		packs, err := decodeVerified(b)
		known(t, err)
		if err == nil && len(encodeVerified(packs)) > len(b) {
			t.Errorf("%d bytes became %d packs", len(b), len(packs))
		}
		ids, err := decodeSessions(b)
		known(t, err)
		for _, id := range ids {
			if _, terr := id.Time(); err == nil && terr != nil {
				t.Error(terr)
			}
		}
		_, err = decodePackSums(b)
		known(t, err)
		_, err = decodeGeneration(b)
		known(t, err)
	})
}

func FuzzCertificate(f *testing.F) {
	k, _ := testKeys(f)
	good := k.as("w")
	f.Add(good.cert.Body, good.cert.Sig)
	f.Add([]byte(`{"v":1,"role":"holder"}`), make([]byte, 64))
	f.Fuzz(func(t *testing.T, body, sig []byte) {
		by, err := good.author(&signedCertificate{Body: body, Sig: sig})
		known(t, err)
		if err == nil && !bytes.Equal(body, good.cert.Body) {
			t.Errorf("%q was certified as %q", body, by.name)
		}
	})
}

func FuzzCredential(f *testing.F) {
	_, format := testKeys(f)
	b, err := json.Marshal(credentialText{Kind: credentialKind, Version: 1, Format: format, Writer: make([]byte, 32), Seed: make([]byte, 32), Cert: &signedCertificate{}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte(`{"holdfast":"writer credential","v":1}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := ParseCredential(b)
		if err == nil && !writerPattern.MatchString(c.name) {
			t.Errorf("name %q", c.name)
		}
		if err != nil && len(b) > 60 && strings.Contains(err.Error(), string(b)) {
			t.Error("the error holds the credential")
		}
	})
}
