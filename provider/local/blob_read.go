package local

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"time"

	"github.com/holdfast-go/holdfast/provider"
)

// Get implements [provider.BlobStore]. It takes effect when the file is
// opened; a reader keeps its file whatever becomes of the key.
func (s *BlobStore) Get(ctx context.Context, key string, o provider.GetOptions) (io.ReadCloser, provider.Info, error) {
	r, info, err := s.get(ctx, key, o)
	if err != nil {
		return nil, provider.Info{}, s.failure("get", key, err)
	}
	return r, info, nil
}

func (s *BlobStore) get(ctx context.Context, key string, o provider.GetOptions) (io.ReadCloser, provider.Info, error) {
	if err := s.begin(ctx, key); err != nil {
		return nil, provider.Info{}, err
	}
	f, d, info, err := s.inspect(key)
	if errors.Is(err, errRetention) && f != nil {
		// It is said to those who would change the object. Whoever needs the
		// content must not lose it to a few bytes beside it.
		info, err = d.info(provider.Retention{}, time.Now())
	}
	switch {
	case err != nil:
	case o.Version != "" && o.Version != d.Version:
		err = provider.ErrNotFound
	case o.Offset < 0 || o.Length < 0 || o.Offset > 0 && o.Offset >= d.Size:
		err = provider.ErrRange
	}
	if err != nil {
		if f != nil {
			f.Close()
		}
		return nil, provider.Info{}, err
	}
	n := d.Size - o.Offset
	if o.Length > 0 {
		n = min(n, o.Length)
	}
	part := io.NewSectionReader(f, d.contentAt+o.Offset, n)
	if n < d.Size || o.Unverified {
		return &partReader{SectionReader: part, f: f}, info, nil
	}
	return &wholeReader{f: f, content: part, left: n, hash: sha256.New(), want: info.SHA256}, info, nil
}

// Stat implements [provider.BlobStore].
func (s *BlobStore) Stat(ctx context.Context, key string) (provider.Info, error) {
	if err := s.begin(ctx, key); err != nil {
		return provider.Info{}, s.failure("stat", key, err)
	}
	f, _, info, err := s.inspect(key)
	if f != nil {
		f.Close()
	}
	if err != nil {
		return provider.Info{}, s.failure("stat", key, err)
	}
	return info, nil
}

// inspect opens the object of key with its description and its retention. The
// file is open, whatever the error, if it is not nil.
func (s *BlobStore) inspect(key string) (*os.File, description, provider.Info, error) {
	path := objectPath(key)
	f, d, err := s.openObject(path, key)
	if err != nil {
		return nil, description{}, provider.Info{}, err
	}
	kept, err := s.readRetention(path)
	if err != nil {
		return f, d, provider.Info{}, err
	}
	info, err := d.info(kept.of(d.Version), time.Now())
	return f, d, info, err
}

type partReader struct {
	*io.SectionReader
	f *os.File
}

func (r *partReader) Close() error { return r.f.Close() }

// wholeReader checks the SHA-256 of what it delivers. It holds the last bytes
// back until it knows, since io.ReadFull and its like never ask for the error
// behind the last byte.
type wholeReader struct {
	f       *os.File
	content *io.SectionReader
	left    int64
	hash    hash.Hash
	want    [32]byte
	err     error
}

func (r *wholeReader) Read(p []byte) (int, error) {
	if r.err != nil {
		return 0, r.err
	}
	if len(p) == 0 && r.left > 0 {
		return 0, nil
	}
	n, err := r.content.Read(p)
	r.hash.Write(p[:n])
	r.left -= int64(n)
	switch {
	case r.left == 0 && !bytes.Equal(r.hash.Sum(nil), r.want[:]):
		r.err = fmt.Errorf("%w: %s has another SHA-256 than when it was stored", provider.ErrCorrupt, r.f.Name())
		clear(p[:n])
		return 0, r.err
	case r.left == 0:
		r.err = io.EOF
	case err == io.EOF:
		r.err = fmt.Errorf("%w: %s became shorter", provider.ErrCorrupt, r.f.Name())
	case err != nil:
		r.err = err
	}
	if n > 0 {
		return n, nil
	}
	return 0, r.err
}

func (r *wholeReader) Close() error { return r.f.Close() }
