package azure_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/holdfast-go/holdfast/internal/testenv"
	"github.com/holdfast-go/holdfast/provider/azure"
	"github.com/holdfast-go/holdfast/provider/internal/badnet"
)

type network struct{ *badnet.Network }

func newNetwork(t *testing.T, s *testenv.Azure, start func(http.Handler) *httptest.Server) network {
	return network{badnet.New(t, s.Endpoint, start)}
}

// through makes a store ask over the network.
func (n network) through(s *testenv.Azure) func(*azure.Config) {
	return func(c *azure.Config) { c.Endpoint, c.PartSize = n.URL+"/"+s.Account, 256<<10 }
}
