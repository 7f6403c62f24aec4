package providertest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/holdfast-go/holdfast/provider"
)

var dnsZoneClauses = []dnsClause{
	dnsSentence("atomicity", "Atomicity is ZoneAtomic, RecordSetAtomic or NotAtomic; with the latter two a Swap of several changes is refused with errors.ErrUnsupported and changes nothing.", dnsAtomicity),
	dnsSentence("zone", "With ZoneAtomic one Swap creates, replaces and removes several record sets.", dnsZone),
	dnsSentence("zone-conflict", "With ZoneAtomic, if one Old of several does not hold, nothing changes and the error is ErrConflict.", dnsZoneConflict),
	dnsSentence("zone-cname", "With ZoneAtomic one Swap replaces an address by a CNAME and back.", dnsZoneCNAME),
	dnsSentence("zone-twice", "Two changes of one record set in a Swap are an error, and nothing changes.", dnsZoneTwice),
	dnsSentence("zone-race", "With ZoneAtomic, racing swaps of several record sets have exactly one winner, and all sets are the winner's.", dnsZoneRace),
}

var dnsStatusClauses = []dnsClause{
	dnsSentence("status", "A change is pending until it is in sync, which it becomes and stays.", dnsStatus),
	dnsSentence("status-unknown", "A ChangeRef that is none of this provider is ErrNotFound.", dnsStatusUnknown),
}

func dnsAtomicity(ctx context.Context, p *dnsProbe) error {
	switch a := p.d.Atomicity(); a {
	case provider.ZoneAtomic:
		return nil
	case provider.RecordSetAtomic, provider.NotAtomic:
	default:
		return fmt.Errorf("atomicity is %q", a)
	}
	x, y := p.set("x", "A", time.Minute, "192.0.2.1"), p.set("y", "A", time.Minute, "192.0.2.1")
	_, err := p.d.Swap(ctx, provider.Change{New: x}, provider.Change{New: y})
	if err := want(err, errors.ErrUnsupported); err != nil {
		return err
	}
	return p.lacks(ctx, x, y)
}

// needZone ends a clause for a provider that is not ZoneAtomic.
func (p *dnsProbe) needZone() error {
	if a := p.d.Atomicity(); a != provider.ZoneAtomic {
		return &unsupportedError{fmt.Errorf("atomicity is %q: %w", a, errors.ErrUnsupported)}
	}
	return nil
}

// needCAS ends a clause about racing swaps for a provider that says it cannot
// tell them apart.
func (p *dnsProbe) needCAS() error {
	if a := p.d.Atomicity(); a == provider.NotAtomic {
		return &unsupportedError{fmt.Errorf("atomicity is %q: %w", a, errors.ErrUnsupported)}
	}
	return nil
}

// several has three record sets in the zone and returns them with changes
// that replace the first, remove the second and create a third.
func (p *dnsProbe) several(ctx context.Context) (x, y, x2, z *provider.RecordSet, changes []provider.Change, err error) {
	x, y = p.set("x", "A", time.Minute, "192.0.2.1"), p.set("y", "AAAA", time.Minute, "2001:db8::1")
	x2, z = p.set("x", "A", 2*time.Minute, "192.0.2.2"), p.set("z", "TXT", time.Minute, "text")
	changes = []provider.Change{{Old: x, New: x2}, {Old: y}, {New: z}}
	return x, y, x2, z, changes, p.have(ctx, x, y)
}

func dnsZone(ctx context.Context, p *dnsProbe) error {
	if err := p.needZone(); err != nil {
		return err
	}
	_, y, x2, z, changes, err := p.several(ctx)
	if err != nil {
		return err
	}
	if _, err := p.d.Swap(ctx, changes...); err != nil {
		return err
	}
	return errors.Join(p.holds(ctx, x2, z), p.lacks(ctx, y))
}

func dnsZoneConflict(ctx context.Context, p *dnsProbe) error {
	if err := p.needZone(); err != nil {
		return err
	}
	x, y, _, z, good, err := p.several(ctx)
	if err != nil {
		return err
	}
	wrong := []provider.Change{
		{Old: p.set("x", "A", 2*time.Minute, "192.0.2.1"), New: good[0].New}, // another TTL
		{Old: p.set("y", "AAAA", time.Minute, "2001:db8::2")},                // another value
		{Old: p.set("z", "TXT", time.Minute, "not there"), New: z},
	}
	for i := range good {
		changes := slices.Clone(good)
		changes[i] = wrong[i]
		_, err := p.d.Swap(ctx, changes...)
		if err := want(err, provider.ErrConflict); err != nil {
			return fmt.Errorf("change %d of %d does not hold: %w", i, len(good), err)
		}
		if err := errors.Join(p.holds(ctx, x, y), p.lacks(ctx, z)); err != nil {
			return fmt.Errorf("change %d of %d does not hold: %w", i, len(good), err)
		}
	}
	return nil
}

