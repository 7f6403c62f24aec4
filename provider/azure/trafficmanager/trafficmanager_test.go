package trafficmanager_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	azfake "github.com/Azure/azure-sdk-for-go/sdk/azcore/fake"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/trafficmanager/armtrafficmanager"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/trafficmanager/armtrafficmanager/fake"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/azure/internal/wire"
	"github.com/holdfast-go/holdfast/provider/azure/trafficmanager"
	"github.com/holdfast-go/holdfast/provider/providertest"
)

const (
	profileID = "/subscriptions/s1/resourceGroups/g1/providers/Microsoft.Network/trafficManagerProfiles/shop"
	path      = "/subscriptions/s1/resourceGroups/g1/providers/Microsoft.Network/trafficmanagerprofiles/shop"

	// start is a profile as the service returns one.
	start = `{"id":"` + profileID + `","location":"global","name":"shop","properties":{` +
		`"dnsConfig":{"fqdn":"shop.trafficmanager.net","relativeName":"shop","ttl":30},"endpoints":[` +
		`{"id":"e1","name":"East","properties":{"endpointMonitorStatus":"Online","endpointStatus":"Enabled","priority":1,"target":"east.example.com","weight":1},"type":"Microsoft.Network/trafficManagerProfiles/externalEndpoints"},` +
		`{"id":"e2","name":"west","properties":{"customHeaders":[{"name":"host","value":"w"}],"endpointMonitorStatus":"Disabled","endpointStatus":"Disabled","priority":2,"target":"west.example.com","weight":1},"type":"Microsoft.Network/trafficManagerProfiles/externalEndpoints"},` +
		`{"id":"e3","name":"other","properties":{"endpointMonitorStatus":"Online","endpointStatus":"Enabled","priority":3,"target":"other.example.com","weight":1},"type":"Microsoft.Network/trafficManagerProfiles/externalEndpoints"}],` +
		`"maxReturn":0,"monitorConfig":{"intervalInSeconds":10,"path":"/healthz","port":443,"profileMonitorStatus":"Online","protocol":"HTTPS","timeoutInSeconds":5,"toleratedNumberOfFailures":1},` +
		`"profileStatus":"Enabled","trafficRoutingMethod":"Priority","trafficViewEnrollmentStatus":"Disabled"},"tags":{"team":"shop"},"type":"Microsoft.Network/trafficManagerProfiles"}`
)

// service is the SDK's fake server with one profile behind it, which it puts
// as it comes: no ETags, no conditions.
type service struct {
	*wire.Proxy
	mu      sync.Mutex
	profile armtrafficmanager.Profile
}

func newService(t testing.TB) *service {
	s := &service{}
	s.set(t, start)
	s.Proxy = &wire.Proxy{Server: fake.NewProfilesServerTransport(&fake.ProfilesServer{Get: s.get, CreateOrUpdate: s.put})}
	return s
}

func (s *service) set(t testing.TB, body string) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.profile = armtrafficmanager.Profile{}
	if err := json.Unmarshal([]byte(body), &s.profile); err != nil {
		t.Fatal(err)
	}
}

// now is the profile as JSON.
func (s *service) now(t testing.TB) string {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	b, err := json.Marshal(s.profile)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func (s *service) get(_ context.Context, group, name string, _ *armtrafficmanager.ProfilesClientGetOptions) (resp azfake.Responder[armtrafficmanager.ProfilesClientGetResponse], errResp azfake.ErrorResponder) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if group != "g1" || name != "shop" {
		errResp.SetResponseError(404, "ResourceNotFound")
		return
	}
	resp.SetResponse(200, armtrafficmanager.ProfilesClientGetResponse{Profile: s.profile}, nil)
	return
}

func (s *service) put(_ context.Context, _, _ string, in armtrafficmanager.Profile, _ *armtrafficmanager.ProfilesClientCreateOrUpdateOptions) (resp azfake.Responder[armtrafficmanager.ProfilesClientCreateOrUpdateResponse], errResp azfake.ErrorResponder) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.profile = in
	resp.SetResponse(200, armtrafficmanager.ProfilesClientCreateOrUpdateResponse{Profile: in}, nil)
	return
}

