package local

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"github.com/miekg/dns"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/internal/dnsrecord"
)

// A dnsSession is one TCP connection to the primary server, on which every
// message is signed both ways.
type dnsSession struct {
	d    *DNS
	c    *dns.Client
	conn net.Conn
	stop func() bool
}

func (d *DNS) dial(ctx context.Context) (*dnsSession, error) {
	s := &dnsSession{d: d, c: &dns.Client{
		Net: "tcp", Timeout: d.c.Timeout, TsigSecret: map[string]string{d.c.KeyName: d.c.Secret},
	}}
	conn, err := s.c.DialContext(ctx, d.c.Server)
	if err != nil {
		return nil, cmp.Or(ctx.Err(), err)
	}
	s.conn = conn.Conn
	// The library heeds the deadline of a context but not its end.
	s.stop = context.AfterFunc(ctx, func() { s.conn.Close() })
	return s, nil
}

func (s *dnsSession) close() {
	s.stop()
	s.conn.Close()
}

// exchange sends a message and returns the answer. With an error the answer
// is nil unless the server has said, unsigned perhaps, that it did nothing.
func (s *dnsSession) exchange(ctx context.Context, m *dns.Msg) (*dns.Msg, error) {
	m.SetTsig(s.d.c.KeyName, dns.HmacSHA256, tsigFudge, time.Now().Unix())
	// A fresh dns.Conn each time: it would sign the second message as a
	// continuation of the first.
	r, _, err := s.c.ExchangeWithConnContext(ctx, m, &dns.Conn{Conn: s.conn})
	if cause := ctx.Err(); err != nil && cause != nil {
		return nil, cause
	}
	if r != nil && r.Id == m.Id && (r.Rcode == dns.RcodeNotAuth || r.Rcode == dns.RcodeRefused) {
		return r, rcodeError(r.Rcode)
	}
	if err != nil {
		return nil, err
	}
	if r.IsTsig() == nil { // the library checks a signature only if there is one
		return nil, fmt.Errorf("answer without a signature (%s)", dns.RcodeToString[r.Rcode])
	}
	return r, nil
}

// query asks for a record set. NXDOMAIN is an answer without records.
func (s *dnsSession) query(ctx context.Context, name string, typ uint16) (*dns.Msg, error) {
	m := new(dns.Msg).SetQuestion(name, typ)
	m.RecursionDesired = false
	r, err := s.exchange(ctx, m)
	switch {
	case err != nil:
		return nil, fmt.Errorf("query %s %s: %w", name, dns.TypeToString[typ], err)
	case r.Rcode != dns.RcodeSuccess && r.Rcode != dns.RcodeNameError:
		return nil, fmt.Errorf("query %s %s: %w", name, dns.TypeToString[typ], rcodeError(r.Rcode))
	case !r.Authoritative || r.Truncated:
		return nil, fmt.Errorf("query %s %s: the server is not authoritative", name, dns.TypeToString[typ])
	}
	return r, nil
}

func (s *dnsSession) soa(ctx context.Context) (*dns.SOA, error) {
	r, err := s.query(ctx, s.d.c.Zone, dns.TypeSOA)
	if err != nil {
		return nil, err
	}
	return soaOf(r, s.d.c.Zone)
}

func soaOf(r *dns.Msg, zone string) (*dns.SOA, error) {
	for _, rr := range r.Answer {
		if soa, ok := rr.(*dns.SOA); ok && dns.CanonicalName(soa.Hdr.Name) == zone {
			return soa, nil
		}
	}
	return nil, fmt.Errorf("the server has no zone %s", zone)
}

// compare checks that the zone holds what e wants to replace, and that what
// it wants to put there has a place. RFC 2136 (3.4.2.2) ignores without a
// word a record beside a CNAME, which would make a swap half done.
func (s *dnsSession) compare(ctx context.Context, e edit, all []edit) error {
	r, err := s.query(ctx, e.Name, e.typ)
	if err != nil {
		return err
	}
	now, there := recordSet(r.Answer, e.Name, e.typ)
	if there != (e.From != nil) || there && !dnsrecord.Equal(now, *e.From) {
		return fmt.Errorf("%s %s: %w", e.Name, dns.TypeToString[e.typ], provider.ErrConflict)
	}
	if e.To == nil {
		return nil
	}
	removed := func(typ uint16) bool {
		return slices.ContainsFunc(all, func(o edit) bool { return o.Name == e.Name && o.typ == typ && o.To == nil })
	}
	blocking := r.Answer
	if e.typ == dns.TypeCNAME {
		if r, err = s.query(ctx, e.Name, dns.TypeANY); err != nil {
			return err
		}
		blocking = r.Answer
	}
	for _, o := range all { // what this swap itself would put there
		if o.Name == e.Name && o.typ != e.typ && o.To != nil && (o.typ == dns.TypeCNAME || e.typ == dns.TypeCNAME) {
			return fmt.Errorf("%s: a CNAME and a %s cannot be together", e.Name, dns.TypeToString[max(o.typ, e.typ)])
		}
	}
	for _, rr := range blocking {
		h := rr.Header()
		other := dns.CanonicalName(h.Name) == e.Name && h.Rrtype != e.typ && h.Rrtype != dns.TypeRRSIG && h.Rrtype != dns.TypeNSEC
		if other && (e.typ == dns.TypeCNAME || h.Rrtype == dns.TypeCNAME) && !removed(h.Rrtype) {
			return fmt.Errorf("%s has a %s record, beside which a %s cannot be", e.Name,
				dns.TypeToString[h.Rrtype], dns.TypeToString[e.typ])
		}
	}
	return nil
}

// secondarySerial asks a server for the serial of the zone it serves.
func (d *DNS) secondarySerial(ctx context.Context, addr string) (uint32, error) {
	m := new(dns.Msg).SetQuestion(d.c.Zone, dns.TypeSOA)
	m.RecursionDesired = false
	c := &dns.Client{Net: "tcp", Timeout: d.c.Timeout}
	r, _, err := c.ExchangeContext(ctx, m, addr)
	if err == nil && r.Rcode != dns.RcodeSuccess {
		err = rcodeError(r.Rcode)
	}
	if err == nil && !r.Authoritative {
		err = errors.New("not authoritative")
	}
	if err != nil {
		return 0, fmt.Errorf("secondary %s: %w", addr, err)
	}
	soa, err := soaOf(r, d.c.Zone)
	if err != nil {
		return 0, fmt.Errorf("secondary %s: %w", addr, err)
	}
	return soa.Serial, nil
}
