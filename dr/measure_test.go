package dr

import (
	"errors"
	"math"
	"testing"
	"testing/synctest"
	"time"
)

func TestExposure(t *testing.T) {
	const m = time.Minute
	from := moment("2026-11-23 08:00:00")
	arrival := func(point, arrived time.Duration) Arrival {
		return Arrival{PointTime: from.Add(point), Arrived: from.Add(arrived)}
	}
	for name, test := range map[string]struct {
		arrivals               []Arrival
		watched, missed, worst time.Duration
		count                  int
	}{
		"nothing arrived":             {nil, 0, 0, 0, 0},
		"in time":                     {[]Arrival{arrival(-5*m, -3*m), arrival(5*m, 7*m), arrival(15*m, 17*m), arrival(25*m, 27*m)}, 30 * m, 0, 12 * m, 3},
		"one late":                    {[]Arrival{arrival(-5*m, -3*m), arrival(18*m, 20*m)}, 30 * m, 10 * m, 25 * m, 1},
		"late all along":              {[]Arrival{arrival(-60*m, -58*m)}, 30 * m, 30 * m, 90 * m, 0},
		"first arrival in the middle": {[]Arrival{arrival(8*m, 10*m)}, 20 * m, 7 * m, 22 * m, 1},
		"an old point arrives late":   {[]Arrival{arrival(-1*m, 0), arrival(10*m, 12*m), arrival(5*m, 13*m)}, 30 * m, 5 * m, 20 * m, 2},
		"out of order":                {[]Arrival{arrival(18*m, 20*m), arrival(-5*m, -3*m)}, 30 * m, 10 * m, 25 * m, 1},
		"after the end":               {[]Arrival{arrival(-5*m, -3*m), arrival(29*m, 40*m)}, 30 * m, 20 * m, 35 * m, 0},
	} {
		got := exposure(test.arrivals, Duration(15*m), from, from.Add(30*m))
		if got.Watched != test.watched || got.Missed != test.missed || got.Worst != test.worst || got.Arrivals != test.count || got.Known != (test.watched > 0) {
			t.Errorf("%s: %+v, want watched %v missed %v worst %v arrivals %d", name, got, test.watched, test.missed, test.worst, test.count)
		}
	}
}

// An hour in which the target fails for twenty minutes.
func TestMeasure(t *testing.T) {
	f := newFixture(t)
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		go func() {
			time.Sleep(21 * time.Minute)
			f.places.mu.Lock()
			f.places.fail["mem-a:/orders"] = errors.New("locked")
			f.places.mu.Unlock()
			time.Sleep(20 * time.Minute)
			f.places.mu.Lock()
			clear(f.places.fail)
			f.places.mu.Unlock()
		}()
		f.serve(t, time.Hour)
		p := f.planner(t)
		if _, err := p.Drill(t.Context(), "orders"); err != nil {
			t.Fatal(err)
		}
		all, err := p.Measure(t.Context(), start)
		if err != nil {
			t.Fatal(err)
		}
		orders, models := all[0], all[1]
		if orders.Failed < 4 || orders.Attempts < 12 || orders.Worst < 21*time.Minute || orders.Worst > 27*time.Minute {
			t.Errorf("orders %+v", orders)
		}
		if want := float64(orders.Watched-orders.Missed) / float64(orders.Watched); math.Abs(orders.Kept()-want) > 1e-9 || orders.Kept() > 0.95 || orders.Kept() < 0.7 {
			t.Errorf("kept %v", orders.Kept())
		}
		if models.Kept() != 1 || models.Failed != 0 || orders.Proven != 1 || models.Drills != 0 {
			t.Errorf("models %+v", models)
		}
	})
}
