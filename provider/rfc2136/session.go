package rfc2136

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// fudge is how far the clocks may be apart, in seconds; RFC 8945 section 10.
const fudge = 300

// A session is one TCP connection to the primary server, on which every
// message is signed both ways. UDP is never used: a datagram can come twice,
// and late.
type session struct {
	z      *Zone
	server string
	c      *dns.Client
	conn   net.Conn
	stop   func() bool
}

// dial connects to the first of the servers that lets it. What is read and
// what is changed in one session thus meet the same server.
func (z *Zone) dial(ctx context.Context) (*session, error) {
	var errs []error
	for _, server := range z.c.Servers {
		d := net.Dialer{Timeout: z.c.Timeout}
		conn, err := d.DialContext(ctx, "tcp", server)
		if ended := endOf(ctx); err != nil && ended != nil {
			return nil, ended
		}
		if err != nil {
			z.c.Logger.Warn("no connection", "server", server, "error", err)
			errs = append(errs, fmt.Errorf("connect to primary %s: %w", server, err))
			continue
		}
		s := &session{z: z, server: server, conn: conn, c: &dns.Client{
			Net: "tcp", Timeout: z.c.Timeout, TsigSecret: map[string]string{z.c.KeyName: z.c.Secret},
		}}
		// The library heeds the deadline of a context but not its end.
		s.stop = context.AfterFunc(ctx, func() { conn.Close() })
		return s, nil
	}
	return nil, errors.Join(errs...)
}

// endOf is ctx.Err(), also when a deadline has passed on the connection, to
// which it was copied, a moment before it does in ctx.
func endOf(ctx context.Context) error {
	if d, ok := ctx.Deadline(); ok && !time.Now().Before(d) {
		return context.DeadlineExceeded
	}
	return ctx.Err()
}

func (s *session) close() {
	s.stop()
	s.conn.Close()
}

// exchange sends a message and returns the answer, which is signed. An error
// that is no [*refusedError] leaves open whether the message has arrived.
func (s *session) exchange(ctx context.Context, m *dns.Msg) (*dns.Msg, error) {
	now := s.z.now()
	m.SetTsig(s.z.c.KeyName, s.z.c.Algorithm, fudge, now.Unix())
	// A fresh dns.Conn each time: it would sign the second message as a
	// continuation of the first.
	r, _, err := s.c.ExchangeWithConnContext(ctx, m, &dns.Conn{Conn: s.conn})
	if r != nil && r.Id == m.Id {
		if refused := s.refused(r, err, now); refused != nil {
			return nil, refused
		}
	}
	switch {
	case err != nil:
		// The end of ctx is why the connection was closed under the exchange.
		return nil, fmt.Errorf("%s: %w", s.server, cmp.Or(endOf(ctx), err))
	case r.IsTsig() == nil: // the library checks a signature only if there is one
		return nil, fmt.Errorf("%s: answer without a signature (%s): is this the primary, or something between?", s.server, dns.RcodeToString[r.Rcode])
	}
	return r, nil
}

// query asks for a record set. NXDOMAIN is an answer without records.
func (s *session) query(ctx context.Context, name string, typ uint16) (*dns.Msg, error) {
	m := new(dns.Msg).SetQuestion(name, typ)
	m.RecursionDesired = false
	r, err := s.exchange(ctx, m)
	switch {
	case err != nil:
		return nil, fmt.Errorf("query %s %s: %w", name, dns.TypeToString[typ], err)
	case r.Rcode != dns.RcodeSuccess && r.Rcode != dns.RcodeNameError:
		return nil, fmt.Errorf("query %s %s: %w", name, dns.TypeToString[typ], s.rcodeError(r.Rcode))
	case r.Truncated:
		return nil, fmt.Errorf("query %s %s: %s answers more than fits into a message", name, dns.TypeToString[typ], s.server)
	case !r.Authoritative:
		return nil, fmt.Errorf("query %s %s: %s does not answer with authority: it does not serve zone %s, or the name is delegated to another zone",
			name, dns.TypeToString[typ], s.server, s.z.c.Zone)
	}
	return r, nil
}

func (s *session) soa(ctx context.Context) (*dns.SOA, error) {
	r, err := s.query(ctx, s.z.c.Zone, dns.TypeSOA)
	if err != nil {
		return nil, err
	}
	return soaOf(r, s.z.c.Zone, s.server)
}

