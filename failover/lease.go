package failover

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/holdfast-go/holdfast/provider"
)

var (
	// ErrHeld: another process holds the lease. See [*HeldError].
	ErrHeld = errors.New("lease is held")
	// ErrLost: this process holds the lease no longer and must change
	// nothing any more.
	ErrLost = errors.New("lease is lost")
)

// maxLease bounds the size of a lease record.
const maxLease = 16 << 10

// A LeaseRecord is the content of the lease object of a service. It says in
// one object who orchestrates (Holder, Epoch) and which site is in charge
// (Active). Keeping both in one object means that the compare-and-swap which
// protects the lease protects Active too: a process that has lost the lease
// cannot change who is in charge, without any comparison of epochs.
type LeaseRecord struct {
	Version  int           `json:"version"` // of this format: 1
	Service  string        `json:"service"`
	Epoch    uint64        `json:"epoch"`    // grows by one with every acquisition, also after a release
	Holder   string        `json:"holder"`   // for people
	Instance string        `json:"instance"` // random, one per acquisition: whose record this is
	Writes   uint64        `json:"writes"`   // grows with every write, so that no two records have the same bytes
	TTL      time.Duration `json:"ttl_ns"`
	Released bool          `json:"released"`
	Run      string        `json:"run"`     // the run that is open, if any
	Active   Active        `json:"active"`  // the one site that may accept writes
	Changed  time.Time     `json:"changed"` // by the holder's clock; for people, never compared
}

// Active names the site that may accept writes. An empty Site with an Epoch
// means that none may, because a run is between fence and pivot; the zero
// value means that no run has said anything yet.
type Active struct {
	Site  string `json:"site"`
	Epoch uint64 `json:"epoch"` // of the lease when it was set
}

// String says in words who is in charge.
func (a Active) String() string {
	switch {
	case a == (Active{}):
		return "no run has said who is in charge"
	case a.Site == "":
		return fmt.Sprintf("no site is in charge since epoch %d", a.Epoch)
	}
	return fmt.Sprintf("%s is in charge since epoch %d", a.Site, a.Epoch)
}

// LeaseConfig is what [OpenLease] needs.
type LeaseConfig struct {
	Store   provider.BlobStore // outside the primary; required
	Service string             // [a-z0-9-]; required
	Prefix  string             // of the key; empty means "lease/". The key is Prefix + Service
	Holder  string             // who asks, for people; required
	TTL     time.Duration      // how long a holder that says nothing keeps it; 0 means 30 s
	Logger  *slog.Logger       // nil discards
}

// A Lease is the object that says who orchestrates a service. The object is
// changed only by compare-and-swap and never deleted, so that its epoch never
// goes back. A Lease is safe for concurrent use.
//
// Expiry is for liveness, the epoch is for safety: a holder that is slow or
// cut off loses the lease, and everything it still tries under its old epoch
// is refused. Whether a lease has expired is judged by the observer's own
// monotonic clock, counted from when it last saw the record change. No clock
// of another machine is ever compared.
type Lease struct {
	cfg LeaseConfig
	key string

	mu     sync.Mutex // never held during I/O
	seen   provider.Version
	seenAt time.Time
}

