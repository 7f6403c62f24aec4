package backup

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-go/holdfast/provider"
)

const (
	maxIndexObject = 256 << 20
	leastIndexed   = 41 // about the least that a chunk takes in an index
)

// readHeader reads the header of an object, whatever kind it has. front is
// the beginning of the object.
func readHeader(ctx context.Context, s provider.BlobStore, info provider.Info) (h objectHeader, front []byte, err error) {
	front, err = readRange(ctx, s, info.Key, 0, min(info.Size, 16<<10))
	if err != nil {
		return h, nil, err
	}
	n, err := headerLen(front)
	if err == nil && n > len(front) && int64(n) <= info.Size {
		front, err = readRange(ctx, s, info.Key, 0, int64(n))
	}
	if err != nil {
		return h, nil, fmt.Errorf("%s: %w", info.Key, err)
	}
	kind, _, _ := parsePackKey(info.Key)
	switch {
	case kind != "":
	case strings.HasPrefix(info.Key, pointPrefix):
		kind = kindPoint
	case strings.HasPrefix(info.Key, indexPrefix):
		kind = kindIndex
	case strings.HasPrefix(info.Key, sessionPrefix):
		kind = kindSession
	case strings.HasPrefix(info.Key, logPrefix) && strings.HasSuffix(info.Key, "/"+startName):
		kind = kindBranch
	case strings.HasPrefix(info.Key, logPrefix):
		kind = kindSegment
	}
	if h, _, _, err = decodeHeader(front, kind); err != nil {
		return h, nil, fmt.Errorf("%s: %w", info.Key, err)
	}
	return h, front, nil
}

// readPack reads what is in a pack from the pack itself.
func (r *Repository) readPack(ctx context.Context, info provider.Info) (packRecord, error) {
	kind, sum, ok := parsePackKey(info.Key)
	if !ok || info.Size > maxPack {
		return packRecord{}, fmt.Errorf("%w: %s is no pack", ErrDamaged, info.Key)
	}
	_, front, err := readHeader(ctx, r.c.Store, info)
	if err != nil {
		return packRecord{}, err
	}
	n := min(info.Size, 64<<10)
	for {
		tail, err := readRange(ctx, r.c.Store, info.Key, info.Size-n, n)
		if err != nil {
			return packRecord{}, err
		}
		sealed, need, err := packTail(tail, info.Size)
		if err != nil {
			return packRecord{}, fmt.Errorf("%s: %w", info.Key, err)
		}
		if sealed == nil {
			n = need
			continue
		}
		rec, err := r.keys.decodePack(kind, sum, info.Size, front, tail)
		if err != nil {
			return packRecord{}, fmt.Errorf("%s: %w", info.Key, err)
		}
		return rec, nil
	}
}

// writeIndex stores an index object of packs, and uses it from now on.
func (r *Repository) writeIndex(ctx context.Context, session PointID, packs []packRecord) (size int64, err error) {
	b, err := r.keys.encodeIndex(string(session), packs)
	if err != nil {
		return 0, err
	}
	sum := sha256.Sum256(b)
	if err := r.create(ctx, indexKey(sum), sum, b); err != nil {
		return 0, fmt.Errorf("put index: %w", err)
	}
	r.index.add(indexKey(sum), packs)
	return int64(len(b)), nil
}

// readIndex reads an index object.
func (r *Repository) readIndex(ctx context.Context, key string) ([]packRecord, error) {
	b, err := r.readIndexObject(ctx, key)
	if err != nil {
		return nil, err
	}
	return r.decodeIndexObject(key, b)
}

func (r *Repository) readIndexObject(ctx context.Context, key string) ([]byte, error) {
	b, _, err := provider.ReadAll(ctx, r.c.Store, key, maxIndexObject)
	return b, err
}

