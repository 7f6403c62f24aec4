package backup

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"sync"
)

// An index object tells for a number of packs what is in them, so that a
// reader finds chunks and a writer knows what it need not store. It holds
// nothing that is not in the packs, too.

// encodeIndex returns the bytes of an index object.
func (k *keys) encodeIndex(session string, packs []packRecord) ([]byte, error) {
	h, head, err := k.newHeader(kindIndex, session, nil)
	if err != nil {
		return nil, err
	}
	var b []byte
	type source struct{ session, enc string }
	seen := map[source]uint64{}
	var sources []source
	for _, p := range packs {
		s := source{p.session, string(p.enc)}
		if _, ok := seen[s]; !ok {
			seen[s] = uint64(len(sources))
			sources = append(sources, s)
		}
	}
	b = binary.AppendUvarint(b, uint64(len(sources)))
	for _, s := range sources {
		b = appendBytes(appendBytes(b, s.session), s.enc)
	}
	b = binary.AppendUvarint(b, uint64(len(packs)))
	for _, p := range packs {
		b = append(b, p.sum[:]...)
		b = append(b, kindByte(p.kind))
		b = binary.AppendUvarint(b, uint64(p.size))
		b = append(b, p.salt...)
		b = binary.AppendUvarint(b, seen[source{p.session, string(p.enc)}])
		b = appendBytes(b, "") // attributes, none yet; readers skip them
		b = appendDirectory(b, p.entries)
	}
	b = sealSection(head, k.index, h, bytes.Clone(head), "index", "", b)
	return k.signObject(kindIndex, "", b), nil
}

func (k *keys) decodeIndex(b []byte) ([]packRecord, error) {
	h, head, sealed, by, err := k.verifyObject(kindIndex, "", b)
	if err != nil {
		return nil, err
	}
	if h.Session == "" && !by.holder {
		return nil, fmt.Errorf("%w: signature is by %q, who cannot read and so is not maintenance", ErrDamaged, by.name)
	}
	plain, err := openSection(k.index, h, head, "index", "", sealed)
	if err != nil {
		return nil, err
	}
	return decodeIndexSection(plain)
}

func decodeIndexSection(plain []byte) ([]packRecord, error) {
	d := &decoder{b: plain}
	type source struct {
		session string
		enc     []byte
	}
	var sources []source
	for n := d.count("sessions", 2); n > 0 && d.err == nil; n-- {
		sources = append(sources, source{string(d.bytes("session", 64)), d.bytes("session key", 4096)})
	}
	var packs []packRecord
	for n := d.count("packs", 70); n > 0 && d.err == nil; n-- {
		p := packRecord{sum: d.sum("pack"), kind: kindOf(d.byte("kind"))}
		p.size = int64(d.uint("size", maxPack))
		p.salt = d.take("salt", 32)
		s := d.uint("session", uint64(max(len(sources)-1, 0)))
		d.bytes("attributes", 1<<16)
		p.entries = d.directory(p.size)
		if p.kind == "" || len(sources) == 0 {
			d.fail("kind or session of a pack is unknown")
			break
		}
		p.session, p.enc = sources[s].session, sources[s].enc
		packs = append(packs, p)
	}
	return packs, d.end()
}

func kindByte(kind string) byte {
	if kind == kindMeta {
		return 'm'
	}
	return 'd'
}

func kindOf(b byte) string {
	switch b {
	case 'm':
		return kindMeta
	case 'd':
		return kindData
	}
	return ""
}

// index is what is known of all packs, in memory. It is safe for concurrent
// use. A chunk costs 48 bytes.
type index struct {
	mu       sync.RWMutex
	packs    []packInfo
	byID     map[[32]byte]uint32 // packs by their sum
	segments [][]indexEntry      // each sorted by id; few
	objects  map[string][]uint32 // index objects that are loaded, and the packs they list
	encs     map[string][]byte   // one copy of each session key
	held     []indexEntry        // see hold
}

type packInfo struct {
	sum     [32]byte
	kind    string
	size    int64
	salt    []byte
	enc     []byte
	session string // that wrote it
	object  string // an index object that lists it; empty if none does
	lost    bool   // not in the store any more
}

type indexEntry struct {
	id          chunkID
	pack        uint32
	off, stored uint32
	plain       uint32
}

func newIndex() *index {
	return &index{byID: map[[32]byte]uint32{}, objects: map[string][]uint32{}, encs: map[string][]byte{}}
}

func (x *index) has(object string) bool {
	x.mu.RLock()
	defer x.mu.RUnlock()
	_, ok := x.objects[object]
	return ok
}

