package backup_test

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/cryptotest"
	"testing/synctest"
	"time"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/providertest"
	"github.com/holdfast-go/holdfast/replicate"
)

var (
	seeds     = flag.Int("seeds", 0, "how many simulations TestSimulate runs; default 30")
	firstSeed = flag.Uint64("seed", 1, "the first of them")
)

// A bug is put between one client and the store.
type bug struct {
	writer func(provider.BlobStore) provider.BlobStore
	pruner func(provider.BlobStore) provider.BlobStore
	delay  int

	operations int                 // if it takes more to find it
	steady     bool                // few are killed
	unheld     bool                // copies do not tell the destination
	critical   func(*request) bool // requests that are all held back for long
	lethal     func(*request) bool // requests at which half of those who make them are killed
}

// A world is one simulation: writers, prunes, and others that share a store.
type world struct {
	t    *testing.T
	s    *schedule
	bug  bug
	root *backup.Repository // for its keys: opening them is most of what a simulation would do

	sealed *backup.Repository  // the same of a sealed writer
	caches []map[string][]byte // what its processes have found, to be found again

	files   int // there are so many different ones
	forgets int // in ten visits
	slots   []*slot
	started int

	source, replica *model

	mu         sync.Mutex
	violations []string
	contents   map[backup.PointID]map[string]file
	acked      map[backup.PointID]bool // at the source
	forgotten  map[backup.PointID]bool // there
	arrived    map[backup.PointID]bool // at the replica
	dropped    map[backup.PointID]bool // forgotten there
	seen       seen
}

// seen counts what has happened, to know that it does.
type seen struct{ points, fenced, restored, checked, deleted, rewritten, spared, pending, crashes, copied, dropped, late, skipped, stale, attested, adopted int }

func (s *seen) add(o seen) {
	s.points += o.points
	s.fenced += o.fenced
	s.restored += o.restored
	s.checked += o.checked
	s.deleted += o.deleted
	s.rewritten += o.rewritten
	s.spared += o.spared
	s.pending += o.pending
	s.crashes += o.crashes
	s.copied += o.copied
	s.dropped += o.dropped
	s.late += o.late
	s.skipped += o.skipped
	s.stale += o.stale
	s.attested += o.attested
	s.adopted += o.adopted
}

const (
	operations     = 22 // in each simulation
	simulatedSeeds = 30
)

// A slot runs one operation after the other, each in the life of one client.
type slot struct {
	id   int
	run  func(w *world, c *client, r *backup.Repository, rnd *rand.Rand)
	role func(bug) func(provider.BlobStore) provider.BlobStore

	cache *backup.MemoryCache // of the host of a sealed writer

	c    *client
	r    *backup.Repository
	busy bool
	done bool // the operation has returned
}

func (w *world) violate(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.violations) < 5 {
		w.violations = append(w.violations, fmt.Sprintf(format, args...))
	}
}

// open returns what a new process has, whose clock is the store's if c is nil.
func (w *world) open(c *client, s provider.BlobStore) *backup.Repository {
	now := time.Now
	if c != nil {
		now = c.now
	}
	return backup.Simulated(w.root, w.config(s), now)
}

func (w *world) config(s provider.BlobStore) backup.Config {
	c := simConfig(s)
	c.Logger = slog.New(adoptions{slog.DiscardHandler, w})
	return c
}

// adoptions counts the packs that backups go on from.
type adoptions struct {
	slog.Handler
	w *world
}

func (adoptions) Enabled(context.Context, slog.Level) bool { return true }

func (a adoptions) Handle(_ context.Context, r slog.Record) error {
	r.Attrs(func(at slog.Attr) bool {
		if strings.HasPrefix(r.Message, "going on from") && at.Key == "packs" {
			a.w.mu.Lock()
			a.w.seen.adopted += int(at.Value.Int64())
			a.w.mu.Unlock()
		}
		return true
	})
	return nil
}

func simConfig(s provider.BlobStore) backup.Config {
	return backup.Config{Store: s, Keyring: backup.Keyring{Recipients: []backup.Recipient{backup.Unprotected{}}, Identities: []backup.Identity{backup.Unprotected{}}},
		Writer: "test", Workers: 1, Uploads: 1}
}

// An origin is the repository that all simulations begin with.
type origin struct {
	root, sealed *backup.Repository
	format       []byte
}

