package backup_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"iter"
	"maps"
	"math/rand/v2"
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
	seeds     = flag.Int("seeds", 0, "how many simulations TestSimulate runs; default 200, 10000 if HOLDFAST_LONG=1")
	firstSeed = flag.Uint64("seed", 1, "the first of them")
)

// A bug is put between one client and the store.
type bug struct {
	writer func(provider.BlobStore) provider.BlobStore
	pruner func(provider.BlobStore) provider.BlobStore
	delay  int

	operations int  // if it takes more to find it
	unheld     bool // copies do not tell the destination
	hold       bool // every critical request is held back
}

// A world is one simulation: writers, prunes, and others that share a store.
type world struct {
	t        *testing.T
	s        *schedule
	bug      bug
	observer *backup.Repository // sees the store as it is, without faults

	slots   []*slot
	started int

	mu         sync.Mutex
	violations []string
	committed  map[backup.PointID][][32]byte // points that exist, and their chunks
	contents   map[backup.PointID]map[string]file
	acked      map[backup.PointID]bool
	forgotten  map[backup.PointID]bool
	arrived    map[backup.PointID]bool // at the replica
	packs      map[string][][32]byte   // what is in the packs that are there
	seen       seen
}

// seen counts what has happened, to know that it does.
type seen struct{ points, fenced, restored, checked, deleted, rewritten, spared, pending, crashes, copied int }

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
}

const operations = 16 // in each simulation

