package report

import (
	"strconv"
	"time"
)

// A scale maps instants to percent of a width.
type scale struct {
	from time.Time
	span time.Duration
}

// longest is a span beyond which a chart no longer keeps to scale: what lies
// outside it is drawn at the edge.
const longest = 100 * 365 * 24 * time.Hour

func newScale(from, to time.Time) scale {
	return scale{from, min(max(to.Sub(from), time.Nanosecond), longest)}
}

func (s scale) share(d time.Duration) float64 {
	return 100 * float64(min(max(d, 0), s.span)) / float64(s.span)
}

func (s scale) x(t time.Time) string { return percent(s.share(t.Sub(s.from))) }

func (s scale) width(d time.Duration) string { return percent(s.share(d)) }

func (s scale) since(t time.Time) string { return "+" + Duration(t.Sub(s.from)).String() }

func percent(f float64) string { return strconv.FormatFloat(f, 'f', 3, 64) + "%" }

// tickSteps are the distances between ticks that people read easily.
var tickSteps = [...]time.Duration{
	time.Millisecond, 5 * time.Millisecond, 10 * time.Millisecond, 50 * time.Millisecond, 100 * time.Millisecond, 500 * time.Millisecond,
	time.Second, 2 * time.Second, 5 * time.Second, 10 * time.Second, 15 * time.Second, 30 * time.Second,
	time.Minute, 2 * time.Minute, 5 * time.Minute, 10 * time.Minute, 15 * time.Minute, 30 * time.Minute,
	time.Hour, 2 * time.Hour, 4 * time.Hour, 6 * time.Hour, 12 * time.Hour,
	24 * time.Hour, 48 * time.Hour, 7 * 24 * time.Hour, 14 * 24 * time.Hour, 28 * 24 * time.Hour,
}

// step is the smallest distance that makes at most n ticks after the first.
func (s scale) step(n int) time.Duration {
	for _, d := range tickSteps {
		if s.span/d <= time.Duration(n) {
			return d
		}
	}
	return s.span / time.Duration(n)
}

// ticks are at most seven, from 0.
func (s scale) ticks() []tick {
	step := max(s.step(6), 1)
	var ts []tick
	for i := 0; time.Duration(i)*step <= s.span; i++ {
		d := time.Duration(i) * step
		ts = append(ts, tick{X: s.width(d), Label: Duration(d).String(), Anchor: anchor(s.share(d)), Minor: i%2 == 1})
	}
	ts[0].Label = "0"
	return ts
}

// anchor keeps a label within the width.
func anchor(share float64) string {
	switch {
	case share < 4:
		return "start"
	case share > 96:
		return "end"
	}
	return "middle"
}

// dates are ticks at whole steps of UTC time.
func (s scale) dates() []tick {
	step := max(s.step(6), time.Minute)
	layout := "01-02 15:04"
	if step >= 24*time.Hour {
		layout = "2006-01-02"
	}
	var ts []tick
	for t := s.from.Truncate(step).Add(step); !t.After(s.from.Add(s.span)); t = t.Add(step) {
		ts = append(ts, tick{X: s.x(t), Label: t.UTC().Format(layout), Anchor: anchor(s.share(t.Sub(s.from))), Minor: len(ts)%2 == 1})
	}
	return ts
}
