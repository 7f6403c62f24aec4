package throttle

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/internal/remote"
)

// A call is one call of a store. It is the gate of the requests that the store
// makes of it; a store that knows no gates makes one request of each attempt.
type call struct {
	c        *class
	attempts int
	op, key  string

	mu        sync.Mutex
	ready     *ticket // waited for, and not used yet
	requests  int     // of this attempt
	failures  int     // of them
	uncertain int     // of them, may have been carried out
	refused   bool    // the last answer was a refusal
	round     int     // failures, those at the same time counted once
	row       int     // of them, since a request succeeded
	rounds    int     // of them, since the call came further
	owed      int     // failures that nothing has been made again for
	how       string  // the last one
	throttled error   // what the service asked with it
}

func (t *Throttle) call(of Class, op, key string) *call {
	return &call{c: t.class(of), attempts: t.c.Attempts, op: op, key: key}
}

// The errors of requests that are not made.
var (
	errAttempts = errors.New("all attempts have failed")
	errRetries  = errors.New("the retries for requests of its class are used up")
)

// Enter implements [remote.Gate].
func (k *call) Enter(ctx context.Context) (func(remote.Outcome), error) {
	k.mu.Lock()
	k.requests++
	t := k.ready
	k.ready = nil
	k.mu.Unlock()
	if t == nil {
		var err error
		if t, err = k.admit(ctx); err != nil {
			return nil, &remote.Stop{Err: err}
		}
	}
	return func(o remote.Outcome) { k.leave(t, o) }, nil
}

// admit waits for a request that may be made. It is made again if one of the
// call has failed, which it pays for.
func (k *call) admit(ctx context.Context) (*ticket, error) {
	if err := k.allowed(); err != nil {
		return nil, err
	}
	t, err := k.c.enter(ctx)
	if err != nil {
		return nil, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	t.round = k.round
	return t, nil
}

func (k *call) allowed() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case k.row >= k.attempts:
		return fmt.Errorf("%w, the last with %s", errAttempts, k.how)
	case k.owed == 0:
		return nil
	case !k.c.pay():
		return fmt.Errorf("failed with %s, and %w", k.how, errRetries)
	}
	k.owed--
	return nil
}

func (k *call) leave(t *ticket, o remote.Outcome) {
	k.c.leave(t, o)
	k.mu.Lock()
	defer k.mu.Unlock()
	k.refused = o.Refused
	if o.Failed {
		k.fail(t.round, o)
	} else if !o.Unknown {
		k.row = 0
	}
}

// fail counts a failure; of several at the same time, as of parts that go up
// beside each other, one.
func (k *call) fail(round int, o remote.Outcome) {
	k.failures++
	k.owed++
	if o.Unknown {
		k.uncertain++
	}
	k.throttled, k.how = nil, "no answer"
	if o.Status != 0 {
		k.how = fmt.Sprintf("status %d", o.Status)
	}
	if o.Throttled {
		k.throttled = remote.ThrottledFor(o.After)
	}
	if round == k.round {
		k.round++
		k.row++
		k.rounds++
	}
}

// begin waits for an attempt.
func (k *call) begin(ctx context.Context) error {
	t, err := k.admit(ctx)
	k.mu.Lock()
	defer k.mu.Unlock()
	k.ready, k.requests, k.failures, k.uncertain, k.refused = t, 0, 0, 0, false
	return err
}

// settle takes err for the outcome of an attempt, as far as the requests of
// the store have not told it.
func (k *call) settle(ctx context.Context, err error) {
	o := outcomeOf(ctx, err)
	k.mu.Lock()
	t := k.ready
	k.ready = nil
	broke := t == nil && o.Failed && k.failures == 0 && !k.refused // behind the head of an answer
	if broke {
		k.fail(k.round, o)
	}
	k.mu.Unlock()
	switch {
	case t != nil:
		k.leave(t, o)
	case broke:
		k.c.late(o)
	}
}

func outcomeOf(ctx context.Context, err error) remote.Outcome {
	switch {
	case err == nil:
		return remote.Outcome{}
	case errors.Is(err, provider.ErrThrottled):
		return remote.Outcome{Failed: true, Unknown: true, Throttled: true, After: provider.RetryAfter(err)}
	case !passes(err):
		return remote.Outcome{Refused: true}
	}
	return remote.NoAnswer(ctx)
}