func dnsZoneCNAME(ctx context.Context, p *dnsProbe) error {
	if err := p.needZone(); err != nil {
		return err
	}
	a, cname := p.set("x", "A", time.Minute, "192.0.2.1"), p.set("x", "CNAME", time.Minute, "target.example.")
	if err := p.have(ctx, a); err != nil {
		return err
	}
	for _, step := range []struct{ from, to *provider.RecordSet }{{a, cname}, {cname, a}} {
		for _, changes := range [][]provider.Change{
			{{Old: step.from}, {New: step.to}},
			{{New: step.from}, {Old: step.to}}, // and back, in the other order
			{{New: step.to}, {Old: step.from}},
		} {
			if _, err := p.d.Swap(ctx, changes...); err != nil {
				return err
			}
		}
		if err := errors.Join(p.holds(ctx, step.to), p.lacks(ctx, step.from)); err != nil {
			return err
		}
	}
	return nil
}

func dnsZoneTwice(ctx context.Context, p *dnsProbe) error {
	rs := p.set("x", "A", time.Minute, "192.0.2.1")
	if err := p.have(ctx, rs); err != nil {
		return err
	}
	_, err := p.d.Swap(ctx,
		provider.Change{Old: rs, New: p.set("x", "A", time.Minute, "192.0.2.2")},
		provider.Change{Old: rs, New: p.set("x", "A", time.Minute, "192.0.2.3")})
	if err == nil {
		return errors.New("two changes of one record set are accepted")
	}
	return p.holds(ctx, rs)
}

func dnsZoneRace(ctx context.Context, p *dnsProbe) error {
	if err := p.needZone(); err != nil {
		return err
	}
	state := func(round, i int) []*provider.RecordSet {
		v := fmt.Sprintf("round %d racer %d", round, i)
		return []*provider.RecordSet{p.set("x", "TXT", time.Minute, v), p.set("y", "TXT", time.Minute, v), p.set("z", "TXT", time.Minute, v)}
	}
	last := state(0, 0)
	if err := p.have(ctx, last...); err != nil {
		return err
	}
	for round := 1; round <= 3; round++ {
		start := make(chan struct{})
		won := make(chan []*provider.RecordSet, dnsRacers)
		var g errgroup.Group
		for i := range dnsRacers {
			next, d := state(round, i), p.d
			if i%2 == 1 {
				d = p.second
			}
			var changes []provider.Change
			for k := range next { // in another order each
				k = (k + i) % len(next)
				changes = append(changes, provider.Change{Old: last[k], New: next[k]})
			}
			g.Go(func() error {
				<-start
				_, err := d.Swap(ctx, changes...)
				if err == nil {
					won <- next
					return nil
				}
				return want(err, provider.ErrConflict)
			})
		}
		close(start)
		if err := g.Wait(); err != nil {
			return err
		}
		if len(won) != 1 {
			return fmt.Errorf("%d of %d won", len(won), dnsRacers)
		}
		last = <-won
		if err := p.holds(ctx, last...); err != nil {
			return err
		}
	}
	return nil
}

// settled waits until a change is in sync.
func (p *dnsProbe) settled(ctx context.Context, ref provider.ChangeRef) error {
	ctx, cancel := context.WithTimeout(ctx, p.settle)
	defer cancel()
	for wait := 10 * time.Millisecond; ; wait = min(2*wait, 5*time.Second) {
		switch st, err := p.d.Status(ctx, ref); {
		case err != nil:
			return fmt.Errorf("status of %q: %w", ref, err)
		case st == provider.ChangeInSync:
			return nil
		case st != provider.ChangePending:
			return fmt.Errorf("status of %q is %q", ref, st)
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return fmt.Errorf("%q is still pending: %w", ref, ctx.Err())
		}
	}
}

func dnsStatus(ctx context.Context, p *dnsProbe) error {
	var last *provider.RecordSet
	var refs []provider.ChangeRef
	for i := range 3 {
		next := p.set("x", "A", time.Minute, fmt.Sprintf("192.0.2.%d", i))
		ref, err := p.d.Swap(ctx, provider.Change{Old: last, New: next})
		if err != nil {
			return err
		}
		refs, last = append(refs, ref), next
	}
	for range 2 { // once in sync, also after later changes, and again
		for _, ref := range refs {
			if err := p.settled(ctx, ref); err != nil {
				return err
			}
		}
	}
	return nil
}

func dnsStatusUnknown(ctx context.Context, p *dnsProbe) error {
	for _, ref := range []provider.ChangeRef{"", "no change has this name", "holdfast-check.invalid./1"} {
		_, err := p.d.Status(ctx, ref)
		if err := want(err, provider.ErrNotFound); err != nil {
			return fmt.Errorf("status of %q: %w", ref, err)
		}
	}
	return nil
}
