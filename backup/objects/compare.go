package objects

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/provider"
)

// same reports whether what the store has is a version of the point: its size,
// its Meta and its SHA-256, or its content if the store keeps no sum.
func (r *restorer) same(ctx context.Context, key string, have provider.Info, v version) (bool, error) {
	switch {
	case have.Size != v.it.Size || !sameMeta(have, v):
		return false, nil
	case have.SHA256 != [32]byte{}:
		return have.SHA256 == v.meta.sum(), nil
	}
	return r.equal(ctx, key, have, v.it)
}

// sameMeta: what was never away from the store has all of its Meta, also what
// no store has to take; what was restored has the rest.
func sameMeta(have provider.Info, v version) bool {
	return maps.Equal(have.Meta, v.kept) || maps.Equal(have.Meta, v.meta.Meta)
}

// equal reads an object and reports whether it has the content of an item.
func (r *restorer) equal(ctx context.Context, key string, have provider.Info, it backup.Item) (bool, error) {
	if have.Size != it.Size {
		return false, nil
	}
	body, _, err := r.t.store.Get(ctx, key, provider.GetOptions{Version: have.Version})
	if err != nil {
		return false, missing(err)
	}
	defer body.Close()
	buf := make([]byte, maxChunk)
	for c, err := range r.v.Chunks(ctx, it) {
		if err != nil {
			return false, err
		}
		if _, err := io.ReadFull(body, buf[:c.Size]); err != nil {
			return false, missing(err)
		}
		if !r.v.Matches(c, buf[:c.Size]) {
			return false, nil
		}
	}
	if err := atEnd(body); err != nil && !errors.Is(err, provider.ErrCorrupt) {
		return false, err
	} else if err != nil {
		return false, nil
	}
	return true, nil
}

// errOpaque: in a cold tier, it is a matter of one object. (A cold repository
// is one of all of them.)
var errOpaque = errors.New("it cannot be compared")

// missing makes what has gone or ended meanwhile, or cannot be read now, a
// matter of one object.
func missing(err error) error {
	switch {
	case errors.Is(err, provider.ErrCold):
		return fmt.Errorf("%w: %w", errOpaque, err)
	case errors.Is(err, provider.ErrNotFound):
		return fmt.Errorf("it changes meanwhile: %w: %w", provider.ErrConflict, err)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("it ends early: %w", provider.ErrCorrupt)
	}
	return err
}

const maxChunk = 1 << 20 // see backup.Chunk
