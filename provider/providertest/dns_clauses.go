package providertest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/holdfast-go/holdfast/provider"
)

var dnsGetClauses = []dnsClause{
	dnsSentence("get", "Get returns the record set that was swapped in: name, type, TTL, values in ascending order.", dnsGet),
	dnsSentence("get-types", "A, AAAA, CNAME and TXT come back as they were given, and other types of the name apart from them.", dnsGetTypes),
	dnsSentence("get-more-types", "MX and SRV come back as they were given and can be swapped by that, or are errors.ErrUnsupported.", dnsMoreTypes),
	dnsSentence("get-canonical", "Values that are not in canonical form are refused, or come back in it.", dnsCanonical),
	dnsSentence("get-text", "The text of a TXT record may hold quotes, backslashes and semicolons and be of any length.", dnsGetText),
	dnsSentence("get-missing", "A name without records of that type is ErrNotFound, which matches fs.ErrNotExist.", dnsGetMissing),
	dnsSentence("get-fresh", "Get sees every Swap that has returned, through any handle.", dnsGetFresh),
	dnsSentence("outside", "A name outside of the provider's zones is an error, and never ErrNotFound.", dnsOutside),
	dnsSentence("error-type", "Errors are *provider.Error with Op, Provider and Key.", dnsErrorType),
	dnsSentence("context", "A call whose ctx has ended changes nothing and fails with an error that matches ctx.Err().", dnsContext),
}

var dnsSwapClauses = []dnsClause{
	dnsSentence("create", "With Old nil a record set is made only where there is none; else ErrConflict.", dnsCreate),
	dnsSentence("replace", "A record set is replaced if the zone holds exactly Old; TTL and values can change together or alone.", dnsReplace),
	dnsSentence("remove", "With New nil the record set is removed.", dnsRemove),
	dnsSentence("old-values", "If the values are not exactly those of Old, nothing changes and the error is ErrConflict.", dnsOldValues),
	dnsSentence("old-ttl", "If the TTL is not that of Old, nothing changes and the error is ErrConflict.", dnsOldTTL),
	dnsSentence("old-gone", "If Old is not there at all, nothing changes and the error is ErrConflict.", dnsOldGone),
	dnsSentence("same", "Old and New alike change nothing if the zone holds that, and are ErrConflict if it does not.", dnsSame),
	dnsSentence("others", "No other record set changes, of the same name or of another.", dnsOthers),
	dnsSentence("malformed", "Changes that are not well formed are an error before anything is changed.", dnsMalformed),
	dnsSentence("forbidden", "What DNS forbids, a CNAME beside other records, is an error before anything is changed.", dnsForbidden),
	dnsSentence("create-race", "Racing creations of one record set have exactly one winner, unless Atomicity is NotAtomic.", dnsCreateRace),
	dnsSentence("replace-race", "Racing swaps from one state have exactly one winner, unless Atomicity is NotAtomic.", dnsReplaceRace),
	dnsSentence("ttl-race", "Racing swaps that change nothing but the TTL have exactly one winner too.", dnsTTLRace),
	dnsSentence("independent", "Swaps of different record sets at the same time do not disturb each other.", dnsIndependent),
}

func dnsGet(ctx context.Context, p *dnsProbe) error {
	rs := p.set("x", "A", 90*time.Second, "192.0.2.10", "192.0.2.2", "192.0.2.3")
	if err := p.have(ctx, rs); err != nil {
		return err
	}
	return p.holds(ctx, rs)
}

func dnsGetTypes(ctx context.Context, p *dnsProbe) error {
	sets := []*provider.RecordSet{
		p.set("x", "A", 60*time.Second, "192.0.2.1"),
		p.set("x", "AAAA", 120*time.Second, "2001:db8::1", "2001:db8::2"),
		p.set("x", "TXT", 180*time.Second, "one", "two"),
		p.set("y", "CNAME", 60*time.Second, "target.example."),
	}
	if err := p.have(ctx, sets...); err != nil {
		return err
	}
	return p.holds(ctx, sets...)
}

