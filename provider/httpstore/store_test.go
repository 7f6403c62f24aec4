package httpstore_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/httpstore"
	"github.com/holdfast-go/holdfast/provider/internal/storetest"
	"github.com/holdfast-go/holdfast/provider/local"
	"github.com/holdfast-go/holdfast/provider/providertest"
)

// noTemp is a configuration whose temporary directory must be empty at the
// end of the test.
func noTemp(t testing.TB) httpstore.HandlerConfig {
	dir := t.TempDir()
	t.Cleanup(func() {
		if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
			t.Errorf("left in the temporary directory: %v, %v", left, err)
		}
	})
	return httpstore.HandlerConfig{TempDir: dir}
}

func TestConformance(t *testing.T) {
	t.Parallel()
	at := serve(t, providertest.NewMemory(), noTemp(t))
	storetest.Conforms(t, storetest.Subject{Name: "httpstore", Open: func(t testing.TB) provider.BlobStore { return client(t, at) },
		Differs: map[string]string{"blob/versions*": "the protocol has no versions", "blob/warm*": "the protocol has no cold tiers"}})
}

// The same over TLS and HTTP/2.
func TestConformanceTLS(t *testing.T) {
	t.Parallel()
	providertest.TestBlobStore(t, func(t *testing.T) provider.BlobStore {
		h, err := httpstore.NewHandler(providertest.NewMemory(), httpstore.HandlerConfig{Token: token})
		if err != nil {
			t.Fatal(err)
		}
		srv := httptest.NewUnstartedServer(http.StripPrefix("/mounted", h))
		srv.EnableHTTP2 = true
		srv.StartTLS()
		t.Cleanup(srv.Close)
		s, err := httpstore.New(httpstore.Config{URL: srv.URL + "/mounted/", Token: token, Client: srv.Client()})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}, providertest.CheckOptions{})
}

