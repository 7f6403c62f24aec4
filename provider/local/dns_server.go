package local

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
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
	Secret string // base64 of at least 16 bytes
}

// DNSServer is an authoritative name server for one zone, over UDP and TCP,
// which takes DNS UPDATE (RFC 2136) signed with TSIG (RFC 8945). An update is
// answered when it is on disk, so it survives the death of the process and of
// the machine. One process at a time serves a directory.
//
// It serves no wildcards, delegations or DNSSEC, and refuses updates that
// would need them; it transfers no zones.
type DNSServer struct {
	c     DNSServerConfig
	keys  map[string]string // base64 secrets by canonical name
	store *zoneStore
	tcp   net.Listener
	udp   net.PacketConn

	zone   atomic.Pointer[zone] // what is served
	update sync.Mutex           // one update at a time
	close  func() error
}

// NewDNSServer opens the zone in c.Dir, or makes it, and binds the sockets.
// The caller calls Serve, or Close if it does not come to that.
func NewDNSServer(c DNSServerConfig) (*DNSServer, error) {
	keys, err := checkServerConfig(&c)
	if err != nil {
		return nil, fmt.Errorf("local: dns server: %w", err)
	}
	s := &DNSServer{c: c, keys: keys}
	if s.tcp, s.udp, err = listen(c.Addr); err != nil {
		return nil, fmt.Errorf("local: dns server: %w", err)
	}
	if len(s.c.NameserverAddrs) == 0 {
		s.c.NameserverAddrs = listenAddrs(s.Addr())
	}
	store, z, err := openZoneStore(s.c)
	if err != nil {
		return nil, fmt.Errorf("local: dns server: %w", errors.Join(err, s.tcp.Close(), s.udp.Close()))
	}
	s.store = store
	s.zone.Store(z)
	s.close = sync.OnceValue(func() error {
		// The server library closes the sockets too, if it came to serving.
		s.tcp.Close()
		s.udp.Close()
		s.update.Lock() // an update under way is finished
		defer s.update.Unlock()
		return store.close()
	})
	return s, nil
}

func checkServerConfig(c *DNSServerConfig) (map[string]string, error) {
	var errs []error
	bad := func(format string, a ...any) { errs = append(errs, fmt.Errorf("DNSServerConfig."+format, a...)) }
	if err := rules.CheckName(c.Zone); err != nil {
		bad("Zone: %w", err)
	}
	if c.Dir == "" {
		bad("Dir: empty")
	}
	if c.Addr == "" {
		c.Addr = "127.0.0.1:0"
	}
	if _, _, err := net.SplitHostPort(c.Addr); err != nil {
		bad("Addr: %w", err)
	}
	if c.Nameserver == "" {
		c.Nameserver = "ns." + c.Zone
	} else if err := rules.CheckName(c.Nameserver); err != nil {
		bad("Nameserver: %w", err)
	}
	for i, a := range c.NameserverAddrs {
		if !a.IsValid() {
			bad("NameserverAddrs[%d]: not an address", i)
		}
	}
	keys := map[string]string{}
	for i, k := range c.Keys {
		if field, err := checkKey(k); err != nil {
			bad("Keys[%d].%s: %w", i, field, err)
		}
		if _, twice := keys[k.Name]; twice {
			bad("Keys[%d].Name: %q is there twice", i, k.Name)
		}
		keys[k.Name] = k.Secret
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return keys, errors.Join(errs...)
}

// checkKey names the field that is wrong, and never quotes the secret.
func checkKey(k DNSKey) (field string, err error) {
	if err := rules.CheckName(k.Name); err != nil {
		return "Name", err
	}
	secret, err := base64.StdEncoding.DecodeString(k.Secret)
	if err != nil {
		return "Secret", errors.New("not base64")
	}
	if len(secret) < 16 {
		return "Secret", fmt.Errorf("%d bytes, want at least 16", len(secret))
	}
	return "", nil
}

// listen binds TCP and UDP to the same port.
func listen(addr string) (net.Listener, net.PacketConn, error) {
	const attempts = 20 // where any port will do, and its twin may be taken
	for i := 1; ; i++ {
		tcp, err := net.Listen("tcp", addr)
		if err != nil {
			return nil, nil, err
		}
		udp, err := net.ListenPacket("udp", tcp.Addr().String())
		if err == nil {
			return tcp, udp, nil
		}
		tcp.Close()
		if _, port, _ := net.SplitHostPort(addr); port != "0" || i == attempts {
			return nil, nil, err
		}
	}
}

// Addr is the "host:port" on which the server takes UDP and TCP.
func (s *DNSServer) Addr() string { return s.tcp.Addr().String() }

// Close releases the sockets and the zone. It may be called again.
func (s *DNSServer) Close() error { return s.close() }

// Serve answers until ctx is done, then closes the server and returns nil. It
// is called once.
func (s *DNSServer) Serve(ctx context.Context) error {
	defer s.close()
	var servers [2]*dns.Server
	started := make(chan struct{}, len(servers))
	ended := make(chan error, len(servers))
	for i := range servers {
		srv := &dns.Server{
			Handler:           s,
			MsgAcceptFunc:     accept,
			TsigSecret:        s.keys,
			UDPSize:           dns.MaxMsgSize,
			NotifyStartedFunc: func() { started <- struct{}{} },
		}
		if i == 0 {
			srv.Listener = s.tcp
		} else {
			srv.PacketConn = s.udp
		}
		servers[i] = srv
		go func() { ended <- srv.ActivateAndServe() }()
	}
	running := len(servers)
	var errs []error
	for n := 0; n < len(servers); { // before that they cannot be shut down
		select {
		case <-started:
			n++
		case err := <-ended:
			errs = append(errs, err)
			running--
			n++
		}
	}
	if running == len(servers) {
		select {
		case <-ctx.Done():
		case err := <-ended:
			running--
			errs = append(errs, fmt.Errorf("local: dns server: %w", err))
		}
	}
	// Requests that are being answered get a moment to finish.
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	for _, srv := range servers {
		srv.ShutdownContext(grace)
	}
	for range running {
		<-ended
	}
	return errors.Join(append(errs, s.close())...)
}

// accept lets updates through, which the library refuses by default.
func accept(h dns.Header) dns.MsgAcceptAction {
	const response = 1 << 15
	if h.Bits&response == 0 && int(h.Bits>>11)&0xF == dns.OpcodeUpdate {
		return dns.MsgAccept // checked by zone.checkZone
	}
	return dns.DefaultMsgAcceptFunc(h)
}
