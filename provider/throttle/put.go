package throttle

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"maps"
	"sync"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/internal/remote"
)

// Put implements [provider.BlobStore].
func (s *store) Put(ctx context.Context, key string, body provider.Body, o provider.PutOptions) (info provider.Info, err error) {
	k := s.t.call(Write, "put", key)
	up := &upload{Body: body, limited: body}
	if s.t.up != nil {
		up.limited = s.t.up.ReaderAt(ctx, body)
	}
	unknown, looked := false, false // whether an attempt had its effect
	err = k.run(ctx, func(within context.Context) (err error) {
		info, err = s.store.Put(within, key, up.body(), o)
		if err != nil && up.failed() {
			return &final{err} // which is not the store's fault
		}
		k.settle(within, err)
		if unknown && (errors.Is(err, provider.ErrConflict) || errors.Is(err, provider.ErrLocked)) {
			looked = true
			info, err = s.own(ctx, key, body, o, err)
			return err
		}
		unknown = unknown || err != nil && passes(err) && k.mayHave()
		return err
	})
	if err != nil && unknown && !looked && passes(err) && !up.failed() && ctx.Err() == nil && (o.IfAbsent || o.IfMatch != "") {
		if present, ownErr := s.own(ctx, key, body, o, err); ownErr == nil {
			return present, nil
		}
	}
	if err != nil {
		return provider.Info{}, err
	}
	return info, nil
}

// own finds out whether an attempt whose outcome is unknown has put what is
// there now. If not, the outcome stays unknown: it may have been replaced
// since.
func (s *store) own(ctx context.Context, key string, body provider.Body, o provider.PutOptions, refusal error) (provider.Info, error) {
	info, err := s.Stat(ctx, key)
	same := false
	if err == nil && info.Size == body.Size() && maps.Equal(info.Meta, o.Meta) && !remote.Weaker(info.Retain, o.Retain) {
		same, err = s.holds(ctx, info, body, o.SHA256)
	}
	if same && err == nil {
		return info, nil
	}
	text := fmt.Sprintf("outcome unknown: an earlier attempt was not answered, and then: %v", refusal)
	if err != nil && !missing(err) {
		text += fmt.Sprintf("; look whether it succeeded: %v", err)
	}
	return provider.Info{}, &final{&provider.Error{Op: "put", Provider: "throttle", Key: key, Err: errors.New(text)}}
}

// holds compares an object with a body, by the SHA-256 if the store keeps it.
func (s *store) holds(ctx context.Context, info provider.Info, body provider.Body, sum [32]byte) (bool, error) {
	if info.SHA256 != [32]byte{} {
		if known, ok := body.(provider.Summed); ok {
			sum = known.SHA256()
		}
		if sum == [32]byte{} {
			h := sha256.New()
			if _, err := io.Copy(h, io.NewSectionReader(body, 0, body.Size())); err != nil {
				return false, err
			}
			sum = [32]byte(h.Sum(nil))
		}
		return info.SHA256 == sum, nil
	}
	r, _, err := s.Get(ctx, info.Key, provider.GetOptions{Version: info.Version})
	if err != nil {
		return false, err
	}
	defer r.Close()
	theirs, ours := make([]byte, 64<<10), make([]byte, 64<<10)
	for at := int64(0); ; {
		n, err := io.ReadFull(r, theirs)
		if m, readErr := body.ReadAt(ours[:n], at); m < n {
			return false, readErr
		}
		if !bytes.Equal(theirs[:n], ours[:n]) {
			return false, nil
		}
		at += int64(n)
		switch err {
		case nil:
		case io.EOF, io.ErrUnexpectedEOF:
			return at == body.Size(), nil
		default:
			return false, err
		}
	}
}

func missing(err error) bool { return errors.Is(err, provider.ErrNotFound) }

// An upload is a body that is read no faster than allowed, and remembers
// whether it failed by itself.
type upload struct {
	provider.Body
	limited io.ReaderAt

	mu  sync.Mutex
	err error
}

// body is what the store gets: what knows its sums goes on knowing them.
func (u *upload) body() provider.Body {
	if known, ok := u.Body.(provider.Summed); ok {
		return summed{u, known}
	}
	return u
}

type summed struct {
	*upload
	known provider.Summed
}

func (s summed) SHA256() [32]byte { return s.known.SHA256() }
func (s summed) CRC32C() uint32   { return s.known.CRC32C() }

// ReadAt implements [io.ReaderAt].
func (u *upload) ReadAt(p []byte, off int64) (int, error) {
	n, err := u.limited.ReadAt(p, off)
	if n < len(p) && off+int64(n) < u.Size() {
		u.mu.Lock()
		defer u.mu.Unlock()
		u.err = err
		if err == nil || err == io.EOF {
			u.err = io.ErrUnexpectedEOF
		}
	}
	return n, err
}

func (u *upload) failed() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.err != nil
}
