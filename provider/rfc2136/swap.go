package rfc2136

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/miekg/dns"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/internal/dnsrecord"
)

const (
	// maxAttempts bounds how often a swap begins anew because the zone has
	// changed elsewhere.
	maxAttempts = 100

	// maxStuck is how often a server may refuse prerequisites although the
	// zone shows the same serial before and after.
	maxStuck = 5

	// maxRepeats is how often an UPDATE is sent whose reply was lost.
	maxRepeats = 4
)

// Atomicity is provider.ZoneAtomic.
func (z *Zone) Atomicity() provider.Atomicity { return provider.ZoneAtomic }

// Get implements [provider.DNSProvider].
func (z *Zone) Get(ctx context.Context, name, typ string) (provider.RecordSet, error) {
	rs, err := z.get(ctx, name, typ)
	if err != nil {
		return provider.RecordSet{}, wrap("dns get", name+" "+typ, err)
	}
	return rs, nil
}

func (z *Zone) get(ctx context.Context, name, typ string) (rs provider.RecordSet, err error) {
	n, err := recordType(typ)
	if err == nil {
		err = z.inZone(name)
	}
	if err != nil {
		return rs, err
	}
	s, err := z.dial(ctx)
	if err != nil {
		return rs, err
	}
	defer s.close()
	rrs, err := s.lookup(ctx, name, n)
	if err != nil {
		return rs, err
	}
	rs, ok := recordSet(rrs, name, n)
	if !ok {
		return rs, provider.ErrNotFound
	}
	return rs, nil
}

// Swap implements [provider.DNSProvider]. If the reply to its update is lost
// it finds out itself what became of it, as the package comment says. An error
// that says "outcome unknown" means that it could not: read the record sets.
func (z *Zone) Swap(ctx context.Context, changes ...provider.Change) (provider.ChangeRef, error) {
	edits, err := z.edits(changes)
	if err != nil {
		return "", wrap("dns swap", keyOf(changes), err)
	}
	var last uint32
	stuck := 0
	for attempt := 1; ; attempt++ {
		ref, err := z.attempt(ctx, edits)
		moved, ok := errors.AsType[*movedError](err)
		if !ok {
			return ref, wrap("dns swap", edits[0].String(), err)
		}
		if stuck++; moved.from != last {
			stuck, last = 1, moved.from
		}
		if stuck == maxStuck && !z.c.InlineSigning || attempt == maxAttempts {
			return "", wrap("dns swap", edits[0].String(), moved.givenUp(stuck, z.c.InlineSigning))
		}
		select {
		case <-time.After(rand.N(time.Duration(min(attempt, 10)) * 2 * time.Millisecond)):
		case <-ctx.Done():
			return "", wrap("dns swap", edits[0].String(), ctx.Err())
		}
	}
}

// keyOf names what cannot be named better.
func keyOf(changes []provider.Change) string {
	for _, c := range changes {
		if rs := cmp.Or(c.Old, c.New); rs != nil {
			return rs.Name + " " + rs.Type
		}
	}
	return "changes"
}

// A movedError means that the zone was not any more as it had been read. From
// is the serial that was read, for what the server refused.
type movedError struct {
	from   uint32
	server string
	rcode  int
}

func (e *movedError) Error() string {
	return fmt.Sprintf("server %s refuses the prerequisites (%s) at serial %d", e.server, dns.RcodeToString[e.rcode], e.from)
}

func (e *movedError) givenUp(stuck int, inline bool) error {
	if stuck < maxStuck || inline {
		return fmt.Errorf("nothing was changed: the zone kept changing: %w", e)
	}
	return fmt.Errorf("nothing was changed: %w, which it serves itself: if it signs the zone inline, or serves a serial of its own making, set InlineSigning", e)
}

// attempt reads, compares and sends one UPDATE.
func (z *Zone) attempt(ctx context.Context, edits []edit) (provider.ChangeRef, error) {
	s, err := z.dial(ctx)
	if err != nil {
		return "", err
	}
	defer s.close()
	soa, err := s.soa(ctx)
	if err != nil {
		return "", err
	}
	held := make([][]dns.RR, len(edits))
	for i, e := range edits {
		if held[i], err = s.compare(ctx, e, edits); err != nil {
			return "", err
		}
	}
	m := z.update(soa, held, edits)
	if size := m.Len() + 2*len(z.c.KeyName) + 200; size > dns.MaxMsgSize {
		return "", fmt.Errorf("an update of %d bytes is more than a message holds (%d): make it several swaps", size, dns.MaxMsgSize)
	}
	rcode, err := s.send(ctx, m)
	switch {
	case errors.Is(err, errUnknown):
		return z.settle(ctx, soa.Serial, m, edits, err)
	case err != nil:
		return "", err
	case rcode != dns.RcodeSuccess:
		return "", &movedError{soa.Serial, s.server, rcode}
	}
	return s.landed(ctx, soa.Serial, edits)
}

