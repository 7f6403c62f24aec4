package gcp

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"strings"

	"cloud.google.com/go/storage"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/internal/remote"
)

// Get implements [provider.BlobStore]. It asks for the bytes and for the
// metadata at the same time, because the service does not tell all of the
// latter with the former. A connection that breaks while the object is read is
// opened again where it broke, for the same version. The reader of a whole
// object ends in [provider.ErrCorrupt] if it has not the SHA-256 that is known
// of it, unless o.Unverified; where none is known, not the CRC-32C that the
// service keeps.
func (s *Store) Get(ctx context.Context, key string, o provider.GetOptions) (io.ReadCloser, provider.Info, error) {
	r, info, err := s.get(ctx, key, o)
	if err != nil {
		return nil, provider.Info{}, wrap(ctx, "get", key, err)
	}
	return r, info, nil
}

// replacedAttempts is how often Get asks anew because the object was replaced
// between its two requests.
const replacedAttempts = 20

func (s *Store) get(ctx context.Context, key string, o provider.GetOptions) (io.ReadCloser, provider.Info, error) {
	if err := errors.Join(ctx.Err(), checkKey(key)); err != nil {
		return nil, provider.Info{}, err
	}
	if o.Offset < 0 || o.Length < 0 {
		return nil, provider.Info{}, provider.ErrRange
	}
	generation := int64(-1)
	if o.Version != "" {
		if generation = generationOf(o.Version); generation == 0 {
			return nil, provider.Info{}, provider.ErrNotFound
		}
	}
	length := int64(-1)
	if o.Length > 0 && o.Length < math.MaxInt64-o.Offset {
		length = o.Length
	}
	for range replacedAttempts {
		body, f, err := s.open(ctx, key, generation, o.Offset, length)
		if errors.Is(err, errReplaced) {
			continue
		}
		if err != nil {
			return nil, provider.Info{}, s.missing(ctx, err)
		}
		return s.reader(ctx, body, f, o), f.Info, nil
	}
	return nil, provider.Info{}, errReplaced
}

var errReplaced = errors.New("the object is replaced again and again while it is opened")

// open asks for the bytes of an object from off on, and for what is known of
// it. A generation of -1 is the present one. errReplaced: the two answers are
// about two versions.
func (s *Store) open(ctx context.Context, key string, generation, off, length int64) (io.ReadCloser, found, error) {
	type opened struct {
		body *storage.Reader
		err  error
	}
	bytes := make(chan opened, 1)
	go func() {
		body, err := s.object(key).Generation(generation).NewRangeReader(ctx, off, length)
		bytes <- opened{body, err}
	}()
	f, err := s.head(ctx, key, generation)
	got := <-bytes
	if err == nil {
		err = got.err
	}
	beyond := statusOf(got.err) == http.StatusRequestedRangeNotSatisfiable
	switch {
	case beyond && f.ObjectAttrs != nil && off == 0: // of no bytes, which have no ranges
		return io.NopCloser(strings.NewReader("")), f, nil
	case err != nil:
		if got.body != nil {
			got.body.Close()
		}
		return nil, found{}, err
	case got.body.Attrs.Generation != f.Generation:
		got.body.Close()
		return nil, found{}, errReplaced
	case off > 0 && off >= f.Info.Size:
		got.body.Close()
		return nil, found{}, provider.ErrRange
	}
	return got.body, f, nil
}

func (s *Store) reader(ctx context.Context, body io.ReadCloser, f found, o provider.GetOptions) io.ReadCloser {
	end := f.Info.Size
	if o.Length > 0 && o.Length < end-o.Offset {
		end = o.Offset + o.Length
	}
	r := remote.Stream{Body: body, At: o.Offset, End: end, Again: func(at int64) (io.ReadCloser, error) {
		return s.object(f.Key).Generation(f.Generation).NewRangeReader(ctx, at, end-at)
	}, Fail: func(err error) error { return wrap(ctx, "get", f.Key, err) }}
	if o.Offset == 0 && end == f.Info.Size && !o.Unverified {
		r.Sum = f.SHA256
		r.CRC32C = binary.BigEndian.AppendUint32(nil, f.CRC32C)
	}
	return r.Reader()
}

// head describes the object, or one generation of it.
func (s *Store) head(ctx context.Context, key string, generation int64) (found, error) {
	var answered clock
	a, err := s.object(key).Generation(generation).Attrs(answered.watch(ctx))
	if err != nil {
		return found{}, err
	}
	if a.Name != key {
		return found{}, fmt.Errorf("the service answers with %q", a.Name)
	}
	return foundOf(a, answered.now()), nil
}

// Stat implements [provider.BlobStore].
func (s *Store) Stat(ctx context.Context, key string) (provider.Info, error) {
	err := errors.Join(ctx.Err(), checkKey(key))
	if err == nil {
		var f found
		f, err = s.head(ctx, key, -1)
		if err = s.missing(ctx, err); err == nil {
			return f.Info, nil
		}
	}
	return provider.Info{}, wrap(ctx, "stat", key, err)
}