func (s *service) open(t testing.TB, change func(*trafficmanager.Config)) *trafficmanager.Profile {
	t.Helper()
	c := trafficmanager.Config{Profile: profileID, Endpoints: []string{"west", "east"}, Attempts: 2, Credential: &wire.Tokens{Prefix: "owner"}}
	if change != nil {
		change(&c)
	}
	p, err := trafficmanager.OpenOn(t.Context(), c, s)
	if err != nil {
		t.Fatal(err)
	}
	p.SetSettle(700 * time.Millisecond)
	return p
}

func state(epoch uint64, sites ...string) provider.TrafficState {
	s := provider.TrafficState{Sites: sites}
	if epoch > 0 {
		s.Mark = provider.TrafficMark{Owner: "shop", Epoch: epoch}
	}
	return s
}

func TestTrafficSwitch(t *testing.T) {
	t.Parallel()
	s := newService(t)
	providertest.TestTrafficSwitch(t, func(t *testing.T) provider.TrafficSwitch { return s.open(t, nil) }, providertest.TrafficOptions{
		Second: func() (provider.TrafficSwitch, error) { return s.open(t, nil), nil },
	})
	if got := s.now(t); got != start {
		t.Errorf("something else has changed:\n%s\n%s", got, start)
	}
}

// The same suite on a profile of yours, whose endpoints it enables and
// disables: HOLDFAST_AZURE_TRAFFIC_PROFILE is its resource ID,
// HOLDFAST_AZURE_TRAFFIC_ENDPOINTS are names of its endpoints, with commas.
func TestAzure(t *testing.T) {
	id := os.Getenv("HOLDFAST_AZURE_TRAFFIC_PROFILE")
	if id == "" {
		t.Skip("HOLDFAST_AZURE_TRAFFIC_PROFILE names no profile")
	}
	open := func() (provider.TrafficSwitch, error) {
		return trafficmanager.Open(t.Context(), trafficmanager.Config{Profile: id, Endpoints: strings.Split(os.Getenv("HOLDFAST_AZURE_TRAFFIC_ENDPOINTS"), ",")})
	}
	providertest.TestTrafficSwitch(t, func(t *testing.T) provider.TrafficSwitch {
		p, err := open()
		if err != nil {
			t.Fatal(err)
		}
		return p
	}, providertest.TrafficOptions{Second: open})
}

// The request of a switch, to the letter: the profile as it was, but for two
// endpoints and the mark.
func TestRequest(t *testing.T) {
	s := newService(t)
	p := s.open(t, nil)
	if err := p.Switch(t.Context(), state(0, "east"), state(7, "west")); err != nil {
		t.Fatal(err)
	}
	sent := s.Seen("PUT", "")
	want := strings.NewReplacer(
		`"endpointMonitorStatus":"Online","endpointStatus":"Enabled","priority":1`, `"endpointMonitorStatus":"Online","endpointStatus":"Disabled","priority":1`,
		`"endpointStatus":"Disabled","priority":2`, `"endpointStatus":"Enabled","priority":2`,
		`"tags":{"team":"shop"}`, `"tags":{"holdfast-traffic":"owner=shop epoch=7","team":"shop"}`).Replace(start)
	if len(sent) != 1 || sent[0].URL.Path != path || sent[0].URL.RawQuery != "api-version=2022-04-01" || string(bytes.TrimSpace(sent[0].Content)) != want {
		t.Errorf("%d requests; sent to %s\n%s\nwant\n%s", len(sent), sent[0].URL, sent[0].Content, want)
	}
	if err := p.Switch(t.Context(), state(0, "east"), state(7, "west")); err != nil || len(s.Seen("PUT", "")) != 1 {
		t.Errorf("again: %v", err)
	}
	if traits := p.Traits(); traits.Compared || !traits.Marked || traits.Endpoints[0].DataPlane || traits.Endpoints[0].URL != "https://management.azure.com" {
		t.Errorf("%+v", traits)
	}
}

