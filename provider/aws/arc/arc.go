package arc

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/aws/internal/conn"
	"github.com/holdfast-go/holdfast/provider/internal/remote/traffic"
)

// Config says which routing controls, and how their cluster is reached.
// Required are Endpoints and Controls.
type Config struct {
	// Endpoints are those of the cluster, all five. Keep them with the
	// configuration: who asks for them in the hour of a failover (aws
	// route53-recovery-control-config describe-cluster) asks a control plane.
	Endpoints []Endpoint

	// Controls are the ARNs of routing controls of one control panel, by the
	// names of the sites that they open and close.
	Controls map[string]string

	// Credentials sign the requests. Nil means the standard chain: environment,
	// shared files, web identity, container and instance roles. Those that
	// are fetched from a region are gone with it.
	Credentials aws.CredentialsProvider

	// CA is a list of certificates in PEM that are trusted in place of the
	// system's. Empty means the system's.
	CA []byte

	// Timeout is how long one endpoint may take to answer before the next one
	// is asked; 0 means 5 seconds.
	Timeout time.Duration
}

// An Endpoint is one of a cluster, as DescribeCluster says.
type Endpoint struct {
	URL    string // "https://0123abcd.us-east-1.example.com/v1"
	Region string // "us-east-1"
}

const defaultTimeout = 5 * time.Second

// settle is how long an endpoint may take to say what another one has agreed
// to: a change is made once three of the five have it.
const settle = 30 * time.Second

// Controls are routing controls as a [provider.TrafficSwitch]. It is safe for
// concurrent use.
type Controls struct {
	service *traffic.Service
	cluster cluster
	panel   string            // ARN
	arns    map[string]string // of the controls, by site
	sites   []string
	turns   *conn.Turns
}

var _ provider.TrafficSwitch = (*Controls)(nil)

// Open returns the routing controls of c. It reads the configuration of the
// environment and makes no request.
func Open(ctx context.Context, c Config) (*Controls, error) {
	var errs []error
	fault := func(field, format string, args ...any) {
		errs = append(errs, conn.Fault("arc", field, format, args...))
	}
	if len(c.Endpoints) == 0 {
		fault("Endpoints", "empty")
	}
	s := &Controls{arns: maps.Clone(c.Controls)}
	traits := provider.TrafficTraits{}
	for _, e := range c.Endpoints {
		one := conn.Config{Endpoint: e.URL}
		one.Complete(func(_, format string, args ...any) { fault("Endpoints", e.Region+": "+format, args...) })
		if u, err := url.Parse(e.URL); e.URL == "" || err == nil && (u.RawQuery != "" || u.Fragment != "") {
			fault("Endpoints", "%s: want a URL without a query", e.Region)
		}
		if !regionName.MatchString(e.Region) {
			fault("Endpoints", "%q is not the name of a region", e.Region)
		}
		traits.Endpoints = append(traits.Endpoints, provider.TrafficEndpoint{URL: e.URL, Region: e.Region, DataPlane: true})
	}
	s.sites = traffic.CheckSites(slices.Collect(maps.Keys(c.Controls)), func(format string, args ...any) { fault("Controls", format, args...) })
	traits.Sites = s.sites
	for _, site := range s.sites {
		m := controlARN.FindStringSubmatch(c.Controls[site])
		switch {
		case m == nil:
			fault("Controls", "%s: %q is not the ARN of a routing control", site, c.Controls[site])
		case s.panel != "" && s.panel != m[1]:
			fault("Controls", "%s: in another control panel: those of a switch are in one", site)
		default:
			s.panel = m[1]
		}
	}
	if n := len(s.arns); len(slices.Compact(slices.Sorted(maps.Values(s.arns)))) < n {
		fault("Controls", "two sites have one routing control")
	}
	if c.Timeout == 0 {
		c.Timeout = defaultTimeout
	}
	if c.Timeout < 0 {
		fault("Timeout", "%v is negative", c.Timeout)
	}
	reached := conn.Config{Region: "us-west-2", Credentials: c.Credentials, CA: c.CA}
	reached.Complete(fault)
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	loaded, err := reached.Load(ctx)
	if err != nil {
		return nil, fmt.Errorf("arc: %w", err)
	}
	s.cluster = newCluster(slices.Clone(c.Endpoints), loaded, c.Timeout)
	s.turns = conn.NewTurns(len(c.Endpoints), loaded.Retryer())
	s.service = &traffic.Service{
		Name: "arc", Key: s.panel, Traits: traits, Read: s.read, Write: s.write, Meaning: conn.Permission,
		Writes: 2 * len(c.Endpoints), Settle: settle,
	}
	return s, nil
}

