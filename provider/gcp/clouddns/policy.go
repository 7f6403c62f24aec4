package clouddns

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"google.golang.org/api/dns/v1"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/gcp/internal/conn"
	"github.com/holdfast-go/holdfast/provider/internal/dnsrecord"
	"github.com/holdfast-go/holdfast/provider/internal/remote/traffic"
)

// PolicyConfig says which failover routing policy [Zones.Policy] is to switch.
type PolicyConfig struct {
	Name    string // of the record set that has it, absolute, lower case, with the final dot; required
	Type    string // "A" or "AAAA"; empty means "A"
	Primary string // what the site of the primary targets is called; required
	Backup  string // what the site of the backup targets is called; required
}

// Policy is the failover routing policy of a record set as a
// [provider.TrafficSwitch] of two sites. It is safe for concurrent use.
//
// Its trickle, the part of the traffic that goes to the backup while the
// primary is well, is the switch: 0 opens the primary site, 1 the backup, and a
// half both. Both closed is [provider.ErrRefused], and any other trickle no state.
// Health checks go on: a backup that is closed has traffic all the same while
// no primary target is well.
//
// A Switch is one Change, with the exact old content of the record set and of
// the TXT record at _holdfast.<name> that holds the mark: Cloud DNS compares
// ([provider.TrafficTraits].Compared), and changes both or neither. It takes
// Changes by its control plane, while queries are answered from everywhere.
type Policy struct {
	zones   *Zones
	c       PolicyConfig
	service *traffic.Service
}

var _ provider.TrafficSwitch = (*Policy)(nil)

// Policy returns the switch of a routing policy in one of the zones. It asks
// the service nothing.
func (z *Zones) Policy(c PolicyConfig) (*Policy, error) {
	var errs []error
	fault := func(field, format string, args ...any) {
		errs = append(errs, fmt.Errorf("clouddns: PolicyConfig.%s: %s", field, fmt.Sprintf(format, args...)))
	}
	if c.Type == "" {
		c.Type = "A"
	}
	if err := rules.CheckName(c.Name); err != nil {
		fault("Name", "%v", err)
	}
	if c.Type != "A" && c.Type != "AAAA" {
		fault("Type", "%q, want A or AAAA", c.Type)
	}
	sites := traffic.CheckSites([]string{c.Primary, c.Backup}, func(format string, args ...any) { fault("Primary and Backup", format, args...) })
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	where := z.c.Endpoint
	if where == "" {
		where = "https://dns.googleapis.com"
	}
	p := &Policy{zones: z, c: c}
	p.service = &traffic.Service{
		Name: "clouddns", Key: c.Name + " " + c.Type,
		Traits: provider.TrafficTraits{Sites: sites, Compared: true, Marked: true, Endpoints: []provider.TrafficEndpoint{{URL: where}}},
		Read:   p.read, Write: p.write, Meaning: conn.Permission, Writes: 2 * refusals,
	}
	return p, nil
}

// State implements [provider.TrafficSwitch].
func (p *Policy) State(ctx context.Context) (provider.TrafficState, error) {
	return p.service.State(ctx)
}

// Switch implements [provider.TrafficSwitch].
func (p *Policy) Switch(ctx context.Context, from, to provider.TrafficState) error {
	return p.service.Switch(ctx, from, to)
}

// Traits implements [provider.TrafficSwitch].
func (p *Policy) Traits() provider.TrafficTraits { return traffic.Clone(p.service.Traits) }

// heldPolicy is what a zone holds of a switch.
type heldPolicy struct {
	in    zone
	set   *dns.ResourceRecordSet // with the policy
	txt   *dns.ResourceRecordSet // nil: there is none
	state provider.TrafficState
}

func (p *Policy) read(ctx context.Context) (provider.TrafficState, error) {
	held, err := p.held(ctx)
	return held.state, err
}

func (p *Policy) markName() string { return "_holdfast." + p.c.Name }

func (p *Policy) held(ctx context.Context) (h heldPolicy, err error) {
	if h.in, err = p.zones.zoneOf(ctx, p.c.Name); err != nil {
		return h, err
	}
	own, err := p.zones.read(ctx, h.in, p.c.Name)
	if err != nil {
		return h, err
	}
	for _, rs := range own.all {
		if rs.Type == p.c.Type {
			h.set = rs
		}
	}
	if h.set == nil || h.set.RoutingPolicy == nil || h.set.RoutingPolicy.PrimaryBackup == nil {
		return h, fmt.Errorf("%s %s has no failover routing policy", p.c.Name, p.c.Type)
	}
	marks, err := p.zones.read(ctx, h.in, p.markName())
	if err != nil {
		return h, err
	}
	if err := p.zones.uncut(ctx, h.in, map[string]sets{p.c.Name: own, p.markName(): marks}); err != nil {
		return h, err
	}
	if h.txt, err = marks.simple("TXT"); err != nil {
		return h, err
	}
	switch trickle := h.set.RoutingPolicy.PrimaryBackup.TrickleTraffic; trickle {
	case 0:
		h.state.Sites = []string{p.c.Primary}
	case 1:
		h.state.Sites = []string{p.c.Backup}
	case 0.5:
		h.state.Sites = p.Traits().Sites
	default:
		return h, fmt.Errorf("%s %s has a trickle of %v: neither 0 nor 1 nor a half", p.c.Name, p.c.Type, trickle)
	}
	if h.txt != nil {
		h.state.Mark, err = parseMark(h.txt)
	}
	return h, err
}

