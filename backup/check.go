package backup

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/holdfast-go/holdfast/provider"
)

// CheckReport is the result of [Repository.Check].
type CheckReport struct {
	Points   int       `json:"points"` // in the repository
	Packs    int       `json:"packs"`  // in the store
	Bytes    int64     `json:"bytes"`  // of those packs
	Read     int64     `json:"read"`   // bytes of packs that were read and verified in full
	Problems []Problem `json:"problems,omitempty"`
}

// OK reports whether nothing is wrong.
func (c CheckReport) OK() bool { return len(c.Problems) == 0 }

// A Problem is one damaged or missing object.
type Problem struct {
	Key    string    `json:"key"`              // the object
	Points []PointID `json:"points,omitempty"` // points that cannot be restored in full because of it
	// Repairable: [Repository.Repair] mends it and nothing is lost.
	Repairable bool   `json:"repairable,omitempty"`
	Text       string `json:"text"` // what is wrong
}

// Check looks for damage. It changes nothing and may run beside backups.
//
// A pack that is called damaged and not repairable is best deleted from the
// store once its points have been looked at: the next backup that reads the
// same data stores its chunks again, and the points are whole again. While
// it is there, backups go on relying on it.
//
// An error says that checking itself was not possible; what is wrong with the
// repository is in the report.
func (r *Repository) Check(ctx context.Context, o CheckOptions) (CheckReport, error) {
	fresh := newRepository(r.c, r.keys)
	c := &checker{r: fresh, o: o, problems: map[string]*Problem{}, missing: map[string]bool{}, badPacks: map[uint32]bool{}, badChunks: map[place]bool{}, pages: map[chunkID][]string{}}
	for _, step := range []func(context.Context) error{c.format, c.sessions, c.indexes, c.packs, c.content, c.points, c.confirm} {
		if err := step(ctx); err != nil {
			return CheckReport{}, fmt.Errorf("check: %w", err)
		}
	}
	for _, p := range c.problems {
		slices.Sort(p.Points)
		c.report.Problems = append(c.report.Problems, *p)
	}
	slices.SortFunc(c.report.Problems, func(a, b Problem) int { return strings.Compare(a.Key, b.Key) })
	return c.report, nil
}

