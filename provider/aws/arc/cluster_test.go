package arc_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/credentials"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/aws/arc"
	"github.com/holdfast-go/holdfast/provider/aws/internal/wire"
)

const panel = "arn:aws:route53-recovery-control::123456789012:controlpanel/0123456789abcdef"

func control(site string) string {
	return panel + "/routingcontrol/" + strings.ReplaceAll(site, "-", "0")
}

var regions = []string{"us-east-1", "us-west-2", "eu-west-1", "ap-northeast-1", "ap-southeast-2"}

// service is a cluster: five endpoints, each behind a proxy of its own, of one
// state that they have agreed on. It checks signatures, and every message
// against the model of AWS.
type service struct {
	t         testing.TB
	model     *model
	endpoints []*wire.Proxy // in the order of regions

	mu      sync.Mutex
	states  map[string]string // "On" or "Off", by ARN
	atLeast int               // an assertion rule: so many are On
	most    int               // how many a call may change; 0: any
	page    int               // controls in an answer
	after   func()            // called when a change has been made
}

func newService(t testing.TB) *service {
	s := &service{t: t, model: loadModel(t), page: 2, states: map[string]string{
		control("eu-west"): "Off", control("us-east"): "On", control("us-west"): "Off", panel + "/routingcontrol/another": "On",
	}}
	backend := httptest.NewServer(s)
	t.Cleanup(backend.Close)
	for range regions {
		s.endpoints = append(s.endpoints, wire.New(t, backend.URL))
	}
	return s
}

// all adds a rule to every endpoint.
func (s *service) all(rule wire.Rule) {
	for _, e := range s.endpoints {
		e.Add(rule)
	}
}

func (s *service) clear() {
	for _, e := range s.endpoints {
		e.Clear()
	}
}

// seen are the requests of an operation to any endpoint.
func (s *service) seen(operation string) (all []*wire.Request) {
	for _, e := range s.endpoints {
		all = append(all, e.Seen(operation)...)
	}
	return all
}

// set makes exactly these sites receive traffic.
func (s *service) set(sites ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, site := range []string{"eu-west", "us-east", "us-west"} {
		s.states[control(site)] = "Off"
		if slices.Contains(sites, site) {
			s.states[control(site)] = "On"
		}
	}
}

func (s *service) config() arc.Config {
	c := arc.Config{
		Controls:    map[string]string{"eu-west": control("eu-west"), "us-east": control("us-east"), "us-west": control("us-west")},
		Credentials: credentials.NewStaticCredentialsProvider("key", "secret", "session"),
		Timeout:     10 * time.Second,
	}
	for i, e := range s.endpoints {
		c.Endpoints = append(c.Endpoints, arc.Endpoint{URL: e.URL + "/v1", Region: regions[i]})
	}
	return c
}

func (s *service) open(t testing.TB, change func(*arc.Config)) *arc.Controls {
	t.Helper()
	c := s.config()
	if change != nil {
		change(&c)
	}
	controls, err := arc.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	controls.SetSettle(700 * time.Millisecond)
	return controls
}

func (s *service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		s.t.Error(err)
	}
	operation := strings.TrimPrefix(r.Header.Get("X-Amz-Target"), s.model.Metadata.TargetPrefix+".")
	op, ok := s.model.Operations[operation]
	if !ok || r.Method != op.HTTP.Method || r.URL.Path != "/v1"+op.HTTP.RequestURI || r.Header.Get("Content-Type") != "application/x-amz-json-"+s.model.Metadata.JSONVersion {
		s.t.Errorf("%s %s %q of %q is no operation", r.Method, r.URL.Path, operation, r.Header.Get("Content-Type"))
	}
	if wrong := unsigned(r, body, s.model.Metadata.SigningName); wrong != "" {
		s.write(w, http.StatusForbidden, "AccessDeniedException", map[string]any{"message": wrong})
		return
	}
	var in map[string]any
	if err := json.Unmarshal(body, &in); err != nil {
		s.t.Error(err)
	}
	for _, fault := range s.model.check(operation, op.Input.Shape, in) {
		s.t.Errorf("request: %s", fault)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	status, code, out := http.StatusOK, "", map[string]any{}
	switch operation {
	case "ListRoutingControls":
		out = s.list(in)
	case "UpdateRoutingControlStates":
		status, code, out = s.update(in["UpdateRoutingControlStateEntries"].([]any))
	default:
		s.t.Errorf("%s is not used", operation)
	}
	checked := op.Output.Shape
	if code != "" {
		checked = code
	}
	for _, fault := range s.model.check(operation, checked, any(out)) {
		s.t.Errorf("answer: %s", fault)
	}
	s.write(w, status, code, out)
}