var simOrigin = sync.OnceValue(func() origin {
	ctx, s := context.Background(), providertest.NewMemory()
	r, err := backup.Init(ctx, simConfig(s))
	if err != nil {
		panic(err)
	}
	c, err := r.Seal(ctx, "sealed")
	if err != nil {
		panic(err)
	}
	sealed, err := backup.Open(ctx, backup.Config{Store: s, Credential: c})
	if err != nil {
		panic(err)
	}
	format, _, err := provider.ReadAll(ctx, s, "format", 1<<20)
	if err != nil {
		panic(err)
	}
	return origin{r, sealed, format}
})

// openSealed returns what a new process of the sealed writer has. What it
// finds in its cache is not always what the one before has left.
func (w *world) openSealed(c *client, s provider.BlobStore, cache *backup.MemoryCache, rnd *rand.Rand) *backup.Repository {
	now := cache.Copy()
	w.caches = append(w.caches, now)
	paths := slices.Sorted(maps.Keys(now))
	switch rnd.IntN(8) {
	case 0: // lost
		now = nil
	case 1: // that of some time ago
		now = w.caches[rnd.IntN(len(w.caches))]
		w.seen.stale++
	case 2: // in part
		now = maps.Clone(now)
		for _, p := range paths {
			if rnd.IntN(4) == 0 {
				delete(now, p)
			}
		}
	case 3: // damaged
		now = maps.Clone(now)
		for _, p := range paths {
			if rnd.IntN(4) == 0 {
				now[p] = now[paths[rnd.IntN(len(paths))]]
			}
		}
	}
	cache.Set(now)
	config := w.config(s)
	config.Writer = "sealed"
	return backup.WithCache(backup.Simulated(w.sealed, config, c.now), cache)
}

// backUpSealed is the operation of a sealed writer. Its files change, so that
// what it takes over matters.
func backUpSealed(w *world, c *client, r *backup.Repository, rnd *rand.Rand) {
	files := map[string]file{}
	size := int64(0)
	for range 1 + rnd.IntN(5) {
		n, v := rnd.IntN(w.files), 100*rnd.IntN(2)
		files[fmt.Sprintf("f%02d", n)] = file{content: random(uint64(n+v), 200+97*n), version: n + v}
	}
	for _, f := range files {
		size += int64(len(f.content))
	}
	mode := []backup.Mode{backup.Full, backup.Incremental, backup.Incremental, backup.Differential}[rnd.IntN(4)]
	p := w.backUp(r, "s", files, mode)
	if p.Parent != "" && p.Stats.BytesRead < size {
		w.mu.Lock()
		w.seen.skipped++
		w.mu.Unlock()
	}
}

// backUp is the operation of a writer.
func backUp(w *world, c *client, r *backup.Repository, rnd *rand.Rand) {
	files := map[string]file{}
	for range 1 + rnd.IntN(5) {
		n := rnd.IntN(w.files)
		files[fmt.Sprintf("f%02d", n)] = file{content: random(uint64(n), 200+97*n), version: n}
	}
	mode := []backup.Mode{backup.Full, backup.Incremental}[rnd.IntN(2)]
	w.backUp(r, "w", files, mode)
}

func (w *world) backUp(r *backup.Repository, name string, files map[string]file, mode backup.Mode) backup.Point {
	p, err := r.Backup(w.t.Context(), name, &tree{files: files}, backup.BackupOptions{Mode: mode})
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case err == nil:
		w.seen.points++
		w.acked[p.ID], w.contents[p.ID] = true, files
	case errors.Is(err, backup.ErrFenced):
		w.seen.fenced++
	}
	return p
}

