package objects

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/backup/internal/pattern"
	"github.com/holdfast-go/holdfast/provider"
)

// Restore implements [backup.Target].
func (t *Target) Restore(ctx context.Context, v *backup.View, d backup.Destination) error {
	r, err := t.restorer(ctx, v, d)
	if err != nil {
		return err
	}
	if !r.o.dryRun {
		if r.taken, err = r.isTaken(ctx); err != nil {
			return err
		}
	}
	if err := r.run(ctx); err != nil {
		if !r.o.dryRun {
			err = fmt.Errorf("%w (below %q there are now %d objects of the point, each of them whole; run it again to go on)", err, d.Location, r.whole.Load())
		}
		return err
	}
	return nil
}

// restorer returns one for what a point and a destination say, when it has
// gone through both.
func (t *Target) restorer(ctx context.Context, v *backup.View, d backup.Destination) (*restorer, error) {
	o, err := parseOptions(d)
	if err != nil {
		return nil, err
	}
	if _, ok := provider.As[provider.Versioner](t.store); o.versions && !ok {
		return nil, fmt.Errorf("destination: option versions: the store keeps none: %w", errors.ErrUnsupported)
	}
	if o.mirror && d.Location != t.c.Prefix && strings.HasPrefix(t.c.Prefix, d.Location) {
		return nil, fmt.Errorf("destination: option mirror: at Location %q it would delete what is at and beside Config.Prefix %q: make Location that, or restore with a Target without Prefix",
			d.Location, t.c.Prefix)
	}
	if p := v.Point(); o.mirror && p.WarningCount > int64(len(p.Warnings)) {
		return nil, fmt.Errorf("destination: option mirror: %d parts are missing from the point, which names the first %d, so that what else is to be deleted is not known",
			p.WarningCount, len(p.Warnings))
	}
	r := &restorer{t: t, v: v, o: o, location: d.Location}
	return r, r.resolve(ctx)
}

type restorer struct {
	t        *Target
	v        *backup.View
	o        options
	sel      *pattern.Selection
	location string
	taken    bool // there were objects below the location
	undo     bool // the point is a safety point
	whole    atomic.Int64
	untagged untagged

	mu    sync.Mutex
	named []error // what is not restored
	count int
}

const maxErrors = 20

// name keeps an error that does not end the restore.
func (r *restorer) name(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.count++; r.count <= maxErrors {
		r.named = append(r.named, err)
	}
}

// A version is an item with its description.
type version struct {
	it   backup.Item
	meta meta
	kept map[string]string // of meta.Meta, what any store can keep
}

// A wanted is an object to restore.
type wanted struct {
	key string // at the destination
	version
	gone   bool      // there is no present version
	before []version // that are to be restored, too, the oldest first
}

// wanted yields what the options select of the point.
func (r *restorer) wanted(ctx context.Context) iter.Seq2[wanted, error] {
	return func(yield func(wanted, error) bool) {
		var open wanted
		var rel string // of open
		has := false   // open is one
		flush := func() bool {
			ok := !has || open.gone && len(open.before) == 0 && !r.undo || yield(open, nil)
			has = false
			return ok
		}
		for it, err := range r.v.Items(ctx) {
			var key string
			var number int
			var m meta
			if err == nil {
				key, number, err = keyOf(it.Path)
			}
			if err == nil {
				m, err = decodeMeta(it)
			}
			if err != nil {
				yield(wanted{}, err)
				return
			}
			if !has || key != rel {
				if !flush() {
					return
				}
				if !r.sel.Has(key) {
					continue
				}
				open, rel, has = wanted{key: r.location + key, gone: true}, key, true
			}
			v := version{it: it, meta: m}
			v.kept, _ = keepable(m.Meta)
			switch {
			case number == present && !m.Deleted:
				open.version, open.gone = v, false
			case r.o.versions:
				open.before = append(open.before, v)
			}
		}
		flush()
	}
}

// isTaken reports whether there is anything at the destination.
func (r *restorer) isTaken(ctx context.Context) (bool, error) {
	var cause error
	for range attempts {
		cause = nil
		for _, err := range r.t.store.List(ctx, r.location, provider.ListOptions{}) {
			if err == nil || ctx.Err() != nil {
				return true, err
			}
			cause = err
		}
		if cause == nil {
			return false, nil
		}
	}
	return false, cause
}

func (r *restorer) run(ctx context.Context) error {
	if err := parallel(ctx, r, r.wanted(ctx), r.object); err != nil {
		return err
	}
	if r.o.verify && !r.o.dryRun {
		if err := parallel(ctx, r, r.wanted(ctx), r.verify); err != nil {
			return err
		}
	}
	if r.o.mirror && !r.o.dryRun && r.count == 0 {
		if err := parallel(ctx, r, r.extras(ctx), r.remove); err != nil {
			return err
		}
	}
	if r.count > 0 {
		return fmt.Errorf("%d objects are not restored, the rest is: %w", r.count, errors.Join(r.named...))
	}
	return nil
}

// parallel hands what a sequence yields to several workers. Errors about one
// object, and damage, are kept; any other ends it.
func parallel[T any](ctx context.Context, r *restorer, all iter.Seq2[T, error], do func(context.Context, T) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	tasks := make(chan T)
	var wg sync.WaitGroup
	for range r.t.c.Readers {
		wg.Go(func() {
			for k := range tasks {
				if ctx.Err() != nil {
					continue
				}
				switch err := do(ctx, k); {
				case err == nil:
				case ctx.Err() == nil && ofOne(err):
					r.name(err)
				default:
					cancel(err)
				}
			}
		})
	}
	var err error
	for k, lerr := range all {
		if err = lerr; err != nil {
			break
		}
		select {
		case tasks <- k:
		case <-ctx.Done():
		}
		if ctx.Err() != nil {
			break
		}
	}
	close(tasks)
	wg.Wait()
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}

