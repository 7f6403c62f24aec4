// Package trafficmanager enables and disables endpoints of a profile of Azure
// Traffic Manager: a [provider.TrafficSwitch].
//
//	profile, err := trafficmanager.Open(ctx, trafficmanager.Config{
//		Profile:   "/subscriptions/S/resourceGroups/G/providers/Microsoft.Network/trafficManagerProfiles/shop",
//		Endpoints: []string{"east", "west"},
//	})
//	now, err := profile.State(ctx)
//	err = profile.Switch(ctx, now, provider.TrafficState{Sites: []string{"west"}, Mark: provider.TrafficMark{Owner: "shop", Epoch: 17}})
//
// An endpoint that is enabled takes part in the profile's routing method, if its
// probes say that it is well; so with the method Priority, and all enabled, the
// first that is well has all traffic. One that is disabled has none. Clients
// follow when what they have cached is over: the TTL of the profile. A profile
// that is itself disabled is no state.
//
// # No data plane
//
// Traffic Manager answers queries from everywhere, but takes changes by the
// Resource Manager, which is a control plane: [provider.TrafficEndpoint].DataPlane
// is false. For a failover that must not depend on it, let the probes decide: an
// endpoint whose probe is answered only while its site is in charge is switched by
// what answers.
//
// # How a switch is made
//
// A Switch gets the profile, and puts it as it is but for the endpoints of the
// switch and its mark, so that all of them change in one step. The mark is the tag
// "holdfast-traffic" of the profile, "owner=shop epoch=17". The API has no ETag
// and no condition: [provider.TrafficTraits].Compared is false, and of callers that
// race the last one stays. What somebody else edits in the moment between get
// and put is overwritten with what it was; edit profiles with other tools while no
// failover runs. A profile with a field that the SDK does not know, and would so
// remove, is errors.ErrUnsupported, and is not put.
//
// A put whose reply was lost is not sent again before the profile has been read;
// only the answer that the service is too busy is. After a put the profile is read
// until it shows it, for half a minute at most. A lock on the profile is
// [provider.ErrRefused].
//
// # What the credential must be allowed
//
// Microsoft.Network/trafficManagerProfiles/read and
// Microsoft.Network/trafficManagerProfiles/write on the profile. The role Traffic
// Manager Contributor has them.
//
// # What is not proven
//
// The suite runs on the SDK's fake server, and the request of a switch is asserted
// to the letter. Not seen on Azure: that what a get returns, such as the monitoring
// status, is taken by a put; whether a get sees a put at once (it is waited for).
// The same suite runs on a profile of yours, enables and disables its endpoints,
// and puts them back:
//
//	HOLDFAST_AZURE_TRAFFIC_PROFILE=/subscriptions/S/resourceGroups/G/providers/Microsoft.Network/trafficManagerProfiles/shop \
//		HOLDFAST_AZURE_TRAFFIC_ENDPOINTS=east,west go test ./provider/azure/trafficmanager -run TestAzure -v
package trafficmanager
