package failover

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/holdfast-go/holdfast/provider"
)

// Held is a lease that this process holds. It must be kept by [Held.Keep];
// it is safe for concurrent use.
type Held struct {
	lease *Lease
	epoch uint64
	sem   chan struct{} // holds one token while the fields below are in use; a mutex would not do, it spans I/O

	rec     LeaseRecord      // as last known to be in the store
	version provider.Version // of rec

	until atomic.Pointer[time.Time] // with a monotonic reading: valid until then
	gone  atomic.Bool
}

// Epoch is the epoch of this acquisition.
func (h *Held) Epoch() uint64 { return h.epoch }

// Check returns [ErrLost] if the lease was seen to be lost, was released, or
// could not be renewed in time by this process' own clock. Call it right
// before every effect.
func (h *Held) Check() error {
	if h.gone.Load() {
		return ErrLost
	}
	if until := h.until.Load(); !time.Now().Before(*until) {
		h.gone.Store(true)
		return fmt.Errorf("%w: not renewed in time", ErrLost)
	}
	return nil
}

// Record is the lease record as this process last wrote it.
func (h *Held) Record(ctx context.Context) (LeaseRecord, error) {
	if err := h.enter(ctx); err != nil {
		return LeaseRecord{}, err
	}
	defer h.leave()
	return h.rec, nil
}

// Keep renews the lease three times per TTL until ctx ends, which is no
// error, or until the lease is lost, which is [ErrLost].
func (h *Held) Keep(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(min(h.lease.cfg.TTL/3, time.Until(*h.until.Load()))):
		}
		if err := h.Check(); err != nil {
			return err
		}
		// A renewal may take as long as the lease is valid, and no longer.
		renew, cancel := context.WithDeadline(ctx, *h.until.Load())
		err := h.update(renew, func(*LeaseRecord) {})
		cancel()
		if err != nil && ctx.Err() == nil {
			if lost := h.Check(); lost != nil {
				h.lease.cfg.Logger.Warn("lease lost", "service", h.lease.cfg.Service, "epoch", h.Epoch(), "error", err)
				return lost
			}
		}
	}
}

// SetActive writes which site may accept writes; "" means none. It returns
// nil only if the store has it. [ErrLost].
func (h *Held) SetActive(ctx context.Context, site string) error {
	return h.update(ctx, func(r *LeaseRecord) { r.Active = Active{Site: site, Epoch: r.Epoch} })
}

// setRun writes which run is open; "" means none.
func (h *Held) setRun(ctx context.Context, run string) error {
	return h.update(ctx, func(r *LeaseRecord) { r.Run = run })
}

// Release lets others take the lease at once. The record stays, with its
// epoch. After Release, whether it succeeds or not, the lease is lost to this
// process.
func (h *Held) Release(ctx context.Context) error {
	err := h.update(ctx, func(r *LeaseRecord) { r.Released = true })
	h.gone.Store(true)
	if err != nil {
		return fmt.Errorf("release lease of %s: %w", h.lease.cfg.Service, err)
	}
	return nil
}

// take writes the first record of an acquisition. A conflict is resolved by
// reading: it may be this process' own write whose reply was lost.
func (h *Held) take(ctx context.Context) error {
	body, err := json.Marshal(h.rec)
	if err != nil {
		return err
	}
	o := provider.PutOptions{IfMatch: h.version, IfAbsent: h.version == ""}
	first := time.Now()
	for wait := firstBackoff; ; wait = nextBackoff(wait) {
		info, err := h.lease.cfg.Store.Put(ctx, h.lease.key, provider.Bytes(body), o)
		if err == nil {
			h.won(info.Version, first)
			return nil
		}
		cur, version, readErr := readLease(ctx, h.lease.cfg.Store, h.lease.key)
		switch {
		case readErr == nil && cur.Instance == h.rec.Instance:
			h.won(version, first)
			return nil
		case readErr == nil && version != h.version:
			return &HeldError{Record: cur, Wait: max(time.Millisecond, h.lease.remaining(cur, version))}
		case errors.Is(err, provider.ErrConflict) && readErr == nil:
			return fmt.Errorf("the store says the condition does not hold, and shows the version that was asked for: %w", err)
		}
		// Not written, or not yet: the same bytes under the same condition
		// can be sent again.
		select {
		case <-ctx.Done():
			return errors.Join(err, context.Cause(ctx))
		case <-time.After(wait):
		}
	}
}

func (h *Held) won(v provider.Version, since time.Time) {
	h.version = v
	h.valid(since)
}

// valid extends the validity from the moment before a successful write was
// sent. A tenth of the TTL is left for clocks that run at different speeds.
func (h *Held) valid(since time.Time) {
	until := since.Add(h.lease.cfg.TTL - h.lease.cfg.TTL/10)
	h.until.Store(&until)
}

// update changes the record by compare-and-swap until it is in the store.
// Any record with this acquisition's Instance is our own: then the last reply
// was lost, or an earlier write has landed late.
func (h *Held) update(ctx context.Context, change func(*LeaseRecord)) error {
	if err := h.enter(ctx); err != nil {
		return err
	}
	defer h.leave()
	first := time.Now()
	for wait := firstBackoff; ; wait = nextBackoff(wait) {
		if err := h.Check(); err != nil {
			return err
		}
		want := h.rec
		change(&want)
		want.Writes++
		want.Changed = time.Now().UTC().Round(0)
		body, err := json.Marshal(want)
		if err != nil {
			return err
		}
		info, err := h.lease.cfg.Store.Put(ctx, h.lease.key, provider.Bytes(body), provider.PutOptions{IfMatch: h.version})
		if err == nil {
			h.rec = want
			h.won(info.Version, first)
			return nil
		}
		cur, version, readErr := readLease(ctx, h.lease.cfg.Store, h.lease.key)
		switch {
		case errors.Is(readErr, provider.ErrNotFound), readErr == nil && cur.Instance != h.rec.Instance:
			h.gone.Store(true)
			return fmt.Errorf("%w: now held by %q with epoch %d", ErrLost, cur.Holder, cur.Epoch)
		case readErr == nil && cur == want:
			h.rec = want
			h.won(version, first)
			return nil
		case readErr == nil:
			h.rec, h.version = cur, version
		}
		select {
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("write lease of %s: %w", h.lease.cfg.Service, err), context.Cause(ctx))
		case <-time.After(wait):
		}
	}
}

func (h *Held) enter(ctx context.Context) error {
	select {
	case h.sem <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (h *Held) leave() { <-h.sem }

const firstBackoff = 100 * time.Millisecond

// nextBackoff doubles up to 3 s.
func nextBackoff(d time.Duration) time.Duration { return min(2*d, 3*time.Second) }