func markText(m provider.TrafficMark) string {
	return fmt.Sprintf("v=1 owner=%s epoch=%d", m.Owner, m.Epoch)
}

func parseMark(txt *dns.ResourceRecordSet) (provider.TrafficMark, error) {
	rs, err := recordSet(txt)
	if err != nil {
		return provider.TrafficMark{}, err
	}
	text := strings.Join(rs.Values, "\n")
	owner, epoch, _ := strings.Cut(strings.TrimPrefix(text, "v=1 owner="), " epoch=")
	n, err := strconv.ParseUint(epoch, 10, 64)
	m := provider.TrafficMark{Owner: owner, Epoch: n}
	if err != nil || !traffic.ValidOwner(owner) || text != markText(m) {
		return m, fmt.Errorf("%s TXT is %q, which is no mark of a switch", rs.Name, text)
	}
	return m, nil
}

// trickle is the one that opens sites.
func (p *Policy) trickle(to provider.TrafficState) float64 {
	switch {
	case len(to.Sites) == 2:
		return 0.5
	case to.Sites[0] == p.c.Backup:
		return 1
	}
	return 0
}

// change is the Change that makes the state to of what is held.
func (p *Policy) change(h heldPolicy, to provider.TrafficState) (*dns.Change, error) {
	before, err := bare(h.set)
	if err != nil {
		return nil, err
	}
	after, err := bare(h.set)
	if err != nil {
		return nil, err
	}
	after.RoutingPolicy.PrimaryBackup.TrickleTraffic = p.trickle(to)
	batch := &dns.Change{Deletions: []*dns.ResourceRecordSet{before}, Additions: []*dns.ResourceRecordSet{after}}
	if h.txt != nil {
		batch.Deletions = append(batch.Deletions, exact(h.txt))
	}
	if to.Mark != (provider.TrafficMark{}) {
		batch.Additions = append(batch.Additions, &dns.ResourceRecordSet{
			Name: p.markName(), Type: "TXT", Ttl: 60, Rrdatas: []string{dnsrecord.Quote(markText(to.Mark))},
		})
	}
	return batch, nil
}

// bare is a copy of a record set without what the service adds to it at all
// levels: see exact.
func bare(rs *dns.ResourceRecordSet) (*dns.ResourceRecordSet, error) {
	b, err := json.Marshal(rs)
	var doc any
	if err == nil {
		err = json.Unmarshal(b, &doc)
	}
	if err == nil {
		b, err = json.Marshal(without(doc, "kind", "signatureRrdatas"))
	}
	out := &dns.ResourceRecordSet{}
	if err == nil {
		err = json.Unmarshal(b, out)
	}
	out.ForceSendFields = []string{"Ttl"} // 0 is one, too
	return out, err
}

// without removes fields from a document.
func without(v any, fields ...string) any {
	switch v := v.(type) {
	case map[string]any:
		for _, f := range fields {
			delete(v, f)
		}
		for _, inner := range v {
			without(inner, fields...)
		}
	case []any:
		for _, inner := range v {
			without(inner, fields...)
		}
	}
	return v
}

func (p *Policy) write(ctx context.Context, from, to provider.TrafficState) (traffic.Outcome, error) {
	if len(to.Sites) == 0 {
		return traffic.Failed, fmt.Errorf("a failover policy has no trickle that closes both sites: %w", provider.ErrRefused)
	}
	h, err := p.held(ctx)
	switch {
	case err != nil:
		return traffic.Failed, err
	case !traffic.Equal(h.state, from): // the caller looks again
		return traffic.Busy, errors.New("the record set is being changed by others")
	}
	batch, err := p.change(h, to)
	if err != nil {
		return traffic.Failed, err
	}
	var tries conn.Attempts
	_, err = conn.Do(ctx, p.zones.service, &tries, func(ctx context.Context) (*dns.Change, error) {
		return p.zones.client.Changes.Create(p.zones.c.Project, h.in.id, batch).Context(ctx).Do()
	})
	switch {
	case err == nil:
		return traffic.Done, nil
	case tries.Unanswered:
		return traffic.Lost, err
	case refused(err):
		return traffic.Refused, err
	}
	return traffic.Failed, err
}
