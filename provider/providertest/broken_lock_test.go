package providertest_test

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/holdfast-go/holdfast/provider"
)

// laxly is what a store knows that does not act by it.
type laxly struct {
	mu     sync.Mutex
	retain map[string]provider.Retention
}

// forgetful makes a store keep retentions from the good store.
func forgetful(b *broken) *laxly {
	l := &laxly{retain: map[string]provider.Retention{}}
	b.put = func(ctx context.Context, key string, body provider.Body, o provider.PutOptions) (provider.Info, error) {
		r := o.Retain
		o.Retain = provider.Retention{}
		info, err := b.good.Put(ctx, key, body, o)
		l.mu.Lock()
		defer l.mu.Unlock()
		if err == nil {
			l.retain[key] = r
		}
		return info, err
	}
	return l
}

var brokenLocks = []breakage{
	{"ignores Retain", func(b *broken) { forgetful(b) }, []string{"blob/retain", "blob/retain-delete", "blob/retain-replace"}},

	{"declines Retain, but stores the object", func(b *broken) {
		b.put = func(ctx context.Context, key string, body provider.Body, o provider.PutOptions) (provider.Info, error) {
			r := o.Retain
			o.Retain = provider.Retention{}
			info, err := b.good.Put(ctx, key, body, o)
			if err == nil && !r.IsZero() {
				err = &provider.Error{Op: "put", Provider: "broken", Key: key, Err: errors.ErrUnsupported}
			}
			return info, err
		}
	}, []string{"blob/lock-extend", "blob/lock-shorten", "blob/retain", "blob/retain-delete", "blob/retain-replace"}},

	{"does not enforce a lock", func(b *broken) {
		l := forgetful(b)
		inner := b.stat
		b.stat = func(ctx context.Context, key string) (provider.Info, error) {
			info, err := inner(ctx, key)
			l.mu.Lock()
			defer l.mu.Unlock()
			info.Retain = l.retain[key]
			return info, err
		}
		b.lock = func(ctx context.Context, key string, r provider.Retention) error {
			if _, err := b.good.Stat(ctx, key); err != nil {
				return err
			}
			l.mu.Lock()
			defer l.mu.Unlock()
			l.retain[key] = r
			return nil
		}
	}, []string{"blob/lock", "blob/lock-extend", "blob/lock-shorten", "blob/retain", "blob/retain-delete", "blob/retain-replace"}},

	{"says that it shortened a lock", func(b *broken) {
		b.lock = func(ctx context.Context, key string, r provider.Retention) error {
			err := b.good.Lock(ctx, key, r)
			if errors.Is(err, provider.ErrLocked) {
				return nil
			}
			return err
		}
	}, []string{"blob/lock-shorten"}},

	{"shortens a lock", func(b *broken) {
		b.lock = func(ctx context.Context, key string, r provider.Retention) error {
			err := b.good.Lock(ctx, key, r)
			if errors.Is(err, provider.ErrLocked) {
				info, _ := b.good.Stat(ctx, key)
				content, _, _ := provider.ReadAll(ctx, b.good, key, info.Size)
				time.Sleep(time.Until(info.Retain.Until)) // no other way to get at it
				_, err = b.good.Put(ctx, key, provider.Bytes(content), provider.PutOptions{Retain: r})
			}
			return err
		}
	}, []string{"blob/lock-shorten"}},

	{"refuses to extend a lock", func(b *broken) {
		b.lock = func(ctx context.Context, key string, r provider.Retention) error {
			if info, err := b.good.Stat(ctx, key); err == nil && !info.Retain.IsZero() && info.Retain != r {
				return &provider.Error{Op: "lock", Provider: "broken", Key: key, Err: provider.ErrLocked}
			}
			return b.good.Lock(ctx, key, r)
		}
	}, []string{"blob/lock-extend", "blob/lock-shorten"}},

	{"makes a new version to lock it", func(b *broken) {
		b.lock = func(ctx context.Context, key string, r provider.Retention) error {
			info, err := b.good.Stat(ctx, key)
			if err != nil || !info.Retain.IsZero() {
				return b.good.Lock(ctx, key, r)
			}
			content, _, err := provider.ReadAll(ctx, b.good, key, info.Size)
			if err == nil {
				_, err = b.good.Put(ctx, key, provider.Bytes(content), provider.PutOptions{Retain: r})
			}
			return err
		}
	}, []string{"blob/lock"}},

	{"locks what is not there", func(b *broken) {
		b.lock = func(ctx context.Context, key string, r provider.Retention) error {
			err := b.good.Lock(ctx, key, r)
			if errors.Is(err, provider.ErrNotFound) {
				err = nil
			}
			return err
		}
	}, []string{"blob/lock-missing"}},

	{"says that it deleted what is under retention", func(b *broken) {
		b.remove = func(ctx context.Context, key string, o provider.DeleteOptions) error {
			err := b.good.Delete(ctx, key, o)
			if errors.Is(err, provider.ErrLocked) {
				return nil
			}
			return err
		}
	}, []string{"blob/lock", "blob/lock-extend", "blob/lock-shorten", "blob/retain-delete", "blob/retain-ends"}},

	{"never ends a retention", func(b *broken) {
		b.put = func(ctx context.Context, key string, body provider.Body, o provider.PutOptions) (provider.Info, error) {
			if !o.Retain.IsZero() {
				o.Retain.Until = o.Retain.Until.Add(24 * time.Hour)
			}
			return b.good.Put(ctx, key, body, o)
		}
	}, []string{"blob/lock-extend", "blob/lock-shorten", "blob/retain", "blob/retain-ends"}},

	{"says that it replaced what is under retention", func(b *broken) {
		b.put = func(ctx context.Context, key string, body provider.Body, o provider.PutOptions) (provider.Info, error) {
			info, err := b.good.Put(ctx, key, body, o)
			if errors.Is(err, provider.ErrLocked) {
				return b.good.Put(ctx, key+".newer", body, provider.PutOptions{})
			}
			return info, err
		}
	}, nil},
}
