package backup

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-go/holdfast/provider"
)

// PruneOptions say what to prune. The zero value is good.
type PruneOptions struct {
	// DryRun changes nothing: the report tells what would be done. Nothing
	// is then waited for, and locks are not looked at.
	DryRun bool

	// MinGarbage is the share of a pack that must be garbage before the rest
	// is written into a new pack, above 0 and at most 1; default 0.3. With 1,
	// only packs of which nothing is needed are removed.
	MinGarbage float64

	// Patience is how old, by the store's clock, a session without a point
	// may become before it is declared dead, at least a minute; default 7
	// days. A backup that takes longer fails with [ErrFenced], and nothing
	// else can go wrong, however the clocks are set.
	Patience time.Duration

	// MayLose are points whose list of items is damaged, and that do not stop
	// the prune for that: what can be read of the list is kept, and what only
	// the damaged part of it leads to may be deleted. That is lost for good
	// here, even if the list is repaired later; so Repair from a replica
	// first. A point whose manifest cannot be read still stops it.
	MayLose []PointID

	// Gone are records of Interrupted, of which you know that no process will
	// delete anything for them any more: it was seen to end, and so long ago
	// that none of its requests can still be under way. They are removed, and
	// the packs that went then can be copied here again. If that is wrong, a
	// late request can delete a pack that a copy has brought again, and Check
	// will call its points damaged until it is copied once more.
	Gone []string

	// Progress is called now and then from one goroutine: Items are points
	// looked at, Read bytes rewritten, Bytes those deleted, Stored those
	// uploaded.
	Progress func(Progress)
}

// An Amount is a number of packs and their bytes.
type Amount struct {
	Packs int   `json:"packs"`
	Bytes int64 `json:"bytes"`
}

func (a *Amount) add(bytes int64) {
	a.Packs++
	a.Bytes += bytes
}

// PruneReport tells what [Repository.Prune] has done and what it could not do
// yet.
type PruneReport struct {
	Points    int           `json:"points"`             // looked at
	Deleted   Amount        `json:"deleted"`            // packs that are gone
	Rewritten Amount        `json:"rewritten"`          // packs whose needed part was copied to new ones
	Stored    int64         `json:"stored,omitempty"`   // bytes of those new packs and their indexes
	Spared    Amount        `json:"spared"`             // condemned earlier, and needed after all
	Pending   Amount        `json:"pending"`            // condemned; to be deleted when sessions of Waiting are over
	Waiting   []OpenSession `json:"waiting,omitempty"`  // backups and copies that may still commit
	Fenced    []PointID     `json:"fenced,omitempty"`   // sessions that were declared dead
	Locked    []LockedPack  `json:"locked,omitempty"`   // garbage that the store will not delete yet
	Indexes   int           `json:"indexes,omitempty"`  // index objects that were replaced
	Sessions  int           `json:"sessions,omitempty"` // records of ended sessions that were removed

	// Interrupted are records of prunes that were killed while they deleted
	// something, or are still at it. It harms nothing here, but the packs
	// that went then cannot be copied here again. Name a record in
	// PruneOptions.Gone when its process is certainly gone.
	Interrupted []string `json:"interrupted,omitempty"`

	// Lossy are the points of PruneOptions.MayLose with damaged lists.
	Lossy []PointID `json:"lossy,omitempty"`
}

// An OpenSession is a backup or a copy that has neither ended nor been declared
// dead.
type OpenSession struct {
	ID    PointID   `json:"id"`    // of the point it may still make; of a copy, its own
	Since time.Time `json:"since"` // by the store's clock
}

// A LockedPack is garbage under retention.
type LockedPack struct {
	Key   string    `json:"key"`
	Size  int64     `json:"size"`
	Until time.Time `json:"until,omitzero"` // zero if the store did not tell
}

const (
	defaultMinGarbage = 0.3
	defaultPatience   = 7 * 24 * time.Hour
)

func (o PruneOptions) withDefaults() (PruneOptions, error) {
	var errs []error
	if o.MinGarbage == 0 {
		o.MinGarbage = defaultMinGarbage
	}
	if !(o.MinGarbage > 0 && o.MinGarbage <= 1) {
		errs = append(errs, fmt.Errorf("field MinGarbage is %v, want more than 0 and at most 1", o.MinGarbage))
	}
	if o.Patience == 0 {
		o.Patience = defaultPatience
	}
	if o.Patience < time.Minute {
		errs = append(errs, fmt.Errorf("field Patience is %v, want at least a minute", o.Patience))
	}
	for _, id := range o.MayLose {
		if _, err := id.Time(); err != nil {
			errs = append(errs, fmt.Errorf("field MayLose: %w", err))
		}
	}
	for _, key := range o.Gone {
		if !deletingKey(key) {
			errs = append(errs, fmt.Errorf("field Gone: %.120q is no record of an interrupted prune, as in PruneReport.Interrupted", key))
		}
	}
	return o, errors.Join(errs...)
}

