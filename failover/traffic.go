package failover

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/holdfast-go/holdfast/provider"
)

// ErrForeign: the record set, or its owner mark, was written by somebody
// else. Nothing was changed.
var ErrForeign = errors.New("record set belongs to somebody else")

// TrafficConfig is what [NewTraffic] needs.
type TrafficConfig struct {
	DNS   provider.DNSProvider
	Owner string // of the record, [a-z0-9-]: one name for all that may switch it; required
	Name  string // absolute, lower case, with the final dot; required
	Type  string // "A", "AAAA" or "CNAME"; empty means "A"
	TTL   time.Duration
	Sites map[string][]string // the values of each site, by its name in plans

	// Servers are the authoritative servers to ask, "host:port"; empty
	// means that they are looked up. See [WaitAuthoritative].
	Servers []string

	// AllowNotAtomic lets DNS be without compare-and-swap
	// (provider.NotAtomic). A process that was deposed while it wrote can then
	// move the name back, and nothing finds out; [Arm] asks for it, too.
	AllowNotAtomic bool
}

// Traffic is the action of a traffic step that changes a DNS record set by
// compare-and-swap. Beside it, at _holdfast.<name>, it keeps a TXT record
// that says who owns the name, which site is active, and since which epoch:
//
//	v=1 owner=shop epoch=17 active=eu-west plan=sha256:4f1c...
//
// A smaller epoch than the one there is refused, and so is a record set that
// holds the values of neither site. Where the provider is zone-atomic both
// change in one swap; elsewhere the TXT first, which claims the epoch, and
// each is read back. The step is done when every authoritative server serves
// the new values.
type Traffic struct{ c TrafficConfig }

var _ Action = (*Traffic)(nil)

// NewTraffic checks the config.
func NewTraffic(c TrafficConfig) (*Traffic, error) {
	var errs []error
	bad := func(format string, a ...any) { errs = append(errs, fmt.Errorf("traffic config: "+format, a...)) }
	if c.DNS == nil {
		bad("DNS is required")
	} else if c.DNS.Atomicity() == provider.NotAtomic && !c.AllowNotAtomic {
		bad("DNS has no compare-and-swap (atomicity %q): two orchestrators could overwrite each other unseen; set AllowNotAtomic to accept that", provider.NotAtomic)
	}
	if !validName(c.Owner) {
		bad("Owner %q: use a-z, 0-9 and -", c.Owner)
	}
	if !strings.HasSuffix(c.Name, ".") || c.Name != strings.ToLower(c.Name) || len(c.Name) < 2 {
		bad("Name %q: absolute, lower case, with the final dot", c.Name)
	}
	if c.Type == "" {
		c.Type = "A"
	}
	if !slices.Contains([]string{"A", "AAAA", "CNAME"}, c.Type) {
		bad("Type %q: A, AAAA or CNAME", c.Type)
	}
	if c.TTL == 0 {
		c.TTL = time.Minute
	}
	if c.TTL < time.Second || c.TTL%time.Second != 0 {
		bad("TTL %v: whole seconds", c.TTL)
	}
	if len(c.Sites) < 2 {
		bad("Sites: needs the values of at least two")
	}
	sites := map[string][]string{}
	for site, values := range c.Sites {
		if len(values) == 0 || !validName(site) {
			bad("Sites: %q has no values or no proper name", site)
		}
		for _, v := range values {
			canonical, err := canonicalValue(c.Type, v)
			if err != nil {
				bad("Sites: %s: %w", site, err)
			}
			sites[site] = append(sites[site], canonical)
		}
		slices.Sort(sites[site])
		sites[site] = slices.Compact(sites[site])
	}
	c.Sites = sites
	return &Traffic{c}, errors.Join(errs...)
}

