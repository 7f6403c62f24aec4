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

// SentryConfig is what [Sentry] needs.
type SentryConfig struct {
	Store   provider.BlobStore // that of the lease; required
	Service string             // required
	Site    string             // where this runs; required

	// Patience is how long this site may go on without having read in the
	// lease that it is in charge; 0 means 30 s. The [SelfFence] of the other
	// side must know it.
	Patience time.Duration

	// Stop makes this site stop accepting writes, at once and whatever it
	// takes; it is called once, with a ctx that has not ended. Required.
	Stop   func(ctx context.Context, reason error) error
	Logger *slog.Logger // nil discards
}

// Sentry makes a site fence itself. It runs beside the primary and reads the
// lease several times per Patience, until ctx ends. As soon as the lease puts
// another site in charge, or none, or Patience has gone by without a
// successful reading, by this machine's monotonic clock, it calls Stop and
// returns the reason joined with the error of Stop.
//
// A lease that was never taken, or never named a site, leaves everybody be.
func Sentry(ctx context.Context, c SentryConfig) error {
	if c.Store == nil || !validName(c.Service) || !validName(c.Site) || c.Stop == nil || c.Patience < 0 {
		return errors.New("sentry config: Store, Service, Site and Stop are required, Patience is not negative")
	}
	if c.Patience == 0 {
		c.Patience = 30 * time.Second
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	reason := c.watch(ctx)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	c.Logger.Error("fencing this site", "site", c.Site, "reason", reason)
	if err := c.Stop(ctx, reason); err != nil {
		return errors.Join(reason, fmt.Errorf("stop: %w", err))
	}
	return reason
}

// watch returns why this site must stop, or nil if ctx ended.
func (c SentryConfig) watch(ctx context.Context) error {
	good := time.Now()
	for {
		asked := time.Now()
		limit, cancel := context.WithDeadline(ctx, good.Add(c.Patience))
		r, err := ReadLease(limit, c.Store, "", c.Service)
		cancel()
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, provider.ErrNotFound), err == nil && r.Active.Epoch == 0:
			good = asked // nobody has said anything yet
		case err == nil && r.Active.Site != c.Site:
			return fmt.Errorf("the lease puts %q in charge since epoch %d", r.Active.Site, r.Active.Epoch)
		case err == nil:
			good = asked // what was read was true when it was asked for, or later
		}
		left := c.Patience - time.Since(good)
		if left <= 0 {
			return fmt.Errorf("%v without reading the lease: %w", c.Patience, err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(min(c.Patience/5, left)):
		}
	}
}

// SelfFence is the [Fencer] of a primary that runs a [Sentry]. The run has
// already written into the lease that no site is in charge; Fence waits until
// every Sentry has read that, or has lost its patience. Give the fence step a
// timeout longer than Patience and Margin.
//
// It rests on the Sentry being alive and its clock running at the right
// speed; a watchdog that resets a machine whose Sentry hangs makes it sound.
type SelfFence struct {
	Patience time.Duration // of the Sentry; required
	Margin   time.Duration // for stopping, and for clocks that run at different speeds; 0 means half of Patience

	// Look, if not nil, confirms by another way that the site has stopped.
	// Without it Fenced is confirmed once this value has waited, and a
	// process that takes over waits again.
	Look func(ctx context.Context) (FenceEvidence, error)
	// Release lets the site accept writes again; required for Unfence.
	Release func(ctx context.Context, epoch uint64) error

	waited atomic.Bool
}

var _ Fencer = (*SelfFence)(nil)

func (f *SelfFence) wait() time.Duration {
	if f.Margin == 0 {
		return f.Patience + f.Patience/2
	}
	return f.Patience + f.Margin
}

// Fence implements [Fencer] by waiting.
func (f *SelfFence) Fence(ctx context.Context, epoch uint64) (FenceEvidence, error) {
	if f.Patience <= 0 {
		return FenceEvidence{}, fmt.Errorf("self-fence: Patience is required: %w", ErrNoEffect)
	}
	if d, ok := ctx.Deadline(); ok && time.Until(d) < f.wait() {
		return FenceEvidence{}, fmt.Errorf("self-fence: the step has to wait %v and may take only %v: %w", f.wait(), time.Until(d).Round(time.Second), ErrNoEffect)
	}
	select {
	case <-ctx.Done():
		return FenceEvidence{}, context.Cause(ctx)
	case <-time.After(f.wait()):
	}
	f.waited.Store(true)
	return FenceEvidence{Method: "self-fence", Confirmed: true,
		Detail: fmt.Sprintf("waited %v after the lease put no site in charge (epoch %d)", f.wait(), epoch)}, nil
}

// Fenced implements [Fencer] by Look, or by what this value has waited.
func (f *SelfFence) Fenced(ctx context.Context) (FenceEvidence, error) {
	if f.Look == nil {
		return FenceEvidence{Method: "self-fence", Confirmed: f.waited.Load(), Detail: "waited before"}, nil
	}
	return f.Look(ctx)
}

// Unfence implements [Fencer].
func (f *SelfFence) Unfence(ctx context.Context, epoch uint64) error {
	if f.Release == nil {
		return errors.New("self-fence: no Release: start the site by hand")
	}
	f.waited.Store(false)
	return f.Release(ctx, epoch)
}
