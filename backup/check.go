package backup

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/holdfast-go/holdfast/provider"
)

// Check looks for damage. It may run beside backups and prunes. It writes
// only what it has verified, if it reads data, so that the next check with a
// Budget goes on from there; it does without if it may not write. If it is
// cancelled, what it had verified is kept.
//
// Of logs it finds what is missing between the segments there are, down to the
// oldest position that a point needs, segments that contradict each other, and
// points that need what is not there. That the end of a log was removed,
// behind what points need, it cannot see: watch what [Log.Coverage] says.
//
// A chunk that is damaged and in no other pack is lost to the points that
// need it. After [Repository.Repair] the next backup that reads the same
// content stores it again, and they are whole again.
//
// An error says that checking itself was not possible; what is wrong with the
// repository is in the report.
func (r *Repository) Check(ctx context.Context, o CheckOptions) (CheckReport, error) {
	o, err := o.withDefaults()
	if err = errors.Join(err, r.readable()); err != nil {
		return CheckReport{}, fmt.Errorf("check: %w", err)
	}
	if r, err = r.current(ctx); err != nil {
		return CheckReport{}, fmt.Errorf("check: %w", err)
	}
	c := newChecker(r, o)
	for _, step := range []func(context.Context) error{c.format, c.generations, c.sessions, c.condemned, c.verified, c.indexes, c.packs, c.readLogs, c.content, c.points, c.links, c.confirm, c.judgeLogs, c.losses} {
		if err := step(ctx); err != nil {
			return CheckReport{}, fmt.Errorf("check: %w", err)
		}
	}
	return c.report, nil
}

func newChecker(r *Repository, o CheckOptions) *checker {
	return &checker{r: newRepository(r.c, r.keys), o: o, report: CheckReport{At: time.Now().UTC(), Period: o.Period},
		problems: map[string]*Problem{}, missing: map[string]bool{}, badPacks: map[uint32]bool{}, badChunks: map[place]bool{}, pages: map[chunkID]walked{}, lists: map[listPage]below{}, sums: map[PointID][]byte{},
		logs: map[string]*checkedLog{}, badSegments: map[string]bool{}, lacking: map[PointID][]LogPosition{}}
}

type checker struct {
	r         *Repository
	o         CheckOptions
	report    CheckReport
	mu        sync.Mutex
	problems  map[string]*Problem
	infos     []provider.Info // packs in the store
	stored    map[string]bool
	last      map[[32]byte]verification // what earlier checks found of packs and segments, and then this one
	doomed    map[[32]byte]bool         // packs that a prune is about to delete
	missing   map[string]bool           // problems that something is not there
	badPacks  map[uint32]bool
	badChunks map[place]bool
	pages     map[chunkID]walked // pages that were walked, with the keys of the problems below them
	lists     map[listPage]below // the same for lists of chunks
	sums      map[PointID][]byte // of the manifests, nil for those that cannot be read
	linked    []link             // manifests that others name

	logs        map[string]*checkedLog // by what stands for their names in keys
	segments    []provider.Info        // of all of them, in the store
	badSegments map[string]bool        // found damaged when all of them was read
	lacking     map[PointID][]LogPosition
}

type place struct {
	pack uint32
	id   chunkID
}

func (c *checker) problem(key, text string) *Problem {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.problems[key]
	if p == nil {
		p = &Problem{Key: key, Text: text}
		c.problems[key] = p
	}
	return p
}

func sumOf(packKey string) [32]byte {
	_, sum, _ := parsePackKey(packKey)
	return sum
}

// isDamage tells what a check reports from what stops it.
func isDamage(err error) bool {
	return errors.Is(err, ErrDamaged) || errors.Is(err, ErrFormat) || errors.Is(err, provider.ErrNotFound) || errors.Is(err, provider.ErrCorrupt)
}

func (c *checker) format(ctx context.Context) error {
	b, _, err := provider.ReadAll(ctx, c.r.c.Store, formatKey, maxFormat)
	switch {
	case err != nil && !isDamage(err):
		return err
	case err != nil:
		c.problem(formatKey, err.Error()).Repairable = true
	case string(b) != string(c.r.keys.encoded):
		c.problem(formatKey, "is not what the repository was made with").Repairable = true
	}
	return nil
}

