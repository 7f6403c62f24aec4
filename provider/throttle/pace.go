package throttle

import (
	"math"
	"time"
)

// A pace is the rate that is allowed: what is configured until the service
// asks for less, then half of what was too much, which grows again. Where no
// rate is configured it grows until nobody waits for it any more: with no limit
// at all those who wait would all ask at once.
type pace struct {
	most  float64   // configured; 0: no limit
	low   float64   // after the last fall; 0: it has recovered
	peak  float64   // what was too much
	since time.Time // the last fall
}

const (
	growth = 20.0 // seconds in which the rate grows by what was too much
	enough = 10.0 // growths by e, after which no rate is felt
	least  = 1.0  // requests a second, below which no rate falls
)

// at is the rate at a time, in requests per second; 0 is no limit.
func (p *pace) at(now time.Time) float64 {
	if p.low == 0 {
		return p.most
	}
	t, step := now.Sub(p.since).Seconds(), p.peak/growth
	r := p.low + step*t
	over := (t - (p.peak-p.low)/step) / growth
	if over > 0 {
		r = p.peak * math.Exp(over)
	}
	if p.most > 0 && r >= p.most || p.most == 0 && over > enough {
		p.low = 0
		return p.most
	}
	return r
}

// unfelt is told that there were fewer requests than may be made.
func (p *pace) unfelt(now time.Time) {
	if p.most == 0 && p.at(now) >= 2*p.peak {
		p.low = 0
	}
}

// fall halves the rate: the one allowed, or the one that was asked at, if that
// is less.
func (p *pace) fall(now time.Time, asked float64) {
	floor := least
	if p.most > 0 {
		floor = min(least, p.most)
	}
	r := p.at(now)
	if r == 0 || asked < r {
		r = asked
	}
	p.peak = max(r, floor)
	p.low, p.since = max(p.peak/2, floor), now
}

// A bucket lets pass what a rate allows, and a tenth of a second's at once.
type bucket struct {
	tokens float64
	last   time.Time
}

// fill says whether the bucket is full.
func (b *bucket) fill(now time.Time, rate float64) bool {
	most := max(1, rate/10)
	b.tokens = min(b.tokens+rate*now.Sub(b.last).Seconds(), most)
	b.last = now
	return b.tokens == most
}

// take takes one, or says how long to wait for it.
func (b *bucket) take(rate float64) time.Duration {
	if b.tokens >= 1 {
		b.tokens--
		return 0
	}
	return time.Duration(math.Ceil((1 - b.tokens) / rate * float64(time.Second)))
}

// A meter measures the rate at which requests are made.
type meter struct {
	start time.Time
	n     int
	rate  float64
}

const window = 500 * time.Millisecond

func (m *meter) add(now time.Time) {
	m.roll(now)
	m.n++
}

func (m *meter) roll(now time.Time) {
	d := now.Sub(m.start)
	if d < window {
		return
	}
	r := float64(m.n) / d.Seconds()
	if d < 4*window {
		r = 0.8*r + 0.2*m.rate
	}
	m.rate, m.n, m.start = r, 0, now
}

func (m *meter) at(now time.Time) float64 {
	m.roll(now)
	return max(m.rate, float64(m.n)/window.Seconds())
}
