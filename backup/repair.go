package backup

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/holdfast-go/holdfast/provider"
)

// RepairReport tells what [Repository.Repair] has done.
type RepairReport struct {
	Format  bool     `json:"format,omitempty"`  // the format object was put back
	Keys    []string `json:"keys,omitempty"`    // keys objects that were put back or, being none, removed
	Indexed int      `json:"indexed,omitempty"` // packs that were in no readable index and are now
	Removed []string `json:"removed,omitempty"` // index objects that were unreadable or listed lost packs
	Lost    []string `json:"lost,omitempty"`    // packs that indexes listed and that are gone
}

// Repair puts back what can be made from the rest: the format object, and
// the indexes. It makes writers forget packs that are gone, so that the next
// backup of the same data stores them again and thereby heals the points
// that need them. It may run beside backups. It needs a credential that can
// delete, and can be repeated.
func (r *Repository) Repair(ctx context.Context) (RepairReport, error) {
	if err := r.readable(); err != nil {
		return RepairReport{}, fmt.Errorf("repair: %w", err)
	}
	rep, err := r.repair(ctx)
	if err != nil {
		return rep, fmt.Errorf("repair: %w", err)
	}
	return rep, nil
}

func (r *Repository) repair(ctx context.Context) (rep RepairReport, err error) {
	if r, err = r.current(ctx); err != nil {
		return rep, err
	}
	if rep.Format, err = r.repairFormat(ctx); err != nil {
		return rep, err
	}
	if rep.Keys, err = r.repairKeys(ctx); err != nil {
		return rep, err
	}
	fresh := newRepository(r.c, r.keys)
	if err := fresh.load(ctx); err != nil {
		return rep, err
	}
	indexed := fresh.index.all()
	found, err := fresh.unindexed(ctx, func(info provider.Info, err error) {
		r.c.Logger.Warn("pack is unreadable", "key", info.Key, "error", err)
	})
	if err != nil {
		return rep, err
	}
	doomed, err := fresh.condemned(ctx, "")
	if err != nil && !errors.Is(err, ErrDamaged) {
		return rep, err
	}
	found = slices.DeleteFunc(found, func(p packRecord) bool { return doomed[p.sum] })
	rep.Indexed = len(found)
	if err := fresh.vouch(ctx, found); err != nil {
		return rep, err
	}
	remove, rewrite, lost, err := fresh.stale(ctx, indexed)
	if err != nil {
		return rep, err
	}
	for batch := range slices.Chunk(append(found, rewrite...), packsPerIndex) {
		if _, err := fresh.writeIndex(ctx, "", batch); err != nil {
			return rep, err
		}
		r.index.add("", batch)
	}
	for _, p := range lost {
		r.index.lose(p.sum)
		rep.Lost = append(rep.Lost, p.key())
	}
	for _, key := range remove { // only now: what was right in them is stored anew
		if err := r.c.Store.Delete(ctx, key, provider.DeleteOptions{}); err != nil {
			return rep, err
		}
		rep.Removed = append(rep.Removed, key)
	}
	return rep, nil
}

func (r *Repository) repairFormat(ctx context.Context) (bool, error) {
	b, _, err := provider.ReadAll(ctx, r.c.Store, formatKey, maxFormat)
	if err == nil && string(b) == string(r.keys.encoded) {
		return false, nil
	}
	if err != nil && !isDamage(err) {
		return false, err
	}
	if !errors.Is(err, provider.ErrNotFound) {
		if err := r.c.Store.Delete(ctx, formatKey, provider.DeleteOptions{}); err != nil {
			return false, err
		}
	}
	_, err = provider.PutOnce(ctx, r.c.Store, formatKey, r.keys.encoded, r.c.put())
	return err == nil, err
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
