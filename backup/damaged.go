package backup

import (
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
)

// A pack in which some chunks are damaged stays, and so do its records in the
// indexes: nobody deletes what a later look, or a replica, might still yield.
// A holder adds a record that names the damaged chunks. Of all that trusted
// records say of a pack, the union counts, so it does not matter in which
// order, and how many of them, a process has read. Such a place of a chunk is
// treated like one that nobody trusted tells of: readers try it last, writers
// store the chunk again, and a prune relies on it for nothing and deletes it
// only when there is a good copy. See "Damaged chunks" in FORMAT.md.

// appendBad encodes which chunks of a pack are damaged, by their places in
// its directory.
func appendBad(b []byte, p packRecord) []byte {
	bad := map[chunkID]bool{}
	for _, id := range p.bad {
		bad[id] = true
	}
	var at []uint64
	for n, e := range p.entries {
		if bad[e.id] {
			at = append(at, uint64(n))
		}
	}
	b = binary.AppendUvarint(b, uint64(len(at)))
	for _, n := range at {
		b = binary.AppendUvarint(b, n)
	}
	return b
}

// resolveBad reads what appendBad wrote, when the directory is known. What
// is not said by a holder himself says nothing.
func (p *packRecord) resolveBad() error {
	if len(p.marks) == 0 || !p.by.holder {
		p.marks = nil
		return nil
	}
	d := &decoder{b: p.marks}
	p.marks = nil
	for n := d.count("damaged chunks", 1); n > 0 && d.err == nil; n-- {
		at := d.uint("number of a chunk", uint64(max(len(p.entries)-1, 0)))
		if len(p.entries) == 0 {
			return fmt.Errorf("%w: there are none", ErrDamaged)
		}
		if d.err == nil {
			p.bad = append(p.bad, p.entries[at].id)
		}
	}
	return d.end()
}

// mark notes what a trusted record says is damaged.
func (i *packInfo) mark(p packRecord) {
	if len(p.bad) == 0 {
		return
	}
	bad := maps.Clone(i.bad)
	if bad == nil {
		bad = map[chunkID]bool{}
	}
	for _, id := range p.bad {
		bad[id] = true
	}
	i.bad = bad
}

// badIn returns the chunks that are known to be damaged in a pack.
func (x *index) badIn(sum [32]byte) []chunkID {
	x.mu.RLock()
	defer x.mu.RUnlock()
	n, ok := x.byID[sum]
	for ; ok; n = x.packs[n].next {
		if p := &x.packs[n]; p.trusted && len(p.bad) > 0 {
			return slices.SortedFunc(maps.Keys(p.bad), func(a, b chunkID) int { return slices.Compare(a[:], b[:]) })
		}
		ok = x.packs[n].next != 0
	}
	return nil
}
