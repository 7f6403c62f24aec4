package libdns

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/internal/dnsrecord"
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
	if err := errors.Join(ctx.Err(), dnsrecord.CheckType(typ), z.inZone(name)); err != nil {
		return nil, err
	}
	view, err := z.read(ctx)
	if err != nil {
		return nil, err
	}
	if err := view.uncut(name, z.c.Zone); err != nil {
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
	if len(changes) > 1 {
		return "", wrap("dns swap", z.c.Zone, dnsrecord.Unsupported("several changes in one swap"))
	}
	checked, err := dnsrecord.Check(changes, z.canonical)
	if err != nil {
		return "", wrap("dns swap", z.c.Zone, err)
	}
	e := checked[0]
	select {
	case z.turn <- struct{}{}:
		defer func() { <-z.turn }()
	case <-ctx.Done():
		return "", wrap("dns swap", e.Name+" "+e.Type, ctx.Err())
	}
	if err := z.swap(ctx, e); err != nil {
		return "", wrap("dns swap", e.Name+" "+e.Type, err)
	}
	return z.ref(e), nil
}

func (z *Zone) swap(ctx context.Context, e dnsrecord.Change) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	began := time.Now()
	view, err := z.read(ctx)
	if err != nil {
		return err
	}
	if err := view.uncut(e.Name, z.c.Zone); err != nil {
		return err
	}
	k := [2]string{e.Name, e.Type}
	if now := view[k]; !dnsrecord.Same(now, e.From) {
		return fmt.Errorf("%w: the zone has %s", provider.ErrConflict, describe(now))
	}
	if err := view.hasPlace(e); err != nil {
		return err
	}
	if dnsrecord.Same(e.From, e.To) {
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
func (z *Zone) judge(ctx context.Context, e dnsrecord.Change, now *provider.RecordSet, took time.Duration, writeErr error) error {
	switch {
	case took >= z.c.Settle: // another may have written, waited and read by then
		return fmt.Errorf("%w: the write took %v, no less than Config.Settle (%v): it may have overwritten another; the zone has %s",
			errUnknown, took, z.c.Settle, describe(now))
	case dnsrecord.Same(now, e.To):
		return nil // also if the service's reply to the write was lost
	case writeErr != nil:
		return fmt.Errorf("%w: the write failed, and the zone has %s: %w", errUnknown, describe(now), withCause(ctx, writeErr))
	case dnsrecord.Same(now, e.From):
		return fmt.Errorf("%w: written, and the zone still has what it had, %s: do the service's readings lag behind?", errUnknown, describe(now))
	case now != nil && e.To != nil && now.TTL != e.To.TTL && slices.Equal(now.Values, e.To.Values):
		return fmt.Errorf("%w: written, but the service has made of the TTL of %v one of %v", errUnknown, e.To.TTL, now.TTL)
	}
	return fmt.Errorf("%w: another has written at the same time, and the zone has %s", provider.ErrConflict, describe(now))
}

// write makes the change. A removal is of exactly the records that were read:
// if another has replaced them, it removes nothing.
func (z *Zone) write(ctx context.Context, e dnsrecord.Change) error {
	if e.To == nil {
		recs, err := z.records(e.From)
		if err == nil {
			_, err = z.c.Provider.DeleteRecords(ctx, z.c.Zone, recs)
		}
		return err
	}
	recs, err := z.records(e.To)
	if err == nil {
		_, err = z.c.Provider.SetRecords(ctx, z.c.Zone, recs)
	}
	return err
}

// uncut refuses a name that the zone delegates.
func (v zoneView) uncut(name, zone string) error {
	for _, at := range dnsrecord.Cuts(name, zone) {
		if v[[2]string{at, "NS"}] != nil {
			return dnsrecord.Delegated(name, at, zone)
		}
	}
	return nil
}

// hasPlace: a CNAME is alone (RFC 1034 section 3.6.2). What services do about
// that differs.
func (v zoneView) hasPlace(e dnsrecord.Change) error {
	if e.To == nil {
		return nil
	}
	for k := range v {
		if k[0] == e.Name && k[1] != e.Type && (k[1] == "CNAME" || e.Type == "CNAME") {
			return fmt.Errorf("%s has a %s record, beside which no %s can be", e.Name, k[1], e.Type)
		}
	}
	return nil
}
