package gcp_test

import (
	"context"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"cloud.google.com/go/auth"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/gcp"
	"github.com/holdfast-go/holdfast/provider/internal/badnet"
)

// expired is a service whose clock has passed the end of a token that ours has
// still before it: of what the clocks of two disagree about, all that a request
// to this service depends on.
var expired = badnet.Fault{Name: "clock skew: credentials expired", Do: func(n *badnet.Network) *atomic.Int32 {
	return n.Meets(1<<30, func(r *http.Request) bool { return r.Header.Get("Authorization") == "Bearer old" },
		badnet.Answers(http.StatusUnauthorized, nil, `{"error":{"code":401,"message":"Invalid Credentials"}}`))
}}

// tokens are "old" and then others.
type tokens struct{ asked atomic.Int32 }

func (c *tokens) Token(context.Context) (*auth.Token, error) {
	t := &auth.Token{Value: "old", Type: "Bearer", Expiry: time.Now().Add(time.Hour)}
	if c.asked.Add(1) > 1 {
		t.Value = "new"
	}
	return t, nil
}

// Every call meets every fault.
func TestFaults(t *testing.T) {
	p := newPlace(t, false)
	t.Parallel()
	badnet.Matrix(t, badnet.Place{Target: p.rules.url, Large: 600 << 10, Locks: true, More: []badnet.Fault{expired}, Open: func(t testing.TB, n *badnet.Network) provider.BlobStore {
		url := p.rules.url
		if n != nil {
			url = n.URL
		}
		return open(t, url, p.bucket, func(c *gcp.Config) {
			c.PartSize = 256 << 10
			if n != nil && n.For == expired.Name {
				c.Anonymous, c.Credentials = false, auth.NewCredentials(&auth.CredentialsOptions{TokenProvider: &tokens{}})
			}
		})
	}})
}
