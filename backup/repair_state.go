package backup

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/holdfast-go/holdfast/provider"
)

// sessions removes records of sessions that cannot be read and are over: what
// counts of a session is its key, and that only until there is something at
// the key of its point.
func (p *repairer) sessions(ctx context.Context) error {
	for info, err := range p.r.c.Store.List(ctx, sessionPrefix, provider.ListOptions{}) {
		if err != nil {
			return err
		}
		kind := kindSession
		if !sessionObject(info.Key) {
			kind = kindEnd
		}
		damage, err := p.unreadable(ctx, kind, info.Key)
		if err != nil {
			return err
		}
		if damage == nil {
			continue
		}
		id := PointID(strings.TrimPrefix(info.Key, sessionPrefix))
		_, invalid := id.Time()
		switch {
		case invalid != nil:
			p.unmended(info.Key, "of a copy; when it runs no more, Prune removes it or tells: "+damage.Error())
		case p.r.gone(ctx, pointKey(id)):
			p.unmended(info.Key, "its session is not over; Prune makes an end of it: "+damage.Error())
		default:
			if err := p.remove(ctx, info.Key); err != nil {
				return err
			}
		}
	}
	return nil
}

// unreadable returns what is wrong with a sealed object, if that is damage.
func (p *repairer) unreadable(ctx context.Context, kind, key string) (damage, err error) {
	_, err = p.r.readSealed(ctx, kind, key)
	switch {
	case err == nil, errors.Is(err, provider.ErrNotFound):
		return nil, nil
	case isDamage(err):
		return err, nil
	}
	return nil, fmt.Errorf("get %s: %w", key, err)
}

// state looks at what prunes, checks and forgetting have left.
func (p *repairer) state(ctx context.Context) error {
	var verified []string
	if _, err := p.r.lastVerified(ctx, time.Now(), func(key string, _ error) { verified = append(verified, key) }); err != nil {
		return err
	}
	for _, key := range verified {
		if err := p.remove(ctx, key); err != nil {
			return err
		}
	}
	for info, err := range p.r.c.Store.List(ctx, condemnedPrefix, provider.ListOptions{}) {
		if err != nil {
			return err
		}
		kind := condemnedKind(info.Key)
		damage, err := p.unreadable(ctx, kind, info.Key)
		switch {
		case err != nil:
			return err
		case damage == nil:
		case kind == kindVerdict || kind == kindDeleting:
			// What a prune is deleting must not be decided twice.
			p.unmended(info.Key, "when no prune is running, delete the plan of the same name and then this: "+damage.Error())
		default:
			p.unmended(info.Key, "the next Prune settles this: "+damage.Error())
		}
	}
	for info, err := range p.r.c.Store.List(ctx, forgottenPrefix, provider.ListOptions{}) {
		if err != nil {
			return err
		}
		right := func(b []byte) error { return p.r.keys.openObject(kindForgotten, info.Key, b) }
		if _, err := p.object(ctx, info.Key, maxCondemned, right, nil); err != nil {
			return err
		}
	}
	return nil
}

// condemnedKind returns the kind that the name of an object of a prune says.
func condemnedKind(key string) string {
	switch {
	case strings.HasSuffix(key, awaitedSuffix):
		return kindAwaited
	case strings.HasSuffix(key, verdictSuffix):
		return kindVerdict
	case strings.HasSuffix(key, timeSuffix):
		return kindTime
	case strings.HasSuffix(key, closedSuffix) || strings.Contains(key, deletingSuffix):
		return kindDeleting
	}
	return kindPlan
}
