package backup

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"strings"
	"time"

	"github.com/holdfast-go/holdfast/provider"
)

// What checks have read is kept in write-once objects, each with the packs,
// and the segments of logs, of one stretch of work: verified/<id>, where the
// time in the id, which the seal is bound to, is when that stretch began. For
// each pack and segment the youngest object counts. Nothing but the order of checking depends on them: losing
// one costs reading its packs again earlier than necessary.

const (
	verifiedPrefix    = "verified/"
	verifiedPerObject = 1024 // a check that is killed loses at most so many packs of progress
)

func verifiedKey(id PointID) string { return verifiedPrefix + string(id) }

// A verdictOnPack says what a check found when it read a pack, or a segment.
type verdictOnPack struct {
	sum     [32]byte // or segmentID
	damaged bool
}

// verification is what is known of a pack from the last check that read it.
type verification struct {
	at      time.Time
	damaged bool
	object  PointID
}

func encodeVerified(packs []verdictOnPack) []byte {
	b := binary.AppendUvarint(nil, uint64(len(packs)))
	for _, p := range packs {
		b = append(b, p.sum[:]...)
		if p.damaged {
			b = append(b, 1)
		} else {
			b = append(b, 0)
		}
	}
	return b
}

func decodeVerified(plain []byte) ([]verdictOnPack, error) {
	d := &decoder{b: plain}
	var out []verdictOnPack
	for n := d.count("packs", 33); n > 0 && d.err == nil; n-- {
		p := verdictOnPack{sum: d.sum("pack")}
		switch d.byte("verdict") {
		case 0:
		case 1:
			p.damaged = true
		default:
			d.fail("verdict is neither 0 nor 1")
		}
		out = append(out, p)
	}
	return out, d.end()
}

// A verifiedObject is one that was listed, with what it says or why that
// cannot be read.
type verifiedObject struct {
	key   string
	id    PointID
	packs []verdictOnPack
	err   error // isDamage
}

// verifiedObjects reads all of them, oldest first. What does not have the
// form of their keys is not theirs.
func (r *Repository) verifiedObjects(ctx context.Context) iter.Seq2[verifiedObject, error] {
	return func(yield func(verifiedObject, error) bool) {
		var listErr error
		keys := func(yield func(string) bool) {
			for info, err := range r.c.Store.List(ctx, verifiedPrefix, provider.ListOptions{}) {
				if err != nil {
					listErr = fmt.Errorf("list what was verified: %w", err)
					return
				}
				if _, err := PointID(strings.TrimPrefix(info.Key, verifiedPrefix)).Time(); err == nil && !yield(info.Key) {
					return
				}
			}
		}
		for o := range inOrder(ctx, keys, func(key string) verifiedObject {
			o := verifiedObject{key: key, id: PointID(strings.TrimPrefix(key, verifiedPrefix))}
			o.packs, o.err = r.readVerified(ctx, key)
			return o
		}) {
			if errors.Is(o.err, provider.ErrNotFound) {
				continue // superseded, and removed since it was listed
			}
			if o.err != nil && !isDamage(o.err) {
				yield(verifiedObject{}, o.err)
				return
			}
			if !yield(o, nil) {
				return
			}
		}
		if err := errors.Join(listErr, ctx.Err()); err != nil {
			yield(verifiedObject{}, err)
		}
	}
}

func (r *Repository) readVerified(ctx context.Context, key string) ([]verdictOnPack, error) {
	plain, err := r.readSealed(ctx, kindVerified, key)
	if err != nil {
		return nil, err
	}
	packs, err := decodeVerified(plain)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	return packs, nil
}

// lastVerified returns what is known of each pack. A time that is still to
// come proves nothing, and would keep its packs from being checked: such
// objects are left out. damaged is told of objects that cannot be read.
func (r *Repository) lastVerified(ctx context.Context, now time.Time, damaged func(key string, err error)) (map[[32]byte]verification, error) {
	out := map[[32]byte]verification{}
	for o, err := range r.verifiedObjects(ctx) {
		if err != nil {
			return nil, err
		}
		at, _ := o.id.Time()
		switch {
		case o.err != nil:
			damaged(o.key, o.err)
		case !at.After(now):
			for _, p := range o.packs {
				out[p.sum] = verification{at, p.damaged, o.id}
			}
		}
	}
	return out, nil
}

// putVerified records what a check has read since began.
func (r *Repository) putVerified(ctx context.Context, began time.Time, packs []verdictOnPack) error {
	_, err := r.putSealed(ctx, kindVerified, verifiedKey(newPointID(began)), encodeVerified(packs))
	return err
}

// tidyVerified removes the objects that say nothing any more: those of whose
// packs and segments each is gone, or in a younger object; those from the future; and
// those that cannot be read. There is nothing to put in their place, so it
// does not matter where this is interrupted or how many do it at once.
func (r *Repository) tidyVerified(ctx context.Context, stored func(sum [32]byte) bool) (removed []string, err error) {
	last, err := r.lastVerified(ctx, time.Now(), func(string, error) {})
	if err != nil {
		return nil, err
	}
	var remove []string
	var segments map[[32]byte]bool // listed only if something is neither a pack that is there nor in a younger object
	for o, err := range r.verifiedObjects(ctx) {
		if err != nil {
			return nil, err
		}
		needed, unknown := false, false
		for _, p := range o.packs {
			latest, pack := last[p.sum].object == o.id, stored(p.sum)
			needed = needed || latest && pack
			unknown = unknown || latest && !pack
		}
		if unknown && !needed && segments == nil {
			if segments, err = r.segmentIDs(ctx); err != nil {
				return nil, err
			}
		}
		for _, p := range o.packs {
			needed = needed || last[p.sum].object == o.id && segments[p.sum]
		}
		if !needed {
			remove = append(remove, o.key)
		}
	}
	for _, key := range remove {
		if err := r.remove(ctx, key); err != nil {
			return removed, err
		}
		removed = append(removed, key)
	}
	return removed, nil
}

// segmentIDs lists the segments of all logs.
func (r *Repository) segmentIDs(ctx context.Context) (map[[32]byte]bool, error) {
	out := map[[32]byte]bool{}
	for info, err := range r.c.Store.List(ctx, logPrefix, provider.ListOptions{}) {
		if err != nil {
			return nil, fmt.Errorf("list logs: %w", err)
		}
		out[segmentID(info.Key)] = true
	}
	return out, nil
}
