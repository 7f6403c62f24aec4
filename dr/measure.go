package dr

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// Performance says how well a workload was really protected in a span of
// time, from the records: not what was promised, and not what is predicted.
type Performance struct {
	Workload string    `json:"workload"`
	From     time.Time `json:"from"`
	To       time.Time `json:"to"`

	Attempts int `json:"attempts"` // of backups
	Failed   int `json:"failed"`   // of these; a failure whose retry arrives in time costs nothing below

	Arrivals int           `json:"arrivals"` // points that reached the other site
	RPO      Duration      `json:"rpo"`
	Watched  time.Duration `json:"watched_ns"` // from the first arrival known, or From, to To
	Missed   time.Duration `json:"missed_ns"`  // of that, how long more than the RPO would have been lost
	Worst    time.Duration `json:"worst_ns"`   // the most that would have been lost at any moment
	Known    bool          `json:"known"`      // false if nothing had arrived: then the last three say nothing

	Drills int `json:"drills"`
	Proven int `json:"proven"` // drills that restored a point and found the data good
}

// Kept is the share of the time in which the RPO held, 0 to 1.
func (p Performance) Kept() float64 {
	if p.Watched <= 0 {
		return 0
	}
	return 1 - float64(p.Missed)/float64(p.Watched)
}

// Measure says how each workload was protected since then, in the order of
// the configuration. It needs the records; one that cannot be read is an
// error, and what could be read is returned with it.
func (p *Planner) Measure(ctx context.Context, since time.Time) ([]Performance, error) {
	r, err := p.records(ctx)
	if err != nil {
		return nil, fmt.Errorf("measure: %w", err)
	}
	now := time.Now().UTC()
	var out []Performance
	for _, w := range p.config.Workloads {
		attempts, err := read[Attempt](ctx, r, kindAttempt, w.Name, since)
		if err != nil {
			return out, fmt.Errorf("measure: %w", err)
		}
		// What was newest at since arrived some time before.
		arrivals, err := read[Arrival](ctx, r, kindArrival, w.Name, since.Add(-Week))
		if err != nil {
			return out, fmt.Errorf("measure: %w", err)
		}
		proofs, err := read[Proof](ctx, r, kindProof, w.Name, since)
		if err != nil {
			return out, fmt.Errorf("measure: %w", err)
		}
		m := exposure(arrivals, p.config.ObjectivesOf(w).RPO, since, now)
		m.Workload = w.Name
		for _, a := range attempts {
			m.Attempts++
			if a.Point == "" {
				m.Failed++
			}
		}
		for _, proof := range proofs {
			m.Drills++
			if proof.Proves() {
				m.Proven++
			}
		}
		out = append(out, m)
	}
	return out, nil
}

// exposure walks from arrival to arrival. Between two of them the loss grows
// with time; it is over the RPO from the moment the newest point is that old.
func exposure(arrivals []Arrival, rpo Duration, from, to time.Time) Performance {
	m := Performance{From: from.UTC(), To: to.UTC(), RPO: rpo}
	arrivals = slices.Clone(arrivals)
	slices.SortStableFunc(arrivals, func(a, b Arrival) int { return a.Arrived.Compare(b.Arrived) })
	var newest time.Time // moment of the newest point that has arrived
	at := from
	account := func(until time.Time) {
		if newest.IsZero() || !until.After(at) {
			return
		}
		m.Known = true
		m.Watched += until.Sub(at)
		m.Worst = max(m.Worst, until.Sub(newest))
		over := newest.Add(rpo.Std())
		if over.Before(at) {
			over = at
		}
		m.Missed += max(0, until.Sub(over))
	}
	for _, a := range arrivals {
		if a.Arrived.After(to) {
			break
		}
		if a.Arrived.After(from) {
			account(a.Arrived)
			at = a.Arrived
			m.Arrivals++
		}
		if a.PointTime.After(newest) {
			newest = a.PointTime
		}
	}
	account(to)
	return m
}