// ofOne reports whether an error is about one object only, so that the others
// are restored in spite of it.
func ofOne(err error) bool {
	for _, one := range []error{backup.ErrDamaged, provider.ErrConflict, provider.ErrInvalidKey, provider.ErrLocked, provider.ErrCorrupt, errOpaque} {
		if errors.Is(err, one) {
			return true
		}
	}
	return false
}

// object puts one object in its place.
func (r *restorer) object(ctx context.Context, w wanted) error {
	if r.o.dryRun {
		return r.rehearse(ctx, w)
	}
	if r.undo && w.gone {
		return r.unmake(ctx, w.key)
	}
	var err error
	if len(w.before) > 0 {
		err = r.history(ctx, w)
	} else {
		err = r.put(ctx, w)
	}
	if err != nil {
		return fmt.Errorf("%.200q: %w", w.key, err)
	}
	if !w.gone {
		r.whole.Add(1)
		if _, dropped := keepable(w.meta.Meta); len(dropped) > 0 {
			r.t.c.Logger.Warn("restored without all of its metadata, which no store has to keep", "key", w.key, "names", dropped)
		}
	}
	return nil
}

// rehearse reads and verifies all there is of an object.
func (r *restorer) rehearse(ctx context.Context, w wanted) error {
	all := w.before
	if !w.gone {
		all = append(all, w.version)
	}
	for _, v := range all {
		content, err := r.v.Open(ctx, v.it)
		if err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, content)
		content.Close()
		if err != nil {
			return err
		}
		r.v.Wrote(1, v.it.Size)
	}
	return nil
}

// put writes the present version of an object, unless it is there. Whatever
// becomes of a request, what is there is looked at before it is made again.
func (r *restorer) put(ctx context.Context, w wanted) error {
	look := r.taken
	var have provider.Info
	var cause error
	for range attempts {
		if look {
			var err error
			have, err = r.t.store.Stat(ctx, w.key)
			switch {
			case err == nil:
				same, err := r.same(ctx, w.key, have, w.version)
				if err != nil && final(ctx, err) {
					return err
				}
				if err != nil {
					cause = err
					continue
				}
				if same {
					err = r.tag(ctx, w.key, have.Version, w.version)
				}
				switch {
				case same && err == nil:
					r.v.Kept(1, w.it.Size)
					return nil
				case same && !errors.Is(err, errTaken) && !final(ctx, err):
					cause = err
					continue
				case same:
					return err
				case !r.o.overwrite:
					return errTaken
				}
			case errors.Is(err, provider.ErrNotFound):
				have = provider.Info{}
			case final(ctx, err):
				return err
			default:
				cause = err
				continue
			}
		}
		info, err := r.write(ctx, w.key, w.version, have.Version)
		if err == nil && len(w.meta.Tags) > 0 { // it has none yet
			err = r.tag(ctx, w.key, info.Version, w.version)
		}
		if err == nil {
			r.v.Wrote(1, w.it.Size)
			return nil
		}
		if final(ctx, err) {
			return err
		}
		cause, look = err, true
	}
	return cause
}

var errTaken = fmt.Errorf("another object is there; with overwrite=true it would be replaced: %w", provider.ErrConflict)

// final reports whether there is no use in trying again.
func final(ctx context.Context, err error) bool {
	return ctx.Err() != nil || errors.Is(err, errors.ErrUnsupported) || ofOne(err) && !errors.Is(err, provider.ErrConflict)
}

// write puts a version over another, or where there is none.
func (r *restorer) write(ctx context.Context, key string, v version, over provider.Version) (provider.Info, error) {
	body, err := r.body(ctx, v.it)
	if err != nil {
		return provider.Info{}, err
	}
	o := provider.PutOptions{IfAbsent: over == "", IfMatch: over, SHA256: v.meta.sum(), Meta: v.kept}
	info, err := r.t.store.Put(ctx, key, body, o)
	if b, ok := body.(*chunked); ok && err != nil {
		if failed := b.failure(); failed != nil {
			return info, failed // which a store may tell in words only
		}
	}
	return info, err
}

// verify reads an object again.
func (r *restorer) verify(ctx context.Context, w wanted) (err error) {
	if w.gone && len(w.before) == 0 {
		return nil
	}
	for range attempts {
		if err = r.verifyOnce(ctx, w); err == nil || final(ctx, err) {
			break
		}
	}
	if err != nil {
		return fmt.Errorf("verify %.200q: %w", w.key, err)
	}
	return nil
}

func (r *restorer) verifyOnce(ctx context.Context, w wanted) error {
	if len(w.before) > 0 {
		if err := r.verifyPast(ctx, w); err != nil || w.gone {
			return err
		}
	}
	info, err := r.t.store.Stat(ctx, w.key)
	switch {
	case errors.Is(err, provider.ErrNotFound):
		return fmt.Errorf("%w: %w", err, provider.ErrCorrupt)
	case err != nil:
		return err
	}
	same, err := r.equal(ctx, w.key, info, w.it)
	if err == nil && (!same || !sameMeta(info, w.version)) {
		err = fmt.Errorf("it is not what was restored: %w", provider.ErrCorrupt)
	}
	if err == nil {
		err = r.verifyTags(ctx, w.key, info.Version, w.version)
	}
	return err
}
