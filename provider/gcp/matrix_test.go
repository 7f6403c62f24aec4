package gcp_test

import (
	"testing"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/gcp"
	"github.com/holdfast-go/holdfast/provider/internal/badnet"
)

// Every call meets every fault.
func TestFaults(t *testing.T) {
	p := newPlace(t, false)
	t.Parallel()
	badnet.Matrix(t, badnet.Place{Target: p.rules.url, Large: 600 << 10, Locks: true, Open: func(t testing.TB, url string) provider.BlobStore {
		return open(t, url, p.bucket, func(c *gcp.Config) { c.PartSize = 256 << 10 })
	}})
}
