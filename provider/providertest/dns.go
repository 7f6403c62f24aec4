package providertest

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-go/holdfast/provider"
)

// DNSOptions say how [CheckDNS] and [TestDNSProvider] work.
type DNSOptions struct {
	// Zone is a domain name with the final dot, below which the check makes
	// names of its own ("holdfast-check-..."); required.
	Zone string

	// Second opens another handle to the same zone, as another process
	// would. Nil means the clauses about two clients use one handle.
	Second func() (provider.DNSProvider, error)

	// Settle is how long a change may take to be in sync; 0 means 2 minutes.
	Settle time.Duration

	// Only names the clauses to check by ID. Empty means all.
	Only []string
}

// TestDNSProvider tests the provider that open returns, one subtest per
// clause of the contract. It calls open once; the zone may hold other names.
// What the provider does not support is a skipped subtest.
func TestDNSProvider(t *testing.T, open func(t *testing.T) provider.DNSProvider, o DNSOptions) {
	t.Helper()
	dnsSuite(open(t), o).test(t)
}

// CheckDNS checks every clause of the contract against a live zone, with some
// three hundred swaps of names that it makes, and removes them. When ctx
// ends, the remaining clauses are skipped.
func CheckDNS(ctx context.Context, d provider.DNSProvider, o DNSOptions) Report {
	return dnsSuite(d, o).report(ctx)
}

type dnsClause = clauseOf[*dnsProbe]

func dnsSentence(id, text string, check func(context.Context, *dnsProbe) error) dnsClause {
	return dnsClause{Clause: Clause{"dns/" + id, text}, check: check}
}

func dnsSuite(d provider.DNSProvider, o DNSOptions) suite[*dnsProbe] {
	second, err := secondOf(d, o.Second)
	if !strings.HasSuffix(o.Zone, ".") {
		err = fmt.Errorf("DNSOptions.Zone: %q has no final dot", o.Zone)
	}
	base := ".holdfast-check-" + strings.ToLower(rand.Text()[:10]) + "." + o.Zone
	return suite[*dnsProbe]{
		contract: "DNSProvider", only: o.Only,
		clauses: slices.Concat(dnsGetClauses, dnsSwapClauses, dnsZoneClauses, dnsStatusClauses),
		broken:  err, options: Clause{"dns/options", "The options are complete."},
		probe: func(_ context.Context, id string) (*dnsProbe, func(context.Context) []string, error) {
			p := &dnsProbe{d: d, second: second, base: id[len("dns/"):] + base, settle: cmp.Or(o.Settle, 2*time.Minute)}
			return p, p.clean, nil
		},
	}
}

// A dnsProbe is what a clause works with: two handles, and names of its own.
type dnsProbe struct {
	d, second provider.DNSProvider
	base      string
	settle    time.Duration

	mu   sync.Mutex
	used map[[2]string]bool // name and type
}

// name is a name of the probe; x is one label or more.
func (p *dnsProbe) name(x string) string { return x + "." + p.base }

// set is a record set of the probe, whose name and type are removed at the
// end of the clause.
func (p *dnsProbe) set(x, typ string, ttl time.Duration, values ...string) *provider.RecordSet {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.used == nil {
		p.used = map[[2]string]bool{}
	}
	name := p.name(x)
	p.used[[2]string{name, typ}] = true
	return &provider.RecordSet{Name: name, Type: typ, TTL: ttl, Values: values}
}

// swap makes one change.
func (p *dnsProbe) swap(ctx context.Context, from, to *provider.RecordSet) error {
	_, err := p.d.Swap(ctx, provider.Change{Old: from, New: to})
	if err != nil {
		return fmt.Errorf("swap %s: %w", describeSet(cmp.Or(from, to)), err)
	}
	return nil
}

// have makes record sets, one after the other.
func (p *dnsProbe) have(ctx context.Context, sets ...*provider.RecordSet) error {
	for _, rs := range sets {
		if err := p.swap(ctx, nil, rs); err != nil {
			return err
		}
	}
	return nil
}

// holds checks that both handles find exactly these record sets.
func (p *dnsProbe) holds(ctx context.Context, sets ...*provider.RecordSet) error {
	for _, d := range []provider.DNSProvider{p.d, p.second} {
		for _, rs := range sets {
			got, err := d.Get(ctx, rs.Name, rs.Type)
			if err != nil {
				return fmt.Errorf("get %s %s: %w", rs.Name, rs.Type, err)
			}
			if describeSet(&got) != describeSet(rs) {
				return fmt.Errorf("get: %s, want %s", describeSet(&got), describeSet(rs))
			}
		}
	}
	return nil
}

// lacks checks that both handles find nothing under the names and types of
// these record sets.
func (p *dnsProbe) lacks(ctx context.Context, sets ...*provider.RecordSet) error {
	for _, d := range []provider.DNSProvider{p.d, p.second} {
		for _, rs := range sets {
			got, err := d.Get(ctx, rs.Name, rs.Type)
			if err := want(err, provider.ErrNotFound); err != nil {
				return fmt.Errorf("get %s %s, where nothing may be (found %q): %w", rs.Name, rs.Type, got.Values, err)
			}
		}
	}
	return nil
}

// clean removes every record set, also after ctx has ended, and returns those
// it could not.
func (p *dnsProbe) clean(ctx context.Context) (left []string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	for k := range p.used {
		rs, err := p.d.Get(ctx, k[0], k[1])
		if err == nil {
			_, err = p.d.Swap(ctx, provider.Change{Old: &rs})
		}
		if err != nil && !errors.Is(err, provider.ErrNotFound) && !errors.Is(err, errors.ErrUnsupported) {
			left = append(left, k[0]+" "+k[1])
		}
	}
	slices.Sort(left)
	return left
}

func describeSet(rs *provider.RecordSet) string {
	return fmt.Sprintf("%s %v %s %q", rs.Name, rs.TTL, rs.Type, rs.Values)
}
