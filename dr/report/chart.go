package report

import (
	"cmp"
	"fmt"
	"slices"
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
	X                        string
	YRead, YNew, YStored     int
	YTop, YBottom, YBaseline int
}

const (
	plotTop    = 8
	plotBottom = 76
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
	sc := scale{from.Add(-margin), to.Sub(from) + 2*margin}
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
	high := int64(0)
	for _, q := range points {
		high = max(high, q.BytesRead, q.BytesNew, q.BytesStored)
	}
	// Powers of 1,024, of which the top one is not below the highest value;
	// nothing below 1 KiB is told apart from zero.
	powers := 1
	for powers < 6 && int64(1)<<(10*powers) < high {
		powers++
	}
	y := func(n int64) int { return logHeight(n, powers) }
	for i := 0; i <= powers; i++ {
		g := gridline{Y: plotBottom - (plotBottom-plotTop)*i/powers}
		if i == 0 {
			g.Label = "0"
		} else {
			g.Label = sized(int64(1) << (10 * i))
		}
		p.Lines = append(p.Lines, g)
	}
	for _, q := range points {
		d := dot{X: sc.x(q.At), YRead: y(q.BytesRead), YNew: y(q.BytesNew), YStored: y(q.BytesStored), YBaseline: plotBottom}
		d.YTop, d.YBottom = min(d.YRead, d.YNew, d.YStored), max(d.YRead, d.YNew, d.YStored)
		p.Dots = append(p.Dots, d)
	}
	return p
}

// logHeight puts 0 to 1 at the bottom and 1,024 to the power of powers at the
// top, in steps of a pixel.
func logHeight(n int64, powers int) int {
	bits := 0.0
	for f := float64(n); f > 1 && bits < 63; {
		if f >= 2 {
			f, bits = f/2, bits+1
			continue
		}
		bits += f - 1 // within one doubling a straight line is near enough for a pixel
		break
	}
	share := min(bits/float64(10*powers), 1)
	return plotBottom - int(share*(plotBottom-plotTop)+0.5)
}
