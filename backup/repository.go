package backup

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/klauspost/compress/zstd"

	"github.com/holdfast-go/holdfast/provider"
)

// A Repository keeps points in a store. It is safe for concurrent use, by
// any number of processes.
type Repository struct {
	c       Config
	keys    *keys
	index   *index
	zstd    *zstd.Decoder
	ids     *sync.Pool // apart, because every pool there was is kept for two garbage collections, with all that it is part of
	secrets sync.Map   // sessions' secrets by their encapsulation
	cache   *cache     // nil where the store itself is asked: in Check, Prune, Repair

	loading  sync.Mutex  // one at a time looks for indexes
	verified atomic.Bool // the presence of packs, for Objects
	listed   atomic.Pointer[listing]

	heads heads // of the points of this writer

	next atomic.Pointer[Repository] // what it is after the recipients have changed, see current

	searched bool // packs without an index have been looked for
	bad      map[string]error
}

// Init makes a repository in an empty store and opens it. [ErrExists] if
// there is one. The keyring needs recipients, and an identity that matches
// one of them: a repository that nobody here can open would be noticed too
// late. A failed Init can be repeated.
func Init(ctx context.Context, c Config) (*Repository, error) {
	c, err := c.withDefaults()
	if err != nil {
		return nil, err
	}
	if c.Credential.given() {
		return nil, fmt.Errorf("init repository: %w", ErrSealed)
	}
	if len(c.Keyring.Identities) == 0 {
		return nil, fmt.Errorf("init repository: %w: keyring: Identities is empty", ErrNoIdentity)
	}
	if _, ok := c.restricted(); ok {
		c.Algorithms = ApprovedOnly // also where Go enforces it
	}
	b, err := newFormat(time.Now(), c.Algorithms, func(root []byte) ([]Stanza, error) { return c.Keyring.wrap(ctx, root) })
	if err != nil {
		return nil, fmt.Errorf("init repository: %w", err)
	}
	k, root, err := openFormat(b, c.unwrapper(ctx))
	clear(root)
	if err != nil {
		return nil, fmt.Errorf("init repository: %w", err)
	}
	// A damaged repository may have lost its format object; its points must
	// not become unreadable neighbours of a new one.
	for _, prefix := range []string{pointPrefix, indexPrefix, keysPrefix, kindData + "/", kindMeta + "/", logPrefix} {
		for info, err := range c.Store.List(ctx, prefix, provider.ListOptions{}) {
			if err != nil {
				return nil, fmt.Errorf("init repository: %w", err)
			}
			return nil, fmt.Errorf("init repository: %w: the store holds %s; Open it", ErrExists, info.Key)
		}
	}
	if _, err := provider.PutOnce(ctx, c.Store, formatKey, b, c.put()); errors.Is(err, provider.ErrConflict) {
		return nil, fmt.Errorf("init repository: %w", ErrExists)
	} else if err != nil {
		return nil, fmt.Errorf("init repository: put %s: %w", formatKey, err)
	}
	return withCache(newRepository(c, k)), nil
}

// Open opens a repository. [ErrNoRepository] if there is none,
// [ErrNoIdentity] if the keyring has no identity for it. With a
// [Config].Credential, which needs no keyring, the process can write and not
// read: whatever reads fails with [ErrSealed]. If the format
// object is lost or damaged, Open takes the copy that every other object
// carries, and [Repository.Repair] puts it back.
func Open(ctx context.Context, c Config) (*Repository, error) {
	c, err := c.withDefaults()
	if err != nil {
		return nil, err
	}
	open := openKeys
	if c.Credential.given() {
		open = openSealed
	}
	k, err := open(ctx, c)
	if err == nil && k.private == nil {
		k, err = k.follow(ctx, c.Store)
	}
	if err == nil {
		c, err = c.obey(k.format)
	}
	if err != nil {
		return nil, fmt.Errorf("open repository: %w", err)
	}
	return withCache(newRepository(c, k)), nil
}

func newRepository(c Config, k *keys) *Repository {
	k = k.as(c.Writer)
	return &Repository{
		c: c, keys: k, index: newIndex(k.trusts), zstd: newDecoder(c.Workers), bad: map[string]error{},
		ids: &sync.Pool{New: func() any { return k.newIdentifier() }},
	}
}

func (c Config) unwrapper(ctx context.Context) func([]Stanza, func([]byte) bool) ([]byte, error) {
	return func(s []Stanza, accept func([]byte) bool) ([]byte, error) { return c.Keyring.unwrap(ctx, s, accept) }
}

