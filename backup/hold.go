package backup

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/holdfast-go/holdfast/provider"
)

// renewal is how often a copy shows that it is alive.
const renewal = time.Hour

// A Hold lets points be copied into a store that is pruned at any time: it is
// to a copy what a session is to a backup. It satisfies replicate.Hold.
type Hold struct {
	r        *Repository // at the destination
	id       PointID
	leaving  map[string]bool
	replaces map[string]provider.Version

	mu      sync.Mutex
	waiting map[string]bool // manifests that have not arrived
	renewed time.Time
	count   int
}

// Hold announces at another store that points of this repository are about to
// be copied there; manifests are theirs. The other store holds a copy of this
// repository or nothing; [ErrConflict] of package provider if it holds another
// one. Release it when the copy is over. If that never happens, a Prune there
// makes an end of it once its Patience is over: what has not arrived by then
// fails to, with [ErrFenced].
func (r *Repository) Hold(ctx context.Context, at provider.BlobStore, manifests []provider.Info) (*Hold, error) {
	r, err := r.current(ctx)
	if err != nil {
		return nil, fmt.Errorf("hold: %w", err)
	}
	c := r.c
	c.Store = at
	h := &Hold{r: newRepository(c, r.keys), id: newPointID(c.now()), renewed: c.now(),
		leaving: map[string]bool{}, replaces: map[string]provider.Version{}, waiting: map[string]bool{}}
	if err := h.begin(ctx, manifests); err != nil {
		return nil, fmt.Errorf("hold: %w", err)
	}
	err = h.look(ctx)
	if err == nil {
		err = h.held(ctx)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("hold: %w", err), h.Release(context.WithoutCancel(ctx)))
	}
	return h, nil
}

// begin creates the session.
func (h *Hold) begin(ctx context.Context, manifests []provider.Info) error {
	b, _, err := provider.ReadAll(ctx, h.r.c.Store, formatKey, maxFormat)
	switch {
	case errors.Is(err, provider.ErrNotFound):
	case err != nil:
		return fmt.Errorf("get %s: %w", formatKey, err)
	case string(b) != string(h.r.keys.encoded):
		return fmt.Errorf("%s at the destination is that of another repository, or damaged (Repair it there): %w", formatKey, provider.ErrConflict)
	}
	var points copiedPoints
	for _, m := range manifests {
		id, ok := pointIDOf(m.Key)
		if !ok {
			return fmt.Errorf("%.80q is not the key of a manifest", m.Key)
		}
		points.Copies = append(points.Copies, id)
		h.waiting[m.Key] = true
	}
	plain, err := json.Marshal(points)
	if err == nil && tooManyValues(plain) { // nobody could make an end of it
		err = fmt.Errorf("%d points, less than %d are possible at once", len(manifests), maxValues)
	}
	if err != nil {
		return err
	}
	key := copyKey(h.id)
	if b, err = h.r.keys.sealObject(kindSession, string(h.id), key, plain); err != nil {
		return err
	}
	if _, err := provider.PutOnce(ctx, h.r.c.Store, key, b, provider.PutOptions{}); err != nil {
		return fmt.Errorf("put session: %w", err)
	}
	return nil
}

// look learns, after the session exists, what is condemned, and which
// manifests are to replace a tombstone.
func (h *Hold) look(ctx context.Context) error {
	gens, _, err := h.r.generations(ctx)
	if err != nil {
		return err
	}
	for _, g := range gens {
		packs, err := h.r.doomed(ctx, g)
		if errors.Is(err, ErrDamaged) {
			return fmt.Errorf("what is condemned cannot be read; Prune there puts this right: %w", err)
		}
		if err != nil {
			return err
		}
		for _, p := range packs {
			h.leaving[packKey(p.kind, p.sum)] = true
		}
	}
	for info, err := range h.r.c.Store.List(ctx, pointPrefix, provider.ListOptions{}) {
		if err != nil {
			return fmt.Errorf("list points: %w", err)
		}
		if !h.waiting[info.Key] {
			continue
		}
		if info, err = h.r.c.Store.Stat(ctx, info.Key); errors.Is(err, provider.ErrNotFound) {
			continue
		} else if err != nil {
			return err
		}
		dead, err := h.r.tombstone(ctx, info)
		if err != nil {
			return err
		}
		if dead {
			h.replaces[info.Key] = info.Version
		}
	}
	return nil
}

// Leaving reports whether an object is about to be deleted: it must neither be
// stored nor relied on.
func (h *Hold) Leaving(key string) bool { return h.leaving[key] }

// Replaces returns the version of the tombstone that a manifest is to replace;
// if empty, the manifest must be stored under the condition that there is
// nothing.
func (h *Hold) Replaces(manifest string) provider.Version { return h.replaces[manifest] }

// Renew shows from time to time that the copy is alive. Call it often.
func (h *Hold) Renew(ctx context.Context) error {
	h.mu.Lock()
	now := h.r.c.now()
	due := now.Sub(h.renewed).Abs() >= renewal
	if due {
		h.renewed = now
		h.count++
	}
	n := h.count
	h.mu.Unlock()
	if !due {
		return nil
	}
	if err := h.held(ctx); err != nil {
		return err
	}
	key := copyKey(h.id) + "." + strconv.Itoa(n)
	b, err := h.r.keys.sealObject(kindSession, string(h.id), key, []byte("{}"))
	if err != nil {
		return err
	}
	if _, err := provider.PutOnce(ctx, h.r.c.Store, key, b, provider.PutOptions{}); err != nil {
		return fmt.Errorf("renew the hold: %w", err)
	}
	return nil
}

// Arrived is to be called after a manifest was stored: only if it returns nil
// has the point arrived. [ErrFenced].
func (h *Hold) Arrived(ctx context.Context, manifest string) error {
	if err := h.held(ctx); err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.waiting, manifest)
	return nil
}

// held fails with ErrFenced if a prune has made an end of the copy.
func (h *Hold) held(ctx context.Context) error {
	key := copyKey(h.id)
	// In this order: what the session began with is removed before the fence.
	for _, suffix := range []string{fenceSuffix, ""} {
		_, err := h.r.c.Store.Stat(ctx, key+suffix)
		there := err == nil
		if err != nil && !errors.Is(err, provider.ErrNotFound) {
			return fmt.Errorf("look after the hold: %w", err)
		}
		if there == (suffix == fenceSuffix) {
			return fmt.Errorf("%w: the copy was declared dead", ErrFenced)
		}
	}
	return nil
}

// Release ends the hold. No manifest may be stored any more. If some have not
// arrived, a prune leaves what was brought for them until its Patience is
// over, for the next copy.
func (h *Hold) Release(ctx context.Context) error {
	h.mu.Lock()
	whole, n := len(h.waiting) == 0, h.count
	h.mu.Unlock()
	key := copyKey(h.id)
	if whole {
		if err := h.r.c.Store.Delete(ctx, key, provider.DeleteOptions{}); err == nil {
			for i := 1; i <= n; i++ {
				// What stays is removed by a prune.
				_ = h.r.c.Store.Delete(ctx, key+"."+strconv.Itoa(i), provider.DeleteOptions{})
			}
			return nil
		}
	}
	return h.r.mark(ctx, kindEnd, key+endSuffix)
}

// sessionObject reports whether a key is that of an object with the section
// of a session, and not of one that says something by being there.
func sessionObject(key string) bool {
	return !strings.HasSuffix(key, endSuffix) && !strings.HasSuffix(key, fenceSuffix)
}
