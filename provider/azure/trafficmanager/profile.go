package trafficmanager

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/trafficmanager/armtrafficmanager"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/azure/internal/conn"
	"github.com/holdfast-go/holdfast/provider/internal/remote/traffic"
)

// markTag is the tag of the profile that holds the mark: "owner=shop epoch=7".
const markTag = "holdfast-traffic"

// A held profile is what the service says, as the SDK understands it and as it
// came.
type held struct {
	armtrafficmanager.Profile
	body []byte
}

func (p *Profile) get(ctx context.Context) (held, error) {
	var answer *http.Response
	out, err := p.reader.Get(policy.WithCaptureResponse(ctx, &answer), p.group, p.name, nil)
	if err != nil {
		return held{}, conn.Answered(err)
	}
	body, err := runtime.Payload(answer)
	return held{out.Profile, body}, err
}

// complete says whether the profile can be put as it was got. What a newer
// version of the service adds, the SDK would leave out, and so remove.
func (h held) complete() error {
	var came, goes any
	again, err := json.Marshal(h.Profile)
	if err == nil {
		err = errors.Join(json.Unmarshal(h.body, &came), json.Unmarshal(again, &goes))
	}
	if err != nil {
		return fmt.Errorf("the profile is not understood: %w", err)
	}
	if field := left(came, goes, ""); field != "" {
		return fmt.Errorf("the profile has %s, which would be lost: %w", field, errors.ErrUnsupported)
	}
	return nil
}

// left names something that is in a and not in b, or is empty.
func left(a, b any, at string) string {
	switch a := a.(type) {
	case map[string]any:
		fields, _ := b.(map[string]any)
		for _, k := range slices.Sorted(maps.Keys(a)) {
			if a[k] == nil {
				continue
			}
			if field := left(a[k], fields[k], at+"."+k); field != "" {
				return field
			}
		}
	case []any:
		items, _ := b.([]any)
		for i := range a {
			if i >= len(items) {
				return at[1:]
			}
			if field := left(a[i], items[i], at+"["+strconv.Itoa(i)+"]"); field != "" {
				return field
			}
		}
	default:
		if a != b {
			return at[1:]
		}
	}
	return ""
}

// stateOf reads the state of the sites in a profile.
func stateOf(p armtrafficmanager.Profile, sites []string) (provider.TrafficState, error) {
	if p.Properties == nil {
		return provider.TrafficState{}, errors.New("the profile has no properties")
	}
	if s := p.Properties.ProfileStatus; s == nil || *s != armtrafficmanager.ProfileStatusEnabled {
		return provider.TrafficState{}, errors.New("the profile is disabled: it answers for no endpoint")
	}
	state := provider.TrafficState{}
	for _, site := range sites {
		i := slices.IndexFunc(p.Properties.Endpoints, named(site))
		if i < 0 || p.Properties.Endpoints[i].Properties == nil || p.Properties.Endpoints[i].Properties.EndpointStatus == nil {
			return provider.TrafficState{}, fmt.Errorf("the profile has no endpoint %q, or does not say its status", site)
		}
		switch status := *p.Properties.Endpoints[i].Properties.EndpointStatus; status {
		case armtrafficmanager.EndpointStatusEnabled:
			state.Sites = append(state.Sites, site)
		case armtrafficmanager.EndpointStatusDisabled:
		default:
			return provider.TrafficState{}, fmt.Errorf("endpoint %q is %q, neither enabled nor disabled", site, status)
		}
	}
	if tag := p.Tags[markTag]; tag != nil {
		owner, epoch, ok := strings.Cut(strings.TrimPrefix(*tag, "owner="), " epoch=")
		n, err := strconv.ParseUint(epoch, 10, 64)
		state.Mark = provider.TrafficMark{Owner: owner, Epoch: n}
		if !ok || err != nil || !traffic.ValidOwner(owner) || *tag != markText(state.Mark) {
			return provider.TrafficState{}, fmt.Errorf("tag %s of the profile is %q, which is no mark", markTag, *tag)
		}
	}
	return state, nil
}

func named(site string) func(*armtrafficmanager.Endpoint) bool {
	return func(e *armtrafficmanager.Endpoint) bool {
		return e != nil && e.Name != nil && strings.EqualFold(*e.Name, site)
	}
}

func markText(m provider.TrafficMark) string {
	return fmt.Sprintf("owner=%s epoch=%d", m.Owner, m.Epoch)
}

// changed is the profile p in the state to. It shares nothing that it changes.
func changed(p armtrafficmanager.Profile, to provider.TrafficState, sites []string) armtrafficmanager.Profile {
	p.Tags = maps.Clone(p.Tags)
	delete(p.Tags, markTag)
	if to.Mark != (provider.TrafficMark{}) {
		if p.Tags == nil {
			p.Tags = map[string]*string{}
		}
		text := markText(to.Mark)
		p.Tags[markTag] = &text
	}
	properties := *p.Properties
	properties.Endpoints = slices.Clone(properties.Endpoints)
	for _, site := range sites {
		i := slices.IndexFunc(properties.Endpoints, named(site))
		endpoint := *properties.Endpoints[i]
		inner := *endpoint.Properties
		status := armtrafficmanager.EndpointStatusDisabled
		if slices.Contains(to.Sites, site) {
			status = armtrafficmanager.EndpointStatusEnabled
		}
		inner.EndpointStatus = &status
		endpoint.Properties = &inner
		properties.Endpoints[i] = &endpoint
	}
	p.Properties = &properties
	return p
}
