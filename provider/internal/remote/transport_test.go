package remote_test

import (
	"net/http"
	"testing"

	"github.com/holdfast-go/holdfast/provider/internal/remote"
)

// A program that has put its own transport in the place of the standard
// library's, to trace requests for one, gets a transport all the same.
func TestTransport(t *testing.T) {
	standard := http.DefaultTransport
	t.Cleanup(func() { http.DefaultTransport = standard })
	if got := remote.Transport(); got == standard || got.Proxy == nil {
		t.Errorf("%+v", got)
	}
	http.DefaultTransport = struct{ http.RoundTripper }{standard}
	if got := remote.Transport(); got.Proxy == nil || !got.ForceAttemptHTTP2 {
		t.Errorf("%+v", got)
	}
}