// errUnknown: an update was sent, and what became of it is not known.
var errUnknown = errors.New("outcome unknown, read the record sets again")

// send sends an UPDATE. The code says that it was applied, or which
// prerequisite did not hold; with any other error than errUnknown it was not
// applied.
func (s *session) send(ctx context.Context, m *dns.Msg) (rcode int, err error) {
	r, err := s.exchange(ctx, m)
	if _, refused := errors.AsType[*refusedError](err); refused {
		return 0, err
	}
	if err != nil {
		return 0, fmt.Errorf("%w: update: %w", errUnknown, err)
	}
	switch r.Rcode {
	case dns.RcodeSuccess, dns.RcodeNXRrset, dns.RcodeYXRrset, dns.RcodeNameError, dns.RcodeYXDomain:
		return r.Rcode, nil
	}
	err = s.rcodeError(r.Rcode)
	if _, refused := errors.AsType[*refusedError](err); refused {
		return 0, err
	}
	return 0, fmt.Errorf("%w: update: %w", errUnknown, err) // a server that fails may have done it
}

// landed follows an update that the server has accepted, and returns its
// reference: a serial, after which every other has the change.
func (s *session) landed(ctx context.Context, base uint32, edits []edit) (provider.ChangeRef, error) {
	if !slices.ContainsFunc(edits, func(e edit) bool { return e.Alters() }) {
		return s.z.ref(base - 1), nil // no change, and the zone as it is has it
	}
	if s.z.c.InlineSigning {
		return s.served(ctx, edits)
	}
	// The answer does not say whether the server did all of it. Some limit TTLs
	// (max-zone-ttl of BIND) or leave out a CNAME where signatures are left
	// (Knot), in silence; and some carry out several updates at one serial
	// (Knot), so that this one may have been undone by another before anybody
	// saw it.
	for _, e := range edits {
		if e.To == nil || !e.Alters() {
			continue
		}
		rrs, err := s.lookup(ctx, e.Name, e.typ)
		if err != nil {
			return "", fmt.Errorf("%w: the update was accepted, but: %w", errUnknown, err)
		}
		now, there := recordSet(rrs, e.Name, e.typ)
		if there && dnsrecord.Equal(now, *e.To) {
			continue
		}
		soa, err := s.soa(ctx)
		if err != nil {
			return "", fmt.Errorf("%w: the update was accepted, but: %w", errUnknown, err)
		}
		// Other values at a later serial are those of a later swap.
		if !there || soa.Serial == base+1 || slices.Equal(now.Values, e.To.Values) {
			return "", fmt.Errorf("%w: server %s has accepted the update, but for %s it has %s, not %s", errUnknown, s.server, e, describe(now), describe(*e.To))
		}
	}
	return s.z.ref(base), nil
}

// compare checks that the zone holds what e wants to replace, and that what
// it wants to put there has a place. It returns the records that are there.
func (s *session) compare(ctx context.Context, e edit, all []edit) ([]dns.RR, error) {
	rrs, err := s.lookup(ctx, e.Name, e.typ)
	if err != nil {
		return nil, err
	}
	now, there := recordSet(rrs, e.Name, e.typ)
	if there != (e.From != nil) || there && !dnsrecord.Equal(now, *e.From) {
		return nil, wrap("dns swap", e.String(), fmt.Errorf("%w: the zone has %s", provider.ErrConflict, describe(now)))
	}
	if e.To == nil {
		return rrs, nil
	}
	beside := rrs // a CNAME would be the answer, whatever was asked for
	if e.typ == dns.TypeCNAME {
		if beside, err = s.lookup(ctx, e.Name, dns.TypeANY); err != nil {
			return nil, err
		}
	}
	for _, rr := range beside {
		typ := rr.Header().Rrtype
		exclusive := (typ == dns.TypeCNAME) != (e.typ == dns.TypeCNAME)
		removed := slices.ContainsFunc(all, func(o edit) bool { return o.Name == e.Name && o.typ == typ && o.To == nil })
		if exclusive && !removed && typ != dns.TypeRRSIG && typ != dns.TypeNSEC {
			return nil, fmt.Errorf("%s has a %s record, beside which no %s can be", e.Name, dns.TypeToString[typ], dns.TypeToString[e.typ])
		}
	}
	return slices.DeleteFunc(rrs, func(rr dns.RR) bool { return rr.Header().Rrtype != e.typ }), nil
}