func (c *checker) sessions(ctx context.Context) error {
	for info, err := range c.r.c.Store.List(ctx, sessionPrefix, provider.ListOptions{}) {
		if err != nil {
			return err
		}
		b, _, err := provider.ReadAll(ctx, c.r.c.Store, info.Key, maxHeader)
		if err != nil && !isDamage(err) {
			return err
		}
		if err == nil {
			kind := kindSession
			if !sessionObject(info.Key) {
				kind = kindEnd
			}
			err = c.r.keys.openObject(kind, info.Key, b)
		}
		if err != nil {
			// It harms no point: what counts is its key. Repair removes it when
			// its session is over.
			c.problem(info.Key, err.Error()).Repairable = true
		}
	}
	return nil
}

// condemned reads what prunes have left.
func (c *checker) condemned(ctx context.Context) error {
	for info, err := range c.r.c.Store.List(ctx, condemnedPrefix, provider.ListOptions{}) {
		if err != nil {
			return err
		}
		kind := kindPlan
		for suffix, k := range map[string]string{awaitedSuffix: kindAwaited, verdictSuffix: kindVerdict, timeSuffix: kindTime} {
			if strings.HasSuffix(info.Key, suffix) {
				kind = k
			}
		}
		if strings.HasSuffix(info.Key, closedSuffix) || strings.Contains(info.Key, deletingSuffix) {
			kind = kindDeleting
		}
		if deletingKey(info.Key) {
			c.report.Interrupted = append(c.report.Interrupted, info.Key)
		}
		_, err := c.r.readSealed(ctx, kind, info.Key)
		switch {
		case errors.Is(err, provider.ErrNotFound): // its prune has ended
		case isDamage(err):
			// Which packs a prune is deleting must not be decided twice, so
			// nobody but a person who knows that none is running may put an
			// end to a verdict.
			c.problem(info.Key, err.Error()).Repairable = kind != kindVerdict && kind != kindDeleting
		case err != nil:
			return err
		}
	}
	return nil
}

// verified learns what earlier checks have read.
func (c *checker) verified(ctx context.Context) (err error) {
	c.last, err = c.r.lastVerified(ctx, c.report.At, func(key string, err error) {
		c.problem(key, err.Error()).Repairable = true
	})
	return err
}

func (c *checker) indexes(ctx context.Context) error {
	if err := c.r.load(ctx); err != nil {
		return err
	}
	for key, err := range c.r.bad {
		if !errors.Is(err, provider.ErrNotFound) {
			c.problem(key, err.Error()).Repairable = true
		}
	}
	return nil
}

// packs compares the packs in the store with the indexes.
func (c *checker) packs(ctx context.Context) error {
	var err error
	if c.doomed, err = c.r.condemned(ctx, ""); err != nil && !isDamage(err) { // reported above
		return err
	}
	c.stored = map[string]bool{}
	sizes := map[string]int64{}
	for info, err := range c.r.packs(ctx) {
		if err != nil {
			return err
		}
		c.infos = append(c.infos, info)
		c.stored[info.Key] = true
		sizes[info.Key] = info.Size
		c.report.Packs++
		c.report.Bytes += info.Size
	}
	indexed := c.r.index.all()
	for n, p := range indexed {
		size, ok := sizes[p.key()]
		if ok && size == p.size {
			continue
		}
		c.badPacks[uint32(n)] = true
		if ok {
			c.problem(p.key(), fmt.Sprintf("has %d bytes, not %d", size, p.size))
		} // a missing one is a problem if a point needs it
	}
	_, err = c.r.unindexed(ctx, func(info provider.Info, err error) {
		if !errors.Is(err, provider.ErrNotFound) && !c.doomed[sumOf(info.Key)] {
			c.problem(info.Key, err.Error())
		}
	})
	return err
}

