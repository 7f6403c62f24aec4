package provider

import (
	"context"
	"fmt"
	"iter"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// A Warmer brings back objects that were moved, by a rule of the bucket for
// example, into a tier that cannot be read at once: Glacier and Deep Archive of
// S3, Archive of Azure. Until then Get fails with [ErrCold].
type Warmer interface {
	// Warm asks that the present object of key be made readable, and says how
	// far that is: Ready, if Get works now, or Pending. It returns at once, and
	// is called again to follow what goes on behind it, which takes minutes to
	// days. An object that is in no such tier is Ready, and nothing is changed.
	// Content and Version stay what they are. [ErrNotFound].
	Warm(ctx context.Context, key string, o WarmOptions) (State, error)
}

// WarmOptions say how objects are brought back.
type WarmOptions struct {
	// Days is how long an object can be read where the store makes a copy for
	// a time (S3); 0 means 7. Elsewhere (Azure) the object moves, and stays.
	Days int

	// Urgent asks for the fastest way that the tier has, which costs more.
	Urgent bool
}

// WarmProgress says how far a [WarmAll] is.
type WarmProgress struct {
	Objects int // that were looked at
	Bytes   int64
	Ready   int  // of them, that can be read
	Looked  bool // all were looked at: Objects and Bytes are final
}

// warming is how many objects are asked about at once.
const warming = 16

// WarmAll makes objects readable, and returns when all of them are. It begins
// all, then asks again about those that are not Ready, every quarter of a minute
// at first and every ten minutes later on. It keeps the keys of these in memory.
// If it is cut off or fails, call it again: what has begun goes on meanwhile and
// is not paid for twice. Of a store that is no [Warmer] there is nothing to do.
//
// Before a restore from a repository whose packs are in a cold tier:
//
//	err := provider.WarmAll(ctx, store, repository.Objects(ctx, "points/"+string(id)), provider.WarmOptions{}, nil)
//
// progress, unless it is nil, is called by one goroutine at a time.
func WarmAll(ctx context.Context, s BlobStore, objects iter.Seq2[Info, error], o WarmOptions, progress func(WarmProgress)) error {
	w, ok := As[Warmer](s)
	if !ok {
		return nil
	}
	all := warmth{warmer: w, o: o, progress: progress}
	pending, err := all.round(ctx, objects)
	if err != nil {
		return err
	}
	all.told.Looked = true
	all.tell(0)
	for wait := 15 * time.Second; len(pending) > 0; wait = min(wait*3/2, 10*time.Minute) {
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return fmt.Errorf("warm: %d objects are not there yet: %w", len(pending), context.Cause(ctx))
		}
		again := func(yield func(Info, error) bool) {
			for _, key := range pending {
				if !yield(Info{Key: key}, nil) {
					return
				}
			}
		}
		if pending, err = all.round(ctx, again); err != nil {
			return err
		}
	}
	return nil
}

// warmth is what the rounds of a WarmAll share.
type warmth struct {
	warmer   Warmer
	o        WarmOptions
	progress func(WarmProgress)

	mu   sync.Mutex
	told WarmProgress
}

// round asks about objects and returns the keys of those that are not Ready.
func (w *warmth) round(ctx context.Context, objects iter.Seq2[Info, error]) (pending []string, err error) {
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(warming)
	for info, lerr := range objects {
		if err = lerr; err != nil || gctx.Err() != nil {
			break // what has begun is waited for
		}
		g.Go(func() error {
			state, err := w.warmer.Warm(gctx, info.Key, w.o)
			if err == nil && state != Ready && state != Pending {
				err = fmt.Errorf("warm %s: state %q", info.Key, state)
			}
			if err != nil {
				return err
			}
			w.mu.Lock()
			defer w.mu.Unlock()
			if !w.told.Looked {
				w.told.Objects++
				w.told.Bytes += info.Size
			}
			if state == Pending {
				pending = append(pending, info.Key)
				w.tell(0)
			} else {
				w.tell(1)
			}
			return nil
		})
	}
	if werr := g.Wait(); werr != nil {
		return nil, werr
	}
	if err == nil && ctx.Err() != nil {
		err = fmt.Errorf("warm: %w", context.Cause(ctx))
	}
	return pending, err
}

// tell counts n more as ready. The caller holds mu, or is alone.
func (w *warmth) tell(n int) {
	w.told.Ready += n
	if w.progress != nil {
		w.progress(w.told)
	}
}
