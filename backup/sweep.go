package backup

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/holdfast-go/holdfast/provider"
)

// A census counts for every pack how much of it is live, and which of several
// copies of a chunk is the one to keep.
type census struct {
	packs []packInfo
	there []bool  // packs that are in the store and not condemned
	good  []bool  // those of them that may be relied on: somebody who is trusted tells of them
	total []int64 // bytes of chunks in a pack
	live  []int64 // of chunks that some point needs
	kept  []int64 // of those, what is kept there
	stuck []bool  // packs with something that is needed and has no good copy anywhere
}

// census looks at every chunk of the index.
func (p *pruner) census(doomed map[[32]byte]bool) *census {
	packs := p.r.index.all()
	c := &census{packs: packs, there: make([]bool, len(packs)), good: make([]bool, len(packs)),
		total: make([]int64, len(packs)), live: make([]int64, len(packs)), kept: make([]int64, len(packs)), stuck: make([]bool, len(packs))}
	for n, i := range packs {
		c.there[n] = !doomed[i.sum] && p.stored(i) && !i.denied
		c.good[n] = c.there[n] && i.trusted
	}
	segments := p.r.index.snapshot()
	for _, s := range segments {
		for _, e := range s {
			c.total[e.pack] += int64(e.stored)
			if p.live.has(e.id) {
				c.live[e.pack] += int64(e.stored)
			}
		}
	}
	p.eachLive(segments, func(places []indexEntry) {
		if e, ok := c.best(places); ok {
			c.kept[e.pack] += int64(e.stored)
			return
		}
		for _, e := range places { // which of them is what it is said to be is not known
			c.kept[e.pack] += int64(e.stored)
			c.stuck[e.pack] = true
		}
	})
	return c
}

// eachLive calls visit once for every live chunk, with all its places.
func (p *pruner) eachLive(segments [][]indexEntry, visit func(places []indexEntry)) {
	for _, s := range segments {
		for _, e := range s {
			if !p.live.has(e.id) {
				continue
			}
			if places := p.r.index.find(e.id); len(places) > 0 && places[0] == e {
				visit(places)
			}
		}
	}
}

// best chooses the copy to keep: in the pack with the least garbage, so that
// copies gather and what is left behind becomes garbage as a whole.
func (c *census) best(places []indexEntry) (best indexEntry, ok bool) {
	for _, e := range places {
		if c.goodAt(e) && (!ok || c.better(e.pack, best.pack)) {
			best, ok = e, true
		}
	}
	return best, ok
}

// goodAt reports whether a place may be relied on: a pack that is good, and
// where this chunk was not found damaged.
func (c *census) goodAt(e indexEntry) bool {
	return c.good[e.pack] && !c.packs[e.pack].bad[e.id]
}

func (c *census) better(a, b uint32) bool {
	share := func(n uint32) float64 { return float64(c.live[n]) / float64(max(c.total[n], 1)) }
	return cmp.Or(cmp.Compare(share(a), share(b)), cmp.Compare(b, a)) > 0
}

