package httpstore

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/internal/remote"
)

const (
	readAttempts = 3 // of a call that changes nothing
	readBackoff  = 100 * time.Millisecond

	// expectSize is the size in bytes from which an upload waits for the
	// server's consent, so that a refusal does not meet a body under way
	// (and get lost when the server closes the connection on it).
	expectSize = 64 << 10
)

// Config says where the server is.
type Config struct {
	// URL is where the handler is mounted: "https://host:8443/store".
	// Required; http or https, no user, query or fragment.
	URL string

	// Token is the HandlerConfig.Token of the server. Empty sends none.
	Token string

	// Client makes the requests; nil means one with a connection pool of its
	// own and no overall timeout, since an upload may take hours: deadlines
	// come from the contexts. Redirects are not followed in any case.
	Client *http.Client
}

// Store is a [provider.BlobStore] and a [provider.Locker] that asks a server.
// It is safe for concurrent use.
type Store struct {
	base   string // without a final slash
	token  string
	client *http.Client
}

var (
	_ provider.BlobStore = (*Store)(nil)
	_ provider.Locker    = (*Store)(nil)
)

// New returns a store that asks the server at c.URL. It does no I/O.
func New(c Config) (*Store, error) {
	u, err := url.Parse(c.URL)
	switch {
	case c.URL == "":
		return nil, errors.New("httpstore: Config.URL: empty")
	case err != nil:
		// The error of url.Parse quotes the URL, which may hold a password.
		return nil, errors.New("httpstore: Config.URL: not a URL")
	case u.User != nil:
		return nil, errors.New("httpstore: Config.URL: has a user or password; use Config.Token")
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, fmt.Errorf("httpstore: Config.URL: scheme %q, want http or https", u.Scheme)
	case u.Host == "" || u.RawQuery != "" || u.Fragment != "":
		return nil, errors.New("httpstore: Config.URL: want scheme, host and path only")
	case strings.ContainsAny(c.Token, "\r\n"):
		return nil, errors.New("httpstore: Config.Token: has a line break")
	}
	client := &http.Client{}
	if c.Client != nil {
		*client = *c.Client
	} else {
		t := remote.Transport()
		t.MaxIdleConnsPerHost = 32
		t.DisableCompression = true
		t.ExpectContinueTimeout = 5 * time.Second
		client.Transport = t
	}
	// A redirect would take the token or the upload somewhere else.
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &Store{base: strings.TrimSuffix(u.String(), "/"), token: c.Token, client: client}, nil
}

// String names the store, to people, by its URL.
func (s *Store) String() string { return "store at " + s.base }

// A call is one request to be made, once or again.
type call struct {
	op, key string
	method  string
	path    string
	query   url.Values
	header  http.Header
	body    func() io.Reader // a new one for each attempt; nil for none
	size    int64            // of the body
}

func (c *call) wrap(err error) error {
	return &provider.Error{Op: c.op, Provider: "http", Key: c.key, Err: err}
}

// read makes a call that changes nothing, again if there was no answer of a
// handler. The caller closes the body of the answer.
func (s *Store) read(ctx context.Context, c *call) (*http.Response, error) {
	c.method = http.MethodGet
	for attempt := 1; ; attempt++ {
		resp, err := s.once(ctx, c)
		na, silent := errors.AsType[*noAnswerError](err)
		if !silent || !na.passing || ctx.Err() != nil || attempt == readAttempts {
			return resp, err
		}
		pause := readBackoff << (attempt - 1)
		select {
		case <-time.After(max(pause/2+rand.N(pause), provider.RetryAfter(err))):
		case <-ctx.Done():
			return nil, c.wrap(ctx.Err())
		}
	}
}

// once makes a call and returns the answer of a success.
func (s *Store) once(ctx context.Context, c *call) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, c.method, s.base+c.path+"?"+c.query.Encode(), nil)
	if err != nil {
		return nil, c.wrap(err)
	}
	for k, v := range c.header {
		req.Header[k] = v
	}
	if s.token != "" {
		req.Header.Set("Authorization", "Bearer "+s.token)
	}
	if c.body != nil && c.size > 0 {
		// With GetBody the transport may begin anew on a fresh connection if
		// it has sent nothing on a stale one. It sends no PUT twice.
		req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(c.body()), nil }
		req.Body, _ = req.GetBody()
		req.ContentLength = c.size
		if c.size > expectSize {
			req.Header.Set("Expect", "100-continue")
		}
	}
	leave, err := remote.Enter(ctx)
	if err != nil {
		return nil, c.wrap(err)
	}
	resp, err := s.client.Do(req)
	if err != nil {
		leave(remote.NoAnswer(ctx))
		return nil, c.wrap(s.silence(err))
	}
	leave(remote.Answered(resp.StatusCode, resp.Header, false))
	if resp.Header.Get(headerProtocol) == protocol && resp.StatusCode == http.StatusOK {
		return resp, nil
	}
	defer resp.Body.Close()
	if resp.Header.Get(headerProtocol) != protocol {
		err := fmt.Errorf("%q is not from a Holdfast server", resp.Status)
		if throttled := remote.Throttled(resp.StatusCode, resp.Header); throttled != nil {
			return nil, c.wrap(s.silence(fmt.Errorf("%w: %w", throttled, err)))
		}
		switch resp.StatusCode {
		case http.StatusBadGateway, http.StatusGatewayTimeout:
			return nil, c.wrap(s.silence(err))
		}
		return nil, c.wrap(s.noAnswer(err))
	}
	var we wireError
	if err := decode(resp.Body, &we); err != nil {
		return nil, c.wrap(s.noAnswer(fmt.Errorf("%s: %w", resp.Status, err)))
	}
	if we.Code == throttledCode {
		return nil, c.wrap(&remoteError{we.Text, remote.ThrottledFor(remote.RetryAfter(resp.Header, time.Now()))})
	}
	return nil, c.wrap(we.err())
}

// change makes a call that may change something, once, and reads its answer
// into v.
func (s *Store) change(ctx context.Context, c *call, v any) error {
	resp, err := s.once(ctx, c)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if err := decode(resp.Body, v); err != nil {
		return c.wrap(s.noAnswer(err))
	}
	return nil
}

// decode reads a whole answer of JSON.
func decode(r io.Reader, v any) error {
	b, err := io.ReadAll(io.LimitReader(r, maxAnswer+1))
	if err != nil {
		return err
	}
	if len(b) > maxAnswer {
		return fmt.Errorf("answer of more than %d bytes", maxAnswer)
	}
	if !bytes.HasSuffix(b, []byte("\n")) {
		return io.ErrUnexpectedEOF
	}
	return json.Unmarshal(b, v)
}

// noAnswerError: the server was not reached, or its answer was not understood.
type noAnswerError struct {
	url     string
	passing bool // another attempt may fare better
	err     error
}

func (e *noAnswerError) Error() string { return "no answer from " + e.url + ": " + e.err.Error() }
func (e *noAnswerError) Unwrap() error { return e.err }

func (s *Store) noAnswer(err error) error { return &noAnswerError{url: s.base, err: err} }

// silence is what the transport reports, or what stands in front of the
// server while that is away.
func (s *Store) silence(err error) error {
	if ue, ok := errors.AsType[*url.Error](err); ok {
		err = ue.Err // it would repeat the URL with the whole query
	}
	return &noAnswerError{url: s.base, passing: true, err: err}
}
