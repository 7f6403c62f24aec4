package azure_test

import (
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"sync/atomic"
	"testing"

	"github.com/holdfast-go/holdfast/internal/testenv"
	"github.com/holdfast-go/holdfast/provider/azure"
)

// network stands between a store and its server. It does to a request what
// before says, which may answer it, and to the answer what spoil says: nil
// passes it on.
type network struct {
	*httptest.Server
	before atomic.Pointer[http.HandlerFunc]
	spoil  atomic.Pointer[func(*http.Response) error]
	passed atomic.Int32 // requests of any kind
}

func newNetwork(t *testing.T, s *testenv.Azure, start func(http.Handler) *httptest.Server) *network {
	target, err := url.Parse(s.Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	target.Path = ""
	n := &network{}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target) },
		ModifyResponse: func(r *http.Response) error {
			if f := n.spoil.Load(); f != nil {
				return (*f)(r)
			}
			return nil
		},
		// The answer never comes.
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
	}
	n.Server = start(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n.passed.Add(1)
		if f := n.before.Load(); f != nil {
			answered := &answer{ResponseWriter: w}
			if (*f)(answered, r); answered.given {
				return
			}
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(n.Close)
	return n
}

type answer struct {
	http.ResponseWriter
	given bool
}

func (a *answer) WriteHeader(code int) {
	a.given = true
	a.ResponseWriter.WriteHeader(code)
}

// through makes a store ask over the network.
func (n *network) through(s *testenv.Azure) func(*azure.Config) {
	return func(c *azure.Config) { c.Endpoint, c.PartSize = n.URL+"/"+s.Account, 256<<10 }
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

// meets sets what happens to the requests that match, the first times only.
func (n *network) meets(times int32, match func(*http.Request) bool, how http.HandlerFunc) *atomic.Int32 {
	var left, done atomic.Int32
	left.Store(times)
	f := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !match(r) || left.Add(-1) < 0 {
			return
		}
		done.Add(1)
		how(w, r)
	})
	n.before.Store(&f)
	return &done
}
