package backup

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/holdfast-go/holdfast/provider"
)

// ExtendOptions say what to extend. The zero value is good.
type ExtendOptions struct {
	// DryRun changes nothing: the report tells what would be done.
	DryRun bool

	// Keep chooses the points that are to stay; default: all. What only
	// others need is not extended: it can be deleted when its locks end.
	Keep func(Point) bool

	// Ask asks the store for the lock of every pack instead of believing the
	// indexes. That is right once where the packs did not come from here: in
	// a replica, whose copies have locks of their own.
	Ask bool

	// Progress is called now and then from one goroutine: Items are objects
	// looked at, Bytes those extended, Stored those of new indexes.
	Progress func(Progress)
}

// A LockAmount is a number of objects and their bytes.
type LockAmount struct {
	Objects int   `json:"objects"`
	Bytes   int64 `json:"bytes"`
}

func (a *LockAmount) add(bytes int64) {
	a.Objects++
	a.Bytes += bytes
}

// ExtendReport tells what [Repository.ExtendLocks] has done.
type ExtendReport struct {
	Points   int        `json:"points"`   // kept
	Until    time.Time  `json:"until"`    // the new end of what was extended
	Extended LockAmount `json:"extended"` // or, in a dry run, to be extended
	Enough   LockAmount `json:"enough"`   // locked for long enough as it is
	Stored   int64      `json:"stored,omitempty"`

	// Bad is what kept points need and what could not be locked.
	Bad []Problem `json:"bad,omitempty"`

	// Exposed are the kept points that need something of Bad, in order; of a
	// log all that need some of it. Only they have not been extended, if the
	// error tells of Bad and nothing else.
	Exposed []PointID `json:"exposed,omitempty"`
}

// ExtendLocks makes everything that kept points need stay locked: what has
// less than Keep and half of Ahead to go, of [Config].Lock, is locked until
// Keep and Ahead from now, and the packs are listed in a new index that says
// so, so that later points rely on them instead of storing them again. Run it
// more often than every half of Ahead, before [Repository.Prune]. A segment
// of a log that is younger than Lock.Raw is left for [Log.Compact].
//
// A point whose manifest is locked cannot be forgotten, so choose with Keep,
// or no point will ever go.
//
// It may run beside everything else and can be killed at any moment: the next
// one goes on. It takes two requests for each object that it extends, one for
// each manifest, index and segment that needs nothing, and none for packs
// that the indexes say are locked for long enough. It fails with
// errors.ErrUnsupported if the store has no locks.
//
// In a bucket with versions a lock is put on the present version of a key.
// Where something was put on top of what the repository has written, that is
// the wrong one: such a key is Bad. If anything is, there is an error, too,
// after all the rest was extended.
func (r *Repository) ExtendLocks(ctx context.Context, o ExtendOptions) (ExtendReport, error) {
	x := &extender{o: o, now: time.Now()}
	err := r.readable()
	if err == nil && r.c.Lock.isZero() {
		err = errors.New("field Lock is zero")
	}
	var ok bool
	if x.locker, ok = provider.As[provider.Locker](r.c.Store); !ok && err == nil {
		err = fmt.Errorf("the store has no locks: %w", errors.ErrUnsupported)
	}
	if err == nil {
		r, err = r.current(ctx)
	}
	for try := 0; err == nil; try++ {
		x.r, x.seen, x.report = newRepository(r.c, r.keys), map[string]bool{}, ExtendReport{Extended: x.report.Extended, Stored: x.report.Stored}
		err = x.run(ctx)
		if !errors.Is(err, provider.ErrNotFound) || try == 4 {
			break // else a prune or a Compact has replaced something
		}
		err = nil
	}
	if err == nil && len(x.report.Bad) > 0 {
		err = fmt.Errorf("%d objects could not be locked, the first: %s: %s", len(x.report.Bad), x.report.Bad[0].Key, x.report.Bad[0].Text)
	}
	if err != nil {
		return x.report, fmt.Errorf("extend locks: %w", err)
	}
	return x.report, nil
}

// An extender is one run of ExtendLocks. Its repository is its own.
type extender struct {
	r      *Repository
	o      ExtendOptions
	now    time.Time
	locker provider.Locker
	report ExtendReport
	seen   map[string]bool   // keys of what is bad
	logOf  map[string]string // names of logs, by the keys of their objects
}

// least is the earliest end that is late enough.
func (x *extender) least() time.Time {
	return x.now.Add(x.r.c.Lock.Keep + x.r.c.Lock.Ahead/2)
}

