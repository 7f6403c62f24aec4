package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/holdfast-go/holdfast/failover"
	"github.com/holdfast-go/holdfast/provider"
)

var errFenced = errors.New("fenced")

// A gate decides, for every single write, whether its service may accept it. It
// opens when the lease record at the witness says that the site is in charge
// since exactly the epoch the service was started for, stays open for
// serviceConfig.Patience counted from before it asked, and closes by itself: a
// service that cannot reach the witness fences itself, even if it was stopped
// and wakes up an hour later.
//
// A failover first changes that record (package failover does, before the
// fence), and then proves that this process is gone or has read it. Either way
// this gate is shut before another one opens.
type gate struct {
	log     string // intervals.jsonl
	c       serviceConfig
	witness provider.BlobStore
	self    window // pid and start time of this process, site, epoch

	mu    sync.RWMutex // read-locked while a write is being accepted
	until int64        // open before this instant of the machine's clock
	why   error        // it is shut
	seal  bool         // it will never open again: the witness has named a later epoch
}

func newGate(log string, c serviceConfig, witness provider.BlobStore) (*gate, error) {
	began, err := processBegan(os.Getpid())
	if err != nil {
		return nil, err
	}
	return &gate{
		log: log, c: c, witness: witness,
		self: window{PID: os.Getpid(), Began: began, Site: c.Site, Epoch: c.Epoch},
		why:  fmt.Errorf("%w: the witness has not confirmed yet", errFenced),
	}, nil
}

// check returns nil if the gate is open, else the reason.
func (g *gate) check() error {
	g.mu.RLock()
	defer g.mu.RUnlock()
	return g.open(clock())
}

// sealed reports whether the gate will never open again.
func (g *gate) sealed() bool {
	g.mu.RLock()
	defer g.mu.RUnlock()
	return g.seal
}

func (g *gate) open(now int64) error {
	if now < g.until {
		return nil
	}
	if g.why != nil {
		return g.why
	}
	return fmt.Errorf("%w: no confirmation by the witness for %v", errFenced, g.c.Patience)
}

// during runs accept if the gate is open and fails unless it is still open
// afterwards. The gate is never shut early while accept runs.
func (g *gate) during(accept func(now int64) error) error {
	g.mu.RLock()
	defer g.mu.RUnlock()
	now := clock()
	if err := g.open(now); err != nil {
		return err
	}
	if err := accept(now); err != nil {
		return err
	}
	return g.open(clock())
}

// watch keeps asking the witness until ctx is done.
func (g *gate) watch(ctx context.Context) {
	tick := time.NewTicker(g.c.Patience / 10)
	defer tick.Stop()
	for {
		g.confirm(ctx)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// confirm asks the witness once. What it says counts from before the
// question: by the time of the answer it may have changed.
func (g *gate) confirm(ctx context.Context) {
	asked := clock()
	ctx, cancel := context.WithTimeout(ctx, g.c.Patience/2)
	defer cancel()
	in, err := inCharge(ctx, g.witness, g.c.Service, g.c.Home)
	switch {
	case err != nil:
		return // until it answers, the last confirmation runs out
	case in != failover.Active{Site: g.c.Site, Epoch: g.c.Epoch}:
		g.shut(fmt.Errorf("%w: %s; this is %s, epoch %d", errFenced, whoIs(in), g.c.Site, g.c.Epoch))
	default:
		g.extend(asked + int64(g.c.Patience))
	}
}

// inCharge reads at the witness which site is in charge of a service, and
// since which epoch. As long as no failover has ever said anything it is home,
// with epoch 0.
func inCharge(ctx context.Context, witness provider.BlobStore, service, home string) (failover.Active, error) {
	r, err := failover.ReadLease(ctx, witness, "", service)
	switch {
	case errors.Is(err, provider.ErrNotFound), err == nil && r.Active == failover.Active{}:
		return failover.Active{Site: home}, nil
	case err != nil:
		return failover.Active{}, err
	}
	return r.Active, nil
}

// whoIs says in words who is in charge.
func whoIs(a failover.Active) string {
	if a.Site == "" {
		return fmt.Sprintf("nobody is in charge since epoch %d", a.Epoch)
	}
	return fmt.Sprintf("%s is in charge since epoch %d", a.Site, a.Epoch)
}

func (g *gate) extend(until int64) {
	now := clock()
	if until <= now {
		return
	}
	w := g.self
	w.From, w.Until = now, until
	// Written before it is true, so that the file never says too little.
	if err := appendLine(g.log, w); err != nil {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.seal {
		g.until, g.why = until, nil
	}
}

// shut closes the gate at once, after the writes that are being accepted, and
// for ever: epochs never come back.
func (g *gate) shut(why error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.why, g.seal = why, true
	if g.until == 0 {
		return
	}
	g.until = 0
	w := g.self
	w.End = clock()
	appendLine(g.log, w)
}
