package failover

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"
)

// A Fencer makes a site stop accepting writes. Its credentials and its
// control plane must work while that site is gone. All methods are
// idempotent.
type Fencer interface {
	// Fence stops the site. The epoch goes into tags and tokens of what it
	// changes. An error, or evidence that is not Confirmed, is not a fence.
	Fence(ctx context.Context, epoch uint64) (FenceEvidence, error)

	// Fenced looks whether the fence holds now, and changes nothing. It is
	// called again right before the standby starts.
	Fenced(ctx context.Context) (FenceEvidence, error)

	// Unfence lets the site accept writes again. The step function calls it
	// only while the standby never could.
	Unfence(ctx context.Context, epoch uint64) error
}

// FenceEvidence says how sure a fence is.
type FenceEvidence struct {
	Method    string // "instances stopped", "network denied", ...
	Confirmed bool   // known to hold: read back, not only asked for
	Detail    string // what was looked at, and what it said
}

// A Promoter makes the standby accept writes.
type Promoter interface {
	// Promote returns once the standby accepts writes. It is idempotent. An
	// error that wraps [ErrNoEffect] promises that the standby does not.
	Promote(ctx context.Context, epoch uint64) (Evidence, error)

	// Promoted looks whether the standby accepts writes.
	Promoted(ctx context.Context) (Observation, error)
}

// FenceAction is the action of a fence step.
func FenceAction(f Fencer) Action { return fenceAction{f} }

type fenceAction struct{ f Fencer }

func (a fenceAction) Observe(ctx context.Context, c Call) (Observation, error) {
	fe, err := a.f.Fenced(ctx)
	return Observation{Done: fe.Confirmed, Evidence: fe.evidence()}, err
}

func (a fenceAction) Do(ctx context.Context, c Call) (Evidence, error) {
	fe, err := a.f.Fence(ctx, c.Epoch)
	return fe.evidence(), err
}

func (a fenceAction) Undo(ctx context.Context, c Call) (Evidence, error) {
	return nil, a.f.Unfence(ctx, c.Epoch)
}

func (fe FenceEvidence) evidence() Evidence {
	return Evidence{"method": fe.Method, EvidenceConfirmed: strconv.FormatBool(fe.Confirmed), "detail": fe.Detail}
}

// PromoteAction is the action of a start step. Its Undo refuses if the
// standby accepts writes.
func PromoteAction(p Promoter) Action { return promoteAction{p} }

type promoteAction struct{ p Promoter }

func (a promoteAction) Observe(ctx context.Context, c Call) (Observation, error) {
	return a.p.Promoted(ctx)
}

func (a promoteAction) Do(ctx context.Context, c Call) (Evidence, error) {
	return a.p.Promote(ctx, c.Epoch)
}

func (a promoteAction) Undo(ctx context.Context, c Call) (Evidence, error) {
	o, err := a.p.Promoted(ctx)
	if err == nil && o.Done {
		err = errors.New("the standby accepts writes")
	}
	return o.Evidence, err
}

// CheckPosition is the action of a check-position step: it compares the
// [EvidencePosition] of two earlier steps, character by character.
func CheckPosition(quiesced, synced string) Action {
	return ActionFuncs{DoFunc: func(ctx context.Context, c Call) (Evidence, error) {
		want, got := c.Prior[quiesced][EvidencePosition], c.Prior[synced][EvidencePosition]
		ev := Evidence{"primary": want, "standby": got}
		if want == "" || got != want {
			return ev, fmt.Errorf("step %s stopped at position %q, step %s reached %q: %w", quiesced, want, synced, got, ErrNoEffect)
		}
		return ev, nil
	}}
}

// ProbeAction is the action of a check or verify step: all probes must
// succeed in one round, which is repeated every interval (0 means 1 s) until
// the timeout of the step.
func ProbeAction(interval time.Duration, probes ...Probe) Action {
	if interval <= 0 {
		interval = time.Second
	}
	return ActionFuncs{DoFunc: func(ctx context.Context, c Call) (Evidence, error) {
		if len(probes) == 0 {
			return nil, fmt.Errorf("no probes: %w", ErrNoEffect)
		}
		var last error
		for round := 1; ; round++ {
			ev, err := probeAll(ctx, probes)
			if err == nil {
				ev["rounds"] = strconv.Itoa(round)
				return ev, nil
			}
			if ctx.Err() == nil || last == nil {
				last = err
			}
			select {
			case <-ctx.Done():
				return ev, fmt.Errorf("%w (round %d): %w", last, round, ErrNoEffect)
			case <-time.After(interval):
			}
		}
	}}
}

func probeAll(ctx context.Context, probes []Probe) (Evidence, error) {
	ev := Evidence{}
	var errs []error
	for _, p := range probes {
		detail, err := p.Probe(ctx)
		if err != nil {
			errs = append(errs, fmt.Errorf("probe %s: %w", p, err))
			detail = err.Error()
		}
		ev[p.String()] = detail
	}
	return ev, errors.Join(errs...)
}
