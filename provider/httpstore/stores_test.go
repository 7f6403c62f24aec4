package httpstore_test

import (
	"context"
	"crypto/sha256"
	"io"
	"time"

	"github.com/holdfast-go/holdfast/provider"
)

// zeros is a body of so many bytes that takes no memory.
type zeros int64

func (z zeros) Size() int64 { return int64(z) }
func (z zeros) ReadAt(p []byte, off int64) (int, error) {
	n := min(int64(len(p)), int64(z)-off)
	clear(p[:n])
	if n < int64(len(p)) {
		return int(n), io.EOF
	}
	return int(n), nil
}

// hashing keeps only the size and the hash of what it is given, and delivers
// zeros.
type hashing struct {
	provider.BlobStore
	size int64
	sum  [32]byte
}

func (s *hashing) Put(ctx context.Context, key string, body provider.Body, o provider.PutOptions) (provider.Info, error) {
	h := sha256.New()
	n, err := io.Copy(h, io.NewSectionReader(body, 0, body.Size()))
	s.size, s.sum = n, [32]byte(h.Sum(nil))
	return s.info(key), err
}

func (s *hashing) Get(ctx context.Context, key string, o provider.GetOptions) (io.ReadCloser, provider.Info, error) {
	return io.NopCloser(io.NewSectionReader(zeros(s.size), 0, s.size)), s.info(key), nil
}

func (s *hashing) info(key string) provider.Info {
	return provider.Info{Key: key, Size: s.size, Version: "1", SHA256: s.sum, Modified: time.Unix(0, 0).UTC()}
}