func dnsMoreTypes(ctx context.Context, p *dnsProbe) error {
	unsupported := 0
	sets := []*provider.RecordSet{
		p.set("x", "MX", time.Minute, "10 mail.example.", "20 mail2.example."),
		p.set("_sip._tcp.x", "SRV", time.Minute, "0 5 5060 host.example."),
	}
	for _, rs := range sets {
		err := p.have(ctx, rs)
		if errors.Is(err, errors.ErrUnsupported) {
			unsupported++
			if _, err := p.d.Get(ctx, rs.Name, rs.Type); want(err, errors.ErrUnsupported) != nil {
				return fmt.Errorf("get %s, which swap says is not supported: %w", rs.Type, want(err, errors.ErrUnsupported))
			}
			continue
		}
		if err := errors.Join(err, p.holds(ctx, rs)); err != nil {
			return err
		}
		got, err := p.d.Get(ctx, rs.Name, rs.Type)
		if err != nil {
			return err
		}
		if err := errors.Join(p.swap(ctx, &got, nil), p.lacks(ctx, rs)); err != nil {
			return err
		}
	}
	if unsupported == len(sets) {
		return &unsupportedError{fmt.Errorf("types MX and SRV: %w", errors.ErrUnsupported)}
	}
	return nil
}

func dnsCanonical(ctx context.Context, p *dnsProbe) error {
	for typ, spellings := range map[string][2]string{
		"AAAA":  {"2001:DB8:0:0::1", "2001:db8::1"},
		"CNAME": {"Target.Example.", "target.example."},
	} {
		x := strings.ToLower(typ)
		err := p.swap(ctx, nil, p.set(x, typ, time.Minute, spellings[0]))
		switch {
		case errors.Is(err, provider.ErrConflict):
			return err
		case err != nil:
			if err := p.lacks(ctx, p.set(x, typ, 0)); err != nil {
				return err
			}
		default:
			if err := p.holds(ctx, p.set(x, typ, time.Minute, spellings[1])); err != nil {
				return err
			}
		}
	}
	return nil
}

func dnsGetText(ctx context.Context, p *dnsProbe) error {
	for i, text := range []string{
		"owner=a epoch=17", `with "quotes"`, `back\slash \065 \"`, "semi;colon", " spaces ", `"`, `\`, "a=b,c|d{e}~!@#$%^&*()",
		strings.Repeat("0123456789", 60), strings.Repeat(`"`, 255) + `\`,
	} {
		rs := p.set(fmt.Sprintf("x%d", i), "TXT", time.Minute, text)
		if err := p.have(ctx, rs); err != nil {
			return err
		}
		if err := p.holds(ctx, rs); err != nil {
			return err
		}
	}
	return nil
}

func dnsGetMissing(ctx context.Context, p *dnsProbe) error {
	if err := p.have(ctx, p.set("a.x", "A", time.Minute, "192.0.2.1")); err != nil {
		return err
	}
	for _, q := range []*provider.RecordSet{p.set("none", "A", 0), p.set("a.x", "TXT", 0), p.set("x", "A", 0)} {
		_, err := p.d.Get(ctx, q.Name, q.Type)
		if err := errors.Join(want(err, provider.ErrNotFound), want(err, fs.ErrNotExist)); err != nil {
			return fmt.Errorf("get %s %s: %w", q.Name, q.Type, err)
		}
	}
	return nil
}

func dnsGetFresh(ctx context.Context, p *dnsProbe) error {
	var last *provider.RecordSet
	if err := p.lacks(ctx, p.set("x", "A", 0)); err != nil {
		return err
	}
	for i := range 10 {
		next := p.set("x", "A", time.Minute, fmt.Sprintf("192.0.2.%d", i))
		if err := p.swap(ctx, last, next); err != nil {
			return err
		}
		if err := p.holds(ctx, next); err != nil {
			return err
		}
		last = next
	}
	return nil
}

func dnsOutside(ctx context.Context, p *dnsProbe) error {
	const name = "holdfast-check.invalid." // in nobody's zone (RFC 6761 section 6.4)
	_, err := p.d.Get(ctx, name, "A")
	if err == nil || errors.Is(err, provider.ErrNotFound) {
		return fmt.Errorf("get: %v", err)
	}
	rs := &provider.RecordSet{Name: name, Type: "A", TTL: time.Minute, Values: []string{"192.0.2.1"}}
	if err := p.swap(ctx, nil, rs); err == nil || errors.Is(err, provider.ErrNotFound) || errors.Is(err, provider.ErrConflict) {
		return fmt.Errorf("create: %v", err)
	}
	if err := p.swap(ctx, rs, nil); err == nil || errors.Is(err, provider.ErrNotFound) {
		return fmt.Errorf("remove: %v", err)
	}
	return nil
}