// condemn makes a new generation of what is garbage now, after the needed
// part of packs that are mostly garbage has been copied.
func (p *pruner) condemn(ctx context.Context) (g generation, ok bool, err error) {
	writing, err := p.writing(ctx)
	if err != nil {
		return g, false, err
	}
	doomed, err := p.r.condemned(ctx, "")
	if err != nil {
		return g, false, err
	}
	if err := p.refresh(ctx, doomed); err != nil {
		return g, false, err
	}
	if err := p.look(ctx); err != nil {
		return g, false, err
	}
	c := p.census(doomed)
	var plan []packSum
	planned := map[[32]byte]bool{}
	rewrite := map[uint32]bool{}
	for n, i := range c.packs {
		if writing[PointID(i.session)] || p.brought[i.sum] || !c.there[n] {
			continue // whoever is at it may come back and go on from it
		}
		if !i.trusted {
			if ok, err := p.garbage(ctx, c, i.sum, writing); err != nil {
				return g, false, err
			} else if !ok || planned[i.sum] {
				continue
			}
		}
		garbage := float64(c.total[n]-c.kept[n]) >= p.o.MinGarbage*float64(c.total[n])
		if i.trusted && c.stuck[n] { // it may be read again some day, and a replica may put it right
			continue
		}
		if c.kept[n] > 0 && !garbage && len(i.bad) == 0 {
			continue
		}
		if locked, err := p.locked(ctx, i); err != nil || locked {
			if err != nil {
				return g, false, err
			}
			continue
		}
		if c.kept[n] > 0 {
			rewrite[uint32(n)] = true
		} else {
			planned[i.sum] = true
			plan = append(plan, packSum{i.sum, i.kind, i.size})
		}
	}
	if p.o.DryRun {
		for _, s := range plan {
			p.report.Deleted.add(s.size)
		}
		for n := range rewrite {
			p.report.Rewritten.add(c.packs[n].size)
			p.report.Stored += c.kept[n]
		}
		return g, false, nil
	}
	copied, err := p.rewrite(ctx, c, rewrite)
	if err != nil {
		return g, false, err
	}
	plan = append(plan, copied...)
	if len(plan) == 0 {
		return g, false, nil
	}
	g = generation{id: newPointID(p.r.c.now()), planned: true}
	slices.SortFunc(plan, func(a, b packSum) int { return slices.Compare(a.sum[:], b.sum[:]) })
	_, err = p.r.putSealed(ctx, kindPlan, g.plan(), encodePackSums(plan))
	return g, true, err
}

// writing returns the backups whose packs are left alone, and finds out since
// when copies are under way.
func (p *pruner) writing(ctx context.Context) (map[PointID]bool, error) {
	sessions, err := p.r.sessionsThere(ctx)
	if err != nil {
		return nil, err
	}
	out := map[PointID]bool{}
	p.copying = time.Time{}
	for _, s := range sessions {
		kept := s.open()
		if !kept && !p.o.DryRun {
			if kept, err = p.protects(ctx, s); err != nil {
				return nil, err
			}
		}
		if kept && s.copies && (p.copying.IsZero() || s.began.Before(p.copying)) {
			p.copying = s.began
		}
		out[s.id] = kept
	}
	return out, nil
}

// look brings up to date what is known to be live.
func (p *pruner) look(ctx context.Context) (err error) {
	p.report.Points, err = p.live.update(ctx)
	p.progress()
	return err
}

// locked reports a pack that is garbage as far as it goes and that the store
// would not delete. Condemning it would only keep writers from using it.
func (p *pruner) locked(ctx context.Context, i packInfo) (bool, error) {
	if _, ok := provider.As[provider.Locker](p.r.c.Store); !ok || p.o.DryRun {
		return false, nil
	}
	info, err := presentIn(ctx, p.r.c.Store, i.key())
	if errors.Is(err, errShadowed) {
		info, err = p.r.c.Store.Stat(ctx, i.key())
	}
	if errors.Is(err, provider.ErrNotFound) {
		return true, nil // another prune was faster
	}
	if errors.Is(err, provider.ErrCorrupt) { // its retention may be what cannot be read
		p.report.Locked = append(p.report.Locked, LockedPack{Key: i.key(), Size: i.size})
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("stat %s: %w", i.key(), err)
	}
	if !info.Retain.Until.After(p.r.c.now()) {
		return false, nil
	}
	p.report.Locked = append(p.report.Locked, LockedPack{i.key(), i.size, info.Retain.Until})
	return true, nil
}

// finish brings a generation to its end, as far as that is possible now.
func (p *pruner) finish(ctx context.Context, g generation) error {
	verdict, ok, err := p.verdict(ctx, g)
	if err != nil || !ok || p.o.DryRun {
		return err
	}
	gone := map[[32]byte]bool{}
	for _, s := range verdict {
		gone[s.sum] = true
	}
	if err := p.dropFromIndexes(ctx, gone); err != nil {
		return err
	}
	done, err := p.deletePacks(ctx, g, verdict)
	if err != nil || !done {
		return err
	}
	return p.close(ctx, g)
}