func prune(w *world, c *client, r *backup.Repository, rnd *rand.Rand) {
	o := backup.PruneOptions{MinGarbage: []float64{0.01, 0.3, 1}[rnd.IntN(3)], Patience: []time.Duration{time.Hour, 0}[rnd.IntN(2)]}
	rep, err := r.Prune(w.t.Context(), o)
	if err != nil && !c.faulted {
		w.violate("prune: %v", err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.seen.deleted += rep.Deleted.Packs
	w.seen.rewritten += rep.Rewritten.Packs
	w.seen.spared += rep.Spared.Packs
	w.seen.pending += rep.Pending.Packs
}

// pick returns a point that was acknowledged and not forgotten.
func (w *world) pick(rnd *rand.Rand, acked, forgotten map[backup.PointID]bool) (backup.PointID, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var ids []backup.PointID
	for id := range acked {
		if !forgotten[id] {
			ids = append(ids, id)
		}
	}
	if len(ids) == 0 {
		return "", false
	}
	slices.Sort(ids)
	return ids[rnd.IntN(len(ids))], true
}

func (w *world) kept(id backup.PointID) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.acked[id] && !w.forgotten[id]
}

// visit forgets, restores, checks, attests or replicates.
func visit(w *world, c *client, r *backup.Repository, rnd *rand.Rand) {
	ctx := w.t.Context()
	id, ok := w.pick(rnd, w.acked, w.forgotten)
	switch n := rnd.IntN(10); {
	case n < w.forgets && ok:
		w.mu.Lock()
		w.forgotten[id] = true
		w.mu.Unlock()
		if err := r.Forget(ctx, id); err != nil && !c.faulted {
			w.violate("forget: %v", err)
		}
	case n < 6 && ok:
		w.restore(r, c, id)
	case n < 8:
		rep, err := r.Check(ctx, backup.CheckOptions{ReadData: n == 7})
		if err != nil && !c.faulted {
			w.violate("check: %v", err)
		}
		for _, p := range rep.Problems {
			for _, id := range p.Points {
				if w.kept(id) && !c.faulted {
					w.violate("check: %+v", p)
				}
			}
		}
		w.mu.Lock()
		w.seen.checked++
		w.mu.Unlock()
	case n < 9:
		rep, err := r.Attest(ctx, backup.AttestOptions{})
		if (err != nil || len(rep.Bad) > 0) && !c.faulted {
			w.violate("attest: %+v, %v", rep.Bad, err)
		}
		w.mu.Lock()
		w.seen.attested += rep.Attested.Packs
		w.mu.Unlock()
	default:
		w.replicate(c, r)
	}
}

func (w *world) restore(r *backup.Repository, c *client, id backup.PointID) {
	var got tree
	err := r.Restore(w.t.Context(), id, &got, backup.Destination{}, backup.RestoreOptions{})
	if !w.kept(id) || c != nil && c.faulted {
		return
	}
	w.mu.Lock()
	want := w.contents[id]
	w.seen.restored++
	w.mu.Unlock()
	if err != nil || len(got.restored) != len(want) {
		w.violate("restore of %s: %d of %d items, %v", id, len(got.restored), len(want), err)
		return
	}
	for p, f := range want {
		if got.restored[p] != f.content {
			w.violate("restore of %s: %s differs", id, p)
		}
	}
}

// replicaOf is where the copies are: behind the same schedule, so that it
// decides about each of their requests, too.
func replicaOf(s provider.BlobStore) provider.BlobStore { return provider.Sub(s, "replica/") }

// replicate copies points to the replica, which others prune.
func (w *world) replicate(c *client, r *backup.Repository) {
	to := replicaOf(c)
	config := replicate.Config{Source: r, From: c, To: to, Parallel: 1}
	if !w.bug.unheld {
		config.Hold = func(ctx context.Context, m []provider.Info) (replicate.Hold, error) { return r.Hold(ctx, to, m) }
	}
	res, _ := replicate.Copy(w.t.Context(), config)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.seen.copied += len(res.Arrived)
	for _, key := range res.Arrived {
		id := backup.PointID(strings.TrimPrefix(key, "points/"))
		w.arrived[id] = true
		if b := w.replica.broken(id); b != "" && !w.dropped[id] {
			w.violations = append(w.violations, fmt.Sprintf("point %s has arrived, and %s", id, b))
		}
	}
}

// copyOut is the operation of who copies all the time.
func copyOut(w *world, c *client, r *backup.Repository, _ *rand.Rand) { w.replicate(c, r) }

// keepReplica is the operation of who looks after the replica.
func keepReplica(w *world, c *client, _ *backup.Repository, rnd *rand.Rand) {
	ctx := w.t.Context()
	at := replicaOf(c)
	if _, err := at.Stat(ctx, "format"); err != nil {
		return // nothing was copied yet
	}
	r := w.open(c, at)
	if rnd.IntN(3) == 0 {
		if id, ok := w.pick(rnd, w.arrived, w.dropped); ok {
			w.mu.Lock()
			w.dropped[id] = true
			w.seen.dropped++
			w.mu.Unlock()
			if err := r.Forget(ctx, id); err != nil && !c.faulted {
				w.violate("forget at the replica: %v", err)
			}
		}
		return
	}
	o := backup.PruneOptions{MinGarbage: []float64{0.01, 0.3, 1}[rnd.IntN(3)], Patience: []time.Duration{time.Hour, 0}[rnd.IntN(2)]}
	rep, err := r.Prune(ctx, o)
	if err != nil && !c.faulted {
		w.violate("prune of the replica: %v", err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.seen.deleted += rep.Deleted.Packs
}

// start lets an idle slot begin its next operation.
func (w *world) start(sl *slot) {
	w.started++
	if sl.c == nil || sl.c.dead {
		skew := time.Duration(0)
		if w.s.rnd.IntN(2) == 0 {
			skew = time.Duration(w.s.rnd.IntN(60*24)-30*24) * time.Hour
		}
		sl.c, sl.r = &client{s: w.s, id: sl.id, skew: skew}, nil
	}
	sl.c.faulted = false
	sl.busy, sl.done = true, false
	rnd := rand.New(rand.NewPCG(w.s.rnd.Uint64(), 1))
	go func() {
		defer func() { w.mu.Lock(); sl.done = true; w.mu.Unlock() }()
		if sl.r == nil {
			store := provider.BlobStore(sl.c)
			if f := sl.role(w.bug); f != nil {
				store = f(store)
			}
			if sl.cache != nil {
				sl.r = w.openSealed(sl.c, store, sl.cache, rnd)
			} else {
				sl.r = w.open(sl.c, store)
			}
		}
		sl.run(w, sl.c, sl.r, rnd)
	}()
}

// idle returns a slot whose operation is over.
func (w *world) idle() []*slot {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []*slot
	for _, sl := range w.slots {
		if sl.busy && sl.done {
			sl.busy = false
			if sl.c.dead {
				w.seen.crashes++
			}
		}
		if !sl.busy {
			out = append(out, sl)
		}
	}
	return out
}

// simulate runs one seed.
func simulate(t *testing.T, seed uint64, b bug) *world {
	// One thing at a time, and nothing that depends on how fast this machine
	// is: what a seed decides is all there is.
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	runtime.GC() // also one that was under way
	var w *world
	origin := simOrigin()
	synctest.Test(t, func(t *testing.T) {
		cryptotest.SetGlobalRandom(t, seed)
		rnd := rand.New(rand.NewPCG(seed, 0))
		s := &schedule{rnd: rnd, store: providertest.NewMemory(), delay: b.delay, critical: b.critical, lethal: b.lethal, hold: 3, peace: []int{200, 1500}[rnd.IntN(2)], modified: map[string]time.Time{}}
		if b.steady {
			s.peace = 6000
		}
		if b.critical != nil {
			s.hold = 1
		} else {
			s.critical = critical
		}
		w = &world{t: t, files: []int{5, 14}[rnd.IntN(2)], forgets: []int{3, 5}[rnd.IntN(2)], s: s, bug: b, root: origin.root, sealed: origin.sealed, contents: map[backup.PointID]map[string]file{},
			acked: map[backup.PointID]bool{}, forgotten: map[backup.PointID]bool{}, arrived: map[backup.PointID]bool{}, dropped: map[backup.PointID]bool{}}
		s.after = w.watch
		if _, err := s.store.Put(t.Context(), "format", provider.Bytes(origin.format), provider.PutOptions{}); err != nil {
			t.Fatal(err)
		}
		w.source, w.replica = newModel(w, s.store), newModel(w, replicaOf(s.store))
		writer := func(b bug) func(provider.BlobStore) provider.BlobStore { return b.writer }
		pruner := func(b bug) func(provider.BlobStore) provider.BlobStore { return b.pruner }
		visitor := func(bug) func(provider.BlobStore) provider.BlobStore { return nil }
		cache := new(backup.MemoryCache) // two processes of one sealed writer
		w.slots = append(w.slots, &slot{id: 0, run: backUp, role: writer})
		for i := range 2 {
			w.slots = append(w.slots, &slot{id: 1 + i, run: backUpSealed, role: writer, cache: cache})
		}
		for i := range 2 {
			w.slots = append(w.slots, &slot{id: 3 + i, run: prune, role: pruner})
		}
		w.slots = append(w.slots, &slot{id: 5, run: visit, role: visitor})
		w.slots = append(w.slots, &slot{id: 6, run: keepReplica, role: visitor}, &slot{id: 7, run: copyOut, role: visitor})
		w.play()
		w.seen.late = s.landed
	})
	return w
}

// play runs the world to its end.
func (w *world) play() {
	for {
		synctest.Wait()
		idle := w.idle()
		s := w.s
		s.calm = w.started >= max(operations, w.bug.operations)
		if !s.calm && len(idle) > 0 && (len(idle) == len(w.slots) || s.rnd.IntN(12) == 0) {
			w.start(idle[s.rnd.IntN(len(idle))])
			continue
		}
		if !s.step() && s.calm && len(idle) == len(w.slots) {
			break
		}
		if len(w.violations) > 0 && !s.calm {
			w.started = 1 << 20 // seen enough
		}
	}
	if len(w.violations) > 0 {
		return
	}
	// In the end, all is well, and what remains is what is needed.
	time.Sleep(30 * 24 * time.Hour)
	r := w.open(nil, w.s.store)
	for range 2 {
		if _, err := r.Prune(w.t.Context(), backup.PruneOptions{MinGarbage: 0.01}); err != nil {
			w.violate("last prune: %v", err)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(w.acked)) {
		if w.kept(id) {
			w.restore(r, nil, id)
		}
	}
	for _, name := range []string{"end", "replica"} {
		store := map[string]provider.BlobStore{"end": w.s.store, "replica": replicaOf(w.s.store)}[name]
		r := w.open(nil, store)
		if name == "replica" {
			for _, id := range slices.Sorted(maps.Keys(w.arrived)) {
				if w.dropped[id] {
					continue
				}
				var got tree
				if err := r.Restore(w.t.Context(), id, &got, backup.Destination{}, backup.RestoreOptions{}); err != nil {
					w.violate("restore of %s at the replica: %v", id, err)
				}
			}
			continue // a prune that was killed leaves what only a check of the whole calls a problem
		}
		rep, err := r.Check(w.t.Context(), backup.CheckOptions{ReadData: true, Replica: true})
		if err != nil || !rep.OK() {
			w.violate("check at the %s: %+v, %v", name, rep.Problems, err)
		}
	}
	needed := map[[32]byte]bool{}
	for id := range w.source.points {
		chunks, err := backup.ChunksOf(w.t.Context(), r, id)
		if err != nil {
			w.violate("point %s: %v", id, err)
		}
		for _, c := range chunks {
			needed[c] = true
		}
	}
	interrupted := map[string]bool{} // generations of prunes that were killed while they deleted
	for info := range w.s.store.List(w.t.Context(), "condemned/", provider.ListOptions{}) {
		if strings.Contains(info.Key, ".deleting-") {
			gen, _, _ := strings.Cut(strings.TrimPrefix(info.Key, "condemned/"), "z-")
			interrupted[gen] = true
		}
	}
	for info := range w.s.store.List(w.t.Context(), "", provider.ListOptions{}) {
		kind, _, _ := strings.Cut(info.Key, "/")
		switch kind {
		case "condemned":
			if gen, _, _ := strings.Cut(strings.TrimPrefix(info.Key, "condemned/"), "z-"); !interrupted[gen] {
				w.violate("%s is left over", info.Key)
			}
		case "sessions":
			w.violate("%s is left over", info.Key)
		case "data", "meta":
			chunks, err := backup.ChunksIn(w.t.Context(), r, info)
			if err != nil || !slices.ContainsFunc(chunks, func(c [32]byte) bool { return needed[c] }) {
				w.violate("%s is garbage and was not deleted: %v", info.Key, err)
			}
		}
	}
}

// TestSimulate lets writers, prunes and others work on one store in an order
// that a seed decides, with crashes, lost replies and sleep, and looks after
// every request that changes something whether every point is whole.
func TestSimulate(t *testing.T) {
	n := cmp.Or(*seeds, simulatedSeeds)
	var all seen
	violations, ran := 0, 0
	began := time.Now()
	for seed := *firstSeed; seed < *firstSeed+uint64(n); seed++ {
		w := simulate(t, seed, bug{})
		all.add(w.seen)
		ran++
		violations += len(w.violations)
		if len(w.violations) > 0 {
			t.Errorf("seed %d:\n%s\n%s", seed, strings.Join(w.violations, "\n"), w.s.story())
		}
		if violations > 10 || *seeds == 0 && time.Since(began) > 5*time.Minute {
			break
		}
	}
	t.Logf("%+v", all)
	fmt.Printf("simulate: seeds %d violations %d\n", ran, violations)
	if n >= 200 && slices.Contains([]int{all.points, all.fenced, all.restored, all.checked, all.deleted, all.rewritten, all.spared, all.pending, all.crashes, all.copied, all.dropped, all.late, all.skipped, all.stale, all.attested, all.adopted}, 0) {
		t.Errorf("something never happened: %+v", all)
	}
}

// A seed decides everything: what failed once can be looked at again.
func TestSimulateReplays(t *testing.T) {
	if racing {
		t.Skip("the race detector shuffles what runs next")
	}
	for seed := range uint64(50) {
		a, b := simulate(t, seed, bug{}).s, simulate(t, seed, bug{}).s
		if a.sum() == b.sum() {
			continue
		}
		n := 0
		for n < min(len(a.trace), len(b.trace))-1 && a.trace[n].String() == b.trace[n].String() {
			n++
		}
		t.Errorf("seed %d: two runs differ at request %d:\n%s%s", seed, n, a.trace[n], b.trace[n])
	}
}
