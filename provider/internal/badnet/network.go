// Package badnet is the network between a store and its server, for tests: it
// does to requests and to their answers what networks and services do.
package badnet

import (
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"sync/atomic"
	"testing"
)

// Network passes requests on to a server, as a server of its own.
type Network struct {
	*httptest.Server
	Seen atomic.Int32 // requests of any kind
	For  string       // the name of the fault, in a [Matrix]

	before atomic.Pointer[http.HandlerFunc]
	spoil  atomic.Pointer[func(*http.Response) error]
}

// New stands before the server at a URL, of which only scheme and host count.
// start is [httptest.NewServer] or [httptest.NewTLSServer].
func New(t testing.TB, target string, start func(http.Handler) *httptest.Server) *Network {
	t.Helper()
	to, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	to.Path = ""
	n := &Network{}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(to)
			r.Out.Host = r.In.Host // it is signed, and where uploads go on
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
	n.Server = start(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n.Seen.Add(1)
		if f := n.before.Load(); f != nil {
			a := &answer{ResponseWriter: w}
			if (*f)(a, r); a.given {
				return
			}
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(n.Close)
	return n
}

// answer notes that a request has been answered, and need not be passed on.
type answer struct {
	http.ResponseWriter
	given bool
}

func (a *answer) WriteHeader(code int) {
	a.given = true
	a.ResponseWriter.WriteHeader(code)
}

// Unwrap is for [http.ResponseController].
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// All matches every request.
func All(*http.Request) bool { return true }

// Meets does how to the requests that match, the first times only. What it
// answers is not passed on. It returns how often that has happened.
func (n *Network) Meets(times int32, match func(*http.Request) bool, how http.HandlerFunc) *atomic.Int32 {
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

// Breaks does how to the answers of requests that match, the first times only.
// An error is an answer that never comes. It returns how often that has happened.
func (n *Network) Breaks(times int32, match func(*http.Request) bool, how func(*http.Response) error) *atomic.Int32 {
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

// Clear ends what [Network.Meets] and [Network.Breaks] have begun.
func (n *Network) Clear() {
	n.before.Store(nil)
	n.spoil.Store(nil)
}
