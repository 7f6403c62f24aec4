package mrap

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3control"
	"github.com/aws/aws-sdk-go-v2/service/s3control/types"
	smithyendpoints "github.com/aws/smithy-go/endpoints"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/aws/internal/conn"
	"github.com/holdfast-go/holdfast/provider/internal/remote/traffic"
)

// Config says which access point, and how S3 is reached. Required are ARN and
// Regions.
type Config struct {
	// ARN of the Multi-Region Access Point:
	// "arn:aws:s3::111122223333:accesspoint/mfzwi23gnjvgw.mrap".
	ARN string

	// Regions of its buckets that the switch opens and closes: they are its
	// sites. What it has in other regions stays as it is.
	Regions []string

	// Ask are the regions whose endpoints are asked. Empty means the five that
	// serve routes: us-east-1, us-west-2, ap-southeast-2, ap-northeast-1 and
	// eu-west-1.
	Ask []string

	// Endpoint is the URL of a service other than AWS's own, for all regions.
	// Empty means AWS.
	Endpoint string

	// Credentials sign the requests. Nil means the standard chain: environment,
	// shared files, web identity, container and instance roles. Those that
	// are fetched from a region are gone with it.
	Credentials aws.CredentialsProvider

	// CA is a list of certificates in PEM that are trusted in place of the
	// system's. Empty means the system's.
	CA []byte

	// Timeout is how long one region may take to answer before the next one is
	// asked; 0 means 10 seconds.
	Timeout time.Duration
}

const (
	defaultTimeout = 10 * time.Second

	// settle is how long a change of routes may take to be seen, which S3
	// says is two minutes at most.
	settle = 3 * time.Minute
)

// serving are the regions that have the infrastructure for failover.
var serving = []string{"us-east-1", "us-west-2", "ap-southeast-2", "ap-northeast-1", "eu-west-1"}

// AccessPoint is a Multi-Region Access Point as a [provider.TrafficSwitch]. It
// is safe for concurrent use.
type AccessPoint struct {
	service *traffic.Service
	turns   *conn.Turns
	clients []*s3control.Client // one for each region to ask
	c       Config
	account string
}

var _ provider.TrafficSwitch = (*AccessPoint)(nil)

// Open returns the access point of c. It reads the configuration of the
// environment and makes no request.
func Open(ctx context.Context, c Config) (*AccessPoint, error) {
	var errs []error
	fault := func(field, format string, args ...any) {
		errs = append(errs, conn.Fault("mrap", field, format, args...))
	}
	m := accessPointARN.FindStringSubmatch(c.ARN)
	if m == nil {
		fault("ARN", "%q is not the ARN of a Multi-Region Access Point", c.ARN)
	}
	sites := traffic.CheckSites(c.Regions, func(format string, args ...any) { fault("Regions", format, args...) })
	if len(c.Ask) == 0 {
		c.Ask = serving
	}
	for field, regions := range map[string][]string{"Regions": sites, "Ask": c.Ask} {
		for _, r := range regions {
			if !regionName.MatchString(r) {
				fault(field, "%q is not the name of a region", r)
			}
		}
	}
	if c.Timeout == 0 {
		c.Timeout = defaultTimeout
	}
	if c.Timeout < 0 {
		fault("Timeout", "%v is negative", c.Timeout)
	}
	// One attempt in a region: the next one is in another.
	reached := conn.Config{Endpoint: c.Endpoint, Credentials: c.Credentials, CA: c.CA, Attempts: 1, Region: c.Ask[0], Answer: c.Timeout}
	reached.Complete(fault)
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	loaded, err := reached.Load(ctx)
	if err != nil {
		return nil, fmt.Errorf("mrap: %w", err)
	}
	a := &AccessPoint{c: c, account: m[1], turns: conn.NewTurns(len(c.Ask), loaded.Retryer())}
	traits := provider.TrafficTraits{Sites: sites}
	for _, region := range c.Ask {
		own := c.Endpoint
		if own == "" {
			own = "https://" + a.account + ".s3-control." + region + ".amazonaws.com"
		}
		traits.Endpoints = append(traits.Endpoints, provider.TrafficEndpoint{URL: own, Region: region, DataPlane: true})
		a.clients = append(a.clients, s3control.NewFromConfig(loaded, func(o *s3control.Options) {
			o.Region = region
			if c.Endpoint != "" {
				o.EndpointResolverV2 = fixed(c.Endpoint)
			}
		}))
	}
	a.service = &traffic.Service{
		Name: "mrap", Key: c.ARN, Traits: traits, Read: a.read, Write: a.write, Meaning: conn.Permission,
		Writes: 2 * len(c.Ask), Settle: settle,
	}
	return a, nil
}

