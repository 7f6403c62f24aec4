package objects

import (
	"context"
	"errors"
	"iter"
	"strings"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/provider"
)

// histories yields one key after the other what there is to back up of it, the
// oldest version first.
func (t *Target) histories(ctx context.Context) iter.Seq2[[]provider.VersionInfo, error] {
	return func(yield func([]provider.VersionInfo, error) bool) {
		if !t.c.Versions {
			for info, err := range t.store.List(ctx, t.c.Prefix, provider.ListOptions{}) {
				if !yield([]provider.VersionInfo{{Info: info}}, err) || err != nil {
					return
				}
			}
			return
		}
		for all, err := range grouped(provider.Versions(ctx, t.store, t.c.Prefix, provider.ListOptions{})) {
			if !yield(all, err) || err != nil {
				return
			}
		}
	}
}

// grouped yields the versions of one key after the other.
func grouped(versions iter.Seq2[provider.VersionInfo, error]) iter.Seq2[[]provider.VersionInfo, error] {
	return func(yield func([]provider.VersionInfo, error) bool) {
		var open []provider.VersionInfo
		for v, err := range versions {
			if err != nil {
				yield(nil, err)
				return
			}
			if len(open) > 0 && open[0].Key != v.Key {
				if !yield(open, nil) {
					return
				}
				open = nil
			}
			open = append(open, v)
		}
		if len(open) > 0 {
			yield(open, nil)
		}
	}
}

// A known is an item of the parent.
type known struct {
	it   backup.Item
	meta meta
}

// match returns the item that has the content of a version: best that of the
// same moment, as several can have the same bytes.
func match(before []known, info provider.Info) (best *known) {
	if info.Version == "" {
		return nil
	}
	for i := range before {
		k := &before[i]
		if k.meta.Deleted || k.meta.Version != info.Version || k.it.Size != info.Size {
			continue
		}
		if k.meta.Modified.Equal(info.Modified) {
			return k
		}
		best = k
	}
	return best
}

// A cursor goes through the parent's items beside the listing, which is in the
// same order.
type cursor struct {
	next func() (backup.Item, error, bool)
	end  func()
	it   backup.Item
	ok   bool
	err  error
}

func newCursor(ctx context.Context, parent *backup.View) *cursor {
	c := &cursor{}
	c.next, c.end = iter.Pull2(parent.Items(ctx))
	c.advance()
	return c
}

func (c *cursor) stop() {
	if c != nil {
		c.end()
	}
}

func (c *cursor) advance() {
	var err error
	if c.it, err, c.ok = c.next(); c.ok && err != nil {
		c.err, c.ok = err, false
	}
}

// of returns the items of a key; keys must come in order.
func (c *cursor) of(key string) (all []known) {
	if c == nil {
		return nil
	}
	path := pathOf(key, present)
	versions := strings.TrimSuffix(pathOf(key, 0), strings.Repeat("0", numberLen))
	for c.ok && backup.ComparePaths(c.it.Path, path) < 0 {
		c.advance()
	}
	for c.ok && (c.it.Path == path || strings.HasPrefix(c.it.Path, versions)) {
		if m, err := decodeMeta(c.it); err == nil {
			all = append(all, known{c.it, m})
		}
		c.advance()
	}
	return all
}

// failure is what went wrong with reading the parent, unless it is only
// damage: then everything was read anew, and the new point is sound.
func (c *cursor) failure() error {
	if c == nil || errors.Is(c.err, backup.ErrDamaged) {
		return nil
	}
	return c.err
}
