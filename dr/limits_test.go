package dr

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdfast-go/holdfast/provider"
)

// crowd notes how many Puts of the repository were under way at once.
type crowd struct {
	provider.BlobStore
	now, most atomic.Int32
	hold      chan struct{} // Puts wait for it; nil: a moment
}

func (c *crowd) Put(ctx context.Context, key string, b provider.Body, o provider.PutOptions) (provider.Info, error) {
	if len(key) > len(repositoryPrefix) && key[:len(repositoryPrefix)] == repositoryPrefix {
		n := c.now.Add(1)
		defer c.now.Add(-1)
		for most := c.most.Load(); n > most && !c.most.CompareAndSwap(most, n); most = c.most.Load() {
		}
		if c.hold != nil {
			<-c.hold
		}
		time.Sleep(time.Millisecond) // enough for others to come
	}
	return c.BlobStore.Put(ctx, key, b, o)
}

// The limits of a site hold its repository, whoever opens it, and no lease.
func TestLimits(t *testing.T) {
	for name, limits := range map[string]*Limits{"limited": {InFlight: 1, Writes: 1e6, UploadMB: 1000}, "free": nil} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			f.config.Sites.Witness = nil
			f.config.Sites.Standby.Limits = limits
			c := &crowd{BlobStore: f.stores["mem://b/"]}
			open := f.parts.Stores["mem"]
			f.parts.Stores["mem"] = func(ctx context.Context, s Site) (provider.BlobStore, error) {
				if s.Bucket == "mem://b/" {
					return c, nil
				}
				return open(ctx, s)
			}
			p := f.planner(t)
			var running sync.WaitGroup
			for i := range 20 {
				running.Go(func() {
					s, err := p.repositoryStore(t.Context(), StandbySite)
					if err == nil {
						_, err = s.Put(t.Context(), fmt.Sprint("x", i), provider.Bytes([]byte("x")), provider.PutOptions{})
					}
					if err != nil {
						t.Error(err)
					}
				})
			}
			running.Wait()
			if n := c.most.Load(); (limits == nil) == (n == 1) {
				t.Errorf("%d requests under way at once", n)
			}
			f.catchUp(t, p)
			if n := len(points(t, p, StandbySite, "orders")); n != 1 {
				t.Errorf("%d points at the standby", n)
			}

			// A repository that waits keeps no lease waiting.
			c.hold = make(chan struct{})
			running.Go(func() {
				s, err := p.repositoryStore(t.Context(), StandbySite)
				if err == nil {
					_, err = s.Put(t.Context(), "y", provider.Bytes([]byte("y")), provider.PutOptions{})
				}
				if err != nil {
					t.Error(err)
				}
			})
			for c.now.Load() == 0 {
				time.Sleep(time.Millisecond)
			}
			s, err := p.LeaseStore(t.Context())
			if err == nil {
				_, err = s.Put(t.Context(), "lease", provider.Bytes([]byte("l")), provider.PutOptions{})
			}
			if err != nil {
				t.Error(err)
			}
			close(c.hold)
			running.Wait()
		})
	}
}
