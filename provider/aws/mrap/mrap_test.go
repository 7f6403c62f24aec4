package mrap_test

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/credentials"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/aws/internal/wire"
	"github.com/holdfast-go/holdfast/provider/aws/mrap"
	"github.com/holdfast-go/holdfast/provider/providertest"
)

const (
	arn   = "arn:aws:s3::123456789012:accesspoint/mfzwi23gnjvgw.mrap"
	path  = "/v20180820/mrap/instances/" + arn + "/routes"
	xmlns = "http://awss3control.amazonaws.com/doc/2018-08-20/"
)

// service has the routes of one access point, as AWS documents them: at least
// one region is active, a dial is between 0 and 100, and what is submitted may
// take a while to be seen. What the SDK's own model does not say, its generated
// client would not understand. The region that is asked is that of the signature.
type service struct {
	*wire.Proxy
	t testing.TB

	mu     sync.Mutex
	dials  map[string]int
	served map[string]int // what is told, which may lag behind
	lag    int            // how many looks it lags behind
	left   int
}

type routes struct {
	XMLName xml.Name `xml:"http://awss3control.amazonaws.com/doc/2018-08-20/ SubmitMultiRegionAccessPointRoutesRequest"`
	Routes  []struct {
		Bucket, Region        string
		TrafficDialPercentage *int
	} `xml:"RouteUpdates>Route"`
}

func newService(t testing.TB) *service {
	s := &service{t: t, dials: map[string]int{"eu-west-1": 0, "us-east-1": 100, "us-west-2": 0, "sa-east-1": 0}}
	s.served = s.dials
	backend := httptest.NewServer(http.HandlerFunc(s.serve))
	t.Cleanup(backend.Close)
	s.Proxy = wire.New(t, backend.URL)
	return s
}

func (s *service) serve(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	body, err := io.ReadAll(r.Body)
	if got, pathErr := url.PathUnescape(r.URL.EscapedPath()); err != nil || pathErr != nil || got != path || r.Header.Get("X-Amz-Account-Id") != "123456789012" {
		s.t.Errorf("%s %s for %q: %v", r.Method, r.URL.Path, r.Header.Get("X-Amz-Account-Id"), err)
	}
	switch r.Method {
	case http.MethodGet:
		if s.left--; s.left < 0 {
			s.served = s.dials
		}
		var b strings.Builder
		fmt.Fprintf(&b, `<GetMultiRegionAccessPointRoutesResult xmlns="%s"><Mrap>%s</Mrap><Routes>`, xmlns, arn)
		for region, dial := range s.served {
			fmt.Fprintf(&b, "<Route><Bucket>shop-%s</Bucket><Region>%s</Region><TrafficDialPercentage>%d</TrafficDialPercentage></Route>", region, region, dial)
		}
		b.WriteString("</Routes></GetMultiRegionAccessPointRoutesResult>")
		w.Header().Set("Content-Type", "application/xml")
		io.WriteString(w, b.String())
	case http.MethodPatch:
		if message := s.submit(body); message != "" {
			w.WriteHeader(http.StatusBadRequest)
			fmt.Fprintf(w, `<ErrorResponse><Error><Code>InvalidRequest</Code><Message>%s</Message></Error><RequestId>r</RequestId></ErrorResponse>`, message)
		}
	default:
		s.t.Errorf("%s is not used", r.Method)
	}
}

func (s *service) submit(body []byte) (refused string) {
	var in routes
	if err := xml.Unmarshal(body, &in); err != nil {
		s.t.Error(err)
	}
	next, open := map[string]int{}, 0
	for region, dial := range s.dials {
		next[region] = dial
	}
	for _, r := range in.Routes {
		if _, ok := next[r.Region]; !ok || r.TrafficDialPercentage == nil {
			return "no such region " + r.Region
		}
		next[r.Region] = *r.TrafficDialPercentage
	}
	for _, dial := range next {
		open += dial
	}
	if open == 0 {
		return "At least one Region must be active"
	}
	s.dials, s.left = next, s.lag
	return ""
}

