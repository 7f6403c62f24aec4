package providertest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/holdfast-go/holdfast/provider"
)

var retainClauses = []clause{
	retaining("retain", "An object put with Retain is under that retention at once, and Get and Stat tell it.", retain),
	retaining("retain-delete", "Delete of an object under retention is ErrLocked, and the object stays.", retainDelete),
	retaining("retain-replace", "Put over an object under retention is ErrLocked, or the version under retention can still be read.", retainReplace),
	retaining("retain-ends", "When its retention is over, an object can be deleted.", retainEnds),
	retaining("lock", "Lock puts an object under retention that had none, and its Version stays.", lockLater),
	retaining("lock-extend", "Lock with the retention the object has, with a later Until or from Governance to Compliance is no error.", lockExtend),
	retaining("lock-shorten", "Lock with a shorter Until, or with Governance where there is Compliance, is ErrLocked, and the retention stays.", lockShorten),
	retaining("lock-missing", "Lock of a key without an object is ErrNotFound.", lockMissing),
}

// retaining is a clause whose objects stay under retention for a while.
func retaining(id, text string, check func(context.Context, *probe) error) clause {
	c := sentence(id, text, func(ctx context.Context, p *probe) error {
		if p.retainFor == 0 {
			return &skippedError{"it leaves locked objects behind; set RetainFor"}
		}
		return check(ctx, p)
	})
	c.leaves = true
	return c
}

var lockModes = []provider.LockMode{provider.Governance, provider.Compliance}

// until returns a time some while ahead in whole seconds, as stores keep it.
func until(d time.Duration) time.Time {
	return time.Now().Add(d + time.Second).UTC().Truncate(time.Second)
}

func (p *probe) retention(mode provider.LockMode) provider.Retention {
	return provider.Retention{Mode: mode, Until: until(p.retainFor)}
}

// eachMode stores an object under retention in each mode that the store
// supports, named by the mode, and calls check for it. If the store declines
// both it must do so without writing anything.
func (p *probe) eachMode(ctx context.Context, check func(name string, r provider.Retention) error) error {
	var declined []error
	for _, mode := range lockModes {
		name, r := string(mode), p.retention(mode)
		_, err := p.put(ctx, name, "under retention", provider.PutOptions{Retain: r})
		if errors.Is(err, errors.ErrUnsupported) {
			if err := p.absent(ctx, name); err != nil {
				return fmt.Errorf("retention is unsupported, but the put left something: %w", err)
			}
			declined = append(declined, err)
			continue
		}
		if err != nil {
			return err
		}
		if err := check(name, r); err != nil {
			return fmt.Errorf("%s: %w", mode, err)
		}
	}
	if len(declined) == len(lockModes) {
		return &unsupportedError{errors.Join(declined...)}
	}
	return nil
}

// has checks the retention of an object, to the second.
func (p *probe) has(ctx context.Context, name string, r provider.Retention) error {
	info, err := p.store.Stat(ctx, p.key(name))
	if err != nil {
		return err
	}
	_, got, err := read(ctx, p.second, p.key(name), provider.GetOptions{})
	if err != nil {
		return err
	}
	for _, have := range []provider.Retention{info.Retain, got.Retain} {
		if have.Mode != r.Mode || !have.Until.Equal(r.Until) {
			return fmt.Errorf("retention is %q until %v, want %q until %v", have.Mode, have.Until, r.Mode, r.Until)
		}
	}
	return nil
}

func retain(ctx context.Context, p *probe) error {
	return p.eachMode(ctx, func(name string, r provider.Retention) error {
		return errors.Join(p.holds(ctx, name, "under retention"), p.has(ctx, name, r), p.fraction(ctx, name+"-fraction", r))
	})
}

// fraction: a retention that ends within a second does not end before.
func (p *probe) fraction(ctx context.Context, name string, r provider.Retention) error {
	r.Until = r.Until.Add(400 * time.Millisecond)
	info, err := p.put(ctx, name, "x", provider.PutOptions{Retain: r})
	if err != nil {
		return err
	}
	if got := info.Retain.Until; got.Before(r.Until) || !got.Before(r.Until.Add(time.Second)) {
		return fmt.Errorf("retention ends %v, want %v or less than a second later", got, r.Until)
	}
	return p.has(ctx, name, info.Retain)
}

func retainDelete(ctx context.Context, p *probe) error {
	return p.eachMode(ctx, func(name string, _ provider.Retention) error {
		return p.cannotDelete(ctx, name, "under retention")
	})
}

func (p *probe) cannotDelete(ctx context.Context, name, content string) error {
	info, err := p.store.Stat(ctx, p.key(name))
	if err != nil {
		return err
	}
	for _, o := range []provider.DeleteOptions{{}, {Version: info.Version}} {
		if err := want(p.second.Delete(ctx, p.key(name), o), provider.ErrLocked); err != nil {
			return fmt.Errorf("delete: %w", err)
		}
	}
	if err := p.holds(ctx, name, content); err != nil {
		return fmt.Errorf("after the refused delete: %w", err)
	}
	return nil
}

