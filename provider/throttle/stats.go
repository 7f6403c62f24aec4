package throttle

import (
	"time"
)

// What says what an [Event] is about.
type What string

// What happens.
const (
	// Throttled: the service asked to be asked less, and the rate fell.
	Throttled What = "throttled"

	// Retried: a request that failed is made again, by the store or here.
	Retried What = "retried"

	// GaveUp: a call failed, with Config.Attempts or Config.Retries used up.
	GaveUp What = "gave up"
)

// Event is something that a progress display or a log may want to tell.
type Event struct {
	Class     Class
	What      What
	Wait      time.Duration // of Throttled: what the service asked for
	PerSecond float64       // the rate that is allowed now; 0 means no limit
	Err       error         // of GaveUp: what the call returns
}

// ClassStats are the numbers of one class since [New].
type ClassStats struct {
	Requests  int64         // made, those that failed included
	Throttled int64         // of them, answered by a wish to be asked less
	Failed    int64         // of them, not answered, or by an error that passes
	Retries   int64         // made again
	GaveUp    int64         // calls that failed with attempts or retries used up
	Waited    time.Duration // by all callers, for the limits and for Retry-After
	InFlight  int           // now
	PerSecond float64       // allowed now; 0 means no limit
	Measured  float64       // made in a second, of late
	Left      float64       // of Config.Retries
}

// Stats returns the numbers of all classes.
func (t *Throttle) Stats() map[Class]ClassStats {
	m := map[Class]ClassStats{}
	for _, c := range t.classes {
		m[c.name] = c.present()
	}
	return m
}

func (c *class) present() ClassStats {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	s := c.stats
	s.PerSecond, s.Measured, s.Left = c.pace.at(now), c.meter.at(now), c.retries
	return s
}
