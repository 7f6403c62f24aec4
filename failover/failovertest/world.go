package failovertest

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/holdfast-go/holdfast/failover"
)

// site is one of the two sites of the world.
type site struct {
	name     string
	writable bool
	verified bool      // since it last became writable
	stopped  time.Time // when it last stopped being writable
}

// A world is what the simulated processes change. Its methods are called when
// an effect lands, which may be long after the call that asked for it.
type world struct {
	mu      sync.Mutex // never held while time passes
	from    site
	to      site
	traffic string

	lag        time.Duration // of replication: what the standby has is so old
	restoredTo time.Time     // newest write the standby holds
	restoredBy string        // token of the run that restored it
	isolated   bool          // a test runs at the standby
	lost       time.Duration // real loss of the last promotion

	epoch    uint64
	instance string
	active   string // site that the lease names

	begun      time.Time
	trace      []string
	violations []string
	faults     map[string]int
}

func newWorld(p failover.Plan, rng *rand.Rand) *world {
	return &world{
		from: site{name: p.From, writable: true, verified: true}, to: site{name: p.To},
		traffic: p.From, lag: time.Duration(rng.Int64N(int64(2 * time.Minute))),
		begun: time.Now(), faults: map[string]int{},
	}
}

func (w *world) log(format string, a ...any) {
	w.trace = append(w.trace, fmt.Sprintf("%12v ", time.Since(w.begun))+fmt.Sprintf(format, a...))
}

func (w *world) violate(format string, a ...any) {
	text := fmt.Sprintf(format, a...)
	w.log("VIOLATION %s", text)
	w.violations = append(w.violations, text)
}

// change lets an effect land and checks what must hold after every event.
func (w *world) change(what string, f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.log("lands: %s", what)
	f()
	if w.from.writable && w.to.writable {
		w.violate("two writable sites after %s", what)
	}
}

func (w *world) fence() {
	if w.from.writable {
		w.from.writable, w.from.stopped = false, time.Now()
	}
}

func (w *world) unfence() {
	if !w.from.writable {
		w.from.writable = true
	}
}

func (w *world) restore(token string) {
	if w.to.writable {
		w.violate("the standby is restored while it accepts writes")
		return
	}
	newest := time.Now().Add(-w.lag)
	if !w.from.writable && w.from.stopped.Before(newest) {
		newest = w.from.stopped
	}
	if newest.After(w.restoredTo) {
		w.restoredTo = newest
	}
	w.restoredBy = token
}

// sync is restore with a quiesced primary: everything arrives.
func (w *world) sync(token string) {
	w.lag = 0
	w.restore(token)
}

func (w *world) start() {
	if w.to.writable {
		return
	}
	if w.from.writable {
		w.violate("the standby starts while the primary is not fenced")
	}
	w.to.writable, w.to.verified = true, false
	w.lost = max(0, w.from.stopped.Sub(w.restoredTo))
}

func (w *world) verify() bool {
	if w.to.writable {
		w.to.verified = true
	}
	return w.to.writable
}

func (w *world) switchTo(name string) {
	if name == w.to.name && !w.to.verified {
		w.violate("clients are sent to %s, which was not verified", name)
	}
	if name == w.from.name && w.to.writable {
		w.violate("clients are sent back to %s while %s accepts writes", name, w.to.name)
	}
	w.traffic = name
}

// leaseWritten checks the record that has just been stored.
func (w *world) leaseWritten(r failover.LeaseRecord) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case r.Epoch < w.epoch:
		w.violate("the epoch fell from %d to %d", w.epoch, r.Epoch)
	case r.Epoch == w.epoch && r.Instance != w.instance:
		w.violate("epoch %d has two holders", r.Epoch)
	case r.Epoch > w.epoch+1:
		w.violate("the epoch jumped from %d to %d", w.epoch, r.Epoch)
	}
	if r.Epoch != w.epoch || r.Released {
		w.log("lease: epoch %d of %s, active %q, run %q, released %v", r.Epoch, r.Holder, r.Active.Site, r.Run, r.Released)
	}
	if r.Active.Site == w.to.name && w.from.writable || r.Active.Site == w.from.name && w.to.writable {
		w.violate("the lease puts %s in charge while the other site accepts writes", r.Active.Site)
	}
	w.epoch, w.instance, w.active = r.Epoch, r.Instance, r.Active.Site
}

// ended checks the world against the outcome of a run.
func (w *world) ended(r failover.Result) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if r.Plan.Kind == failover.Test {
		if !w.from.writable || w.to.writable || w.isolated {
			w.violate("test %s left a trace: primary writable %v, standby writable %v, isolated site %v", r.Outcome, w.from.writable, w.to.writable, w.isolated)
		}
		return
	}
	w.charged(r)
	switch r.Outcome {
	case failover.Completed:
		if w.from.writable || !w.to.writable || w.traffic != w.to.name {
			w.violate("completed, but primary writable %v, standby writable %v, traffic at %s", w.from.writable, w.to.writable, w.traffic)
		}
		if !r.Loss.Known || r.Loss.Bound < w.lost {
			w.violate("reported loss %v (known %v) is below the real %v", r.Loss.Bound, r.Loss.Known, w.lost)
		}
	case failover.RolledBack, failover.Cancelled:
		if !w.from.writable || w.to.writable || w.traffic != w.from.name {
			w.violate("%s, but primary writable %v, standby writable %v, traffic at %s", r.Outcome, w.from.writable, w.to.writable, w.traffic)
		}
	default:
		w.violate("run %s ends as %q: %s", r.Plan.ID, r.Outcome, r.Reason)
	}
}

// charged checks that the lease names the site that serves. A run that ended
// before its fence says nothing.
func (w *world) charged(r failover.Result) {
	want := w.from.name
	if r.Outcome == failover.Completed {
		want = w.to.name
	}
	if w.active != want && (w.active != "" || r.Outcome == failover.Completed) {
		w.violate("run %s is %s, but the lease names %q", r.Plan.ID, r.Outcome, w.active)
	}
}
