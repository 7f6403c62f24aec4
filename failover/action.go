package failover

import (
	"context"
	"errors"
	"strings"
	"unicode/utf8"
)

// ErrNoEffect, in the chain of an error returned by [Action.Do], says that
// the call certainly changed nothing and never will. It matters at the pivot:
// any other error there means that the standby may accept writes, and only
// going forward is safe.
var ErrNoEffect = errors.New("nothing was changed")

// Evidence is what a step leaves for the journal and the report: short facts
// by short name, such as "confirmed": "true". It must not hold secrets. A
// value is cut after 2,000 bytes, an evidence after 40 entries (in the order
// of their names).
type Evidence map[string]string

// Names with a meaning for this package.
const (
	// EvidenceConfirmed is "true" if a fence is known to hold, not only
	// asked for. A fence step without it is not done.
	EvidenceConfirmed = "confirmed"
	// EvidenceAge is, in the evidence of a restore step, how old the newest
	// recovered write was when the action looked, as a [time.Duration]
	// ("1m30s"). Because the primary was fenced before, this is an upper
	// bound of the loss. "0s" where it is proven that nothing is missing.
	EvidenceAge = "age"
	// EvidencePosition is where a quiesced primary stopped, and how far the
	// standby has come: what check-position compares.
	EvidencePosition = "position"
)

// An Action performs one step of a plan against the real world.
//
// Do and Undo are called at least once, not exactly once: after a crash or a
// lost reply they are called again, by another process perhaps, with the same
// Token. They must be idempotent and must return when ctx ends; its deadline
// is the one in the journal. The methods of one Action are never called
// concurrently by one run.
type Action interface {
	// Observe looks whether the step is already done. It changes nothing;
	// a dry run calls it too. An error means that it could not tell.
	Observe(ctx context.Context, c Call) (Observation, error)

	// Do performs the step. It returns nil only if the step is done. An
	// error that wraps [ErrNoEffect] promises that nothing was changed;
	// after any other error the outcome is unknown.
	Do(ctx context.Context, c Call) (Evidence, error)

	// Undo takes back what Do did, wholly or in part done. It is called
	// only before the pivot, and is a success if there is nothing to undo.
	Undo(ctx context.Context, c Call) (Evidence, error)
}

// A Call says on whose behalf an action runs.
type Call struct {
	Run     string // ID of the plan
	Plan    string // its hash
	Kind    Kind
	Service string
	From    string
	To      string
	Step    string
	Attempt int    // from 1, in this process
	Epoch   uint64 // of the lease; grows with every takeover. 0 in a dry run
	Token   string // same for every attempt of this step of this run, for providers that take idempotency tokens

	// Prior is the evidence of the steps that are done, by step name.
	Prior map[string]Evidence
}

// An Observation is the answer of [Action.Observe].
type Observation struct {
	Done     bool
	Evidence Evidence
}

// ActionFuncs makes an Action of functions. A nil Observe says not done, so
// that Do is always called; a nil Undo has nothing to undo; a nil Do is an
// error.
type ActionFuncs struct {
	ObserveFunc func(context.Context, Call) (Observation, error)
	DoFunc      func(context.Context, Call) (Evidence, error)
	UndoFunc    func(context.Context, Call) (Evidence, error)
}

var _ Action = ActionFuncs{}

// Observe calls ObserveFunc.
func (a ActionFuncs) Observe(ctx context.Context, c Call) (Observation, error) {
	if a.ObserveFunc == nil {
		return Observation{}, nil
	}
	return a.ObserveFunc(ctx, c)
}

// Do calls DoFunc.
func (a ActionFuncs) Do(ctx context.Context, c Call) (Evidence, error) {
	if a.DoFunc == nil {
		return nil, errors.Join(errors.New("no DoFunc"), ErrNoEffect)
	}
	return a.DoFunc(ctx, c)
}

// Undo calls UndoFunc.
func (a ActionFuncs) Undo(ctx context.Context, c Call) (Evidence, error) {
	if a.UndoFunc == nil {
		return nil, nil
	}
	return a.UndoFunc(ctx, c)
}

const (
	maxEvidenceEntries = 40
	maxEvidenceValue   = 2000
)

// cut shortens s to at most n bytes of valid UTF-8.
func cut(s string, n int) string {
	s = strings.ToValidUTF8(s, "?")
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + "..."
}
