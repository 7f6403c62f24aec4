package conn_test

import (
	"encoding/pem"
	"errors"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"

	"github.com/holdfast-go/holdfast/provider/azure/internal/conn"
	"github.com/holdfast-go/holdfast/provider/azure/internal/wire"
)

// do sends a request through the pipeline of a Config.
func do(t *testing.T, c conn.Config, url string, a *conn.Attempts) (*http.Response, error) {
	t.Helper()
	c.Complete(func(field, format string, args ...any) { t.Errorf(field+": "+format, args...) })
	o := c.Options()
	p := runtime.NewPipeline("test", "v0", runtime.PipelineOptions{}, &o)
	req, err := runtime.NewRequest(a.In(t.Context()), http.MethodGet, url)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := p.Do(req)
	if err == nil && resp.StatusCode >= 400 {
		err = runtime.NewResponseError(resp)
	}
	return resp, err
}

// A CA of the Config is trusted, and nothing else is.
func TestCA(t *testing.T) {
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.Contains(r.UserAgent(), "holdfast") {
			t.Errorf("user agent %q", r.UserAgent())
		}
	}))
	defer s.Close()
	s.Config.ErrorLog = nil
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	if _, err := do(t, conn.Config{CA: ca, Attempts: 1}, s.URL, &conn.Attempts{}); err != nil {
		t.Error(err)
	}
	if _, err := do(t, conn.Config{Attempts: 1}, s.URL, &conn.Attempts{}); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("without the CA: %v", err)
	}
}

// What is known of attempts, and how often they are made.
func TestAttempts(t *testing.T) {
	for name, c := range map[string]struct {
		rule       wire.Rule
		attempts   int
		requests   int
		unanswered bool
		status     int
	}{
		"answered":        {wire.Answers(200, "{}"), 3, 1, false, 200},
		"refused":         {wire.Answers(403, "{}"), 3, 1, false, 403},
		"not implemented": {wire.Answers(501, "{}"), 3, 1, false, 501},
		"401":             {wire.Answers(401, "{}"), 3, 2, false, 401}, // once more, with another token
		"500":             {wire.Answers(500, "{}"), 2, 2, true, 500},
		"500 once":        {wire.Answers(500, "{}"), 1, 1, true, 500},
		"429":             {wire.Answers(429, "{}", "Retry-After", "1"), 2, 2, false, 429},
		"429, for long":   {wire.Answers(429, "{}", "Retry-After", "100"), 2, 1, false, 429},
		"cut":             {wire.Cut, 2, 2, true, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, a := &wire.Proxy{}, &conn.Attempts{}
			p.Add(c.rule)
			do(t, conn.Config{Transport: p, Attempts: c.attempts}, "https://host/", a)
			if n := len(p.Seen("", "")); n != c.requests || a.Unanswered() != c.unanswered || a.Status() != c.status {
				t.Errorf("%d requests, unanswered %v, status %d; want %d, %v, %d", n, a.Unanswered(), a.Status(), c.requests, c.unanswered, c.status)
			}
		})
	}
}

// An error of a service is one line, with what it says and the number of the
// request, in both forms that services use, and keeps the vendor's.
func TestErrors(t *testing.T) {
	for body, want := range map[string]string{
		`{"error":{"code":"Code","message":"Text.\nMore."}}`: "403 Code: Text. (request r1)",
		`{"code":"Code","message":"Text."}`:                  "403 Code: Text. (request r1)",
		`<html>`:                                             "403  (request r1)",
	} {
		p := &wire.Proxy{}
		p.Add(wire.Answers(403, body, "x-ms-request-id", "r1"))
		_, err := do(t, conn.Config{Transport: p, Attempts: 1}, "https://host/", &conn.Attempts{})
		got := conn.Wrap(t.Context(), "service", "op", "key", err, conn.Permission(err))
		if s := got.Error(); s != "service: op key: permission denied: "+want {
			t.Errorf("%s", s)
		}
		if _, ok := errors.AsType[*azcore.ResponseError](got); !ok || !errors.Is(got, fs.ErrPermission) {
			t.Errorf("%v has lost what it was", got)
		}
	}
}
