package objects

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"slices"
	"strings"
	"sync"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/provider"
)

// What a restore does to an object.
const (
	Create   = "create"
	Replace  = "replace"
	Tag      = "tag" // gives it the tags of the point, and leaves the rest
	Delete   = "delete"
	Conflict = "conflict" // nothing, and fails: another one is there, or other tags, and overwrite is not set
)

// A Change is what a restore would do to one object.
type Change struct {
	Key    string `json:"key"`    // at the destination
	Action string `json:"action"` // Create, Replace, Tag, Delete or Conflict
	Bytes  int64  `json:"bytes"`  // to be written, versions included; of what is deleted, its size
}

// Plan tells what [Target.Restore] of v to d would change, in the order of
// keys, and nothing of what would stay. It lists what is there, describes what
// the point has, too, and reads it if the store keeps no SHA-256; of the point
// it reads no content. It writes nothing. What changes later changes the plan.
func (t *Target) Plan(ctx context.Context, v *backup.View, d backup.Destination) iter.Seq2[Change, error] {
	return func(yield func(Change, error) bool) {
		r, err := t.restorer(ctx, v, d)
		if err != nil {
			yield(Change{}, err)
			return
		}
		for c, err := range r.changes(ctx) {
			if err != nil || c.Action != "" {
				if !yield(c.Change, err) {
					return
				}
			}
		}
	}
}

// A candidate is an object that a restore may change: one of the point, one
// that is at the destination, or one that is both.
type candidate struct {
	key   string
	want  *wanted        // nil if the point has none
	have  *provider.Info // as listed, or nil
	extra bool           // is deleted by the option mirror
}

// candidates yields all of them in the order of keys, which is that of both.
func (r *restorer) candidates(ctx context.Context) iter.Seq2[candidate, error] {
	return func(yield func(candidate, error) bool) {
		next, stop := iter.Pull2(r.wanted(ctx))
		defer stop()
		w, err, more := next()
		sel := r.t.selection()
		for info, lerr := range r.t.store.List(ctx, r.location, provider.ListOptions{}) {
			for ; lerr == nil && more && err == nil && w.key < info.Key; w, err, more = next() {
				if !yield(candidate{key: w.key, want: new(w)}, nil) {
					return
				}
			}
			if err := errors.Join(lerr, err); err != nil {
				yield(candidate{}, err)
				return
			}
			c := candidate{key: info.Key, have: &info}
			if more && w.key == info.Key {
				c.want = new(w)
			}
			// Never what a backup with this target leaves out.
			rel, below := strings.CutPrefix(info.Key, r.location)
			c.extra = (c.want == nil || w.gone) && below && validKey(rel) && r.sel.Has(rel) && sel.Has(rel) && !r.unread(rel)
			if !yield(c, nil) {
				return
			}
			if c.want != nil {
				w, err, more = next()
			}
		}
		for ; more && err == nil; w, err, more = next() {
			if !yield(candidate{key: w.key, want: new(w)}, nil) {
				return
			}
		}
		if err != nil {
			yield(candidate{}, err)
		}
	}
}

// unread: a warning of the point is about this key, or about one that ends as it
// does, so that it may have been there, and could not be read.
func (r *restorer) unread(rel string) bool {
	return slices.ContainsFunc(r.v.Point().Warnings, func(w backup.Warning) bool { return strings.HasSuffix(w.Path, rel) })
}

// A change is one with what it was found by.
type change struct {
	Change
	want *wanted
	have provider.Info // of what is replaced, tagged or deleted
}

// changes yields what becomes of each candidate; where nothing does, Action is
// empty.
func (r *restorer) changes(ctx context.Context) iter.Seq2[change, error] {
	return inOrder(ctx, r.t.c.Readers, r.candidates(ctx), func(ctx context.Context, c candidate) (change, error) {
		var cause error
		for range attempts {
			found, err := r.change(ctx, c)
			if err == nil {
				return found, nil
			}
			if cause = err; final(ctx, err) {
				break
			}
		}
		return change{}, fmt.Errorf("%.200q: %w", c.key, cause)
	})
}

