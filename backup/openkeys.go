package backup

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/holdfast-go/holdfast/provider"
)

// openKeys opens the present generation of a repository's keys.
func openKeys(ctx context.Context, c Config) (*keys, error) {
	k, roots, err := openRoots(ctx, c)
	for _, root := range roots {
		clear(root)
	}
	return k, err
}

// openRoots is openKeys for those who make the next generation.
func openRoots(ctx context.Context, c Config) (k *keys, roots [][]byte, err error) {
	b, _, readErr := provider.ReadAll(ctx, c.Store, formatKey, maxFormat)
	if readErr != nil && !errors.Is(readErr, provider.ErrNotFound) && !errors.Is(readErr, provider.ErrCorrupt) {
		return nil, nil, readErr
	}
	found, err := generations(ctx, c)
	if err != nil {
		return nil, nil, err
	}
	if len(found) == 0 {
		return openFirst(ctx, c, b, readErr, c.unwrapper(ctx))
	}
	var problems []error
	for _, o := range likely(b, found) {
		if roots, err = o.open(c.unwrapper(ctx)); err == nil {
			if k, _, err = openFirst(ctx, c, b, readErr, having(roots[0])); err == nil {
				err = k.addGenerations(roots, o)
			}
		}
		if err == nil {
			for _, other := range found {
				k.widest = max(k.widest, len(other.encoded))
			}
			return k, roots, superseded(o.Generation, o.Authority, found, problems)
		}
		problems = append(problems, err)
		if ctx.Err() != nil {
			return nil, nil, ctx.Err()
		}
	}
	if k, roots, err = openFirst(ctx, c, b, readErr, c.unwrapper(ctx)); err != nil {
		return nil, nil, errors.Join(append(problems, err)...)
	}
	return k, roots, superseded(1, k.authorities[1], found, problems)
}

// having unwraps to a root that is known already.
func having(root []byte) func([]Stanza, func([]byte) bool) ([]byte, error) {
	return func(_ []Stanza, accept func([]byte) bool) ([]byte, error) {
		if !accept(root) {
			return nil, ErrNoIdentity
		}
		return slices.Clone(root), nil
	}
}

// superseded is the error if a generation after the one that was opened is
// genuine: whoever opens the old one only has been removed.
func superseded(opened int, authority ed25519.PublicKey, found []*keysObject, problems []error) error {
	for _, o := range found {
		if o.Generation == opened+1 && o.follows(authority) {
			err := fmt.Errorf("%w: the keys given are of generation %d and no recipient of generation %d", ErrNoIdentity, opened, o.Generation)
			return errors.Join(append([]error{err}, problems...)...)
		}
	}
	return nil
}

// likely orders generations by how likely they are the present one, without
// any secret: first those that follow one another from the format object on,
// the newest first; then the others, in case the chain has a gap. There are
// few of the latter unless somebody floods the store.
func likely(object []byte, found []*keysObject) []*keysObject {
	f, _, _, _ := decodeFormat(object)
	var before ed25519.PublicKey
	authority, next := ed25519.PublicKey(f.Authority), 2
	var chain, rest []*keysObject
	for _, o := range found { // ascending
		switch {
		case o.Generation == next && o.follows(authority):
			chain = append(chain, o)
			before, authority, next = authority, o.Authority, next+1
		case o.Generation == next-1 && o.follows(before): // a copy of what may be damaged
			chain = append(chain, o)
		default:
			rest = append(rest, o)
		}
	}
	slices.Reverse(chain)
	slices.Reverse(rest)
	return append(chain, rest[:min(len(rest), 16)]...)
}

