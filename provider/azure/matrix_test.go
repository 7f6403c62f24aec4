package azure_test

import (
	"testing"

	"github.com/holdfast-go/holdfast/internal/testenv"
	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/azure"
	"github.com/holdfast-go/holdfast/provider/internal/badnet"
)

// Every call meets every fault.
func TestFaults(t *testing.T) {
	server := testenv.Azurite(t)
	t.Parallel()
	container := server.NewContainer(t)
	badnet.Matrix(t, badnet.Place{Target: server.Endpoint, Large: 600 << 10, Open: func(t testing.TB, url string) provider.BlobStore {
		return open(t, server, container, func(c *azure.Config) {
			c.PartSize = 256 << 10
			if url != server.Endpoint {
				c.Endpoint = url + "/" + server.Account
			}
		})
	}})
}
