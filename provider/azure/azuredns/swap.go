package azuredns

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/http"
	"strings"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/azure/internal/conn"
	"github.com/holdfast-go/holdfast/provider/internal/dnsrecord"
)

// rounds is how often a Swap looks again when the record set was touched by
// somebody who left it as it was.
const rounds = 5

// Swap implements [provider.DNSProvider].
func (z *Zones) Swap(ctx context.Context, changes ...provider.Change) (provider.ChangeRef, error) {
	ref, err := z.swap(ctx, changes)
	if err != nil {
		return "", fail(ctx, "dns swap", dnsrecord.Keys(changes), err)
	}
	return ref, nil
}

func (z *Zones) swap(ctx context.Context, wanted []provider.Change) (provider.ChangeRef, error) {
	if len(wanted) > 1 {
		return "", dnsrecord.Unsupported("%d changes in one Swap: Azure DNS changes one record set at a time", len(wanted))
	}
	changes, err := dnsrecord.Check(wanted, rules.Canonical)
	if err != nil {
		return "", err
	}
	c := changes[0]
	in, err := z.zoneOf(c.Name)
	if err == nil {
		err = in.uncut(ctx, c.Name)
	}
	if err != nil {
		return "", err
	}
	for range rounds {
		done, err := in.try(ctx, c)
		if err != nil {
			return "", err
		}
		if done {
			return provider.ChangeRef(c.Name + "/" + c.Type), nil
		}
	}
	return "", fmt.Errorf("%s %s holds what Old says, and its ETag changed in each of %d rounds", c.Name, c.Type, rounds)
}

// try reads, compares and writes under the ETag of what it has read. It
// returns false if somebody was faster: then it is to look again whether Old
// still holds, since the ETag also counts what Old does not say.
func (in zone) try(ctx context.Context, c dnsrecord.Change) (done bool, err error) {
	now, err := in.read(ctx, c.Name, c.Type)
	if err != nil {
		return false, err
	}
	if !dnsrecord.Same(now.set, c.From) {
		return false, fmt.Errorf("%s %s is not what Old says: %w", c.Name, c.Type, provider.ErrConflict)
	}
	if !c.Alters() {
		return true, nil
	}
	if c.To == nil {
		return in.remove(ctx, c, now)
	}
	return in.write(ctx, c, now)
}

// write puts New. The mark in it says afterwards whether it was this Swap that
// put what is there.
func (in zone) write(ctx context.Context, c dnsrecord.Change, now held) (done bool, err error) {
	mark := strings.ToLower(rand.Text())
	var tries conn.Attempts
	err = in.records.put(tries.In(ctx), in, in.relative(c.Name), c.Type, now.etag, now.marked(*c.To, mark))
	switch {
	case err == nil:
		return true, nil
	case !tries.Unanswered():
		return false, unlessStale(err)
	case ctx.Err() != nil:
		return false, uncertain("whether the change was made is not known: %w", conn.Answered(err))
	}
	after, readErr := in.records.get(ctx, in, in.relative(c.Name), c.Type)
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
func (in zone) remove(ctx context.Context, c dnsrecord.Change, now held) (done bool, err error) {
	var tries conn.Attempts
	err = in.records.remove(tries.In(ctx), in, in.relative(c.Name), c.Type, now.etag)
	gone := err == nil && tries.Status() == http.StatusNoContent || isMissing(err)
	switch {
	case err == nil && !gone:
		return true, nil
	case tries.Unanswered() && gone:
		return false, uncertain("a reply was lost; the record set is gone, and whether this Swap removed it is not known")
	case tries.Unanswered():
		return false, uncertain("a reply was lost, and whether the record set was removed is not known: %w", conn.Answered(err))
	case gone:
		return false, fmt.Errorf("%s %s was removed meanwhile: %w", c.Name, c.Type, provider.ErrConflict)
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
