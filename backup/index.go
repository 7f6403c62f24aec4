package backup

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/maphash"
	"maps"
	"math"
	"slices"
	"sync"
)

// An index object tells for a number of packs what is in them, so that a
// reader finds chunks and a writer knows what it need not store. It holds
// nothing that is not in the packs, too, but who says so.

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
		b = appendBytes(b, packAttributes(k.self, p))
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
	return decodeIndexSection(plain, by)
}

// Attributes of a pack are a byte that says what it is, and bytes.
const (
	attributeLock   = 1 // uvarint: end of the lock, seconds since 1970
	attributeOrigin = 2
	attributeBad    = 3 // which chunks of the directory are damaged
)

// packAttributes returns what is to be said about a pack beside its content.
// A holder who passes on what somebody else has said, unseen, names him.
func packAttributes(self author, p packRecord) (b []byte) {
	if p.locked > 0 {
		b = append(b, attributeLock)
		b = appendBytes(b, binary.AppendUvarint(nil, uint64(p.locked)))
	}
	if self.holder && !p.by.holder {
		b = append(b, attributeOrigin)
		b = appendBytes(b, append(p.by.key[:], p.by.name...))
	} else if self.holder && len(p.bad) > 0 {
		b = append(b, attributeBad)
		b = appendBytes(b, appendBad(nil, p))
	}
	return b
}

// attributes reads what packAttributes wrote into p, which an index signed by
// p.by lists. What is not known is skipped.
func (p *packRecord) attributes(b []byte) error {
	d := &decoder{b: b}
	for len(d.b) > 0 {
		tag, v := d.byte("attribute"), d.bytes("attribute", uint64(len(b)))
		if tag == attributeLock && d.err == nil {
			l := &decoder{b: v}
			p.locked = int64(l.uint("end of a lock", math.MaxInt64))
			if err := l.end(); err != nil {
				return err
			}
		}
		if tag == attributeBad && d.err == nil {
			p.marks = v
		}
		if tag != attributeOrigin || d.err != nil || !p.by.holder {
			continue
		}
		o := &decoder{b: v}
		p.by = author{key: o.sum("origin")}
		p.by.name = string(o.take("origin", min(len(o.b), 64)))
		if err := o.end(); err != nil {
			return err
		}
	}
	return d.err
}

// decodeIndexSection reads what is in an index that by has signed.
func decodeIndexSection(plain []byte, by author) ([]packRecord, error) {
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
		p := packRecord{sum: d.sum("pack"), kind: kindOf(d.byte("kind")), by: by}
		p.size = int64(d.uint("size", maxPack))
		p.salt = d.take("salt", 32)
		s := d.uint("session", uint64(max(len(sources)-1, 0)))
		if err := p.attributes(d.bytes("attributes", 1<<16)); err != nil {
			d.fail("attributes of a pack: %v", err)
		}
		p.entries = d.directory(p.size)
		if err := p.resolveBad(); err != nil {
			d.fail("damaged chunks of a pack: %v", err)
		}
		if p.kind == "" || len(sources) == 0 {
			d.fail("kind or session of a pack is unknown")
			break
		}
		p.session, p.enc = sources[s].session, sources[s].enc
		packs = append(packs, p)
	}
	if err := d.end(); err != nil {
		return nil, err // not what came before it: nothing is half believed
	}
	return packs, nil
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
//
// An index object may lie: about a pack of its own writer, or about one of
// another's. What a trusted author says of a pack is all that is known of it;
// where there is none, everything that anybody says is kept, under a number
// of its own.
type index struct {
	mu       sync.RWMutex
	trusts   func(author) bool
	packs    []packInfo
	byID     map[[32]byte]uint32 // packs by their sum: the first of those that next leads to
	segments [][]indexEntry      // each sorted by id; few
	objects  map[string][]uint32 // index objects that are loaded, and the packs they list
	encs     map[string][]byte   // one copy of each session key
	authors  map[author]*author  // the same
	seed     maphash.Seed
	held     []indexEntry // see hold
}