// Keys that something on the way might tidy up arrive as they are.
func TestKeysSurvive(t *testing.T) {
	ctx := t.Context()
	mem := providertest.NewMemory()
	s := client(t, serve(t, mem, noTemp(t)))
	for _, key := range []string{
		"a//b", "/a", "a/", "..", "../a", "./a", "%2f", "a%2Fb", "a b", "a+b", "a?b=c&d", "a#b", "a;b",
		"\n", "\x00", "é/ü", "\U0001F512", `"`, `\`, "<&>", "\u2028", strings.Repeat("k", 1024),
	} {
		body := []byte("content of " + key)
		info, err := s.Put(ctx, key, provider.Bytes(body), provider.PutOptions{IfAbsent: true})
		if err != nil {
			t.Errorf("put %q: %v", key, err)
			continue
		}
		if there, err := mem.Stat(ctx, key); err != nil || there.Version != info.Version {
			t.Errorf("%q is not in the store under its name: %v", key, err)
		}
		if got, _, err := provider.ReadAll(ctx, s, key, 1<<20); err != nil || !bytes.Equal(got, body) {
			t.Errorf("get %q: %q, %v", key, got, err)
		}
		n := 0
		for i, err := range s.List(ctx, key, provider.ListOptions{}) {
			if err != nil {
				t.Errorf("list %q: %v", key, err)
			}
			if i.Key == key {
				n++
			}
		}
		if n != 1 {
			t.Errorf("listed %q %d times", key, n)
		}
	}
}

func TestToken(t *testing.T) {
	ctx := t.Context()
	mem := providertest.NewMemory()
	if _, err := mem.Put(ctx, "a", provider.Bytes([]byte("x")), provider.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	url := serve(t, mem, httpstore.HandlerConfig{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	for _, bad := range []string{"", "wrong", token + "x", token[:len(token)-1], strings.ToUpper(token)} {
		s, err := httpstore.New(httpstore.Config{URL: url, Token: bad})
		if err != nil {
			t.Fatal(err)
		}
		_, _, getErr := s.Get(ctx, "a", provider.GetOptions{})
		_, putErr := s.Put(ctx, "a", provider.Bytes(random(1<<20)), provider.PutOptions{})
		_, statErr := s.Stat(ctx, "a")
		errs := []error{getErr, putErr, statErr, s.Delete(ctx, "a", provider.DeleteOptions{}),
			s.Lock(ctx, "a", provider.Retention{Mode: provider.Governance, Until: time.Now().Add(time.Hour)})}
		for _, err := range s.List(ctx, "", provider.ListOptions{}) {
			errs = append(errs, err)
		}
		if len(errs) != 6 {
			t.Errorf("token %q lists", bad)
		}
		for i, err := range errs {
			if !errors.Is(err, fs.ErrPermission) {
				t.Errorf("token %q, call %d: err = %v, want fs.ErrPermission", bad, i, err)
			}
			if len(bad) > 5 && strings.Contains(err.Error(), bad) {
				t.Errorf("the error quotes the token: %v", err)
			}
		}
	}
	if got, _, err := provider.ReadAll(ctx, mem, "a", 10); err != nil || string(got) != "x" {
		t.Errorf("the object was changed: %q, %v", got, err)
	}
	if s := log.String(); !strings.Contains(s, "request not served") || strings.Contains(s, token[:len(token)-1]) {
		t.Errorf("log: %s", s)
	}
}

func TestConfig(t *testing.T) {
	mem := providertest.NewMemory()
	for _, c := range []httpstore.HandlerConfig{
		{},
		{Token: "short"},
		{Token: token, InsecureNoToken: true},
		{Token: token, MaxObject: -1},
		{Token: token, Stall: -1},
	} {
		if _, err := httpstore.NewHandler(mem, c); err == nil {
			t.Errorf("%+v is accepted", c)
		} else if strings.Contains(err.Error(), token) {
			t.Errorf("the error quotes the token: %v", err)
		}
	}
	if _, err := httpstore.NewHandler(nil, httpstore.HandlerConfig{Token: token}); err == nil {
		t.Error("a nil store is accepted")
	}
	for _, u := range []string{"", "host", "ftp://host", "http://u:secret@host", "http://host/?a=b", "http://host/#f", "http://", "http://h\x7f:secret@"} {
		if _, err := httpstore.New(httpstore.Config{URL: u}); err == nil {
			t.Errorf("URL %q is accepted", u)
		} else if strings.Contains(err.Error(), "secret") {
			t.Errorf("the error quotes the password: %v", err)
		}
	}

	h, err := httpstore.NewHandler(mem, httpstore.HandlerConfig{InsecureNoToken: true})
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(h)
	defer srv.Close()
	s, err := httpstore.New(httpstore.Config{URL: srv.URL})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Put(t.Context(), "a", provider.Bytes(nil), provider.PutOptions{}); err != nil {
		t.Errorf("without a token where none is wanted: %v", err)
	}
}

// What does not come from a handler says nothing about the store.
func TestForeignAnswer(t *testing.T) {
	ctx := t.Context()
	for _, status := range []int{200, 204, 301, 404, 409, 416, 502} {
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Location", "/elsewhere")
			w.WriteHeader(status)
			if status != 204 {
				io.WriteString(w, `{"code":"not-found","text":"a page of a proxy","end":{"count":0}}`+"\n")
			}
		}))
		s := client(t, srv.URL)
		_, _, getErr := s.Get(ctx, "a", provider.GetOptions{})
		_, statErr := s.Stat(ctx, "a")
		_, putErr := s.Put(ctx, "a", provider.Bytes([]byte("x")), provider.PutOptions{})
		errs := []error{getErr, statErr, putErr, s.Delete(ctx, "a", provider.DeleteOptions{})}
		for _, err := range s.List(ctx, "", provider.ListOptions{}) {
			errs = append(errs, err)
		}
		for i, err := range errs {
			if err == nil || isSentinel(err) || !strings.Contains(err.Error(), srv.URL) {
				t.Errorf("status %d, call %d: err = %v, want one that names the server", status, i, err)
			}
		}
		if len(errs) != 5 {
			t.Errorf("status %d: the listing ended as if it were empty", status)
		}
		srv.Close()
	}
}

func TestUnreachable(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	url := "http://" + ln.Addr().String()
	ln.Close()
	_, err = client(t, url).Stat(t.Context(), "points/a")
	if err == nil || isSentinel(err) || !strings.Contains(err.Error(), url) || !strings.Contains(err.Error(), "refused") {
		t.Errorf("err = %v, want one that names %s and says that it refused", err, url)
	}
	if strings.Contains(err.Error(), "key=") {
		t.Errorf("the error repeats the query: %v", err)
	}
}

// A read whose server is away for a moment succeeds.
func TestReadAgain(t *testing.T) {
	mem := providertest.NewMemory()
	if _, err := mem.Put(t.Context(), "a", provider.Bytes([]byte("x")), provider.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	h, err := httpstore.NewHandler(mem, httpstore.HandlerConfig{Token: token})
	if err != nil {
		t.Fatal(err)
	}
	asked := 0
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if asked++; asked%2 == 1 {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		h.ServeHTTP(w, r)
	}))
	defer srv.Close()
	s := client(t, srv.URL)
	if _, err := s.Stat(t.Context(), "a"); err != nil {
		t.Error(err)
	}
	if b, _, err := provider.ReadAll(t.Context(), s, "a", 10); err != nil || string(b) != "x" {
		t.Errorf("%q, %v", b, err)
	}
	if asked != 4 {
		t.Errorf("asked %d times, want 4", asked)
	}
	if _, err := s.Put(t.Context(), "b", provider.Bytes(nil), provider.PutOptions{}); err == nil || asked != 5 {
		t.Errorf("put: %v after %d requests; a change must not be repeated", err, asked)
	}
}

func TestTooLarge(t *testing.T) {
	mem := providertest.NewMemory()
	c := noTemp(t)
	c.MaxObject = 100_000
	s := client(t, serve(t, mem, c))
	if _, err := s.Put(t.Context(), "a", provider.Bytes(random(100_000)), provider.PutOptions{}); err != nil {
		t.Errorf("at the limit: %v", err)
	}
	_, err := s.Put(t.Context(), "b", provider.Bytes(random(100_001)), provider.PutOptions{})
	if err == nil || !strings.Contains(err.Error(), "larger than the server takes") {
		t.Errorf("err = %v", err)
	}
	if _, err := mem.Stat(t.Context(), "b"); !errors.Is(err, provider.ErrNotFound) {
		t.Errorf("it is there: %v", err)
	}
}

// A large upload that cannot succeed is refused before it is sent.
func TestRefusedEarly(t *testing.T) {
	mem := providertest.NewMemory()
	p := newProxy(t, serve(t, mem, noTemp(t)))
	s := client(t, p.URL())
	if _, err := mem.Put(t.Context(), "a", provider.Bytes(nil), provider.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	body := random(8 << 20)
	for _, o := range []provider.PutOptions{{IfAbsent: true}, {IfMatch: "other"}} {
		if _, err := s.Put(t.Context(), "a", provider.Bytes(body), o); !errors.Is(err, provider.ErrConflict) {
			t.Errorf("%+v: %v", o, err)
		}
	}
	if n := p.upSeen.Load(); n > 1<<20 {
		t.Errorf("%d bytes were sent", n)
	}
}

// An upload that stands still is broken off, and nothing is stored.
func TestStall(t *testing.T) {
	mem := providertest.NewMemory()
	c := noTemp(t)
	c.Stall = 50 * time.Millisecond
	url := serve(t, mem, c)
	conn, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	put := `eyJzaGEyNTYiOiJlM2IwYzQ0Mjk4ZmMxYzE0OWFmYmY0Yzg5OTZmYjkyNDI3YWU0MWU0NjQ5YjkzNGNhNDk1OTkxYjc4NTJiODU1In0`
	io.WriteString(conn, "PUT /v1/object?key=a HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer "+token+
		"\r\nHoldfast-Put: "+put+"\r\nContent-Length: 100\r\n\r\nhalf")
	answer, err := io.ReadAll(conn) // ends only because the server hangs up
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(string(answer), "HTTP/1.1 400") || !strings.Contains(string(answer), "timeout") {
		t.Errorf("answer: %s", answer)
	}
	if _, err := mem.Stat(t.Context(), "a"); !errors.Is(err, provider.ErrNotFound) {
		t.Errorf("it is there: %v", err)
	}
}

// The reason why a body cannot be read is in the chain, and nothing is stored.
func TestBodyFails(t *testing.T) {
	mem := providertest.NewMemory()
	s := client(t, serve(t, mem, noTemp(t)))
	for _, size := range []int64{1000, 2 << 20} {
		for _, sum := range [][32]byte{{}, {1}} {
			_, err := s.Put(t.Context(), "a", brokenBody{size}, provider.PutOptions{SHA256: sum})
			if !errors.Is(err, errDisk) {
				t.Errorf("%d bytes: err = %v, want the error of the body", size, err)
			}
			if _, err := mem.Stat(t.Context(), "a"); !errors.Is(err, provider.ErrNotFound) {
				t.Errorf("it is there: %v", err)
			}
		}
	}
}

var errDisk = errors.New("disk on fire")

type brokenBody struct{ size int64 }

func (b brokenBody) Size() int64 { return b.size }
func (b brokenBody) ReadAt(p []byte, off int64) (int, error) {
	if off >= b.size/2 {
		return 0, errDisk
	}
	return int(min(int64(len(p)), b.size/2-off)), nil
}

// A body that changes between hashing and sending is not stored.
func TestBodyChanges(t *testing.T) {
	mem := providertest.NewMemory()
	s := client(t, serve(t, mem, noTemp(t)))
	b := &changingBody{b: random(100)}
	if _, err := s.Put(t.Context(), "a", b, provider.PutOptions{}); !errors.Is(err, provider.ErrCorrupt) {
		t.Errorf("err = %v, want ErrCorrupt", err)
	}
	if _, err := mem.Stat(t.Context(), "a"); !errors.Is(err, provider.ErrNotFound) {
		t.Errorf("it is there: %v", err)
	}
}

type changingBody struct{ b []byte }

func (c *changingBody) Size() int64 { return int64(len(c.b)) }
func (c *changingBody) ReadAt(p []byte, off int64) (int, error) {
	defer func() { c.b[0]++ }()
	return bytes.NewReader(c.b).ReadAt(p, off)
}

// Both directions take memory that does not grow with the object.
func TestBoundedMemory(t *testing.T) {
	const size = 24 << 20
	store := &hashing{BlobStore: providertest.NewMemory()}
	s := client(t, serve(t, store, noTemp(t)))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if _, err := s.Put(t.Context(), "a", zeros(size), provider.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	r, info, err := s.Get(t.Context(), "a", provider.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	h := sha256.New()
	if n, err := io.Copy(h, r); err != nil || n != size || info.Size != size || [32]byte(h.Sum(nil)) != store.sum {
		t.Fatalf("%d bytes, %v", n, err)
	}
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > size/8 {
		t.Errorf("allocated %d bytes to move %d", n, size)
	}
}

// A store in a directory, served to two clients. All clauses sync many files,
// so without HOLDFAST_LONG=1 only those are asked to which the store and the
// wire both have something to add.
func TestConformanceLocal(t *testing.T) {
	t.Parallel()
	store, err := local.NewBlobStore(local.Config{Dir: t.TempDir(), Create: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	url := serve(t, store, noTemp(t))
	o := providertest.CheckOptions{
		Second: func() (provider.BlobStore, error) { return client(t, url), nil },
		Only: []string{
			"blob/put-if-absent", "blob/put-if-match-race", "blob/delete-version", "blob/body-fails", "blob/get-range",
			"blob/get-version", "blob/get-open-reader", "blob/keys-odd", "blob/list-prefix", "blob/meta", "blob/error-type",
		},
	}
	if os.Getenv("HOLDFAST_LONG") == "1" {
		o.Only = nil
	}
	providertest.TestBlobStore(t, func(t *testing.T) provider.BlobStore { return client(t, url) }, o)
}

// A store is named without its token, whichever way it is printed.
func TestString(t *testing.T) {
	s, err := httpstore.New(httpstore.Config{URL: "https://host:8443/store/", Token: "secret"})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := fmt.Sprintf("%+v", s), "store at https://host:8443/store"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