func dnsErrorType(ctx context.Context, p *dnsProbe) error {
	rs := p.set("x", "A", time.Minute, "192.0.2.1")
	_, getErr := p.d.Get(ctx, rs.Name, rs.Type)
	_, swapErr := p.d.Swap(ctx, provider.Change{Old: rs})
	_, statusErr := p.d.Status(ctx, "no change has this name")
	for _, err := range []error{getErr, swapErr, statusErr} {
		pe, ok := errors.AsType[*provider.Error](err)
		if !ok {
			return fmt.Errorf("%T (%v) has no *provider.Error in it", err, err)
		}
		if pe.Op == "" || pe.Provider == "" || pe.Key == "" {
			return fmt.Errorf("%#v lacks Op, Provider or Key", pe)
		}
	}
	return nil
}

func dnsContext(ctx context.Context, p *dnsProbe) error {
	ended, cancel := context.WithCancel(ctx)
	cancel()
	rs := p.set("x", "A", time.Minute, "192.0.2.1")
	_, getErr := p.d.Get(ended, rs.Name, rs.Type)
	_, statusErr := p.d.Status(ended, "no change has this name")
	for _, err := range []error{getErr, p.swap(ended, nil, rs)} {
		if err := want(err, context.Canceled); err != nil {
			return err
		}
	}
	if err := want(statusErr, context.Canceled, provider.ErrNotFound); err != nil {
		return err
	}
	return p.lacks(ctx, rs)
}

// refused checks that a swap is ErrConflict.
func (p *dnsProbe) refused(ctx context.Context, from, to *provider.RecordSet) error {
	_, err := p.d.Swap(ctx, provider.Change{Old: from, New: to})
	if err := want(err, provider.ErrConflict); err != nil {
		return fmt.Errorf("swap with a wrong Old: %w", err)
	}
	return nil
}

func dnsCreate(ctx context.Context, p *dnsProbe) error {
	rs := p.set("x", "A", time.Minute, "192.0.2.1")
	if err := p.have(ctx, rs); err != nil {
		return err
	}
	if err := p.refused(ctx, nil, p.set("x", "A", time.Minute, "192.0.2.2")); err != nil {
		return err
	}
	if err := p.refused(ctx, nil, rs); err != nil { // the same one again is no success either
		return err
	}
	return p.holds(ctx, rs)
}

func dnsReplace(ctx context.Context, p *dnsProbe) error {
	states := []*provider.RecordSet{
		p.set("x", "A", time.Minute, "192.0.2.1"),
		p.set("x", "A", 2*time.Minute, "192.0.2.2", "192.0.2.3"),
		p.set("x", "A", 3*time.Minute, "192.0.2.2", "192.0.2.3"),
		p.set("x", "A", 3*time.Minute, "192.0.2.3"),
	}
	var last *provider.RecordSet
	for _, next := range states {
		if err := p.swap(ctx, last, next); err != nil {
			return err
		}
		if err := p.holds(ctx, next); err != nil {
			return err
		}
		last = next
	}
	return nil
}

func dnsRemove(ctx context.Context, p *dnsProbe) error {
	rs := p.set("x", "A", time.Minute, "192.0.2.1", "192.0.2.2")
	for range 2 { // what was removed can be made again
		if err := p.have(ctx, rs); err != nil {
			return err
		}
		if err := p.swap(ctx, rs, nil); err != nil {
			return err
		}
		if err := p.lacks(ctx, rs); err != nil {
			return err
		}
	}
	return nil
}

func dnsOldValues(ctx context.Context, p *dnsProbe) error {
	rs := p.set("x", "A", time.Minute, "192.0.2.1", "192.0.2.2")
	if err := p.have(ctx, rs); err != nil {
		return err
	}
	for _, values := range [][]string{{"192.0.2.1"}, {"192.0.2.1", "192.0.2.3"}, {"192.0.2.1", "192.0.2.2", "192.0.2.3"}} {
		for _, to := range []*provider.RecordSet{p.set("x", "A", time.Minute, "192.0.2.9"), nil} {
			if err := p.refused(ctx, p.set("x", "A", time.Minute, values...), to); err != nil {
				return err
			}
			if err := p.holds(ctx, rs); err != nil {
				return err
			}
		}
	}
	return nil
}

func dnsOldTTL(ctx context.Context, p *dnsProbe) error {
	rs := p.set("x", "A", time.Minute, "192.0.2.1")
	if err := p.have(ctx, rs); err != nil {
		return err
	}
	wrong := p.set("x", "A", 61*time.Second, "192.0.2.1")
	for _, to := range []*provider.RecordSet{p.set("x", "A", time.Minute, "192.0.2.9"), wrong, nil} {
		if err := p.refused(ctx, wrong, to); err != nil {
			return err
		}
		if err := p.holds(ctx, rs); err != nil {
			return err
		}
	}
	return nil
}

