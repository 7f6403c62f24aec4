package rfc2136

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/miekg/dns"

	"github.com/holdfast-go/holdfast/provider"
)

// serialAfter compares as RFC 1982 does: serials turn over.
func serialAfter(a, b uint32) bool { return int32(a-b) > 0 }

// ref names a change by the zone and a serial before it.
func (z *Zone) ref(base uint32) provider.ChangeRef {
	return provider.ChangeRef(fmt.Sprintf("%s/%d", z.c.Zone, base))
}

// Status implements [provider.DNSProvider]. It asks the primary and every
// secondary for the serial of the zone. A server that does not answer is an
// error that names it, even if another lags behind.
func (z *Zone) Status(ctx context.Context, ref provider.ChangeRef) (provider.ChangeStatus, error) {
	st, err := z.status(ctx, ref)
	if err != nil {
		return "", wrap("dns status", strconv.Quote(string(ref)), err)
	}
	return st, nil
}

func (z *Zone) status(ctx context.Context, ref provider.ChangeRef) (provider.ChangeStatus, error) {
	n, ok := strings.CutPrefix(string(ref), z.c.Zone+"/")
	base, err := strconv.ParseUint(n, 10, 32)
	if !ok || err != nil {
		return "", provider.ErrNotFound
	}
	s, err := z.dial(ctx)
	if err != nil {
		return "", err
	}
	defer s.close()
	soa, err := s.soa(ctx)
	if err != nil {
		return "", err
	}
	if !serialAfter(soa.Serial, uint32(base)) {
		return "", provider.ErrNotFound // the zone has never been there
	}
	servers := z.c.Secondaries
	if servers == nil {
		if servers, err = s.nameservers(ctx); err != nil {
			return "", err
		}
	}
	behind := make([]bool, len(servers))
	errs := make([]error, len(servers))
	var wg sync.WaitGroup
	for i, addr := range servers {
		wg.Go(func() {
			serial, err := z.serialAt(ctx, addr)
			behind[i], errs[i] = !serialAfter(serial, uint32(base)), err
		})
	}
	wg.Wait()
	switch err := errors.Join(errs...); {
	case err != nil:
		return "", err
	case slices.Contains(behind, true):
		return provider.ChangePending, nil
	}
	return provider.ChangeInSync, nil
}

// serialAt asks a server for the serial of the zone it serves.
func (z *Zone) serialAt(ctx context.Context, addr string) (uint32, error) {
	m := new(dns.Msg).SetQuestion(z.c.Zone, dns.TypeSOA)
	m.RecursionDesired = false
	d := net.Dialer{Timeout: z.c.Timeout}
	conn, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return 0, fmt.Errorf("authoritative server %s does not answer: %w", addr, err)
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	c := &dns.Client{Net: "tcp", Timeout: z.c.Timeout}
	r, _, err := c.ExchangeWithConnContext(ctx, m, &dns.Conn{Conn: conn})
	switch {
	case err != nil && endOf(ctx) != nil:
		return 0, endOf(ctx)
	case err != nil:
		return 0, fmt.Errorf("authoritative server %s does not answer: %w", addr, err)
	case r.Rcode != dns.RcodeSuccess:
		return 0, fmt.Errorf("authoritative server %s does not serve %s (%s)", addr, z.c.Zone, dns.RcodeToString[r.Rcode])
	case !r.Authoritative:
		return 0, fmt.Errorf("server %s is not authoritative for %s", addr, z.c.Zone)
	}
	soa, err := soaOf(r, z.c.Zone, addr)
	if err != nil {
		return 0, err
	}
	return soa.Serial, nil
}

// nameservers are the addresses of the servers in the zone's NS records.
// Those of names in the zone are asked of the primary: a resolver may not know
// a zone that is private.
func (s *session) nameservers(ctx context.Context) (servers []string, err error) {
	rrs, err := s.lookup(ctx, s.z.c.Zone, dns.TypeNS)
	if err != nil {
		return nil, err
	}
	for _, rr := range rrs {
		ns, ok := rr.(*dns.NS)
		if !ok {
			continue
		}
		addrs, err := s.addresses(ctx, dns.CanonicalName(ns.Ns))
		if err != nil {
			return nil, fmt.Errorf("address of name server %s: %w (Config.Secondaries replaces the NS records)", ns.Ns, err)
		}
		for _, a := range addrs {
			servers = append(servers, net.JoinHostPort(a, s.z.nsPort))
		}
	}
	slices.Sort(servers)
	return slices.Compact(servers), nil
}

func (s *session) addresses(ctx context.Context, host string) (addrs []string, err error) {
	if !dns.IsSubDomain(s.z.c.Zone, host) {
		return net.DefaultResolver.LookupHost(ctx, host)
	}
	for _, typ := range []uint16{dns.TypeA, dns.TypeAAAA} {
		m := new(dns.Msg).SetQuestion(host, typ) // may be delegated, with the address as glue
		m.RecursionDesired = false
		r, err := s.exchange(ctx, m)
		if err != nil {
			return nil, err
		}
		for _, rr := range slices.Concat(ownedBy(r.Answer, host), ownedBy(r.Extra, host)) {
			if a, err := netip.ParseAddr(value(rr)); err == nil && rr.Header().Rrtype == typ {
				addrs = append(addrs, a.String())
			}
		}
	}
	if len(addrs) == 0 {
		return nil, errors.New("none")
	}
	return addrs, nil
}