func (x *extender) run(ctx context.Context) error {
	x.report.Until = x.r.c.Lock.retention(x.now).Until
	packs, others := map[uint32]bool{}, map[string]int64{}
	logs := map[string][]logNeed{}
	x.logOf = map[string]string{}
	var manifests []extendedPoint
	for m, err := range x.r.manifests(ctx) {
		if err != nil {
			return err
		}
		if m.point.Damaged == "" && x.o.Keep != nil && !x.o.Keep(m.point) {
			continue
		}
		x.report.Points++
		key := pointKey(m.point.ID)
		others[key] = 0
		manifests = append(manifests, extendedPoint{id: m.point.ID, logs: m.point.Logs})
		if m.point.Damaged != "" {
			x.bad(key, "what the point needs cannot be found out: "+m.point.Damaged)
			continue
		}
		for i, n := range m.logs {
			if i < len(m.point.Logs) && x.r.keys.logID(m.point.Logs[i].Log) == n.log {
				logs[m.point.Logs[i].Log] = append(logs[m.point.Logs[i].Log], n)
			}
		}
	}
	for _, m := range manifests {
		key := pointKey(m.id)
		if x.seen[key] {
			continue
		}
		needed, err := x.r.objects(ctx, key)
		if errors.Is(err, provider.ErrNotFound) && x.r.gone(ctx, key) {
			delete(others, key) // forgotten since it was listed
			x.report.Points--
			continue
		}
		if isDamage(err) {
			x.bad(key, err.Error())
			continue
		}
		if err != nil {
			return err
		}
		for _, info := range needed {
			if _, sum, ok := parsePackKey(info.Key); ok {
				n, _ := x.r.index.packBySum(sum)
				packs[n] = true
			} else if _, ok := parseIndexKey(info.Key); !ok {
				others[info.Key] = info.Size
			}
		}
	}
	if err := x.packs(ctx, packs, others); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(logs)) {
		if err := x.log(ctx, name, logs[name], others); err != nil {
			return fmt.Errorf("log %q: %w", name, err)
		}
	}
	for res := range inOrder(ctx, slices.Values(slices.Sorted(maps.Keys(others))), func(key string) extended { return x.extend(ctx, key) }) {
		if err := x.count(res); err != nil {
			return err
		}
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return x.expose(ctx, manifests)
}

// An extendedPoint is one to be kept.
type extendedPoint struct {
	id   PointID
	logs []LogPosition
}

// expose tells which points need something of what is bad.
func (x *extender) expose(ctx context.Context, points []extendedPoint) error {
	if len(x.seen) == 0 {
		return nil
	}
	all, logs, exposed := false, map[string]bool{}, []PointID(nil)
	for key := range x.seen {
		if _, ok := parseIndexKey(key); ok {
			all = true // it tells of packs that any of them may need
		}
		if name, ok := x.logOf[key]; ok {
			logs[name] = true
		}
	}
	for _, p := range points {
		key := pointKey(p.id)
		hit := all || x.seen[key] || slices.ContainsFunc(p.logs, func(n LogPosition) bool { return logs[n.Log] })
		if !hit {
			needed, err := x.r.objects(ctx, key)
			if errors.Is(err, provider.ErrNotFound) && x.r.gone(ctx, key) {
				continue
			}
			if err != nil && !isDamage(err) {
				return err
			}
			hit = err != nil || slices.ContainsFunc(needed, func(info provider.Info) bool { return x.seen[info.Key] })
		}
		if hit {
			exposed = append(exposed, p.id)
		}
	}
	x.report.Exposed = exposed
	return nil
}

