package objects

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/provider"
)

var _ backup.Undoer = (*Target)(nil)

// Secure implements [backup.Undoer]: each object that a restore of v to d would
// replace, tag or delete is kept as it is, with its tags if the store has any,
// and each that it would create is recorded as absent. What cannot be brought
// back as it is, Meta that no store has to keep for one, or tags that may not
// be read, is a warning. A restore with the option versions is
// errors.ErrUnsupported: what it adds to a history stays there.
func (t *Target) Secure(ctx context.Context, s *backup.Session, v *backup.View, d backup.Destination) error {
	r, err := t.restorer(ctx, v, d)
	switch {
	case err != nil:
		return err
	case r.o.dryRun:
		return nil
	case r.o.versions:
		return fmt.Errorf("destination: option versions: what it writes into a history cannot be taken out again: %w", errors.ErrUnsupported)
	}
	from := &Target{c: t.c, store: t.store, securing: true}
	_, from.c.Tags = provider.As[provider.Tagger](t.store)
	return from.fill(ctx, s, func(ctx context.Context, k *reading) error {
		defer close(k.work)
		for c, err := range r.changes(ctx) {
			if err == nil {
				err = k.secure(ctx, c, strings.TrimPrefix(c.Key, d.Location))
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// secure hands out what there is to keep before a change.
func (r *reading) secure(ctx context.Context, c change, rel string) error {
	k := &task{info: c.have, path: pathOf(rel, present)}
	switch c.Action {
	case "", Conflict:
		return nil
	case Create:
		k.info.Key, k.deleted, k.meta = c.Key, true, gone(time.Time{})
		if !r.send(ctx, k) {
			return context.Cause(ctx)
		}
		return nil
	case Tag: // the point has its content
		return r.describedAnew(ctx, k, known{c.want.it, c.want.meta})
	}
	return r.read(ctx, k)
}

// Undo implements [backup.Undoer]. What was there comes back as after a
// restore: with content, Meta and tags, as a new version of a store that keeps
// them, and not under the retention that it had. Whatever else has changed
// these objects since is undone, too.
func (t *Target) Undo(ctx context.Context, safety *backup.View, d backup.Destination) error {
	if _, err := parseOptions(backup.Destination{Location: d.Location}); err != nil {
		return err
	}
	r := &restorer{t: t, v: safety, o: options{overwrite: true}, location: d.Location, taken: true, undo: true}
	if err := r.resolve(ctx); err != nil {
		return err
	}
	return r.run(ctx)
}

// unmake removes what was not there when the safety point was made.
func (r *restorer) unmake(ctx context.Context, key string) error {
	var cause error
	for range attempts {
		info, err := r.t.store.Stat(ctx, key)
		if errors.Is(err, provider.ErrNotFound) {
			r.v.Kept(1, 0)
			return nil
		}
		if err == nil {
			err = r.delete(ctx, key, info.Version)
		}
		if err == nil {
			r.v.Wrote(1, 0)
			return nil
		}
		if cause = err; final(ctx, err) {
			break
		}
	}
	return fmt.Errorf("delete %.200q: %w", key, cause)
}