// points walks every point and finds out which of the problems harm it.
func (c *checker) points(ctx context.Context) error {
	for m, err := range c.r.manifests(ctx) {
		if err != nil {
			return err
		}
		c.report.Points++
		c.named(m)
		key := pointKey(m.point.ID)
		if m.point.Damaged != "" {
			c.problem(key, m.point.Damaged).Points = []PointID{m.point.ID}
			continue
		}
		c.needsOf(m)
		for _, p := range m.packs {
			if n, ok := c.r.index.packBySum(p.sum); ok && c.r.index.pack(n).object == "" && !c.doomed[p.sum] {
				key := packKey(p.kind, p.sum)
				c.problem(key, "is in no index").Repairable = true
				c.missing[key] = true
			}
		}
		v := c.r.newView(m)
		var keys []string
		for _, root := range m.roots {
			below, err := c.page(ctx, v, root, 0)
			if err != nil {
				return err
			}
			keys = append(keys, below.keys...)
		}
		slices.Sort(keys)
		for _, k := range c.blame(m, slices.Compact(keys)) {
			text := "is damaged"
			if _, _, pack := parsePackKey(k); pack && !c.stored[k] {
				text = "is missing"
				c.missing[k] = true
			}
			p := c.problem(k, text)
			p.Points = append(p.Points, m.point.ID)
			p.Repairable = false
		}
	}
	return nil
}

