package objects

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"sync"
	"time"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/provider"
)

const attempts = 3 // to read an object that changes meanwhile, and to write one

var errChanged = errors.New("changed each time it was read, and is left out")

// errStopped: the listing has ended, or somebody has given up; the context says
// why.
var errStopped = errors.New("stopped")

// Backup implements [backup.Target].
func (t *Target) Backup(ctx context.Context, s *backup.Session) error {
	return t.fill(ctx, s, func(ctx context.Context, r *reading) error {
		if p := s.Parent(); p != nil {
			r.parent = newCursor(ctx, p)
		}
		return r.list(ctx)
	})
}

// fill gives a session what list hands out.
func (t *Target) fill(ctx context.Context, s *backup.Session, list func(context.Context, *reading) error) error {
	// What goes wrong with the source ends the reading, and not the uploads of
	// what was read: the next backup finds them.
	reading, cancel := context.WithCancelCause(ctx)
	r := newReading(reading, t)
	var ahead sync.WaitGroup
	defer ahead.Wait()
	defer cancel(nil) // before the wait
	ahead.Go(func() {
		defer close(r.queue)
		if err := list(reading, r); err != nil {
			cancel(err)
		}
	})
	for range t.c.Readers {
		ahead.Go(func() {
			for do := range r.work {
				do()
			}
		})
	}
	for k := range r.queue {
		err := r.stopped()
		if err == nil {
			err = r.add(ctx, s, k)
		}
		if err != nil {
			cancel(err)
		}
		r.drop(k)
	}
	return r.stopped()
}

// add gives one item to the session.
func (r *reading) add(ctx context.Context, s *backup.Session, k *task) error {
	if k.described != nil {
		<-k.described
	}
	it := backup.Item{Path: k.path, Meta: k.meta}
	k.tags.warn(s, k.info.Key)
	switch {
	case k.deleted:
		return s.Add(ctx, it, nil)
	case k.invalid:
		s.Warn(k.info.Key, fmt.Errorf("%w: it is not UTF-8, or too long", provider.ErrInvalidKey))
		return nil
	case k.prev != nil:
		err := k.err
		if err == nil {
			if err = s.Reuse(ctx, *k.prev, it); err == nil || !errors.Is(err, backup.ErrDamaged) {
				return err
			}
		}
		return r.again(ctx, s, k, err)
	}
	first, ok := <-k.parts
	if !ok {
		return errStopped
	}
	<-first.done
	content := &content{r: r, k: k, part: first}
	if first.err != nil {
		content.release()
		return r.again(ctx, s, k, first.err)
	}
	r.t.warn(s, first.info, first.tags)
	content.meta = describe(first.info, first.tags, k.info.Modified)
	it.Meta = content.meta
	err := s.Add(ctx, it, content)
	content.release()
	if err != nil && content.err != nil {
		return r.again(ctx, s, k, content.err)
	}
	return err
}

// warn tells of what is kept without a part of it.
func (t *Target) warn(s *backup.Session, info provider.Info, tags tags) {
	tags.warn(s, info.Key)
	if _, dropped := keepable(info.Meta); t.securing && len(dropped) > 0 {
		s.Warn(info.Key, fmt.Errorf("its metadata %q cannot be written back: %w", dropped, errors.ErrUnsupported))
	}
}

// again reads an object as it is now, after cause, and from beginning to end.
// One that is gone is left out, as if it had been deleted before the listing;
// one that cannot be read is, with a warning.
func (r *reading) again(ctx context.Context, s *backup.Session, k *task, cause error) error {
	k.dropped.Store(true)
	for range attempts - 1 {
		if err := r.stopped(); err != nil {
			return err
		}
		info := k.info
		if !k.old {
			now, err := r.t.store.Stat(ctx, k.info.Key)
			switch {
			case errors.Is(err, provider.ErrNotFound) && r.t.securing:
				return s.Add(ctx, backup.Item{Path: k.path, Meta: gone(time.Time{})}, nil)
			case errors.Is(err, provider.ErrNotFound):
				return nil
			}
			if err != nil {
				cause = err
				continue
			}
			if info.Version != now.Version {
				info = now
			}
		}
		failed, err := r.stream(ctx, s, k, info)
		switch {
		case failed == nil:
			return err
		case k.old && errors.Is(failed, provider.ErrNotFound):
			return nil // expired meanwhile
		}
		cause = failed
	}
	if err := r.stopped(); err != nil {
		return err
	}
	if errors.Is(cause, provider.ErrNotFound) {
		cause = errChanged
	}
	// What cannot be read must not keep the rest from being backed up. But if
	// nothing can be read any more, this is no backup.
	for _, err := range r.t.store.List(ctx, r.t.c.Prefix, provider.ListOptions{}) {
		if err != nil {
			return fmt.Errorf("read %.200q: %w", k.info.Key, errors.Join(cause, err))
		}
		break
	}
	s.Warn(k.info.Key, cause)
	return nil
}

// stream reads an object by one request. Failed is what went wrong with it,
// err what went wrong with the session.
func (r *reading) stream(ctx context.Context, s *backup.Session, k *task, info provider.Info) (failed, err error) {
	body, got, err := r.t.store.Get(ctx, info.Key, provider.GetOptions{Version: info.Version, Unverified: true})
	if err != nil {
		return err, nil
	}
	defer body.Close()
	if err := asListed(got, info); err != nil {
		return err, nil
	}
	tags, err := r.t.tags(ctx, got)
	if err != nil {
		return err, nil
	}
	r.t.warn(s, got, tags)
	c := &whole{r: io.LimitReader(body, got.Size+1), info: got, hash: sha256.New(), meta: describe(got, tags, info.Modified)}
	err = s.Add(ctx, backup.Item{Path: k.path, Meta: c.meta}, c)
	if err != nil && c.err != nil {
		return c.err, nil
	}
	return nil, err
}

// asListed reports whether what was opened is what was asked for.
func asListed(got, want provider.Info) error {
	if want.Version != "" && got.Version != want.Version || got.Size < 0 {
		return errChanged
	}
	return nil
}

// A whole is the content of an object, read in one piece. It has to be what
// the store says it is, and completes the description.
type whole struct {
	r    io.Reader
	info provider.Info
	n    int64
	hash hash.Hash
	meta json.RawMessage
	err  error
}

func (w *whole) Read(b []byte) (int, error) {
	n, err := w.r.Read(b)
	w.n += int64(n)
	w.hash.Write(b[:n])
	if err == io.EOF {
		if err = judge(w.info, w.n, [32]byte(w.hash.Sum(nil)), w.meta); err == nil {
			return n, io.EOF
		}
	}
	if err != nil {
		w.err = err
	}
	return n, err
}

// judge compares what was read of an object with what its store says of it,
// and completes its description.
func judge(info provider.Info, n int64, sum [32]byte, meta json.RawMessage) error {
	switch {
	case n != info.Size:
		return fmt.Errorf("%d bytes where the store has announced %d: %w", n, info.Size, provider.ErrCorrupt)
	case info.SHA256 != [32]byte{} && info.SHA256 != sum:
		return fmt.Errorf("another SHA-256 than the store keeps for it: %w", provider.ErrCorrupt)
	}
	setSum(meta, sum)
	return nil
}
