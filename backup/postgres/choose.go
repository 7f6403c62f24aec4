package postgres

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/provider"
)

// choose reads what there is: the points of the cluster that is meant, what is
// known of them, and the timelines.
func (p *planner) choose(ctx context.Context) error {
	all, err := candidates(ctx, p.repo, p.name)
	if err != nil {
		return err
	}
	if len(all) == 0 {
		return fmt.Errorf("a point of kind %q: %w", (*Target)(nil).Kind(), provider.ErrNotFound)
	}
	system := p.o.System
	if system == 0 {
		system = p.system(all)
	}
	ids := []backup.PointID{}
	for _, c := range all {
		if c.b.System == system {
			p.bases = append(p.bases, c)
			ids = append(ids, c.point.ID)
		}
	}
	if len(ids) == 0 {
		return fmt.Errorf("field System: a point of system %d: %w", system, provider.ErrNotFound)
	}
	if p.checked, err = p.repo.Checked(ctx, ids...); err != nil {
		return err
	}
	log, err := p.repo.Log(LogName(system))
	if err != nil {
		return err
	}
	if p.timelines, err = readTimelines(ctx, log); err != nil {
		return err
	}
	if n := p.timelines.numbers; p.target.timeline == 0 && !p.target.consistent && len(n) > 0 {
		p.target.timeline = n[len(n)-1]
	}
	return nil
}

// system is the cluster that a target means.
func (p *planner) system(all []candidate) uint64 {
	for _, c := range slices.Backward(all) {
		if p.target.at.IsZero() || c.err == nil && !c.b.Began.After(p.target.at) {
			return c.b.System
		}
	}
	return all[0].b.System
}

// verified is when a point was last verified, by what is known.
func (p *planner) verified(id backup.PointID) time.Time {
	at := p.checked[id].At
	if proven := p.o.Proven[id]; proven.After(at) {
		at = proven
	}
	return at
}

// damaged is why a point cannot be restored at all.
func (p *planner) damaged(c candidate) error {
	if c.err == nil && p.checked[c.point.ID].Damaged {
		return fmt.Errorf("%w, as a check has found", backup.ErrDamaged)
	}
	return c.err
}

// rank is why a point is taken after others: the lowest come first.
func (p *planner) rank(c candidate) (rank int, why string) {
	switch {
	case c.point.Partial():
		return 2, fmt.Sprintf("is partial, with %d warnings", c.point.WarningCount)
	case !p.o.Newest && p.verified(c.point.ID).IsZero():
		return 1, "was never verified"
	}
	return 0, ""
}

// plan takes the first base that reaches the target.
func (p *planner) plan(ctx context.Context) (*RestorePlan, error) {
	order := slices.Clone(p.bases)
	slices.Reverse(order)
	slices.SortStableFunc(order, func(a, b candidate) int {
		x, _ := p.rank(a)
		y, _ := p.rank(b)
		return cmp.Compare(x, y)
	})
	refused := map[backup.PointID]error{}
	for _, c := range order {
		if err := p.damaged(c); err != nil {
			refused[c.point.ID] = err
			continue
		}
		r, err := p.timelines.prove(ctx, c.b, p.target)
		if _, no := errors.AsType[*refusal](err); no {
			refused[c.point.ID] = err
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("point %s: %w", c.point.ID, err)
		}
		return p.made(c, r, refused), nil
	}
	return nil, p.unreachable(ctx, refused)
}

// unreachable says why no point will do: of the newest first, of all that is
// not said already.
func (p *planner) unreachable(ctx context.Context, refused map[backup.PointID]error) error {
	format, args, said := "no point reaches the target", []any{}, map[string]bool{}
	var usable []candidate
	for _, c := range p.bases {
		if p.damaged(c) == nil {
			usable = append(usable, c)
		}
	}
	for _, c := range slices.Backward(p.bases) {
		err := refused[c.point.ID]
		if said[err.Error()] || len(said) == 4 {
			continue
		}
		said[err.Error()] = true
		format += "; point %s: %w"
		args = append(args, c.point.ID, err)
	}
	return p.timelines.unreachable(ctx, &refusal{fmt.Errorf(format, args...)}, usable, p.target)
}

// made is the plan that restores a point.
func (p *planner) made(c candidate, r *recovery, refused map[backup.PointID]error) *RestorePlan {
	b := c.b
	plan := &RestorePlan{
		Name: p.name, Point: c.point.ID, Time: c.point.Time, Verified: p.verified(c.point.ID), Warnings: c.point.WarningCount,
		System: b.System, Timelines: []uint32{b.Timeline}, From: b.Start, Consistent: b.Stop, To: r.end,
		BaseBytes: c.point.Stats.Bytes, WALBytes: int64(r.end - b.floor(b.Start)), Options: p.target.options(),
		Rates: [2]float64{cmp.Or(p.o.RestoreRate, restoreRate), cmp.Or(p.o.ReplayRate, replayRate)},
	}
	for _, w := range r.way {
		plan.Timelines = append(plan.Timelines, w.Branch)
	}
	seconds := float64(plan.BaseBytes+plan.WALBytes)/plan.Rates[0] + float64(r.end-b.Start)/plan.Rates[1]
	plan.RTO = time.Duration(seconds * float64(time.Second)).Round(time.Millisecond)
	for _, newer := range p.bases {
		if newer.point.ID <= c.point.ID {
			continue
		}
		_, why := p.rank(newer)
		if err := cmp.Or(refused[newer.point.ID], p.damaged(newer)); err != nil {
			why = err.Error()
		}
		plan.PassedOver = append(plan.PassedOver, PassedOver{newer.point.ID, why})
	}
	return plan
}

// String is the plan for people, in a few lines.
func (p *RestorePlan) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "restore %s of %q, begun %s", p.Point, p.Name, stamp(p.Time))
	if p.Verified.IsZero() {
		b.WriteString(", never verified")
	} else {
		fmt.Fprintf(&b, ", verified %s", stamp(p.Verified))
	}
	if p.Warnings > 0 {
		fmt.Fprintf(&b, ", partial: %d warnings", p.Warnings)
	}
	fmt.Fprintf(&b, "\n  system %d, timeline %s", p.System, fmt.Sprint(p.Timelines[0]))
	for _, n := range p.Timelines[1:] {
		fmt.Fprintf(&b, " to %d", n)
	}
	fmt.Fprintf(&b, "\n  WAL from %v, consistent at %v, up to %v: the log has it without a gap\n", p.From, p.Consistent, p.To)
	fmt.Fprintf(&b, "  %.1f MiB of files and %.1f MiB of WAL, about %v at %.0f and %.0f MiB/s\n  with", mib(p.BaseBytes), mib(p.WALBytes), p.RTO,
		mib(int64(p.Rates[0])), mib(int64(p.Rates[1])))
	for _, k := range sortedKeys(p.Options) {
		fmt.Fprintf(&b, " %s=%s", k, p.Options[k])
	}
	b.WriteByte('\n')
	for _, o := range p.PassedOver {
		fmt.Fprintf(&b, "  passed over: %s %s\n", o.Point, o.Why)
	}
	return b.String()
}

func mib(n int64) float64 { return float64(n) / (1 << 20) }