func dnsOldGone(ctx context.Context, p *dnsProbe) error {
	rs := p.set("x", "A", time.Minute, "192.0.2.1")
	for _, to := range []*provider.RecordSet{p.set("x", "A", time.Minute, "192.0.2.9"), rs, nil} {
		if err := p.refused(ctx, rs, to); err != nil {
			return err
		}
		if err := p.lacks(ctx, rs); err != nil {
			return err
		}
	}
	return nil
}

func dnsSame(ctx context.Context, p *dnsProbe) error {
	rs := p.set("x", "A", time.Minute, "192.0.2.1")
	if err := p.have(ctx, rs); err != nil {
		return err
	}
	ref, err := p.d.Swap(ctx, provider.Change{Old: rs, New: rs})
	if err != nil {
		return err
	}
	if err := p.settled(ctx, ref); err != nil {
		return err
	}
	wrong := p.set("x", "A", time.Minute, "192.0.2.2")
	if err := p.refused(ctx, wrong, wrong); err != nil {
		return err
	}
	return p.holds(ctx, rs)
}

func dnsOthers(ctx context.Context, p *dnsProbe) error {
	rs := p.set("x", "A", time.Minute, "192.0.2.1")
	others := []*provider.RecordSet{
		p.set("x", "AAAA", time.Minute, "2001:db8::1"), p.set("x", "TXT", 2*time.Minute, "text"),
		p.set("y", "A", time.Minute, "192.0.2.1"), p.set("a.x", "A", time.Minute, "192.0.2.1"), p.set("xx", "A", time.Minute, "192.0.2.1"),
	}
	if err := p.have(ctx, append(others, rs)...); err != nil {
		return err
	}
	next := p.set("x", "A", 3*time.Minute, "192.0.2.2")
	for _, step := range [][2]*provider.RecordSet{{rs, next}, {next, nil}, {nil, rs}} {
		if err := p.swap(ctx, step[0], step[1]); err != nil {
			return err
		}
		if err := p.holds(ctx, others...); err != nil {
			return err
		}
	}
	return nil
}

func dnsMalformed(ctx context.Context, p *dnsProbe) error {
	rs := p.set("x", "A", time.Minute, "192.0.2.1")
	if err := p.have(ctx, rs); err != nil {
		return err
	}
	next := func(change func(*provider.RecordSet)) []provider.Change {
		to := p.set("x", "A", time.Minute, "192.0.2.9")
		change(to)
		return []provider.Change{{Old: rs, New: to}}
	}
	to := p.set("x", "A", time.Minute, "192.0.2.9")
	for what, changes := range map[string][]provider.Change{
		"no changes":              {},
		"neither Old nor New":     {{}},
		"a good one and an empty": {{Old: rs, New: to}, {}},
		"another name in New":     {{Old: rs, New: p.set("y", "A", time.Minute, "192.0.2.9")}},
		"another type in New":     {{Old: rs, New: p.set("x", "TXT", time.Minute, "text")}},
		"no values":               next(func(rs *provider.RecordSet) { rs.Values = nil }),
		"not an address":          next(func(rs *provider.RecordSet) { rs.Values = []string{"192.0.2.999"} }),
		"a value twice":           next(func(rs *provider.RecordSet) { rs.Values = []string{"192.0.2.9", "192.0.2.9"} }),
		"half a second":           next(func(rs *provider.RecordSet) { rs.TTL += time.Second / 2 }),
		"a negative TTL":          next(func(rs *provider.RecordSet) { rs.TTL = -time.Second }),
		"a name in capitals": {{New: func() *provider.RecordSet {
			rs := p.set("z", "A", time.Minute, "192.0.2.9")
			rs.Name = "Z" + rs.Name[1:]
			return rs
		}()}},
		"no final dot": {{New: func() *provider.RecordSet {
			rs := p.set("z", "A", time.Minute, "192.0.2.9")
			rs.Name = strings.TrimSuffix(rs.Name, ".")
			return rs
		}()}},
	} {
		_, err := p.d.Swap(ctx, changes...)
		if err == nil || errors.Is(err, provider.ErrNotFound) {
			return fmt.Errorf("%s: error is %v", what, err)
		}
		if err := p.holds(ctx, rs); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		if err := p.lacks(ctx, p.set("y", "A", 0), p.set("x", "TXT", 0), p.set("z", "A", 0)); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
	}
	return nil
}