// openCopy opens the keys from the copy of the format object in any other.
// known is the format object, which is of no use: if a copy is the same,
// there is no point in searching on. [provider.ErrNotFound] if there is no
// other object.
func openCopy(ctx context.Context, c Config, known []byte, unwrap func([]Stanza, func([]byte) bool) ([]byte, error)) (*keys, []byte, error) {
	err := provider.ErrNotFound
	tries := 0
	for _, p := range []string{pointPrefix, indexPrefix, sessionPrefix, kindMeta + "/", kindData + "/", logPrefix} {
		for info, lerr := range c.Store.List(ctx, p, provider.ListOptions{}) {
			if lerr != nil {
				return nil, nil, lerr
			}
			if tries++; tries > 100 {
				return nil, nil, err
			}
			var h objectHeader
			if h, _, err = readHeader(ctx, c.Store, info); err != nil {
				continue
			}
			if len(h.Format) == 0 {
				continue // most raw segments of a log; see copyEvery
			}
			if bytes.Equal(h.Format, known) {
				return nil, nil, ErrNoIdentity
			}
			var k *keys
			var root []byte
			if k, root, err = openFormat(h.Format, unwrap); err == nil {
				return k, root, nil
			}
		}
	}
	return nil, nil, err
}

// Backup makes a point of t under name, which is the workload's: 1 to 200
// bytes of UTF-8 without control characters. It returns when the point is
// durable. If it returns an error there is no new point, with one exception:
// if the store's answer to the very last write was lost and cannot be found
// out, the error says so, and the point exists or not. What was uploaded
// before an error, or before the process was killed, is used by the next
// backup of name; after a kill a process that cannot read needs the same
// [Config].Cache for that.
func (r *Repository) Backup(ctx context.Context, name string, t Target, o BackupOptions) (Point, error) {
	r, err := r.current(ctx)
	if err != nil {
		return Point{}, fmt.Errorf("backup %q: %w", name, err)
	}
	point, err := r.backup(ctx, name, t, o)
	if err != nil {
		return Point{}, fmt.Errorf("backup %q: %w", name, err)
	}
	return point, nil
}

func (r *Repository) backup(ctx context.Context, name string, t Target, o BackupOptions) (_ Point, err error) {
	now := r.c.now()
	if !o.Time.IsZero() {
		now = o.Time
	}
	if err := o.valid(name, t); err != nil {
		return Point{}, err
	}
	id := newPointID(now)
	at, err := id.Time()
	if err != nil {
		return Point{}, err
	}
	if err := r.begin(ctx, id, name); err != nil {
		return Point{}, err
	}
	var p *pipeline
	committing := false
	defer func() {
		// The next backup looks for packs of sessions that have not ended.
		if err != nil && !committing && (p == nil || !p.leaves()) {
			r.endSession(ctx, id)
		}
	}()
	reusable, err := r.reusable(ctx, id, name) // after the session exists, see FORMAT.md, Pruning
	if err != nil {
		return Point{}, err
	}
	mode, parent, err := r.parent(ctx, name, t.Kind(), o.Mode, reusable)
	if err != nil {
		return Point{}, err
	}
	if p, err = newPipeline(ctx, r, id, reusable); err != nil {
		return Point{}, err
	}
	p.snappy = o.Compression == Snappy
	s := &Session{name: name, began: time.Now(), mode: mode, parent: parent, p: p, cut: r.keys.format.Cut, progress: o.Progress, ids: r.keys.newIdentifier()}
	s.sort = sorter{wrote: s.count, budget: sorterBudget}
	roots, err := s.run(ctx, t)
	if err != nil {
		return Point{}, err
	}
	point := Point{
		ID: id, Name: name, Kind: t.Kind(), Mode: s.mode, Time: at, Ended: time.Now().UTC(), Tags: maps.Clone(o.Tags), Writer: r.c.Writer,
		Externals: s.externals, Logs: s.logs, Warnings: s.warnings, WarningCount: s.warningCount, Stats: s.stats,
	}
	if point.Safety = o.safety; s.parent != nil {
		point.Parent = s.parent.Point().ID
	}
	point.Stats.BytesNew, point.Stats.BytesStored = p.bytesNew.Load(), p.bytesStored.Load()
	committing = true
	if point, err = r.commit(ctx, point, roots, p); err != nil {
		return Point{}, err
	}
	s.report(true)
	r.c.Logger.Info("point committed", "target", name, "point", string(id), "mode", string(point.Mode),
		"read", point.Stats.BytesRead, "stored", point.Stats.BytesStored, "warnings", point.WarningCount)
	return point, nil
}

// run lets the target fill the session, and makes all of it durable.
func (s *Session) run(ctx context.Context, t Target) ([]node, error) {
	err := t.Backup(ctx, s)
	s.over = true
	var roots []node
	if err == nil {
		s.sort.write = s.metaWriter(ctx)
		roots, err = s.sort.finish()
	}
	if err != nil {
		s.p.fail(err)
	}
	s.p.close(ctx)
	if failure := s.p.failure(); err == nil || errors.Is(err, failure) {
		err = failure
	}
	if err == nil {
		err = context.Cause(ctx) // a store may have carried out what was cancelled
	}
	return roots, err
}

