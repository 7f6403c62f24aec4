package backup

import (
	"context"
	"errors"
	"fmt"

	"github.com/holdfast-go/holdfast/provider"
)

// A liveSet knows which chunks the points need. It holds one bit for each
// chunk that was known when it began, and forgets nothing: a chunk stays
// live when its point is forgotten while a prune runs.
type liveSet struct {
	r        *Repository
	segments [][]indexEntry
	bits     [][]uint64
	others   map[chunkID]bool // in no pack that was known
	walked   map[PointID]bool
	cache    *blockCache

	// Points of which pages may be unreadable: what only those lead to is not
	// live. Of others nothing may be overlooked, so what was walked for these
	// only, the loose pages, is walked again when another point needs it.
	mayLose map[PointID]bool
	loose   map[chunkID]bool
	lossy   map[PointID]bool // of them, those with such pages
}

func newLiveSet(r *Repository) *liveSet {
	return &liveSet{r: r, cache: newBlockCache(r.c.Store)}
}

// reset makes the set empty, and ready for the chunks known by now.
func (l *liveSet) reset() {
	l.segments, l.bits = l.r.index.snapshot(), nil
	for _, s := range l.segments {
		l.bits = append(l.bits, make([]uint64, (len(s)+63)/64))
	}
	l.others, l.walked = map[chunkID]bool{}, map[PointID]bool{}
	l.loose, l.lossy = map[chunkID]bool{}, map[PointID]bool{}
}

// find returns the place of the bit of a chunk.
func (l *liveSet) find(id chunkID) (word *uint64, bit uint64) {
	for n, s := range l.segments {
		if i := searchEntries(s, id); i < len(s) && s[i].id == id {
			return &l.bits[n][i/64], 1 << (i % 64)
		}
	}
	return nil, 0
}

func (l *liveSet) has(id chunkID) bool {
	if word, bit := l.find(id); word != nil {
		return *word&bit != 0
	}
	return l.others[id]
}

// mark makes a chunk live and reports whether it was not before.
func (l *liveSet) mark(id chunkID) bool {
	word, bit := l.find(id)
	if word == nil {
		was := l.others[id]
		l.others[id] = true
		return !was
	}
	was := *word&bit != 0
	*word |= bit
	return !was
}

// enter marks a page and reports whether to walk what is below it.
func (l *liveSet) enter(id chunkID, point PointID) bool {
	isNew := l.mark(id)
	again := l.loose[id]
	if l.mayLose[point] && isNew {
		l.loose[id] = true
	} else if !l.mayLose[point] {
		delete(l.loose, id)
	}
	return isNew || again // again by every point that may lose, to know which of them do
}

// skip reports whether a page may be left out because it is damaged.
func (l *liveSet) skip(ctx context.Context, point PointID, err error) bool {
	if !l.mayLose[point] || !isDamage(err) || ctx.Err() != nil {
		return false
	}
	l.lossy[point] = true
	return true
}

// update marks what the points need that were not looked at before. It
// returns how many points there are. ErrDamaged if what some point needs
// cannot be found out.
func (l *liveSet) update(ctx context.Context) (points int, err error) {
	if l.walked == nil {
		l.reset()
	}
	for range 10 {
		points, again, err := l.walkAll(ctx)
		if err != nil || !again {
			return points, err
		}
		l.reset() // pages may be marked whose chunks are not
	}
	return 0, errors.New("points keep vanishing while they are read")
}

func (l *liveSet) walkAll(ctx context.Context) (points int, again bool, err error) {
	var listErr error
	unknown := func(yield func(PointID) bool) {
		for info, err := range l.r.Manifests(ctx) {
			if err != nil {
				listErr = err
				return
			}
			id, _ := pointIDOf(info.Key)
			if l.walked[id] {
				points++
			} else if !yield(id) {
				return
			}
		}
	}
	type result struct {
		id  PointID
		m   manifest
		err error
	}
	for res := range inOrder(ctx, unknown, func(id PointID) result {
		m, err := l.r.manifest(ctx, id)
		return result{id, m, err}
	}) {
		err := res.err
		if errors.Is(err, provider.ErrNotFound) {
			continue // forgotten since it was listed
		}
		if err == nil {
			err = l.walk(ctx, res.m)
		}
		if isDamage(err) && l.r.gone(ctx, pointKey(res.id)) {
			return 0, true, nil
		}
		if err != nil {
			return 0, false, fmt.Errorf("what point %s needs cannot be found out; see Check, and Repair it from a replica, Forget it if it is lost, or name it in PruneOptions.MayLose to keep what can be read of it: %w", res.id, err)
		}
		points++
		l.walked[res.id] = true
	}
	return points, false, errors.Join(listErr, ctx.Err())
}

// walk marks what a point needs. What is below a page that is marked is
// marked already.
func (l *liveSet) walk(ctx context.Context, m manifest) error {
	v := l.r.newView(m)
	v.cache = l.cache
	var page func(n node, depth int) error
	page = func(n node, depth int) error {
		if !l.enter(n.page.id, m.point.ID) {
			return nil
		}
		p, err := v.page(ctx, n, depth)
		if l.skip(ctx, m.point.ID, err) {
			return nil
		}
		if err != nil {
			return err
		}
		for _, child := range p.nodes {
			if err := page(child, depth+1); err != nil {
				return err
			}
		}
		for _, it := range p.items {
			if err := l.content(ctx, v, it.content); err != nil {
				return err
			}
		}
		return nil
	}
	for _, root := range m.roots {
		if err := page(root, 0); err != nil {
			return err
		}
	}
	return nil
}

func (l *liveSet) content(ctx context.Context, v *View, c content) error {
	for _, r := range c.refs {
		if c.depth == 0 {
			l.mark(r.id)
			continue
		}
		if !l.enter(r.id, v.m.point.ID) {
			continue
		}
		below, err := v.refPage(ctx, r)
		if l.skip(ctx, v.m.point.ID, err) {
			continue
		}
		if err != nil {
			return err
		}
		if err := l.content(ctx, v, content{c.depth - 1, below}); err != nil {
			return err
		}
	}
	return nil
}
