package backup

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-go/holdfast/provider"
)

// What is being written to a repository is announced under sessions/:
//
//	sessions/<id>             a backup that may make the point <id>
//	sessions/<id>.copy        a copy that may bring the points it lists
//	sessions/<id>.copy.<n>    and is still at it
//	sessions/<id>.copy.fence  a prune is about to make an end of it
//	sessions/<id>.copy.end    it is over; not all of the points have arrived
const (
	copySuffix  = ".copy"
	fenceSuffix = ".fence"
	endSuffix   = ".end"
)

func copyKey(id PointID) string { return sessionKey(id) + copySuffix }

// A sessionRecord is what the objects of one session say.
type sessionRecord struct {
	id     PointID
	copies bool
	base   string // the first of its objects; empty if that is gone
	rest   []string
	began  time.Time // by the store's clock
	since  time.Time // the last sign of life
	ended  bool      // a copy, as it says, or a prune
	taken  bool      // there is a manifest or a tombstone for a backup
	failed bool      // it is a tombstone, by the writer itself
}

// open reports whether something may still become visible by it.
func (s sessionRecord) open() bool { return s.base != "" && !s.ended && !s.taken }

// sessionsThere lists the sessions, in the order of their ids.
func (r *Repository) sessionsThere(ctx context.Context) ([]sessionRecord, error) {
	all := map[PointID]*sessionRecord{}
	backups := false
	for info, err := range r.c.Store.List(ctx, sessionPrefix, provider.ListOptions{}) {
		if err != nil {
			return nil, fmt.Errorf("list sessions: %w", err)
		}
		name := strings.TrimPrefix(info.Key, sessionPrefix)
		n := min(len(name), len(pointIDTime)+1+16)
		id, suffix := PointID(name[:n]), name[n:]
		if _, err := id.Time(); err != nil {
			continue // not ours
		}
		s := all[id]
		if s == nil {
			s = &sessionRecord{id: id}
			all[id] = s
		}
		suffix, copies := strings.CutPrefix(suffix, copySuffix)
		s.copies = s.copies || copies
		backups = backups || !s.copies
		if info.Modified.After(s.since) {
			s.since = info.Modified
		}
		if suffix == "" {
			s.base, s.began = info.Key, info.Modified
			continue
		}
		s.rest = append(s.rest, info.Key)
		if suffix == endSuffix && copies {
			if s.ended, err = r.saysEnd(ctx, info.Key); err != nil {
				return nil, err
			}
		}
	}
	if backups {
		for info, err := range r.c.Store.List(ctx, pointPrefix, provider.ListOptions{}) {
			if err != nil {
				return nil, fmt.Errorf("list points: %w", err)
			}
			if s := all[PointID(strings.TrimPrefix(info.Key, pointPrefix))]; s != nil {
				s.taken = true
				text, err := r.epitaph(ctx, info)
				if err != nil {
					return nil, err
				}
				s.failed = text == failed
			}
		}
	}
	out := make([]sessionRecord, 0, len(all))
	for _, id := range slices.Sorted(maps.Keys(all)) {
		out = append(out, *all[id])
	}
	return out, nil
}

// removeSession removes what is left of a session that is over.
func (r *Repository) removeSession(ctx context.Context, s sessionRecord) error {
	base := sessionKey(s.id)
	if s.copies {
		base = copyKey(s.id)
	}
	if s.base == "" && !r.gone(ctx, base) {
		return nil // begun while the sessions were listed
	}
	// The first object first: whoever finds it, and no fence, is not fenced.
	for _, key := range append([]string{base}, s.rest...) {
		if err := r.remove(ctx, key); err != nil {
			return err
		}
		if key == base && !r.gone(ctx, base) {
			return nil // locked: the others say that it is over
		}
	}
	return nil
}

// mark creates an object that says what it says by being there.
func (r *Repository) mark(ctx context.Context, kind, key string) error {
	b, err := r.keys.sealObject(kind, "", key, []byte("{}"))
	if err != nil {
		return err
	}
	if _, err := provider.PutOnce(ctx, r.c.Store, key, b, provider.PutOptions{}); err != nil && !errors.Is(err, provider.ErrConflict) {
		return fmt.Errorf("put %s: %w", key, err)
	}
	return nil
}

