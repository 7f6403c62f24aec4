// Package conn is what the packages for the control planes of Google Cloud have
// in common: how a service is reached, how often it is asked, and what its
// errors mean. It imports no service.
package conn

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"cloud.google.com/go/auth"
	"cloud.google.com/go/auth/credentials"
	"google.golang.org/api/option"
	htransport "google.golang.org/api/transport/http"

	"github.com/holdfast-go/holdfast/provider/internal/remote"
)

// Config says how a service is reached. The Configs of the packages have
// fields of these names, which they document to their users.
type Config struct {
	Endpoint    string // empty: Public
	Credentials *auth.Credentials
	CA          []byte
	Attempts    int // 0: DefaultAttempts

	Public string // the URL of Google's own service
	Scope  string // of the credentials
}

const (
	// DefaultAttempts is what Attempts is if it is zero.
	DefaultAttempts = 5

	// answer is how long the head of an answer may take. What a control plane
	// is asked is answered in seconds, so that silence of a minute is a lost
	// connection.
	answer = time.Minute
)

// Complete validates a Config and fills in what is zero. It calls fault with
// the name of each field that is wrong.
func (c *Config) Complete(fault func(field, format string, args ...any)) {
	if c.Endpoint == "" {
		c.Endpoint = c.Public
	}
	c.Endpoint = strings.TrimSuffix(c.Endpoint, "/")
	switch u, err := url.Parse(c.Endpoint); {
	case err != nil: // the error quotes the URL, which may hold a password
		fault("Endpoint", "not a URL")
	case u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
		fault("Endpoint", "want http:// or https:// and a host")
	case u.User != nil:
		fault("Endpoint", "has a user or password; use Credentials")
	case u.Path != "" || u.RawQuery != "" || u.Fragment != "":
		fault("Endpoint", "want nothing behind the host")
	}
	if len(c.CA) > 0 && !x509.NewCertPool().AppendCertsFromPEM(c.CA) {
		fault("CA", "no certificate in PEM")
	}
	if c.Attempts == 0 {
		c.Attempts = DefaultAttempts
	}
	if c.Attempts < 1 || c.Attempts > 100 {
		fault("Attempts", "%d, want 1 to 100", c.Attempts)
	}
}

// A Service is how one of the APIs is asked. It is safe for concurrent use.
type Service struct {
	c    Config
	base http.RoundTripper
	own  auth.TokenProvider // of Config.Credentials, nil if there are none

	mu    sync.Mutex
	creds *auth.Credentials
	with  http.RoundTripper // base with the credentials
}

// Load looks for credentials and returns the service. It asks it nothing.
func (c Config) Load(ctx context.Context) (*Service, error) {
	base := remote.Transport()
	base.ResponseHeaderTimeout = answer
	if len(c.CA) > 0 {
		base.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: x509.NewCertPool()}
		base.TLSClientConfig.RootCAs.AppendCertsFromPEM(c.CA) // has one: see Complete
	}
	s := &Service{c: c, base: base}
	if c.Credentials != nil {
		s.own = c.Credentials.TokenProvider // the transport puts a cache in its place
	}
	if err := s.authenticate(ctx); err != nil {
		return nil, fmt.Errorf("credentials: %w", err)
	}
	return s, nil
}

// authenticate makes a transport whose cache of tokens is empty.
func (s *Service) authenticate(ctx context.Context) error {
	var creds *auth.Credentials
	if given := s.c.Credentials; given != nil {
		creds = auth.NewCredentials(&auth.CredentialsOptions{
			TokenProvider: s.own, JSON: given.JSON(), ProjectIDProvider: auth.CredentialsPropertyFunc(given.ProjectID),
			QuotaProjectIDProvider: auth.CredentialsPropertyFunc(given.QuotaProjectID), UniverseDomainProvider: auth.CredentialsPropertyFunc(given.UniverseDomain),
		})
	} else {
		var err error
		if creds, err = credentials.DetectDefault(&credentials.DetectOptions{Scopes: []string{s.c.Scope}}); err != nil {
			return err
		}
	}
	with, err := htransport.NewTransport(ctx, s.base, option.WithAuthCredentials(creds), option.WithScopes(s.c.Scope), option.WithUserAgent("holdfast"))
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.creds, s.with = creds, with
	return nil
}

// Options are those of the client of the SDK.
func (s *Service) Options() []option.ClientOption {
	return []option.ClientOption{option.WithHTTPClient(&http.Client{Transport: s}), option.WithEndpoint(s.c.Endpoint + "/")}
}

// Project is the project that the credentials are of.
func (s *Service) Project(ctx context.Context) (string, error) {
	s.mu.Lock()
	creds := s.creds
	s.mu.Unlock()
	p, err := creds.ProjectID(ctx)
	if err == nil && p == "" {
		err = errors.New("the credentials name none")
	}
	return p, err
}

// RoundTrip implements [http.RoundTripper] with the credentials of the moment.
func (s *Service) RoundTrip(r *http.Request) (*http.Response, error) {
	s.mu.Lock()
	with := s.with
	s.mu.Unlock()
	return with.RoundTrip(r)
}

// Fault formats a complaint about a field of a Config of package pkg.
func Fault(pkg, field, format string, args ...any) error {
	return fmt.Errorf("%s: Config.%s: %s", pkg, field, fmt.Sprintf(format, args...))
}
