package gcp_test

import (
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"sync/atomic"
	"testing"
)

// network stands between a store and its server and does to the answer of a
// request what spoil says: nil passes it on.
type network struct {
	url   string
	seen  atomic.Int32 // requests
	spoil atomic.Pointer[func(*http.Response) error]
}

func newNetwork(t *testing.T, endpoint string) *network {
	target, err := url.Parse(endpoint)
	if err != nil {
		t.Fatal(err)
	}
	n := &network{}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			n.seen.Add(1)
			r.SetURL(target)
			r.Out.Host = r.In.Host // where uploads go on
		},
		ModifyResponse: func(r *http.Response) error {
			if f := n.spoil.Load(); f != nil {
				return (*f)(r)
			}
			return nil
		},
		// The answer never comes.
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
	}
	server := httptest.NewServer(proxy)
	t.Cleanup(server.Close)
	n.url = server.URL
	return n
}

// breaks sets what happens to the answers that match, the first times only.
func (n *network) breaks(times int32, match func(*http.Request) bool, how func(*http.Response) error) *atomic.Int32 {
	var left, done atomic.Int32
	left.Store(times)
	f := func(r *http.Response) error {
		if !match(r.Request) || left.Add(-1) < 0 {
			return nil
		}
		done.Add(1)
		return how(r)
	}
	n.spoil.Store(&f)
	return &done
}

func serve(t *testing.T, h http.Handler) string {
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	return server.URL
}
