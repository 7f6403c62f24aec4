package failover

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// WaitAuthoritative waits until every authoritative server of a name answers
// with exactly the values of want, in any order; none means that the name
// must have no records of that type. It never sleeps a fixed time: servers
// are asked in parallel, over UDP and then TCP, again after 0.25 s and then
// ever longer, up to 5 s, until ctx ends.
//
// servers are "host:port" or addresses; if there are none, [Nameservers]
// finds them with the resolver of this machine. The evidence has the last
// answer of each server, also with an error.
func WaitAuthoritative(ctx context.Context, name, typ string, want []string, servers ...string) (Evidence, error) {
	if len(servers) == 0 {
		var err error
		if servers, err = Nameservers(ctx, name); err != nil {
			return nil, err
		}
	}
	want = slices.Sorted(slices.Values(want))
	var (
		mu   sync.Mutex
		ev   = Evidence{}
		errs []error
		wg   sync.WaitGroup
	)
	for _, server := range servers {
		wg.Go(func() {
			text, err := waitOne(ctx, server, name, typ, want)
			mu.Lock()
			defer mu.Unlock()
			ev["ns "+server] = text
			if err != nil {
				errs = append(errs, err)
			}
		})
	}
	wg.Wait()
	return ev, errors.Join(errs...)
}

func waitOne(ctx context.Context, server, name, typ string, want []string) (string, error) {
	begun := time.Now()
	last := "no answer"
	for wait := 250 * time.Millisecond; ; wait = min(2*wait, 5*time.Second) {
		got, auth, err := lookup(ctx, server, name, typ)
		switch {
		case err != nil && ctx.Err() != nil:
			// Cut off by the end of ctx: the answer before says more.
		case err != nil:
			last = err.Error()
		case !auth:
			last = "not authoritative"
		default:
			last = strings.Join(got, " ")
			if slices.Equal(got, want) {
				return fmt.Sprintf("%s after %v", last, time.Since(begun).Round(time.Millisecond)), nil
			}
		}
		select {
		case <-ctx.Done():
			return last, fmt.Errorf("%s does not serve %s %s %q yet (%s): %w", server, name, typ, strings.Join(want, " "), last, context.Cause(ctx))
		case <-time.After(wait):
		}
	}
}

// Nameservers finds the authoritative servers of the zone that holds name,
// as "address:53", every address of each, with the resolver of this machine.
func Nameservers(ctx context.Context, name string) ([]string, error) {
	var servers []string
	for zone := dns.Fqdn(name); zone != "."; zone = parent(zone) {
		ns, err := net.DefaultResolver.LookupNS(ctx, zone)
		if e, ok := errors.AsType[*net.DNSError](err); ok && e.IsNotFound {
			continue // not the apex of a zone
		} else if err != nil {
			return nil, fmt.Errorf("name servers of %s: %w", zone, err)
		}
		for _, n := range ns {
			addrs, err := net.DefaultResolver.LookupHost(ctx, n.Host)
			if err != nil {
				return nil, fmt.Errorf("address of name server %s: %w", n.Host, err)
			}
			for _, a := range addrs {
				servers = append(servers, net.JoinHostPort(a, "53"))
			}
		}
		if len(servers) > 0 {
			return servers, nil
		}
	}
	return nil, fmt.Errorf("no name servers found for %s", name)
}

func parent(zone string) string {
	if i, end := dns.NextLabel(zone, 0); !end {
		return zone[i:]
	}
	return "."
}
