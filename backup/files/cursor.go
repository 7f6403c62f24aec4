package files

import (
	"context"
	"errors"
	"sync"

	"github.com/holdfast-go/holdfast/backup"
)

// A cursor goes through the parent's items beside the walk. They are read by
// a goroutine that is some batches ahead.
type cursor struct {
	batches <-chan batch
	free    chan<- []backup.Item // batches that were gone through
	stop    func()               // ends the goroutine

	batch batch
	next  int // within batch
	err   error
}

// A batch is some of the parent's items, or the error in their place.
type batch struct {
	items []backup.Item
	err   error
}

const (
	batchItems   = 256
	batchesAhead = 2
)

func newCursor(ctx context.Context, parent *backup.View) *cursor {
	ctx, cancel := context.WithCancel(ctx)
	batches, free := make(chan batch, batchesAhead), make(chan []backup.Item, batchesAhead+2)
	for range cap(free) {
		free <- nil
	}
	var reading sync.WaitGroup
	reading.Go(func() {
		defer close(batches)
		b := batch{items: <-free}
		send := func() bool {
			select {
			case batches <- b:
				return true
			case <-ctx.Done():
				return false
			}
		}
		for it, err := range parent.Items(ctx) {
			if err != nil {
				b.err = err
				break
			}
			if b.items == nil {
				b.items = make([]backup.Item, 0, batchItems)
			}
			if b.items = append(b.items, it); len(b.items) < batchItems {
				continue
			}
			if !send() {
				return
			}
			b.items = <-free // there is always one: they are more than can be on their way
		}
		send()
	})
	return &cursor{batches: batches, free: free, stop: func() { cancel(); reading.Wait() }}
}

// find returns the item of a path; paths must come in order.
func (c *cursor) find(rel string) (backup.Item, bool) {
	if c == nil {
		return backup.Item{}, false
	}
	for {
		for ; c.next < len(c.batch.items); c.next++ {
			it := &c.batch.items[c.next]
			if n := backup.ComparePaths(it.Path, rel); n >= 0 {
				return *it, n == 0
			}
		}
		if c.err != nil || !c.advance() {
			return backup.Item{}, false
		}
	}
}

// advance goes on with the next batch.
func (c *cursor) advance() bool {
	if used := c.batch.items; cap(used) > 0 {
		clear(used)
		c.free <- used[:0]
	}
	var ok bool
	c.batch, ok = <-c.batches
	c.next, c.err = 0, c.batch.err
	return ok
}

// failure is what went wrong with reading the parent, unless it is only
// damage: then everything was read anew, and the new point is sound.
func (c *cursor) failure() error {
	if c == nil || errors.Is(c.err, backup.ErrDamaged) {
		return nil
	}
	return c.err
}
