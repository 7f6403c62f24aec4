package kms_test

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/aws/internal/wire"
	"github.com/holdfast-go/holdfast/provider/aws/kms"
)

// What passes is tried again: throttling, errors of the service, an answer
// that is lost.
func TestTriesAgain(t *testing.T) {
	t.Parallel()
	s := newService(t)
	k := s.open(t, func(c *kms.Config) { c.Attempts = 3 })
	wrapped, err := k.WrapKey(t.Context(), s.key, secret(), bound)
	if err != nil {
		t.Fatal(err)
	}
	for name, rule := range map[string]wire.Rule{
		"throttled": func(*wire.Request, func() (*http.Response, error)) (*http.Response, error) {
			return refusal("ThrottlingException", "Rate exceeded"), nil
		},
		"500":  wire.Answers(500, "application/x-amz-json-1.1", `{"__type":"KMSInternalException"}`),
		"503":  wire.Answers(503, "text/html", "<html>"),
		"lost": wire.Lost,
	} {
		first, done := wire.First(1, "", rule)
		s.Add(first)
		if b, err := k.UnwrapKey(t.Context(), s.key, wrapped, bound); err != nil || !bytes.Equal(b, secret()) || done.Load() != 1 {
			t.Errorf("%s: %v", name, err)
		}
		first, done = wire.First(1, "", rule)
		s.Add(first)
		if _, err := k.WrapKey(t.Context(), s.key, secret(), bound); err != nil || done.Load() != 1 {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What does not pass is an error of its own, after so many attempts.
func TestGivesUp(t *testing.T) {
	t.Parallel()
	s := newService(t)
	k := s.open(t, nil)
	s.Add(wire.Answers(500, "application/x-amz-json-1.1", `{"__type":"DependencyTimeoutException","message":"later"}`))
	_, err := k.UnwrapKey(t.Context(), s.key, []byte("x"), bound)
	if n := len(s.Seen("Decrypt")); err == nil || n != 2 {
		t.Errorf("%v after %d attempts", err, n)
	}
	for _, sentinel := range []error{provider.ErrNotFound, provider.ErrWrongKey, fs.ErrPermission} {
		if errors.Is(err, sentinel) {
			t.Errorf("%v is %v", err, sentinel)
		}
	}
}

// rotating is a source of credentials that gives another key each time, and
// does not know that they expire.
type rotating struct{ n atomic.Int32 }

func (r *rotating) Retrieve(context.Context) (aws.Credentials, error) {
	return aws.Credentials{AccessKeyID: strings.Repeat("k", int(r.n.Add(1))), SecretAccessKey: "secret", SessionToken: "token"}, nil
}

// Credentials that have expired by the clock of the service are fetched anew.
func TestExpiredCredentials(t *testing.T) {
	s := newService(t)
	s.Add(func(r *wire.Request, next func() (*http.Response, error)) (*http.Response, error) {
		if r.AccessKey() == "k" || r.AccessKey() == "owner" {
			return refusal("ExpiredTokenException", "The security token included in the request is expired"), nil
		}
		return next()
	})
	k := s.open(t, func(c *kms.Config) { c.Credentials = &rotating{} })
	if _, err := k.WrapKey(t.Context(), s.key, secret(), bound); err != nil {
		t.Errorf("credentials that can be renewed: %v", err)
	}
	before := len(s.Seen(""))
	if _, err := s.open(t, nil).WrapKey(t.Context(), s.key, secret(), bound); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("credentials that cannot: %v", err)
	}
	if n := len(s.Seen("")) - before; n != 1 {
		t.Errorf("%d requests with credentials that do not change", n)
	}
}

// A service that is silent costs the time of ctx and no more.
func TestBlackHole(t *testing.T) {
	s := newService(t)
	k := s.open(t, nil)
	s.Add(wire.Hole)
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := k.WrapKey(ctx, s.key, secret(), bound); !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, provider.ErrNotFound) {
		t.Error(err)
	}
}

const mrk = "mrk-1234abcd12ab34cd56ef1234567890ab"

// multiRegion has a multi-Region key in two regions.
func multiRegion(t *testing.T) (s *service, arn string) {
	s = newService(t)
	s.replicas, s.in = map[string]string{mrk: *id(s.key)}, []string{home, "eu-west-1"}
	return s, strings.Replace(s.key, *id(s.key), mrk, 1)
}

// What a multi-Region key wrapped is unwrapped, under the name that was kept,
// when its region is silent, broken, or has lost the key.
func TestReplicas(t *testing.T) {
	t.Parallel()
	s, key := multiRegion(t)
	open := func(regions ...string) *kms.Keys {
		return s.open(t, func(c *kms.Config) { c.Replicas, c.Timeout, c.Attempts = regions, 1500*time.Millisecond, 1 })
	}
	wrapped, err := open().WrapKey(t.Context(), key, secret(), bound)
	if err != nil {
		t.Fatal(err)
	}
	down := func(rule wire.Rule, regions ...string) {
		s.Clear()
		s.Add(s.rule)
		s.Add(func(r *wire.Request, next func() (*http.Response, error)) (*http.Response, error) {
			for _, name := range regions {
				if r.Region() == name {
					return rule(r, next)
				}
			}
			return next()
		})
	}
	gone := func(*wire.Request, func() (*http.Response, error)) (*http.Response, error) {
		return refusal("NotFoundException", "Key does not exist"), nil
	}
	disabled := func(*wire.Request, func() (*http.Response, error)) (*http.Response, error) {
		return refusal("DisabledException", "is disabled"), nil
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Second) // less than what ends a silent request anyhow
	defer cancel()
	for name, rule := range map[string]wire.Rule{"silent": wire.Hole, "cut": wire.Cut, "gone": gone, "disabled": disabled} {
		down(rule, home)
		for _, name := range []string{key, mrk} {
			if b, err := open("eu-west-1").UnwrapKey(ctx, name, wrapped, bound); err != nil || !bytes.Equal(b, secret()) {
				t.Errorf("%s: %s: %v", name, name, err)
			}
		}
		if _, err := open("eu-west-1").WrapKey(ctx, key, secret(), bound); err != nil {
			t.Errorf("%s: wrap: %v", name, err)
		}
		// A wrong context is wrong in each of them: nobody is asked twice.
		if _, err := open("eu-west-1").UnwrapKey(ctx, key, wrapped, nil); !errors.Is(err, provider.ErrWrongKey) {
			t.Errorf("%s: wrong context: %v", name, err)
		}
	}

	// Gone in one region and out of reach in the other is not gone.
	down(gone, "eu-west-1")
	s.Add(func(r *wire.Request, next func() (*http.Response, error)) (*http.Response, error) {
		if r.Region() == home {
			return nil, errors.New("cut")
		}
		return next()
	})
	if _, err := open("eu-west-1").UnwrapKey(t.Context(), key, wrapped, bound); err == nil || errors.Is(err, provider.ErrNotFound) {
		t.Errorf("gone here and out of reach there: %v", err)
	}
	down(gone, home, "eu-west-1")
	if _, err := open("eu-west-1").UnwrapKey(t.Context(), key, wrapped, bound); !errors.Is(err, provider.ErrNotFound) || !strings.Contains(err.Error(), "eu-west-1") {
		t.Errorf("gone in both: %v", err)
	}

	// Without replicas, and for a key of one region, nobody else is asked.
	down(wire.Cut, home)
	if _, err := open().UnwrapKey(t.Context(), key, wrapped, bound); err == nil {
		t.Error("unwrapped in a region that is down")
	}
	if _, err := open("eu-west-1").UnwrapKey(t.Context(), s.key, wrapped, bound); err == nil {
		t.Error("unwrapped in a region that is down")
	}
	for _, r := range s.Seen("") {
		if r.Region() != home {
			t.Errorf("asked %s for a key that is not there", r.Region())
		}
	}
}

// The ARN of a key says where it is asked for.
func TestRegionOfARN(t *testing.T) {
	s := newService(t)
	k := s.open(t, func(c *kms.Config) { c.Region = "eu-west-1" })
	if _, err := k.WrapKey(t.Context(), s.key, secret(), bound); err != nil {
		t.Fatal(err)
	}
	if _, err := k.WrapKey(t.Context(), *id(s.key), secret(), bound); !errors.Is(err, provider.ErrNotFound) || !strings.Contains(err.Error(), "eu-west-1") {
		t.Errorf("a key of another region without its ARN: %v", err)
	}
}

func TestConfig(t *testing.T) {
	_, err := kms.Open(t.Context(), kms.Config{Region: "r", Endpoint: "https://user:secret@host", FIPS: true, Attempts: -1, Timeout: -1, Replicas: []string{""}, CA: []byte("none")})
	if err == nil {
		t.Fatal("no error")
	}
	for _, field := range []string{"Endpoint", "FIPS", "Attempts", "Timeout", "Replicas", "CA"} {
		if !strings.Contains(err.Error(), "kms: Config."+field+":") {
			t.Errorf("%v does not name %s", err, field)
		}
	}
	if strings.Contains(err.Error(), "secret") {
		t.Errorf("%v tells a secret", err)
	}
}
