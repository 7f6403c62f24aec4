package rfc2136

import (
	"cmp"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"

	"github.com/holdfast-go/holdfast/provider"
)

// Config says where the primary server of a zone is and how to sign for it.
type Config struct {
	Zone string // "example.com.": absolute, lower case, with the final dot; required

	// Servers are addresses of the zone's primary server, "host:port" or
	// "host" for port 53; at least one. They are tried in this order, and
	// only until a connection stands: nothing is ever sent to two of them.
	// All must lead to the same server. Secondaries have no place here, and
	// neither has a second primary that takes updates by itself: a
	// compare-and-swap needs one place that compares.
	Servers []string

	// KeyName and Secret are the TSIG key (RFC 8945): its name as the server
	// knows it, "holdfast." (the final dot may be left out), and the key
	// itself in base64, of 16 bytes or more; required. Both are as
	// tsig-keygen prints them.
	KeyName string
	Secret  string

	// Algorithm of the key: "hmac-sha224", "hmac-sha256", "hmac-sha384",
	// "hmac-sha512", or "hmac-sha1" for servers that know no better. Empty
	// means "hmac-sha256".
	Algorithm string

	// Secondaries are the further authoritative servers that Status asks,
	// like Servers, unsigned, since they need not know the key. Nil means the
	// name servers of the zone (its NS records, port 53), every address of
	// each; empty and not nil means none.
	Secondaries []string

	// InlineSigning says that the zone that is served is not the one that
	// updates go to, and has a serial of its own: BIND with inline-signing
	// (which dnssec-policy implies from 9.20 on), PowerDNS with SOA-EDIT.
	// It costs a part of the guarantee: see "Inline signing" above.
	InlineSigning bool

	// Timeout is how long a connection may take to stand and each exchange on
	// it; 0 means 5 s.
	Timeout time.Duration

	// Logger hears of addresses that do not answer and of replies that were
	// lost; nil discards.
	Logger *slog.Logger
}

// Zone is a [provider.DNSProvider] for one zone, as the package comment
// describes it. It holds no connection between calls.
type Zone struct {
	c      Config
	nsPort string           // of the servers in NS records
	now    func() time.Time // for signatures
}

var _ provider.DNSProvider = (*Zone)(nil)

var algorithms = map[string]string{
	"hmac-sha1": dns.HmacSHA1, "hmac-sha224": dns.HmacSHA224, "hmac-sha256": dns.HmacSHA256,
	"hmac-sha384": dns.HmacSHA384, "hmac-sha512": dns.HmacSHA512,
}

// New returns a provider for the zone of c. It does no I/O.
func New(c Config) (*Zone, error) {
	var errs []error
	bad := func(field string, err error) {
		if err != nil {
			errs = append(errs, fmt.Errorf("rfc2136: Config.%s: %w", field, err))
		}
	}
	bad("Zone", checkName(c.Zone))
	if len(c.Servers) == 0 {
		bad("Servers", errors.New("empty: want the address of the zone's primary server"))
	}
	for field, list := range map[string]*[]string{"Servers": &c.Servers, "Secondaries": &c.Secondaries} {
		*list = slices.Clone(*list)
		for i, s := range *list {
			addr, err := withPort(s)
			bad(fmt.Sprintf("%s[%d]", field, i), err)
			(*list)[i] = addr
		}
	}
	c.KeyName = dns.CanonicalName(c.KeyName)
	if err := checkName(c.KeyName); err != nil || c.KeyName == "." {
		bad("KeyName", fmt.Errorf("%q is not the name of a TSIG key", c.KeyName))
	}
	bad("Secret", checkSecret(c.Secret))
	algorithm, ok := algorithms[strings.TrimSuffix(cmp.Or(c.Algorithm, "hmac-sha256"), ".")]
	if !ok {
		bad("Algorithm", fmt.Errorf("%q is none of hmac-sha1, -sha224, -sha256, -sha384, -sha512", c.Algorithm))
	}
	c.Algorithm = algorithm
	if c.Timeout < 0 {
		bad("Timeout", errors.New("negative"))
	}
	c.Timeout = cmp.Or(c.Timeout, 5*time.Second)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	c.Logger = c.Logger.With("zone", c.Zone)
	return &Zone{c: c, nsPort: "53", now: time.Now}, nil
}

// checkSecret never quotes the secret.
func checkSecret(s string) error {
	switch b, err := base64.StdEncoding.DecodeString(s); {
	case s == "":
		return errors.New("empty: want the TSIG key in base64; unsigned updates are not supported")
	case err != nil:
		return errors.New("not base64")
	case len(b) < 16:
		return fmt.Errorf("%d bytes, want at least 16", len(b))
	}
	return nil
}

// withPort adds the port of DNS where there is none.
func withPort(s string) (string, error) {
	if _, err := netip.ParseAddr(s); err == nil || s != "" && !strings.Contains(s, ":") {
		return net.JoinHostPort(s, "53"), nil
	}
	host, port, err := net.SplitHostPort(s)
	if err == nil && (host == "" || port == "") {
		err = fmt.Errorf("%q: want host:port", s)
	}
	return s, err
}