// generations reads what lies below keys/, in ascending order, and the copy in
// the newest point and the newest session, in case the object is lost. What
// cannot be read is left out: see Repair.
func generations(ctx context.Context, c Config) ([]*keysObject, error) {
	var out []*keysObject
	for info, err := range c.Store.List(ctx, keysPrefix, provider.ListOptions{}) {
		if err != nil {
			return nil, err
		}
		g, ok := generationOf(info.Key)
		if !ok || info.Size > maxFormat {
			continue
		}
		b, _, err := provider.ReadAll(ctx, c.Store, info.Key, maxFormat)
		if err != nil && !isDamage(err) {
			return nil, err
		}
		if o, err := decodeGeneration(b); err == nil && o.Generation == g {
			out = append(out, o)
		} else {
			c.Logger.Warn("keys object cannot be read", "key", info.Key, "error", err)
		}
	}
	for _, prefix := range []string{pointPrefix, sessionPrefix} {
		var last provider.Info
		for info, err := range c.Store.List(ctx, prefix, provider.ListOptions{}) {
			if err != nil {
				return nil, err
			}
			last = info
		}
		if last.Key == "" {
			continue
		}
		h, _, err := readHeader(ctx, c.Store, last)
		if err != nil && !isDamage(err) {
			return nil, err
		}
		o, err := decodeGeneration(h.Keys)
		if err != nil || slices.ContainsFunc(out, func(have *keysObject) bool { return string(have.encoded) == string(o.encoded) }) {
			continue
		}
		c.Logger.Warn("keys object is lost or damaged; using the copy in another object", "key", keysKey(o.Generation), "copy", last.Key)
		out = append(out, o)
	}
	slices.SortStableFunc(out, func(a, b *keysObject) int { return a.Generation - b.Generation })
	return out, nil
}

// openFirst opens the first generation, from the format object or, if that is
// of no use, from the copy that every other object carries. err says why the
// object could not be read.
func openFirst(ctx context.Context, c Config, object []byte, err error, unwrap func([]Stanza, func([]byte) bool) ([]byte, error)) (*keys, [][]byte, error) {
	lost := errors.Is(err, provider.ErrNotFound)
	if err == nil {
		var k *keys
		var root []byte
		if k, root, err = openFormat(object, unwrap); err == nil {
			return k, [][]byte{root}, nil
		}
	}
	k, root, copyErr := openCopy(ctx, c, object, unwrap)
	switch {
	case copyErr == nil:
		c.Logger.Warn("format object is lost or damaged; using the copy in another object", "error", err)
		return k, [][]byte{root}, nil
	case !lost:
		return nil, nil, c.explain(object, err)
	case errors.Is(copyErr, provider.ErrNotFound):
		return nil, nil, ErrNoRepository
	}
	return nil, nil, copyErr
}

// current is the repository with the keys of the present generation: r, or,
// if another process has changed the recipients, what it becomes when it is
// opened again. ErrNoIdentity if its identities are no recipients any more.
func (r *Repository) current(ctx context.Context) (*Repository, error) {
	for r.next.Load() != nil {
		r = r.next.Load()
	}
	newer := false
	for info, err := range r.c.Store.List(ctx, keysPrefix, provider.ListOptions{StartAfter: keysKey(r.keys.generation)}) {
		if errors.Is(err, fs.ErrPermission) && r.keys.private == nil {
			return r, nil // a writer that may not look goes on with what it was given
		}
		if err != nil {
			return nil, fmt.Errorf("look for keys: %w", err)
		}
		if _, newer = generationOf(info.Key); newer {
			break
		}
	}
	if !newer {
		return r, nil
	}
	var err error
	k := r.keys
	if k.private == nil {
		k, err = k.follow(ctx, r.c.Store)
	} else {
		k, err = openKeys(ctx, r.c)
	}
	if err == nil {
		_, err = r.c.obey(k.format)
	}
	if err != nil {
		return nil, fmt.Errorf("open the present keys: %w", err)
	}
	if k.generation <= r.keys.generation {
		return r, nil // what is there is no generation
	}
	next := newRepository(r.c, k)
	if r.cache != nil {
		next = withCache(next)
	}
	r.next.CompareAndSwap(nil, next)
	return r.next.Load(), nil
}
