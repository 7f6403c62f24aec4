package providertest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/holdfast-go/holdfast/provider"
)

var bodyClauses = []clause{
	sentence("body-unseen", "While a Put is under way no reader sees any of it.", bodyUnseen),
	sentence("body-fails", "A body that fails midway fails the Put, nothing is visible, and an earlier object stays.", bodyFails),
	sentence("body-short", "A body that ends before its Size fails the Put, nothing is visible, and an earlier object stays.", bodyShort),
	sentence("body-changes", "A body that delivers other bytes when read again never gets past its SHA256.", bodyChanges),
	sentence("body-cancelled", "A Put whose ctx ends before the body has been read fails, nothing is visible, and an earlier object stays.", bodyCancelled),
}

// oddBody is a body whose every read is decided by a function.
type oddBody struct {
	content []byte
	read    func(p []byte, off int64) (int, error)
}

func (b *oddBody) Size() int64                             { return int64(len(b.content)) }
func (b *oddBody) ReadAt(p []byte, off int64) (int, error) { return b.read(p, off) }

// upTo reads content as if it ended at end.
func upTo(content []byte, end int, p []byte, off int64) (int, error) {
	return bytes.NewReader(content[:end]).ReadAt(p, off)
}

const oddSize = 1 << 20

func bodyUnseen(ctx context.Context, p *probe) error {
	old, young := noise(7, oddSize), noise(8, oddSize)
	var name string
	var seen error // what a reader saw while the put was under way
	var once *sync.Once
	body := &oddBody{content: young}
	body.read = func(b []byte, off int64) (int, error) {
		n, err := upTo(young, oddSize, b, off)
		if off+int64(n) > oddSize/2 {
			once.Do(func() {
				if name == "fresh" {
					seen = p.absent(ctx, name)
				} else {
					seen = p.holds(ctx, name, string(old))
				}
			})
		}
		return n, err
	}
	if _, err := p.put(ctx, "there", string(old), provider.PutOptions{}); err != nil {
		return err
	}
	for _, name = range []string{"fresh", "there"} {
		once = new(sync.Once)
		if _, err := p.store.Put(ctx, p.key(name), body, provider.PutOptions{}); err != nil {
			return err
		}
		if seen != nil {
			return fmt.Errorf("while %q was being put: %w", name, seen)
		}
		if err := p.holds(ctx, name, string(young)); err != nil {
			return err
		}
	}
	return nil
}

// refused makes puts of body with and without its SHA256, each of which must
// fail without a trace.
func (p *probe) refused(ctx context.Context, body provider.Body, o provider.PutOptions) error {
	return p.failingPut(ctx, func(name string) error {
		_, err := p.store.Put(ctx, p.key(name), body, o)
		if err == nil {
			return errors.New("put returned no error")
		}
		return nil
	})
}

func bodyFails(ctx context.Context, p *probe) error {
	content := noise(9, oddSize)
	body := &oddBody{content: content, read: func(b []byte, off int64) (int, error) {
		n, err := upTo(content, oddSize/2, b, off)
		if err == io.EOF {
			err = errors.New("the disk below the body failed")
		}
		return n, err
	}}
	return errors.Join(p.refused(ctx, body, provider.PutOptions{}), p.refused(ctx, body, provider.PutOptions{SHA256: sha256.Sum256(content)}))
}

func bodyShort(ctx context.Context, p *probe) error {
	for _, end := range []int{0, oddSize / 2, oddSize - 1} {
		content := noise(10, oddSize)
		body := &oddBody{content: content, read: func(b []byte, off int64) (int, error) {
			return upTo(content, end, b, min(off, int64(end)))
		}}
		if err := p.refused(ctx, body, provider.PutOptions{}); err != nil {
			return fmt.Errorf("body of %d bytes that ends after %d: %w", oddSize, end, err)
		}
	}
	return nil
}

func bodyChanges(ctx context.Context, p *probe) error {
	first, later := noise(11, oddSize), noise(12, oddSize)
	for _, name := range []string{"fresh", "there"} {
		if name == "there" {
			if _, err := p.put(ctx, name, "earlier object", provider.PutOptions{}); err != nil {
				return err
			}
		}
		var mu sync.Mutex
		passes := 0
		body := &oddBody{content: first, read: func(b []byte, off int64) (int, error) {
			mu.Lock()
			defer mu.Unlock()
			if off == 0 {
				passes++
			}
			if passes > 1 {
				return upTo(later, oddSize, b, off)
			}
			return upTo(first, oddSize, b, off)
		}}
		_, err := p.store.Put(ctx, p.key(name), body, provider.PutOptions{SHA256: sha256.Sum256(first)})
		switch {
		case err == nil: // it read once, or the right bytes
			err = p.holds(ctx, name, string(first))
		case name == "fresh":
			err = p.absent(ctx, name)
		default:
			err = p.holds(ctx, name, "earlier object")
		}
		if err != nil {
			return fmt.Errorf("put of a body that changes, on %q: %w", name, err)
		}
	}
	return nil
}

func bodyCancelled(ctx context.Context, p *probe) error {
	content := noise(13, oddSize)
	return p.failingPut(ctx, func(name string) error {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		body := &oddBody{content: content, read: func(b []byte, off int64) (int, error) {
			if off+int64(len(b)) > oddSize/2 {
				cancel()
				<-ctx.Done()
				return 0, ctx.Err()
			}
			return upTo(content, oddSize, b, off)
		}}
		_, err := p.store.Put(ctx, p.key(name), body, provider.PutOptions{})
		return want(err, context.Canceled)
	})
}
