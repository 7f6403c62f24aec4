package report

import (
	"cmp"
	"fmt"
	"math/bits"
	"slices"
	"strings"
	"time"
)

// charts are small multiples over one time axis, one for each workload and
// mode: bytes read, new and stored of every point on a logarithmic scale.
type charts struct {
	Panels []panel
	Axis   []tick
	More   string
}

type panel struct {
	Title string
	Note  string
	Lines []gridline
	Dots  []dot
}

type gridline struct {
	Y     int
	Label string
}

// A dot is one point: three heights in pixels from the top of the panel.
type dot struct {
	X                    string
	YRead, YNew, YStored int
	YTop, YBottom        int
}

const (
	plotTop    = 8
	plotBottom = 92
	plotLowest = 78 // of a value that is not zero
	maxPanels  = 12
	maxDots    = 150
)

func pointCharts(r *Report) *charts {
	from, to := r.Points[0].At, r.Points[0].At
	groups := map[string][]Point{}
	var order []string
	for _, p := range r.Points {
		if p.At.Before(from) {
			from = p.At
		}
		if p.At.After(to) {
			to = p.At
		}
		key := p.Workload + " · " + p.Mode
		if groups[key] == nil {
			order = append(order, key)
		}
		groups[key] = append(groups[key], p)
	}
	// A margin keeps the marks of the first and last point inside.
	margin := max(to.Sub(from)/50, time.Minute)
	sc := newScale(from.Add(-margin), to.Add(margin))
	c := &charts{Axis: sc.dates()}
	if len(order) > maxPanels {
		c.More = fmt.Sprintf("Shown are the first %d of %d combinations of workload and mode.", maxPanels, len(order))
		order = order[:maxPanels]
	}
	for _, key := range order {
		c.Panels = append(c.Panels, newPanel(key, groups[key], sc))
	}
	return c
}

func newPanel(title string, points []Point, sc scale) panel {
	slices.SortStableFunc(points, func(a, b Point) int { return cmp.Or(a.At.Compare(b.At), cmp.Compare(a.ID, b.ID)) })
	p := panel{Title: clip(title, 100), Note: grouped(int64(len(points))) + " points"}
	if len(points) == 1 {
		p.Note = "1 point"
	}
	if len(points) > maxDots {
		points = points[len(points)-maxDots:]
		p.Note += fmt.Sprintf(", the newest %d shown", maxDots)
	}
	var all []int64
	for _, q := range points {
		all = append(all, q.BytesRead, q.BytesNew, q.BytesStored)
	}
	lo, hi := powers(all)
	y := func(n int64) int { return logHeight(n, lo, hi) }
	p.Lines = append(p.Lines, gridline{plotBottom, "0"})
	for i := lo; i <= hi; i++ {
		unit := int64(1) << (10 * i)
		p.Lines = append(p.Lines, gridline{y(unit), strings.Replace(sized(unit), ".00", "", 1)})
	}
	for _, q := range points {
		d := dot{X: sc.x(q.At), YRead: y(q.BytesRead), YNew: y(q.BytesNew), YStored: y(q.BytesStored)}
		d.YTop, d.YBottom = min(d.YRead, d.YNew, d.YStored), max(d.YRead, d.YNew, d.YStored)
		p.Dots = append(p.Dots, d)
	}
	return p
}

// powers are the powers of 1,024 between which all sizes lie that are not
// zero. The top one is at most 6: the largest int64 is less than 8 EiB, and
// what is above 1 EiB is drawn at the top.
func powers(sizes []int64) (lo, hi int) {
	lo = 6
	for _, n := range sizes {
		if n <= 0 {
			continue
		}
		p := (bits.Len64(uint64(n)) - 1) / 10 // 1,024^p is not above n
		lo = min(lo, p)
		if n > int64(1)<<(10*p) {
			p++
		}
		hi = max(hi, min(p, 6))
	}
	lo = min(lo, 5)
	return lo, max(hi, lo+1)
}

// logHeight puts 1,024 to the power lo at plotLowest, to the power hi at
// plotTop, and zero at plotBottom, apart from them.
func logHeight(n int64, lo, hi int) int {
	if n <= 0 {
		return plotBottom
	}
	// Whole doublings, and a straight line within one: near enough for a
	// pixel, and the same on every machine.
	whole := bits.Len64(uint64(n)) - 1
	doublings := float64(whole) + float64(n)/float64(uint64(1)<<whole) - 1
	share := (doublings - float64(10*lo)) / float64(10*(hi-lo))
	return plotLowest - int(min(max(share, 0), 1)*(plotLowest-plotTop)+0.5)
}
