package gcp

import (
	"context"
	"io"
	"net/http"
	"sync"

	"cloud.google.com/go/auth"
	"cloud.google.com/go/storage"
	"google.golang.org/api/option"
	htransport "google.golang.org/api/transport/http"
)

// authenticated is a transport with the credentials of a Config. A token that
// the service does not take is replaced once by a new one: the service's clock
// decides when it has expired, and the SDK goes by ours.
type authenticated struct {
	c    Config
	base http.RoundTripper
	own  auth.TokenProvider // of Config.Credentials; nil if there are none

	mu   sync.Mutex
	with http.RoundTripper // base, with the credentials
}

// renew makes a transport whose cache of tokens is empty, unless another has
// done so since old was in use.
func (a *authenticated) renew(ctx context.Context, old http.RoundTripper) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.with != old {
		return nil
	}
	options := []option.ClientOption{option.WithScopes(storage.ScopeFullControl), option.WithUserAgent("holdfast")}
	switch given := a.c.Credentials; {
	case a.c.Anonymous:
		options = append(options, option.WithoutAuthentication())
	case given != nil:
		options = append(options, option.WithAuthCredentials(auth.NewCredentials(&auth.CredentialsOptions{
			TokenProvider: a.own, JSON: given.JSON(), ProjectIDProvider: auth.CredentialsPropertyFunc(given.ProjectID),
			QuotaProjectIDProvider: auth.CredentialsPropertyFunc(given.QuotaProjectID), UniverseDomainProvider: auth.CredentialsPropertyFunc(given.UniverseDomain),
		})))
	}
	with, err := htransport.NewTransport(ctx, a.base, options...)
	if err != nil {
		return err
	}
	a.with = with
	return nil
}

// RoundTrip implements [http.RoundTripper].
func (a *authenticated) RoundTrip(req *http.Request) (*http.Response, error) {
	a.mu.Lock()
	with := a.with
	a.mu.Unlock()
	resp, err := with.RoundTrip(req)
	if err != nil || resp.StatusCode != http.StatusUnauthorized || a.c.Anonymous {
		return resp, err
	}
	if a.renew(req.Context(), with) != nil {
		return resp, nil
	}
	again := req.Clone(req.Context())
	if req.Body != nil && req.Body != http.NoBody {
		if req.GetBody == nil {
			return resp, nil // whole sends it again
		}
		if again.Body, err = req.GetBody(); err != nil {
			return resp, nil
		}
	}
	io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10))
	resp.Body.Close()
	a.mu.Lock()
	with = a.with
	a.mu.Unlock()
	return with.RoundTrip(again)
}
