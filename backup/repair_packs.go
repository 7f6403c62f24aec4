package backup

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/holdfast-go/holdfast/provider"
)

// pack takes a pack from the replica, in the place of the version that is
// damaged, or where it is missing.
func (p *repairer) pack(ctx context.Context, kind string, sum [32]byte, was provider.Version) (ok bool, why, err error) {
	key := packKey(kind, sum)
	b, err := p.take(ctx, key, maxPack, func(b []byte) error {
		if sha256.Sum256(b) != sum {
			return fmt.Errorf("%w: its bytes are not those of its name", ErrDamaged)
		}
		return nil
	})
	if errors.Is(err, provider.ErrNotFound) {
		return false, err, nil
	}
	if err != nil {
		return false, nil, err
	}
	ok, err = p.put(ctx, key, b, was, "taken from the replica")
	return ok, errors.New("see above"), err
}

// indexes puts the indexes right: damaged ones are taken from the replica or
// removed, packs that no index lists are listed, and packs that are gone are
// taken from the replica or forgotten.
func (p *repairer) indexes(ctx context.Context) error {
	r := p.r
	if err := r.load(ctx); err != nil {
		return err
	}
	if err := p.badIndexes(ctx); err != nil {
		return err
	}
	doomed, err := r.condemned(ctx, "")
	unsure := errors.Is(err, ErrDamaged) // what a prune is deleting must not come back
	if err != nil && !unsure {
		return err
	}
	if p.from != nil && !unsure {
		if err := p.missing(ctx, doomed); err != nil {
			return err
		}
	}
	indexed := r.index.all()
	found, err := p.unindexed(ctx)
	if err != nil {
		return err
	}
	found = slices.DeleteFunc(found, func(rec packRecord) bool { return doomed[rec.sum] })
	p.rep.Indexed = len(found)
	if err := r.vouch(ctx, found); err != nil {
		return err
	}
	remove, rewrite, lost, err := r.stale(ctx, indexed)
	if err != nil {
		return err
	}
	lost = slices.DeleteFunc(lost, func(i packInfo) bool { return p.replica[i.key()] })
	if err := p.write(ctx, append(found, rewrite...)); err != nil {
		return err
	}
	for _, i := range lost {
		if !p.o.DryRun {
			p.known.index.lose(i.sum)
		}
		p.rep.Lost = append(p.rep.Lost, i.key())
	}
	for _, key := range remove { // only now: what was right in them is stored anew
		if err := p.remove(ctx, key); err != nil {
			return err
		}
	}
	return nil
}

// write lists packs in new indexes.
func (p *repairer) write(ctx context.Context, packs []packRecord) error {
	if p.o.DryRun {
		return nil
	}
	for batch := range slices.Chunk(packs, packsPerIndex) {
		if _, err := p.r.writeIndex(ctx, "", batch); err != nil {
			return err
		}
		p.known.index.add("", batch)
	}
	return nil
}

// badIndexes takes indexes that cannot be read from the replica. Without, they
// are made anew from the packs.
func (p *repairer) badIndexes(ctx context.Context) error {
	if p.from == nil {
		return nil
	}
	for _, key := range slices.Sorted(maps.Keys(p.r.bad)) {
		right := func(b []byte) error { _, err := p.r.decodeIndexObject(key, b); return err }
		if _, err := p.take(ctx, key, maxIndexObject, right); errors.Is(err, provider.ErrNotFound) {
			continue
		} else if err != nil {
			return err
		}
		ok, err := p.object(ctx, key, maxIndexObject, right, nil)
		if err != nil {
			return err
		}
		if ok {
			delete(p.r.bad, key)
		}
	}
	return p.r.load(ctx)
}

// missing takes packs that are not there with their size from the replica: those
// that indexes list, and those that are named by points which lack something.
// It leaves out what a prune may be deleting. Why that is as safe as a copy is
// written in FORMAT.md.
func (p *repairer) missing(ctx context.Context, doomed map[[32]byte]bool) error {
	sizes := map[string]int64{}
	for info, err := range p.r.packs(ctx) {
		if err != nil {
			return err
		}
		sizes[info.Key] = info.Size
	}
	p.replica = map[string]bool{}
	named, err := p.named(ctx)
	if err != nil {
		return err
	}
	for _, i := range append(p.r.index.all(), named...) {
		if size, ok := sizes[i.key()]; ok && size == i.size || i.denied || doomed[i.sum] || p.replica[i.key()] {
			continue
		}
		info, err := p.r.c.Store.Stat(ctx, i.key())
		if err != nil && !errors.Is(err, provider.ErrNotFound) {
			if isDamage(err) {
				p.unmended(i.key(), err.Error())
				continue
			}
			return err
		}
		ok, why, err := p.pack(ctx, i.kind, i.sum, info.Version)
		if err != nil {
			return err
		}
		if p.replica[i.key()] = ok; !ok && !errors.Is(why, provider.ErrNotFound) {
			continue
		}
		if !ok {
			p.unmended(i.key(), "it is missing, or has another size; "+why.Error())
		}
	}
	return nil
}

