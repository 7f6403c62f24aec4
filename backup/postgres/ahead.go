package postgres

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"sync"
)

// A pieceReader reads files in pieces, several at once, some ahead of who
// takes them, in order. Memory is that of the pieces.
type pieceReader struct {
	order  chan *piece // as they are to be taken
	free   chan []byte
	cancel context.CancelFunc
	busy   sync.WaitGroup
}

// A piece is a stretch of a file.
type piece struct {
	f    *found
	at   int64
	buf  []byte
	n    int // bytes in buf; fewer than asked for at the end of a file
	err  error
	bad  []badPage
	done chan struct{} // closed when it was read
}

const pieceSize = 512 << 10

// readPieces begins to read files with so many readers.
func readPieces(ctx context.Context, files []*found, readers int, read func(context.Context, *piece)) *pieceReader {
	ctx, cancel := context.WithCancel(ctx)
	ahead := 2 * readers
	p := &pieceReader{order: make(chan *piece, ahead+1), free: make(chan []byte, ahead+1), cancel: cancel}
	for range cap(p.free) {
		p.free <- nil
	}
	work := make(chan *piece, cap(p.free))
	p.busy.Go(func() {
		defer close(p.order)
		defer close(work)
		for _, f := range files {
			for at := int64(0); at < f.size; at += pieceSize {
				c := &piece{f: f, at: at, done: make(chan struct{})}
				select {
				case c.buf = <-p.free:
				case <-ctx.Done():
					return
				}
				if c.buf == nil {
					c.buf = make([]byte, pieceSize)
				}
				c.buf = c.buf[:min(pieceSize, f.size-at)]
				work <- c // there is room in both for as many as there are buffers
				p.order <- c
			}
		}
	})
	for range readers {
		p.busy.Go(func() {
			for c := range work {
				if ctx.Err() == nil {
					read(ctx, c)
				} else {
					c.err = context.Cause(ctx)
				}
				close(c.done)
			}
		})
	}
	return p
}

func (p *pieceReader) close() {
	p.cancel()
	p.busy.Wait()
}

// A fileReader is the content of a file, which ends where the file has ended
// when it was listed, or before.
type fileReader struct {
	p      *pieceReader
	f      *found
	taken  int64 // up to where pieces were taken
	cur    *piece
	pos    int
	ended  bool
	ctx    context.Context
	bad    []badPage
	failed error
}

// errGone: a file was removed before it was read.
var errGone = errors.New("the file is gone")

func (r *fileReader) Read(b []byte) (int, error) {
	for {
		if r.failed != nil {
			return 0, r.failed
		}
		if r.cur != nil && r.pos < r.cur.n {
			n := copy(b, r.cur.buf[r.pos:r.cur.n])
			r.pos += n
			return n, nil
		}
		if r.ended || r.taken >= r.f.size {
			r.drain()
			return 0, io.EOF
		}
		if r.failed = r.next(); r.failed != nil {
			r.drain()
		}
	}
}

// next takes a piece.
func (r *fileReader) next() error {
	r.give()
	c, ok := <-r.p.order
	if !ok {
		return context.Cause(r.ctx)
	}
	<-c.done
	r.cur, r.pos = c, 0
	r.taken += int64(len(c.buf))
	r.bad = append(r.bad, c.bad...)
	if errors.Is(c.err, fs.ErrNotExist) {
		return errGone
	}
	r.ended = c.n < len(c.buf)
	return c.err
}

func (r *fileReader) give() {
	if r.cur != nil {
		r.p.free <- r.cur.buf[:cap(r.cur.buf)]
		r.cur = nil
	}
}

// drain takes what is left of the file's pieces.
func (r *fileReader) drain() {
	r.give()
	for r.taken < r.f.size {
		c, ok := <-r.p.order
		if !ok {
			return
		}
		<-c.done
		r.taken += int64(len(c.buf))
		r.p.free <- c.buf[:cap(c.buf)]
	}
}