// deletingKey reports whether a key is that of a record that a prune deletes
// packs.
func deletingKey(key string) bool {
	plan, random, ok := strings.Cut(strings.TrimPrefix(key, condemnedPrefix), deletingSuffix)
	_, err := PointID(plan).Time()
	return ok && err == nil && strings.HasPrefix(key, condemnedPrefix) && len(random) == 16 && strings.Trim(random, "0123456789abcdef") == ""
}

// Prune frees what no point needs: it deletes packs that are garbage and
// copies what is needed of packs that are mostly garbage into new ones. It
// may run beside backups, restores and other prunes, and can be killed at any
// moment: the next one goes on.
//
// It never waits. What a backup that is under way might be relying on is
// condemned, reported as Pending, and deleted by a Prune after that backup
// has ended; so run it regularly. Objects under retention stay and are
// reported; they are no error.
//
// Points may be copied into the store meanwhile if the copy has a
// [Repository.Hold] of it.
//
// It needs a credential that can delete. It condemns nothing, with an error
// wrapping [ErrDamaged], if it cannot read what some point needs: Check says
// what is wrong, and with MayLose it goes on all the same. The number of requests grows with what is freed and with
// the metadata of the points; a chunk costs 48 bytes of memory.
func (r *Repository) Prune(ctx context.Context, o PruneOptions) (PruneReport, error) {
	o, err := o.withDefaults()
	if err = errors.Join(err, r.readable()); err != nil {
		return PruneReport{}, fmt.Errorf("prune: %w", err)
	}
	if r, err = r.current(ctx); err != nil {
		return PruneReport{}, fmt.Errorf("prune: %w", err)
	}
	fresh := newRepository(r.c, r.keys)
	p := &pruner{r: fresh, o: o, live: newLiveSet(fresh)}
	p.live.mayLose = map[PointID]bool{}
	for _, id := range o.MayLose {
		p.live.mayLose[id] = true
	}
	err = p.run(ctx)
	p.report.Lossy = slices.Sorted(maps.Keys(p.live.lossy))
	if err != nil {
		return p.report, fmt.Errorf("prune: %w", err)
	}
	r.c.Logger.Info("pruned", "deleted", p.report.Deleted.Bytes, "rewritten", p.report.Rewritten.Bytes,
		"pending", p.report.Pending.Bytes, "waiting", len(p.report.Waiting), "locked", len(p.report.Locked))
	return p.report, nil
}

// A pruner is one run of Prune. Its repository is its own.
type pruner struct {
	r      *Repository
	o      PruneOptions
	report PruneReport
	live   *liveSet
	now    time.Time // by the store's clock, once it was needed

	sizes map[[32]byte]int64  // packs in the store when it was last listed
	kinds map[[32]byte]string // the same

	// Packs that were not there when the oldest copy began that is under way.
	copying time.Time
	brought map[[32]byte]bool
}

func (p *pruner) run(ctx context.Context) error {
	gens, rest, err := p.r.generations(ctx)
	if err != nil {
		return err
	}
	if !p.o.DryRun {
		if err := p.tidy(ctx, gens, rest); err != nil {
			return err
		}
		for _, key := range p.o.Gone {
			p.r.c.Logger.Warn("an interrupted prune was said to be gone", "key", key)
			if err := p.r.remove(ctx, key); err != nil {
				return err
			}
		}
	}
	for _, g := range gens {
		if err := p.finish(ctx, g); err != nil {
			return err
		}
	}
	if err := p.giveUpOld(ctx); err != nil {
		return err
	}
	g, ok, err := p.condemn(ctx)
	if err == nil && ok {
		err = p.finish(ctx, g)
	}
	if err != nil || p.o.DryRun {
		return err
	}
	if err := p.consolidate(ctx); err != nil {
		return err
	}
	if _, err := p.r.tidyVerified(ctx, func(sum [32]byte) bool { _, ok := p.sizes[sum]; return ok }); err != nil {
		return err
	}
	return p.endSessions(ctx)
}