type packInfo struct {
	sum     [32]byte
	kind    string
	size    int64
	salt    []byte
	enc     []byte
	session string  // that wrote it
	by      *author // who says so
	object  string  // an index object that lists it; empty if none does
	lost    bool    // not in the store any more

	trusted bool             // by is believed
	denied  bool             // somebody who is trusted says something else
	said    uint64           // hash of what is said
	locked  int64            // until when, as by says
	bad     map[chunkID]bool // found damaged in it; only of a trusted one. Never changed, only replaced
	next    uint32           // number of what somebody else says about the pack, or 0
}

type indexEntry struct {
	id          chunkID
	pack        uint32
	off, stored uint32
	plain       uint32
}

// newIndex returns an empty index. trusts says whose word counts.
func newIndex(trusts func(author) bool) *index {
	return &index{trusts: trusts, byID: map[[32]byte]uint32{}, objects: map[string][]uint32{}, encs: map[string][]byte{},
		authors: map[author]*author{}, seed: maphash.MakeSeed()}
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
		n, isNew := x.addPack(object, p)
		listed = append(listed, n)
		if !isNew {
			continue
		}
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

// addPack takes note of what a record says. It returns the number of the pack
// and whether its chunks are to be added under it: not if they are there
// already, or if somebody who is trusted more has spoken.
func (x *index) addPack(object string, p packRecord) (n uint32, isNew bool) {
	trusted, said := x.trusts(p.by), x.hash(p)
	first, there := x.byID[p.sum]
	last, same, ok := first, first, false
	for n, more := first, there; more; n = x.packs[n].next {
		i := &x.packs[n]
		if i.trusted {
			if i.object == "" && trusted {
				i.object = object
			}
			if trusted {
				if p.locked > i.locked {
					i.locked = p.locked
					if object != "" {
						i.object = object // which is locked as long itself
					}
				}
				i.mark(p)
			}
			return n, false
		}
		if i.said == said {
			same, ok = n, true
		}
		last, more = n, i.next != 0
	}
	if ok {
		i := &x.packs[same]
		if i.object == "" || trusted {
			i.object = object
		}
		if trusted {
			i.trusted, i.by, i.locked = true, x.author(p.by), p.locked
			i.mark(p)
			x.deny(first, same)
		} else {
			i.locked = max(i.locked, p.locked) // which nobody relies on
		}
		return same, false
	}
	n = uint32(len(x.packs))
	enc, known := x.encs[string(p.enc)]
	if !known {
		enc = bytes.Clone(p.enc)
		x.encs[string(enc)] = enc
	}
	x.packs = append(x.packs, packInfo{sum: p.sum, kind: p.kind, size: p.size, salt: bytes.Clone(p.salt), enc: enc,
		session: p.session, object: object, by: x.author(p.by), trusted: trusted, said: said, locked: p.locked})
	if trusted {
		x.packs[n].mark(p)
	}
	if !there {
		x.byID[p.sum] = n
		return n, true
	}
	x.packs[last].next = n
	if trusted {
		x.deny(first, n)
	}
	return n, true
}

// deny marks what is said about a pack, from the number n on, except by one.
func (x *index) deny(n, except uint32) {
	for ; ; n = x.packs[n].next {
		x.packs[n].denied = n != except
		if x.packs[n].next == 0 {
			return
		}
	}
}

func (x *index) author(a author) *author {
	p, ok := x.authors[a]
	if !ok {
		p = &a
		x.authors[a] = p
	}
	return p
}

// hash tells apart what several say about one pack.
func (x *index) hash(p packRecord) uint64 {
	var h maphash.Hash
	h.SetSeed(x.seed)
	b := binary.AppendVarint(make([]byte, 0, 64), p.size)
	h.Write(appendBytes(appendBytes(appendBytes(append(b, kindByte(p.kind)), p.salt), p.session), p.enc))
	for _, e := range p.entries {
		b = append(b[:0], e.id[:]...)
		b = binary.BigEndian.AppendUint32(b, e.off)
		b = binary.BigEndian.AppendUint32(b, e.stored)
		b = binary.BigEndian.AppendUint32(b, e.plain)
		h.Write(b)
	}
	return h.Sum64()
}

// find yields every place where a chunk is said to be stored; first those of
// which somebody who is trusted says so, and nobody that it is damaged there.
func (x *index) find(id chunkID) []indexEntry {
	x.mu.RLock()
	defer x.mu.RUnlock()
	var out []indexEntry
	trusted := 0
	for _, s := range x.segments {
		for i := searchEntries(s, id); i < len(s) && s[i].id == id; i++ {
			p := &x.packs[s[i].pack]
			if p.lost || p.denied {
				continue
			}
			out = append(out, s[i])
			if p.trusted && !p.bad[id] {
				copy(out[trusted+1:], out[trusted:len(out)-1])
				out[trusted] = s[i]
				trusted++
			}
		}
	}
	return out
}

// prefer puts places that an author tells of before those of others who are
// not trusted.
func (x *index) prefer(by author, places []indexEntry) {
	if len(places) < 2 {
		return
	}
	x.mu.RLock()
	defer x.mu.RUnlock()
	rank := func(e indexEntry) int {
		switch p := &x.packs[e.pack]; {
		case p.bad[e.id]:
			return 3
		case p.trusted:
			return 0
		case *p.by == by:
			return 1
		}
		return 2
	}
	slices.SortStableFunc(places, func(a, b indexEntry) int { return rank(a) - rank(b) })
}

// first is find for one place that somebody who is trusted knows, without
// allocating.
func (x *index) first(id chunkID) (indexEntry, bool) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	for _, s := range x.segments {
		for i := searchEntries(s, id); i < len(s) && s[i].id == id; i++ {
			if p := &x.packs[s[i].pack]; p.trusted && !p.lost && !p.denied && !p.bad[id] {
				return s[i], true
			}
		}
	}
	return indexEntry{}, false
}

