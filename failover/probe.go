package failover

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/holdfast-go/holdfast/provider"
)

// A Probe asks one question about a site. It is safe for concurrent use.
type Probe interface {
	// Probe returns nil if the site gave the expected answer before ctx
	// ended. The text says what was seen, without secrets.
	Probe(ctx context.Context) (string, error)
	fmt.Stringer // what is asked: "http https://...", for evidence and logs
}

// HTTPProbe asks for a URL. Redirects are followed as Client does.
type HTTPProbe struct {
	URL      string       // without secrets: it goes into evidence
	Status   int          // expected; 0 means any of 200 to 299
	Contains string       // expected in the first MiB of the body; may be empty
	Client   *http.Client // nil means http.DefaultClient
}

// Probe implements [Probe].
func (p HTTPProbe) Probe(ctx context.Context) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.URL, nil)
	if err != nil {
		return "", err
	}
	client := p.Client
	if client == nil {
		client = http.DefaultClient
	}
	resp, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	switch {
	case p.Status != 0 && resp.StatusCode != p.Status, p.Status == 0 && resp.StatusCode/100 != 2:
		return resp.Status, fmt.Errorf("status %s", resp.Status)
	case err != nil:
		return resp.Status, fmt.Errorf("read body: %w", err)
	case !strings.Contains(string(body), p.Contains):
		return resp.Status, fmt.Errorf("body does not contain %q", p.Contains)
	}
	return resp.Status, nil
}

// String is "http" and the URL without its password.
func (p HTTPProbe) String() string {
	if u, err := url.Parse(p.URL); err == nil {
		return "http " + u.Redacted()
	}
	return "http"
}

// TCPProbe opens a connection and closes it.
type TCPProbe struct {
	Address string // "host:port"
}

// Probe implements [Probe].
func (p TCPProbe) Probe(ctx context.Context) (string, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", p.Address)
	if err != nil {
		return "", err
	}
	return "connected to " + c.RemoteAddr().String(), c.Close()
}

// String is "tcp" and the address.
func (p TCPProbe) String() string { return "tcp " + p.Address }

// DNSProbe asks one server for a record set.
type DNSProbe struct {
	Server string   // "host:port"
	Name   string   // absolute
	Type   string   // "A", "TXT" ...
	Want   []string // exactly these values, in any order; empty means any
}

// Probe implements [Probe].
func (p DNSProbe) Probe(ctx context.Context) (string, error) {
	got, _, err := lookup(ctx, p.Server, p.Name, p.Type)
	if err != nil {
		return "", err
	}
	text := strings.Join(got, " ")
	want := slices.Clone(p.Want)
	slices.Sort(want)
	switch {
	case len(got) == 0:
		return "no records", fmt.Errorf("%s has no %s records", p.Name, p.Type)
	case len(want) > 0 && !slices.Equal(got, want):
		return text, fmt.Errorf("%s %s is %q, not %q", p.Name, p.Type, text, strings.Join(want, " "))
	}
	return text, nil
}

// String is "dns", the question and the server.
func (p DNSProbe) String() string { return fmt.Sprintf("dns %s %s @%s", p.Name, p.Type, p.Server) }

// BlobProbe looks at an object: a heartbeat that a site writes. It judges the
// age of the object by its own monotonic clock, from when it first saw this
// version, so it needs MaxAge to notice that a heartbeat has stopped.
type BlobProbe struct {
	Store  provider.BlobStore
	Key    string
	MaxAge time.Duration // no version may stay longer; 0 means that the object only has to be readable

	mu     sync.Mutex
	seen   provider.Version
	seenAt time.Time
}

// Probe implements [Probe].
func (p *BlobProbe) Probe(ctx context.Context) (string, error) {
	info, err := p.Store.Stat(ctx, p.Key)
	if err != nil {
		return "", err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	if info.Version != p.seen {
		p.seen, p.seenAt = info.Version, now
	}
	age := now.Sub(p.seenAt)
	text := fmt.Sprintf("unchanged for %v", age.Round(time.Second))
	if p.MaxAge > 0 && age > p.MaxAge {
		return text, fmt.Errorf("unchanged for %v, more than %v", age.Round(time.Second), p.MaxAge)
	}
	return text, nil
}

// String is "blob" and the key.
func (p *BlobProbe) String() string { return "blob " + p.Key }
