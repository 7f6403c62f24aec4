package backup

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-go/holdfast/provider"
)

// A generation is one attempt to remove some packs. It consists of write-once
// objects that are made one after the other, so that any number of prunes,
// also ones that were killed or slept for days, work on it without harm:
//
//	condemned/<gen>          the plan: the packs to remove. Sessions that
//	                         begin from now on do not rely on them
//	condemned/<gen>.awaited  the sessions that were open after that
//	condemned/<gen>.verdict  the packs of the plan that no point needed after
//	                         all those sessions had ended
//	condemned/<gen>.deleting-<random>  a prune that is deleting them
//	condemned/<gen>.closed   no other prune begins with that any more
//
// and it is removed in the same order when the packs of the verdict are gone.
// Why this is safe is written in FORMAT.md.
type generation struct {
	id               PointID
	planned, decided bool // what a listing showed
}

const (
	condemnedPrefix = "condemned/"
	awaitedSuffix   = ".awaited"
	verdictSuffix   = ".verdict"
	timeSuffix      = ".time"
	deletingSuffix  = ".deleting-" // and 16 hex digits
	closedSuffix    = ".closed"
	maxCondemned    = 256 << 20
)

func (g generation) plan() string    { return condemnedPrefix + string(g.id) }
func (g generation) awaited() string { return g.plan() + awaitedSuffix }
func (g generation) verdict() string { return g.plan() + verdictSuffix }
func (g generation) closed() string  { return g.plan() + closedSuffix }

// sealObject returns an object that consists of a header and one section
// under the index key, with the name of its kind, and of a signature unless
// it is a session.
func (k *keys) sealObject(kind, session, key string, plain []byte) ([]byte, error) {
	h, head, err := k.newHeader(kind, session, nil)
	if err != nil {
		return nil, err
	}
	b := sealSection(head, k.index, h, slices.Clone(head), kind, key, plain)
	if signedKind(kind) {
		b = k.signObject(kind, key, b)
	}
	return b, nil
}

