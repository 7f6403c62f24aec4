package rfc2136

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/miekg/dns"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/internal/dnsrecord"
)

// settle finds out what became of an update whose reply was lost. Its
// prerequisite is the serial base, which the zone has once and never again:
//
//   - While the zone has it, the update has not been applied, and may still
//     be under way. The same is sent again: of the two the server takes one.
//   - When it has another, what is under way is refused whenever it arrives.
//     If the zone holds every New, the swap is made; if it holds every Old, it
//     was not made and never will be, unless it was made and undone.
func (z *Zone) settle(ctx context.Context, base uint32, m *dns.Msg, edits []edit, cause error) (provider.ChangeRef, error) {
	if z.c.InlineSigning {
		return z.settleInline(ctx, edits, cause)
	}
	z.c.Logger.Warn("reply to an update lost", "name", edits[0].Name, "serial", base, "error", cause)
	for repeat := 1; repeat <= maxRepeats && endOf(ctx) == nil; repeat++ {
		ref, err := z.repeat(ctx, base, m, edits)
		if err == nil || !errors.Is(err, errAgain) {
			return ref, err
		}
		cause = fmt.Errorf("%w; then: %w", cause, errors.Unwrap(err))
		pause(ctx, time.Duration(repeat)*50*time.Millisecond)
	}
	if err := endOf(ctx); err != nil && !errors.Is(cause, err) {
		cause = fmt.Errorf("%w; then: %w", cause, err)
	}
	return "", cause
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// againError: it is still not known what became of the update.
var errAgain = errors.New("again")

type againError struct{ err error }

func (e *againError) Error() string        { return e.err.Error() }
func (e *againError) Unwrap() error        { return e.err }
func (e *againError) Is(target error) bool { return target == errAgain }

// repeat looks once, and sends the update again if that is safe.
func (z *Zone) repeat(ctx context.Context, base uint32, m *dns.Msg, edits []edit) (provider.ChangeRef, error) {
	s, err := z.dial(ctx)
	if err != nil {
		return "", &againError{err}
	}
	defer s.close()
	soa, err := s.soa(ctx)
	if err != nil {
		return "", &againError{err}
	}
	if soa.Serial == base {
		again := m.Copy()
		again.Id, again.Extra = dns.Id(), nil // the signature was there
		rcode, err := s.send(ctx, again)
		switch {
		case err != nil:
			return "", &againError{err}
		case rcode == dns.RcodeSuccess:
			return s.landed(ctx, base, edits)
		}
		return "", &againError{&movedError{base, s.server, rcode}} // between the reading and the sending
	}
	switch old, now, err := s.holds(ctx, edits); {
	case err != nil:
		return "", &againError{err}
	case now:
		return s.landed(ctx, base, edits)
	case old:
		return "", fmt.Errorf("%w: the reply to the update was lost, and the zone holds every Old at serial %d: it was not applied and will not be, or another has undone it", errUnknown, soa.Serial)
	}
	return "", fmt.Errorf("%w: the reply to the update was lost, and at serial %d the zone holds neither every Old nor every New", errUnknown, soa.Serial)
}

// holds reports whether the zone holds every Old, and every New.
func (s *session) holds(ctx context.Context, edits []edit) (old, now bool, err error) {
	old, now = true, true
	for _, e := range edits {
		rrs, err := s.lookup(ctx, e.Name, e.typ)
		if err != nil {
			return false, false, err
		}
		rs, there := recordSet(rrs, e.Name, e.typ)
		is := func(want *provider.RecordSet) bool {
			return there == (want != nil) && (!there || dnsrecord.Equal(rs, *want))
		}
		old, now = old && is(e.From), now && is(e.To)
	}
	return old, now, nil
}

// served waits until the zone that is served has the update that the server
// has accepted, so that who reads afterwards sees it. Its serial then is the
// reference.
func (s *session) served(ctx context.Context, edits []edit) (provider.ChangeRef, error) {
	deadline := time.Now().Add(s.z.c.Timeout)
	for wait := 2 * time.Millisecond; ; wait = min(2*wait, 200*time.Millisecond) {
		old, now, err := s.holds(ctx, edits)
		if err != nil {
			return "", fmt.Errorf("%w: the update was accepted, but: %w", errUnknown, err)
		}
		if now || !old { // not Old: a later swap was faster
			soa, err := s.soa(ctx)
			if err != nil {
				return "", fmt.Errorf("%w: the update was accepted, but: %w", errUnknown, err)
			}
			return s.z.ref(soa.Serial - 1), nil
		}
		if time.Now().After(deadline) {
			return "", fmt.Errorf("%w: server %s has accepted the update, and does not serve it within %v", errUnknown, s.server, s.z.c.Timeout)
		}
		pause(ctx, wait)
	}
}

// settleInline can only look: an update that is under way has no serial that
// would keep it from arriving later.
func (z *Zone) settleInline(ctx context.Context, edits []edit, cause error) (provider.ChangeRef, error) {
	if endOf(ctx) != nil {
		return "", cause
	}
	s, err := z.dial(ctx)
	if err != nil {
		return "", fmt.Errorf("%w; then: %w", cause, err)
	}
	defer s.close()
	ref, err := s.served(ctx, edits)
	if err != nil {
		return "", fmt.Errorf("%w; then: %w", cause, err)
	}
	if _, now, err := s.holds(ctx, edits); err != nil || !now {
		return "", fmt.Errorf("%w; then: the zone holds something else", cause)
	}
	return ref, nil
}
