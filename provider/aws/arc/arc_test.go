package arc_test

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/aws/arc"
	"github.com/holdfast-go/holdfast/provider/aws/internal/wire"
	"github.com/holdfast-go/holdfast/provider/providertest"
)

func TestTrafficSwitch(t *testing.T) {
	for name, atLeast := range map[string]int{"free": 0, "with a safety rule": 1} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newService(t)
			s.atLeast = atLeast
			providertest.TestTrafficSwitch(t, func(t *testing.T) provider.TrafficSwitch { return s.open(t, nil) }, providertest.TrafficOptions{
				Second: func() (provider.TrafficSwitch, error) { return s.open(t, nil), nil },
			})
		})
	}
}

// The same suite on a control panel of yours, which moves what it controls:
// HOLDFAST_AWS_ARC names a file with the Endpoints and Controls of a Config.
func TestAWS(t *testing.T) {
	file := os.Getenv("HOLDFAST_AWS_ARC")
	if file == "" {
		t.Skip("HOLDFAST_AWS_ARC names no file")
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var c arc.Config
	if err := json.Unmarshal(b, &c); err != nil {
		t.Fatal(err)
	}
	open := func() (provider.TrafficSwitch, error) { return arc.Open(t.Context(), c) }
	providertest.TestTrafficSwitch(t, func(t *testing.T) provider.TrafficSwitch {
		s, err := open()
		if err != nil {
			t.Fatal(err)
		}
		return s
	}, providertest.TrafficOptions{Second: open})
}

// The requests of a switch, to the letter: all controls change in one call.
func TestRequests(t *testing.T) {
	s := newService(t)
	s.page = 10
	c := s.open(t, nil)
	if err := c.Switch(t.Context(), state("us-east"), state("eu-west")); err != nil {
		t.Fatal(err)
	}
	updates := s.seen("UpdateRoutingControlStates")
	want := `{"UpdateRoutingControlStateEntries":[` +
		`{"RoutingControlArn":"` + control("eu-west") + `","RoutingControlState":"On"},` +
		`{"RoutingControlArn":"` + control("us-east") + `","RoutingControlState":"Off"},` +
		`{"RoutingControlArn":"` + control("us-west") + `","RoutingControlState":"Off"}]}`
	if len(updates) != 1 || string(updates[0].Content) != want {
		t.Errorf("%d updates; sent\n%s\nwant\n%s", len(updates), updates[0].Content, want)
	}
	lists := s.seen("ListRoutingControls")
	if len(lists) != 2 || string(lists[0].Content) != `{"ControlPanelArn":"`+panel+`"}` {
		t.Errorf("%d lists: %s", len(lists), lists[0].Content)
	}
	if s.states[panel+"/routingcontrol/another"] != "On" {
		t.Error("a control that is not the switch's was changed")
	}
	// Each endpoint is asked in the name of its own region.
	for i, e := range s.endpoints {
		for _, r := range e.Seen("") {
			if r.Region() != regions[i] {
				t.Errorf("%s is asked as %s", regions[i], r.Region())
			}
		}
	}
	before := len(s.seen(""))
	if err := c.Switch(t.Context(), state("us-east"), state("eu-west")); err != nil || len(s.seen("UpdateRoutingControlStates")) != 1 || len(s.seen("")) != before+1 {
		t.Errorf("again: %v, %d requests", err, len(s.seen(""))-before)
	}
}

// An endpoint that cannot do it is passed over, whatever it says or does not.
func TestNextEndpoint(t *testing.T) {
	for name, rule := range map[string]wire.Rule{
		"unavailable": refusal(http.StatusServiceUnavailable, "EndpointTemporarilyUnavailableException", "maintenance"),
		"400":         refusal(http.StatusBadRequest, "EndpointTemporarilyUnavailableException", "maintenance"),
		"throttled":   refusal(http.StatusTooManyRequests, "ThrottlingException", "slow down"),
		"broken":      refusal(http.StatusInternalServerError, "InternalServerException", "oops"),
		"cut":         wire.Cut,
		"silent":      wire.Hole,
		"no JSON":     wire.Answers(http.StatusBadGateway, "text/html", "<html>"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newService(t)
			for _, e := range s.endpoints[:4] {
				e.Add(rule)
			}
			c := s.open(t, func(c *arc.Config) { c.Timeout = 200 * time.Millisecond })
			c.Begin(0)
			if now, err := c.State(t.Context()); err != nil || !slices.Equal(now.Sites, []string{"us-east"}) {
				t.Fatalf("%+v, %v", now, err)
			}
			if err := c.Switch(t.Context(), state("us-east"), state("eu-west")); err != nil {
				t.Error(err)
			}
			for _, r := range s.seen("UpdateRoutingControlStates") {
				if r.Region() != regions[4] {
					t.Errorf("an endpoint that failed is asked again: %s", r.Region())
				}
			}
		})
	}
}

