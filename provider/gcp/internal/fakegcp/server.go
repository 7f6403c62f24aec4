// Package fakegcp is a server for tests that answers as Cloud KMS, Cloud DNS
// and Compute Engine do, of which there is no emulator. It knows the methods
// that the packages of provider/gcp use, and fails the test if a request, or an
// answer of its own, is not of the form that the vendor's discovery documents
// in the module google.golang.org/api describe. Only tests import it.
package fakegcp

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"cloud.google.com/go/auth"
)

// A Request is what the client sent.
type Request struct {
	*http.Request
	Method  string            // its ID, "dns.changes.create"
	Parts   map[string]string // of the path
	Content []byte
}

// decode is the body.
func (r *Request) decode() map[string]any {
	var v map[string]any
	json.Unmarshal(r.Content, &v) // has been checked
	return v
}

// A Rule answers a request, or has next answer it. An error cuts the
// connection.
type Rule func(r *Request, next func() (*http.Response, error)) (*http.Response, error)

// A handler answers the requests of one service: with what is to be written as
// JSON, or with an error.
type handler func(r *Request) (any, *Fault)

// A Server is one API of Google.
type Server struct {
	URL string

	t     testing.TB
	doc   *document
	serve handler

	mu    sync.Mutex
	rules []Rule
	seen  []*Request
	token string // that is taken; empty: all
}

func start(t testing.TB, document string, serve handler) *Server {
	t.Helper()
	s := &Server{t: t, doc: load(t, document), serve: serve}
	server := httptest.NewServer(s)
	s.URL = server.URL
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	return s
}

// Add puts a rule in front of those that are there.
func (s *Server) Add(rule Rule) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rules = append(slices.Clone(s.rules), rule)
}

// Clear removes all rules and forgets what was seen.
func (s *Server) Clear() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rules, s.seen = nil, nil
}

// Seen returns the requests that clients have sent of the method; "" is all.
func (s *Server) Seen(method string) (seen []*Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.seen {
		if method == "" || r.Method == method {
			seen = append(seen, r)
		}
	}
	return seen
}

// Takes makes the server refuse all tokens but this one.
func (s *Server) Takes(token string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.token = token
}

// ServeHTTP implements [http.Handler].
func (s *Server) ServeHTTP(w http.ResponseWriter, hr *http.Request) {
	content, err := io.ReadAll(hr.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	m, parts := s.doc.find(hr.Method, hr.URL.Path)
	if m == nil {
		s.t.Errorf("%s %s: there is no such method", hr.Method, hr.URL.Path)
		panic(http.ErrAbortHandler)
	}
	r := &Request{Request: hr, Method: m.ID, Parts: parts, Content: content}
	s.checkRequest(m, r)
	s.mu.Lock()
	rules := s.rules
	s.seen = append(s.seen, &Request{hr.Clone(hr.Context()), m.ID, maps.Clone(parts), bytes.Clone(content)})
	s.mu.Unlock()
	next := func() (*http.Response, error) { return s.answer(m, r), nil }
	for _, rule := range rules {
		inner := next
		next = func() (*http.Response, error) { return rule(r, inner) }
	}
	answer, err := next()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	defer answer.Body.Close()
	maps.Copy(w.Header(), answer.Header)
	w.WriteHeader(answer.StatusCode)
	io.Copy(w, answer.Body)
}

func (s *Server) checkRequest(m *method, r *Request) {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		s.t.Errorf("%s: %v", m.ID, err)
	}
	faults := s.doc.checkQuery(m, query)
	switch {
	case m.Request == nil && len(r.Content) > 0:
		faults = append(faults, "a body, which it does not take")
	case m.Request != nil:
		var v any
		if err := json.Unmarshal(r.Content, &v); err != nil {
			faults = append(faults, err.Error())
		} else {
			faults = append(faults, s.doc.check("body", m.Request, v, true)...)
		}
		if got := r.Header.Get("Content-Type"); got != "application/json" {
			faults = append(faults, "Content-Type is "+got)
		}
	}
	for _, f := range faults {
		s.t.Errorf("request %s: %s", m.ID, f)
	}
}