// close removes a generation whose packs are gone, unless a prune may still
// be about to delete them: a copy could have brought them again by then.
func (p *pruner) close(ctx context.Context, g generation) error {
	if err := p.r.mark(ctx, kindDeleting, g.closed()); err != nil {
		return err
	}
	deleting := false
	for info, err := range p.r.c.Store.List(ctx, g.plan()+deletingSuffix, provider.ListOptions{}) {
		if err != nil {
			return fmt.Errorf("list what is condemned: %w", err)
		}
		deleting = true
		p.report.Interrupted = append(p.report.Interrupted, info.Key)
	}
	if deleting {
		return nil
	}
	for _, key := range []string{g.plan(), g.awaited(), g.verdict(), g.closed()} { // in this order, see FORMAT.md
		if err := p.r.remove(ctx, key); err != nil {
			return err
		}
	}
	return nil
}

// deleting records that packs of a generation are going to be deleted by this
// process. It reports false if they must not be any more.
func (p *pruner) deleting(ctx context.Context, g generation) (over func() error, ok bool, err error) {
	id := newPointID(p.r.c.now())
	key := g.plan() + deletingSuffix + string(id[len(id)-16:])
	over = func() error { return p.r.remove(context.WithoutCancel(ctx), key) }
	if err := p.r.mark(ctx, kindDeleting, key); err != nil {
		return nil, false, err
	}
	// In this order: the plan is removed before the mark that it is closed.
	if !p.r.gone(ctx, g.closed()) {
		return nil, false, errors.Join(over(), ctx.Err())
	}
	if _, err := p.r.c.Store.Stat(ctx, g.plan()); errors.Is(err, provider.ErrNotFound) {
		return nil, false, over()
	} else if err != nil {
		return nil, false, errors.Join(fmt.Errorf("stat %s: %w", g.plan(), err), over())
	}
	return over, true, nil
}

// verdict decides which packs of a generation are deleted, or reads what was
// decided. It reports false if that is not possible yet or any more.
func (p *pruner) verdict(ctx context.Context, g generation) ([]packSum, bool, error) {
	if g.decided {
		dead, err := p.r.readPacks(ctx, kindVerdict, g.verdict())
		if errors.Is(err, ErrDamaged) {
			err = fmt.Errorf("which packs to delete cannot be read; when no other prune is running, delete %s and then this: %w", g.plan(), err)
		}
		return dead, err == nil, err
	}
	plan, err := p.r.readPacks(ctx, kindPlan, g.plan())
	if err != nil || len(plan) == 0 {
		return nil, false, err
	}
	if p.o.DryRun {
		for _, s := range plan {
			p.report.Pending.add(s.size)
		}
		return nil, false, nil
	}
	if over, err := p.await(ctx, g); err != nil || !over {
		for _, s := range plan {
			p.report.Pending.add(s.size)
		}
		return nil, false, err
	}
	// What the packs that stay can be relied on for: first what others may
	// delete, then what is there, then what the points need.
	doomed, err := p.r.condemned(ctx, g.id)
	if err != nil {
		return nil, false, err
	}
	if err := p.refresh(ctx, doomed); err != nil {
		return nil, false, err
	}
	if err := p.look(ctx); err != nil {
		return nil, false, err
	}
	dead, spared, err := p.judge(ctx, plan, doomed)
	if err != nil {
		return nil, false, err
	}
	b, err := p.r.putSealed(ctx, kindVerdict, g.verdict(), encodePackSums(dead))
	if errors.Is(err, provider.ErrNotFound) {
		return nil, false, nil // taken, and removed since: another prune has finished it
	}
	if err != nil {
		return nil, false, err
	}
	if dead, err = decodePackSums(b); err != nil {
		return nil, false, fmt.Errorf("%s: %w", g.verdict(), err)
	}
	// If the plan is gone, so is the generation, and the verdict is ours and
	// comes too late.
	if _, err := p.r.c.Store.Stat(ctx, g.plan()); errors.Is(err, provider.ErrNotFound) {
		return nil, false, p.r.remove(ctx, g.verdict())
	} else if err != nil {
		return nil, false, fmt.Errorf("stat %s: %w", g.plan(), err)
	}
	p.report.Spared.Packs += spared.Packs
	p.report.Spared.Bytes += spared.Bytes
	return dead, true, nil
}