// sealed is the inverse of sealObject.
func (k *keys) sealed(kind, key string, b []byte) ([]byte, error) {
	h, head, section, err := decodeHeader(b, kind)
	if err == nil && signedKind(kind) {
		h, head, section, _, err = k.verifyObject(kind, key, b)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	plain, err := openSection(k.index, h, head, kind, key, section)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	return plain, nil
}

// openObject checks an object that sealObject made.
func (k *keys) openObject(kind, key string, b []byte) error {
	_, err := k.sealed(kind, key, b)
	return err
}

// putSealed creates an object that sealObject makes. If somebody else has
// created it, what he wrote counts and is returned.
func (r *Repository) putSealed(ctx context.Context, kind, key string, plain []byte) ([]byte, error) {
	b, err := r.keys.sealObject(kind, "", key, plain)
	if err != nil {
		return nil, err
	}
	_, err = provider.PutOnce(ctx, r.c.Store, key, b, provider.PutOptions{})
	if errors.Is(err, provider.ErrConflict) {
		return r.readSealed(ctx, kind, key)
	}
	if err != nil {
		return nil, fmt.Errorf("put %s: %w", key, err)
	}
	return plain, nil
}

func (r *Repository) readSealed(ctx context.Context, kind, key string) ([]byte, error) {
	b, _, err := provider.ReadAll(ctx, r.c.Store, key, maxCondemned)
	if errors.Is(err, provider.ErrCorrupt) {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if err != nil {
		return nil, err
	}
	return r.keys.sealed(kind, key, b)
}

// generations lists those there are, oldest first by their names, and the
// keys of what is left of others.
func (r *Repository) generations(ctx context.Context) (gens []generation, rest []string, err error) {
	for info, err := range r.c.Store.List(ctx, condemnedPrefix, provider.ListOptions{}) {
		if err != nil {
			return nil, nil, fmt.Errorf("list what is condemned: %w", err)
		}
		name := strings.TrimPrefix(info.Key, condemnedPrefix)
		n := min(len(name), len(pointIDTime)+1+16)
		id, suffix := PointID(name[:n]), name[n:]
		if _, err := id.Time(); err != nil {
			continue // not ours
		}
		last := len(gens) - 1
		switch {
		case suffix == "":
			gens = append(gens, generation{id: id, planned: true})
		case suffix == timeSuffix || last < 0 || gens[last].id != id:
			rest = append(rest, info.Key)
		case suffix == verdictSuffix:
			gens[last].decided = true
		}
	}
	return gens, rest, nil
}

// doomed reads which packs a generation may still remove. No packs if the
// generation was removed meanwhile: its packs are gone before it is.
func (r *Repository) doomed(ctx context.Context, g generation) ([]packSum, error) {
	if g.decided {
		packs, err := r.readPacks(ctx, kindVerdict, g.verdict())
		if !errors.Is(err, ErrDamaged) {
			return packs, err
		}
	}
	return r.readPacks(ctx, kindPlan, g.plan())
}

// readPacks reads a plan or a verdict; no packs if it is gone.
func (r *Repository) readPacks(ctx context.Context, kind, key string) ([]packSum, error) {
	b, err := r.readSealed(ctx, kind, key)
	if errors.Is(err, provider.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	packs, err := decodePackSums(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	return packs, nil
}

// condemned returns the packs that some generation other than except may
// remove. ErrDamaged if that cannot be known.
func (r *Repository) condemned(ctx context.Context, except PointID) (map[[32]byte]bool, error) {
	gens, _, err := r.generations(ctx)
	if err != nil {
		return nil, err
	}
	out := map[[32]byte]bool{}
	for _, g := range gens {
		if g.id == except {
			continue
		}
		packs, err := r.doomed(ctx, g)
		if err != nil {
			return nil, err
		}
		for _, p := range packs {
			out[p.sum] = true
		}
	}
	return out, nil
}

func encodePackSums(packs []packSum) []byte {
	b := binary.AppendUvarint(nil, uint64(len(packs)))
	for _, s := range packs {
		b = append(b, s.sum[:]...)
		b = append(b, kindByte(s.kind))
		b = binary.AppendUvarint(b, uint64(s.size))
	}
	return b
}

func encodeSessions(ids []PointID) []byte {
	b := binary.AppendUvarint(nil, uint64(len(ids)))
	for _, id := range ids {
		b = appendBytes(b, id)
	}
	return b
}

func decodeSessions(plain []byte) ([]PointID, error) {
	d := &decoder{b: plain}
	var out []PointID
	for n := d.count("sessions", 1); n > 0 && d.err == nil; n-- {
		id := PointID(d.bytes("session", 64))
		if _, err := id.Time(); err != nil && d.err == nil {
			d.fail("%v", err)
		}
		out = append(out, id)
	}
	return out, d.end()
}

// tombstone reports whether what is stored at the key of a manifest says that
// there will never be one.
func (r *Repository) tombstone(ctx context.Context, info provider.Info) (bool, error) {
	text, err := r.epitaph(ctx, info)
	return text != "", err
}

// What a tombstone says.
const (
	givenUp = "{}"              // by somebody else
	failed  = `{"failed":true}` // by the writer itself
)

// epitaph returns what the tombstone at the key of a manifest says; nothing if
// it is none.
func (r *Repository) epitaph(ctx context.Context, info provider.Info) (string, error) {
	if info.Size > int64(r.keys.copies())*4/3+2048 {
		return "", nil // a manifest: more than the header of a tombstone
	}
	b, _, err := provider.ReadAll(ctx, r.c.Store, info.Key, maxManifest)
	switch {
	case errors.Is(err, provider.ErrNotFound), errors.Is(err, provider.ErrCorrupt):
		return "", nil // whoever reads the manifest will see
	case err != nil:
		return "", err
	}
	plain, err := r.keys.sealed(kindTombstone, info.Key, b)
	if err != nil {
		return "", nil
	}
	return string(plain), nil
}

// giveUp makes sure that a session that has not ended never will commit
// anything. It reports false if it has committed just now.
func (r *Repository) giveUp(ctx context.Context, id PointID, epitaph string) (bool, error) {
	key := pointKey(id)
	b, err := r.keys.sealObject(kindTombstone, string(id), key, []byte(epitaph))
	if err != nil {
		return false, err
	}
	_, err = provider.PutOnce(ctx, r.c.Store, key, b, provider.PutOptions{})
	if errors.Is(err, provider.ErrConflict) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("give up session %s: %w", id, err)
	}
	return true, nil
}

// storeTime asks for the time by the store's clock, by writing something.
func (r *Repository) storeTime(ctx context.Context) (time.Time, error) {
	for {
		key := condemnedPrefix + string(newPointID(r.c.now())) + timeSuffix
		if _, err := r.putSealed(ctx, kindTime, key, []byte("{}")); err != nil {
			return time.Time{}, err
		}
		info, err := r.c.Store.Stat(ctx, key)
		if errors.Is(err, provider.ErrNotFound) {
			continue // another prune has tidied up
		}
		if err != nil {
			return time.Time{}, fmt.Errorf("time of the store: %w", err)
		}
		return info.Modified, r.remove(ctx, key)
	}
}

// remove deletes an object that may stay for a while if it is locked.
func (r *Repository) remove(ctx context.Context, key string) error {
	err := r.c.Store.Delete(ctx, key, provider.DeleteOptions{})
	if err != nil && !errors.Is(err, provider.ErrLocked) {
		return fmt.Errorf("delete %s: %w", key, err)
	}
	return nil
}
