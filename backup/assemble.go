package backup

import (
	"context"
	"errors"
	"fmt"
	"iter"
)

// A Piece is a part of an item's content, as [Session.Assemble] takes it.
type Piece struct {
	Kept  Chunk  // of an item of [Session.Parent]: it stays where it is
	Bytes []byte // if there are any, they are the piece, and become a chunk: 1 MiB at most
}

// Assemble adds an item whose content is made of pieces, in their order. It
// suits a target that is told what has changed of an item of [Session.Parent]:
// what has not is neither read nor stored. Where BlockSize is set, bytes should
// come as it would cut them, or they are not found again in an item that is
// added.
//
// An error of pieces is returned as it is, and the item is not added, as with
// [Session.Add]; the same goes for an error wrapping [ErrDamaged], which says
// that a kept chunk is not in the repository any more, or not where this
// writer may rely on it. The bytes of a piece are copied before the next is asked
// for. Until pieces has ended it may complete it.Meta in place, within its length.
func (s *Session) Assemble(ctx context.Context, it Item, pieces iter.Seq2[Piece, error]) error {
	if err := s.ready(ctx); err != nil {
		return err
	}
	if err := it.valid(); err != nil {
		return err
	}
	if s.parent == nil {
		return errors.New("assemble: this session has no parent; read and Add instead")
	}
	it.Size, it.content = 0, content{}
	p := &pending{item: it, list: listWriter{write: s.metaWriter(ctx)}}
	settled := make(chan struct{})
	close(settled)
	for piece, err := range pieces {
		if err == nil && len(piece.Bytes) > 0 {
			err = s.place(ctx, p, piece.Bytes)
		} else if err == nil {
			err = s.keepChunk(p, piece.Kept, settled)
		}
		if err != nil {
			return err
		}
	}
	return s.push(ctx, p)
}

// place makes bytes a chunk of an item.
func (s *Session) place(ctx context.Context, p *pending, b []byte) error {
	if len(b) > maxData {
		return fmt.Errorf("assemble %q: a piece of %d bytes, at most %d are possible", p.item.Path, len(b), maxData)
	}
	buf, err := s.buffer(ctx, len(b))
	if err != nil {
		return err
	}
	copy(buf[1:], b)
	return s.submit(ctx, p, buf, len(b))
}

// keepChunk makes a chunk of the parent one of an item.
func (s *Session) keepChunk(p *pending, c Chunk, settled chan struct{}) error {
	if c.ref.plain == 0 || int(c.ref.plain) != c.Size {
		return fmt.Errorf("assemble %q: a piece that is neither bytes nor a chunk", p.item.Path)
	}
	if id, ok := s.p.reuseAll([]ref{c.ref}); !ok {
		return fmt.Errorf("assemble %q: %w: chunk %s is in no pack", p.item.Path, ErrDamaged, id)
	}
	p.item.Size += int64(c.Size)
	p.slots = append(p.slots, &slot{ref: c.ref, done: settled})
	if len(p.slots) >= 2*listRefs {
		return p.settle(listRefs)
	}
	return nil
}

// StartOver forgets all that was added, and that there is a point to compare
// with: Mode is Full from here on, and so is the point's. It is for a target
// that finds out late that it cannot build on Parent. What was stored
// meanwhile is found again, and not stored twice.
func (s *Session) StartOver() {
	s.mode, s.parent = Full, nil
	s.sort = sorter{wrote: s.count, budget: sorterBudget}
	s.externals, s.logs, s.warnings, s.warningCount = nil, nil, nil, 0
	s.stats.Items, s.stats.Bytes = 0, 0
}
