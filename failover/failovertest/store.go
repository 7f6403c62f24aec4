package failovertest

import (
	"context"
	"encoding/json"
	"io"
	"iter"
	"strings"
	"time"

	"github.com/holdfast-go/holdfast/failover"
	"github.com/holdfast-go/holdfast/provider"
)

// store is a process' view of the store.
type store struct {
	p    *process
	base provider.BlobStore
}

var _ provider.BlobStore = (*store)(nil)

// send carries one request: it may be delayed, cut off, fail before it takes
// effect or lose its reply. late, if not nil, lets it take effect any time
// later although the caller was told that it failed.
func (s *store) send(ctx context.Context, what string, do func() error, late func()) error {
	p := s.p
	before, after := p.request(what)
	if before {
		return p.die()
	}
	delay := p.upTo(40 * time.Millisecond)
	if p.rates.store > 0 && p.float() < p.rates.store/4 {
		delay = p.upTo(20 * time.Second)
	}
	if err := pass(ctx, delay); err != nil {
		return err
	}
	if now := time.Now(); now.After(p.cutFrom) && now.Before(p.cutTo) {
		p.fault("partition")
		if err := pass(ctx, p.upTo(5*time.Second)); err != nil {
			return err
		}
		return errFault
	}
	if p.isDead() {
		return errCrashed
	}
	draw := p.float()
	switch {
	case draw < p.rates.store/3:
		p.fault("store: not done")
		return errFault
	case draw < p.rates.store/3*2 && late != nil:
		p.fault("store: lands late")
		time.AfterFunc(p.upTo(90*time.Second), late)
		return errFault
	}
	err := do()
	if after {
		return p.die()
	}
	if draw > 1-p.rates.store/3 && err == nil {
		p.fault("store: reply lost")
		return errFault
	}
	if wait := pass(ctx, p.upTo(10*time.Millisecond)); wait != nil && err == nil {
		return wait
	}
	return err
}

func (s *store) Get(ctx context.Context, key string, o provider.GetOptions) (r io.ReadCloser, info provider.Info, err error) {
	err = s.send(ctx, "get "+key, func() (err error) {
		r, info, err = s.base.Get(context.WithoutCancel(ctx), key, o)
		return err
	}, nil)
	return r, info, err
}

func (s *store) Put(ctx context.Context, key string, body provider.Body, o provider.PutOptions) (info provider.Info, err error) {
	ctx2 := context.WithoutCancel(ctx)
	put := func() (err error) {
		info, err = s.base.Put(ctx2, key, body, o)
		if err == nil {
			s.written(ctx2, key)
		}
		return err
	}
	err = s.send(ctx, "put "+key, put, func() {
		if _, err := s.base.Put(ctx2, key, body, o); err == nil {
			s.written(ctx2, key)
		}
	})
	return info, err
}

// written looks at what is now in the lease.
func (s *store) written(ctx context.Context, key string) {
	if !strings.HasPrefix(key, "lease/") && !strings.HasPrefix(key, "lease-test/") {
		return
	}
	b, _, err := provider.ReadAll(ctx, s.base, key, 1<<20)
	if err != nil {
		return
	}
	var r failover.LeaseRecord
	if json.Unmarshal(b, &r) == nil {
		s.p.w.leaseWritten(r)
	}
}

func (s *store) Stat(ctx context.Context, key string) (info provider.Info, err error) {
	err = s.send(ctx, "stat "+key, func() (err error) {
		info, err = s.base.Stat(context.WithoutCancel(ctx), key)
		return err
	}, nil)
	return info, err
}

func (s *store) Delete(ctx context.Context, key string, o provider.DeleteOptions) error {
	return s.send(ctx, "delete "+key, func() error {
		return s.base.Delete(context.WithoutCancel(ctx), key, o)
	}, nil)
}

func (s *store) List(ctx context.Context, prefix string, o provider.ListOptions) iter.Seq2[provider.Info, error] {
	return func(yield func(provider.Info, error) bool) {
		var found []provider.Info
		err := s.send(ctx, "list "+prefix, func() error {
			for info, err := range s.base.List(context.WithoutCancel(ctx), prefix, o) {
				if err != nil {
					return err
				}
				found = append(found, info)
			}
			return nil
		}, nil)
		if err != nil {
			yield(provider.Info{}, err)
			return
		}
		for _, info := range found {
			if !yield(info, nil) {
				return
			}
		}
	}
}