// saysEnd reports whether a holder says that a copy has ended. Somebody else
// could have a prune delete what it relies on.
func (r *Repository) saysEnd(ctx context.Context, key string) (bool, error) {
	_, err := r.readSealed(ctx, kindEnd, key)
	if errors.Is(err, ErrDamaged) || errors.Is(err, provider.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("get %s: %w", key, err)
	}
	return true, nil
}

// endSession makes an end of a backup that has failed, so that no prune waits
// for it. What it has stored is kept for the next one while its session is
// young.
func (r *Repository) endSession(ctx context.Context, id PointID) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	if _, err := r.giveUp(ctx, id, failed); err != nil {
		r.c.Logger.Warn("session could not be ended; prunes will wait for it", "point", string(id), "error", err)
	}
}

// copiedPoints is the content of the session of a copy.
type copiedPoints struct {
	Copies []PointID `json:"copies"`
}

// decodeCopied reads which points a copy may bring. What is no id of a point
// is left out: there is no manifest that it could be of.
func decodeCopied(plain []byte) ([]PointID, error) {
	if tooManyValues(plain) {
		return nil, fmt.Errorf("%w: announcement has more than %d values", ErrDamaged, maxValues)
	}
	var c copiedPoints
	if err := json.Unmarshal(plain, &c); err != nil {
		return nil, fmt.Errorf("%w: announcement: %v", ErrDamaged, err)
	}
	return slices.DeleteFunc(c.Copies, func(id PointID) bool {
		_, err := id.Time()
		return err != nil
	}), nil
}

// giveUpCopy makes sure that a copy does not store any of the manifests that
// it has announced. It reports false if that is not possible because the
// announcement cannot be read.
func (r *Repository) giveUpCopy(ctx context.Context, s sessionRecord) (bool, error) {
	// Whoever looks for the versions to replace and then finds no fence has
	// looked before the next loop.
	if err := r.mark(ctx, kindEnd, copyKey(s.id)+fenceSuffix); err != nil {
		return false, err
	}
	plain, err := r.readSealed(ctx, kindSession, copyKey(s.id))
	if errors.Is(err, provider.ErrNotFound) {
		return true, nil // it has ended
	}
	var points []PointID
	if err == nil {
		points, err = decodeCopied(plain)
	}
	if errors.Is(err, ErrDamaged) {
		r.c.Logger.Warn("what a copy has announced cannot be read; when it runs no more, delete this", "key", copyKey(s.id), "error", err)
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("give up a copy: %w", err)
	}
	for _, id := range points {
		if err := r.fencePoint(ctx, id); err != nil {
			return false, fmt.Errorf("give up a copy: %w", err)
		}
	}
	return true, r.mark(ctx, kindEnd, copyKey(s.id)+endSuffix)
}

// fencePoint makes sure that a manifest that is not there can be stored only
// by who looks at its place after this.
func (r *Repository) fencePoint(ctx context.Context, id PointID) error {
	key := pointKey(id)
	var failure error
	for range 5 {
		info, err := r.c.Store.Stat(ctx, key)
		if errors.Is(err, provider.ErrNotFound) {
			if ok, err := r.giveUp(ctx, id, givenUp); ok || err != nil {
				return err
			}
			continue // somebody was faster: look again
		}
		if err != nil {
			return fmt.Errorf("stat %s: %w", key, err)
		}
		dead, err := r.tombstone(ctx, info)
		if err != nil || !dead {
			return err // there is a point
		}
		b, err := r.keys.sealObject(kindTombstone, string(id), key, []byte("{}"))
		if err != nil {
			return err
		}
		_, failure = r.c.Store.Put(ctx, key, provider.Bytes(b), provider.PutOptions{IfMatch: info.Version})
		if failure == nil {
			return nil
		}
		if ctx.Err() != nil {
			break
		}
	}
	return fmt.Errorf("replace the tombstone %s: %w", key, cmp.Or(failure, provider.ErrConflict))
}

// openSessions returns what is being written, with the store's time of its
// beginning.
func (r *Repository) openSessions(ctx context.Context) (map[PointID]time.Time, error) {
	sessions, err := r.sessionsThere(ctx)
	if err != nil {
		return nil, err
	}
	out := map[PointID]time.Time{}
	for _, s := range sessions {
		if s.open() {
			out[s.id] = s.began
		}
	}
	return out, nil
}
