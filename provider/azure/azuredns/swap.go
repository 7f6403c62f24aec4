package azuredns

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/azure/internal/conn"
)

// A change is a well-formed [provider.Change] in canonical form.
type change struct {
	name, typ string
	from, to  *provider.RecordSet
}

// rounds is how often a Swap looks again when the record set was touched by
// somebody who left it as it was.
const rounds = 5

// Swap implements [provider.DNSProvider].
func (z *Zones) Swap(ctx context.Context, changes ...provider.Change) (provider.ChangeRef, error) {
	ref, err := z.swap(ctx, changes)
	if err != nil {
		var names []string
		for _, c := range changes {
			if rs := firstOf(c.Old, c.New); rs != nil {
				names = append(names, rs.Name+" "+rs.Type)
			}
		}
		return "", fail(ctx, "dns swap", strings.Join(names, ", "), err)
	}
	return ref, nil
}

func firstOf(a, b *provider.RecordSet) *provider.RecordSet {
	if a != nil {
		return a
	}
	return b
}

func (z *Zones) swap(ctx context.Context, wanted []provider.Change) (provider.ChangeRef, error) {
	if len(wanted) > 1 {
		return "", unsupported("%d changes in one Swap: Azure DNS changes one record set at a time", len(wanted))
	}
	c, err := check(wanted)
	if err != nil {
		return "", err
	}
	in, err := z.zoneOf(c.name)
	if err != nil {
		return "", err
	}
	for range rounds {
		done, err := in.try(ctx, c)
		if err != nil {
			return "", err
		}
		if done {
			return provider.ChangeRef(c.name + "/" + c.typ), nil
		}
	}
	return "", fmt.Errorf("%s %s holds what Old says, and its ETag changed in each of %d rounds", c.name, c.typ, rounds)
}

// check accepts a change that is well formed.
func check(wanted []provider.Change) (c change, err error) {
	if len(wanted) == 0 {
		return c, errors.New("no changes")
	}
	w := wanted[0]
	if w.Old == nil && w.New == nil {
		return c, errors.New("neither Old nor New")
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
			return c, err
		}
		if c.name != "" && (c.name != rs.Name || c.typ != rs.Type) {
			return c, fmt.Errorf("from %s %s to %s %s", c.name, c.typ, rs.Name, rs.Type)
		}
		c.name, c.typ, *side.to = rs.Name, rs.Type, &rs
	}
	return c, nil
}

// try reads, compares and writes under the ETag of what it has read. It
// returns false if somebody was faster: then it is to look again whether Old
// still holds, since the ETag also counts what Old does not say.
func (in zone) try(ctx context.Context, c change) (done bool, err error) {
	now, err := in.read(ctx, c.name, c.typ)
	if err != nil {
		return false, err
	}
	if (now.set == nil) != (c.from == nil) || c.from != nil && !equal(*now.set, *c.from) {
		return false, fmt.Errorf("%s %s is not what Old says: %w", c.name, c.typ, provider.ErrConflict)
	}
	if c.from != nil && c.to != nil && equal(*c.from, *c.to) {
		return true, nil
	}
	if c.to == nil {
		return in.remove(ctx, c, now)
	}
	return in.write(ctx, c, now)
}

// write puts New. The mark in it says afterwards whether it was this Swap that
// put what is there.
func (in zone) write(ctx context.Context, c change, now held) (done bool, err error) {
	mark := strings.ToLower(rand.Text())
	var tries conn.Attempts
	err = in.records.put(tries.In(ctx), in, in.relative(c.name), c.typ, now.etag, now.marked(*c.to, mark))
	switch {
	case err == nil:
		return true, nil
	case !tries.Unanswered():
		return false, unlessStale(err)
	case ctx.Err() != nil:
		return false, uncertain("whether the change was made is not known: %w", conn.Answered(err))
	}
	after, readErr := in.records.get(ctx, in, in.relative(c.name), c.typ)
	switch {
	case readErr == nil && after.mark() == mark:
		return true, nil
	case readErr != nil && !isMissing(readErr):
		return false, uncertain("a reply was lost, and the zone cannot be read (%v): %w", conn.Answered(readErr), conn.Answered(err))
	}
	return false, uncertain("a reply was lost, and whether the change was made is not known: %w", conn.Answered(err))
}

// remove deletes the record set. Azure answers a deletion of what is not there
// with 204, condition or not, which is no success: somebody else has removed
// it, unless it was an attempt of ours whose reply was lost. Nothing that is
// left could tell.
func (in zone) remove(ctx context.Context, c change, now held) (done bool, err error) {
	var tries conn.Attempts
	err = in.records.remove(tries.In(ctx), in, in.relative(c.name), c.typ, now.etag)
	gone := err == nil && tries.Status() == http.StatusNoContent || isMissing(err)
	switch {
	case err == nil && !gone:
		return true, nil
	case tries.Unanswered() && gone:
		return false, uncertain("a reply was lost; the record set is gone, and whether this Swap removed it is not known")
	case tries.Unanswered():
		return false, uncertain("a reply was lost, and whether the record set was removed is not known: %w", conn.Answered(err))
	case gone:
		return false, fmt.Errorf("%s %s was removed meanwhile: %w", c.name, c.typ, provider.ErrConflict)
	}
	return false, unlessStale(err)
}

// unlessStale is nil if the ETag was not that of the record set any more.
func unlessStale(err error) error {
	if conn.StatusOf(err) == http.StatusPreconditionFailed {
		return nil
	}
	return err
}