func (r *Repository) decodeIndexObject(key string, b []byte) ([]packRecord, error) {
	if sum, ok := parseIndexKey(key); !ok || sum != sha256.Sum256(b) {
		return nil, fmt.Errorf("%s: %w: its bytes are not those of its name", key, ErrDamaged)
	}
	packs, err := r.keys.decodeIndex(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	return packs, nil
}

// cachedIndex is readIndex for those who need not know whether it is intact
// in the store: what it said when it was is as good.
func (r *Repository) cachedIndex(ctx context.Context, key string) ([]packRecord, error) {
	if b := r.cache.get(key); b != nil {
		if packs, err := r.decodeIndexObject(key, b); err == nil {
			return packs, nil
		}
		r.cache.remove(key)
	}
	b, err := r.readIndexObject(ctx, key)
	if err != nil {
		return nil, err
	}
	packs, err := r.decodeIndexObject(key, b)
	if err == nil {
		r.cache.put(key, b)
	}
	return packs, err
}

// load reads the index objects that are not loaded yet. One that cannot be
// read is a warning: what it said is in the packs, too.
func (r *Repository) load(ctx context.Context) error {
	r.loading.Lock()
	defer r.loading.Unlock()
	return r.loadLocked(ctx)
}

func (r *Repository) loadLocked(ctx context.Context) error {
	for range 10 {
		// What is deleted between being listed and being read was written
		// anew, in part or in full, before that: list again.
		if again, err := r.loadListed(ctx); err != nil || !again {
			return err
		}
	}
	return errors.New("get index: indexes keep vanishing")
}

func (r *Repository) loadListed(ctx context.Context) (again bool, err error) {
	var keys []string
	var size int64
	for info, err := range r.c.Store.List(ctx, indexPrefix, provider.ListOptions{}) {
		if err != nil {
			return false, fmt.Errorf("list indexes: %w", err)
		}
		if !r.index.has(info.Key) && r.bad[info.Key] == nil {
			keys = append(keys, info.Key)
			size += info.Size
		}
	}
	if len(keys) == 0 {
		return false, nil
	}
	r.index.hold(int(min(size/leastIndexed, 1<<26)))
	defer r.index.release()
	type result struct {
		key   string
		packs []packRecord
		err   error
	}
	for res := range inOrder(ctx, slices.Values(keys), func(key string) result {
		packs, err := r.cachedIndex(ctx, key)
		return result{key, packs, err}
	}) {
		switch {
		case res.err == nil:
			r.index.add(res.key, res.packs)
		case ctx.Err() != nil:
			return false, context.Cause(ctx)
		case errors.Is(res.err, provider.ErrNotFound):
			again = true
		case errors.Is(res.err, ErrDamaged) || errors.Is(res.err, provider.ErrCorrupt):
			r.c.Logger.Warn("index object is unreadable; run Repair", "key", res.key, "error", res.err)
			r.bad[res.key] = res.err
		default:
			return false, fmt.Errorf("get index: %w", res.err)
		}
	}
	return again, ctx.Err()
}

// search looks for a chunk that no known index lists: in indexes written
// meanwhile, and once in packs that are in no index.
func (r *Repository) search(ctx context.Context) error {
	r.loading.Lock()
	defer r.loading.Unlock()
	if err := r.loadLocked(ctx); err != nil {
		return err
	}
	if r.searched {
		return nil
	}
	_, err := r.unindexed(ctx, func(info provider.Info, err error) {
		r.c.Logger.Warn("pack is unreadable", "key", info.Key, "error", err)
	})
	if err == nil {
		r.searched = true
	}
	return err
}

// unindexed reads the directories of all packs that no index lists, and
// makes them known to this process.
func (r *Repository) unindexed(ctx context.Context, damaged func(provider.Info, error)) ([]packRecord, error) {
	var out []packRecord
	for info, err := range r.packs(ctx) {
		if err != nil {
			return nil, err
		}
		_, sum, ok := parsePackKey(info.Key)
		if !ok {
			continue
		}
		if _, known := r.index.packBySum(sum); known {
			continue
		}
		rec, err := r.readPack(ctx, info)
		if errors.Is(err, ErrDamaged) || errors.Is(err, ErrFormat) {
			damaged(info, err)
			continue
		}
		if err != nil {
			return nil, err
		}
		r.index.add("", []packRecord{rec})
		out = append(out, rec)
	}
	return out, nil
}

// reusable finds out what the session of a new point may rely on: packs that
// no prune has condemned, and that are in the store, listed in this order
// and both after the session was recorded; those that no index names are
// adopted. A credential that may not list packs cannot know, and stores
// everything again.
func (r *Repository) reusable(ctx context.Context, session PointID, name string) (reusable, error) {
	ok := reusable{session: string(session)}
	doomed, err := r.condemned(ctx, "")
	if errors.Is(err, ErrDamaged) {
		r.c.Logger.Warn("what was condemned cannot be read, so nothing is reused; Prune puts this right", "error", err)
		return ok, r.load(ctx)
	}
	if err != nil {
		return ok, err
	}
	if err := r.load(ctx); err != nil {
		return ok, err
	}
	known := r.index.all()
	unlisted, err := r.present(ctx)
	switch {
	case errors.Is(err, fs.ErrPermission):
		r.c.Logger.Warn("packs cannot be listed, so nothing is reused", "error", err)
		return ok, nil
	case err != nil:
		return ok, err
	}
	adopted, err := r.adopt(ctx, session, name, slices.DeleteFunc(unlisted, func(info provider.Info) bool {
		_, sum, _ := parsePackKey(info.Key)
		return doomed[sum]
	}))
	if err != nil {
		return ok, err
	}
	theirs := map[[32]byte]bool{}
	for _, rec := range adopted {
		theirs[rec.sum] = true
	}
	all := r.index.all()
	ok.packs = make([]bool, len(all))
	now := time.Now()
	for n, p := range all { // what others have stored since is not among those that were listed
		ok.packs[n] = (n < len(known) || theirs[p.sum]) && !doomed[p.sum] && r.c.Lock.outlasts(p.locked, now) && !p.lost
	}
	return ok, nil
}

// present compares the indexes with the packs in the store, so that no new
// point relies on a pack that is gone: one that was lost, or that was never
// copied to a replica of some of the points. It returns the packs that no
// index lists.
func (r *Repository) present(ctx context.Context) (unlisted []provider.Info, err error) {
	known := r.index.all() // all of them were in the store before this
	type thing struct {
		kind string
		size int64
	}
	stored := make(map[[32]byte]thing, len(known))
	for info, err := range r.packs(ctx) {
		if err != nil {
			return nil, err
		}
		kind, sum, ok := parsePackKey(info.Key)
		if !ok {
			continue
		}
		stored[sum] = thing{kind, info.Size}
		if !r.index.knows(sum) && info.Size <= maxPack {
			unlisted = append(unlisted, info)
		}
	}
	for n, p := range known {
		if lost := stored[p.sum] != (thing{p.kind, p.size}); lost != p.lost {
			r.index.setLost(n, lost)
		}
	}
	return unlisted, nil
}

// packs lists the packs in the store.
func (r *Repository) packs(ctx context.Context) iter.Seq2[provider.Info, error] {
	return func(yield func(provider.Info, error) bool) {
		for _, kind := range []string{kindData, kindMeta} {
			for info, err := range r.c.Store.List(ctx, kind+"/", provider.ListOptions{}) {
				if err != nil {
					err = fmt.Errorf("list packs: %w", err)
				}
				if !yield(info, err) || err != nil {
					return
				}
			}
		}
	}
}

// inOrder applies f to every value of in, to several at once, and yields the
// results in the order of in.
func inOrder[T, R any](ctx context.Context, in iter.Seq[T], f func(T) R) iter.Seq[R] {
	const window = 8
	return func(yield func(R) bool) {
		queue := make([]chan R, 0, window)
		for v := range in {
			c := make(chan R, 1)
			go func() { c <- f(v) }()
			if queue = append(queue, c); len(queue) < window {
				continue
			}
			if !yield(<-queue[0]) || ctx.Err() != nil {
				return
			}
			queue = append(queue[:0], queue[1:]...)
		}
		for _, c := range queue {
			if !yield(<-c) {
				return
			}
		}
	}
}

// Objects lists every other object that the point of a manifest needs, with
// Key, Size and SHA256: the format object, indexes, packs. They must be in
// the destination before the manifest is. The same objects are listed for
// many points.
func (r *Repository) Objects(ctx context.Context, manifestKey string) iter.Seq2[provider.Info, error] {
	return func(yield func(provider.Info, error) bool) {
		infos, err := r.objects(ctx, manifestKey)
		if err != nil {
			yield(provider.Info{}, fmt.Errorf("objects of %s: %w", manifestKey, err))
			return
		}
		for _, info := range infos {
			if !yield(info, nil) {
				return
			}
		}
	}
}

func (r *Repository) objects(ctx context.Context, manifestKey string) ([]provider.Info, error) {
	r, err := r.current(ctx)
	if err != nil {
		return nil, err
	}
	id, ok := pointIDOf(manifestKey)
	if !ok {
		return nil, errors.New("not the key of a manifest")
	}
	m, err := r.manifest(ctx, id)
	if err != nil {
		return nil, err
	}
	if !r.verified.Load() { // once for each listing of the manifests
		if err := r.load(ctx); err != nil {
			return nil, err
		}
		if _, err := r.present(ctx); err != nil {
			return nil, err
		}
		r.verified.Store(true)
	}
	sums, err := r.needs(ctx, m)
	if err != nil {
		return nil, err
	}
	var out []provider.Info
	packs := map[uint32]bool{}
	for _, sum := range sums {
		n, _ := r.index.packBySum(sum)
		p := r.index.pack(n)
		packs[n] = true
		out = append(out, provider.Info{Key: p.key(), Size: p.size, SHA256: sum, Version: beneath(r.c.Store, p.key())})
	}
	also, err := r.beside(ctx, packs)
	if err != nil {
		return nil, err
	}
	out = append(out, also...)
	slices.SortFunc(out, func(a, b provider.Info) int { return strings.Compare(a.Key, b.Key) })
	return out, nil
}

// A listing is what there is beside packs and manifests. It serves for many
// points, or each would cost several lists.
type listing struct {
	indexes []provider.Info
	keys    []provider.Info // the format object, if it is there, and the generations
	at      time.Time
}

const listingAge = 15 * time.Second // a prune may replace indexes at any time

// list returns a listing that is not old.
func (r *Repository) list(ctx context.Context) (*listing, error) {
	if l := r.listed.Load(); l != nil && time.Since(l.at) < listingAge {
		return l, nil
	}
	return r.listAgain(ctx)
}

// listAgain lists, and loads the indexes that are new.
func (r *Repository) listAgain(ctx context.Context) (*listing, error) {
	l := &listing{at: time.Now()}
	if err := r.load(ctx); err != nil {
		return nil, err
	}
	for info, err := range r.c.Store.List(ctx, indexPrefix, provider.ListOptions{}) {
		if err != nil {
			return nil, fmt.Errorf("list indexes: %w", err)
		}
		sum, _ := parseIndexKey(info.Key)
		l.indexes = append(l.indexes, provider.Info{Key: info.Key, Size: info.Size, SHA256: sum, Version: beneath(r.c.Store, info.Key)})
	}
	switch _, err := r.c.Store.Stat(ctx, formatKey); {
	case err == nil:
		l.keys = append(l.keys, provider.Info{Key: formatKey, Size: int64(len(r.keys.encoded)), SHA256: sha256.Sum256(r.keys.encoded), Version: beneath(r.c.Store, formatKey)})
	case !errors.Is(err, provider.ErrNotFound):
		return nil, err
	}
	generations, err := r.storedGenerations(ctx)
	if err != nil {
		return nil, err
	}
	l.keys = append(l.keys, generations...)
	r.listed.Store(l)
	return l, nil
}

// beside returns index objects in the store that together list some packs, as
// far as any does, and what is there of the keys.
func (r *Repository) beside(ctx context.Context, packs map[uint32]bool) ([]provider.Info, error) {
	l, err := r.list(ctx)
	for try := 0; err == nil; try++ {
		var out []provider.Info
		left := maps.Clone(packs)
		lists := r.index.listing()
		take := func(info provider.Info) {
			n := len(left)
			for _, pack := range lists[info.Key] {
				delete(left, pack)
			}
			if len(left) < n {
				out = append(out, info)
			}
		}
		trusted := map[string]bool{} // those whose word on a pack counts
		for n := range packs {
			trusted[r.index.pack(n).object] = true
		}
		for _, info := range l.indexes {
			if trusted[info.Key] {
				take(info)
			}
		}
		for _, info := range l.indexes {
			take(info)
		}
		if len(left) == 0 || try == 2 {
			return append(out, l.keys...), nil
		}
		l, err = r.listAgain(ctx) // a prune may have written them anew
	}
	return nil, err
}

// needs returns the packs of a point: those its manifest names, or if some
// of them are gone (their chunks may live on in others), those its items
// lead to.
func (r *Repository) needs(ctx context.Context, m manifest) ([][32]byte, error) {
	var out [][32]byte
	loaded := false
	for _, p := range m.packs {
		_, ok := r.index.packBySum(p.sum)
		if !ok && !loaded { // its index may be younger than the last look
			if err := r.load(ctx); err != nil {
				return nil, err
			}
			loaded = true
			_, ok = r.index.packBySum(p.sum)
		}
		if !ok {
			return r.needsByItems(ctx, m)
		}
		out = append(out, p.sum)
	}
	return out, nil
}

func (r *Repository) needsByItems(ctx context.Context, m manifest) ([][32]byte, error) {
	if err := r.search(ctx); err != nil {
		return nil, err
	}
	used := map[uint32]bool{}
	err := r.newView(m).walk(ctx, func(x ref) error {
		if e, ok := r.index.first(x.id); ok {
			used[e.pack] = true
			return nil
		}
		places := r.index.find(x.id) // which of them is right is not known
		if len(places) == 0 {
			return fmt.Errorf("%w: chunk %s is in no pack", ErrDamaged, x.id)
		}
		for _, e := range places {
			used[e.pack] = true
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	var out [][32]byte
	for n := range used {
		out = append(out, r.index.pack(n).sum)
	}
	slices.SortFunc(out, func(a, b [32]byte) int { return bytes.Compare(a[:], b[:]) })
	return slices.Compact(out), nil
}

// walk visits every chunk of a point: pages of the tree, pages of lists and
// content, a parent before what it leads to. No page is read twice, because
// whoever holds a writer's keys can make a small tree that would take for ever
// otherwise.
func (v *View) walk(ctx context.Context, visit func(ref) error) error {
	seen := map[chunkID]bool{}
	lists := map[listPage]int64{}
	var walk func(n node, depth int) error
	walk = func(n node, depth int) error {
		if seen[n.page.id] {
			return nil
		}
		seen[n.page.id] = true
		if err := visit(n.page); err != nil {
			return err
		}
		p, err := v.page(ctx, n, depth)
		if err != nil {
			return err
		}
		for _, child := range p.nodes {
			if err := walk(child, depth+1); err != nil {
				return err
			}
		}
		for _, it := range p.items {
			size, err := v.walkList(ctx, it.content, lists, visit)
			if err != nil {
				return fmt.Errorf("content of %.200q: %w", it.Path, err)
			}
			if size != it.Size {
				return fmt.Errorf("content of %.200q: %w: it has %d bytes, not %d", it.Path, ErrDamaged, size, it.Size)
			}
		}
		return nil
	}
	for _, root := range v.m.roots {
		if err := walk(root, 0); err != nil {
			return err
		}
	}
	return nil
}

// walkList visits a list of chunks and returns their size. Those of pages in
// seen were visited before.
func (v *View) walkList(ctx context.Context, c content, seen map[listPage]int64, visit func(ref) error) (size int64, err error) {
	for _, r := range c.refs {
		key := listPage{r.id, c.depth}
		if below, ok := seen[key]; ok && c.depth > 0 {
			size = min(size+below, 1<<61)
			continue
		}
		if err := visit(r); err != nil {
			return 0, err
		}
		below := int64(r.plain)
		if c.depth > 0 {
			refs, err := v.refPage(ctx, r)
			if err != nil {
				return 0, err
			}
			if below, err = v.walkList(ctx, content{c.depth - 1, refs}, seen, visit); err != nil {
				return 0, err
			}
			seen[key] = below
		}
		size = min(size+below, 1<<61)
	}
	return size, nil
}