var (
	regionName = regexp.MustCompile(`^[a-z]{2}(-[a-z]+)+-\d+$`)
	controlARN = regexp.MustCompile(`^(arn:[a-z-]+:route53-recovery-control::\d{12}:controlpanel/[0-9A-Za-z]+)/routingcontrol/[0-9A-Za-z]+$`)
)

// State implements [provider.TrafficSwitch].
func (s *Controls) State(ctx context.Context) (provider.TrafficState, error) {
	return s.service.State(ctx)
}

// Switch implements [provider.TrafficSwitch].
func (s *Controls) Switch(ctx context.Context, from, to provider.TrafficState) error {
	return s.service.Switch(ctx, from, to)
}

// Traits implements [provider.TrafficSwitch].
func (s *Controls) Traits() provider.TrafficTraits { return traffic.Clone(s.service.Traits) }

// read asks one endpoint for all the controls of the panel.
func (s *Controls) read(ctx context.Context) (provider.TrafficState, error) {
	var held map[string]string // states by ARN
	err := s.turns.Take(ctx, func(i int) (err error) {
		held, err = s.list(ctx, s.cluster.endpoints[i])
		return err
	})
	if err != nil {
		return provider.TrafficState{}, err
	}
	var state provider.TrafficState
	for _, site := range s.sites {
		switch held[s.arns[site]] {
		case on:
			state.Sites = append(state.Sites, site)
		case off:
		case "":
			return provider.TrafficState{}, fmt.Errorf("site %s: its control panel has no routing control %s", site, s.arns[site])
		default:
			return provider.TrafficState{}, fmt.Errorf("site %s: its routing control is %q, neither %s nor %s", site, held[s.arns[site]], on, off)
		}
	}
	return state, nil
}

func (s *Controls) list(ctx context.Context, e Endpoint) (map[string]string, error) {
	held := map[string]string{}
	for in := (listRequest{ControlPanelArn: s.panel}); ; {
		var out listResponse
		if err := s.cluster.ask(ctx, e, "ListRoutingControls", in, &out); err != nil {
			return nil, err
		}
		for _, c := range out.RoutingControls {
			held[c.RoutingControlArn] = c.RoutingControlState
		}
		if in.NextToken = out.NextToken; in.NextToken == "" {
			return held, nil
		}
	}
}

// write sets all controls of the switch in one call, also those that are as
// they should be: whoever else writes, the outcome is what one of us wanted.
func (s *Controls) write(ctx context.Context, _, to provider.TrafficState) (traffic.Outcome, error) {
	var in updateRequest
	for _, site := range s.sites {
		e := entry{RoutingControlArn: s.arns[site], RoutingControlState: off}
		if slices.Contains(to.Sites, site) {
			e.RoutingControlState = on
		}
		in.Entries = append(in.Entries, e)
	}
	outcome := traffic.Done
	err := s.turns.Take(ctx, func(i int) error {
		err := s.cluster.ask(ctx, s.cluster.endpoints[i], "UpdateRoutingControlStates", in, nil)
		outcome = outcomeOf(err)
		if outcome == traffic.Lost {
			return &conn.Last{Err: err}
		}
		return err
	})
	if conn.CodeOf(err) == "ServiceLimitExceededException" {
		err = fmt.Errorf("%d routing controls are more than the cluster sets at once: %w: %w", len(in.Entries), errors.ErrUnsupported, err)
	}
	return outcome, err
}

func outcomeOf(err error) traffic.Outcome {
	switch {
	case err == nil:
		return traffic.Done
	case conn.CodeOf(err) == "ConflictException":
		return traffic.Refused // by a safety rule, or it met another change
	case !conn.Unsent(err) && conn.Unanswered(err):
		return traffic.Lost
	}
	return traffic.Failed
}