// What the SDK does not know would be lost with the profile that it sends: it
// is not sent.
func TestUnknownField(t *testing.T) {
	s := newService(t)
	p := s.open(t, nil)
	for field, change := range map[string][2]string{
		"properties.recordTypesV9":                {`"maxReturn":0`, `"maxReturn":0,"recordTypesV9":["A"]`},
		"properties.endpoints[1].properties.zone": {`"priority":2`, `"priority":2,"zone":"1"`},
		"identity.type":                           {`"location":`, `"identity":{"type":"None"},"location":`},
	} {
		s.Clear()
		s.Add(func(r *wire.Request, next func() (*http.Response, error)) (*http.Response, error) {
			resp, err := next()
			if err != nil || r.Method != "GET" {
				return resp, err
			}
			body, err := io.ReadAll(resp.Body)
			return wire.Answer(r, 200, strings.Replace(string(body), change[0], change[1], 1)), err
		})
		err := p.Switch(t.Context(), state(0, "east"), state(7, "west"))
		if !errors.Is(err, errors.ErrUnsupported) || !strings.Contains(err.Error(), field) || len(s.Seen("PUT", "")) != 0 {
			t.Errorf("%s: %v", field, err)
		}
	}
	// Nothing in place of something is no loss.
	s.Clear()
	s.Add(func(r *wire.Request, next func() (*http.Response, error)) (*http.Response, error) {
		resp, err := next()
		if err != nil || r.Method != "GET" {
			return resp, err
		}
		body, err := io.ReadAll(resp.Body)
		return wire.Answer(r, 200, strings.Replace(string(body), `"maxReturn":0`, `"maxReturn":0,"new":null`, 1)), err
	})
	if err := p.Switch(t.Context(), state(0, "east"), state(7, "west")); err != nil {
		t.Error(err)
	}
}

