package local

import (
	"context"
	"log/slog"
	"net/netip"
)

// DNSServerConfig says what a [DNSServer] serves, and where.
type DNSServerConfig struct {
	Zone string // "example.test."; required
	Dir  string // holds the zone file; created if missing; required
	Addr string // "host:port" for UDP and TCP; empty means "127.0.0.1:0"

	// Nameserver is the host name in the zone's SOA and NS records; empty
	// means "ns." in front of Zone. NameserverAddrs become its address
	// records if it lies in the zone; empty means the IP of Addr. Both are
	// used when the zone is made, not afterwards.
	Nameserver      string
	NameserverAddrs []netip.Addr

	// Keys may update the zone. None means that nobody may.
	Keys []DNSKey

	Logger *slog.Logger // gets updates, taken and refused; nil discards
}

// DNSKey is a TSIG key (RFC 8945) for hmac-sha256.
type DNSKey struct {
	Name   string // a domain name, e.g. "holdfast."
	Secret string // base64
}

// DNSServer is an authoritative name server for one zone, which takes DNS
// UPDATE (RFC 2136).
type DNSServer struct{ c DNSServerConfig }

// NewDNSServer opens the zone in c.Dir, or makes it, and binds the sockets.
// The caller calls Serve, or Close if it does not come to that.
func NewDNSServer(c DNSServerConfig) (*DNSServer, error) { panic("local: not yet") }

// Addr is the "host:port" on which the server takes UDP and TCP.
func (s *DNSServer) Addr() string { panic("local: not yet") }

// Serve answers until ctx is done, then closes the server and returns nil.
func (s *DNSServer) Serve(ctx context.Context) error { panic("local: not yet") }

// Close releases the sockets and the zone.
func (s *DNSServer) Close() error { panic("local: not yet") }
