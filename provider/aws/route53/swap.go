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
	"github.com/holdfast-go/holdfast/provider/internal/dnsrecord"
)

const (
	maxValues     = 1000   // ResourceRecord elements of a batch
	maxCharacters = 32_000 // of all their values
)

// Swap implements [provider.DNSProvider].
func (z *Zones) Swap(ctx context.Context, changes ...provider.Change) (provider.ChangeRef, error) {
	ref, err := z.swap(ctx, changes)
	if err != nil {
		return "", z.wrap(ctx, "dns swap", dnsrecord.Keys(changes), err)
	}
	return ref, nil
}

func (z *Zones) swap(ctx context.Context, wanted []provider.Change) (provider.ChangeRef, error) {
	changes, err := dnsrecord.Check(wanted, rules.Canonical)
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
	case tries.Unanswered || tries.Failed:
		return z.outcome(ctx, in, changes, err)
	case conn.CodeOf(err) == "InvalidChangeBatch":
		return "", z.refusal(ctx, in, changes, err)
	}
	return "", err
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
			return zone{}, dnsrecord.Unsupported("changes in the zones %s and %s, which are not swapped as a whole", in.name, of.name)
		}
	}
	return in, nil
}

// prepare compares the zone with each Old and returns the batch. What is
// deleted is what the zone holds, to the letter: values in its order, texts in
// its strings.
func (z *Zones) prepare(ctx context.Context, in zone, changes []dnsrecord.Change) ([]types.Change, error) {
	names, err := z.readAll(ctx, in, changes)
	if err == nil {
		err = z.uncut(ctx, in, names)
	}
	if err != nil {
		return nil, err
	}
	var deletes, creates []types.Change
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
			deletes = append(deletes, types.Change{Action: types.ChangeActionDelete, ResourceRecordSet: held})
		}
		switch {
		case c.To == nil:
		case held != nil && dnsrecord.Equal(*c.From, *c.To):
			creates = append(creates, types.Change{Action: types.ChangeActionCreate, ResourceRecordSet: held})
		default:
			creates = append(creates, types.Change{Action: types.ChangeActionCreate, ResourceRecordSet: vendor(*c.To)})
		}
	}
	for name, s := range names {
		if err := dnsrecord.Alone(name, s.types(), changes); err != nil {
			return nil, err
		}
	}
	// Deletes first: a batch is looked at in its order, and a CNAME can take
	// the place of an address only when that is gone.
	batch := append(deletes, creates...)
	return batch, fits(batch)
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

func fits(batch []types.Change) error {
	values, characters := 0, 0
	for _, c := range batch {
		values += len(c.ResourceRecordSet.ResourceRecords)
		for _, r := range c.ResourceRecordSet.ResourceRecords {
			characters += len(aws.ToString(r.Value))
		}
	}
	if values > maxValues || characters > maxCharacters {
		return dnsrecord.Unsupported("a batch of %d values of %d characters: Route 53 takes %d of %d", values, characters, maxValues, maxCharacters)
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
func (z *Zones) refusal(ctx context.Context, in zone, changes []dnsrecord.Change, err error) error {
	if e, ok := errors.AsType[*types.InvalidChangeBatch](err); ok && len(e.Messages) > 0 {
		err = fmt.Errorf("%s: %w", strings.Join(e.Messages, "; "), err) // the SDK leaves them out
	}
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
func (z *Zones) outcome(ctx context.Context, in zone, changes []dnsrecord.Change, err error) (provider.ChangeRef, error) {
	_, done, readErr := z.holds(ctx, in, changes)
	if readErr != nil {
		return "", &unknown{fmt.Errorf("a reply was lost, and the zone cannot be read (%v): %w", readErr, err)}
	}
	if !done {
		return "", &unknown{fmt.Errorf("a reply was lost, and whether the change was made is not known: %w", err)}
	}
	// A change that alters nothing has an ID to follow, and is only made if
	// the zone still holds what was swapped in.
	var again []dnsrecord.Change
	for _, c := range changes {
		if c.To != nil {
			again = append(again, dnsrecord.Change{Name: c.Name, Type: c.Type, From: c.To, To: c.To})
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
func (z *Zones) holds(ctx context.Context, in zone, changes []dnsrecord.Change) (old, done bool, err error) {
	names, err := z.readAll(ctx, in, changes)
	if err != nil {
		return false, false, err
	}
	old, done = true, true
	for _, c := range changes {
		isOld, _ := names[c.Name].same(c.Type, c.From) // an alias, say, is neither
		isNew, _ := names[c.Name].same(c.Type, c.To)
		old, done = old && isOld, done && isNew
	}
	return old, done, nil
}
