package aws_test

import (
	"testing"

	"github.com/holdfast-go/holdfast/internal/testenv"
	"github.com/holdfast-go/holdfast/provider"
	store "github.com/holdfast-go/holdfast/provider/aws"
	"github.com/holdfast-go/holdfast/provider/internal/badnet"
)

// Every call meets every fault.
func TestFaults(t *testing.T) {
	server := testenv.MinIO(t)
	t.Parallel()
	bucket := server.NewBucket(t, testenv.BucketOptions{Locks: true})
	badnet.Matrix(t, badnet.Place{Target: server.Endpoint, Large: 5<<20 + 1, Locks: true, Open: func(t testing.TB, url string) provider.BlobStore {
		return open(t, server, bucket, server.Credential, func(c *store.Config) { c.Endpoint, c.PartSize = url, 5<<20 })
	}})
}