func (s *Server) answer(m *method, r *Request) *http.Response {
	s.mu.Lock()
	token := s.token
	s.mu.Unlock()
	got, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok || token != "" && got != token {
		return (&Fault{Code: http.StatusUnauthorized, Reason: "authError", Status: "UNAUTHENTICATED",
			Message: "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie or other valid authentication credential."}).response()
	}
	v, fault := s.serve(r)
	if fault != nil {
		return fault.response()
	}
	b, err := json.Marshal(v)
	var plain any
	if err == nil {
		err = json.Unmarshal(b, &plain)
	}
	if err != nil {
		s.t.Errorf("answer %s: %v", m.ID, err)
	}
	for _, f := range s.doc.check("body", m.Response, plain, false) {
		s.t.Errorf("answer %s: %s", m.ID, f)
	}
	return Answer(http.StatusOK, string(b))
}

// A Fault is an error as Google writes them.
type Fault struct {
	Code            int
	Reason, Status  string
	Message, Domain string
	RetryAfter      string
}

func (f *Fault) response() *http.Response {
	domain := f.Domain
	if domain == "" {
		domain = "global"
	}
	inner := map[string]any{"code": f.Code, "message": f.Message,
		"errors": []any{map[string]any{"message": f.Message, "domain": domain, "reason": f.Reason}}}
	if f.Status != "" {
		inner["status"] = f.Status
	}
	b, _ := json.Marshal(map[string]any{"error": inner})
	answer := Answer(f.Code, string(b))
	if f.RetryAfter != "" {
		answer.Header.Set("Retry-After", f.RetryAfter)
	}
	return answer
}

func faultf(code int, reason, status, format string, args ...any) *Fault {
	return &Fault{Code: code, Reason: reason, Status: status, Message: fmt.Sprintf(format, args...)}
}

// Answer is an answer in JSON.
func Answer(status int, body string) *http.Response {
	return &http.Response{StatusCode: status, Header: http.Header{"Content-Type": {"application/json; charset=UTF-8"}}, Body: io.NopCloser(strings.NewReader(body))}
}

// Refuses answers with a Fault, without asking the server.
func Refuses(f Fault) Rule {
	return func(*Request, func() (*http.Response, error)) (*http.Response, error) { return f.response(), nil }
}

// First applies a rule to the first n requests of a method, "" being any, and
// counts them.
func First(n int32, method string, rule Rule) (Rule, *atomic.Int32) {
	var done, left atomic.Int32
	left.Store(n)
	return func(r *Request, next func() (*http.Response, error)) (*http.Response, error) {
		if method != "" && r.Method != method || left.Add(-1) < 0 {
			return next()
		}
		done.Add(1)
		return rule(r, next)
	}, &done
}

var errCut = errors.New("cut")

// Lost carries the request out and loses the answer.
func Lost(_ *Request, next func() (*http.Response, error)) (*http.Response, error) {
	if answer, err := next(); err == nil {
		answer.Body.Close()
	}
	return nil, errCut
}

// Cut loses the request.
func Cut(*Request, func() (*http.Response, error)) (*http.Response, error) { return nil, errCut }

// Hole answers nothing until the client gives up.
func Hole(r *Request, _ func() (*http.Response, error)) (*http.Response, error) {
	<-r.Context().Done()
	return nil, errCut
}

// Throttled and Unavailable are what passes.
var (
	Throttled   = Refuses(Fault{Code: http.StatusTooManyRequests, Reason: "rateLimitExceeded", Status: "RESOURCE_EXHAUSTED", Message: "Quota exceeded", RetryAfter: "1"})
	Limited     = Refuses(Fault{Code: http.StatusForbidden, Reason: "rateLimitExceeded", Domain: "usageLimits", Message: "Rate Limit Exceeded"})
	Unavailable = Refuses(Fault{Code: http.StatusServiceUnavailable, Reason: "backendError", Status: "UNAVAILABLE", Message: "The service is currently unavailable."})
	Denied      = Refuses(Fault{Code: http.StatusForbidden, Reason: "forbidden", Status: "PERMISSION_DENIED", Message: "Permission denied on the resource (or it may not exist)."})
)

// Token makes credentials of one project that deliver a token.
func Token(project string, token func() string) *auth.Credentials {
	return auth.NewCredentials(&auth.CredentialsOptions{TokenProvider: tokens(token), ProjectIDProvider: auth.CredentialsPropertyFunc(
		func(context.Context) (string, error) { return project, nil })})
}

// tokens delivers tokens that have an hour by our clock.
type tokens func() string

// Token implements [auth.TokenProvider].
func (t tokens) Token(context.Context) (*auth.Token, error) {
	return &auth.Token{Value: t(), Type: "Bearer", Expiry: time.Now().Add(time.Hour)}, nil
}
