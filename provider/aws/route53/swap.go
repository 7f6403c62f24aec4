package route53

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/route53"
	"github.com/aws/aws-sdk-go-v2/service/route53/types"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/aws/internal/conn"
)

const (
	maxValues     = 1000   // ResourceRecord elements of a batch
	maxCharacters = 32_000 // of all their values
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

func (z *Zones) swap(ctx context.Context, wanted []provider.Change) (provider.ChangeRef, error) {
	changes, err := check(wanted)
	if err != nil {
		return "", err
	}
	in, err := z.oneZone(ctx, changes)
	if err != nil {
		return "", err
	}
	batch, err := z.prepare(ctx, in, changes)
	if err != nil {
		return "", err
	}
	var tries conn.Attempts
	ref, err := z.send(ctx, in, batch, &tries)
	switch {
	case err == nil:
		return ref, nil
	case tries.Unanswered:
		return z.outcome(ctx, in, changes, err)
	case conn.CodeOf(err) == "InvalidChangeBatch":
		return "", z.refusal(ctx, in, changes, err)
	}
	return "", err
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
			return zone{}, unsupported("changes in the zones %s and %s, which are not swapped as a whole", in.name, of.name)
		}
	}
	return in, nil
}

// prepare compares the zone with each Old and returns the batch. What is
// deleted is what the zone holds, to the letter: values in its order, texts in
// its strings.
func (z *Zones) prepare(ctx context.Context, in zone, changes []change) ([]types.Change, error) {
	names, err := z.readAll(ctx, in, changes)
	if err != nil {
		return nil, err
	}
	var deletes, creates []types.Change
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
			deletes = append(deletes, types.Change{Action: types.ChangeActionDelete, ResourceRecordSet: held})
		}
		switch {
		case c.to == nil:
		case held != nil && equal(*c.from, *c.to):
			creates = append(creates, types.Change{Action: types.ChangeActionCreate, ResourceRecordSet: held})
		default:
			creates = append(creates, types.Change{Action: types.ChangeActionCreate, ResourceRecordSet: vendor(*c.to)})
		}
	}
	for name, s := range names {
		if err := s.alone(name, changes); err != nil {
			return nil, err
		}
	}
	// Deletes first: a batch is looked at in its order, and a CNAME can take
	// the place of an address only when that is gone.
	batch := append(deletes, creates...)
	return batch, fits(batch)
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

// alone refuses a CNAME beside other record sets, as Route 53 does, too.
func (s sets) alone(name string, changes []change) error {
	after := map[string]bool{}
	for _, rs := range s.all {
		after[string(rs.Type)] = true
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

func fits(batch []types.Change) error {
	values, characters := 0, 0
	for _, c := range batch {
		values += len(c.ResourceRecordSet.ResourceRecords)
		for _, r := range c.ResourceRecordSet.ResourceRecords {
			characters += len(aws.ToString(r.Value))
		}
	}
	if values > maxValues || characters > maxCharacters {
		return unsupported("a batch of %d values of %d characters: Route 53 takes %d of %d", values, characters, maxValues, maxCharacters)
	}
	return nil
}

// send makes one change of a zone. PriorRequestNotComplete and throttling are
// tried again by the SDK, with its budget.
func (z *Zones) send(ctx context.Context, in zone, batch []types.Change, tries *conn.Attempts) (provider.ChangeRef, error) {
	out, err := z.client.ChangeResourceRecordSets(ctx, &route53.ChangeResourceRecordSetsInput{
		HostedZoneId: &in.id, ChangeBatch: &types.ChangeBatch{Changes: batch},
	}, func(o *route53.Options) { o.APIOptions = append(slices.Clone(o.APIOptions), tries.Watch) })
	if err != nil {
		return "", err
	}
	return provider.ChangeRef(id(out.ChangeInfo.Id)), nil
}

// refusal says why Route 53 refused a batch that was sent once.
func (z *Zones) refusal(ctx context.Context, in zone, changes []change, err error) error {
	if conditionOf(err) {
		return fmt.Errorf("%w: %w", provider.ErrConflict, err)
	}
	old, _, readErr := z.holds(ctx, in, changes)
	if readErr == nil && !old {
		return fmt.Errorf("%w: %w", provider.ErrConflict, err)
	}
	return err
}

// conditionOf: Route 53 says that an Old did not hold. The texts are not
// documented, so that they are only taken for a yes.
func conditionOf(err error) bool {
	for _, text := range []string{"but it already exists", "but it was not found", "do not match the current values"} {
		if strings.Contains(err.Error(), text) {
			return true
		}
	}
	return false
}

// outcome finds out what became of a batch to which a reply was lost.
func (z *Zones) outcome(ctx context.Context, in zone, changes []change, err error) (provider.ChangeRef, error) {
	if ctx.Err() != nil {
		return "", err
	}
	_, done, readErr := z.holds(ctx, in, changes)
	if readErr != nil {
		return "", &unknown{fmt.Errorf("a reply was lost, and the zone cannot be read (%v): %w", readErr, err)}
	}
	if !done {
		return "", &unknown{fmt.Errorf("a reply was lost, and whether the change was made is not known: %w", err)}
	}
	// A change that alters nothing has an ID to follow, and is only made if
	// the zone still holds what was swapped in.
	var again []change
	for _, c := range changes {
		if c.to != nil {
			again = append(again, change{c.name, c.typ, c.to, c.to})
		}
	}
	if len(again) == 0 {
		return "", &unknown{fmt.Errorf("the change was made, and with its reply went the ID to follow it by: %w", err)}
	}
	batch, followErr := z.prepare(ctx, in, again)
	if followErr == nil {
		var tries conn.Attempts
		var ref provider.ChangeRef
		if ref, followErr = z.send(ctx, in, batch, &tries); followErr == nil {
			return ref, nil
		}
	}
	return "", &unknown{fmt.Errorf("the change was made, and with its reply went the ID to follow it by (%v): %w", followErr, err)}
}

// unknown is an error that means none of those of package provider, whatever
// the vendor's error in it would mean: callers take those for certain.
type unknown struct{ error }

func (u *unknown) Unwrap() error { return u.error }

// holds says whether the zone holds every Old, and whether it holds every New.
func (z *Zones) holds(ctx context.Context, in zone, changes []change) (old, done bool, err error) {
	names, err := z.readAll(ctx, in, changes)
	if err != nil {
		return false, false, err
	}
	old, done = true, true
	for _, c := range changes {
		isOld, oldErr := names[c.name].same(c.typ, c.from)
		isNew, newErr := names[c.name].same(c.typ, c.to)
		if oldErr != nil || newErr != nil { // an alias, say: neither
			isOld, isNew = false, false
		}
		old, done = old && isOld, done && isNew
	}
	return old, done, nil
}
