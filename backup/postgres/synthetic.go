package postgres

import (
	"context"
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"io"
	"iter"
	"sync"

	"github.com/holdfast-go/holdfast/backup"
)

// A synthesis makes a whole file of the earlier one and of what has changed, as
// pg_combinebackup does on restore. What has not changed is not read: it is the
// earlier one's chunks. Where a part of a chunk has changed the rest is read from
// the repository, several chunks at once.
type synthesis struct {
	v       *backup.View
	prev    backup.Item
	crc     fileCRC // of prev
	changes changes
	blocks  io.Reader // that follow
	block   int64     // bytes of one
	ahead   int       // chunks that are in the making at once

	mu sync.Mutex // of crc
	wg sync.WaitGroup
}

// A making is a piece that is perhaps still being made.
type making struct {
	piece backup.Piece
	buf   []byte        // new content
	was   []byte        // room for the old
	done  chan struct{} // nil: it is done
	err   error
}

// size is that of the new file, and from is what of the old one still counts:
// whole blocks.
func (y *synthesis) size() int64 { return int64(y.changes.length()) * y.block }
func (y *synthesis) from() int64 { return min(y.prev.Size/y.block, int64(y.changes.kept)) * y.block }

// span is how far the sums reach that are made of the old and of the new file:
// as far as the longer one, the other having zeroes there.
func (y *synthesis) span() int64 { return max(y.size(), y.prev.Size) }

// pieces yields the new file, after which it has encoded its sum into meta,
// the description of an item.
func (y *synthesis) pieces(ctx context.Context, meta []byte) iter.Seq2[backup.Piece, error] {
	return func(yield func(backup.Piece, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		defer y.wg.Wait()
		defer cancel()
		y.crc = y.crc.resized(y.span() - y.prev.Size)
		if err := y.all(ctx, yield); err != nil {
			if err != errStopped {
				yield(backup.Piece{}, err)
			}
			return
		}
		y.crc = y.crc.resized(y.size() - y.span())
		d := y.crc.digest()
		hex.Encode(meta[sumAt(meta, d):], []byte(d))
	}
}

// errStopped: whoever takes the pieces wants no more.
var errStopped = fmt.Errorf("no more pieces are wanted")

// all yields the pieces, in order. Those in the making are taken when the first
// of them is done, or there are too many.
func (y *synthesis) all(ctx context.Context, yield func(backup.Piece, error) bool) error {
	next, stop := iter.Pull2(y.v.Chunks(ctx, y.prev))
	defer stop()
	var line []*making
	var free [][]byte
	made := 0 // how many in line are not just kept
	take := func() error {
		m := line[0]
		if line = line[1:]; m.done != nil {
			<-m.done
			made--
		}
		if m.err != nil {
			return m.err
		}
		if (m.piece.Kept.Size > 0 || len(m.piece.Bytes) > 0) && !yield(m.piece, nil) {
			return errStopped
		}
		if m.buf != nil {
			free = append(free, m.buf[:0], m.was[:0])
		}
		return nil
	}
	room := func() []byte {
		if n := len(free) - 1; n >= 0 {
			b := free[n]
			free = free[:n]
			return b
		}
		return make([]byte, 0, relationBlock+1)
	}
	left := y.changes.blocks
	for at := int64(0); at < y.span(); at += relationBlock {
		var old backup.Chunk
		if at < y.prev.Size {
			c, err, _ := next()
			if err != nil {
				return err
			}
			if c.Offset != at || int64(c.Size) != min(relationBlock, y.prev.Size-at) {
				return fmt.Errorf("%w: the earlier file is cut in another way", errUnfit)
			}
			old = c
		}
		end := min(at+relationBlock, y.size())
		n := 0 // blocks of it that follow
		for n < len(left) && int64(left[n])*y.block < end {
			n++
		}
		if n == 0 && end-at == int64(old.Size) && end <= y.from() {
			line = append(line, &making{piece: backup.Piece{Kept: old}})
		} else {
			m := &making{buf: room(), was: room(), done: make(chan struct{})}
			if err := y.receive(m, at, end, left[:n]); err != nil {
				return err
			}
			mine := left[:n]
			y.wg.Go(func() {
				defer close(m.done)
				m.err = y.complete(ctx, m, at, old, mine)
			})
			line, made, left = append(line, m), made+1, left[n:]
		}
		for len(line) > 0 && (made >= y.ahead || line[0].done == nil) {
			if err := take(); err != nil {
				return err
			}
		}
	}
	for len(line) > 0 {
		if err := take(); err != nil {
			return err
		}
	}
	return nil
}

// receive reads the blocks of a chunk that follow into their places. The rest
// is zeroes.
func (y *synthesis) receive(m *making, at, end int64, blocks []uint32) error {
	m.buf = m.buf[:max(end-at, 0)]
	clear(m.buf)
	for _, b := range blocks {
		if _, err := io.ReadFull(y.blocks, m.buf[int64(b)*y.block-at:][:y.block]); err != nil {
			return short(err)
		}
	}
	return nil
}

// complete puts what counts of the old chunk where nothing has followed, and
// makes the sum that of the file with the new one in its place.
func (y *synthesis) complete(ctx context.Context, m *making, at int64, old backup.Chunk, blocks []uint32) error {
	var was []byte
	if old.Size > 0 {
		var err error
		if was, err = y.v.Chunk(ctx, old, m.was); err != nil {
			return err
		}
	}
	for from := at; from < min(at+int64(len(m.buf)), y.from()); from += y.block {
		if len(blocks) > 0 && int64(blocks[0])*y.block == from {
			blocks = blocks[1:]
			continue
		}
		copy(m.buf[from-at:][:y.block], was[from-at:])
	}
	m.piece.Bytes = m.buf
	length := int64(max(len(was), len(m.buf)))
	sum := func(b []byte) uint32 {
		return uint32(fileCRC(crc32.Checksum(b, castagnoli)).resized(length - int64(len(b))))
	}
	before, after := sum(was), sum(m.buf)
	y.mu.Lock()
	defer y.mu.Unlock()
	y.crc = y.crc.replaced(before, after, y.span()-at-length)
	return nil
}