// begin records the session, before anything is uploaded. What prunes later
// will leave alone what a session may be using until its point exists.
func (r *Repository) begin(ctx context.Context, id PointID, name string) error {
	plain, err := json.Marshal(sessionContent{For: r.keys.workload(name)})
	if err != nil {
		return err
	}
	b, err := r.keys.sealObject(kindSession, string(id), sessionKey(id), plain)
	if err != nil {
		return err
	}
	if _, err := provider.PutOnce(ctx, r.c.Store, sessionKey(id), b, provider.PutOptions{}); err != nil {
		return fmt.Errorf("put session: %w", err)
	}
	return nil
}

// commit writes the manifest: from now on the point exists. It returns the
// point with what is known only now.
func (r *Repository) commit(ctx context.Context, point Point, roots []node, p *pipeline) (Point, error) {
	packs := p.packs
	for n := range p.used {
		i := r.index.pack(n)
		packs = append(packs, packSum{i.sum, i.kind, i.size})
	}
	slices.SortFunc(packs, func(a, b packSum) int { return strings.Compare(packKey(a.kind, a.sum), packKey(b.kind, b.sum)) })
	packs = slices.Compact(packs)
	point.Packs = amountOf(packs)
	prev, err := r.takeHeads(ctx)
	if err != nil {
		return Point{}, err
	}
	b, err := r.keys.encodeManifest(point, prev, roots, p.secret, p.encaps, packs)
	if err != nil {
		r.giveHeads(prev...)
		return Point{}, err
	}
	r.remember(point, roots, b)
	info, err := provider.PutOnce(ctx, r.c.Store, pointKey(point.ID), b, r.c.put())
	if err == nil {
		prev = []link{linkTo(point.ID, b)}
	}
	r.giveHeads(prev...)
	switch {
	case errors.Is(err, provider.ErrConflict):
		return Point{}, fmt.Errorf("put manifest: %w: its place is taken", ErrFenced)
	case err != nil:
		return Point{}, fmt.Errorf("put manifest: whether point %s exists is not known, look it up: %w", point.ID, err)
	}
	point.Stored, point.SealedWriter = info.Modified, !r.keys.self.holder
	return point, nil
}

// parent finds the point to compare with.
func (r *Repository) parent(ctx context.Context, name, kind string, want Mode, may reusable) (Mode, *View, error) {
	if want == "" || want == Full {
		return Full, nil, nil
	}
	if r.readable() != nil {
		return r.ownParent(ctx, name, kind, want, may)
	}
	for m, err := range r.newestFirst(ctx) {
		if err != nil {
			return "", nil, err
		}
		if p := m.point; p.Damaged == "" && r.keys.trusts(m.by) && p.Name == name && p.Kind == kind && (want == Incremental || p.Mode == Full) {
			return want, r.newView(m), nil
		}
	}
	return Full, nil, nil
}

func (o BackupOptions) valid(name string, t Target) error {
	var errs []error
	if name == "" || len(name) > 200 || !printable(name) {
		errs = append(errs, fmt.Errorf("name %.80q: want 1 to 200 bytes of UTF-8 without control characters", name))
	}
	if t == nil {
		errs = append(errs, errors.New("target is nil"))
	} else if k := t.Kind(); k == "" || len(k) > 64 || strings.Trim(k, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
		errs = append(errs, fmt.Errorf("kind %.80q: want 1 to 64 of [a-z0-9-]", k))
	}
	switch o.Mode {
	case "", Full, Incremental, Differential:
	default:
		errs = append(errs, fmt.Errorf("mode %.40q: want %q, %q or %q", o.Mode, Full, Incremental, Differential))
	}
	if c := o.Compression; c != "" && c != Zstd && c != Snappy {
		errs = append(errs, fmt.Errorf("compression %.40q: want %q or %q", c, Zstd, Snappy))
	}
	if len(o.Tags) > 64 {
		errs = append(errs, fmt.Errorf("tags: %d, at most 64 are possible", len(o.Tags)))
	}
	for k, v := range o.Tags {
		if k == "" || len(k) > 256 || len(v) > 256 || !printable(k) || !printable(v) {
			errs = append(errs, fmt.Errorf("tag %.80q: want at most 256 bytes of UTF-8 without control characters", k))
		}
	}
	if y := o.Time.Year(); !o.Time.IsZero() && (y < 1970 || y > 9999) {
		errs = append(errs, fmt.Errorf("time: year %d, want 1970 to 9999", y))
	}
	return errors.Join(errs...)
}

