package backup

import (
	"crypto/cipher"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"sync"
)

// A pack is
//
//	object header
//	frames, one after the other
//	section "directory", sealed with the index key
//	4 bytes  length of that section, big endian
//
// and is stored under the SHA-256 of all of it. The directory repeats what
// an index says about the pack, so that indexes can be rebuilt from packs.

// A packEntry is where a chunk is within its pack.
type packEntry struct {
	ref
	off    uint32
	stored uint32 // length of the frame
}

const (
	maxPack        = 1 << 30
	maxPackEntries = 16 << 10
	maxDirEntry    = 32 + 3*4 // encoded
	packSlack      = 8 << 10  // for what a pack has beside header, frames and entries
)

// packRecord describes a stored pack in an index.
type packRecord struct {
	sum     [32]byte
	kind    string
	size    int64
	salt    []byte // 32 bytes
	session string
	enc     []byte
	entries []packEntry
	by      author    // who says so
	locked  int64     // until when, in seconds since 1970; 0 if it is not or not known
	marks   []byte    // of an index, not yet resolved into bad
	bad     []chunkID // that a holder found damaged in it; see Repair
}

// packBuilder is a pack being filled. Its packer's lock guards it, except
// for the ranges that reserve has handed out.
type packBuilder struct {
	header  objectHeader
	head    int // length of the header
	buf     []byte
	aead    cipher.AEAD
	entries []packEntry
	sealing sync.WaitGroup // ranges handed out and not yet filled
}

func newPackBuilder(k *keys, secret, enc []byte, session, kind string, buf []byte) (*packBuilder, error) {
	h, head, err := k.newHeader(kind, session, enc)
	if err != nil {
		return nil, err
	}
	return &packBuilder{
		header: h, head: len(head), buf: append(buf[:0], head...),
		aead: newAEAD(derive(secret, h.Salt, kind+" frames")),
	}, nil
}

// fits reports whether there is room for a further frame and its entry, so
// that the buffer, which others are writing to, never has to move.
func (p *packBuilder) fits(frame int) bool {
	n := len(p.entries) + 1
	return n <= maxPackEntries && len(p.buf)+frame+n*maxDirEntry+packSlack <= cap(p.buf)
}

// reserve makes room for a frame and returns it, to be filled by sealing
// before sealing.Done.
func (p *packBuilder) reserve(r ref, stored int) []byte {
	off := len(p.buf)
	p.entries = append(p.entries, packEntry{ref: r, off: uint32(off), stored: uint32(stored)})
	p.buf = p.buf[:off+stored]
	p.sealing.Add(1)
	return p.buf[off : off+stored : off+stored]
}

// finish waits for all frames and completes the pack.
func (p *packBuilder) finish(k *keys) packRecord {
	p.sealing.Wait()
	dir := appendDirectory(nil, p.entries)
	start := len(p.buf)
	p.buf = sealSection(p.buf, k.index, p.header, p.buf[:p.head], "directory", "", dir)
	p.buf = binary.BigEndian.AppendUint32(p.buf, uint32(len(p.buf)-start))
	return packRecord{
		sum: sha256.Sum256(p.buf), kind: p.header.Kind, size: int64(len(p.buf)),
		salt: p.header.Salt, session: p.header.Session, enc: p.header.Enc, entries: p.entries, by: k.self,
	}
}

func appendDirectory(b []byte, entries []packEntry) []byte {
	b = binary.AppendUvarint(b, uint64(len(entries)))
	for _, e := range entries {
		b = append(b, e.id[:]...)
		b = binary.AppendUvarint(b, uint64(e.off))
		b = binary.AppendUvarint(b, uint64(e.stored))
		b = binary.AppendUvarint(b, uint64(e.plain))
	}
	return b
}

// directory reads what appendDirectory wrote about a pack of size bytes.
func (d *decoder) directory(size int64) []packEntry {
	entries := make([]packEntry, 0, d.count("chunks", 35))
	for n := cap(entries); n > 0 && d.err == nil; n-- {
		e := packEntry{ref: ref{id: d.sum("chunk id")}}
		e.off = uint32(d.uint("offset", uint64(size)))
		e.stored = uint32(d.uint("stored length", maxFrame))
		e.plain = uint32(d.uint("length", maxData))
		if int64(e.off)+int64(e.stored) > size || e.stored < frameOverhead {
			d.fail("chunk %s lies outside its pack", e.id)
		}
		entries = append(entries, e)
	}
	return entries
}

// packTail splits the last tail bytes of a pack of size bytes: it returns
// the sealed directory, or how many bytes of tail are needed for that.
func packTail(tail []byte, size int64) (sealed []byte, need int64, err error) {
	if len(tail) < 4 {
		return nil, 0, fmt.Errorf("%w: pack of %d bytes", ErrDamaged, size)
	}
	n := int64(binary.BigEndian.Uint32(tail[len(tail)-4:])) + 4
	if n > size {
		return nil, 0, fmt.Errorf("%w: directory of %d bytes in a pack of %d", ErrDamaged, n, size)
	}
	if n > int64(len(tail)) {
		return nil, n, nil
	}
	return tail[int64(len(tail))-n : len(tail)-4], n, nil
}

// decodePack reads header and directory. b holds the whole pack, or its
// header and its tail.
func (k *keys) decodePack(kind string, sum [32]byte, size int64, front, tail []byte) (packRecord, error) {
	h, head, _, err := decodeHeader(front, kind)
	if err != nil {
		return packRecord{}, err
	}
	sealed, _, err := packTail(tail, size)
	if err != nil {
		return packRecord{}, err
	}
	plain, err := openSection(k.index, h, head, "directory", "", sealed)
	if err != nil {
		return packRecord{}, err
	}
	d := &decoder{b: plain}
	entries := d.directory(size)
	if err := d.end(); err != nil {
		return packRecord{}, err
	}
	return packRecord{sum: sum, kind: kind, size: size, salt: h.Salt, session: h.Session, enc: h.Enc, entries: entries,
		by: author{name: h.Writer}}, nil // as far as it can be known
}
