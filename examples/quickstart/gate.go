package main

import (
	"context"
	"errors"
	"os"
	"sync"
	"time"

	"github.com/holdfast-go/holdfast/failover"
	"github.com/holdfast-go/holdfast/provider"
)

// A gate is what a [failover.Sentry] needs around it in this service: each write
// asks it before and after, and the service says that it has stopped only when
// the last write that it had begun is over. For the story it also writes down
// when the service may accept writes, so that intervals.go can prove that no
// two sites ever could at one instant.
type gate struct {
	sentry *failover.Sentry
	log    string // intervals.jsonl
	self   window // pid and start time of this process, site, epoch

	mu      sync.RWMutex // read-locked while a write is being accepted
	stopped bool         // for good, and no write is being accepted
}

func newGate(log string, c serviceConfig, witness provider.BlobStore) (*gate, error) {
	began, err := processBegan(os.Getpid())
	if err != nil {
		return nil, err
	}
	g := &gate{log: log, self: window{PID: os.Getpid(), Began: began, Site: c.Site, Epoch: c.Epoch}}
	g.sentry, err = failover.NewSentry(failover.SentryConfig{
		Store: witness, Service: c.Service, Site: c.Site, Epoch: c.Epoch, Patience: c.Patience, Extend: g.extend,
	})
	return g, err
}

// extend writes an interval down before it is true, so that the file never
// says too little.
func (g *gate) extend(d time.Duration) error {
	w := g.self
	w.From = clock()
	w.Until = w.From + int64(d)
	return appendLine(g.log, w)
}

// watch asks the witness until ctx is done, or until another site, or none,
// is in charge. Then it waits for the writes that are being accepted, none of
// which will be acknowledged.
func (g *gate) watch(ctx context.Context) {
	if err := g.sentry.Run(ctx); !errors.Is(err, failover.ErrSealed) {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.stopped = true
	w := g.self
	w.End = clock()
	appendLine(g.log, w)
}

// sealed reports whether the service has stopped for good: nothing it has will
// change any more.
func (g *gate) sealed() bool {
	g.mu.RLock()
	defer g.mu.RUnlock()
	return g.stopped
}

// during runs accept if this site may accept writes, with an instant at which
// it might, and fails unless it still may afterwards.
func (g *gate) during(accept func(now int64) error) error {
	g.mu.RLock()
	defer g.mu.RUnlock()
	if err := g.sentry.Check(); err != nil {
		return err
	}
	now := clock()
	if err := g.sentry.Check(); err != nil {
		return err
	}
	if err := accept(now); err != nil {
		return err
	}
	return g.sentry.Check()
}
