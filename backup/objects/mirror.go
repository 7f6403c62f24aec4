package objects

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"github.com/holdfast-go/holdfast/provider"
)

// extras yields what is at the destination, is selected, and is not in the
// point.
func (r *restorer) extras(ctx context.Context) iter.Seq2[provider.Info, error] {
	return func(yield func(provider.Info, error) bool) {
		for c, err := range r.candidates(ctx) {
			if err != nil {
				yield(provider.Info{}, err)
				return
			}
			if c.extra && !yield(*c.have, nil) {
				return
			}
		}
	}
}

// remove deletes an object that is not in the point, unless it has changed
// since it was listed.
func (r *restorer) remove(ctx context.Context, info provider.Info) error {
	if err := r.delete(ctx, info.Key, info.Version); err != nil {
		return fmt.Errorf("delete %.200q: %w", info.Key, err)
	}
	return nil
}

// delete removes one version of an object. Of a store that cannot compare and
// delete in one step it is two.
func (r *restorer) delete(ctx context.Context, key string, v provider.Version) error {
	var cause error
	for range attempts {
		err := r.t.store.Delete(ctx, key, provider.DeleteOptions{Version: v})
		if errors.Is(err, errors.ErrUnsupported) {
			var info provider.Info
			info, err = r.t.store.Stat(ctx, key)
			switch {
			case errors.Is(err, provider.ErrNotFound):
				return nil
			case err == nil && info.Version != v:
				return provider.ErrConflict
			case err == nil:
				err = r.t.store.Delete(ctx, key, provider.DeleteOptions{})
			}
		}
		if err == nil || ctx.Err() != nil || ofOne(err) {
			return err
		}
		cause = err
	}
	return cause
}
