package azuredns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/internal/dnsrecord"
)

// An asker asks a name server, by its name, for the records of a name and type.
type asker func(ctx context.Context, server, name string, typ uint16) ([]dns.RR, error)

// Status implements [provider.DNSProvider]. Azure does not tell how far a
// change has come, so that each name server of the zone is asked for the record
// set: in sync is a change when all serve what the zone holds now, be it of
// this Swap or of a later one. Those of a private zone answer in its virtual
// networks only, and are not asked: there a change that Azure has accepted is
// in sync.
func (z *Zones) Status(ctx context.Context, ref provider.ChangeRef) (provider.ChangeStatus, error) {
	status, err := z.status(ctx, ref)
	if err != nil {
		return "", fail(ctx, "dns status", strconv.Quote(string(ref)), err)
	}
	return status, nil
}

func (z *Zones) status(ctx context.Context, ref provider.ChangeRef) (provider.ChangeStatus, error) {
	name, typ, _ := strings.Cut(string(ref), "/")
	if rules.CheckName(name) != nil || dnsrecord.CheckType(typ) != nil {
		return "", provider.ErrNotFound
	}
	in, err := z.zoneOf(name)
	if err != nil {
		return "", provider.ErrNotFound
	}
	now, err := in.read(ctx, name, typ)
	if err != nil {
		return "", err
	}
	servers, err := in.records.servers(ctx, in)
	if err != nil {
		return "", err
	}
	behind, errs := make([]bool, len(servers)), make([]error, len(servers))
	var wg sync.WaitGroup
	for i, server := range servers {
		wg.Go(func() {
			rrs, err := z.ask(ctx, server, name, dns.StringToType[typ])
			behind[i], errs[i] = !serves(rrs, name, typ, now.set), err
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

// serves says whether an answer has exactly the record set, or no records if
// that is nil.
func serves(rrs []dns.RR, name, typ string, want *provider.RecordSet) bool {
	got := provider.RecordSet{Name: name, Type: typ}
	for _, rr := range rrs {
		h := rr.Header()
		if dns.CanonicalName(h.Name) != name || dns.TypeToString[h.Rrtype] != typ {
			continue
		}
		got.TTL = time.Duration(h.Ttl) * time.Second
		switch rr := rr.(type) {
		case *dns.A:
			got.Values = append(got.Values, rr.A.String())
		case *dns.AAAA:
			got.Values = append(got.Values, rr.AAAA.String())
		case *dns.CNAME:
			got.Values = append(got.Values, hostName(rr.Target))
		case *dns.TXT:
			got.Values = append(got.Values, text(rr))
		}
	}
	if want == nil || len(got.Values) == 0 {
		return want == nil && len(got.Values) == 0
	}
	got, err := rules.Canonical(got)
	return err == nil && dnsrecord.Equal(got, *want)
}

// text undoes the escapes that the library leaves in a text.
func text(rr *dns.TXT) string {
	return dnsrecord.Unescape(strings.Join(rr.Txt, ""), dnsrecord.Decimal)
}

const askPatience = 10 * time.Second

// askServer asks one name server, by TCP, so that no answer is cut.
func askServer(ctx context.Context, server, name string, typ uint16) ([]dns.RR, error) {
	ctx, cancel := context.WithTimeout(ctx, askPatience)
	defer cancel()
	addr := server
	if _, _, err := net.SplitHostPort(server); err != nil {
		addr = net.JoinHostPort(strings.TrimSuffix(server, "."), "53")
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("name server %s does not answer: %w", server, err)
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	m := new(dns.Msg).SetQuestion(name, typ)
	m.RecursionDesired = false
	r, _, err := (&dns.Client{Net: "tcp", Timeout: askPatience}).ExchangeWithConnContext(ctx, m, &dns.Conn{Conn: conn})
	switch {
	case err != nil && ctx.Err() != nil:
		return nil, fmt.Errorf("name server %s does not answer: %w", server, ctx.Err())
	case err != nil:
		return nil, fmt.Errorf("name server %s does not answer: %w", server, err)
	case r.Rcode != dns.RcodeSuccess && r.Rcode != dns.RcodeNameError:
		return nil, fmt.Errorf("name server %s does not serve %s (%s)", server, name, dns.RcodeToString[r.Rcode])
	case !r.Authoritative:
		return nil, fmt.Errorf("name server %s is not authoritative for %s", server, name)
	}
	return r.Answer, nil
}
