package failover

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/holdfast-go/holdfast/provider"
)

var (
	// ErrFenced: this site must not accept writes now.
	ErrFenced = errors.New("fenced")
	// ErrSealed: this site was seen to be in charge no more, and must never
	// accept writes again under its epoch. It comes with ErrFenced.
	ErrSealed = errors.New("for good")
)

// SentryConfig is what [NewSentry] needs.
type SentryConfig struct {
	Store   provider.BlobStore // that of the lease; required
	Service string             // required
	Site    string             // where this runs; required

	// Epoch is the one since which Site is in charge: Active.Epoch of the
	// lease record ([ReadLease]) when this was started, which after a takeover
	// may be less than the epoch that a [Promoter] is handed. 0 is for the one
	// site that is in charge as long as no run has said anything.
	Epoch uint64

	// Patience is how long this site may accept writes on the word of one
	// reading; 0 means 30 s. The lease is read ten times in that time. The
	// [SelfFence] of the other side must know it.
	Patience time.Duration

	// Stop, if not nil, makes this site stop accepting writes, at once and
	// whatever it takes. It is called once, by Run, with a ctx that has not
	// ended. It is for services whose writes cannot ask Check; they cannot come
	// back by themselves, so losing patience seals them, too.
	Stop func(ctx context.Context, reason error) error

	// Extend, if not nil, is told before Check says yes for longer: for so long
	// from now. With an error it stays as it was. For an audit trail.
	Extend func(d time.Duration) error

	Logger *slog.Logger // nil discards
}

// A Sentry makes a site fence itself. [Sentry.Run] keeps reading the lease;
// [Sentry.Check] says from memory whether the site may accept a write.
//
// Time is counted from before a reading was asked for, on this machine's own
// clock; on Linux and macOS that is one that goes on while the machine sleeps.
// So it does not matter how long a process or its machine was stopped: the
// first Check after it woke up knows. A virtual machine that its hypervisor
// stops may see no clock move; fence that from outside.
type Sentry struct {
	cfg  SentryConfig
	word atomic.Pointer[word] // only Run stores
}

// word is what the lease said last.
type word struct {
	asked  moment // if it named this site: good for Patience from here
	no     error  // if it did not
	missed error  // why there is no later word
}

// NewSentry checks the config. Until Run has read the lease, Check says no.
func NewSentry(c SentryConfig) (*Sentry, error) {
	if c.Store == nil || !validName(c.Service) || !validName(c.Site) || c.Patience < 0 {
		return nil, errors.New("sentry config: Store, Service and Site are required, Patience is not negative")
	}
	if c.Patience == 0 {
		c.Patience = 30 * time.Second
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Sentry{cfg: c}
	s.word.Store(&word{no: fmt.Errorf("%w: the lease has not been read yet", ErrFenced)})
	return s, nil
}

// Check returns nil while this site may accept writes: while the lease was
// read, no longer than Patience ago, to put exactly this site in charge, since
// exactly this epoch. Otherwise the error matches [ErrFenced], and [ErrSealed]
// too if that will never change.
//
// It asks nobody and never blocks. Call it twice for every write: before the
// write is accepted, and when it is durable, before it is acknowledged. A write
// that a fence overtakes in between fails, and nobody was told that it is safe.
func (s *Sentry) Check() error {
	w := s.word.Load()
	no := w.no
	if no == nil && w.asked.ago() >= s.cfg.Patience {
		no = fmt.Errorf("%w: the lease was not read for %v", ErrFenced, s.cfg.Patience)
	}
	if no != nil && w.missed != nil {
		no = fmt.Errorf("%w: %w", no, w.missed)
	}
	return no
}

// Run reads the lease until ctx ends, and then returns its cause, or until this
// site is sealed, and then returns why, joined with the error of Stop. Call it
// once.
func (s *Sentry) Run(ctx context.Context) error {
	good := thisMoment() // patience with the first reading, too
	for {
		wait := s.cfg.Patience / 10
		limit := s.cfg.Patience / 2 // one answer that never comes must not use up the patience
		if s.cfg.Stop != nil {
			limit = min(limit, s.cfg.Patience-good.ago())
		}
		asked := thisMoment()
		w := s.read(ctx, limit)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		s.word.Store(&w)
		if w.no == nil && w.missed == nil {
			good = asked
		}
		if s.cfg.Stop != nil {
			left := s.cfg.Patience - good.ago()
			if wait = min(wait, left); left <= 0 && !errors.Is(w.no, ErrSealed) {
				w = word{no: fmt.Errorf("%w %w: the lease was not read for %v", ErrFenced, ErrSealed, s.cfg.Patience), missed: w.missed}
				s.word.Store(&w)
			}
		}
		if errors.Is(w.no, ErrSealed) {
			return s.stop(ctx)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(wait):
		}
	}
}

// read asks once, and returns the word that holds from now on.
func (s *Sentry) read(ctx context.Context, limit time.Duration) word {
	last := *s.word.Load()
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	asked := thisMoment() // by the time of the answer it may have changed
	r, err := ReadLease(ctx, s.cfg.Store, "", s.cfg.Service)
	if err != nil && !errors.Is(err, provider.ErrNotFound) {
		last.missed = err
		return last // until it runs out
	}
	want := Active{Site: s.cfg.Site, Epoch: s.cfg.Epoch}
	if s.cfg.Epoch == 0 {
		want = Active{} // no run has said anything
	}
	if r.Active == want {
		if last.missed = s.extend(asked); last.missed != nil {
			return last
		}
		return word{asked: asked}
	}
	// Epochs only grow. Under one epoch a site is put in charge after another
	// or none, never before.
	sealed := r.Active.Epoch > s.cfg.Epoch || r.Active.Epoch == s.cfg.Epoch && last.no == nil
	no := fmt.Errorf("%w: %s; this is %s, epoch %d", ErrFenced, r.Active, s.cfg.Site, s.cfg.Epoch)
	if sealed {
		no = fmt.Errorf("%w %w: %s; this is %s, epoch %d", ErrFenced, ErrSealed, r.Active, s.cfg.Site, s.cfg.Epoch)
	}
	return word{no: no}
}

func (s *Sentry) extend(asked moment) error {
	left := s.cfg.Patience - asked.ago()
	if left <= 0 {
		return errors.New("the answer came too late")
	}
	if s.cfg.Extend == nil {
		return nil
	}
	return s.cfg.Extend(left)
}

// stop is the end of a sealed Sentry.
func (s *Sentry) stop(ctx context.Context) error {
	reason := s.Check()
	s.cfg.Logger.Error("this site is fenced", "site", s.cfg.Site, "epoch", s.cfg.Epoch, "reason", reason)
	if s.cfg.Stop == nil {
		return reason
	}
	if err := s.cfg.Stop(ctx, reason); err != nil {
		return errors.Join(reason, fmt.Errorf("stop: %w", err))
	}
	return reason
}
