package aws_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"testing"

	"github.com/holdfast-go/holdfast/internal/testenv"
	"github.com/holdfast-go/holdfast/provider"
	store "github.com/holdfast-go/holdfast/provider/aws"
)

// A body that knows its SHA-256 is believed only as far as the bytes are what
// it knows it of; the store checks them against what was said.
func TestSummed(t *testing.T) {
	for _, start := range bothServers {
		server := start(t)
		for _, checksum := range []store.Checksum{store.ChecksumSHA256, store.ChecksumNone} {
			name := fmt.Sprint(server.Name, ", ", checksum)
			s := open(t, server, server.NewBucket(t, testenv.BucketOptions{}), server.Credential, func(c *store.Config) { c.Checksum = checksum })
			content := noise(1000)
			sum := sha256.Sum256(content)
			info, err := s.Put(t.Context(), "x", provider.SummedBytes(content, sum), provider.PutOptions{SHA256: sum})
			if err != nil || info.SHA256 != sum {
				t.Errorf("%s: %+v, %v", name, info, err)
			}
			body := provider.SummedBytes(content, sum)
			content = content[:len(content):len(content)]
			content[500] ^= 1 // not what was summed any more
			if _, err := s.Put(t.Context(), "x", body, provider.PutOptions{SHA256: sum}); !errors.Is(err, provider.ErrCorrupt) {
				t.Errorf("%s: bytes that changed after they were summed: %v", name, err)
			}
			info, err = s.Put(t.Context(), "y", body, provider.PutOptions{})
			if err != nil || info.SHA256 != sha256.Sum256(content) {
				t.Errorf("%s: bytes that changed and were not announced: %x, %v", name, info.SHA256, err)
			}
			if _, err := s.Put(t.Context(), "z", provider.SummedBytes(content, sum), provider.PutOptions{}); err == nil {
				t.Errorf("%s: the store took a SHA-256 that is not that of the bytes", name)
			}
			if _, err := s.Stat(t.Context(), "z"); !errors.Is(err, provider.ErrNotFound) {
				t.Errorf("%s: what was refused: %v", name, err)
			}
			content[500] ^= 1
			if b, _, err := provider.ReadAll(t.Context(), s, "x", 1000); err != nil || !bytes.Equal(b, content) {
				t.Errorf("%s: the object before: %v", name, err)
			}
		}
	}
}

// A body that goes up in parts and has not the announced SHA-256 is refused,
// and leaves neither an object nor an upload.
func TestPartsOfAnotherBody(t *testing.T) {
	server := testenv.MinIO(t)
	bucket := server.NewBucket(t, testenv.BucketOptions{})
	s := open(t, server, bucket, server.Credential, func(c *store.Config) { c.PartSize = 5 << 20 })
	content := noise(5<<20 + 1)
	if _, err := s.Put(t.Context(), "x", provider.Bytes(content), provider.PutOptions{SHA256: sha256.Sum256(content[1:])}); !errors.Is(err, provider.ErrCorrupt) {
		t.Errorf("another body than was announced: %v", err)
	}
	if _, err := s.Stat(t.Context(), "x"); !errors.Is(err, provider.ErrNotFound) {
		t.Errorf("what was refused: %v", err)
	}
	uploads, err := server.Client().ListMultipartUploads(t.Context(), uploadsOf(bucket, "x"))
	if err != nil || len(uploads.Uploads) > 0 {
		t.Errorf("%v, %d uploads are left", err, len(uploads.Uploads))
	}
}
