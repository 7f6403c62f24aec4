package aws_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/holdfast-go/holdfast/internal/testenv"
	"github.com/holdfast-go/holdfast/provider"
	store "github.com/holdfast-go/holdfast/provider/aws"
)

// Objects under a key of KMS, whose ETag is no MD5, and uploads without a
// checksum keep the conditions, at once and in parts.
func TestEncryptionAndChecksum(t *testing.T) {
	server := testenv.MinIO(t)
	ctx := t.Context()
	for name, change := range map[string]func(*store.Config){
		"kms":         func(c *store.Config) { c.KMSKey = "test" },
		"no checksum": func(c *store.Config) { c.Checksum = store.ChecksumNone },
	} {
		bucket := server.NewBucket(t, testenv.BucketOptions{})
		s := open(t, server, bucket, server.Credential, func(c *store.Config) { c.PartSize = 5 << 20; change(c) })
		for key, size := range map[string]int{"whole": 1000, "parts": 6 << 20} {
			first, err := s.Put(ctx, key, provider.Bytes(noise(size)), provider.PutOptions{IfAbsent: true})
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			second, err := s.Put(ctx, key, provider.Bytes(noise(size+1)), provider.PutOptions{IfMatch: first.Version})
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if _, err := s.Put(ctx, key, provider.Bytes(nil), provider.PutOptions{IfMatch: first.Version}); !errors.Is(err, provider.ErrConflict) {
				t.Errorf("%s: %s: IfMatch of a replaced version: %v", name, key, err)
			}
			b, info, err := provider.ReadAll(ctx, s, key, int64(size)+1)
			if err != nil || !bytes.Equal(b, noise(size+1)) || info.Version != second.Version {
				t.Errorf("%s: %s: %d bytes, %+v, %v", name, key, len(b), info, err)
			}
			head, err := server.Client().HeadObject(ctx, &s3.HeadObjectInput{Bucket: &bucket, Key: &key, ChecksumMode: "ENABLED"})
			if err != nil {
				t.Fatal(err)
			}
			if encrypted := head.ServerSideEncryption == "aws:kms"; encrypted != (name == "kms") {
				t.Errorf("%s: %s: encryption is %q", name, key, head.ServerSideEncryption)
			}
			if kept := head.ChecksumSHA256 != nil; kept != (name == "kms") {
				t.Errorf("%s: %s: the store kept a SHA-256: %v", name, key, kept)
			}
		}
	}
}