func (s *service) set(dials map[string]int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	next := map[string]int{"eu-west-1": 0, "us-east-1": 0, "us-west-2": 0, "sa-east-1": 0}
	for region, dial := range dials {
		next[region] = dial
	}
	s.dials, s.left = next, 0
}

func (s *service) open(t testing.TB, change func(*mrap.Config)) *mrap.AccessPoint {
	t.Helper()
	c := mrap.Config{
		ARN: arn, Regions: []string{"us-west-2", "us-east-1", "eu-west-1"}, Endpoint: s.URL,
		Credentials: credentials.NewStaticCredentialsProvider("key", "secret", ""),
	}
	if change != nil {
		change(&c)
	}
	a, err := mrap.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	a.SetSettle(time.Second)
	return a
}

func state(sites ...string) provider.TrafficState { return provider.TrafficState{Sites: sites} }

func refusal(status int, code, message string) wire.Rule {
	return wire.Answers(status, "application/xml", `<ErrorResponse><Error><Code>`+code+`</Code><Message>`+message+`</Message></Error><RequestId>r</RequestId></ErrorResponse>`)
}

func TestTrafficSwitch(t *testing.T) {
	late := []string{"traffic/switch", "traffic/done"}
	for name, only := range map[string][]string{"at once": nil, "seen later": late} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newService(t)
			s.lag = len(only)
			providertest.TestTrafficSwitch(t, func(t *testing.T) provider.TrafficSwitch { return s.open(t, nil) }, providertest.TrafficOptions{
				Second: func() (provider.TrafficSwitch, error) { return s.open(t, nil), nil }, Only: only,
			})
		})
	}
}

// The same suite on an access point of yours, whose regions it makes active and
// passive: HOLDFAST_AWS_MRAP is its ARN, HOLDFAST_AWS_MRAP_REGIONS are regions of
// its buckets, with commas.
func TestAWS(t *testing.T) {
	arn := os.Getenv("HOLDFAST_AWS_MRAP")
	if arn == "" {
		t.Skip("HOLDFAST_AWS_MRAP names no access point")
	}
	open := func() (provider.TrafficSwitch, error) {
		return mrap.Open(t.Context(), mrap.Config{ARN: arn, Regions: strings.Split(os.Getenv("HOLDFAST_AWS_MRAP_REGIONS"), ",")})
	}
	providertest.TestTrafficSwitch(t, func(t *testing.T) provider.TrafficSwitch {
		a, err := open()
		if err != nil {
			t.Fatal(err)
		}
		return a
	}, providertest.TrafficOptions{Second: open})
}

// The requests of a switch, to the letter: all regions in one.
func TestRequests(t *testing.T) {
	s := newService(t)
	a := s.open(t, nil)
	s.set(map[string]int{"us-east-1": 100, "sa-east-1": 100})
	if err := a.Switch(t.Context(), state("us-east-1"), state("eu-west-1")); err != nil {
		t.Fatal(err)
	}
	route := func(region, dial string) string {
		return "<Route><Region>" + region + "</Region><TrafficDialPercentage>" + dial + "</TrafficDialPercentage></Route>"
	}
	want := `<SubmitMultiRegionAccessPointRoutesRequest xmlns="` + xmlns + `"><RouteUpdates>` +
		route("eu-west-1", "100") + route("us-east-1", "0") + route("us-west-2", "0") + `</RouteUpdates></SubmitMultiRegionAccessPointRoutesRequest>`
	sent := s.Seen("PATCH")
	if len(sent) != 1 || string(sent[0].Content) != want {
		t.Errorf("%d requests; sent\n%s\nwant\n%s", len(sent), sent[0].Content, want)
	}
	if s.dials["sa-east-1"] != 100 {
		t.Error("a region that is not the switch's was changed")
	}
	if err := a.Switch(t.Context(), state("us-east-1"), state("eu-west-1")); err != nil || len(s.Seen("PATCH")) != 1 {
		t.Errorf("again: %v", err)
	}
}