// OpenLease checks the config and proves with a few writes under "probe/"
// that the store honours conditions; see [CheckStore].
func OpenLease(ctx context.Context, c LeaseConfig) (*Lease, error) {
	var errs []error
	if c.Store == nil {
		errs = append(errs, errors.New("lease config: Store is required"))
	}
	if !validName(c.Service) {
		errs = append(errs, fmt.Errorf("lease config: Service %q: use 1 to 100 of a-z, 0-9 and -", c.Service))
	}
	if c.Holder == "" {
		errs = append(errs, errors.New("lease config: Holder is required"))
	}
	if c.TTL < 0 {
		errs = append(errs, fmt.Errorf("lease config: TTL %v is negative", c.TTL))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	if c.TTL == 0 {
		c.TTL = 30 * time.Second
	}
	if c.Prefix == "" {
		c.Prefix = "lease/"
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if err := CheckStore(ctx, c.Store); err != nil {
		return nil, fmt.Errorf("open lease %s: %w", c.Service, err)
	}
	return &Lease{cfg: c, key: c.Prefix + c.Service}, nil
}

// Read returns the record as it is now. [provider.ErrNotFound] if the lease
// was never taken.
func (l *Lease) Read(ctx context.Context) (LeaseRecord, error) {
	r, _, err := readLease(ctx, l.cfg.Store, l.key)
	return r, err
}

// ReadLease reads the lease record of a service without changing or proving
// anything; prefix as in [LeaseConfig]. [provider.ErrNotFound] if it was
// never taken.
func ReadLease(ctx context.Context, s provider.BlobStore, prefix, service string) (LeaseRecord, error) {
	if prefix == "" {
		prefix = "lease/"
	}
	r, _, err := readLease(ctx, s, prefix+service)
	return r, err
}

func readLease(ctx context.Context, s provider.BlobStore, key string) (LeaseRecord, provider.Version, error) {
	b, info, err := provider.ReadAll(ctx, s, key, maxLease)
	if err != nil {
		return LeaseRecord{}, "", fmt.Errorf("read lease: %w", err)
	}
	var r LeaseRecord
	if err := json.Unmarshal(b, &r); err != nil {
		return LeaseRecord{}, "", fmt.Errorf("read lease %s: %w", key, err)
	}
	if r.Version != 1 || r.Epoch == 0 || r.TTL <= 0 {
		return LeaseRecord{}, "", fmt.Errorf("read lease %s: version %d, epoch %d, ttl %v: not a lease this program understands", key, r.Version, r.Epoch, r.TTL)
	}
	return r, info.Version, nil
}

// A HeldError is the error of an acquisition that found another holder. It
// matches [ErrHeld].
type HeldError struct {
	Record LeaseRecord
	// Wait is how long the record must stay as it is, from now on, before
	// this Lease takes it.
	Wait time.Duration
}

// Error names the holder.
func (e *HeldError) Error() string {
	return fmt.Sprintf("lease of %s is held by %s (epoch %d), expires in %v unless renewed",
		e.Record.Service, e.Record.Holder, e.Record.Epoch, e.Wait.Round(time.Millisecond))
}

// Is reports whether target is [ErrHeld].
func (e *HeldError) Is(target error) bool { return target == ErrHeld }

// Acquire takes the lease, waiting until its present holder releases it or
// has been silent for its TTL. If ctx ends first, the error joins its cause
// with the last one, which names the holder. A store that fails five times in
// a row is given up.
func (l *Lease) Acquire(ctx context.Context) (*Held, error) {
	for failures, backoff := 0, firstBackoff; ; {
		h, err := l.TryAcquire(ctx)
		if err == nil {
			return h, nil
		}
		var wait time.Duration
		if held, ok := errors.AsType[*HeldError](err); ok {
			wait = min(held.Wait, l.cfg.TTL/4) + time.Millisecond
			failures, backoff = 0, firstBackoff
		} else {
			if failures++; failures == 5 {
				return nil, err
			}
			wait, backoff = backoff, nextBackoff(backoff)
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(err, context.Cause(ctx))
		case <-time.After(wait):
		}
	}
}

// TryAcquire takes the lease if it is free: never taken, released, or not
// changed since this Lease first saw it so, at least its TTL ago. Otherwise
// the error is a [*HeldError]. A Lease that has never looked before must
// therefore be asked twice before it takes over from a silent holder.
func (l *Lease) TryAcquire(ctx context.Context) (*Held, error) {
	old, version, err := readLease(ctx, l.cfg.Store, l.key)
	switch {
	case errors.Is(err, provider.ErrNotFound):
		old, version = LeaseRecord{}, ""
	case err != nil:
		return nil, fmt.Errorf("acquire: %w", err)
	default:
		if wait := l.remaining(old, version); wait > 0 {
			return nil, &HeldError{Record: old, Wait: wait}
		}
	}
	h := &Held{lease: l, epoch: old.Epoch + 1, sem: make(chan struct{}, 1), version: version}
	h.rec = LeaseRecord{
		Version: 1, Service: l.cfg.Service, Epoch: old.Epoch + 1, Holder: l.cfg.Holder, Instance: rand.Text(),
		TTL: l.cfg.TTL, Run: old.Run, Active: old.Active, Changed: time.Now().UTC().Round(0),
	}
	if err := h.take(ctx); err != nil {
		return nil, fmt.Errorf("acquire lease of %s: %w", l.cfg.Service, err)
	}
	l.cfg.Logger.Info("lease acquired", "service", l.cfg.Service, "epoch", h.rec.Epoch, "previous", old.Holder)
	return h, nil
}

// remaining is how long the record must still stay unchanged. The clock
// starts after the record was read, that is not before it was written.
func (l *Lease) remaining(r LeaseRecord, v provider.Version) time.Duration {
	if r.Released {
		return 0
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if v != l.seen {
		l.seen, l.seenAt = v, now
	}
	return r.TTL - now.Sub(l.seenAt)
}
