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
	c, err := newDNSCheck(open(t), o)
	if err != nil {
		t.Fatal(err)
	}
	for _, cl := range c.clauses() {
		t.Run(cl.ID, func(t *testing.T) {
			switch r, left := c.run(t.Context(), cl); {
			case r.Outcome == Fail:
				t.Errorf("%s\n%v", r.Sentence, r.Err)
			case r.Outcome != Pass:
				t.Skipf("%s: %v", r.Outcome, r.Err)
			case len(left) > 0:
				t.Errorf("could not remove %q", left)
			}
		})
	}
}

// CheckDNS checks every clause of the contract against a live zone, with some
// three hundred swaps of names that it makes, and removes them. When ctx
// ends, the remaining clauses are skipped.
func CheckDNS(ctx context.Context, d provider.DNSProvider, o DNSOptions) Report {
	report := Report{Contract: "DNSProvider"}
	c, err := newDNSCheck(d, o)
	if err != nil {
		report.Results = []Result{{Clause{"dns/options", "The options are complete."}, Fail, err}}
		return report
	}
	for _, cl := range c.clauses() {
		r, left := c.run(ctx, cl)
		report.Results = append(report.Results, r)
		report.Left = append(report.Left, left...)
	}
	return report
}

type dnsClause struct {
	Clause
	check func(context.Context, *dnsProbe) error
}

func dnsSentence(id, text string, check func(context.Context, *dnsProbe) error) dnsClause {
	return dnsClause{Clause{"dns/" + id, text}, check}
}

type dnsCheck struct {
	d, second provider.DNSProvider
	base      string // below which the names are
	settle    time.Duration
	only      []string
}

func newDNSCheck(d provider.DNSProvider, o DNSOptions) (*dnsCheck, error) {
	if !strings.HasSuffix(o.Zone, ".") {
		return nil, fmt.Errorf("DNSOptions.Zone: %q has no final dot", o.Zone)
	}
	c := &dnsCheck{d: d, second: d, settle: cmp.Or(o.Settle, 2*time.Minute), only: o.Only}
	c.base = "holdfast-check-" + strings.ToLower(rand.Text()[:10]) + "." + o.Zone
	if o.Second != nil {
		var err error
		if c.second, err = o.Second(); err != nil {
			return nil, fmt.Errorf("open second handle: %w", err)
		}
	}
	return c, nil
}

func (c *dnsCheck) clauses() []dnsClause {
	return slices.DeleteFunc(slices.Concat(dnsGetClauses, dnsSwapClauses, dnsZoneClauses, dnsStatusClauses), func(cl dnsClause) bool {
		return len(c.only) > 0 && !slices.Contains(c.only, cl.ID)
	})
}

// run checks one clause with names of its own, and returns those of the names
// that could not be removed afterwards.
func (c *dnsCheck) run(ctx context.Context, cl dnsClause) (Result, []string) {
	r := Result{Clause: cl.Clause}
	if ctx.Err() != nil {
		r.Outcome, r.Err = Skipped, ctx.Err()
		return r, nil
	}
	p := &dnsProbe{d: c.d, second: c.second, base: cl.ID[len("dns/"):] + "." + c.base, settle: c.settle}
	r.Err = cl.check(ctx, p)
	_, unsupported := errors.AsType[*unsupportedError](r.Err)
	switch {
	case r.Err == nil:
		r.Outcome = Pass
	case ctx.Err() != nil:
		r.Outcome = Skipped
	case unsupported:
		r.Outcome = Unsupported
	default:
		r.Outcome = Fail
	}
	return r, p.clean(ctx)
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