// blame replaces "in no pack" by the packs that the manifest names and that
// are gone.
func (c *checker) blame(m manifest, keys []string) []string {
	i := slices.Index(keys, "")
	if i < 0 {
		return keys
	}
	keys = slices.Delete(keys, i, i+1)
	known := false
	for _, p := range m.packs {
		if k := packKey(p.kind, p.sum); !c.stored[k] || c.problems[k] != nil {
			c.problem(k, "is missing")
			c.missing[k] = c.missing[k] || !c.stored[k]
			keys = append(keys, k)
			known = true
		}
	}
	if !known {
		k := pointKey(m.point.ID)
		c.missing[k] = true
		c.problem(k, "needs chunks that are in no pack")
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return slices.Compact(keys)
}

// walked is what a page of a tree leads to.
type walked struct {
	keys        []string // of problems
	first, last string   // paths; of no use if there are problems
	empty       bool
	height      int // pages below it, one after the other
}

// page walks a page of a point's tree, unless that was done for an earlier
// point, and returns the keys of the problems that it leads to; "" stands
// for a chunk in no pack. Like everybody who reads the tree it does not trust
// who wrote it, only faster: no page is walked twice.
func (c *checker) page(ctx context.Context, v *View, n node, depth int) (walked, error) {
	w, ok := c.pages[n.page.id]
	if !ok {
		var err error
		if w, err = c.walk(ctx, v, n, depth); err != nil {
			return w, err
		}
		slices.Sort(w.keys)
		w.keys = slices.Compact(w.keys)
		c.pages[n.page.id] = w
	}
	var err error
	switch {
	case len(w.keys) > 0:
	case depth > 0 && w.empty:
		err = errors.New("it is empty")
	case depth > 0 && w.last != n.last:
		err = fmt.Errorf("it ends with %.200q and not with %.200q", w.last, n.last)
	case depth+w.height > maxTreeDepth:
		err = fmt.Errorf("tree is more than %d pages deep", maxTreeDepth)
	}
	if err != nil {
		w.keys, err = c.because(ctx, n.page.id, fmt.Errorf("page %s: %w: %w", n.page.id, ErrDamaged, err))
	}
	return w, err
}

func (c *checker) walk(ctx context.Context, v *View, n node, depth int) (w walked, err error) {
	keys, lost := c.lost(n.page.id)
	if lost {
		return walked{keys: keys}, nil
	}
	p, err := v.page(ctx, n, depth)
	if err != nil {
		w.keys, err = c.because(ctx, n.page.id, err)
		return w, err
	}
	w.empty = len(p.nodes)+len(p.items) == 0
	for i, child := range p.nodes {
		below, err := c.page(ctx, v, child, depth+1)
		if err == nil && len(below.keys) == 0 && i > 0 && len(w.keys) == 0 && ComparePaths(w.last, below.first) >= 0 {
			below.keys, err = c.because(ctx, n.page.id, fmt.Errorf("page %s: %w: item %.200q after %.200q", n.page.id, ErrDamaged, below.first, w.last))
		}
		if err != nil {
			return w, err
		}
		w.keys = append(w.keys, below.keys...)
		w.height = max(w.height, below.height+1)
		if w.last = child.last; i == 0 {
			w.first = below.first
		}
	}
	for i, it := range p.items {
		content, err := c.item(ctx, v, n.page.id, it)
		if err != nil {
			return w, err
		}
		w.keys = append(w.keys, content.keys...)
		if w.last = it.Path; i == 0 {
			w.first = it.Path
		}
	}
	return w, nil
}

// below is what a page of a list of chunks leads to.
type below struct {
	keys []string // of problems
	size int64    // of the content
	lost int64    // of that
}

func (b *below) add(o below) {
	b.keys = append(b.keys, o.keys...)
	b.size = min(b.size+o.size, 1<<61)
	b.lost = min(b.lost+o.lost, 1<<61)
}

type listPage struct {
	id    chunkID
	depth int
}

// item walks the content of an item in the page with an id.
func (c *checker) item(ctx context.Context, v *View, page chunkID, it Item) (below, error) {
	b, err := c.list(ctx, v, it.content)
	if err == nil && len(b.keys) == 0 && b.size != it.Size {
		b.lost = it.Size
		b.keys, err = c.because(ctx, page, fmt.Errorf("content of %.200q: %w: it has %d bytes, not %d", it.Path, ErrDamaged, b.size, it.Size))
	}
	if b.lost > it.Size {
		b.lost = it.Size
	}
	return b, err
}

// list walks a list of chunks. Every page is walked once: whoever holds a
// writer's keys can write a short list that would take for ever otherwise.
func (c *checker) list(ctx context.Context, v *View, list content) (sum below, err error) {
	for _, r := range list.refs {
		if list.depth == 0 {
			b := below{size: int64(r.plain)}
			if keys, lost := c.lost(r.id); lost {
				b.keys, b.lost = keys, b.size
			}
			sum.add(b)
			continue
		}
		key := listPage{r.id, list.depth}
		b, ok := c.lists[key]
		if !ok {
			if b, err = c.refPage(ctx, v, r, list.depth); err != nil {
				return sum, err
			}
			slices.Sort(b.keys)
			b.keys = slices.Compact(b.keys)
			c.lists[key] = b
		}
		sum.add(b)
	}
	return sum, nil
}

func (c *checker) refPage(ctx context.Context, v *View, r ref, depth int) (below, error) {
	const all = 1 << 61
	if keys, lost := c.lost(r.id); lost {
		return below{keys, 0, all}, nil
	}
	refs, err := v.refPage(ctx, r)
	if err != nil {
		keys, err := c.because(ctx, r.id, err)
		return below{keys, 0, all}, err
	}
	return c.list(ctx, v, content{depth - 1, refs})
}

// because turns damage met while walking into the keys of the packs that
// hold the chunk.
func (c *checker) because(ctx context.Context, id chunkID, err error) ([]string, error) {
	if ctx.Err() != nil || !isDamage(err) {
		return nil, err
	}
	places := c.r.index.find(id)
	if len(places) == 0 {
		return []string{""}, nil
	}
	var keys []string
	for _, e := range places {
		k := c.r.index.pack(e.pack).key()
		c.problem(k, err.Error())
		c.missing[k] = c.missing[k] || errors.Is(err, provider.ErrNotFound)
		keys = append(keys, k)
	}
	return keys, nil
}

// lost reports whether no good copy of a chunk is known, and names the packs
// that should hold one.
func (c *checker) lost(id chunkID) ([]string, bool) {
	places := c.r.index.find(id)
	var keys []string
	for _, e := range places {
		if !c.badPacks[e.pack] && !c.badChunks[place{e.pack, id}] {
			return nil, false
		}
		keys = append(keys, c.r.index.pack(e.pack).key())
	}
	if len(keys) == 0 {
		return []string{""}, true
	}
	return keys, true
}
