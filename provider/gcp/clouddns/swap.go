package clouddns

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"google.golang.org/api/dns/v1"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/gcp/internal/conn"
	"github.com/holdfast-go/holdfast/provider/internal/dnsrecord"
)

// Swap implements [provider.DNSProvider].
func (z *Zones) Swap(ctx context.Context, changes ...provider.Change) (provider.ChangeRef, error) {
	ref, err := z.swap(ctx, changes)
	if err != nil {
		return "", z.wrap(ctx, "dns swap", dnsrecord.Keys(changes), err)
	}
	return ref, nil
}

const refusals = 3 // after which a Change is given up whose every Old holds

func (z *Zones) swap(ctx context.Context, wanted []provider.Change) (provider.ChangeRef, error) {
	changes, err := dnsrecord.Check(wanted, rules.Canonical)
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

// oneZone returns the zone that all changes are in.
func (z *Zones) oneZone(ctx context.Context, changes []dnsrecord.Change) (in zone, err error) {
	for i, c := range changes {
		of, err := z.zoneOf(ctx, c.Name)
		switch {
		case err != nil:
			return zone{}, err
		case i == 0:
			in = of
		case of != in:
			return zone{}, dnsrecord.Unsupported("changes in the zones %s and %s, which are not swapped as a whole", in.id, of.id)
		}
	}
	return in, nil
}

// prepare compares the zone with each Old and returns the Change. What is
// deleted is what the zone holds, to the letter: values in its order, texts in
// its strings.
func (z *Zones) prepare(ctx context.Context, in zone, changes []dnsrecord.Change) (*dns.Change, error) {
	names, err := z.readAll(ctx, in, changes)
	if err == nil {
		err = z.uncut(ctx, in, names)
	}
	if err != nil {
		return nil, err
	}
	batch := &dns.Change{}
	for _, c := range changes {
		s := names[c.Name]
		ok, err := s.same(c.Type, c.From)
		if err != nil {
			return nil, err
		}
		if !ok {
			return nil, fmt.Errorf("%s %s is not what Old says: %w", c.Name, c.Type, provider.ErrConflict)
		}
		held, _ := s.simple(c.Type)
		if held != nil {
			batch.Deletions = append(batch.Deletions, exact(held))
		}
		switch {
		case c.To == nil:
		case held != nil && dnsrecord.Equal(*c.From, *c.To):
			batch.Additions = append(batch.Additions, exact(held))
		default:
			batch.Additions = append(batch.Additions, vendor(*c.To))
		}
	}
	for name, s := range names {
		if err := dnsrecord.Alone(name, s.types(), changes); err != nil {
			return nil, err
		}
	}
	return batch, nil
}

// readAll reads each name once.
func (z *Zones) readAll(ctx context.Context, in zone, changes []dnsrecord.Change) (map[string]sets, error) {
	names := map[string]sets{}
	for _, c := range changes {
		if _, ok := names[c.Name]; ok {
			continue
		}
		s, err := z.read(ctx, in, c.Name)
		if err != nil {
			return nil, err
		}
		names[c.Name] = s
	}
	return names, nil
}

// outcome finds out what became of a Change to which a reply was lost.
func (z *Zones) outcome(ctx context.Context, in zone, changes []dnsrecord.Change, batch *dns.Change, err error) (provider.ChangeRef, error) {
	if ctx.Err() != nil {
		return "", &unknown{err}
	}
	names, readErr := z.readAll(ctx, in, changes)
	if readErr != nil {
		return "", &unknown{fmt.Errorf("a reply was lost, and the zone cannot be read (%v): %w", readErr, err)}
	}
	for _, c := range changes {
		if is, sameErr := names[c.Name].same(c.Type, c.To); sameErr != nil || !is {
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
