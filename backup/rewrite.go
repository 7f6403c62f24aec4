package backup

import (
	"context"
	"maps"
	"slices"

	"github.com/holdfast-go/holdfast/provider"
)

// rewrite copies what is kept in some packs into new ones, and indexes those.
// It returns the packs of which everything was copied.
func (p *pruner) rewrite(ctx context.Context, c *census, packs map[uint32]bool) ([]packSum, error) {
	if len(packs) == 0 {
		return nil, nil
	}
	kept := map[uint32][]indexEntry{}
	p.eachLive(p.r.index.snapshot(), func(places []indexEntry) {
		if e, ok := c.best(places); ok && packs[e.pack] {
			kept[e.pack] = append(kept[e.pack], e)
		}
	})
	pipe, err := newPipeline(ctx, p.r, "", reusable{})
	if err != nil {
		return nil, err
	}
	var copied []packSum
	cache := newBlockCache(p.r.c.Store)
	for _, n := range slices.Sorted(maps.Keys(packs)) {
		i := c.packs[n]
		entries := kept[n]
		slices.SortFunc(entries, func(a, b indexEntry) int { return int(int64(a.off) - int64(b.off)) })
		err := p.copyChunks(ctx, pipe, cache, i, entries)
		if isDamage(err) {
			p.r.c.Logger.Warn("pack is damaged, or gone, and was not rewritten", "key", i.key(), "error", err)
			continue
		}
		if err != nil {
			pipe.fail(err)
			break
		}
		copied = append(copied, packSum{i.sum, i.kind, i.size})
		p.report.Rewritten.add(i.size)
		p.progress()
	}
	pipe.close(ctx)
	p.report.Stored += pipe.bytesStored.Load()
	return copied, pipe.failure()
}

// copyChunks hands the chunks of a pack to a pipeline.
func (p *pruner) copyChunks(ctx context.Context, pipe *pipeline, cache *blockCache, pack packInfo, entries []indexEntry) error {
	for _, e := range entries {
		b, err := p.r.chunkAt(ctx, cache, pack.kind, ref{e.id, e.plain}, e, nil)
		if err != nil {
			return err
		}
		pool, size := pipe.large, largeBuffer
		if len(b) < smallBuffer {
			pool, size = pipe.small, smallBuffer
		}
		buf, err := pipe.take(ctx, pool, size)
		if err != nil {
			return err
		}
		copy(buf[1:], b)
		if err := pipe.submit(ctx, job{buf: buf, n: len(b), kind: pack.kind}); err != nil {
			return err
		}
	}
	return nil
}

// Index objects are replaced in few steps, each of which leaves everything
// that is needed in some index object: new ones are written before those are
// deleted whose content they have.

const (
	indexEntries = 1 << 17 // of an index object that maintenance writes, about 6 MiB
	smallIndexes = 16      // so many small index objects are made into one
)

// dropFromIndexes replaces the index objects that list packs that are going
// to be deleted.
func (p *pruner) dropFromIndexes(ctx context.Context, gone map[[32]byte]bool) error {
	if len(gone) == 0 {
		return nil
	}
	if err := p.r.load(ctx); err != nil {
		return err
	}
	packs := p.r.index.all()
	var keys []string
	for key, listed := range p.r.index.listing() {
		if slices.ContainsFunc(listed, func(n uint32) bool { return gone[packs[n].sum] }) {
			keys = append(keys, key)
		}
	}
	return p.replaceIndexes(ctx, keys, gone)
}

// consolidate makes few index objects of many small ones.
func (p *pruner) consolidate(ctx context.Context) error {
	if err := p.r.load(ctx); err != nil {
		return err
	}
	entries := map[uint32]int{}
	for _, s := range p.r.index.snapshot() {
		for _, e := range s {
			entries[e.pack]++
		}
	}
	present := map[string]bool{}
	for info, err := range p.r.c.Store.List(ctx, indexPrefix, provider.ListOptions{}) {
		if err != nil {
			return err
		}
		present[info.Key] = true
	}
	var keys []string
	for key, listed := range p.r.index.listing() {
		n := 0
		for _, pack := range listed {
			n += entries[pack]
		}
		if present[key] && n < indexEntries/2 {
			keys = append(keys, key)
		}
	}
	if len(keys) < smallIndexes {
		return nil
	}
	return p.replaceIndexes(ctx, keys, nil)
}

// replaceIndexes writes what some index objects list, without the packs that
// are gone, into new ones, and deletes them.
func (p *pruner) replaceIndexes(ctx context.Context, keys []string, gone map[[32]byte]bool) error {
	slices.Sort(keys)
	var batch []packRecord
	var done []string // read, and written in full when the batch is
	entries := 0
	type claim struct {
		sum  [32]byte
		by   author
		said uint64
	}
	seen := map[claim]bool{}
	write := func() error {
		if len(batch) > 0 {
			n, err := p.r.writeIndex(ctx, "", batch)
			if err != nil {
				return err
			}
			p.report.Stored += n
		}
		batch, entries = nil, 0
		for _, key := range done {
			if err := p.r.remove(ctx, key); err != nil {
				return err
			}
			p.report.Indexes++
		}
		done = nil
		return nil
	}
	for _, key := range keys {
		packs, err := p.r.readIndex(ctx, key)
		if isDamage(err) {
			continue // another prune was faster, or Repair is needed
		}
		if err != nil {
			return err
		}
		for _, rec := range packs {
			c := claim{sum: rec.sum}
			if n, _ := p.r.index.packBySum(rec.sum); !p.r.keys.trusts(rec.by) {
				if p.r.index.pack(n).trusted && p.r.index.pack(n).sum == rec.sum {
					continue
				}
				c.by, c.said = rec.by, p.r.index.hash(rec) // nobody knows who is right
			} else {
				rec.locked = p.r.index.pack(n).locked // the latest end of all that tell one
			}
			if !gone[rec.sum] && !seen[c] {
				seen[c] = true
				if p.r.keys.trusts(rec.by) {
					rec.bad = p.r.index.badIn(rec.sum) // also what another index says
				}
				batch = append(batch, rec)
				entries += len(rec.entries)
			}
		}
		done = append(done, key)
		if entries >= indexEntries {
			if err := write(); err != nil {
				return err
			}
		}
	}
	return write()
}
