package provider

import (
	"context"
	"time"
)

// A RecordSet is all records of one name and type (an RRset, RFC 9499
// section 5).
type RecordSet struct {
	Name string        // absolute, lower case, with the final dot
	Type string        // "A", "AAAA", "CNAME", "TXT"; more where the provider takes them, else errors.ErrUnsupported
	TTL  time.Duration // whole seconds

	// Values are the data in presentation form, at least one, none twice, in
	// ascending order. Addresses are in canonical form (RFC 5952), host names
	// like Name. Of a TXT record it is the text itself, printable ASCII of
	// any length, without quotes, escapes and division into strings.
	Values []string
}

// Change replaces a record set. Old nil means there must be none; New nil
// removes it. Where both are given they have the same Name and Type. Both
// alike change nothing, if the zone holds that.
type Change struct {
	Old *RecordSet
	New *RecordSet
}

// Atomicity says what a provider's Swap applies as a whole.
type Atomicity string

const (
	// ZoneAtomic: all changes of one Swap are applied or none, provided they
	// are in one zone.
	ZoneAtomic Atomicity = "zone"
	// RecordSetAtomic: each record set by itself. A Swap of several changes
	// is refused with errors.ErrUnsupported.
	RecordSetAtomic Atomicity = "record set"
	// NotAtomic: nothing. The provider can only look and then write, so that
	// of racing swaps more than one may succeed, of which the last to write
	// stays. All else holds. A Swap of several changes is refused with
	// errors.ErrUnsupported.
	NotAtomic Atomicity = "none"
)

// A ChangeRef follows a Swap to the authoritative servers.
type ChangeRef string

// ChangeStatus says how far a Swap has come.
type ChangeStatus string

const (
	ChangePending ChangeStatus = "pending" // accepted, not yet served everywhere
	ChangeInSync  ChangeStatus = "insync"  // every authoritative server of the provider serves it
)

// A DNSProvider edits a zone by compare-and-swap, so that two orchestrators
// can never overwrite each other unseen. It is safe for concurrent use. A
// name outside of its zones is an error, and never [ErrNotFound]. So is one that
// a zone delegates: what is written there is told to nobody.
type DNSProvider interface {
	// Get reads a record set from the provider, not from a cache: it sees
	// every Swap that has returned. [ErrNotFound] if the name has no records
	// of that type.
	Get(ctx context.Context, name, typ string) (RecordSet, error)

	// Swap applies changes if the zone holds exactly every Old: same TTL,
	// same values. Otherwise it changes nothing and returns [ErrConflict].
	// Racing swaps from one state have exactly one winner, unless Atomicity is
	// [NotAtomic]; swaps of different record sets do not disturb each other,
	// and no other record set changes.
	// When it returns nil, the change is durable at the provider.
	//
	// Changes that are not well formed, none at all, two of one record set,
	// or what DNS forbids (a CNAME beside other records) are an error before
	// anything is changed.
	Swap(ctx context.Context, changes ...Change) (ChangeRef, error)

	// Status follows a Swap. [ErrNotFound] if ref is none of this provider.
	Status(ctx context.Context, ref ChangeRef) (ChangeStatus, error)

	// Atomicity says what one Swap applies as a whole.
	Atomicity() Atomicity
}
