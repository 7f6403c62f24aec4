package azure_test

import (
	"context"
	"encoding/pem"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"

	"github.com/holdfast-go/holdfast/internal/testenv"
	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/azure"
	"github.com/holdfast-go/holdfast/provider/internal/badnet"
)

// tooOld is what the service says of what is signed for another time than its
// own, which no other attempt changes.
const tooOld = `<?xml version="1.0" encoding="utf-8"?><Error><Code>AuthenticationFailed</Code><Message>Server failed to authenticate the request. Request date header too old.</Message></Error>`

// Every call meets every fault, on Azurite; it takes no retentions.
func TestFaults(t *testing.T) {
	server := testenv.Azurite(t)
	t.Parallel()
	container := server.NewContainer(t)
	skew := badnet.Fault{Name: "clock skew", Is: fs.ErrPermission, Do: func(n *badnet.Network) *atomic.Int32 {
		return n.Meets(1<<30, badnet.All, badnet.Answers(http.StatusForbidden, http.Header{"X-Ms-Error-Code": {"AuthenticationFailed"}}, tooOld))
	}}
	badnet.Matrix(t, badnet.Place{Target: server.Endpoint, Large: 600 << 10, More: []badnet.Fault{skew}, Open: func(t testing.TB, n *badnet.Network) provider.BlobStore {
		return open(t, server, container, func(c *azure.Config) {
			c.PartSize = 256 << 10
			if n != nil {
				c.Endpoint = n.URL + "/" + server.Account
			}
		})
	}})
}

// The same on the model, which takes them, with tokens: one of them has expired
// by the clock of the service and not by ours.
func TestFaultsWithTokens(t *testing.T) {
	t.Parallel()
	direct := newModel(t, freshModel(true))
	expired := badnet.Fault{Name: "clock skew: credentials expired", Do: func(n *badnet.Network) *atomic.Int32 {
		return n.Meets(1<<30, func(r *http.Request) bool { return r.Header.Get("Authorization") == "Bearer old" },
			badnet.Answers(http.StatusUnauthorized, http.Header{"X-Ms-Error-Code": {"InvalidAuthenticationInfo"}}, ""))
	}}
	badnet.Matrix(t, badnet.Place{Target: direct.Endpoint, Start: httptest.NewTLSServer, Large: 600 << 10, Locks: true, More: []badnet.Fault{expired}, Open: func(t testing.TB, n *badnet.Network) provider.BlobStore {
		c := *direct
		if n != nil {
			c.Endpoint, c.SAS, c.Attempts, c.Credential = n.URL+"/account", "", 5, &renewing{}
			c.CA = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: n.Certificate().Raw})
		}
		s, err := azure.Open(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}})
}

// renewing are tokens that are "old" and then others.
type renewing struct{ asked atomic.Int32 }

func (c *renewing) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	t := azcore.AccessToken{Token: "old", ExpiresOn: time.Now().Add(time.Hour)}
	if c.asked.Add(1) > 1 {
		t.Token = "new"
	}
	return t, nil
}