// canonicalValue is a value in the form that provider.RecordSet asks for.
func canonicalValue(typ, v string) (string, error) {
	if typ == "CNAME" {
		if v == "" || strings.ContainsAny(v, " \t") {
			return "", fmt.Errorf("%q is no host name", v)
		}
		return strings.ToLower(strings.TrimSuffix(v, ".")) + ".", nil
	}
	a, err := netip.ParseAddr(v)
	if err != nil || a.Zone() != "" || a.Is4() != (typ == "A") {
		return "", fmt.Errorf("%q is no address for a record of type %s", v, typ)
	}
	return a.String(), nil
}

// mark is the content of the owner TXT.
type mark struct {
	owner, active, plan string
	epoch               uint64
}

func (m mark) String() string {
	return fmt.Sprintf("v=1 owner=%s epoch=%d active=%s plan=%s", m.owner, m.epoch, m.active, m.plan)
}

func parseMark(values []string) (mark, error) {
	if len(values) != 1 {
		return mark{}, fmt.Errorf("%w: %d TXT values", ErrForeign, len(values))
	}
	fields := map[string]string{}
	for f := range strings.FieldsSeq(values[0]) {
		k, v, ok := strings.Cut(f, "=")
		if _, twice := fields[k]; !ok || twice {
			return mark{}, fmt.Errorf("%w: TXT %q", ErrForeign, cut(values[0], 200))
		}
		fields[k] = v
	}
	epoch, err := strconv.ParseUint(fields["epoch"], 10, 64)
	if fields["v"] != "1" || err != nil || fields["owner"] == "" {
		return mark{}, fmt.Errorf("%w: TXT %q", ErrForeign, cut(values[0], 200))
	}
	return mark{owner: fields["owner"], active: fields["active"], plan: fields["plan"], epoch: epoch}, nil
}

func (t *Traffic) markName() string { return "_holdfast." + t.c.Name }

// present is what the provider holds now; a nil set is absent.
type present struct {
	set, txt *provider.RecordSet
	mark     mark
}

func (t *Traffic) read(ctx context.Context) (present, error) {
	var p present
	for _, q := range []struct {
		name, typ string
		to        **provider.RecordSet
	}{{t.c.Name, t.c.Type, &p.set}, {t.markName(), "TXT", &p.txt}} {
		rs, err := t.c.DNS.Get(ctx, q.name, q.typ)
		switch {
		case err == nil:
			*q.to = &rs
		case !errors.Is(err, provider.ErrNotFound):
			return p, fmt.Errorf("read %s %s: %w", q.name, q.typ, err)
		}
	}
	if p.txt != nil {
		var err error
		if p.mark, err = parseMark(p.txt.Values); err != nil {
			return p, fmt.Errorf("%s: %w", t.markName(), err)
		}
	}
	return p, nil
}

// shows reports whether the record set sends clients to site, and the mark
// says so.
func (t *Traffic) shows(p present, site string) bool {
	return p.set != nil && slices.Equal(p.set.Values, t.c.Sites[site]) &&
		p.txt != nil && p.mark.owner == t.c.Owner && p.mark.active == site
}

// Observe implements [Action]: the record set and the mark are as they should
// be, and every authoritative server serves the values.
func (t *Traffic) Observe(ctx context.Context, c Call) (Observation, error) {
	p, err := t.read(ctx)
	if err != nil {
		return Observation{}, err
	}
	ev := p.evidence()
	if !t.shows(p, c.To) {
		return Observation{Evidence: ev}, nil
	}
	once, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	served, err := t.wait(once, c.To)
	return Observation{Done: err == nil, Evidence: merged(ev, served)}, nil
}

// Do implements [Action].
func (t *Traffic) Do(ctx context.Context, c Call) (Evidence, error) { return t.switchTo(ctx, c, c.To) }

// Undo implements [Action]. If clients were never sent to To, it changes
// nothing.
func (t *Traffic) Undo(ctx context.Context, c Call) (Evidence, error) {
	p, err := t.read(ctx)
	if err == nil && p.set != nil && slices.Equal(p.set.Values, t.c.Sites[c.From]) && (p.txt == nil || p.mark.active == c.From) {
		return p.evidence(), nil
	}
	return t.switchTo(ctx, c, c.From)
}