// What is no state is an error.
func TestNoState(t *testing.T) {
	s := newService(t)
	p := s.open(t, nil)
	for name, change := range map[string][2]string{
		"disabled":            {`"profileStatus":"Enabled"`, `"profileStatus":"Disabled"`},
		`no endpoint "west"`:  {`"name":"west"`, `"name":"gone"`},
		"neither enabled nor": {`"endpointStatus":"Disabled"`, `"endpointStatus":"Draining"`},
		"say its status":      {`"endpointStatus":"Disabled",`, ``},
		"no mark":             {`"team":"shop"`, `"holdfast-traffic":"owner=shop epoch=07"`},
		"is no mark":          {`"team":"shop"`, `"holdfast-traffic":"shop"`},
		"which is no mark":    {`"team":"shop"`, `"holdfast-traffic":"owner=A epoch=7"`},
	} {
		s.set(t, strings.Replace(start, change[0], change[1], 1))
		if _, err := p.State(t.Context()); err == nil || errors.Is(err, provider.ErrNotFound) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
		if err := p.Switch(t.Context(), state(0, "east"), state(7, "west")); err == nil || len(s.Seen("PUT", "")) != 0 {
			t.Errorf("%s: switched: %v", name, err)
		}
	}
	gone := s.open(t, func(c *trafficmanager.Config) { c.Profile = strings.Replace(profileID, "shop", "gone", 1) })
	if _, err := gone.State(t.Context()); err == nil || errors.Is(err, provider.ErrNotFound) || !strings.Contains(err.Error(), "404") {
		t.Errorf("%v", err)
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

// A lost reply is resolved by reading, and what is sent is not sent again
// before.
func TestLostReply(t *testing.T) {
	t.Parallel()
	s := newService(t)
	p := s.open(t, nil)
	lost, done := wire.First(1, "PUT", "", wire.Lost)
	s.Add(lost)
	if err := p.Switch(t.Context(), state(0, "east"), state(7, "west")); err != nil || done.Load() != 1 || len(s.Seen("PUT", "")) != 1 {
		t.Errorf("%v, %d lost, %d sent", err, done.Load(), len(s.Seen("PUT", "")))
	}
	// Not made: seen by reading, and made then.
	for _, rule := range []wire.Rule{wire.Cut, wire.Answers(http.StatusBadGateway, ""), wire.Answers(http.StatusServiceUnavailable, "")} {
		from, to := state(7, "west"), state(8, "east")
		s.Clear()
		first, _ := wire.First(1, "PUT", "", rule)
		s.Add(first)
		if err := p.Switch(t.Context(), from, to); err != nil || len(s.Seen("PUT", "")) != 2 {
			t.Errorf("%v, %d sent", err, len(s.Seen("PUT", "")))
		}
		if err := p.Switch(t.Context(), to, from); err != nil {
			t.Error(err)
		}
	}
	// Lost, and moved on by a greater epoch: left alone.
	s.Clear()
	other := s.open(t, nil)
	first, _ := wire.First(1, "PUT", "", func(r *wire.Request, next func() (*http.Response, error)) (*http.Response, error) {
		resp, err := wire.Lost(r, next)
		if err := other.Switch(t.Context(), state(8, "east"), state(9, "east", "west")); err != nil {
			t.Error(err)
		}
		return resp, err
	})
	s.Add(first)
	isUnknown(t, p.Switch(t.Context(), state(7, "west"), state(8, "east")))
	if now, err := p.State(t.Context()); err != nil || now.Mark.Epoch != 9 {
		t.Errorf("%+v, %v", now, err)
	}
	// Lost, and then the credential is no longer good.
	s.Clear()
	first, _ = wire.First(1, "PUT", "", func(r *wire.Request, next func() (*http.Response, error)) (*http.Response, error) {
		resp, err := wire.Lost(r, next)
		s.Add(wire.Answers(http.StatusForbidden, `{"error":{"code":"AuthorizationFailed","message":"not any more"}}`))
		return resp, err
	})
	s.Add(first)
	isUnknown(t, p.Switch(t.Context(), state(9, "east", "west"), state(10, "east")))
}

// Somebody writes between the looks of a switch: a conflict, or gone on with
// if the state is the same.
func TestChangedInBetween(t *testing.T) {
	t.Parallel()
	s := newService(t)
	p, other := s.open(t, nil), s.open(t, nil)
	looks := 0
	s.Add(func(r *wire.Request, next func() (*http.Response, error)) (*http.Response, error) {
		if r.Method == "GET" {
			if looks++; looks == 2 {
				s.set(t, strings.Replace(start, `"endpointStatus":"Disabled"`, `"endpointStatus":"Enabled"`, 1))
			}
		}
		return next()
	})
	if err := p.Switch(t.Context(), state(0, "east"), state(7, "west")); !errors.Is(err, provider.ErrConflict) || len(s.Seen("PUT", "")) != 0 {
		t.Errorf("%v", err)
	}
	s.Clear()
	// An edit of something else meanwhile is in what is put.
	looks = 0
	s.Add(func(r *wire.Request, next func() (*http.Response, error)) (*http.Response, error) {
		if r.Method == "GET" {
			if looks++; looks == 2 {
				s.set(t, strings.Replace(start, `"ttl":30`, `"ttl":60`, 1))
			}
		}
		return next()
	})
	s.set(t, start)
	if err := other.Switch(t.Context(), state(0, "east"), state(7, "west")); err != nil || !strings.Contains(s.now(t), `"ttl":60`) {
		t.Errorf("%v", err)
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	s := newService(t)
	p := s.open(t, nil)
	deny := wire.Answers(http.StatusForbidden, `{"error":{"code":"AuthorizationFailed","message":"no"}}`)
	s.Add(deny)
	_, err := p.State(t.Context())
	if !errors.Is(err, fs.ErrPermission) {
		t.Errorf("%v", err)
	}
	s.Clear()
	denied, _ := wire.First(9, "PUT", "", deny)
	s.Add(denied)
	if err := p.Switch(t.Context(), state(0, "east"), state(7, "west")); !errors.Is(err, fs.ErrPermission) || len(s.Seen("PUT", "")) != 1 {
		t.Errorf("%v", err)
	}
	s.Clear()
	locked, done := wire.First(9, "PUT", "", wire.Answers(http.StatusConflict, `{"error":{"code":"ScopeLocked","message":"the scope is locked"}}`))
	s.Add(locked)
	if err := p.Switch(t.Context(), state(0, "east"), state(7, "west")); !errors.Is(err, provider.ErrRefused) || errors.Is(err, provider.ErrConflict) || done.Load() != 3 || !strings.Contains(err.Error(), "ScopeLocked") {
		t.Errorf("%v after %d", err, done.Load())
	}
	s.Clear()
	busy, done := wire.First(1, "PUT", "", wire.Answers(http.StatusTooManyRequests, `{"error":{"code":"TooManyRequests","message":"slow down"}}`, "Retry-After", "0"))
	s.Add(busy)
	if err := p.Switch(t.Context(), state(0, "east"), state(7, "west")); err != nil || done.Load() != 1 {
		t.Errorf("%v after %d", err, done.Load())
	}
	s.Clear()
	expired, _ := wire.First(1, "", "", wire.Answers(http.StatusUnauthorized, `{"error":{"code":"ExpiredAuthenticationToken","message":"expired"}}`))
	s.Add(expired)
	if _, err := p.State(t.Context()); err != nil {
		t.Errorf("%v", err)
	}
}

// What was taken and is not shown is waited for, and not believed; the end of
// ctx ends everything.
func TestNotShown(t *testing.T) {
	t.Parallel()
	s := newService(t)
	p := s.open(t, nil)
	stale := func(r *wire.Request, next func() (*http.Response, error)) (*http.Response, error) {
		if r.Method == "GET" {
			return wire.Answer(r, 200, start), nil
		}
		return next()
	}
	s.Add(stale)
	isUnknown(t, p.Switch(t.Context(), state(0, "east"), state(7, "west")))
	s.Clear()
	s.set(t, start)
	hole, _ := wire.First(1, "PUT", "", wire.Hole)
	s.Add(hole)
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	err := p.Switch(ctx, state(0, "east"), state(7, "west"))
	isUnknown(t, err)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
}

func TestOpenRefuses(t *testing.T) {
	for name, change := range map[string]func(*trafficmanager.Config){
		"Config.Profile": func(c *trafficmanager.Config) { c.Profile = "shop" },
		"at least two":   func(c *trafficmanager.Config) { c.Endpoints = []string{"east"} },
		"one name to":    func(c *trafficmanager.Config) { c.Endpoints = []string{"east", "East"} },
		"there twice":    func(c *trafficmanager.Config) { c.Endpoints = []string{"east", "east"} },
		"Config.CA":      func(c *trafficmanager.Config) { c.CA = []byte("x") },
		"Attempts":       func(c *trafficmanager.Config) { c.Attempts = 101 },
	} {
		c := trafficmanager.Config{Profile: profileID, Endpoints: []string{"east", "west"}, Credential: &wire.Tokens{}}
		change(&c)
		if _, err := trafficmanager.Open(t.Context(), c); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Who imports this package compiles no other service of Azure, and no other
// cloud.
func TestDependencies(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	deps := strings.Fields(string(out))
	for _, dep := range deps {
		for _, other := range []string{"github.com/aws/", "cloud.google.com/", "google.golang.org/", "/sdk/storage/", "/sdk/security/", "/resourcemanager/compute", "/resourcemanager/dns"} {
			if strings.Contains(dep, other) {
				t.Errorf("brings %s", dep)
			}
		}
	}
	if !slices.ContainsFunc(deps, func(d string) bool { return strings.HasSuffix(d, "/armtrafficmanager") }) {
		t.Error("go list is not of this package")
	}
}