// Endpoints that refuse connections: they have seen nothing.
func TestEndpointsDown(t *testing.T) {
	t.Parallel()
	s := newService(t)
	c := s.open(t, func(c *arc.Config) {
		for i := range 4 {
			c.Endpoints[i].URL = "http://127.0.0.1:1/v1"
		}
	})
	c.Begin(0)
	if err := c.Switch(t.Context(), state("us-east"), state("us-west")); err != nil {
		t.Error(err)
	}
	all := s.open(t, func(c *arc.Config) {
		for i := range c.Endpoints {
			c.Endpoints[i].URL = "http://127.0.0.1:1/v1"
		}
	})
	_, err := all.State(t.Context())
	isUnknown(t, err)
	for _, region := range regions {
		if !strings.Contains(err.Error(), region) {
			t.Errorf("does not name %s: %v", region, err)
		}
	}
}

// Not everybody begins with the same endpoint, and who has found a good one
// stays with it.
func TestFirstEndpoint(t *testing.T) {
	s := newService(t)
	s.page = 10
	for range 80 {
		c := s.open(t, nil)
		for range 2 {
			if _, err := c.State(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	for i, e := range s.endpoints {
		if n := len(e.Seen("")); n == 0 || n == 160 || n%2 != 0 {
			t.Errorf("%s is asked %d times", regions[i], n)
		}
	}
}

// isUnknown: nobody may take the error for a certain answer.
func isUnknown(t *testing.T, err error) {
	t.Helper()
	if err == nil {
		t.Fatal("no error")
	}
	for _, sentinel := range []error{provider.ErrConflict, provider.ErrNotFound, provider.ErrRefused, fs.ErrPermission, errors.ErrUnsupported} {
		if errors.Is(err, sentinel) {
			t.Errorf("%v is %v", err, sentinel)
		}
	}
}

// The change is made and the reply is lost: reading resolves it, and nothing is
// sent twice.
func TestLostReply(t *testing.T) {
	t.Parallel()
	s := newService(t)
	c := s.open(t, nil)
	lost, done := wire.First(1, "UpdateRoutingControlStates", wire.Lost)
	s.all(lost)
	if err := c.Switch(t.Context(), state("us-east"), state("eu-west")); err != nil || done.Load() != 1 || len(s.seen("UpdateRoutingControlStates")) != 1 {
		t.Errorf("%v, %d lost, %d sent", err, done.Load(), len(s.seen("UpdateRoutingControlStates")))
	}

	// Lost, and moved on by somebody else: not known, and left alone.
	s.clear()
	lost, _ = wire.First(1, "UpdateRoutingControlStates", wire.Lost)
	s.all(lost)
	s.after = func() { s.states[control("us-west")], s.states[control("us-east")] = "On", "On" }
	err := c.Switch(t.Context(), state("eu-west"), state("us-east"))
	s.after = nil
	isUnknown(t, err)
	if now, err := c.State(t.Context()); err != nil || !slices.Equal(now.Sites, []string{"us-east", "us-west"}) {
		t.Errorf("%+v, %v", now, err)
	}

	// Not made, and never heard of again: it is made by another endpoint.
	s.clear()
	cut, _ := wire.First(3, "UpdateRoutingControlStates", wire.Cut)
	s.all(cut)
	if err := c.Switch(t.Context(), state("us-east", "us-west"), state("us-west")); err != nil {
		t.Error(err)
	}
}

// A reply is lost, and then nobody answers, or not to us: not known.
func TestLostForGood(t *testing.T) {
	for name, then := range map[string]wire.Rule{
		"denied": refusal(http.StatusForbidden, "AccessDeniedException", "not any more"),
		"silent": wire.Cut,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newService(t)
			c := s.open(t, nil)
			lost, _ := wire.First(1, "UpdateRoutingControlStates", func(r *wire.Request, next func() (*http.Response, error)) (*http.Response, error) {
				answer, err := wire.Lost(r, next)
				s.all(then)
				return answer, err
			})
			s.all(lost)
			err := c.Switch(t.Context(), state("us-east"), state("eu-west"))
			isUnknown(t, err)
			s.clear()
			if now, err := c.State(t.Context()); err != nil || !slices.Equal(now.Sites, []string{"eu-west"}) {
				t.Errorf("it was made: %+v, %v", now, err)
			}
		})
	}
}

// Somebody moves traffic between the look and the call, and a safety rule
// refuses the call: that is a conflict. If nothing has moved, it is the rule.
func TestSafetyRule(t *testing.T) {
	t.Parallel()
	s := newService(t)
	s.atLeast = 1
	c := s.open(t, nil)
	err := c.Switch(t.Context(), state("us-east"), state())
	if !errors.Is(err, provider.ErrRefused) || errors.Is(err, provider.ErrConflict) || !strings.Contains(err.Error(), "at least one of them must be On") || !strings.Contains(err.Error(), "SafetyRule") {
		t.Errorf("%v", err)
	}
	s.clear()
	first, _ := wire.First(1, "UpdateRoutingControlStates", func(_ *wire.Request, next func() (*http.Response, error)) (*http.Response, error) {
		s.set("us-west")
		return next()
	})
	s.all(first)
	if err := c.Switch(t.Context(), state("us-east"), state()); !errors.Is(err, provider.ErrConflict) || errors.Is(err, provider.ErrRefused) {
		t.Errorf("%v", err)
	}
	// A conflict that passes ("try again") is tried again.
	s.clear()
	first, done := wire.First(2, "UpdateRoutingControlStates", refusal(http.StatusConflict, "ConflictException", "another update is under way"))
	s.all(first)
	if err := c.Switch(t.Context(), state("us-west"), state("us-east")); err != nil || done.Load() != 2 {
		t.Errorf("%v after %d", err, done.Load())
	}
}

// A change that is taken and not shown is waited for, and not believed.
func TestPartlyApplied(t *testing.T) {
	t.Parallel()
	s := newService(t)
	s.page = 10
	c := s.open(t, nil)
	s.after = func() { s.states[control("us-east")] = "On" } // closing it is late
	time.AfterFunc(500*time.Millisecond, func() { s.set("eu-west") })
	if err := c.Switch(t.Context(), state("us-east"), state("eu-west")); err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 700*time.Millisecond)
	defer cancel()
	err := c.Switch(ctx, state("eu-west"), state("us-west"))
	isUnknown(t, err)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
}

