package backup

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"slices"

	"github.com/holdfast-go/holdfast/provider"
)

// A sealed writer can read no point, not even one of its own. What it needs
// of the one before, to skip what has not changed since, it keeps in its
// cache: for each point what its manifest says, beside the hash of that
// manifest, and the pages of its items as they were written (see metaWriter).
//
// None of it decides what a point may rely on. Whether the point exists, as
// it was written, the store says; whether a chunk is in a pack that may be
// relied on, the index, as for whatever was read. So what is missing, damaged
// or old in here costs reading, and nothing else.

func cachedOwn(id PointID) string { return ownPrefix + string(id) }

// remember keeps what this writer cannot read later of a point that is about
// to get its manifest: before, since the reply of the store may be lost.
func (r *Repository) remember(p Point, roots []node, manifest []byte) {
	if r.cache == nil || r.readable() == nil {
		return
	}
	content, err := encodeContent(p, roots)
	if err != nil {
		r.c.Logger.Warn("cache: not kept", "point", string(p.ID), "error", err)
		return
	}
	sum := sha256.Sum256(manifest)
	r.cache.put(cachedOwn(p.ID), append(sum[:], content...))
}

// An ownPoint is what was remembered of one.
type ownPoint struct {
	sum   [32]byte // of its manifest
	point Point
	roots []node
}

func (r *Repository) recall(id PointID) (o ownPoint, ok bool) {
	b := r.cache.get(cachedOwn(id))
	if len(b) < len(o.sum) {
		return o, false
	}
	var err error
	o.sum = [32]byte(b[:len(o.sum)])
	o.point, o.roots, err = decodeContent(id, b[len(o.sum):])
	return o, err == nil
}

// ownParent finds, for a writer that cannot read, its newest point that will
// do as a parent: it is in the store, and it is remembered. A session that may
// rely on no pack needs none.
func (r *Repository) ownParent(ctx context.Context, name, kind string, want Mode, may reusable) (Mode, *View, error) {
	if r.cache == nil || may.packs == nil {
		return Full, nil, nil
	}
	var infos []provider.Info
	for info, err := range r.c.Store.List(ctx, pointPrefix, provider.ListOptions{}) {
		if err != nil {
			return r.noParent(fmt.Errorf("list points: %w", err))
		}
		infos = append(infos, info)
	}
	for _, info := range slices.Backward(infos) {
		id, ok := pointIDOf(info.Key)
		if !ok {
			continue
		}
		o, ok := r.recall(id)
		if !ok || o.point.Name != name || o.point.Kind != kind || want == Differential && o.point.Mode != Full {
			continue
		}
		v, err := r.ownView(ctx, info, o)
		if err != nil {
			return r.noParent(err)
		}
		if v != nil {
			return want, v, nil
		}
	}
	return Full, nil, ctx.Err()
}

// noParent makes of an error that there is no parent, if the credential of
// the store is to blame.
func (r *Repository) noParent(err error) (Mode, *View, error) {
	if errors.Is(err, fs.ErrPermission) {
		r.c.Logger.Warn("points cannot be looked at, so everything is read", "error", err)
		return Full, nil, nil
	}
	return "", nil, err
}

// ownView opens what is remembered of a listed point. It returns nil if that
// is not the point in the store, or if next to nothing is left of it.
func (r *Repository) ownView(ctx context.Context, listed provider.Info, o ownPoint) (*View, error) {
	m, err := r.cachedManifest(ctx, o.point.ID, listed)
	if isDamage(err) {
		return nil, nil // forgotten, or not the point that was written
	}
	if err != nil || m.sum != o.sum {
		return nil, err
	}
	o.point.Stored, o.point.Packs = m.point.Stored, m.point.Packs
	m.point, m.roots = o.point, o.roots
	v := r.newView(m)
	v.own = true
	for _, n := range m.roots {
		if _, err := v.meta(ctx, n.page); err != nil {
			return nil, nil
		}
	}
	return v, nil
}

// errNotKept: a page is not in the cache of a writer that cannot read it from
// elsewhere. For targets its items are not there: they read them.
var errNotKept = fmt.Errorf("%w: it is not in the cache any more, and cannot be read from elsewhere", ErrDamaged)

func (v *View) notKept(page ref) error {
	v.noted.Do(func() {
		v.r.c.Logger.Warn("cache: lists of items of the parent are gone, so what they list is read; CacheSize may be too small",
			"point", string(v.m.point.ID))
	})
	return fmt.Errorf("page %s: %w", page.id, errNotKept)
}

// untilMissing ends a sequence of items where a page is missing. Of several
// runs the last that has a path counts, and nobody knows what that page has.
func untilMissing(items iter.Seq2[Item, error]) iter.Seq2[Item, error] {
	return func(yield func(Item, error) bool) {
		for it, err := range items {
			if errors.Is(err, errNotKept) || !yield(it, err) {
				return
			}
		}
	}
}
