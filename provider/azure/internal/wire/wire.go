// Package wire stands between a client of Azure and a fake server in the same
// process, for tests: it records requests and makes them fail in ways that a
// network and a service have.
package wire

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
)

// A Request is one that was sent.
type Request struct {
	*http.Request
	Content []byte
}

// Token is what the request was signed with, or empty.
func (r *Request) Token() string { return strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ") }

// Is says whether the request has this method ("" for any) and this in its path.
func (r *Request) Is(method, path string) bool {
	return (method == "" || r.Method == method) && strings.Contains(r.URL.Path, path)
}

// A Rule stands before the server. It answers, or calls next.
type Rule func(r *Request, next func() (*http.Response, error)) (*http.Response, error)

// A Proxy sends requests through rules to a server.
type Proxy struct {
	Server policy.Transporter

	mu    sync.Mutex
	rules []Rule
	seen  []*Request
}

// Add puts rules before those there are.
func (p *Proxy) Add(rules ...Rule) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rules = append(rules[:len(rules):len(rules)], p.rules...)
}

// Clear removes all rules, and forgets what was seen.
func (p *Proxy) Clear() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rules, p.seen = nil, nil
}

// Seen are the requests with this method and this in their path.
func (p *Proxy) Seen(method, path string) (seen []*Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, r := range p.seen {
		if r.Is(method, path) {
			seen = append(seen, r)
		}
	}
	return seen
}

// Do implements policy.Transporter.
func (p *Proxy) Do(req *http.Request) (*http.Response, error) {
	r := &Request{Request: req.Clone(req.Context())} // which the client uses again, with other headers
	if req.Body != nil {
		b, err := io.ReadAll(req.Body)
		if err != nil {
			return nil, err
		}
		req.Body.Close()
		r.Content = b
	}
	p.mu.Lock()
	p.seen = append(p.seen, r)
	rules := p.rules
	p.mu.Unlock()
	return p.pass(r, rules)
}

func (p *Proxy) pass(r *Request, rules []Rule) (*http.Response, error) {
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	if len(rules) > 0 {
		return rules[0](r, func() (*http.Response, error) { return p.pass(r, rules[1:]) })
	}
	again := r.Request.Clone(r.Context())
	again.Body = io.NopCloser(bytes.NewReader(r.Content))
	resp, err := p.Server.Do(again)
	if e, ok := errors.AsType[*azcore.ResponseError](err); ok && e.RawResponse != nil {
		resp, err = e.RawResponse, nil // the fakes return as an error what a network delivers
		if resp.Body == nil {
			resp.Body = http.NoBody
		}
	}
	if resp != nil {
		resp.Request = r.Request // as net/http does
	}
	return resp, err
}

// Answer is a response of the service to r. Headers are names and values.
func Answer(r *Request, status int, body string, headers ...string) *http.Response {
	h := http.Header{"Content-Type": {"application/json"}}
	for i := 0; i+1 < len(headers); i += 2 {
		h.Set(headers[i], headers[i+1])
	}
	return &http.Response{
		StatusCode: status, Status: fmt.Sprintf("%d %s", status, http.StatusText(status)), Header: h, Request: r.Request,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Body: io.NopCloser(strings.NewReader(body)), ContentLength: int64(len(body)),
	}
}

// Fault is the answer of a service to r that is an error, with the inner code
// that some have.
func Fault(r *Request, status int, code, message, inner string) *http.Response {
	detail := map[string]any{"code": code, "message": message}
	if inner != "" {
		detail["innererror"] = map[string]string{"code": inner}
	}
	b, _ := json.Marshal(map[string]any{"error": detail})
	return Answer(r, status, string(b))
}

// Answers answers everything so.
func Answers(status int, body string, headers ...string) Rule {
	return func(r *Request, _ func() (*http.Response, error)) (*http.Response, error) {
		return Answer(r, status, body, headers...), nil
	}
}

var errReset = errors.New("connection reset by peer")

// Cut loses the request.
func Cut(*Request, func() (*http.Response, error)) (*http.Response, error) { return nil, errReset }

// Lost carries the request out and loses the answer.
func Lost(_ *Request, next func() (*http.Response, error)) (*http.Response, error) {
	if resp, err := next(); err != nil {
		return resp, err
	}
	return nil, errReset
}

// Hole is silent.
func Hole(r *Request, _ func() (*http.Response, error)) (*http.Response, error) {
	<-r.Context().Done()
	return nil, r.Context().Err()
}

// First applies a rule to the first n requests with this method and path, and
// counts them.
func First(n int32, method, path string, rule Rule) (Rule, *atomic.Int32) {
	var done atomic.Int32
	return func(r *Request, next func() (*http.Response, error)) (*http.Response, error) {
		if r.Is(method, path) {
			if done.Add(1) <= n {
				return rule(r, next)
			}
			done.Add(-1)
		}
		return next()
	}, &done
}

// Tokens is a credential whose tokens are Prefix and a number that grows.
type Tokens struct {
	Prefix string
	n      atomic.Int32
}

// GetToken implements azcore.TokenCredential.
func (t *Tokens) GetToken(ctx context.Context, _ policy.TokenRequestOptions) (azcore.AccessToken, error) {
	if err := ctx.Err(); err != nil {
		return azcore.AccessToken{}, err
	}
	return azcore.AccessToken{Token: fmt.Sprintf("%s-%d", t.Prefix, t.n.Add(1)), ExpiresOn: time.Now().Add(time.Hour)}, nil
}