// further: the call has got something, so that what fails now is another thing.
func (k *call) further() {
	k.mu.Lock()
	t := k.ready
	k.ready, k.row, k.rounds = nil, 0, 0
	k.mu.Unlock()
	if t != nil {
		k.leave(t, remote.Outcome{})
	}
}

// mayHave says of an attempt that failed whether it may have had its effect.
func (k *call) mayHave() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.uncertain > 0 || k.failures == 0
}

// release gives back what an attempt has not used, of whose outcome there is
// nothing to learn.
func (k *call) release() {
	k.mu.Lock()
	t := k.ready
	k.ready = nil
	k.mu.Unlock()
	if t != nil {
		k.leave(t, remote.Outcome{Unknown: true})
	}
}

// A final error ends a call, whatever it is.
type final struct{ err error }

func (f *final) Error() string { return f.err.Error() }

// run makes attempts until one succeeds, or fails for good.
func (k *call) run(ctx context.Context, attempt func(context.Context) error) error {
	inner := remote.Through(ctx, k)
	var last error
	for n := 0; ; n++ {
		if err := k.begin(ctx); err != nil {
			return k.ended(ctx, err, last)
		}
		err := attempt(inner)
		if f, ok := err.(*final); ok {
			k.release()
			return k.told(f.err)
		}
		k.settle(ctx, err)
		if err == nil || !k.again(ctx, err) {
			return k.told(err)
		}
		last = err
		if err := sleep(ctx, backoff(n)); err != nil {
			return k.ended(ctx, err, last)
		}
	}
}

// backoff is how long to wait before attempt n+2: a random part of twice as much
// each time.
func backoff(n int) time.Duration {
	return rand.N(min(mostBackoff, firstBackoff<<min(n, 10)) + 1)
}

// again says whether an attempt that failed is made again.
func (k *call) again(ctx context.Context, err error) bool {
	if _, stopped := errors.AsType[*remote.Stop](err); stopped || !passes(err) || ctx.Err() != nil {
		return false
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	return !k.refused && k.rounds < k.attempts
}

// passes: made again, the same call may fare better.
func passes(err error) bool {
	if errors.Is(err, provider.ErrThrottled) {
		return true
	}
	for _, s := range []error{provider.ErrNotFound, provider.ErrConflict, provider.ErrLocked, provider.ErrCorrupt,
		provider.ErrRange, provider.ErrInvalidKey, provider.ErrCold, errors.ErrUnsupported, fs.ErrPermission} {
		if errors.Is(err, s) {
			return false
		}
	}
	return true
}

// ended is the error of a call that may make no further attempt because of
// why; last is what the one before returned, if there was one.
func (k *call) ended(ctx context.Context, why, last error) error {
	if ctx.Err() == nil && last != nil {
		err := fmt.Errorf("%w (%w)", last, &remote.Stop{Err: why})
		if e, ok := last.(*provider.Error); ok {
			c := *e
			c.Err = fmt.Errorf("%w (%w)", e.Err, &remote.Stop{Err: why})
			err = &c
		}
		return k.told(err)
	}
	if last != nil {
		why = fmt.Errorf("%w; before that: %w", why, last)
	}
	return &provider.Error{Op: k.op, Provider: "throttle", Key: k.key, Err: why}
}

// told is err, with what it may be that the store does not say: that the
// service asks to be asked less.
func (k *call) told(err error) error {
	if err == nil || !passes(err) {
		return err
	}
	k.mu.Lock()
	throttled, rounds, refused := k.throttled, k.rounds, k.refused
	k.mu.Unlock()
	_, stopped := errors.AsType[*remote.Stop](err)
	if !refused && (stopped || rounds >= k.attempts) {
		k.c.tell(Event{Class: k.c.name, What: GaveUp, PerSecond: k.c.present().PerSecond, Err: err})
	}
	if throttled == nil || errors.Is(err, provider.ErrThrottled) {
		return err
	}
	return &provider.Error{Op: k.op, Provider: "throttle", Key: k.key, Err: fmt.Errorf("%w: %w", throttled, err)}
}