// named returns the packs that points name which cannot be restored in full.
func (p *repairer) named(ctx context.Context) (out []packInfo, err error) {
	c := newChecker(p.r, CheckOptions{})
	for _, step := range []func(context.Context) error{c.indexes, c.packs, c.points} {
		if err := step(ctx); err != nil {
			return nil, err
		}
	}
	harmed := map[PointID]bool{}
	for _, problem := range c.problems {
		for _, id := range problem.Points {
			harmed[id] = true
		}
	}
	for id := range harmed {
		m, err := c.r.manifest(ctx, id)
		if err != nil && !isDamage(err) {
			return nil, err
		}
		for _, s := range m.packs {
			out = append(out, packInfo{sum: s.sum, kind: s.kind, size: s.size})
		}
	}
	return out, nil
}

// unindexed reads the directories of packs that no index lists.
func (p *repairer) unindexed(ctx context.Context) ([]packRecord, error) {
	var bad []provider.Info
	var why []error
	found, err := p.r.unindexed(ctx, func(info provider.Info, err error) {
		bad, why = append(bad, info), append(why, err)
	})
	if err != nil {
		return nil, err
	}
	for n, info := range bad {
		kind, sum, _ := parsePackKey(info.Key)
		ok, nope, err := p.pack(ctx, kind, sum, info.Version)
		if err != nil {
			return nil, err
		}
		if !ok {
			p.unmended(info.Key, why[n].Error()+"; "+nope.Error())
			continue
		}
		if p.o.DryRun {
			continue
		}
		if info, err = p.r.c.Store.Stat(ctx, info.Key); err != nil {
			return nil, err
		}
		rec, err := p.r.readPack(ctx, info)
		if err != nil {
			return nil, err
		}
		p.r.index.add("", []packRecord{rec})
		found = append(found, rec)
	}
	return found, nil
}

// damagedPacks reads packs, takes those that are damaged from the replica,
// and of those that remain notes in an index which chunks are damaged.
func (p *repairer) damagedPacks(ctx context.Context) error {
	p.healed = map[[32]byte]bool{}
	last, err := p.r.lastVerified(ctx, time.Now(), func(string, error) {})
	if err != nil {
		return err
	}
	var look []provider.Info
	for info, err := range p.r.packs(ctx) {
		if err != nil {
			return err
		}
		_, sum, ok := parsePackKey(info.Key)
		if ok && info.Size <= maxPack && (p.o.ReadData || last[sum].damaged || len(p.r.index.badIn(sum)) > 0) {
			look = append(look, info)
		}
	}
	var marks []packRecord
	for _, info := range look {
		rec, marked, err := p.lookAt(ctx, info)
		if err != nil {
			return err
		}
		if marked {
			marks = append(marks, rec)
			p.rep.Marked = append(p.rep.Marked, info.Key)
		}
		p.looked.add(info.Size)
		if p.o.Progress != nil {
			p.o.Progress(Progress{Items: int64(p.looked.Packs), Read: p.looked.Bytes})
		}
	}
	return p.write(ctx, marks)
}

// lookAt reads one pack. If some of it is damaged, and not known to be, it
// returns the record that says so.
func (p *repairer) lookAt(ctx context.Context, listed provider.Info) (rec packRecord, mark bool, err error) {
	kind, sum, _ := parsePackKey(listed.Key)
	if n, ok := p.r.index.packBySum(sum); ok && p.r.index.pack(n).size != listed.Size {
		return rec, false, nil // counts as gone
	}
	info, err := p.r.c.Store.Stat(ctx, listed.Key) // before it is read: only what was seen is replaced
	if errors.Is(err, provider.ErrNotFound) {
		return rec, false, nil // a prune was faster
	}
	if err != nil && !isDamage(err) {
		return rec, false, err
	}
	b := make([]byte, listed.Size)
	damage := readFull(ctx, p.r.c.Store, listed.Key, 0, b)
	if damage != nil && !isDamage(damage) {
		return rec, false, damage
	}
	if damage == nil && sha256.Sum256(b) != sum {
		damage = fmt.Errorf("%w: its bytes are not those of its name", ErrDamaged)
	}
	if damage == nil {
		p.healed[sum] = true
		return rec, false, nil
	}
	if info.Version != "" {
		ok, _, err := p.pack(ctx, kind, sum, info.Version)
		if err != nil {
			return rec, false, err
		}
		if ok {
			p.healed[sum] = true
			return rec, false, nil
		}
	}
	rec, err = p.trustedRecord(ctx, sum)
	if errors.Is(err, provider.ErrNotFound) {
		p.unmended(listed.Key, damage.Error()+"; no index that is trusted lists it, so no other writer relies on it")
		return rec, false, nil
	}
	if err != nil {
		return rec, false, err
	}
	before := p.r.index.badIn(sum)
	if rec.bad, err = p.badChunks(rec, b); err != nil {
		return rec, false, err
	}
	text := "its chunks are right all the same"
	if len(rec.bad) > 0 {
		text = fmt.Sprintf("%d of its %d chunks are damaged; the next backup of the same content stores them again", len(rec.bad), len(rec.entries))
	}
	p.unmended(listed.Key, fmt.Sprintf("%s: %v", text, damage))
	for _, id := range rec.bad {
		if !slices.Contains(before, id) {
			return rec, true, nil
		}
	}
	return rec, false, nil
}

