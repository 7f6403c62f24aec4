package httpstore_test

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/httpstore"
	"github.com/holdfast-go/holdfast/provider/providertest"
)

const token = "0123456789abcdef-test"

// serve runs a handler over store and returns its URL.
func serve(t testing.TB, store provider.BlobStore, c httpstore.HandlerConfig) string {
	t.Helper()
	if c.Token == "" {
		c.Token = token
	}
	h, err := httpstore.NewHandler(store, c)
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	return srv.URL
}

func client(t testing.TB, url string) *httpstore.Store {
	t.Helper()
	tr := http.DefaultTransport.(*http.Transport).Clone()
	tr.MaxIdleConnsPerHost = 32
	t.Cleanup(tr.CloseIdleConnections)
	s, err := httpstore.New(httpstore.Config{URL: url, Token: token, Client: &http.Client{Transport: tr}})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// A proxy forwards TCP connections to a server and resets each of them after
// so many bytes in one direction.
type proxy struct {
	ln       net.Listener
	target   string
	up, down atomic.Int64 // bytes let through on a connection; negative: all
	upSeen   atomic.Int64 // bytes that came, on all connections
	downSeen atomic.Int64
	wg       sync.WaitGroup
}

func newProxy(t testing.TB, url string) *proxy {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{ln: ln, target: strings.TrimPrefix(url, "http://")}
	p.up.Store(-1)
	p.down.Store(-1)
	p.wg.Go(p.accept)
	t.Cleanup(func() { ln.Close(); p.wg.Wait() })
	return p
}

func (p *proxy) URL() string { return "http://" + p.ln.Addr().String() }

func (p *proxy) accept() {
	for {
		c, err := p.ln.Accept()
		if err != nil {
			return
		}
		p.wg.Go(func() { p.forward(c.(*net.TCPConn)) })
	}
}

func (p *proxy) forward(client *net.TCPConn) {
	conn, err := net.Dial("tcp", p.target)
	if err != nil {
		client.Close()
		return
	}
	server := conn.(*net.TCPConn)
	cut := sync.OnceFunc(func() {
		for _, c := range []*net.TCPConn{client, server} {
			c.SetLinger(0) // a reset, not an orderly end
			c.Close()
		}
	})
	defer cut()
	p.wg.Go(func() { defer cut(); pass(server, client, p.up.Load(), &p.upSeen) })
	pass(client, server, p.down.Load(), &p.downSeen)
}

// pass copies until an end or the limit. At the limit it has read one byte
// more than it let through: with a limit of 0, the other side did answer.
func pass(dst io.Writer, src io.Reader, limit int64, seen *atomic.Int64) {
	buf := make([]byte, 32<<10)
	for left := limit; ; {
		n, err := src.Read(buf)
		seen.Add(int64(n))
		if limit >= 0 && int64(n) > left {
			dst.Write(buf[:left])
			return
		}
		left -= int64(n)
		if _, werr := dst.Write(buf[:n]); err != nil || werr != nil {
			return
		}
	}
}

// A program may have put its own transport in the place of the standard
// library's.
func TestAnotherDefaultTransport(t *testing.T) {
	standard := http.DefaultTransport
	t.Cleanup(func() { http.DefaultTransport = standard })
	http.DefaultTransport = struct{ http.RoundTripper }{standard}
	s, err := httpstore.New(httpstore.Config{URL: serve(t, providertest.NewMemory(), noTemp(t)), Token: token})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Put(t.Context(), "x", provider.Bytes(nil), provider.PutOptions{}); err != nil {
		t.Error(err)
	}
}