// A slot runs one operation after the other, each in the life of one client.
type slot struct {
	id   int
	run  func(w *world, c *client, r *backup.Repository, rnd *rand.Rand)
	role func(bug) func(provider.BlobStore) provider.BlobStore
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

func (w *world) fresh(c backup.Config) (*backup.Repository, error) {
	return backup.Open(w.t.Context(), c)
}

func simConfig(s provider.BlobStore) backup.Config {
	c := config(s)
	c.Workers, c.Uploads, c.PackSize = 1, 1, 1<<20
	return c
}

// watch keeps the model: which points exist, what they need, and what there
// is. It is called after every change.
func (w *world) watch(r *request) {
	ctx := w.t.Context()
	kind, rest, _ := strings.Cut(r.key, "/")
	switch {
	case kind == "points" && r.op == "delete":
		w.mu.Lock()
		delete(w.committed, backup.PointID(rest))
		w.mu.Unlock()
		return
	case kind == "points":
		chunks, err := backup.ChunksOf(ctx, backup.Fresh(w.observer, simConfig(w.s.store)), backup.PointID(rest))
		if errors.Is(err, provider.ErrNotFound) && !errors.Is(err, backup.ErrDamaged) {
			return // a tombstone
		}
		if err != nil {
			w.violate("%s was committed and is not whole: %v", r.key, err)
			return
		}
		w.mu.Lock()
		w.committed[backup.PointID(rest)] = chunks
		w.mu.Unlock()
	case (kind == "data" || kind == "meta") && r.op == "put":
		info, err := w.s.store.Stat(ctx, r.key)
		if err == nil {
			w.packs[r.key], err = backup.ChunksIn(ctx, w.observer, info)
		}
		if err != nil {
			w.violate("pack %s: %v", r.key, err)
		}
		return
	case kind == "data" || kind == "meta":
		delete(w.packs, r.key)
	default:
		return
	}
	there := map[[32]byte]bool{}
	for _, chunks := range w.packs {
		for _, id := range chunks {
			there[id] = true
		}
	}
	w.mu.Lock()
	ids := slices.Sorted(maps.Keys(w.committed))
	w.mu.Unlock()
	for _, id := range ids {
		for _, chunk := range w.committed[id] {
			if !there[chunk] && !w.forgotten[id] {
				w.violate("after %s %s by client %d: point %s lacks a chunk", r.op, r.key, r.by.id, id)
				return
			}
		}
	}
}

// backUp is the operation of a writer.
func backUp(w *world, c *client, r *backup.Repository, rnd *rand.Rand) {
	files := map[string]file{}
	for range 1 + rnd.IntN(5) {
		n := rnd.IntN(14)
		files[fmt.Sprintf("f%02d", n)] = file{content: random(uint64(n), 200+97*n), version: n}
	}
	mode := []backup.Mode{backup.Full, backup.Incremental}[rnd.IntN(2)]
	p, err := r.Backup(w.t.Context(), "w", &tree{files: files}, backup.BackupOptions{Mode: mode})
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case err == nil:
		w.seen.points++
		w.acked[p.ID], w.contents[p.ID] = true, files
	case errors.Is(err, backup.ErrFenced):
		w.seen.fenced++
	}
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
func (w *world) pick(rnd *rand.Rand) (backup.PointID, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var ids []backup.PointID
	for id := range w.acked {
		if !w.forgotten[id] {
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

// visit forgets, restores, checks or replicates.
func visit(w *world, c *client, r *backup.Repository, rnd *rand.Rand) {
	ctx := w.t.Context()
	id, ok := w.pick(rnd)
	switch n := rnd.IntN(10); {
	case n < 4 && ok:
		w.mu.Lock()
		w.forgotten[id] = true
		w.mu.Unlock()
		if err := r.Forget(ctx, id); err != nil && !c.faulted {
			w.violate("forget: %v", err)
		}
	case n < 5 && ok:
		w.restore(r, c, id)
	case n < 7:
		rep, err := r.Check(ctx, backup.CheckOptions{ReadData: n == 6})
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
		w.arrived[backup.PointID(strings.TrimPrefix(key, "points/"))] = true
	}
}

// pruneReplica is the operation of who looks after the replica.
func pruneReplica(w *world, c *client, _ *backup.Repository, rnd *rand.Rand) {
	r, err := w.fresh(simConfig(replicaOf(c)))
	if err == nil {
		_, err = r.Prune(w.t.Context(), backup.PruneOptions{Patience: []time.Duration{time.Hour, 0}[rnd.IntN(2)]})
	} else if errors.Is(err, backup.ErrNoRepository) {
		return
	}
	if err != nil && !c.faulted {
		w.violate("prune of the replica: %v", err)
	}
}

// start lets an idle slot begin its next operation.
func (w *world) start(sl *slot) {
	w.started++
	if sl.c == nil || sl.c.dead {
		sl.c, sl.r = &client{s: w.s, id: sl.id}, nil
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
			r, err := w.fresh(simConfig(store))
			if err != nil {
				return
			}
			sl.r = r
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

// simulate runs one seed and returns what went wrong and what happened.
func simulate(t *testing.T, seed uint64, b bug) (violations []string, what seen) {
	synctest.Test(t, func(t *testing.T) {
		cryptotest.SetGlobalRandom(t, seed)
		rnd := rand.New(rand.NewPCG(seed, 0))
		s := &schedule{rnd: rnd, store: providertest.NewMemory(), delay: b.delay, hold: 3}
		if b.hold {
			s.hold = 1
		}
		w := &world{t: t, s: s, bug: b, committed: map[backup.PointID][][32]byte{},
			contents: map[backup.PointID]map[string]file{}, acked: map[backup.PointID]bool{}, forgotten: map[backup.PointID]bool{}, arrived: map[backup.PointID]bool{}, packs: map[string][][32]byte{}}
		s.after = w.watch
		r, err := backup.Init(t.Context(), simConfig(s.store))
		if err != nil {
			t.Fatal(err)
		}
		w.observer = r
		writer := func(b bug) func(provider.BlobStore) provider.BlobStore { return b.writer }
		pruner := func(b bug) func(provider.BlobStore) provider.BlobStore { return b.pruner }
		visitor := func(bug) func(provider.BlobStore) provider.BlobStore { return nil }
		for i := range 3 {
			w.slots = append(w.slots, &slot{id: i, run: backUp, role: writer})
		}
		for i := range 2 {
			w.slots = append(w.slots, &slot{id: 3 + i, run: prune, role: pruner})
		}
		w.slots = append(w.slots, &slot{id: 5, run: visit, role: visitor})
		w.slots = append(w.slots, &slot{id: 6, run: pruneReplica, role: visitor})
		w.play()
		violations, what = w.violations, w.seen
	})
	return violations, what
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
	r, err := w.fresh(simConfig(w.s.store))
	if err != nil {
		w.violate("open: %v", err)
		return
	}
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
	for name, store := range map[string]provider.BlobStore{"end": w.s.store, "replica": replicaOf(w.s.store)} {
		r, err := w.fresh(simConfig(store))
		if errors.Is(err, backup.ErrNoRepository) && name == "replica" {
			continue // nothing was copied
		}
		var rep backup.CheckReport
		if err == nil {
			rep, err = r.Check(w.t.Context(), backup.CheckOptions{ReadData: true, Replica: true})
		}
		if name == "replica" && w.seen.copied == 0 {
			continue
		}
		if name == "replica" {
			for _, id := range slices.Sorted(maps.Keys(w.arrived)) {
				var got tree
				if err := r.Restore(w.t.Context(), id, &got, backup.Destination{}, backup.RestoreOptions{}); err != nil {
					w.violate("restore of %s at the replica: %v", id, err)
				}
			}
			continue // a prune that was killed leaves what only a check of the whole calls a problem
		}
		if err != nil || !rep.OK() {
			w.violate("check at the %s: %+v, %v", name, rep.Problems, err)
		}
	}
	needed := map[[32]byte]bool{}
	for id := range w.committed {
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
	n := *seeds
	switch {
	case n > 0:
	case long():
		n = 10_000
	default:
		n = 200
	}
	var all seen
	violations, ran := 0, 0
	began := time.Now()
	for seed := *firstSeed; seed < *firstSeed+uint64(n); seed++ {
		found, what := simulate(t, seed, bug{})
		all.add(what)
		ran++
		for _, v := range found {
			violations++
			t.Errorf("seed %d: %s", seed, v)
		}
		if violations > 10 || *seeds == 0 && time.Since(began) > 5*time.Minute {
			break
		}
	}
	t.Logf("%+v", all)
	fmt.Printf("simulate: seeds %d violations %d\n", ran, violations)
	if n >= 200 && slices.Contains([]int{all.points, all.fenced, all.restored, all.checked, all.deleted, all.rewritten, all.spared, all.pending, all.crashes, all.copied}, 0) {
		t.Errorf("something never happened: %+v", all)
	}
}

// foresight lists what is condemned before the session is recorded.
type foresight struct {
	provider.BlobStore
	mu   sync.Mutex
	seen []provider.Info
}

func (f *foresight) Put(ctx context.Context, key string, b provider.Body, o provider.PutOptions) (provider.Info, error) {
	if strings.HasPrefix(key, "sessions/") {
		var all []provider.Info
		for info, err := range f.BlobStore.List(ctx, "condemned/", provider.ListOptions{}) {
			if err == nil {
				all = append(all, info)
			}
		}
		f.mu.Lock()
		f.seen = all
		f.mu.Unlock()
	}
	return f.BlobStore.Put(ctx, key, b, o)
}

func (f *foresight) List(ctx context.Context, prefix string, o provider.ListOptions) iter.Seq2[provider.Info, error] {
	if prefix != "condemned/" {
		return f.BlobStore.List(ctx, prefix, o)
	}
	return func(yield func(provider.Info, error) bool) {
		f.mu.Lock()
		all := f.seen
		f.mu.Unlock()
		for _, info := range all {
			if !yield(info, nil) {
				return
			}
		}
	}
}

// manifestFirst says that packs are stored, and stores them after the
// manifest.
type manifestFirst struct {
	provider.BlobStore
	mu   sync.Mutex
	held []func() error
}

func (m *manifestFirst) Put(ctx context.Context, key string, b provider.Body, o provider.PutOptions) (provider.Info, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case strings.HasPrefix(key, "data/"), strings.HasPrefix(key, "meta/"):
		all := make([]byte, b.Size())
		if _, err := b.ReadAt(all, 0); err != nil && !errors.Is(err, io.EOF) {
			return provider.Info{}, err
		}
		m.held = append(m.held, func() error {
			_, err := m.BlobStore.Put(ctx, key, provider.Bytes(all), o)
			return err
		})
		return provider.Info{Key: key, Size: b.Size()}, nil
	case strings.HasPrefix(key, "points/"):
		info, err := m.BlobStore.Put(ctx, key, b, o)
		for _, put := range m.held {
			err = errors.Join(err, put())
		}
		m.held = nil
		return info, err
	}
	return m.BlobStore.Put(ctx, key, b, o)
}

// hasty waits for no session.
type hasty struct{ provider.BlobStore }

func (h hasty) List(ctx context.Context, prefix string, o provider.ListOptions) iter.Seq2[provider.Info, error] {
	if prefix == "sessions/" {
		return func(func(provider.Info, error) bool) {}
	}
	return h.BlobStore.List(ctx, prefix, o)
}

// simulatedSeeds is far beyond what any of the bugs below has taken: which
// seed finds the rarest of them changes with every change of the requests.
const simulatedSeeds = 1000

// Bugs put in on purpose are found.
func TestSimulateFindsBugs(t *testing.T) {
	for name, b := range map[string]bug{
		"manifest before data":                      {writer: func(s provider.BlobStore) provider.BlobStore { return &manifestFirst{BlobStore: s} }},
		"prune without its second phase":            {pruner: func(s provider.BlobStore) provider.BlobStore { return hasty{s} }},
		"condemned packs listed before the session": {writer: func(s provider.BlobStore) provider.BlobStore { return &foresight{BlobStore: s} }, operations: 60, hold: true},
		"copies without a hold":                     {unheld: true, operations: 60},
		"delayed listings":                          {delay: 40},
	} {
		t.Run(name, func(t *testing.T) {
			for seed := uint64(1); seed <= simulatedSeeds; seed++ {
				found, _ := simulate(t, seed, b)
				for _, v := range found {
					if strings.Contains(v, "lacks a chunk") || strings.Contains(v, "is not whole") || strings.HasPrefix(v, "restore") {
						t.Logf("seed %d: %s", seed, v)
						return
					}
				}
			}
			t.Errorf("not found with %d seeds", simulatedSeeds)
		})
	}
}
