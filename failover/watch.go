package failover

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

// An Observer looks at a site from one place.
type Observer struct {
	Name    string
	Canary  Probe            // something that is reachable unless the observer itself is cut off; nil means that it is never blind
	Signals map[string]Probe // by kind; every kind of the detector
}

// WatchConfig is what [Watch] needs.
type WatchConfig struct {
	Detector  DetectorConfig // Signals and Observers are filled in from Observers if empty
	Observers []Observer
	Interval  time.Duration // between rounds; 0 means 60 s
	Timeout   time.Duration // of one round; 0 means 10 s, or Interval if that is shorter
	Logger    *slog.Logger  // nil discards

	// Verdict is called after every round. What it returns is the state for
	// the next one, usually s as given, or s.Acknowledge().
	Verdict func(ctx context.Context, s DetectorState, v Verdict) DetectorState
}

// Watch looks at a site until ctx ends, and then returns its cause. All
// probes of a round run at the same time. The zero thresholds declare a dead
// site unhealthy with the third round.
func Watch(ctx context.Context, c WatchConfig) error {
	c, err := c.withDefaults()
	if err != nil {
		return err
	}
	var s DetectorState
	tick := time.NewTicker(c.Interval)
	defer tick.Stop()
	for {
		votes := round(ctx, c)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		var v Verdict
		s, v = c.Detector.Step(s, time.Now(), votes)
		if v.Changed {
			c.Logger.Warn("health changed", "health", v.Health, "reason", v.Reason)
		}
		if c.Verdict != nil {
			s = c.Verdict(ctx, s, v)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
}

func (c WatchConfig) withDefaults() (WatchConfig, error) {
	var errs []error
	if c.Interval < 0 || c.Timeout < 0 {
		errs = append(errs, fmt.Errorf("watch: Interval %v, Timeout %v: must not be negative", c.Interval, c.Timeout))
	}
	if c.Interval == 0 {
		c.Interval = time.Minute
	}
	if c.Timeout == 0 {
		c.Timeout = min(10*time.Second, c.Interval)
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if len(c.Detector.Observers) == 0 {
		for _, o := range c.Observers {
			c.Detector.Observers = append(c.Detector.Observers, o.Name)
		}
	}
	if len(c.Detector.Signals) == 0 && len(c.Observers) > 0 {
		for kind := range c.Observers[0].Signals {
			c.Detector.Signals = append(c.Detector.Signals, kind)
		}
	}
	for _, o := range c.Observers {
		for _, kind := range c.Detector.Signals {
			if o.Signals[kind] == nil {
				errs = append(errs, fmt.Errorf("watch: observer %q has no probe for signal %q", o.Name, kind))
			}
		}
	}
	return c, errors.Join(append(errs, c.Detector.Validate())...)
}

func round(ctx context.Context, c WatchConfig) []Vote {
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	var (
		mu    sync.Mutex
		wg    sync.WaitGroup
		votes []Vote
		blind = map[string]bool{}
	)
	for _, o := range c.Observers {
		if o.Canary != nil {
			wg.Go(func() {
				_, err := o.Canary.Probe(ctx)
				mu.Lock()
				defer mu.Unlock()
				blind[o.Name] = err != nil
			})
		}
		for kind, p := range o.Signals {
			wg.Go(func() {
				detail, err := p.Probe(ctx)
				if err != nil {
					detail = err.Error()
				}
				mu.Lock()
				defer mu.Unlock()
				votes = append(votes, Vote{Observer: o.Name, Signal: kind, OK: err == nil, Detail: cut(detail, 500)})
			})
		}
	}
	wg.Wait()
	for i := range votes {
		votes[i].Blind = blind[votes[i].Observer]
	}
	return votes
}
