package backup

import (
	"context"
	"fmt"
	"iter"
)

// A Chunk is a piece of an item's content as the repository keeps it. Targets
// that restore over existing data compare it with what is there, and fetch
// only what differs.
type Chunk struct {
	Offset int64 // within the content
	Size   int   // bytes; at least 1, at most 1 MiB

	ref  ref
	path string
}

// Chunks yields the chunks of an item of this view in order, without reading
// any; together they are the content. An error wraps [ErrDamaged] if the list
// of them is not intact.
func (v *View) Chunks(ctx context.Context, it Item) iter.Seq2[Chunk, error] {
	return func(yield func(Chunk, error) bool) {
		var at int64
		for l, err := range v.refs(ctx, it) {
			if err != nil {
				yield(Chunk{}, err)
				return
			}
			if l.depth > 0 {
				continue
			}
			if !yield(Chunk{Offset: at, Size: int(l.plain), ref: l.ref, path: it.Path}, nil) {
				return
			}
			at += int64(l.plain)
		}
	}
}

// Chunk reads one chunk, into the memory of into if that has room for Size+1
// bytes. As with [View.Open], what does not verify is not delivered.
func (v *View) Chunk(ctx context.Context, c Chunk, into []byte) ([]byte, error) {
	b, err := v.chunk(ctx, kindData, c.ref, into)
	if err != nil {
		return nil, fmt.Errorf("read %.200q: %w", c.path, err)
	}
	return b, nil
}

// Matches reports whether b is the content of a chunk, without reading it: it
// computes the id that b would have.
func (v *View) Matches(c Chunk, b []byte) bool {
	if len(b) != c.Size {
		return false
	}
	ids := v.r.ids.Get().(*identifier)
	defer v.r.ids.Put(ids)
	return ids.id(kindData, b) == c.ref.id
}
