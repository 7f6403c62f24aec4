package failovertest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"
)

var (
	errCrashed = errors.New("simulated crash")
	errFault   = errors.New("simulated fault")
)

// rates are the shares of requests that go wrong; the zero value is a world
// in which everything works.
type rates struct {
	store  float64
	action float64
	broken string // a step whose Do fails until the world is healed
}

// crash says when a process dies; the zero value means never.
type crash struct {
	request int  // at this request
	call    int  // or at this call of Do or Undo
	after   bool // after it took effect
	late    bool // with after: what it asked for is on its way, and lands when it is dead
}

// A process is one orchestrator: what it sends goes through here, where it is
// delayed, lost, doubled or cut off.
type process struct {
	w     *world
	name  string
	rates rates

	mu       sync.Mutex // guards what follows; never held while time passes
	rng      *rand.Rand
	requests int
	calls    int // of Do and Undo among them
	crash    crash
	dead     bool
	kill     context.CancelFunc

	cutFrom, cutTo time.Time // no connection to the store
}

func (p *process) float() float64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.rng.Float64()
}

// upTo draws a duration of at least one nanosecond, so that no two things
// ever happen at the same instant and a seed always tells the same story.
func (p *process) upTo(d time.Duration) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return 1 + time.Duration(p.rng.Int64N(int64(max(d, 1))))
}

// request counts one request and says whether the process dies with it.
func (p *process) request(what string) (dieBefore, dieAfter bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.requests++
	if strings.HasPrefix(what, "do ") || strings.HasPrefix(what, "undo ") {
		p.calls++
	}
	if p.dead {
		return true, false
	}
	hit := p.requests == p.crash.request || p.crash.call > 0 && p.calls == p.crash.call
	if hit {
		p.w.mu.Lock()
		p.w.log("%s crashes at request %d (%s), after it: %v", p.name, p.requests, what, p.crash.after)
		p.w.mu.Unlock()
	}
	return hit && !p.crash.after, hit && p.crash.after
}

func (p *process) die() error {
	p.mu.Lock()
	p.dead = true
	p.mu.Unlock()
	p.kill()
	return errCrashed
}

func (p *process) isDead() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.dead
}

func (p *process) fault(kind string) {
	p.w.mu.Lock()
	defer p.w.mu.Unlock()
	p.w.faults[kind]++
}

// pass lets simulated time pass.
func pass(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", errFault, context.Cause(ctx))
	case <-time.After(d):
		return nil
	}
}