func (r *restorer) change(ctx context.Context, c candidate) (change, error) {
	found := change{Change: Change{Key: c.key}, want: c.want}
	switch {
	case c.want != nil && len(c.want.before) > 0:
		return r.historyChange(ctx, c, found)
	case c.want == nil && (!c.extra || !r.o.mirror):
		return found, nil
	case c.want == nil:
		found.Action, found.Bytes, found.have = Delete, c.have.Size, *c.have
		return found, nil
	}
	var err error
	if c.have != nil {
		found.have, err = r.t.store.Stat(ctx, c.key)
	}
	if c.have == nil || errors.Is(err, provider.ErrNotFound) {
		found.Action, found.Bytes = Create, c.want.it.Size
		return found, nil
	}
	same := false
	if err == nil {
		same, err = r.same(ctx, c.key, found.have, c.want.version)
	}
	switch {
	case err != nil:
		return change{}, err
	case same:
		found.Action, err = r.tagChange(ctx, c.key, found.have.Version, c.want.version)
		return found, err
	case !r.o.overwrite:
		found.Action = Conflict
		return found, nil
	}
	found.Action, found.Bytes = Replace, c.want.it.Size
	return found, nil
}

// tagChange is what becomes of the tags of a version that is there.
func (r *restorer) tagChange(ctx context.Context, key string, have provider.Version, v version) (action string, err error) {
	if v.meta.Tags == nil {
		return "", nil
	}
	_, lacks, err := r.lacks(ctx, key, have, v.meta.Tags)
	switch {
	case errors.Is(err, errTaken):
		return Conflict, nil
	case errors.Is(err, errors.ErrUnsupported), errors.Is(err, fs.ErrPermission):
		return "", nil // they are left out
	case err == nil && lacks:
		return Tag, nil
	}
	return "", err
}

// historyChange is what becomes of an object whose versions are restored.
func (r *restorer) historyChange(ctx context.Context, c candidate, found change) (change, error) {
	all := c.want.before
	if !c.want.gone {
		all = append(all[:len(all):len(all)], c.want.version)
	}
	have, err := r.versions(ctx, c.key)
	if err != nil {
		return change{}, err
	}
	n, err := r.done(ctx, c.key, have.contents, all)
	if err != nil {
		return change{}, err
	}
	left := r.left(all, n, have.present)
	for _, v := range left {
		found.Bytes += v.it.Size
	}
	switch {
	case n < len(have.contents) && !r.o.overwrite:
		found.Action, found.Bytes = Conflict, 0
	case len(left) > 0 && len(have.contents) == 0:
		found.Action = Create
	case len(left) > 0:
		found.Action = Replace
	default:
		for i, v := range contents(all)[:n] {
			action, err := r.tagChange(ctx, c.key, have.contents[len(have.contents)-n+i].Version, v)
			if err != nil {
				return change{}, err
			}
			if found.Action == "" || action == Conflict {
				found.Action = action
			}
		}
	}
	return found, nil
}

// inOrder does the same to all that a sequence yields, n at a time, and yields
// what comes of it in the order of the sequence, up to the first error.
func inOrder[T, R any](ctx context.Context, n int, all iter.Seq2[T, error], do func(context.Context, T) (R, error)) iter.Seq2[R, error] {
	type result struct {
		r   R
		err error
	}
	return func(yield func(R, error) bool) {
		var wg sync.WaitGroup
		defer wg.Wait()
		doing, cancel := context.WithCancel(ctx)
		defer cancel() // before the wait
		queue := make(chan chan result, n-1)
		wg.Go(func() {
			defer close(queue)
			for t, err := range all {
				done := make(chan result, 1)
				select {
				case queue <- done:
				case <-doing.Done():
					return
				}
				if err != nil {
					done <- result{err: err}
					return
				}
				wg.Go(func() {
					r, err := do(doing, t)
					done <- result{r, err}
				})
			}
		})
		for done := range queue {
			if got := <-done; !yield(got.r, got.err) || got.err != nil {
				return
			}
		}
		if err := ctx.Err(); err != nil {
			var none R
			yield(none, err)
		}
	}
}