// await finds out whether the sessions that may rely on the packs of a plan
// have ended, and makes an end of those that have lasted too long.
func (p *pruner) await(ctx context.Context, g generation) (over bool, err error) {
	plain, err := p.r.readSealed(ctx, kindAwaited, g.awaited())
	if errors.Is(err, provider.ErrNotFound) || errors.Is(err, ErrDamaged) {
		damaged := errors.Is(err, ErrDamaged)
		sessions, lerr := p.r.sessionsThere(ctx) // after the plan was made
		if lerr != nil {
			return false, lerr
		}
		var ids []PointID
		for _, s := range sessions {
			if s.open() {
				ids = append(ids, s.id)
			}
		}
		plain = encodeSessions(ids) // any listing after the plan will do
		if !damaged {
			plain, err = p.r.putSealed(ctx, kindAwaited, g.awaited(), plain)
			if errors.Is(err, provider.ErrNotFound) {
				return false, nil // another prune has finished it
			}
		} else {
			err = nil
		}
	}
	if err != nil {
		return false, err
	}
	awaited, err := decodeSessions(plain)
	if err != nil {
		return false, fmt.Errorf("%s: %w", g.awaited(), err)
	}
	sessions, err := p.r.sessionsThere(ctx)
	if err != nil {
		return false, err
	}
	over = true
	for _, s := range sessions {
		if !s.open() || !slices.Contains(awaited, s.id) {
			continue
		}
		ended, err := p.lostPatience(ctx, s)
		if err != nil {
			return false, err
		}
		over = over && ended
	}
	return over, nil
}

// lostPatience makes an end of a session if it is too old.
func (p *pruner) lostPatience(ctx context.Context, s sessionRecord) (bool, error) {
	now, err := p.storeNow(ctx)
	if err != nil {
		return false, err
	}
	ended := now.Sub(s.since) >= p.o.Patience
	switch {
	case ended && s.copies:
		if ended, err = p.r.giveUpCopy(ctx, s); err != nil {
			return false, err
		}
	case ended:
		dead := false
		if dead, err = p.r.giveUp(ctx, s.id, givenUp); err != nil {
			return false, err
		} else if !dead {
			return true, nil // it has committed just now
		}
	}
	if !ended {
		if o := (OpenSession{s.id, s.since}); !slices.Contains(p.report.Waiting, o) {
			p.report.Waiting = append(p.report.Waiting, o)
		}
		return false, nil
	}
	if !slices.Contains(p.report.Fenced, s.id) {
		p.report.Fenced = append(p.report.Fenced, s.id)
	}
	p.r.c.Logger.Warn("session has not ended for too long and was declared dead", "point", string(s.id), "since", s.since)
	return true, nil
}

// judge divides the packs of a plan into those of which nothing is needed,
// or only what packs outside of it hold, too, and those to spare.
func (p *pruner) judge(ctx context.Context, plan []packSum, doomed map[[32]byte]bool) (dead []packSum, spared Amount, err error) {
	planned := map[[32]byte]bool{}
	for _, s := range plan {
		planned[s.sum] = true
	}
	c := p.census(doomed)
	inPlan := make([]bool, len(c.packs))
	for n, i := range c.packs {
		inPlan[n] = planned[i.sum]
	}
	spare := map[[32]byte]bool{}
	p.eachLive(p.r.index.snapshot(), func(places []indexEntry) {
		var ours []indexEntry // copies in packs that only this plan can remove
		for _, e := range places {
			switch {
			case !c.goodAt(e):
			case !inPlan[e.pack] || spare[c.packs[e.pack].sum]:
				return // safe elsewhere
			default:
				ours = append(ours, e)
			}
		}
		if e, ok := c.best(ours); ok {
			spare[c.packs[e.pack].sum] = true
			return
		}
		for _, e := range places { // another prune has to find all of them here, too
			if inPlan[e.pack] {
				spare[c.packs[e.pack].sum] = true
			}
		}
	})
	for _, s := range plan {
		n, known := p.r.index.packBySum(s.sum)
		_, there := p.sizes[s.sum]
		if spare[s.sum] || there && !known { // what cannot be read cannot be judged
			spared.add(s.size)
			continue
		}
		if there && !p.r.index.pack(n).trusted {
			if ok, err := p.garbage(ctx, c, s.sum, nil); err != nil {
				return nil, spared, err
			} else if !ok {
				spared.add(s.size)
				continue
			}
		}
		dead = append(dead, s)
	}
	return dead, spared, nil
}

