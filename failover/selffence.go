package failover

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"
)

// SelfFence is the [Fencer] of a primary that runs a [Sentry]. The run has
// already written into the lease that no site is in charge; Fence waits until
// every Sentry has read that, or has lost its patience. Give the fence step a
// timeout longer than Patience and Margin.
//
// Where every write asks [Sentry.Check], it rests on clocks that run at about
// the same speed, and on nothing else: a Sentry that hangs or was stopped says
// no. Where only the Sentry's Stop keeps writes out, it also rests on the Sentry
// being alive; a watchdog that resets a machine whose Sentry hangs makes that
// sound.
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