func retainReplace(ctx context.Context, p *probe) error {
	return p.eachMode(ctx, func(name string, _ provider.Retention) error {
		old, err := p.store.Stat(ctx, p.key(name))
		if err != nil {
			return err
		}
		for _, o := range []provider.PutOptions{{}, {IfMatch: old.Version}, {Retain: provider.Retention{Mode: provider.Compliance, Until: until(p.retainFor)}}} {
			_, err := p.store.Put(ctx, p.key(name), strings.NewReader("replaced"), o)
			if errors.Is(err, provider.ErrLocked) {
				if err := p.holds(ctx, name, "under retention"); err != nil {
					return fmt.Errorf("after the refused put: %w", err)
				}
				continue
			}
			if err != nil {
				return fmt.Errorf("put: %w", want(err, provider.ErrLocked))
			}
			b, _, err := read(ctx, p.store, p.key(name), provider.GetOptions{Version: old.Version})
			if err == nil {
				err = same(b, []byte("under retention"))
			}
			if err != nil {
				return fmt.Errorf("put replaced the object, and the version under retention cannot be read: %w", err)
			}
			return nil
		}
		return nil
	})
}

func retainEnds(ctx context.Context, p *probe) error {
	r := provider.Retention{Mode: provider.Governance, Until: until(0)}
	_, err := p.put(ctx, "x", "x", provider.PutOptions{Retain: r})
	if errors.Is(err, errors.ErrUnsupported) {
		r.Mode = provider.Compliance
		_, err = p.put(ctx, "x", "x", provider.PutOptions{Retain: r})
	}
	if errors.Is(err, errors.ErrUnsupported) {
		return &unsupportedError{err}
	}
	if err != nil {
		return err
	}
	const clocksDiffer = time.Minute // by so much at most
	for {
		err := p.store.Delete(ctx, p.key("x"), provider.DeleteOptions{})
		if err == nil {
			return p.absent(ctx, "x")
		}
		if !errors.Is(err, provider.ErrLocked) || time.Since(r.Until) > clocksDiffer {
			return fmt.Errorf("delete %v after the end of the retention: %w", time.Since(r.Until), err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// locker finds the power to change a retention, and the modes it takes.
func (p *probe) locker() (provider.Locker, error) {
	l, ok := provider.As[provider.Locker](p.store)
	if !ok {
		return nil, &unsupportedError{errors.New("the store is no provider.Locker")}
	}
	return l, nil
}

// lock calls Lock. What is unsupported must not have had an effect.
func (p *probe) lock(ctx context.Context, l provider.Locker, name string, r provider.Retention) error {
	err := l.Lock(ctx, p.key(name), r)
	if errors.Is(err, errors.ErrUnsupported) {
		return &unsupportedError{err}
	}
	if err != nil {
		return fmt.Errorf("lock %s until %v: %w", r.Mode, r.Until, err)
	}
	return nil
}

func lockLater(ctx context.Context, p *probe) error {
	l, err := p.locker()
	if err != nil {
		return err
	}
	info, err := p.put(ctx, "x", "content", provider.PutOptions{})
	if err != nil {
		return err
	}
	r := p.retention(provider.Governance)
	if err := p.lock(ctx, l, "x", r); err != nil {
		return err
	}
	after, err := p.store.Stat(ctx, p.key("x"))
	if err == nil && after.Version != info.Version {
		err = fmt.Errorf("lock changed the version from %q to %q", info.Version, after.Version)
	}
	return errors.Join(err, p.has(ctx, "x", r), p.cannotDelete(ctx, "x", "content"))
}

func lockExtend(ctx context.Context, p *probe) error {
	l, err := p.locker()
	if err != nil {
		return err
	}
	return p.eachMode(ctx, func(name string, r provider.Retention) error {
		later := provider.Retention{Mode: r.Mode, Until: r.Until.Add(2 * time.Second)}
		stricter := provider.Retention{Mode: provider.Compliance, Until: later.Until}
		for _, next := range []provider.Retention{r, later, later, stricter} {
			err := p.lock(ctx, l, name, next)
			if _, ok := errors.AsType[*unsupportedError](err); ok && next == stricter {
				continue // a store of one mode
			}
			if err != nil {
				return err
			}
			if err := p.has(ctx, name, next); err != nil {
				return err
			}
		}
		return p.cannotDelete(ctx, name, "under retention")
	})
}

func lockShorten(ctx context.Context, p *probe) error {
	l, err := p.locker()
	if err != nil {
		return err
	}
	return p.eachMode(ctx, func(name string, r provider.Retention) error {
		// Long enough for every earlier Until to lie ahead as well.
		r.Until = r.Until.Add(5 * time.Second)
		if err := p.lock(ctx, l, name, r); err != nil {
			return err
		}
		weaker := []provider.Retention{{Mode: r.Mode, Until: r.Until.Add(-3 * time.Second)}}
		if r.Mode == provider.Compliance {
			weaker = append(weaker, provider.Retention{Mode: provider.Governance, Until: r.Until},
				provider.Retention{Mode: provider.Governance, Until: r.Until.Add(time.Second)})
		}
		for _, w := range weaker {
			err := l.Lock(ctx, p.key(name), w)
			if !errors.Is(err, errors.ErrUnsupported) {
				err = want(err, provider.ErrLocked)
			} else {
				err = nil
			}
			if err != nil {
				return fmt.Errorf("lock %s until %v, where there is %s until %v: %w", w.Mode, w.Until, r.Mode, r.Until, err)
			}
		}
		return errors.Join(p.has(ctx, name, r), p.cannotDelete(ctx, name, "under retention"))
	})
}

func lockMissing(ctx context.Context, p *probe) error {
	l, err := p.locker()
	if err != nil {
		return err
	}
	err = l.Lock(ctx, p.key("missing"), p.retention(provider.Governance))
	if errors.Is(err, errors.ErrUnsupported) {
		return &unsupportedError{err}
	}
	return errors.Join(want(err, provider.ErrNotFound), p.absent(ctx, "missing"))
}