// garbage reports whether nothing is needed of a pack of which only those
// tell who are not trusted. So the pack is asked, which is what its writer
// made it, unless all that was known is what it had told.
func (p *pruner) garbage(ctx context.Context, c *census, sum [32]byte, writing map[PointID]bool) (bool, error) {
	asked := false
	for _, n := range p.r.index.numbers(sum) {
		if int(n) >= len(c.kept) {
			continue
		}
		i := p.r.index.pack(n)
		if writing[PointID(i.session)] || c.kept[n] > 0 {
			return false, nil
		}
		asked = asked || i.object == ""
	}
	if asked {
		return true, nil
	}
	rec, err := p.r.readPack(ctx, provider.Info{Key: packKey(p.kinds[sum], sum), Size: p.sizes[sum]})
	if isDamage(err) {
		return errors.Is(err, provider.ErrNotFound), nil // what cannot be read cannot be judged
	}
	if err != nil {
		return false, err
	}
	if writing[PointID(rec.session)] {
		return false, nil
	}
	for _, e := range rec.entries {
		if !p.live.has(e.id) {
			continue
		}
		if _, safe := c.best(p.r.index.find(e.id)); !safe {
			return false, nil
		}
	}
	return true, nil
}

// deletePacks deletes the packs of a verdict and reports whether all are
// gone.
func (p *pruner) deletePacks(ctx context.Context, g generation, dead []packSum) (done bool, err error) {
	type result struct {
		pack packSum
		info provider.Info
		err  error
	}
	if p.sizes == nil {
		if err := p.refresh(ctx, nil); err != nil {
			return false, err
		}
	}
	dead = slices.DeleteFunc(dead, func(s packSum) bool {
		_, there := p.sizes[s.sum]
		return !there // by an earlier prune, or another
	})
	if len(dead) == 0 {
		return true, nil
	}
	over, ok, err := p.deleting(ctx, g)
	if err != nil || !ok {
		return false, err
	}
	var under sync.WaitGroup // also when this loop is left early
	defer func() {
		under.Wait()
		err = errors.Join(err, over())
	}()
	begin := func(yield func(packSum) bool) {
		for _, s := range dead {
			under.Add(1)
			if !yield(s) {
				return
			}
		}
	}
	done = true
	for res := range inOrder(ctx, begin, func(s packSum) result {
		defer under.Done()
		key := packKey(s.kind, s.sum)
		err := p.r.c.Store.Delete(ctx, key, provider.DeleteOptions{})
		var info provider.Info
		if errors.Is(err, provider.ErrLocked) {
			info, _ = p.r.c.Store.Stat(ctx, key) // only to tell until when
		}
		return result{s, info, err}
	}) {
		key := packKey(res.pack.kind, res.pack.sum)
		switch {
		case res.err == nil:
			p.report.Deleted.add(res.pack.size)
			p.progress()
		case errors.Is(res.err, provider.ErrLocked):
			done = false
			p.report.Locked = append(p.report.Locked, LockedPack{key, res.pack.size, res.info.Retain.Until})
		default:
			return false, fmt.Errorf("delete %s: %w", key, res.err)
		}
		p.r.index.lose(res.pack.sum)
	}
	return done, ctx.Err()
}