func soaOf(r *dns.Msg, zone, server string) (*dns.SOA, error) {
	for _, rr := range r.Answer {
		if soa, ok := rr.(*dns.SOA); ok && dns.CanonicalName(soa.Hdr.Name) == zone {
			return soa, nil
		}
	}
	return nil, fmt.Errorf("%s has no zone %s", server, zone)
}

// lookup returns the records of the name itself that answer a question, not
// those that a wildcard or a DNAME makes up for it.
func (s *session) lookup(ctx context.Context, name string, typ uint16) ([]dns.RR, error) {
	r, err := s.query(ctx, name, typ)
	if err == nil {
		err = s.ours(ctx, name, r)
	}
	if err != nil {
		return nil, err
	}
	own := ownedBy(r.Answer, name)
	if len(own) == 0 {
		return nil, nil
	}
	madeUp, err := s.madeUp(ctx, name, typ, own[0].Header().Rrtype)
	if err != nil || madeUp {
		return nil, err
	}
	return own, nil
}

// ours refuses an answer from a zone below this one that the same server serves:
// an update of this zone does not reach it, and what it puts in the place of such
// a name in this one nobody sees.
func (s *session) ours(ctx context.Context, name string, r *dns.Msg) error {
	in := zoneOf(r, name)
	if in == "" && name != s.z.c.Zone { // a server of few words
		ask := name
		if own := ownedBy(r.Answer, name); len(own) > 0 && own[0].Header().Rrtype == dns.TypeCNAME {
			i, _ := dns.NextLabel(name, 0) // no CNAME is at the top of a zone
			ask = name[i:]
		}
		r, err := s.query(ctx, ask, dns.TypeSOA)
		if err != nil {
			return err
		}
		in = zoneOf(r, name)
	}
	if in != "" && in != s.z.c.Zone && dns.IsSubDomain(s.z.c.Zone, in) {
		return fmt.Errorf("%s is not in zone %s: %s serves it in zone %s, which has to be Config.Zone for it", name, s.z.c.Zone, s.server, in)
	}
	return nil
}

// zoneOf is the zone of a name that an answer says it is from, or empty.
func zoneOf(r *dns.Msg, name string) string {
	for i, rr := range slices.Concat(r.Ns, r.Answer) {
		h := rr.Header()
		if owner := dns.CanonicalName(h.Name); (h.Rrtype == dns.TypeSOA || h.Rrtype == dns.TypeNS && i < len(r.Ns)) && dns.IsSubDomain(owner, name) {
			return owner
		}
	}
	return ""
}

func ownedBy(rrs []dns.RR, name string) (own []dns.RR) {
	for _, rr := range rrs {
		if h := rr.Header(); h.Class == dns.ClassINET && dns.CanonicalName(h.Name) == name {
			own = append(own, rr)
		}
	}
	return own
}

// madeUp reports whether the records of type got, the answer to a question
// for typ, are not in the zone. Only where a neighbour that nobody has named
// gets an answer as well is there anything to make it of; then an update that
// changes nothing asks the zone itself.
func (s *session) madeUp(ctx context.Context, name string, typ, got uint16) (bool, error) {
	i, end := dns.NextLabel(name, 0)
	if end || name == s.z.c.Zone {
		return false, nil
	}
	neighbour := "hf" + strings.ToLower(rand.Text()[:12]) + "." + name[i:]
	if _, ok := dns.IsDomainName(neighbour); !ok {
		neighbour = strings.ToLower(rand.Text()[:1]) + "." + name[i:]
	}
	r, err := s.query(ctx, neighbour, typ)
	if err != nil || len(ownedBy(r.Answer, neighbour)) == 0 {
		return false, err
	}
	m := new(dns.Msg).SetUpdate(s.z.c.Zone)
	m.RRsetUsed([]dns.RR{&dns.ANY{Hdr: dns.RR_Header{Name: name, Rrtype: got}}})
	r, err = s.exchange(ctx, m)
	switch {
	case err != nil:
		return false, fmt.Errorf("ask whether %s is a wildcard's: %w", name, err)
	case r.Rcode == dns.RcodeSuccess || r.Rcode == dns.RcodeNXRrset:
		return r.Rcode == dns.RcodeNXRrset, nil
	}
	return false, fmt.Errorf("ask whether %s is a wildcard's: %w", name, s.rcodeError(r.Rcode))
}