// refresh learns what packs there are and what is in them: first from the
// indexes, then, for those that no index lists, from the packs.
func (p *pruner) refresh(ctx context.Context, doomed map[[32]byte]bool) error {
	if err := p.r.load(ctx); err != nil {
		return err
	}
	p.sizes, p.kinds, p.brought = map[[32]byte]int64{}, map[[32]byte]string{}, map[[32]byte]bool{}
	var unknown []provider.Info
	for info, err := range p.r.packs(ctx) {
		if err != nil {
			return err
		}
		kind, sum, ok := parsePackKey(info.Key)
		if !ok {
			continue
		}
		p.sizes[sum], p.kinds[sum] = info.Size, kind
		if !p.copying.IsZero() && !info.Modified.Before(p.copying) {
			p.brought[sum] = true
		}
		if _, known := p.r.index.packBySum(sum); !known && !doomed[sum] {
			unknown = append(unknown, info)
		}
	}
	type result struct {
		rec packRecord
		err error
	}
	for res := range inOrder(ctx, slices.Values(unknown), func(info provider.Info) result {
		rec, err := p.r.readPack(ctx, info)
		return result{rec, err}
	}) {
		switch {
		case res.err == nil:
			p.r.index.add("", []packRecord{res.rec})
		case isDamage(res.err): // what nobody can read is left alone
			p.r.c.Logger.Warn("pack is unreadable", "error", res.err)
		default:
			return res.err
		}
	}
	return ctx.Err()
}

// stored reports whether a pack is in the store as it should be.
func (p *pruner) stored(i packInfo) bool {
	size, ok := p.sizes[i.sum]
	return ok && size == i.size && p.kinds[i.sum] == i.kind
}

// giveUpOld makes an end of sessions that are too old, so that what they have
// stored can be condemned.
func (p *pruner) giveUpOld(ctx context.Context) error {
	if p.o.DryRun {
		return nil
	}
	sessions, err := p.r.sessionsThere(ctx)
	if err != nil {
		return err
	}
	for _, s := range sessions {
		if s.open() {
			if _, err := p.lostPatience(ctx, s); err != nil {
				return err
			}
		}
	}
	return nil
}

// endSessions removes the records of sessions that have ended, of those that
// failed when they are old. Tombstones stay: they stop a writer whenever it
// wakes up.
func (p *pruner) endSessions(ctx context.Context) error {
	sessions, err := p.r.sessionsThere(ctx)
	if err != nil {
		return err
	}
	var over []sessionRecord
	for _, s := range sessions {
		kept, err := p.protects(ctx, s)
		if err != nil {
			return err
		}
		if !kept {
			over = append(over, s)
		}
	}
	for err := range inOrder(ctx, slices.Values(over), func(s sessionRecord) error { return p.r.removeSession(ctx, s) }) {
		if err != nil {
			return err
		}
		p.report.Sessions++
	}
	return ctx.Err()
}

// protects reports whether what a session has stored is left alone: it may
// come to its end, or it failed and the next one goes on from there.
func (p *pruner) protects(ctx context.Context, s sessionRecord) (bool, error) {
	if s.open() {
		return true, nil
	}
	if s.base == "" || s.taken && !s.failed {
		return false, nil
	}
	now, err := p.storeNow(ctx)
	return err == nil && now.Sub(s.since) < p.o.Patience, err
}

// tidy removes what is left of generations that are over, and makes an end of
// those whose plan cannot be read.
func (p *pruner) tidy(ctx context.Context, gens []generation, rest []string) error {
	for _, key := range rest {
		// The listing may have missed a plan that was made during it.
		plan := key[:len(condemnedPrefix)+len(pointIDTime)+1+16]
		if strings.HasSuffix(key, timeSuffix) || p.r.gone(ctx, plan) {
			if err := p.r.remove(ctx, key); err != nil {
				return err
			}
		}
	}
	for _, g := range gens {
		if g.decided {
			continue
		}
		_, err := p.r.doomed(ctx, g)
		if !errors.Is(err, ErrDamaged) {
			continue
		}
		// Nothing is to be removed, whoever has read the plan before.
		p.r.c.Logger.Warn("a plan of an earlier prune is unreadable; given up", "error", err)
		if _, err := p.r.putSealed(ctx, kindVerdict, g.verdict(), encodePackSums(nil)); err != nil {
			return err
		}
	}
	return nil
}

func (p *pruner) progress() {
	if p.o.Progress != nil {
		p.o.Progress(Progress{Items: int64(p.report.Points), Read: p.report.Rewritten.Bytes, Bytes: p.report.Deleted.Bytes, Stored: p.report.Stored})
	}
}

// storeNow is the time by the store's clock, at the time of the first call.
func (p *pruner) storeNow(ctx context.Context) (_ time.Time, err error) {
	if p.now.IsZero() {
		p.now, err = p.r.storeTime(ctx)
	}
	return p.now, err
}
