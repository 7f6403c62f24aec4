package backup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/holdfast-go/holdfast/provider"
)

// RepairOptions say how to repair.
type RepairOptions struct {
	// From is a replica: another store that holds copies of objects of this
	// repository. What is damaged here, and packs that indexes list and that
	// are gone, are taken from there, if what is there proves to be right.
	// Segments of logs that are missing are not: copy the log for that.
	From provider.BlobStore

	// ReadData reads every pack, and every segment of a log, to find what is
	// damaged. Otherwise only those are read of which a [Repository.Check] or an earlier Repair has found
	// that they are.
	ReadData bool

	// DryRun changes nothing and reports what would be tried.
	DryRun bool

	// Progress is called now and then from one goroutine: Items are packs and
	// segments read, Read their bytes.
	Progress func(Progress)
}

// RepairReport tells what [Repository.Repair] has done.
type RepairReport struct {
	Format  bool     `json:"format,omitempty"`  // the format object was put back
	Keys    []string `json:"keys,omitempty"`    // keys objects that were put back or, being none, removed
	Indexed int      `json:"indexed,omitempty"` // packs that were in no readable index and are now
	Removed []string `json:"removed,omitempty"` // index objects that were unreadable or out of date, records of sessions and checks that were unreadable
	Lost    []string `json:"lost,omitempty"`    // packs that indexes listed and that are gone
	Marked  []string `json:"marked,omitempty"`  // packs with damaged chunks, which writers store again from now on

	Mended   []Repaired `json:"mended,omitempty"`   // objects that are as they were
	Unmended []Repaired `json:"unmended,omitempty"` // objects that are not, and why
}

// Repaired says of one object what was done about it, or why nothing could
// be.
type Repaired struct {
	Key  string `json:"key"`
	Text string `json:"text"`
}

// Repair puts back what can be made from the rest, or from a replica: the
// format object, keys, indexes; from a replica packs, manifests and what
// belongs to logs, too. What it takes from there has to prove that it is what was here: packs and indexes
// by their names, everything else by its signature. It replaces an object only
// under the condition that it is the damaged one, and never deletes what it
// has nothing for in its place, except what is of no use to anybody.
//
// It makes writers forget packs that are gone, and chunks that are damaged, so
// that the next backup of the same data stores them again and thereby heals
// the points that need them. Other copies of a damaged chunk are preferred by
// readers, and when there is one, [Repository.Prune] removes the damaged.
//
// It may run beside backups and prunes, can be killed at any moment, and can
// be repeated. It needs a credential that can replace and delete; what the
// store refuses, because it is locked for instance, is reported as Unmended.
func (r *Repository) Repair(ctx context.Context, o RepairOptions) (RepairReport, error) {
	if err := r.readable(); err != nil {
		return RepairReport{}, fmt.Errorf("repair: %w", err)
	}
	current, err := r.current(ctx)
	if err != nil {
		return RepairReport{}, fmt.Errorf("repair: %w", err)
	}
	p := &repairer{known: current, r: newRepository(current.c, current.keys), o: o, from: firstIn(o.From)}
	for _, step := range []func(context.Context) error{p.format, p.generations, p.manifests, p.sessions, p.state, p.indexes, p.damagedPacks, p.unmark, p.logs} {
		err := step(ctx)
		for _, all := range [][]Repaired{p.rep.Mended, p.rep.Unmended} {
			slices.SortFunc(all, func(a, b Repaired) int { return strings.Compare(a.Key, b.Key) })
		}
		if err != nil {
			return p.rep, fmt.Errorf("repair: %w", err)
		}
	}
	return p.rep, nil
}

// A repairer is one run of Repair.
type repairer struct {
	known   *Repository // whose writers are to know, too
	r       *Repository // reads everything anew
	o       RepairOptions
	from    provider.BlobStore
	rep     RepairReport
	healed  map[[32]byte]bool // marked packs that are right
	replica map[string]bool   // objects that a dry run would take from there
	looked  Amount
}

// mended and unmended report an object, once: what was said first counts.
func (p *repairer) mended(key, text string) { p.rep.Mended = said(p.rep.Mended, key, text) }

func (p *repairer) unmended(key, text string) { p.rep.Unmended = said(p.rep.Unmended, key, text) }

func said(all []Repaired, key, text string) []Repaired {
	if slices.ContainsFunc(all, func(r Repaired) bool { return r.Key == key }) {
		return all
	}
	return append(all, Repaired{key, text})
}

// refused reports whether a store will not do something, ever or for now.
func refused(err error) bool {
	return errors.Is(err, provider.ErrConflict) || errors.Is(err, provider.ErrLocked) || errors.Is(err, fs.ErrPermission) || errors.Is(err, errors.ErrUnsupported)
}

// put stores what is right in the place of the version that is not, or where
// nothing is. It reports whether that is what is read there now.
func (p *repairer) put(ctx context.Context, key string, b []byte, was provider.Version, text string) (bool, error) {
	if p.o.DryRun {
		p.mended(key, text)
		return true, nil
	}
	o := p.r.c.put()
	var err error
	if was == "" {
		_, err = provider.PutOnce(ctx, p.r.c.Store, key, b, o)
	} else {
		o.IfMatch = was
		_, err = p.r.c.Store.Put(ctx, key, provider.Bytes(b), o)
	}
	// Also if the reply was lost.
	got, _, rerr := provider.ReadAll(ctx, p.r.c.Store, key, int64(len(b)))
	switch {
	case ctx.Err() != nil:
		return false, context.Cause(ctx)
	case rerr == nil && bytes.Equal(got, b):
		p.mended(key, text)
		return true, nil
	case err == nil && rerr != nil && !isDamage(rerr):
		return false, rerr
	case err == nil:
		p.unmended(key, "what is right was stored, and is not what is read: the store keeps versions, or another process has changed it")
	case refused(err):
		p.unmended(key, "the store does not let it be replaced: "+err.Error())
	default:
		return false, fmt.Errorf("put %s: %w", key, err)
	}
	return false, nil
}