// reusable is what a session may rely on instead of storing a chunk again:
// packs that were in the store and not condemned when it began, and its own;
// of both only what somebody says who is trusted.
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
			if p.trusted && !p.lost && !p.denied && !p.bad[id] && (int(n) < len(ok.packs) && ok.packs[n] || ok.session != "" && p.session == ok.session) {
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

// packBySum returns the number of a pack. If several tell different things
// about it, and none of them is trusted, it is one of several.
func (x *index) packBySum(sum [32]byte) (uint32, bool) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	n, ok := x.byID[sum]
	for ok && (x.packs[n].denied || x.packs[n].lost) {
		n = x.packs[n].next
		ok = n != 0
	}
	return n, ok
}

// knows reports whether anybody says what is in a pack.
func (x *index) knows(sum [32]byte) bool {
	x.mu.RLock()
	defer x.mu.RUnlock()
	_, ok := x.byID[sum]
	return ok
}

// says reports whether a record is what is known under a number.
func (x *index) says(n uint32, p packRecord) bool {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.packs[n].said == x.hash(p)
}

// numbers returns all numbers of a pack.
func (x *index) numbers(sum [32]byte) (out []uint32) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	n, ok := x.byID[sum]
	for ; ok; n = x.packs[n].next {
		out = append(out, n)
		ok = x.packs[n].next != 0
	}
	return out
}

func (p packInfo) key() string { return packKey(p.kind, p.sum) }

// lose makes the index forget what is in a pack.
func (x *index) lose(sum [32]byte) {
	x.mu.Lock()
	defer x.mu.Unlock()
	n, ok := x.byID[sum]
	for ; ok; n = x.packs[n].next {
		x.packs[n].lost = true
		ok = x.packs[n].next != 0
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