// add makes the content of an index object known.
func (x *index) add(object string, packs []packRecord) {
	x.mu.Lock()
	defer x.mu.Unlock()
	var listed []uint32
	var seg []indexEntry
	for _, p := range packs {
		if n, ok := x.byID[p.sum]; ok {
			if x.packs[n].object == "" {
				x.packs[n].object = object
			}
			listed = append(listed, n)
			continue
		}
		n := uint32(len(x.packs))
		x.byID[p.sum] = n
		enc, ok := x.encs[string(p.enc)]
		if !ok {
			enc = bytes.Clone(p.enc)
			x.encs[string(enc)] = enc
		}
		listed = append(listed, n)
		x.packs = append(x.packs, packInfo{sum: p.sum, kind: p.kind, size: p.size, salt: bytes.Clone(p.salt), enc: enc,
			session: p.session, object: object})
		for _, e := range p.entries {
			seg = append(seg, indexEntry{e.id, n, e.off, e.stored, e.plain})
		}
	}
	if object != "" {
		x.objects[object] = listed
	}
	if x.held != nil {
		x.held = append(x.held, seg...)
		return
	}
	x.push(seg)
}

// hold puts off the sorting of what is added until release, for room
// entries at first. Until then it is not found.
func (x *index) hold(room int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.held = make([]indexEntry, 0, max(room, 1))
}

func (x *index) release() {
	x.mu.Lock()
	defer x.mu.Unlock()
	seg := x.held
	x.held = nil
	x.push(seg)
}

func (x *index) push(seg []indexEntry) {
	if len(seg) == 0 {
		return
	}
	sortEntries(seg)
	x.segments = append(x.segments, seg)
	// Merge the youngest while they are not much smaller than their elders,
	// so that there are few segments and an entry is merged few times.
	for n := len(x.segments); n > 1 && len(x.segments[n-2]) < 4*len(x.segments[n-1]); n-- {
		merged := slices.Concat(x.segments[n-2], x.segments[n-1])
		sortEntries(merged)
		x.segments = append(x.segments[:n-2], merged)
	}
}

// find yields every place where a chunk is stored.
func (x *index) find(id chunkID) []indexEntry {
	x.mu.RLock()
	defer x.mu.RUnlock()
	var out []indexEntry
	for _, s := range x.segments {
		for i := searchEntries(s, id); i < len(s) && s[i].id == id; i++ {
			if !x.packs[s[i].pack].lost {
				out = append(out, s[i])
			}
		}
	}
	return out
}

// first is find for one place, without allocating.
func (x *index) first(id chunkID) (indexEntry, bool) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	for _, s := range x.segments {
		for i := searchEntries(s, id); i < len(s) && s[i].id == id; i++ {
			if !x.packs[s[i].pack].lost {
				return s[i], true
			}
		}
	}
	return indexEntry{}, false
}

// reusable is what a session may rely on instead of storing a chunk again:
// packs that were in the store and not condemned when it began, and its own.
type reusable struct {
	packs   []bool // by number
	session string
}

// reuse finds a place of a chunk in a pack that may be relied on.
func (x *index) reuse(id chunkID, ok reusable) (indexEntry, bool) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	for _, s := range x.segments {
		for i := searchEntries(s, id); i < len(s) && s[i].id == id; i++ {
			n, p := s[i].pack, &x.packs[s[i].pack]
			if !p.lost && (int(n) < len(ok.packs) && ok.packs[n] || ok.session != "" && p.session == ok.session) {
				return s[i], true
			}
		}
	}
	return indexEntry{}, false
}

// listing returns the packs that each of the loaded index objects lists.
func (x *index) listing() map[string][]uint32 {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return maps.Clone(x.objects)
}

// snapshot returns all entries as they are now. Nobody changes them.
func (x *index) snapshot() [][]indexEntry {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return slices.Clone(x.segments)
}

func (x *index) pack(n uint32) packInfo {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.packs[n]
}

func (x *index) packBySum(sum [32]byte) (uint32, bool) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	n, ok := x.byID[sum]
	return n, ok && !x.packs[n].lost
}

func (p packInfo) key() string { return packKey(p.kind, p.sum) }

// lose makes the index forget what is in a pack.
func (x *index) lose(sum [32]byte) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if n, ok := x.byID[sum]; ok {
		x.packs[n].lost = true
	}
}

// setLost tells for the pack with a number whether it is gone.
func (x *index) setLost(n int, lost bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.packs[n].lost = lost
}

// all returns every pack, by its number.
func (x *index) all() []packInfo {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return slices.Clone(x.packs)
}

// entries returns what is in a pack. It looks at every chunk there is.
func (x *index) entries(n uint32) []packEntry {
	x.mu.RLock()
	defer x.mu.RUnlock()
	var out []packEntry
	for _, s := range x.segments {
		for _, e := range s {
			if e.pack == n {
				out = append(out, packEntry{ref{e.id, e.plain}, e.off, e.stored})
			}
		}
	}
	return out
}
