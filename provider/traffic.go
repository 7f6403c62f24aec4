package provider

import (
	"context"
	"errors"
)

// ErrRefused: a rule of the service itself forbids what was asked, such as a
// safety rule that some site has to receive traffic. Nothing was changed, and
// nothing will until the rule is, by a person.
var ErrRefused = errors.New("refused by a rule of the service")

// A TrafficState says which sites receive traffic, and who has said so.
type TrafficState struct {
	// Sites receive traffic; all others of the switch do not. In ascending
	// order, none twice; empty means none does.
	Sites []string

	// Mark is zero if the state was set without one, and always where
	// [TrafficTraits].Marked is false.
	Mark TrafficMark
}

// A TrafficMark says on whose behalf traffic was moved.
type TrafficMark struct {
	Owner string // [a-z0-9-], 1 to 63 characters
	Epoch uint64 // of the owner's lease
}

// A TrafficEndpoint is a place where a service takes the calls of a switch.
type TrafficEndpoint struct {
	URL    string // without anything secret
	Region string // that it stands in, as the cloud calls it; empty if in none in particular

	// DataPlane: it is built to work while a region's control plane does
	// not. Of an endpoint without it, nobody has promised that it can be
	// reached in the hour of a failover.
	DataPlane bool
}

// TrafficTraits are what a [TrafficSwitch] says of itself.
type TrafficTraits struct {
	Sites []string // all that it can open and close, in ascending order; at least two

	// Compared: the service itself refuses a change if the state is no longer
	// what was looked at, so that of racing calls of Switch from one state
	// exactly one wins. Without it a switch can only look and then write: more
	// than one may succeed, of which the last to write stays.
	Compared bool

	// Marked: the service holds a [TrafficMark] and changes it together with
	// the sites.
	Marked bool

	// Endpoints are what the calls are sent to, at least one.
	Endpoints []TrafficEndpoint
}

// A TrafficSwitch opens and closes sites (cells, regions) to the traffic of a
// service that clients reach by one name, without a change of that name: a
// routing control, the routes of an access point, a routing policy. It is safe
// for concurrent use.
//
// That a call has returned means that the service has the change, not that
// every client follows it: health checks, caches and open connections take
// their time, which is the service's.
type TrafficSwitch interface {
	// State reads which sites receive traffic from the service, not from a
	// cache: it sees every Switch that has returned. What no TrafficState can
	// say, such as a weight between all and nothing, or a site that the
	// service does not have, is an error.
	State(ctx context.Context) (TrafficState, error)

	// Switch moves traffic from one exact state to another. All sites change
	// in one step or none does, the mark included, and nothing else of the
	// service changes. If the state is to already, it writes nothing and
	// returns nil; if it is neither from nor to, it writes nothing and
	// returns [ErrConflict]. See [TrafficTraits].Compared for calls that
	// race: whoever wins, the state is exactly what one of them wanted.
	//
	// A state that is not well formed, or has sites that are not the
	// switch's, is an error before anything is asked. A mark is
	// [errors.ErrUnsupported] where Marked is false; a zero mark in to removes
	// the one that is there. What a rule of the service forbids is
	// [ErrRefused], and nothing was changed.
	//
	// A lost reply is resolved by reading. Where that does not tell, and where
	// a service takes the change and does not show it in time, the error is
	// none of this package's: the outcome is unknown.
	Switch(ctx context.Context, from, to TrafficState) error

	// Traits asks nobody, and always says the same.
	Traits() TrafficTraits
}
