package trafficmanager

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/trafficmanager/armtrafficmanager"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/azure/internal/conn"
	"github.com/holdfast-go/holdfast/provider/internal/remote/traffic"
)

// Config says which profile, and how Azure is reached. Required are Profile and
// Endpoints.
type Config struct {
	// Profile is the resource ID of the profile:
	// "/subscriptions/S/resourceGroups/G/providers/Microsoft.Network/trafficManagerProfiles/shop".
	Profile string

	// Endpoints are the names of those that the switch enables and disables:
	// they are its sites. Others of the profile stay as they are.
	Endpoints []string

	// Credential gets tokens of Microsoft Entra ID. Nil means the standard
	// chain of azidentity: environment, workload identity, managed identity,
	// and the developer tools.
	Credential azcore.TokenCredential

	// Cloud is where the Resource Manager is; the zero value is the public
	// cloud.
	Cloud cloud.Configuration

	// CA is a list of certificates in PEM that are trusted in place of the
	// system's. Empty means the system's.
	CA []byte

	// Attempts is how often a question is asked before it fails; 0 means 5.
	// Between them the client waits ever longer, or as long as the service
	// asks with Retry-After, if that is no more than a minute. A change is
	// sent again after a look only, or if the service was too busy to take it.
	Attempts int
}

// settle is how long the Resource Manager may take to say what it has taken:
// it keeps copies in many regions.
const settle = 30 * time.Second

// writes is how often a change is sent at most.
const writes = 4

// Profile is a profile of Traffic Manager as a [provider.TrafficSwitch]. It is
// safe for concurrent use.
type Profile struct {
	service        *traffic.Service
	reader, writer *armtrafficmanager.ProfilesClient
	group, name    string
}

var _ provider.TrafficSwitch = (*Profile)(nil)

// Open returns the profile of c. It reads what the environment says of
// credentials and makes no request.
func Open(ctx context.Context, c Config) (*Profile, error) { return open(ctx, c, nil) }

func open(ctx context.Context, c Config, transport policy.Transporter) (*Profile, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	var errs []error
	fault := func(field, format string, args ...any) {
		errs = append(errs, conn.Fault("trafficmanager", field, format, args...))
	}
	reached := conn.Config{Credential: c.Credential, Cloud: c.Cloud, CA: c.CA, Attempts: c.Attempts, Transport: transport}
	reached.Complete(fault)
	m := profileID.FindStringSubmatch(c.Profile)
	if m == nil {
		fault("Profile", "%q is not the resource ID of a profile of Traffic Manager", c.Profile)
	}
	sites := traffic.CheckSites(c.Endpoints, func(format string, args ...any) { fault("Endpoints", format, args...) })
	for i := 1; i < len(sites); i++ {
		for _, other := range sites[:i] {
			if sites[i] != other && strings.EqualFold(sites[i], other) {
				fault("Endpoints", "%q and %q are one name to Azure", other, sites[i])
			}
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	token, err := reached.Token()
	if err != nil {
		return nil, fmt.Errorf("trafficmanager: %w", err)
	}
	p := &Profile{group: m[2], name: m[3]}
	if p.reader, err = armtrafficmanager.NewProfilesClient(m[1], token, reached.ARM()); err != nil {
		return nil, fmt.Errorf("trafficmanager: %w", err)
	}
	once := reached.ARM()
	once.Retry.ShouldRetry = func(resp *http.Response, _ error) bool {
		return resp != nil && resp.StatusCode == http.StatusTooManyRequests
	}
	if p.writer, err = armtrafficmanager.NewProfilesClient(m[1], token, once); err != nil {
		return nil, fmt.Errorf("trafficmanager: %w", err)
	}
	where := c.Cloud.Services[cloud.ResourceManager].Endpoint
	if where == "" {
		where = cloud.AzurePublic.Services[cloud.ResourceManager].Endpoint
	}
	p.service = &traffic.Service{
		Name: "trafficmanager", Key: m[2] + "/" + m[3],
		Traits: provider.TrafficTraits{Sites: sites, Marked: true, Endpoints: []provider.TrafficEndpoint{{URL: where}}},
		Read:   p.read, Write: p.write, Meaning: conn.Permission, Writes: writes, Settle: settle,
	}
	return p, nil
}

var profileID = regexp.MustCompile(`(?i)^/subscriptions/([0-9a-z-]+)/resourceGroups/([^/]+)/providers/Microsoft\.Network/trafficManagerProfiles/([0-9a-z-]+)$`)

// State implements [provider.TrafficSwitch].
func (p *Profile) State(ctx context.Context) (provider.TrafficState, error) {
	return p.service.State(ctx)
}

// Switch implements [provider.TrafficSwitch].
func (p *Profile) Switch(ctx context.Context, from, to provider.TrafficState) error {
	return p.service.Switch(ctx, from, to)
}

// Traits implements [provider.TrafficSwitch].
func (p *Profile) Traits() provider.TrafficTraits { return traffic.Clone(p.service.Traits) }

func (p *Profile) read(ctx context.Context) (provider.TrafficState, error) {
	held, err := p.get(ctx)
	if err != nil {
		return provider.TrafficState{}, err
	}
	return stateOf(held.Profile, p.service.Traits.Sites)
}

// write puts the whole profile as it is but for the switch, so that all
// endpoints and the mark change in one step.
func (p *Profile) write(ctx context.Context, from, to provider.TrafficState) (traffic.Outcome, error) {
	held, err := p.get(ctx)
	if err != nil {
		return traffic.Failed, err
	}
	now, err := stateOf(held.Profile, p.service.Traits.Sites)
	switch {
	case err != nil:
		return traffic.Failed, err
	case !traffic.Equal(now, from): // the caller looks again
		return traffic.Busy, errors.New("the profile is being changed by others")
	}
	if err := held.complete(); err != nil {
		return traffic.Failed, err
	}
	var tries conn.Attempts
	_, err = p.writer.CreateOrUpdate(tries.In(ctx), p.group, p.name, changed(held.Profile, to, p.service.Traits.Sites), nil)
	switch {
	case err == nil:
		return traffic.Done, nil
	case tries.Unanswered():
		return traffic.Lost, conn.Answered(err)
	case conn.StatusOf(err) == http.StatusConflict:
		return traffic.Refused, conn.Answered(err) // a lock, or another change is under way
	}
	return traffic.Failed, conn.Answered(err)
}