// trustedRecord reads what an index says about a pack.
func (p *repairer) trustedRecord(ctx context.Context, sum [32]byte) (packRecord, error) {
	n, ok := p.r.index.packBySum(sum)
	if ok && p.r.index.pack(n).trusted && p.r.index.pack(n).object != "" {
		packs, err := p.r.readIndex(ctx, p.r.index.pack(n).object)
		if err != nil && !isDamage(err) {
			return packRecord{}, err
		}
		for _, rec := range packs {
			if rec.sum == sum && p.r.keys.trusts(rec.by) {
				return rec, nil
			}
		}
	}
	return packRecord{}, provider.ErrNotFound
}

// badChunks opens every chunk of a pack and returns those that are damaged.
func (p *repairer) badChunks(rec packRecord, b []byte) (bad []chunkID, err error) {
	secret, err := p.r.secret(rec.enc)
	if err != nil && !isDamage(err) {
		return nil, err
	}
	if err != nil {
		secret = make([]byte, 32) // opens nothing
	}
	ids := p.r.keys.newIdentifier()
	aead := newAEAD(derive(secret, rec.salt, rec.kind+" frames"))
	for _, e := range rec.entries {
		err := ErrDamaged
		if int64(e.off)+int64(e.stored) <= int64(len(b)) {
			_, err = openFrame(aead, p.r.zstd, ids, rec.kind, e.ref, b[e.off:][:e.stored], ids.spare())
		}
		if err != nil {
			bad = append(bad, e.id)
		}
	}
	slices.SortFunc(bad, func(a, b chunkID) int { return bytes.Compare(a[:], b[:]) })
	return slices.Compact(bad), nil
}

// unmark replaces indexes that say of chunks that they are damaged where they
// are not any more.
func (p *repairer) unmark(ctx context.Context) error {
	objects := map[string]bool{}
	for key, listed := range p.r.index.listing() {
		for _, n := range listed {
			if i := p.r.index.pack(n); len(i.bad) > 0 && p.healed[i.sum] {
				objects[key] = true
			}
		}
	}
	for _, key := range slices.Sorted(maps.Keys(objects)) {
		packs, err := p.r.readIndex(ctx, key)
		if isDamage(err) {
			continue // replaced meanwhile
		}
		if err != nil {
			return err
		}
		marked := false
		for i := range packs {
			if p.healed[packs[i].sum] && len(packs[i].bad) > 0 {
				packs[i].bad, marked = nil, true
			}
		}
		if !marked {
			continue
		}
		if err := p.write(ctx, packs); err != nil {
			return err
		}
		if err := p.remove(ctx, key); err != nil {
			return err
		}
	}
	return nil
}

// vouch takes packs that were in no index for trusted if a holder has signed a
// point that needs them. Others count as known from whoever says to have
// written them, until they are attested.
func (r *Repository) vouch(ctx context.Context, found []packRecord) error {
	if len(found) == 0 {
		return nil
	}
	named := map[[32]byte]bool{}
	for m, err := range r.manifests(ctx) {
		if err != nil {
			return err
		}
		for _, p := range m.packs {
			if r.keys.trusts(m.by) {
				named[p.sum] = true
			}
		}
	}
	for i, p := range found {
		if named[p.sum] {
			found[i].by = r.keys.self
		}
	}
	return nil
}

// stale finds the index objects to remove, and what of them is to be written
// again. indexed was loaded before the packs are listed here, so a pack in
// it that is not listed is gone.
func (r *Repository) stale(ctx context.Context, indexed []packInfo) (remove []string, rewrite []packRecord, lost []packInfo, err error) {
	for key, err := range r.bad {
		if !errors.Is(err, provider.ErrNotFound) {
			remove = append(remove, key)
		}
	}
	stored := map[string]int64{}
	for info, err := range r.packs(ctx) {
		if err != nil {
			return nil, nil, nil, err
		}
		stored[info.Key] = info.Size
	}
	gone := map[[32]byte]bool{}
	for _, p := range indexed {
		if size, ok := stored[p.key()]; (!ok || size != p.size) && !p.denied && !gone[p.sum] {
			lost = append(lost, p)
			gone[p.sum] = true
		}
	}
	objects := map[string]bool{}
	for key, listed := range r.index.listing() {
		for _, n := range listed {
			if gone[r.index.pack(n).sum] {
				objects[key] = true
			}
		}
	}
	for key := range objects {
		packs, err := r.readIndex(ctx, key)
		if err != nil {
			return nil, nil, nil, err
		}
		remove = append(remove, key)
		for _, p := range packs {
			if stored[packKey(p.kind, p.sum)] == p.size {
				rewrite = append(rewrite, p)
			}
		}
	}
	slices.Sort(remove)
	return remove, rewrite, lost, nil
}