func TestDeniedAndLimits(t *testing.T) {
	t.Parallel()
	s := newService(t)
	c := s.open(t, nil)
	wrong := s.open(t, func(c *arc.Config) { c.Credentials = aws.AnonymousCredentials{} })
	if _, err := wrong.State(t.Context()); err == nil {
		t.Error("without credentials")
	}
	s.all(refusal(http.StatusForbidden, "AccessDeniedException", "User is not authorized"))
	_, err := c.State(t.Context())
	if switchErr := c.Switch(t.Context(), state("us-east"), state("eu-west")); !errors.Is(err, fs.ErrPermission) || !errors.Is(switchErr, fs.ErrPermission) {
		t.Errorf("%v, %v", err, switchErr)
	}
	if n := len(s.seen("")); n != 2 {
		t.Errorf("%d requests: a refusal goes to every endpoint, or what could not be signed was sent", n)
	}
	s.clear()
	s.most = 2
	if err := c.Switch(t.Context(), state("us-east"), state("eu-west")); !errors.Is(err, errors.ErrUnsupported) || !strings.Contains(err.Error(), "3 routing controls") {
		t.Errorf("%v", err)
	}
	s.most = 0
	s.mu.Lock()
	delete(s.states, control("eu-west"))
	s.mu.Unlock()
	if _, err := c.State(t.Context()); err == nil || errors.Is(err, provider.ErrNotFound) || !strings.Contains(err.Error(), "eu-west") {
		t.Errorf("a control that is gone: %v", err)
	}
}

