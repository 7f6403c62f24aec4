package throttle

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/holdfast-go/holdfast/provider"
)

// Get implements [provider.BlobStore].
func (s *store) Get(ctx context.Context, key string, o provider.GetOptions) (io.ReadCloser, provider.Info, error) {
	k := s.t.call(Read, "get", key)
	r := &reader{s: s, k: k, ctx: ctx, key: key, at: o.Offset}
	err := k.run(ctx, func(ctx context.Context) error { return r.open(ctx, o) })
	if err != nil {
		return nil, provider.Info{}, err
	}
	k.further()
	r.end = r.info.Size
	if o.Length > 0 && o.Length < r.end-r.at {
		r.end = r.at + o.Length
	}
	if whole := r.at == 0 && r.end == r.info.Size; whole && !o.Unverified {
		r.whole = true
		if r.info.SHA256 != [32]byte{} {
			r.hash = sha256.New()
		}
	}
	return r, r.info, nil
}

// A reader delivers an object, over as many Gets of one version as it takes.
type reader struct {
	s    *store
	k    *call
	ctx  context.Context // that of Get, which governs the reader, too
	key  string
	info provider.Info

	at, end int64
	body    io.ReadCloser
	in      io.Reader // body, no faster than allowed
	broke   error     // what body returned beside its last bytes
	got     int64     // bytes of body

	whole bool      // all of the object, to be verified
	hash  hash.Hash // of what was delivered; nil: not to be compared
	err   error
}

// open asks for a body, of the version that the first one was of.
func (r *reader) open(ctx context.Context, o provider.GetOptions) error {
	body, info, err := r.s.store.Get(ctx, r.key, o)
	if err != nil {
		return err
	}
	if r.body != nil && (info.Version != r.info.Version || info.Size != r.info.Size) {
		body.Close()
		return &final{errors.New("the store delivers another version")}
	}
	r.body, r.info, r.in, r.got, r.broke = body, info, body, 0, nil
	if r.s.t.down != nil {
		r.in = r.s.t.down.Reader(r.ctx, body)
	}
	return nil
}

// Read implements [io.Reader].
func (r *reader) Read(p []byte) (int, error) {
	for r.err == nil {
		if r.broke == nil {
			n, err := r.in.Read(p)
			r.broke = err
			if n > 0 {
				r.at, r.got = r.at+int64(n), r.got+int64(n)
				if r.hash != nil {
					r.hash.Write(p[:n])
				}
				return n, nil
			}
			if err == nil {
				return 0, nil
			}
		}
		r.after(r.broke)
	}
	return 0, r.err
}

// after goes on when the body has ended with err, and sets r.err if nothing
// comes any more.
func (r *reader) after(err error) {
	early := r.at < r.end
	switch {
	case err == io.EOF && !early, !early && passes(err) && r.ctx.Err() == nil && (!r.whole || r.hash != nil):
		r.err = r.verdict()
		return
	case err == io.EOF:
		err = fmt.Errorf("body ended at %d of %d bytes: %w", r.at, r.end, io.ErrUnexpectedEOF)
	}
	if r.got > 0 {
		r.k.further()
	}
	r.k.settle(r.ctx, err)
	if !early || r.info.Version == "" || !r.k.again(r.ctx, err) {
		r.err = r.k.told(r.named(err))
		return
	}
	if r.got == 0 {
		if waitErr := sleep(r.ctx, backoff(r.k.rounds)); waitErr != nil {
			r.err = r.named(fmt.Errorf("%w; before that: %w", waitErr, err))
			return
		}
	}
	r.again(err)
}

// again opens what is left.
func (r *reader) again(broke error) {
	r.body.Close()
	o := provider.GetOptions{Offset: r.at, Length: r.end - r.at, Version: r.info.Version, Unverified: true}
	err := r.k.run(r.ctx, func(ctx context.Context) error { return r.open(ctx, o) })
	switch {
	case err == nil:
		return
	case missing(err): // it was there; the sentinel would say otherwise
		err = fmt.Errorf("%w; and it was replaced or deleted meanwhile", broke)
	default:
		err = fmt.Errorf("%w; and again: %w", broke, err)
	}
	r.body = io.NopCloser(nil)
	r.err = r.named(err)
}

// verdict is the end of a body that is complete. One that came in pieces
// nobody else has verified.
func (r *reader) verdict() error {
	if r.hash != nil && r.info.SHA256 != [32]byte(r.hash.Sum(nil)) {
		return r.named(provider.ErrCorrupt)
	}
	return io.EOF
}

func (r *reader) named(err error) error {
	if _, ok := errors.AsType[*provider.Error](err); ok {
		return err
	}
	return &provider.Error{Op: "get", Provider: "throttle", Key: r.key, Err: err}
}

// Close implements [io.Closer].
func (r *reader) Close() error { return r.body.Close() }
