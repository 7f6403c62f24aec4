package libdns

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/miekg/dns"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/internal/dnsrecord"
)

// serverPatience is how long one server may take to answer.
const serverPatience = 5 * time.Second

// ref names the record set that was changed.
func (z *Zone) ref(e dnsrecord.Change) provider.ChangeRef {
	return provider.ChangeRef(z.c.Zone + "/" + e.Name + "/" + e.Type)
}

// Status implements [provider.DNSProvider]: it compares what the authoritative
// servers answer with what the service has. One that does not answer is an
// error.
func (z *Zone) Status(ctx context.Context, ref provider.ChangeRef) (provider.ChangeStatus, error) {
	st, err := z.status(ctx, ref)
	if err != nil {
		return "", wrap("dns status", strconv.Quote(string(ref)), err)
	}
	return st, nil
}

func (z *Zone) status(ctx context.Context, ref provider.ChangeRef) (provider.ChangeStatus, error) {
	rest, ok := strings.CutPrefix(string(ref), z.c.Zone+"/")
	slash := strings.LastIndexByte(rest, '/') // a name may have one
	if !ok || slash < 0 || z.inZone(rest[:slash]) != nil || dnsrecord.CheckType(rest[slash+1:]) != nil {
		return "", provider.ErrNotFound
	}
	name, typ := rest[:slash], rest[slash+1:]
	view, err := z.read(ctx)
	if err != nil {
		return "", err
	}
	var want []string
	if rs := view[[2]string{name, typ}]; rs != nil {
		want = rs.Values
	}
	servers := z.c.Servers
	if servers == nil {
		if servers, err = z.nameservers(ctx); err != nil {
			return "", err
		}
	}
	for _, server := range servers {
		got, err := ask(ctx, server, name, typ)
		if err != nil {
			return "", fmt.Errorf("authoritative server %s: %w", server, withCause(ctx, err))
		}
		if !slices.Equal(got, want) {
			return provider.ChangePending, nil
		}
	}
	return provider.ChangeInSync, nil
}

func (z *Zone) nameservers(ctx context.Context) (servers []string, err error) {
	ns, err := net.DefaultResolver.LookupNS(ctx, z.c.Zone)
	if err != nil {
		return nil, fmt.Errorf("name servers of %s (Config.Servers replaces them): %w", z.c.Zone, err)
	}
	for _, n := range ns {
		servers = append(servers, n.Host)
	}
	return servers, nil
}

// ask returns the values that a server has, in canonical form and order.
func ask(ctx context.Context, server, name, typ string) (values []string, err error) {
	if _, _, err := net.SplitHostPort(server); err != nil {
		server = net.JoinHostPort(server, "53")
	}
	m := new(dns.Msg).SetQuestion(name, dns.StringToType[typ])
	m.RecursionDesired = false
	c := &dns.Client{Net: "tcp", Timeout: serverPatience}
	r, _, err := c.ExchangeContext(ctx, m, server)
	switch {
	case err != nil:
		return nil, err
	case r.Rcode != dns.RcodeSuccess && r.Rcode != dns.RcodeNameError:
		return nil, fmt.Errorf("answers %s", dns.RcodeToString[r.Rcode])
	case !r.Authoritative:
		return nil, fmt.Errorf("is not authoritative for %s", name)
	}
	for _, rr := range r.Answer {
		if dns.CanonicalName(rr.Header().Name) == name && rr.Header().Rrtype == m.Question[0].Qtype {
			values = append(values, valueOf(rr))
		}
	}
	slices.Sort(values)
	return values, nil
}

func valueOf(rr dns.RR) string {
	switch rr := rr.(type) {
	case *dns.A:
		return rr.A.String()
	case *dns.AAAA:
		return canonicalValue("AAAA", rr.AAAA.String())
	case *dns.CNAME:
		return dns.CanonicalName(rr.Target)
	case *dns.TXT:
		return unescape(strings.Join(rr.Txt, ""))
	}
	return ""
}

// unescape undoes \X and \DDD (RFC 1035 section 5.1).
func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:min(i+4, len(s))], 10, 8); err == nil && i+3 < len(s) {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
			i++
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
