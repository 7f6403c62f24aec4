package failover

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// lookup asks one server, over UDP and again over TCP if the answer does not
// fit, and returns the values of the record set in ascending order. A name
// that does not exist has no values; auth is the AA bit of the answer.
func lookup(ctx context.Context, server, name, typ string) (values []string, auth bool, err error) {
	qtype, ok := dns.StringToType[typ]
	if !ok {
		return nil, false, fmt.Errorf("dns: unknown record type %q", typ)
	}
	m := new(dns.Msg)
	m.SetQuestion(dns.Fqdn(name), qtype)
	r, err := exchange(ctx, server, m)
	if err != nil {
		return nil, false, err
	}
	if r.Rcode != dns.RcodeSuccess && r.Rcode != dns.RcodeNameError {
		return nil, false, fmt.Errorf("dns: %s answers %s for %s %s", server, dns.RcodeToString[r.Rcode], name, typ)
	}
	for _, rr := range r.Answer {
		if rr.Header().Rrtype == qtype {
			values = append(values, presentation(rr))
		}
	}
	slices.Sort(values)
	return values, r.Authoritative, nil
}

func exchange(ctx context.Context, server string, m *dns.Msg) (*dns.Msg, error) {
	if _, _, err := net.SplitHostPort(server); err != nil {
		server = net.JoinHostPort(server, "53")
	}
	udp := dns.Client{Net: "udp", Timeout: 2 * time.Second, UDPSize: dns.DefaultMsgSize}
	m.SetEdns0(dns.DefaultMsgSize, false)
	r, _, err := udp.ExchangeContext(ctx, m, server)
	if err == nil && !r.Truncated {
		return r, nil
	}
	tcp := dns.Client{Net: "tcp", Timeout: 5 * time.Second}
	r, _, tcpErr := tcp.ExchangeContext(ctx, m, server)
	switch {
	case tcpErr == nil:
		return r, nil
	case err != nil:
		return nil, fmt.Errorf("dns: ask %s: %w; over tcp: %w", server, err, tcpErr)
	}
	return nil, fmt.Errorf("dns: ask %s over tcp: %w", server, tcpErr)
}

// presentation is the value of a record as provider.RecordSet has it.
func presentation(rr dns.RR) string {
	switch rr := rr.(type) {
	case *dns.A:
		return rr.A.String()
	case *dns.AAAA:
		return rr.AAAA.String()
	case *dns.CNAME:
		return strings.ToLower(rr.Target)
	case *dns.NS:
		return strings.ToLower(rr.Ns)
	case *dns.TXT:
		return unescape(strings.Join(rr.Txt, ""))
	}
	return strings.TrimSpace(strings.TrimPrefix(rr.String(), rr.Header().String()))
}

// unescape undoes the escapes of RFC 1035 section 5.1 (\X and \DDD), which the
// dns package leaves in the text of TXT records.
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
