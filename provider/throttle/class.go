package throttle

import (
	"context"
	"sync"
	"time"

	"github.com/holdfast-go/holdfast/provider/internal/remote"
)

// A class is the state that all requests of a [Class] share.
type class struct {
	name   Class
	slots  chan struct{} // filled by requests in flight; nil: any number
	turn   chan struct{} // filled by the one that waits for the rate
	events func(Event)

	mu      sync.Mutex
	pace    pace
	bucket  bucket
	meter   meter
	paused  time.Time // until then nothing is asked
	epoch   int       // falls of the rate
	retries float64
	most    float64 // retries
	stats   ClassStats
}

func newClass(name Class, l Limit, retries float64, events func(Event)) *class {
	c := &class{name: name, events: events, turn: make(chan struct{}, 1), retries: retries, most: retries, pace: pace{most: l.PerSecond}}
	if l.InFlight > 0 {
		c.slots = make(chan struct{}, l.InFlight)
	}
	return c
}

// A ticket is a request that may be made.
type ticket struct {
	epoch int // of the class, when it was given
	round int // of the call
}

// enter waits until a request may be made.
func (c *class) enter(ctx context.Context) (*ticket, error) {
	begun := time.Now()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if c.slots != nil {
		select {
		case c.slots <- struct{}{}:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	if err := c.await(ctx); err != nil {
		if c.slots != nil {
			<-c.slots
		}
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	c.meter.add(now)
	c.stats.Requests++
	c.stats.InFlight++
	c.stats.Waited += now.Sub(begun)
	return &ticket{epoch: c.epoch}, nil
}

// await waits for the rate, one caller after the other, and for the end of a
// pause. A rate that changes meanwhile is felt within a second.
func (c *class) await(ctx context.Context) error {
	select {
	case c.turn <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-c.turn }()
	for {
		d := c.delay()
		if d <= 0 {
			return nil
		}
		if err := sleep(ctx, min(d, time.Second)); err != nil {
			return err
		}
	}
}

func (c *class) delay() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	if now.Before(c.paused) {
		return c.paused.Sub(now)
	}
	rate := c.pace.at(now)
	if rate == 0 {
		c.bucket = bucket{tokens: 1, last: now}
		return 0
	}
	if c.bucket.fill(now, rate) {
		c.pace.unfelt(now)
	}
	return c.bucket.take(rate)
}

// leave learns what became of a request.
func (c *class) leave(t *ticket, o remote.Outcome) {
	if c.slots != nil {
		<-c.slots
	}
	c.mu.Lock()
	c.stats.InFlight--
	fell := c.learn(t, o)
	c.mu.Unlock()
	if fell != nil {
		c.tell(*fell)
	}
}

// learn adapts to an answer. Requests that were under way when the rate fell
// say nothing about the new one.
func (c *class) learn(t *ticket, o remote.Outcome) (fell *Event) {
	now := time.Now()
	switch {
	case o.Failed:
		c.stats.Failed++
	case !o.Unknown: // of what was cancelled nothing is known
		c.retries = min(c.retries+refund, c.most)
	}
	if !o.Throttled {
		return nil
	}
	c.stats.Throttled++
	if until := now.Add(o.After); o.After > 0 && until.After(c.paused) {
		c.paused = until
	}
	if t.epoch != c.epoch {
		return nil
	}
	c.epoch++
	c.pace.fall(now, c.meter.at(now))
	return &Event{Class: c.name, What: Throttled, Wait: o.After, PerSecond: c.pace.at(now)}
}

// late learns of a failure behind the head of an answer.
func (c *class) late(o remote.Outcome) {
	c.mu.Lock()
	fell := c.learn(&ticket{epoch: c.epoch}, o)
	c.mu.Unlock()
	if fell != nil {
		c.tell(*fell)
	}
}

// pay takes one retry from the budget.
func (c *class) pay() bool {
	c.mu.Lock()
	paid := c.retries >= 1
	if paid {
		c.retries--
		c.stats.Retries++
	}
	rate := c.pace.at(time.Now())
	c.mu.Unlock()
	if paid {
		c.tell(Event{Class: c.name, What: Retried, PerSecond: rate})
	}
	return paid
}

func (c *class) tell(e Event) {
	if e.What == GaveUp {
		c.mu.Lock()
		c.stats.GaveUp++
		c.mu.Unlock()
	}
	if c.events != nil {
		c.events(e)
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
