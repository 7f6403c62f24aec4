package clouddns

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"google.golang.org/api/dns/v1"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/gcp/internal/conn"
)

// A change is one of a Swap, checked; from and to are in canonical form.
type change struct {
	name, typ string
	from, to  *provider.RecordSet
}

// Swap implements [provider.DNSProvider].
func (z *Zones) Swap(ctx context.Context, changes ...provider.Change) (provider.ChangeRef, error) {
	ref, err := z.swap(ctx, changes)
	if err != nil {
		var names []string
		for _, c := range changes {
			for _, rs := range []*provider.RecordSet{c.Old, c.New} {
				if rs != nil && !slices.Contains(names, rs.Name+" "+rs.Type) {
					names = append(names, rs.Name+" "+rs.Type)
				}
			}
		}
		return "", z.wrap(ctx, "dns swap", strings.Join(names, ", "), err)
	}
	return ref, nil
}

const refusals = 3 // after which a Change is given up whose every Old holds

func (z *Zones) swap(ctx context.Context, wanted []provider.Change) (provider.ChangeRef, error) {
	changes, err := check(wanted)
	if err != nil {
		return "", err
	}
	in, err := z.oneZone(ctx, changes)
	if err != nil {
		return "", err
	}
	for sent := 1; ; sent++ {
		batch, err := z.prepare(ctx, in, changes)
		if err != nil {
			return "", err
		}
		var tries conn.Attempts
		made, err := conn.Do(ctx, z.service, &tries, func(ctx context.Context) (*dns.Change, error) {
			return z.client.Changes.Create(z.c.Project, in.id, batch).Context(ctx).Do()
		})
		switch {
		case err == nil:
			return z.ref(in, made), nil
		case tries.Unanswered:
			return z.outcome(ctx, in, changes, batch, err)
		case !refused(err) || sent == refusals:
			return "", err
		}
		// What made Cloud DNS refuse shows in the zone, or it is asked again.
		if err := sleep(ctx, time.Duration(sent)*100*time.Millisecond); err != nil {
			return "", err
		}
	}
}

func (z *Zones) ref(in zone, made *dns.Change) provider.ChangeRef {
	return provider.ChangeRef(in.id + "/" + made.Id)
}

// refused: Cloud DNS says that a deletion or an addition does not fit what is
// there.
func refused(err error) bool {
	status := conn.StatusOf(err)
	return status == http.StatusPreconditionFailed || status == http.StatusConflict || status == http.StatusNotFound
}

// check accepts changes that are well formed.
func check(wanted []provider.Change) ([]change, error) {
	if len(wanted) == 0 {
		return nil, errors.New("no changes")
	}
	var changes []change
	var errs []error
	for i, w := range wanted {
		var c change
		if w.Old == nil && w.New == nil {
			errs = append(errs, fmt.Errorf("change %d: neither Old nor New", i))
			continue
		}
		for _, side := range []struct {
			rs *provider.RecordSet
			to **provider.RecordSet
		}{{w.Old, &c.from}, {w.New, &c.to}} {
			if side.rs == nil {
				continue
			}
			rs, err := canonical(*side.rs)
			if err != nil {
				errs = append(errs, err)
			}
			if c.name != "" && (c.name != rs.Name || c.typ != rs.Type) && err == nil {
				errs = append(errs, fmt.Errorf("change %d: from %s %s to %s %s", i, c.name, c.typ, rs.Name, rs.Type))
			}
			c.name, c.typ, *side.to = rs.Name, rs.Type, &rs
		}
		if slices.ContainsFunc(changes, func(o change) bool { return o.name == c.name && o.typ == c.typ }) {
			errs = append(errs, fmt.Errorf("two changes of %s %s", c.name, c.typ))
		}
		changes = append(changes, c)
	}
	return changes, errors.Join(errs...)
}

// oneZone returns the zone that all changes are in.
func (z *Zones) oneZone(ctx context.Context, changes []change) (in zone, err error) {
	for i, c := range changes {
		of, err := z.zoneOf(ctx, c.name)
		switch {
		case err != nil:
			return zone{}, err
		case i == 0:
			in = of
		case of != in:
			return zone{}, unsupported("changes in the zones %s and %s, which are not swapped as a whole", in.id, of.id)
		}
	}
	return in, nil
}

