package backup

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"

	"github.com/holdfast-go/holdfast/provider"
)

// losses completes the report: which points are damaged, and what of them is
// lost.
func (c *checker) losses(ctx context.Context) error {
	harmed := map[PointID]bool{}
	incomplete := map[PointID]bool{} // of these some item is lost, too
	for _, p := range c.problems {
		slices.Sort(p.Points)
		c.report.Problems = append(c.report.Problems, *p)
		for _, id := range p.Points {
			harmed[id] = true
			incomplete[id] = incomplete[id] || !isLogKey(p.Key)
		}
	}
	slices.SortFunc(c.report.Problems, func(a, b Problem) int { return strings.Compare(a.Key, b.Key) })
	for _, id := range slices.Sorted(maps.Keys(harmed)) {
		d := DamagedPoint{ID: id, Reason: reason(id, c.report.Problems), Logs: c.lacking[id]}
		m, err := c.r.manifest(ctx, id)
		switch {
		case err == nil:
			d.Name = m.point.Name
			if err = c.lossOf(ctx, m, &d); err == nil && d.Items == 0 && incomplete[id] { // its pages can be read, and do not belong together
				for _, root := range m.roots {
					d.lose(Loss{Items: root.items, Bytes: -1})
				}
			}
		case errors.Is(err, provider.ErrNotFound):
			err = nil // forgotten since, or about to be listed as missing
		case isDamage(err):
			d.Everything, err = true, nil
		}
		if err != nil {
			return err
		}
		c.report.Damaged = append(c.report.Damaged, d)
	}
	c.report.Whole = c.report.Points - len(c.report.Damaged)
	return ctx.Err()
}

// lossOf walks those parts of a point that problems were found below.
func (c *checker) lossOf(ctx context.Context, m manifest, d *DamagedPoint) error {
	v := c.r.newView(m)
	seen := map[chunkID]bool{} // in a proper tree no page is met twice
	var below func(n node, depth int) error
	below = func(n node, depth int) error {
		if w, ok := c.pages[n.page.id]; seen[n.page.id] || ok && len(w.keys) == 0 {
			return nil
		}
		seen[n.page.id] = true
		if _, lost := c.lost(n.page.id); lost {
			d.lose(Loss{Path: n.last, Items: n.items, Bytes: -1})
			return nil
		}
		p, err := v.page(ctx, n, depth)
		if err != nil && ctx.Err() == nil && isDamage(err) {
			d.lose(Loss{Path: n.last, Items: n.items, Bytes: -1})
			return nil
		}
		if err != nil {
			return err
		}
		for _, child := range p.nodes {
			if err := below(child, depth+1); err != nil {
				return err
			}
		}
		for _, it := range p.items {
			content, err := c.item(ctx, v, n.page.id, it)
			if err != nil {
				return err
			}
			if len(content.keys) > 0 {
				d.lose(Loss{Path: it.Path, Items: 1, Bytes: content.lost})
			}
		}
		return nil
	}
	for _, root := range m.roots {
		if err := below(root, 0); err != nil {
			return err
		}
	}
	return nil
}
