package backup

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/holdfast-go/holdfast/provider"
)

// confirm looks again at what was found missing. While a check runs, backups
// add what its listings do not show, and prunes move chunks elsewhere.
func (c *checker) confirm(ctx context.Context) error {
	verdicts := map[PointID]bool{}
	for _, key := range slices.Sorted(maps.Keys(c.missing)) {
		p := c.problems[key]
		if p == nil || !c.missing[key] {
			continue
		}
		var still []PointID
		for _, id := range p.Points {
			if _, ok := verdicts[id]; !ok {
				whole, err := c.whole(ctx, id)
				if err != nil {
					return err
				}
				verdicts[id] = whole
			}
			if !verdicts[id] {
				still = append(still, id)
			}
		}
		p.Points = still
		if len(still) == 0 && !c.unindexed(ctx, key) {
			delete(c.problems, key)
		}
	}
	return ctx.Err()
}

// unindexed reports whether a pack is there and in no index.
func (c *checker) unindexed(ctx context.Context, key string) bool {
	if p := c.problems[key]; !p.Repairable || c.r.load(ctx) != nil || c.r.gone(ctx, key) {
		return false
	}
	n, ok := c.r.index.packBySum(sumOf(key))
	return ok && c.r.index.pack(n).object == ""
}

// whole reports whether everything that a point needs is there, or the point
// itself is gone.
func (c *checker) whole(ctx context.Context, id PointID) (bool, error) {
	var err error
	for range 5 {
		if err = c.look(ctx, id); err == nil || !isDamage(err) {
			return err == nil, err
		}
		if c.r.gone(ctx, pointKey(id)) {
			return true, nil
		}
		if !errors.Is(err, provider.ErrNotFound) {
			break
		}
	}
	return false, nil
}

// look finds every chunk of a point as a new process would. ErrDamaged if
// that is not possible, ErrNotFound as well if something vanished meanwhile.
func (c *checker) look(ctx context.Context, id PointID) error {
	r := newRepository(c.r.c, c.r.keys)
	m, err := r.manifest(ctx, id)
	if err != nil {
		return err
	}
	if err := r.load(ctx); err != nil {
		return err
	}
	there := map[uint32]bool{}
	return r.newView(m).walk(ctx, func(x ref) error {
		places := r.index.find(x.id)
		if len(places) == 0 {
			if err := r.search(ctx); err != nil {
				return err
			}
			places = r.index.find(x.id)
		}
		var vanished error
		ok := slices.ContainsFunc(places, func(e indexEntry) bool {
			if good, known := there[e.pack]; known {
				return good
			}
			p := r.index.pack(e.pack)
			info, err := c.r.c.Store.Stat(ctx, p.key())
			if errors.Is(err, provider.ErrNotFound) {
				vanished = err
			}
			there[e.pack] = err == nil && info.Size == p.size
			return there[e.pack]
		})
		if ok {
			return nil
		}
		return errors.Join(fmt.Errorf("%w: chunk %s is in no pack", ErrDamaged, x.id), vanished, ctx.Err())
	})
}