// prepare compares the zone with each Old and returns the Change. What is
// deleted is what the zone holds, to the letter: values in its order, texts in
// its strings.
func (z *Zones) prepare(ctx context.Context, in zone, changes []change) (*dns.Change, error) {
	names, err := z.readAll(ctx, in, changes)
	if err != nil {
		return nil, err
	}
	batch := &dns.Change{}
	for _, c := range changes {
		s := names[c.name]
		ok, err := s.same(c.typ, c.from)
		if err != nil {
			return nil, err
		}
		if !ok {
			return nil, fmt.Errorf("%s %s is not what Old says: %w", c.name, c.typ, provider.ErrConflict)
		}
		held, _ := s.simple(c.typ)
		if held != nil {
			batch.Deletions = append(batch.Deletions, exact(held))
		}
		switch {
		case c.to == nil:
		case held != nil && equal(*c.from, *c.to):
			batch.Additions = append(batch.Additions, exact(held))
		default:
			batch.Additions = append(batch.Additions, vendor(*c.to))
		}
	}
	for name, s := range names {
		if err := s.alone(name, changes); err != nil {
			return nil, err
		}
	}
	return batch, nil
}

// readAll reads each name once.
func (z *Zones) readAll(ctx context.Context, in zone, changes []change) (map[string]sets, error) {
	names := map[string]sets{}
	for _, c := range changes {
		if _, ok := names[c.name]; ok {
			continue
		}
		s, err := z.read(ctx, in, c.name)
		if err != nil {
			return nil, err
		}
		names[c.name] = s
	}
	return names, nil
}

// alone refuses a CNAME beside other record sets, as Cloud DNS does, too.
func (s sets) alone(name string, changes []change) error {
	after := map[string]bool{}
	for _, rs := range s.all {
		after[rs.Type] = true
	}
	for _, c := range changes {
		if c.name == name {
			after[c.typ] = c.to != nil
		}
	}
	var types []string
	for typ, there := range after {
		if there {
			types = append(types, typ)
		}
	}
	if after["CNAME"] && len(types) > 1 {
		slices.Sort(types)
		return fmt.Errorf("%s would have %s, and a CNAME has no other beside it", name, strings.Join(types, ", "))
	}
	return nil
}

// outcome finds out what became of a Change to which a reply was lost.
func (z *Zones) outcome(ctx context.Context, in zone, changes []change, batch *dns.Change, err error) (provider.ChangeRef, error) {
	if ctx.Err() != nil {
		return "", &unknown{err}
	}
	names, readErr := z.readAll(ctx, in, changes)
	if readErr != nil {
		return "", &unknown{fmt.Errorf("a reply was lost, and the zone cannot be read (%v): %w", readErr, err)}
	}
	for _, c := range changes {
		if is, sameErr := names[c.name].same(c.typ, c.to); sameErr != nil || !is {
			return "", &unknown{fmt.Errorf("a reply was lost, and whether the change was made is not known: %w", err)}
		}
	}
	made, listErr := z.recorded(ctx, in, batch)
	if listErr != nil || made == nil {
		return "", &unknown{fmt.Errorf("the zone holds what was to be, and the change to follow is not found (%v): %w", listErr, err)}
	}
	return z.ref(in, made), nil
}

// unknown is an error that means none of those of package provider, whatever
// the vendor's error in it would mean: callers take those for certain.
type unknown struct{ error }

func (u *unknown) Unwrap() error { return u.error }

// recorded finds the youngest Change of the zone that was this one, among the
// latest five hundred.
func (z *Zones) recorded(ctx context.Context, in zone, batch *dns.Change) (*dns.Change, error) {
	want := describe(batch)
	for token, seen := "", 0; seen < 500; {
		page, err := conn.Do(ctx, z.service, &conn.Attempts{}, func(ctx context.Context) (*dns.ChangesListResponse, error) {
			call := z.client.Changes.List(z.c.Project, in.id).SortBy("changeSequence").SortOrder("descending").MaxResults(100)
			if token != "" {
				call.PageToken(token)
			}
			return call.Context(ctx).Do()
		})
		if err != nil {
			return nil, err
		}
		for _, c := range page.Changes {
			if slices.Equal(describe(c), want) {
				return c, nil
			}
		}
		seen += len(page.Changes)
		if token = page.NextPageToken; token == "" {
			break
		}
	}
	return nil, nil
}

// describe lists what a Change does, but for the serial number of the zone,
// which is none of ours.
func describe(c *dns.Change) (all []string) {
	for sign, sets := range map[string][]*dns.ResourceRecordSet{"-": c.Deletions, "+": c.Additions} {
		for _, rs := range sets {
			if rs.Type == "SOA" {
				continue
			}
			values := slices.Sorted(slices.Values(rs.Rrdatas))
			all = append(all, fmt.Sprintf("%s %s %s %d %q", sign, strings.ToLower(rs.Name), rs.Type, rs.Ttl, values))
		}
	}
	slices.Sort(all)
	return all
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