// take reads an object of the replica. ErrNotFound if there is none that is
// right.
func (p *repairer) take(ctx context.Context, key string, limit int64, right func([]byte) error) ([]byte, error) {
	if p.from == nil {
		return nil, fmt.Errorf("no replica is given: %w", provider.ErrNotFound)
	}
	b, _, err := provider.ReadAll(ctx, p.from, key, limit)
	if err != nil && !isDamage(err) {
		return nil, fmt.Errorf("replica: get %s: %w", key, err)
	}
	if err == nil {
		err = right(b)
	}
	if err != nil {
		return nil, fmt.Errorf("replica: %v: %w", err, provider.ErrNotFound)
	}
	return b, nil
}

// object puts an object right that is not, from the replica, or with bytes
// that are known. It reports whether it is right now.
func (p *repairer) object(ctx context.Context, key string, limit int64, right func([]byte) error, known []byte) (ok bool, err error) {
	info, err := p.r.c.Store.Stat(ctx, key) // before it is read: only what was seen is replaced
	if err != nil && !isDamage(err) {
		return false, fmt.Errorf("stat %s: %w", key, err)
	}
	b, _, err := provider.ReadAll(ctx, p.r.c.Store, key, limit)
	if err == nil {
		err = right(b)
	}
	if err == nil {
		return true, nil
	}
	if !isDamage(err) {
		return false, fmt.Errorf("get %s: %w", key, err)
	}
	text := "put back"
	if known == nil {
		text = "taken from the replica"
		var terr error
		if known, terr = p.take(ctx, key, limit, right); errors.Is(terr, provider.ErrNotFound) {
			p.unmended(key, err.Error()+"; "+terr.Error())
			return false, nil
		} else if terr != nil {
			return false, terr
		}
	}
	if info.Version == "" && !errors.Is(err, provider.ErrNotFound) {
		p.unmended(key, "which version is damaged cannot be told, so it is not replaced: "+err.Error())
		return false, nil
	}
	return p.put(ctx, key, known, info.Version, text)
}

// remove deletes what is of no use to anybody.
func (p *repairer) remove(ctx context.Context, key string) error {
	if !p.o.DryRun {
		err := p.r.c.Store.Delete(ctx, key, provider.DeleteOptions{})
		if err != nil && refused(err) {
			p.unmended(key, "the store does not let it be deleted: "+err.Error())
			return nil
		}
		if err != nil {
			return fmt.Errorf("delete %s: %w", key, err)
		}
	}
	p.rep.Removed = append(p.rep.Removed, key)
	return nil
}

func (p *repairer) format(ctx context.Context) error {
	right := func(b []byte) error {
		if !bytes.Equal(b, p.r.keys.encoded) {
			return fmt.Errorf("%w: it is not what the repository was made with", ErrDamaged)
		}
		return nil
	}
	n := len(p.rep.Mended)
	_, err := p.object(ctx, formatKey, maxFormat, right, p.r.keys.encoded)
	p.rep.Format = len(p.rep.Mended) > n
	return err
}

// generations puts keys objects back and removes what is none. Copies of
// earlier ones are in what was written while they were the present ones.
func (p *repairer) generations(ctx context.Context) error {
	none, missing, lost, err := p.r.wrongKeys(ctx)
	if err != nil {
		return err
	}
	present := keysKey(p.r.keys.generation)
	for _, key := range none {
		if g, ok := generationOf(key); ok && g < p.r.keys.generation {
			missing = append(missing, g)
			continue
		}
		if lost && key == present {
			continue
		}
		removed := len(p.rep.Removed)
		if err := p.remove(ctx, key); err != nil {
			return err
		}
		if len(p.rep.Removed) > removed {
			p.rep.Removed = p.rep.Removed[:removed]
			p.rep.Keys = append(p.rep.Keys, key)
		}
	}
	for _, g := range missing {
		known, err := p.r.keysCopy(ctx, g)
		if err != nil {
			return err
		}
		ok, err := p.object(ctx, keysKey(g), maxFormat, p.r.rightKeys(g), known)
		if err != nil {
			return err
		}
		if ok {
			p.rep.Keys = append(p.rep.Keys, keysKey(g))
		}
	}
	slices.Sort(p.rep.Keys)
	if !lost {
		return nil
	}
	right := func(b []byte) error {
		if !bytes.Equal(b, p.r.keys.keysEncoded()) {
			return fmt.Errorf("%w: it is not what it was made as", ErrDamaged)
		}
		return nil
	}
	ok, err := p.object(ctx, present, maxFormat, right, p.r.keys.keysEncoded())
	if ok {
		p.rep.Keys = append(p.rep.Keys, present)
		slices.Sort(p.rep.Keys)
	}
	return err
}

// manifests takes those that cannot be read from the replica. While there is
// one, no prune deletes anything, so what it needs is still there. One that is
// missing may have been forgotten: copying brings it back, not this.
func (p *repairer) manifests(ctx context.Context) error {
	for m, err := range p.r.manifests(ctx) {
		if err != nil {
			return err
		}
		if m.point.Damaged == "" {
			continue
		}
		id := m.point.ID
		right := func(b []byte) error {
			_, err := p.r.keys.decodeManifest(id, b, p.r.secret)
			return err
		}
		if _, err := p.object(ctx, pointKey(id), maxManifest, right, nil); err != nil {
			return err
		}
	}
	return nil
}