// Without an Endpoint the requests go to the regions that serve routes, in the
// name of the account.
func TestRegions(t *testing.T) {
	a, err := mrap.Open(t.Context(), mrap.Config{ARN: arn, Regions: []string{"us-west-2", "us-east-1"}})
	if err != nil {
		t.Fatal(err)
	}
	var regions []string
	for _, e := range a.Traits().Endpoints {
		regions = append(regions, e.Region)
		if e.URL != "https://123456789012.s3-control."+e.Region+".amazonaws.com" || !e.DataPlane {
			t.Errorf("%+v", e)
		}
	}
	slices.Sort(regions)
	if want := []string{"ap-northeast-1", "ap-southeast-2", "eu-west-1", "us-east-1", "us-west-2"}; !slices.Equal(regions, want) || a.Traits().Compared || a.Traits().Marked {
		t.Errorf("%+v", a.Traits())
	}
	s := newService(t)
	for range 80 {
		if _, err := s.open(t, nil).State(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	asked := map[string]bool{}
	for _, r := range s.Seen("GET") {
		asked[r.Region()] = true
	}
	if len(asked) != 5 {
		t.Errorf("asked are %v", asked)
	}
}

// down applies a rule to all regions but the last.
func down(rule wire.Rule) wire.Rule {
	return func(r *wire.Request, next func() (*http.Response, error)) (*http.Response, error) {
		if r.Region() == "eu-west-1" {
			return next()
		}
		return rule(r, next)
	}
}

// A region that cannot do it is passed over, whatever it says or does not.
func TestNextRegion(t *testing.T) {
	for name, rule := range map[string]wire.Rule{
		"throttled":   refusal(http.StatusServiceUnavailable, "SlowDown", "Reduce your request rate"),
		"429":         refusal(http.StatusTooManyRequests, "TooManyRequests", "slow down"),
		"broken":      refusal(http.StatusInternalServerError, "InternalError", "oops"),
		"unavailable": wire.Answers(http.StatusServiceUnavailable, "text/html", "<html>"),
		"cut":         wire.Cut,
		"silent":      wire.Hole,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newService(t)
			a := s.open(t, func(c *mrap.Config) { c.Timeout = 300 * time.Millisecond })
			a.Begin(0)
			s.Add(down(rule))
			if now, err := a.State(t.Context()); err != nil || !slices.Equal(now.Sites, []string{"us-east-1"}) {
				t.Fatalf("%+v, %v", now, err)
			}
			a.Begin(3)
			if err := a.Switch(t.Context(), state("us-east-1"), state("eu-west-1")); err != nil {
				t.Error(err)
			}
		})
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

func TestLostReply(t *testing.T) {
	t.Parallel()
	s := newService(t)
	a := s.open(t, nil)
	lost, done := wire.First(1, "PATCH", wire.Lost)
	s.Add(lost)
	if err := a.Switch(t.Context(), state("us-east-1"), state("eu-west-1")); err != nil || done.Load() != 1 || len(s.Seen("PATCH")) != 1 {
		t.Errorf("%v, %d lost, %d sent", err, done.Load(), len(s.Seen("PATCH")))
	}
	// Lost, and moved on by somebody else.
	s.Clear()
	lost, _ = wire.First(1, "PATCH", func(r *wire.Request, next func() (*http.Response, error)) (*http.Response, error) {
		answer, err := wire.Lost(r, next)
		s.set(map[string]int{"us-west-2": 100})
		return answer, err
	})
	s.Add(lost)
	isUnknown(t, a.Switch(t.Context(), state("eu-west-1"), state("us-east-1")))
	// Lost, and then the credential is no longer good.
	s.Clear()
	lost, _ = wire.First(1, "PATCH", func(r *wire.Request, next func() (*http.Response, error)) (*http.Response, error) {
		answer, err := wire.Lost(r, next)
		s.Add(refusal(http.StatusForbidden, "AccessDenied", "not any more"))
		return answer, err
	})
	s.Add(lost)
	isUnknown(t, a.Switch(t.Context(), state("us-west-2"), state("us-east-1")))
}

// That one region must be active is S3's rule, and no conflict.
func TestLastRegion(t *testing.T) {
	t.Parallel()
	s := newService(t)
	a := s.open(t, nil)
	err := a.Switch(t.Context(), state("us-east-1"), state())
	if !errors.Is(err, provider.ErrRefused) || errors.Is(err, provider.ErrConflict) || !strings.Contains(err.Error(), "At least one Region") {
		t.Errorf("%v", err)
	}
	// Where a region of others is active, all of the switch can be passive.
	s.set(map[string]int{"us-east-1": 100, "sa-east-1": 100})
	if err := a.Switch(t.Context(), state("us-east-1"), state()); err != nil {
		t.Error(err)
	}
	// Any other request that is invalid is not taken for that rule.
	other, _ := wire.First(1, "PATCH", refusal(http.StatusBadRequest, "InvalidRequest", "something else"))
	s.Add(other)
	if err := a.Switch(t.Context(), state(), state("us-east-1")); err == nil || errors.Is(err, provider.ErrRefused) {
		t.Errorf("%v", err)
	}
}

// What is neither all nor nothing, and what is not there, is no state.
func TestNoState(t *testing.T) {
	s := newService(t)
	s.set(map[string]int{"us-east-1": 50, "eu-west-1": 100})
	if _, err := s.open(t, nil).State(t.Context()); err == nil || !strings.Contains(err.Error(), "50 %") {
		t.Errorf("%v", err)
	}
	a := s.open(t, func(c *mrap.Config) { c.Regions = []string{"eu-west-1", "af-south-1"} })
	if _, err := a.State(t.Context()); err == nil || errors.Is(err, provider.ErrNotFound) || !strings.Contains(err.Error(), "af-south-1") {
		t.Errorf("%v", err)
	}
	s.Add(refusal(http.StatusNotFound, "NoSuchMultiRegionAccessPoint", "gone"))
	if _, err := a.State(t.Context()); err == nil || errors.Is(err, provider.ErrNotFound) {
		t.Errorf("%v", err)
	}
	s.Clear()
	s.Add(refusal(http.StatusForbidden, "AccessDenied", "no"))
	if _, err := a.State(t.Context()); !errors.Is(err, fs.ErrPermission) || len(s.Seen("")) != 1 {
		t.Errorf("%v after %d", err, len(s.Seen("")))
	}
}

// A change that is taken and not seen is waited for, and not believed.
func TestNotSeen(t *testing.T) {
	t.Parallel()
	s := newService(t)
	a := s.open(t, nil)
	s.lag = 1000
	isUnknown(t, a.Switch(t.Context(), state("us-east-1"), state("eu-west-1")))
	s.set(map[string]int{"us-east-1": 100})
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	err := a.Switch(ctx, state("us-east-1"), state("eu-west-1"))
	isUnknown(t, err)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
	s.Add(wire.Hole)
	ctx, cancel = context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := a.State(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
}

func TestOpenRefuses(t *testing.T) {
	for name, change := range map[string]func(*mrap.Config){
		"Config.ARN":           func(c *mrap.Config) { c.ARN = "arn:aws:s3:::bucket" },
		"at least two":         func(c *mrap.Config) { c.Regions = []string{"us-east-1"} },
		"there twice":          func(c *mrap.Config) { c.Regions = []string{"us-east-1", "us-east-1"} },
		"Regions: \"Oregon\"":  func(c *mrap.Config) { c.Regions = []string{"us-east-1", "Oregon"} },
		"Ask: \"Ohio\"":        func(c *mrap.Config) { c.Ask = []string{"Ohio"} },
		"Config.Timeout":       func(c *mrap.Config) { c.Timeout = -1 },
		"Config.Endpoint":      func(c *mrap.Config) { c.Endpoint = "ftp://x" },
		"Config.CA":            func(c *mrap.Config) { c.CA = []byte("x") },
		"has a user or passwo": func(c *mrap.Config) { c.Endpoint = "https://u:hunter2@x" },
	} {
		c := mrap.Config{ARN: arn, Regions: []string{"us-east-1", "us-west-2"}}
		change(&c)
		if _, err := mrap.Open(t.Context(), c); err == nil || !strings.Contains(err.Error(), name) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