var (
	accessPointARN = regexp.MustCompile(`^arn:[a-z-]+:s3::(\d{12}):accesspoint/[a-z0-9]+\.mrap$`)
	regionName     = regexp.MustCompile(`^[a-z]{2}(-[a-z]+)+-\d+$`)
)

// fixed is an endpoint as it is, without the account in front of its name.
type fixed string

// ResolveEndpoint implements [s3control.EndpointResolverV2].
func (f fixed) ResolveEndpoint(context.Context, s3control.EndpointParameters) (smithyendpoints.Endpoint, error) {
	u, err := url.Parse(string(f))
	if err != nil {
		return smithyendpoints.Endpoint{}, errors.New("endpoint: not a URL") // see Complete
	}
	return smithyendpoints.Endpoint{URI: *u}, nil
}

// State implements [provider.TrafficSwitch].
func (a *AccessPoint) State(ctx context.Context) (provider.TrafficState, error) {
	return a.service.State(ctx)
}

// Switch implements [provider.TrafficSwitch]. What it returns after is seen to
// be in effect, which may take two minutes: give ctx that long.
func (a *AccessPoint) Switch(ctx context.Context, from, to provider.TrafficState) error {
	return a.service.Switch(ctx, from, to)
}

// Traits implements [provider.TrafficSwitch].
func (a *AccessPoint) Traits() provider.TrafficTraits { return traffic.Clone(a.service.Traits) }

const (
	active  = 100
	passive = 0
)

// ask makes one request to one region.
func (a *AccessPoint) ask(ctx context.Context, i int, what string, do func(context.Context, *s3control.Client) error) error {
	ctx, cancel := context.WithTimeout(ctx, a.c.Timeout)
	defer cancel()
	if err := do(ctx, a.clients[i]); err != nil {
		return fmt.Errorf("%s at %s: %w", what, a.c.Ask[i], err)
	}
	return nil
}

func (a *AccessPoint) read(ctx context.Context) (provider.TrafficState, error) {
	var out *s3control.GetMultiRegionAccessPointRoutesOutput
	err := a.turns.Take(ctx, func(i int) error {
		return a.ask(ctx, i, "get routes", func(ctx context.Context, c *s3control.Client) (err error) {
			out, err = c.GetMultiRegionAccessPointRoutes(ctx, &s3control.GetMultiRegionAccessPointRoutesInput{AccountId: &a.account, Mrap: &a.c.ARN})
			return err
		})
	})
	if err != nil {
		return provider.TrafficState{}, err
	}
	dials := map[string]int32{}
	for _, r := range out.Routes {
		if r.Region != nil && r.TrafficDialPercentage != nil {
			dials[*r.Region] = *r.TrafficDialPercentage
		}
	}
	var state provider.TrafficState
	for _, site := range a.service.Traits.Sites {
		switch dial, ok := dials[site]; {
		case !ok:
			return provider.TrafficState{}, fmt.Errorf("the access point has no bucket in %s", site)
		case dial == active:
			state.Sites = append(state.Sites, site)
		case dial != passive:
			return provider.TrafficState{}, fmt.Errorf("%s has %d %% of the traffic that is near to it, neither all nor nothing", site, dial)
		}
	}
	return state, nil
}

// write submits the routes of all regions of the switch in one request, also
// those that are to stay as they are: whoever else writes, the outcome is what
// one of us wanted.
func (a *AccessPoint) write(ctx context.Context, _, to provider.TrafficState) (traffic.Outcome, error) {
	in := &s3control.SubmitMultiRegionAccessPointRoutesInput{AccountId: &a.account, Mrap: &a.c.ARN}
	for _, site := range a.service.Traits.Sites {
		dial := aws.Int32(passive)
		if slices.Contains(to.Sites, site) {
			dial = aws.Int32(active)
		}
		in.RouteUpdates = append(in.RouteUpdates, types.MultiRegionAccessPointRoute{Region: aws.String(site), TrafficDialPercentage: dial})
	}
	outcome := traffic.Done
	err := a.turns.Take(ctx, func(i int) error {
		err := a.ask(ctx, i, "submit routes", func(ctx context.Context, c *s3control.Client) error {
			_, err := c.SubmitMultiRegionAccessPointRoutes(ctx, in)
			return err
		})
		switch {
		case err == nil:
			outcome = traffic.Done
		case conn.CodeOf(err) == "InvalidRequest" && len(to.Sites) == 0:
			outcome = traffic.Refused // one region has to be active
		case !conn.Unsent(err) && conn.Unanswered(err):
			outcome = traffic.Lost
			return &conn.Last{Err: err}
		default:
			outcome = traffic.Failed
		}
		return err
	})
	return outcome, err
}
