package libdns

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/holdfast-go/holdfast/provider"
)

// Get implements [provider.DNSProvider]. It sees a Swap that has returned if
// the service's listing does.
func (z *Zone) Get(ctx context.Context, name, typ string) (provider.RecordSet, error) {
	rs, err := z.get(ctx, name, typ)
	if err != nil {
		return provider.RecordSet{}, wrap("dns get", name+" "+typ, err)
	}
	return *rs, nil
}

func (z *Zone) get(ctx context.Context, name, typ string) (*provider.RecordSet, error) {
	if err := errors.Join(ctx.Err(), checkType(typ), z.inZone(name)); err != nil {
		return nil, err
	}
	view, err := z.read(ctx)
	if err != nil {
		return nil, err
	}
	rs := view[[2]string{name, typ}]
	if rs == nil {
		return nil, provider.ErrNotFound
	}
	return rs, nil
}

// errUnknown: something was written, and what became of it is not known.
var errUnknown = errors.New("outcome unknown, read the record set again")

// Swap implements [provider.DNSProvider] as far as it can: see the package
// comment. It takes one change.
func (z *Zone) Swap(ctx context.Context, changes ...provider.Change) (provider.ChangeRef, error) {
	switch len(changes) {
	case 0:
		return "", wrap("dns swap", z.c.Zone, errors.New("no changes"))
	case 1:
	default:
		return "", wrap("dns swap", z.c.Zone, fmt.Errorf("several changes in one swap: %w", errors.ErrUnsupported))
	}
	e, err := z.edit(changes[0])
	if err != nil {
		return "", wrap("dns swap", z.c.Zone, err)
	}
	select {
	case z.turn <- struct{}{}:
		defer func() { <-z.turn }()
	case <-ctx.Done():
		return "", wrap("dns swap", e.name+" "+e.typ, ctx.Err())
	}
	if err := z.swap(ctx, e); err != nil {
		return "", wrap("dns swap", e.name+" "+e.typ, err)
	}
	return z.ref(e), nil
}

// An edit is a change that has been checked, with its sets in canonical form.
type edit struct {
	name, typ string
	old, new  *provider.RecordSet
}

func (z *Zone) edit(c provider.Change) (e edit, err error) {
	for _, part := range []struct {
		from *provider.RecordSet
		to   **provider.RecordSet
	}{{c.Old, &e.old}, {c.New, &e.new}} {
		if part.from == nil {
			continue
		}
		if *part.to, err = z.canonical(*part.from); err != nil {
			return e, err
		}
		e.name, e.typ = part.from.Name, part.from.Type
	}
	switch {
	case e.old == nil && e.new == nil:
		return e, errors.New("neither Old nor New")
	case e.old != nil && e.new != nil && (e.old.Name != e.new.Name || e.old.Type != e.new.Type):
		return e, errors.New("its Old and New are not of one name and type")
	}
	return e, nil
}

func (z *Zone) swap(ctx context.Context, e edit) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	began := time.Now()
	view, err := z.read(ctx)
	if err != nil {
		return err
	}
	k := [2]string{e.name, e.typ}
	if now := view[k]; !same(now, e.old) {
		return fmt.Errorf("%w: the zone has %s", provider.ErrConflict, describe(now))
	}
	if err := view.hasPlace(e); err != nil {
		return err
	}
	if same(e.old, e.new) {
		return nil
	}
	soon, cancel := context.WithDeadline(ctx, began.Add(z.c.Settle))
	defer cancel()
	if soon.Err() != nil {
		return fmt.Errorf("nothing was written: to list the zone took longer than Config.Settle (%v): %w", z.c.Settle, soon.Err())
	}
	writeErr := z.write(soon, e)
	took := time.Since(began)
	select { // for those who have read what was there before
	case <-time.After(z.c.Settle):
	case <-ctx.Done():
		return fmt.Errorf("%w: written, but: %w", errUnknown, errors.Join(ctx.Err(), writeErr))
	}
	view, err = z.read(ctx)
	if err != nil {
		return fmt.Errorf("%w: written, but: %w", errUnknown, errors.Join(err, writeErr))
	}
	return z.judge(ctx, e, view[k], took, writeErr)
}

// judge says what became of a write, by what the zone holds after it.
func (z *Zone) judge(ctx context.Context, e edit, now *provider.RecordSet, took time.Duration, writeErr error) error {
	switch {
	case took >= z.c.Settle: // another may have written, waited and read by then
		return fmt.Errorf("%w: the write took %v, no less than Config.Settle (%v): it may have overwritten another; the zone has %s",
			errUnknown, took, z.c.Settle, describe(now))
	case same(now, e.new):
		return nil // also if the service's reply to the write was lost
	case writeErr != nil:
		return fmt.Errorf("%w: the write failed, and the zone has %s: %w", errUnknown, describe(now), withCause(ctx, writeErr))
	case same(now, e.old):
		return fmt.Errorf("%w: written, and the zone still has what it had, %s: do the service's readings lag behind?", errUnknown, describe(now))
	case now != nil && e.new != nil && now.TTL != e.new.TTL && slices.Equal(now.Values, e.new.Values):
		return fmt.Errorf("%w: written, but the service has made of the TTL of %v one of %v", errUnknown, e.new.TTL, now.TTL)
	}
	return fmt.Errorf("%w: another has written at the same time, and the zone has %s", provider.ErrConflict, describe(now))
}

// write makes the change. A removal is of exactly the records that were read:
// if another has replaced them, it removes nothing.
func (z *Zone) write(ctx context.Context, e edit) error {
	if e.new == nil {
		recs, err := z.records(e.old)
		if err == nil {
			_, err = z.c.Provider.DeleteRecords(ctx, z.c.Zone, recs)
		}
		return err
	}
	recs, err := z.records(e.new)
	if err == nil {
		_, err = z.c.Provider.SetRecords(ctx, z.c.Zone, recs)
	}
	return err
}

// hasPlace: a CNAME is alone (RFC 1034 section 3.6.2). What services do about
// that differs.
func (v zoneView) hasPlace(e edit) error {
	if e.new == nil {
		return nil
	}
	for k := range v {
		if k[0] == e.name && k[1] != e.typ && (k[1] == "CNAME" || e.typ == "CNAME") {
			return fmt.Errorf("%s has a %s record, beside which no %s can be", e.name, k[1], e.typ)
		}
	}
	return nil
}