// packs extends packs, says in new indexes that they are, and adds to others
// the indexes that tell of the rest.
func (x *extender) packs(ctx context.Context, packs map[uint32]bool, others map[string]int64) error {
	for _, batch := range x.batches(packs) {
		ends := map[uint32]int64{} // as an index is to say
		for res := range inOrder(ctx, slices.Values(batch), func(n uint32) extended {
			i := x.r.index.pack(n)
			if i.trusted && !x.o.Ask && i.locked >= x.least().Unix() {
				return extended{key: i.key(), size: i.size, end: time.Unix(i.locked, 0), n: n}
			}
			res := x.extend(ctx, i.key())
			res.n = n
			return res
		}) {
			if err := x.count(res); err != nil {
				return err
			}
			i := x.r.index.pack(res.n)
			switch {
			case !res.end.IsZero() && (res.end.Unix() > i.locked || i.object == ""):
				ends[res.n] = res.end.Unix()
			case i.object != "":
				others[i.object] = 0
			}
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := x.write(ctx, ends); err != nil {
			return err
		}
	}
	return nil
}

// batches divides packs into those of an index each.
func (x *extender) batches(packs map[uint32]bool) (out [][]uint32) {
	entries := map[uint32]int{}
	for _, s := range x.r.index.snapshot() {
		for _, e := range s {
			entries[e.pack]++
		}
	}
	room := 0
	for _, n := range slices.Sorted(maps.Keys(packs)) {
		if room <= 0 {
			out, room = append(out, nil), indexEntries
		}
		room -= entries[n]
		out[len(out)-1] = append(out[len(out)-1], n)
	}
	return out
}

// write says until when packs are locked.
func (x *extender) write(ctx context.Context, ends map[uint32]int64) error {
	if len(ends) == 0 || x.o.DryRun {
		return nil
	}
	records := map[uint32]*packRecord{}
	for n, end := range ends {
		for _, n := range x.r.index.numbers(x.r.index.pack(n).sum) { // nobody may know who is right
			if i := x.r.index.pack(n); !i.denied {
				records[n] = &packRecord{sum: i.sum, kind: i.kind, size: i.size, salt: i.salt, enc: i.enc, session: i.session, by: *i.by, locked: end,
					bad: x.r.index.badIn(i.sum)}
			}
		}
	}
	for _, s := range x.r.index.snapshot() {
		for _, e := range s {
			if p := records[e.pack]; p != nil {
				p.entries = append(p.entries, packEntry{ref{e.id, e.plain}, e.off, e.stored})
			}
		}
	}
	var all []packRecord
	for _, n := range slices.Sorted(maps.Keys(records)) {
		slices.SortFunc(records[n].entries, func(a, b packEntry) int { return cmp.Compare(a.off, b.off) })
		all = append(all, *records[n])
	}
	stored, err := x.r.writeIndex(ctx, "", all)
	x.report.Stored += stored
	return err
}

// log adds to others the objects of a log that points need.
func (x *extender) log(ctx context.Context, name string, needs []logNeed, others map[string]int64) error {
	l, err := x.r.Log(name)
	if err != nil {
		return err
	}
	numbers, err := l.branches(ctx)
	if err != nil {
		return err
	}
	floors, err := l.floors(ctx, numbers, needs)
	if err != nil {
		return err
	}
	for b, floor := range floors {
		switch _, err := x.r.c.Store.Stat(ctx, l.startKey(b)); {
		case err == nil:
			others[l.startKey(b)], x.logOf[l.startKey(b)] = 0, name
		case !errors.Is(err, provider.ErrNotFound):
			return err
		}
		found, err := l.spans(ctx, span{b, floor.at, ^uint64(0)})
		if err != nil {
			return err
		}
		end := uint64(0) // of those before, which are longer if they begin at the same position
		slices.SortStableFunc(found, func(a, b storedSpan) int { return cmp.Or(cmp.Compare(a.from, b.from), cmp.Compare(b.to, a.to)) })
		for _, f := range found {
			replaced := f.to <= end
			end = max(end, f.to)
			if young := x.now.Sub(f.stored) < min(x.r.c.Lock.Raw, x.r.c.Lock.Keep); !replaced && !young {
				others[l.key(f.span)], x.logOf[l.key(f.span)] = f.size, name
			}
		}
	}
	return nil
}

// extended is what was found, or done, about one object.
type extended struct {
	key  string
	n    uint32
	size int64
	end  time.Time // of the lock as it is now; zero if it could not be extended
	more bool      // was extended
	why  string    // it could not be
	err  error
}

// extend makes the lock of an object last.
func (x *extender) extend(ctx context.Context, key string) (e extended) {
	e.key = key
	info, err := presentIn(ctx, x.r.c.Store, key)
	if errors.Is(err, errShadowed) || errors.Is(err, provider.ErrCorrupt) {
		e.why = err.Error()
		return e
	}
	if err != nil {
		e.err = fmt.Errorf("stat %s: %w", key, err)
		return e
	}
	e.size, e.end = info.Size, info.Retain.Until
	if !e.end.Before(x.least()) {
		return e
	}
	r := x.r.c.Lock.retention(x.now)
	if info.Retain.Mode == provider.Compliance {
		r.Mode = provider.Compliance
	}
	e.end, e.more = r.Until, true
	if x.o.DryRun {
		return e
	}
	err = x.locker.Lock(ctx, key, r)
	if err == nil || ctx.Err() != nil || errors.Is(err, provider.ErrNotFound) {
		e.err = err
		return e
	}
	// The answer may be lost, or somebody else was faster and went further.
	if now, serr := presentIn(ctx, x.r.c.Store, key); serr == nil && !now.Retain.Until.Before(x.least()) {
		e.end = now.Retain.Until
		return e
	}
	e.err = fmt.Errorf("lock %s: %w", key, err)
	return e
}

func (x *extender) count(e extended) error {
	if e.err != nil {
		return e.err
	}
	switch {
	case e.why != "":
		x.bad(e.key, e.why)
	case e.more:
		x.report.Extended.add(e.size)
	default:
		x.report.Enough.add(e.size)
	}
	if x.o.Progress != nil {
		x.o.Progress(Progress{Items: int64(x.report.Extended.Objects + x.report.Enough.Objects), Bytes: x.report.Extended.Bytes, Stored: x.report.Stored})
	}
	return nil
}

func (x *extender) bad(key, text string) {
	if !x.seen[key] {
		x.seen[key] = true
		x.report.Bad = append(x.report.Bad, Problem{Key: key, Text: text})
	}
}