func (t *Traffic) switchTo(ctx context.Context, c Call, site string) (Evidence, error) {
	want := t.c.Sites[site]
	if want == nil {
		return nil, fmt.Errorf("traffic: Sites has no %q: %w", site, ErrNoEffect)
	}
	before, err := t.read(ctx)
	if err == nil {
		err = t.allowed(before, c)
	}
	if err != nil {
		return before.evidence(), fmt.Errorf("traffic: %w: %w", err, ErrNoEffect)
	}
	ev := before.evidence()
	if !t.shows(before, site) {
		if err := t.swap(ctx, before, c, site); err != nil {
			return ev, fmt.Errorf("traffic to %s: %w", site, err)
		}
	}
	ev["after"] = strings.Join(want, " ")
	served, err := t.wait(ctx, site)
	return merged(ev, served), err
}

// allowed holds the guards: owner, epoch, and values of one of the two sites.
func (t *Traffic) allowed(p present, c Call) error {
	switch {
	case p.txt != nil && p.mark.owner != t.c.Owner:
		return fmt.Errorf("%w: %s, not %s", ErrForeign, p.mark.owner, t.c.Owner)
	case p.mark.epoch > c.Epoch:
		return fmt.Errorf("%w: %s has epoch %d, this process %d", ErrDeposed, t.markName(), p.mark.epoch, c.Epoch)
	case p.set != nil && !slices.Equal(p.set.Values, t.c.Sites[c.From]) && !slices.Equal(p.set.Values, t.c.Sites[c.To]):
		return fmt.Errorf("%w: %s is %q, the values of neither site", ErrForeign, t.c.Name, strings.Join(p.set.Values, " "))
	}
	return nil
}

// swap changes both record sets and reads back what it cannot be sure of.
func (t *Traffic) swap(ctx context.Context, p present, c Call, site string) error {
	m := mark{owner: t.c.Owner, epoch: c.Epoch, active: site, plan: c.Plan}
	set := provider.RecordSet{Name: t.c.Name, Type: t.c.Type, TTL: t.c.TTL, Values: t.c.Sites[site]}
	txt := provider.RecordSet{Name: t.markName(), Type: "TXT", TTL: t.c.TTL, Values: []string{m.String()}}
	changes := []provider.Change{{Old: p.txt, New: &txt}, {Old: p.set, New: &set}}
	if t.c.DNS.Atomicity() == provider.ZoneAtomic {
		return t.swapOne(ctx, changes...)
	}
	for _, ch := range changes {
		if err := t.swapOne(ctx, ch); err != nil {
			return err
		}
	}
	return nil
}

// swapOne swaps, and resolves any error by reading: the reply may have been
// lost after the change was made.
func (t *Traffic) swapOne(ctx context.Context, changes ...provider.Change) error {
	_, err := t.c.DNS.Swap(ctx, changes...)
	if err == nil {
		return nil
	}
	for _, ch := range changes {
		got, readErr := t.c.DNS.Get(ctx, ch.New.Name, ch.New.Type)
		if readErr != nil {
			return errors.Join(err, readErr)
		}
		if got.TTL != ch.New.TTL || !slices.Equal(got.Values, ch.New.Values) {
			return err
		}
	}
	return nil
}

func (t *Traffic) wait(ctx context.Context, site string) (Evidence, error) {
	return WaitAuthoritative(ctx, t.c.Name, t.c.Type, t.c.Sites[site], t.c.Servers...)
}

func (p present) evidence() Evidence {
	ev := Evidence{"before": "absent", "mark": "absent"}
	if p.set != nil {
		ev["before"] = strings.Join(p.set.Values, " ")
	}
	if p.txt != nil {
		ev["mark"] = p.mark.String()
	}
	return ev
}