func printable(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f })
}

// Restore lets t put a point to d. The point must be of the target's kind.
func (r *Repository) Restore(ctx context.Context, id PointID, t Target, d Destination, o RestoreOptions) error {
	v, err := r.View(ctx, id)
	if err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	if k := v.Point().Kind; k != t.Kind() {
		return fmt.Errorf("restore %s: it is of kind %q, the target restores %q", id, k, t.Kind())
	}
	if v.m.point.Safety != nil {
		return fmt.Errorf("restore %s: it is a safety point; Undo it", id)
	}
	if o.Safety != nil {
		safety, err := r.secure(ctx, v, t, d)
		if err == nil {
			err = o.Safety(safety)
		}
		if err != nil {
			return fmt.Errorf("restore %s: %w", id, err)
		}
	}
	v.report, v.began = o.Progress, time.Now()
	if err := t.Restore(ctx, v, d); err != nil {
		return fmt.Errorf("restore %s: %w", id, err)
	}
	v.tell(0)
	return nil
}

// View opens a point for reading. [provider.ErrNotFound], [ErrDamaged],
// [ErrSealed].
func (r *Repository) View(ctx context.Context, id PointID) (*View, error) {
	if err := r.readable(); err != nil {
		return nil, fmt.Errorf("point %s: %w", id, err)
	}
	r, err := r.current(ctx)
	if err != nil {
		return nil, err
	}
	m, err := r.manifest(ctx, id)
	if err != nil {
		return nil, err
	}
	if err := r.load(ctx); err != nil {
		return nil, err
	}
	return r.newView(m), nil
}

// Point describes one point. [provider.ErrNotFound], [ErrDamaged].
func (r *Repository) Point(ctx context.Context, id PointID) (Point, error) {
	r, err := r.current(ctx)
	if err != nil {
		return Point{}, err
	}
	m, err := r.manifest(ctx, id)
	return m.point, err
}

// Points lists the points of a workload, or of all if name is empty, in
// ascending order of ID and thus of Time. A point whose manifest cannot be
// read is listed, with Damaged set, if name is empty; whose it was is then
// not known; a process that cannot read lists all points so, with Sealed set.
func (r *Repository) Points(ctx context.Context, name string) iter.Seq2[Point, error] {
	return func(yield func(Point, error) bool) {
		r, err := r.current(ctx)
		if err != nil {
			yield(Point{}, err)
			return
		}
		for m, err := range r.manifests(ctx) {
			if err != nil {
				yield(Point{}, err)
				return
			}
			if name != "" && m.point.Name != name {
				continue
			}
			if !yield(m.point, nil) {
				return
			}
		}
	}
}

// Forget removes a point: it can be restored no more, and no other point is
// affected. A point that does not exist is no error. No space is freed by
// this: what only this point needed stays in the store until
// [Repository.Prune].
func (r *Repository) Forget(ctx context.Context, id PointID) error {
	if _, err := id.Time(); err != nil {
		return fmt.Errorf("forget: %w", err)
	}
	if err := r.readable(); err != nil {
		return fmt.Errorf("forget %s: %w", id, err)
	}
	r, err := r.current(ctx) // or it could not tell the tombstones of later generations
	if err != nil {
		return fmt.Errorf("forget %s: %w", id, err)
	}
	info, err := r.c.Store.Stat(ctx, pointKey(id))
	if errors.Is(err, provider.ErrNotFound) {
		return nil
	}
	var dead bool
	if err == nil {
		dead, err = r.tombstone(ctx, info)
	}
	if err != nil {
		return fmt.Errorf("forget %s: %w", id, err)
	}
	if dead {
		return nil // it must stay: its writer may yet wake up
	}
	if err := r.recordForgotten(ctx, id); err != nil {
		return fmt.Errorf("forget %s: put %s: %w", id, forgottenKey(id), err)
	}
	// The session first, or it would look as if it were still open.
	locked := r.c.Store.Delete(ctx, sessionKey(id), provider.DeleteOptions{})
	if locked != nil && !errors.Is(locked, provider.ErrLocked) {
		return fmt.Errorf("forget %s: %w", id, locked)
	}
	if err := r.c.Store.Delete(ctx, pointKey(id), provider.DeleteOptions{}); err != nil {
		if errors.Is(err, provider.ErrLocked) { // it stays, so it must be missed if it goes another way
			err = errors.Join(err, r.c.Store.Delete(ctx, forgottenKey(id), provider.DeleteOptions{}))
		}
		return fmt.Errorf("forget %s: %w", id, err)
	}
	if locked != nil {
		if _, err := r.giveUp(ctx, id, givenUp); err != nil {
			return fmt.Errorf("forget: %w", err)
		}
	}
	return nil
}