// Every endpoint throttles: nothing was changed, and the error says what the
// service said.
func TestThrottledEverywhere(t *testing.T) {
	t.Parallel()
	s := newService(t)
	c := s.open(t, nil)
	rule, _ := wire.First(1000, "UpdateRoutingControlStates", refusal(http.StatusTooManyRequests, "ThrottlingException", "slow down"))
	s.all(rule)
	err := c.Switch(t.Context(), state("us-east"), state("eu-west"))
	isUnknown(t, err)
	if !strings.Contains(err.Error(), "slow down") || len(s.seen("UpdateRoutingControlStates")) != 10 {
		t.Errorf("%d sent: %v", len(s.seen("UpdateRoutingControlStates")), err)
	}
	if now, err := c.State(t.Context()); err != nil || !slices.Equal(now.Sites, []string{"us-east"}) {
		t.Errorf("%+v, %v", now, err)
	}
}

// Credentials that the service calls expired are fetched anew.
func TestExpired(t *testing.T) {
	s := newService(t)
	var fetched atomic.Int32
	c := s.open(t, func(c *arc.Config) {
		c.Credentials = aws.NewCredentialsCache(aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			fetched.Add(1)
			return aws.Credentials{AccessKeyID: "key", SecretAccessKey: "secret", SessionToken: "session", CanExpire: true, Expires: time.Now().Add(time.Hour)}, nil
		}))
	})
	rule, _ := wire.First(1, "", refusal(http.StatusForbidden, "ExpiredTokenException", "expired"))
	s.all(rule)
	if err := c.Switch(t.Context(), state("us-east"), state("eu-west")); err != nil || fetched.Load() != 2 {
		t.Errorf("%v, fetched %d times", err, fetched.Load())
	}
}

// The end of ctx ends everything, and what was sent is not known.
func TestCancelled(t *testing.T) {
	t.Parallel()
	s := newService(t)
	c := s.open(t, nil)
	hole, _ := wire.First(100, "UpdateRoutingControlStates", wire.Hole)
	s.all(hole)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	err := c.Switch(ctx, state("us-east"), state("eu-west"))
	isUnknown(t, err)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
}

func TestOpenRefuses(t *testing.T) {
	s := newService(t)
	for name, change := range map[string]func(*arc.Config){
		"Endpoints: empty":    func(c *arc.Config) { c.Endpoints = nil },
		"not a URL":           func(c *arc.Config) { c.Endpoints[0].URL = "http://secret:hunter2@x\x7f" },
		"user or password":    func(c *arc.Config) { c.Endpoints[0].URL = "https://u:hunter2@x/v1" },
		"without a query":     func(c *arc.Config) { c.Endpoints[1].URL = "" },
		"name of a region":    func(c *arc.Config) { c.Endpoints[2].Region = "Oregon" },
		"at least two":        func(c *arc.Config) { c.Controls = map[string]string{"x": control("x")} },
		"ARN of a routing":    func(c *arc.Config) { c.Controls["us-east"] = "us-east" },
		"another control pan": func(c *arc.Config) { c.Controls["us-east"] = strings.Replace(control("x"), "0123", "9999", 1) },
		"one routing control": func(c *arc.Config) { c.Controls["us-east"] = control("eu-west") },
		"no name of a site":   func(c *arc.Config) { c.Controls["a b"] = control("ab") },
		"Timeout":             func(c *arc.Config) { c.Timeout = -1 },
		"CA":                  func(c *arc.Config) { c.CA = []byte("x") },
	} {
		c := s.config()
		c.Controls = maps.Clone(c.Controls)
		change(&c)
		_, err := arc.Open(t.Context(), c)
		if err == nil || !strings.Contains(err.Error(), name) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if traits := s.open(t, nil).Traits(); traits.Compared || traits.Marked || len(traits.Endpoints) != 5 || !traits.Endpoints[4].DataPlane || traits.Endpoints[4].Region != "ap-southeast-2" {
		t.Errorf("%+v", traits)
	}
}
