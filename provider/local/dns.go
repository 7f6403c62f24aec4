package local

import (
	"context"
	"time"

	"github.com/holdfast-go/holdfast/provider"
)

// DNSConfig says where the zone's servers are and how to sign for them.
type DNSConfig struct {
	Server  string // "host:port" of the primary server; required
	Zone    string // "example.test."; required
	KeyName string // name of the TSIG key, e.g. "holdfast."; required
	Secret  string // the key itself in base64 (hmac-sha256); required

	// Secondaries are the "host:port" of further authoritative servers.
	// Status asks them too.
	Secondaries []string

	// Timeout is how long one exchange with a server may take; 0 means 5 s.
	Timeout time.Duration
}

// DNS is a [provider.DNSProvider] that edits one zone by DNS UPDATE
// (RFC 2136) signed with TSIG (RFC 8945), as [DNSServer] takes them.
type DNS struct{ c DNSConfig }

// NewDNS returns a provider for the zone of c. It does no I/O.
func NewDNS(c DNSConfig) (*DNS, error) { panic("local: not yet") }

// Get implements [provider.DNSProvider].
func (d *DNS) Get(ctx context.Context, name, typ string) (provider.RecordSet, error) {
	panic("local: not yet")
}

// Swap implements [provider.DNSProvider].
func (d *DNS) Swap(ctx context.Context, changes ...provider.Change) (provider.ChangeRef, error) {
	panic("local: not yet")
}

// Status implements [provider.DNSProvider].
func (d *DNS) Status(ctx context.Context, ref provider.ChangeRef) (provider.ChangeStatus, error) {
	panic("local: not yet")
}

// Atomicity is provider.ZoneAtomic.
func (d *DNS) Atomicity() provider.Atomicity { return provider.ZoneAtomic }

var _ provider.DNSProvider = (*DNS)(nil)