func (s *service) write(w http.ResponseWriter, status int, code string, out map[string]any) {
	if code != "" {
		out["__type"] = "com.amazonaws.route53recoverycluster#" + code
	}
	w.Header().Set("Content-Type", "application/x-amz-json-1.0")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(out)
}

func (s *service) list(in map[string]any) map[string]any {
	arns := []string{}
	for arn := range s.states {
		arns = append(arns, arn)
	}
	slices.Sort(arns)
	token, _ := in["NextToken"].(string)
	begin := 0
	fmt.Sscanf(token, "from-%d", &begin)
	end := min(begin+s.page, len(arns))
	out := map[string]any{}
	list := []any{}
	for _, arn := range arns[begin:end] {
		list = append(list, map[string]any{"ControlPanelArn": in["ControlPanelArn"], "ControlPanelName": "shop", "RoutingControlArn": arn,
			"RoutingControlName": arn[strings.LastIndexByte(arn, '/')+1:], "RoutingControlState": s.states[arn], "Owner": "123456789012"})
	}
	out["RoutingControls"] = list
	if end < len(arns) {
		out["NextToken"] = fmt.Sprintf("from-%d", end)
	}
	return out
}

func (s *service) update(entries []any) (status int, code string, out map[string]any) {
	next := map[string]string{}
	for arn, state := range s.states {
		next[arn] = state
	}
	for _, e := range entries {
		arn := e.(map[string]any)["RoutingControlArn"].(string)
		if _, ok := next[arn]; !ok {
			return 404, "ResourceNotFoundException", map[string]any{"message": "not found", "resourceId": arn, "resourceType": "RoutingControl"}
		}
		next[arn] = e.(map[string]any)["RoutingControlState"].(string)
	}
	if s.most > 0 && len(entries) > s.most {
		return 402, "ServiceLimitExceededException", map[string]any{"message": "too many", "limitCode": "RoutingControlStates", "serviceCode": "arc"}
	}
	open := 0
	for arn, state := range next {
		if state == "On" && arn != panel+"/routingcontrol/another" {
			open++
		}
	}
	if open < s.atLeast {
		return 409, "ConflictException", map[string]any{"message": "Cannot update routing control states: at least one of them must be On",
			"resourceId": panel + "/safetyrule/one", "resourceType": "SafetyRule"}
	}
	s.states = next
	if s.after != nil {
		s.after()
	}
	return 200, "", map[string]any{}
}

// unsigned says what is wrong with the signature of a request.
func unsigned(r *http.Request, body []byte, name string) string {
	given := r.Header.Get("Authorization")
	_, headers, _ := strings.Cut(given, "SignedHeaders=")
	headers, _, _ = strings.Cut(headers, ",")
	again, err := http.NewRequest(r.Method, "http://"+r.Host+r.URL.RequestURI(), bytes.NewReader(body))
	if err != nil {
		return err.Error()
	}
	for h := range strings.SplitSeq(headers, ";") {
		if h != "host" && h != "content-length" {
			again.Header[http.CanonicalHeaderKey(h)] = r.Header[http.CanonicalHeaderKey(h)]
		}
	}
	at, err := time.Parse("20060102T150405Z", r.Header.Get("X-Amz-Date"))
	if err != nil {
		return err.Error()
	}
	region := (&wire.Request{Request: r}).Region()
	sum := sha256.Sum256(body)
	creds := aws.Credentials{AccessKeyID: "key", SecretAccessKey: "secret", SessionToken: "session"}
	if err := v4.NewSigner().SignHTTP(r.Context(), creds, again, hex.EncodeToString(sum[:]), name, region, at); err != nil {
		return err.Error()
	}
	if got := again.Header.Get("Authorization"); got != given || !slices.Contains(regions, region) {
		return fmt.Sprintf("signature %s, want %s", given, got)
	}
	return ""
}

func state(sites ...string) provider.TrafficState { return provider.TrafficState{Sites: sites} }

func refusal(status int, code, message string) wire.Rule {
	return wire.Answers(status, "application/x-amz-json-1.0", `{"__type":"com.amazonaws.route53recoverycluster#`+code+`","message":"`+message+`"}`)
}
