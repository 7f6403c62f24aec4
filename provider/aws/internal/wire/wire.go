// Package wire stands between a client of AWS and the server of a test, and
// does to requests and answers what the test says. Only tests import it.
package wire

import (
	"bytes"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// A Request is what the client sent. What is changed here reaches the server.
type Request struct {
	*http.Request
	Content []byte // the body
	Action  string // "Encrypt", "CreateSnapshot"; of Route 53, which has none, the method
}

var scope = regexp.MustCompile(`Credential=([^/]*)/\d+/([^/]*)/`)

// Region is the one that the client signed for.
func (r *Request) Region() string { return r.scope(2) }

// AccessKey is that of the client.
func (r *Request) AccessKey() string { return r.scope(1) }

func (r *Request) scope(group int) string {
	m := scope.FindStringSubmatch(r.Header.Get("Authorization"))
	if m == nil {
		return ""
	}
	return m[group]
}

// A Rule answers a request, or has next answer it. An error cuts the
// connection.
type Rule func(r *Request, next func() (*http.Response, error)) (*http.Response, error)

// A Proxy passes on what its rules let through.
type Proxy struct {
	URL string

	target *url.URL
	mu     sync.Mutex
	rules  []Rule
	seen   []*Request
}

// New starts a proxy in front of the server at the URL target.
func New(t testing.TB, target string) *Proxy {
	t.Helper()
	u, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{target: u}
	server := httptest.NewServer(p)
	p.URL = server.URL
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	return p
}

// Add puts a rule in front of those that are there.
func (p *Proxy) Add(rule Rule) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rules = append(slices.Clone(p.rules), rule)
}

// Clear removes all rules and forgets what was seen.
func (p *Proxy) Clear() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rules, p.seen = nil, nil
}

// Seen returns the requests of an action that clients have sent; "" is all.
func (p *Proxy) Seen(action string) (seen []*Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, r := range p.seen {
		if action == "" || r.Action == action {
			seen = append(seen, r)
		}
	}
	return seen
}

// ServeHTTP implements [http.Handler].
func (p *Proxy) ServeHTTP(w http.ResponseWriter, hr *http.Request) {
	content, err := io.ReadAll(hr.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	r := &Request{Request: hr, Content: content, Action: action(hr, content)}
	p.mu.Lock()
	rules := p.rules
	p.seen = append(p.seen, &Request{Request: hr.Clone(hr.Context()), Content: bytes.Clone(content), Action: r.Action})
	p.mu.Unlock()
	next := func() (*http.Response, error) { return p.pass(r) }
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
	if _, err := io.Copy(w, answer.Body); err != nil {
		panic(http.ErrAbortHandler)
	}
}

func action(r *http.Request, content []byte) string {
	if target := r.Header.Get("X-Amz-Target"); target != "" {
		_, action, _ := strings.Cut(target, ".")
		return action
	}
	if form, err := url.ParseQuery(string(content)); err == nil && form.Get("Action") != "" {
		return form.Get("Action")
	}
	return r.Method
}

func (p *Proxy) pass(r *Request) (*http.Response, error) {
	u := *r.URL
	u.Scheme, u.Host = p.target.Scheme, p.target.Host
	out, err := http.NewRequestWithContext(r.Context(), r.Method, u.String(), bytes.NewReader(r.Content))
	if err != nil {
		return nil, err
	}
	out.Header = r.Header.Clone()
	out.Host = r.Host // it is signed
	return http.DefaultTransport.RoundTrip(out)
}

// First applies a rule to the first n requests of an action, "" being any, and
// counts them.
func First(n int32, action string, rule Rule) (Rule, *atomic.Int32) {
	var done atomic.Int32
	var left atomic.Int32
	left.Store(n)
	return func(r *Request, next func() (*http.Response, error)) (*http.Response, error) {
		if action != "" && r.Action != action || left.Add(-1) < 0 {
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

// Answers gives an answer without asking the server.
func Answers(status int, contentType, body string) Rule {
	return func(*Request, func() (*http.Response, error)) (*http.Response, error) {
		return Answer(status, contentType, body), nil
	}
}

// Answer is an answer.
func Answer(status int, contentType, body string) *http.Response {
	return &http.Response{StatusCode: status, Header: http.Header{"Content-Type": {contentType}}, Body: io.NopCloser(strings.NewReader(body))}
}