type checker struct {
	r         *Repository
	o         CheckOptions
	report    CheckReport
	mu        sync.Mutex
	problems  map[string]*Problem
	infos     []provider.Info // packs in the store
	stored    map[string]bool
	doomed    map[[32]byte]bool // packs that a prune is about to delete
	missing   map[string]bool   // problems that something is not there
	badPacks  map[uint32]bool
	badChunks map[place]bool
	pages     map[chunkID][]string // pages that were walked, with the keys of the problems below them
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
			err = c.r.keys.openObject(kindSession, info.Key, b)
		}
		if err != nil {
			c.problem(info.Key, err.Error()) // harms no point
		}
	}
	return nil
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
	if c.doomed, err = c.r.condemned(ctx, ""); isDamage(err) {
		c.problem(condemnedPrefix, err.Error()).Repairable = true // by Prune
	} else if err != nil {
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

// content reads all packs, if that is asked for.
func (c *checker) content(ctx context.Context) error {
	if !c.o.ReadData {
		return nil
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	next := make(chan provider.Info)
	var wg sync.WaitGroup
	for range c.r.c.Workers {
		wg.Go(func() {
			var buf []byte
			ids := c.r.keys.newIdentifier()
			for info := range next {
				var err error
				if buf, err = c.pack(ctx, info, buf, ids); err != nil {
					cancel(err)
				}
			}
		})
	}
	for _, info := range c.infos {
		select {
		case next <- info:
		case <-ctx.Done():
		}
	}
	close(next)
	wg.Wait()
	return context.Cause(ctx)
}

// pack reads one pack, into buf if that is large enough.
func (c *checker) pack(ctx context.Context, info provider.Info, buf []byte, ids *identifier) ([]byte, error) {
	kind, sum, ok := parsePackKey(info.Key)
	if !ok || info.Size > maxPack {
		c.problem(info.Key, "is no pack")
		return buf, nil
	}
	if int64(cap(buf)) < info.Size {
		buf = make([]byte, info.Size, max(info.Size, int64(c.r.c.PackSize)))
	}
	b := buf[:info.Size]
	if err := readFull(ctx, c.r.c.Store, info.Key, 0, b); isDamage(err) {
		if errors.Is(err, provider.ErrNotFound) { // a missing one is a problem if a point needs it
			c.mu.Lock()
			delete(c.stored, info.Key)
			c.mu.Unlock()
		} else {
			c.problem(info.Key, err.Error())
		}
		if n, ok := c.r.index.packBySum(sum); ok {
			c.mu.Lock()
			c.badPacks[n] = true
			c.mu.Unlock()
		}
		return buf, nil
	} else if err != nil {
		return buf, err
	}
	intact := sha256.Sum256(b) == sum
	if !intact {
		c.problem(info.Key, "its bytes are not those of its name")
	}
	rec, err := c.r.keys.decodePack(kind, sum, info.Size, b, b)
	n, known := c.r.index.packBySum(sum)
	switch {
	case err != nil && known:
		c.problem(info.Key, err.Error())
		p := c.r.index.pack(n)
		rec = packRecord{kind: kind, salt: p.salt, enc: p.enc, entries: c.r.index.entries(n)}
	case err != nil:
		c.problem(info.Key, err.Error())
		return buf, nil
	}
	if err := c.frames(ctx, info.Key, rec, n, b, ids); err != nil {
		return buf, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.report.Read += info.Size
	if c.o.Progress != nil {
		c.o.Progress(Progress{Items: int64(c.report.Packs), Bytes: c.report.Bytes, Read: c.report.Read})
	}
	return buf, nil
}

// frames opens every chunk of a pack.
func (c *checker) frames(ctx context.Context, key string, rec packRecord, n uint32, b []byte, ids *identifier) error {
	secret, err := c.r.secret(rec.enc)
	if err != nil {
		c.problem(key, err.Error())
		secret = make([]byte, 32)
	}
	aead := newAEAD(derive(secret, rec.salt, rec.kind+" frames"))
	for _, e := range rec.entries {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		err := error(ErrDamaged)
		if int64(e.off)+int64(e.stored) <= int64(len(b)) {
			_, err = openFrame(aead, c.r.zstd, ids, rec.kind, e.ref, b[e.off:][:e.stored], ids.spare())
		}
		if err != nil {
			c.problem(key, err.Error())
			c.mu.Lock()
			c.badChunks[place{n, e.id}] = true
			c.mu.Unlock()
		}
	}
	return nil
}

// points walks every point and finds out which of the problems harm it.
func (c *checker) points(ctx context.Context) error {
	for m, err := range c.r.manifests(ctx) {
		if err != nil {
			return err
		}
		c.report.Points++
		key := pointKey(m.point.ID)
		if m.point.Damaged != "" {
			c.problem(key, m.point.Damaged).Points = []PointID{m.point.ID}
			continue
		}
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
			keys = append(keys, below...)
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

// page walks a page of a point's tree, unless that was done for an earlier
// point, and returns the keys of the problems that it leads to; "" stands
// for a chunk in no pack.
func (c *checker) page(ctx context.Context, v *View, n node, depth int) ([]string, error) {
	if keys, ok := c.pages[n.page.id]; ok {
		return keys, nil
	}
	keys, lost := c.lost(n.page.id)
	if !lost {
		p, err := v.page(ctx, n, depth)
		if err != nil {
			return c.because(ctx, n.page.id, err)
		}
		for _, child := range p.nodes {
			below, err := c.page(ctx, v, child, depth+1)
			if err != nil {
				return nil, err
			}
			keys = append(keys, below...)
		}
		for _, it := range p.items {
			below, err := c.item(ctx, v, it)
			if err != nil {
				return nil, err
			}
			keys = append(keys, below...)
		}
	}
	slices.Sort(keys)
	keys = slices.Compact(keys)
	c.pages[n.page.id] = keys
	return keys, nil
}

func (c *checker) item(ctx context.Context, v *View, it Item) ([]string, error) {
	var keys []string
	var last chunkID
	for l, err := range v.refs(ctx, it) {
		if err != nil {
			below, err := c.because(ctx, last, err)
			return append(keys, below...), err
		}
		last = l.id
		if bad, lost := c.lost(l.id); lost {
			keys = append(keys, bad...)
		}
	}
	return keys, nil
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
