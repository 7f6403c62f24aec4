package libdns

import (
	"cmp"
	"errors"
	"fmt"
	"strings"
	"time"

	upstream "github.com/libdns/libdns"

	"github.com/holdfast-go/holdfast/provider"
)

// A Provider is what a package of libdns has to offer.
type Provider interface {
	upstream.RecordGetter
	upstream.RecordSetter
	upstream.RecordDeleter
}

// Config says which zone of which service.
type Config struct {
	Zone     string   // "example.com.": absolute, lower case, with the final dot; required
	Provider Provider // with its credentials; required

	// Settle bounds how long a write may take after the reading before it,
	// and is how long a swap waits after its write until it reads again. It
	// should be longer than the service ever takes; 0 means 3 s.
	Settle time.Duration

	// Servers are the authoritative servers that Status asks, "host:port" or
	// "host". Nil means the name servers of the zone, as the resolver of this
	// machine knows them; empty and not nil means none.
	Servers []string
}

// Zone is a [provider.DNSProvider] for one zone, without compare-and-swap: see
// the package comment.
type Zone struct {
	c    Config
	turn chan struct{} // held by the swap that is under way
}

var _ provider.DNSProvider = (*Zone)(nil)

// New returns a provider for the zone of c. It does no I/O.
func New(c Config) (*Zone, error) {
	var errs []error
	if err := rules.CheckName(c.Zone); err != nil {
		errs = append(errs, fmt.Errorf("libdns: Config.Zone: %w", err))
	}
	if c.Provider == nil {
		errs = append(errs, errors.New("libdns: Config.Provider is required"))
	}
	if c.Settle < 0 {
		errs = append(errs, errors.New("libdns: Config.Settle: negative"))
	}
	c.Settle = cmp.Or(c.Settle, 3*time.Second)
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return &Zone{c: c, turn: make(chan struct{}, 1)}, nil
}

// Atomicity is provider.NotAtomic.
func (z *Zone) Atomicity() provider.Atomicity { return provider.NotAtomic }

func wrap(op, key string, err error) error {
	if err == nil {
		return nil
	}
	return &provider.Error{Op: op, Provider: "libdns", Key: strings.TrimSpace(key), Err: err}
}
