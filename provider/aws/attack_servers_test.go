//go:build !race

// The race detector sees the same attack on a bucket in memory; this one takes
// minutes with it, and make long runs it without.

package aws_test

import (
	"strings"
	"testing"
	"time"

	"github.com/holdfast-go/holdfast/internal/testenv"
	"github.com/holdfast-go/holdfast/provider"
)

func TestAttackOnMinIO(t *testing.T) {
	server := testenv.MinIO(t)
	bucket := server.NewBucket(t, testenv.BucketOptions{Keep: 24 * time.Hour})
	attacked(t, place{open(t, server, bucket, server.Credential, nil), func() provider.BlobStore {
		return open(t, server, bucket, server.NewCredential(t, strings.ReplaceAll(writerPolicy, "BUCKET", bucket)), nil)
	}, true, true})
}

// versitygw has no policies for writers: the same with the owner's credential,
// without deletes. It lists what was deleted in a versioned bucket as if it
// were there (blob/versions-deleted), so nothing is pruned either.
func TestAttackOnVersityGW(t *testing.T) {
	server := testenv.VersityGW(t)
	bucket := server.NewBucket(t, testenv.BucketOptions{Keep: 24 * time.Hour})
	owner := open(t, server, bucket, server.Credential, nil)
	attacked(t, place{owner, func() provider.BlobStore { return owner }, false, false})
}
