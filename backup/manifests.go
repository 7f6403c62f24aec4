package backup

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"

	"github.com/holdfast-go/holdfast/provider"
)

// manifest reads one.
func (r *Repository) manifest(ctx context.Context, id PointID) (manifest, error) {
	if _, err := id.Time(); err != nil {
		return manifest{}, err
	}
	b, info, err := provider.ReadAll(ctx, r.c.Store, pointKey(id), maxManifest)
	if err != nil {
		return manifest{}, fmt.Errorf("point %s: %w", id, err)
	}
	return r.decodeManifest(id, b, info)
}

// cachedManifest is manifest for what a listing has shown.
func (r *Repository) cachedManifest(ctx context.Context, id PointID, listed provider.Info) (manifest, error) {
	name := cachedManifest(listed)
	if b := r.cache.get(name); b != nil {
		return r.decodeManifest(id, b, listed)
	}
	b, info, err := provider.ReadAll(ctx, r.c.Store, pointKey(id), maxManifest)
	if err != nil {
		return manifest{}, fmt.Errorf("point %s: %w", id, err)
	}
	m, err := r.decodeManifest(id, b, info)
	if err == nil && info.Version == listed.Version {
		r.cache.put(name, b)
	}
	return m, err
}

func (r *Repository) decodeManifest(id PointID, b []byte, info provider.Info) (manifest, error) {
	m, err := r.keys.decodeManifest(id, b, r.secret)
	if err != nil && r.keys.openObject(kindTombstone, pointKey(id), b) == nil {
		err = fmt.Errorf("its session was given up: %w", provider.ErrNotFound)
	}
	if err != nil {
		return manifest{}, fmt.Errorf("point %s: %w", id, err)
	}
	m.point.Stored = info.Modified
	return m, nil
}

// manifests reads all, in ascending order, a few at a time. One that cannot
// be read is yielded as a point with Damaged set.
func (r *Repository) manifests(ctx context.Context) iter.Seq2[manifest, error] {
	return func(yield func(manifest, error) bool) {
		var listErr error
		listed := func(yield func(provider.Info) bool) {
			for info, err := range r.Manifests(ctx) {
				if err != nil {
					listErr = err
					return
				}
				if !yield(info) {
					return
				}
			}
		}
		for m, err := range r.readManifests(ctx, listed) {
			if !yield(m, err) || err != nil {
				return
			}
		}
		if listErr != nil {
			yield(manifest{}, listErr)
		}
	}
}

// newestFirst is manifests in descending order. Who breaks off early saves
// the reading of those before.
func (r *Repository) newestFirst(ctx context.Context) iter.Seq2[manifest, error] {
	return func(yield func(manifest, error) bool) {
		var infos []provider.Info
		for info, err := range r.Manifests(ctx) {
			if err != nil {
				yield(manifest{}, err)
				return
			}
			infos = append(infos, info)
		}
		slices.Reverse(infos)
		alone := min(1, len(infos)) // is most often the one
		for _, some := range [][]provider.Info{infos[:alone], infos[alone:]} {
			for m, err := range r.readManifests(ctx, slices.Values(some)) {
				if !yield(m, err) || err != nil {
					return
				}
			}
		}
	}
}

// readManifests reads what was listed, a few at a time, in the same order.
func (r *Repository) readManifests(ctx context.Context, listed iter.Seq[provider.Info]) iter.Seq2[manifest, error] {
	type result struct {
		m   manifest
		err error
	}
	return func(yield func(manifest, error) bool) {
		for res := range inOrder(ctx, listed, func(info provider.Info) result {
			id, _ := pointIDOf(info.Key)
			m, err := r.cachedManifest(ctx, id, info)
			if errors.Is(err, ErrDamaged) || errors.Is(err, ErrFormat) || errors.Is(err, provider.ErrCorrupt) {
				at, _ := id.Time()
				m.point = Point{ID: id, Time: at, Stored: info.Modified, Damaged: err.Error()}
				err = nil
			}
			return result{m, err}
		}) {
			if errors.Is(res.err, provider.ErrNotFound) {
				continue // forgotten since it was listed
			}
			if !yield(res.m, res.err) || res.err != nil {
				return
			}
		}
		if ctx.Err() != nil {
			yield(manifest{}, ctx.Err())
		}
	}
}

// Manifests lists the manifests as objects of the store, oldest point first.
// Together with [Repository.Objects] it is what replication needs.
func (r *Repository) Manifests(ctx context.Context) iter.Seq2[provider.Info, error] {
	return func(yield func(provider.Info, error) bool) {
		r, err := r.current(ctx)
		if err != nil {
			yield(provider.Info{}, fmt.Errorf("list points: %w", err))
			return
		}
		r.verified.Store(false)
		r.listed.Store(nil)
		type result struct {
			info provider.Info
			dead bool
			err  error
		}
		listed := func(yield func(result) bool) {
			for info, err := range r.c.Store.List(ctx, pointPrefix, provider.ListOptions{}) {
				if _, ok := pointIDOf(info.Key); !ok && err == nil {
					r.c.Logger.Warn("not the key of a point; ignored", "key", info.Key)
					continue
				}
				if !yield(result{info: info, err: err}) || err != nil {
					return
				}
			}
		}
		for res := range inOrder(ctx, listed, func(res result) result {
			if res.err == nil {
				res.dead, res.err = r.tombstone(ctx, res.info)
			}
			return res
		}) {
			if res.err != nil {
				yield(provider.Info{}, fmt.Errorf("list points: %w", res.err))
				return
			}
			if !res.dead && !yield(res.info, nil) {
				return
			}
		}
		if ctx.Err() != nil {
			yield(provider.Info{}, fmt.Errorf("list points: %w", context.Cause(ctx)))
		}
	}
}