func dnsForbidden(ctx context.Context, p *dnsProbe) error {
	a := p.set("x", "A", time.Minute, "192.0.2.1")
	cname := p.set("y", "CNAME", time.Minute, "target.example.")
	if err := p.have(ctx, a, cname); err != nil {
		return err
	}
	for _, rs := range []*provider.RecordSet{
		p.set("x", "CNAME", time.Minute, "target.example."), p.set("y", "A", time.Minute, "192.0.2.1"), p.set("y", "TXT", time.Minute, "text"),
	} {
		if err := p.swap(ctx, nil, rs); err == nil {
			return fmt.Errorf("%s is accepted beside a CNAME", describeSet(rs))
		}
		if err := errors.Join(p.lacks(ctx, rs), p.holds(ctx, a, cname)); err != nil {
			return err
		}
	}
	return nil
}

const dnsRacers = 8

// race runs swaps at the same moment, half of them through the second handle,
// and returns the one that won.
func (p *dnsProbe) race(ctx context.Context, from *provider.RecordSet, to func(i int) *provider.RecordSet) (*provider.RecordSet, error) {
	start := make(chan struct{})
	won := make(chan *provider.RecordSet, dnsRacers)
	var g errgroup.Group
	for i := range dnsRacers {
		d, rs := p.d, to(i)
		if i%2 == 1 {
			d = p.second
		}
		g.Go(func() error {
			<-start
			_, err := d.Swap(ctx, provider.Change{Old: from, New: rs})
			if err == nil {
				won <- rs
				return nil
			}
			return want(err, provider.ErrConflict)
		})
	}
	close(start)
	if err := g.Wait(); err != nil {
		return nil, err
	}
	if len(won) != 1 {
		return nil, fmt.Errorf("%d of %d won", len(won), dnsRacers)
	}
	return <-won, nil
}

func dnsCreateRace(ctx context.Context, p *dnsProbe) error {
	if err := p.needCAS(); err != nil {
		return err
	}
	for round := range 3 {
		x := fmt.Sprintf("x%d", round)
		rs, err := p.race(ctx, nil, func(i int) *provider.RecordSet { return p.set(x, "TXT", time.Minute, fmt.Sprint("racer ", i)) })
		if err != nil {
			return err
		}
		if err := p.holds(ctx, rs); err != nil {
			return err
		}
	}
	return nil
}

func dnsReplaceRace(ctx context.Context, p *dnsProbe) error {
	if err := p.needCAS(); err != nil {
		return err
	}
	last := p.set("x", "TXT", time.Minute, "start")
	if err := p.have(ctx, last); err != nil {
		return err
	}
	for round := range 5 {
		rs, err := p.race(ctx, last, func(i int) *provider.RecordSet {
			return p.set("x", "TXT", time.Minute, fmt.Sprintf("round %d racer %d", round, i))
		})
		if err != nil {
			return err
		}
		if err := p.holds(ctx, rs); err != nil {
			return err
		}
		last = rs
	}
	return nil
}

func dnsTTLRace(ctx context.Context, p *dnsProbe) error {
	if err := p.needCAS(); err != nil {
		return err
	}
	last := p.set("x", "A", time.Minute, "192.0.2.1")
	if err := p.have(ctx, last); err != nil {
		return err
	}
	for round := range 5 {
		rs, err := p.race(ctx, last, func(i int) *provider.RecordSet {
			return p.set("x", "A", time.Duration(100*(round+1)+i)*time.Second, "192.0.2.1")
		})
		if err != nil {
			return err
		}
		if err := p.holds(ctx, rs); err != nil {
			return err
		}
		last = rs
	}
	return nil
}

func dnsIndependent(ctx context.Context, p *dnsProbe) error {
	var g errgroup.Group
	for i := range dnsRacers {
		x, d := fmt.Sprintf("x%d", i), p.d
		if i%2 == 1 {
			d = p.second
		}
		g.Go(func() error {
			var last *provider.RecordSet
			for k := range 4 {
				next := p.set(x, "A", time.Minute, fmt.Sprintf("192.0.2.%d", k))
				if _, err := d.Swap(ctx, provider.Change{Old: last, New: next}); err != nil {
					return fmt.Errorf("swap %s, while others are swapped: %w", next.Name, err)
				}
				last = next
			}
			return p.holds(ctx, last)
		})
	}
	return g.Wait()
}
