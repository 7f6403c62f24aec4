package azuredns

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/azure/internal/conn"
	"github.com/holdfast-go/holdfast/provider/internal/dnsrecord"
)

// Config says which zones, and how Azure is reached. Required is Zones.
type Config struct {
	// Zones are the resource IDs of the zones to work in, public or private:
	// "/subscriptions/S/resourceGroups/G/providers/Microsoft.Network/dnsZones/example.com"
	// or ".../privateDnsZones/example.internal". No name twice.
	Zones []string

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

	// Attempts is how often a request is made before it fails; 0 means 5.
	// Between them the client waits ever longer, or as long as the service
	// asks with Retry-After, if that is no more than a minute.
	Attempts int
}

const providerName = "azuredns"

// Zones are zones as a [provider.DNSProvider]. It is safe for concurrent use.
type Zones struct {
	zones []zone
	ask   asker
}

var _ provider.DNSProvider = (*Zones)(nil)

// A zone is a zone of Azure.
type zone struct {
	name    string // with the final dot
	group   string
	label   string // as in the resource ID
	records records
}

// Open returns the zones of c. It reads what the environment says of
// credentials and makes no request.
func Open(ctx context.Context, c Config) (*Zones, error) { return open(ctx, c, nil) }

func open(ctx context.Context, c Config, transport policy.Transporter) (*Zones, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	var errs []error
	fault := func(field, format string, args ...any) {
		errs = append(errs, conn.Fault("azuredns", field, format, args...))
	}
	reached := conn.Config{Credential: c.Credential, Cloud: c.Cloud, CA: c.CA, Attempts: c.Attempts, Transport: transport}
	reached.Complete(fault)
	if len(c.Zones) == 0 {
		fault("Zones", "empty")
	}
	names := map[string]bool{}
	for _, id := range c.Zones {
		m := zoneID.FindStringSubmatch(id)
		if m == nil {
			fault("Zones", "%q is not the resource ID of a zone", id)
			continue
		}
		if name := strings.ToLower(m[4]); names[name] {
			fault("Zones", "two are called %s", name)
		} else {
			names[name] = true
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	token, err := reached.Token()
	if err != nil {
		return nil, fmt.Errorf("azuredns: %w", err)
	}
	z := &Zones{ask: askServer}
	for _, id := range c.Zones {
		m := zoneID.FindStringSubmatch(id)
		in := zone{name: strings.ToLower(m[4]) + ".", group: m[2], label: m[4]}
		connect := connectPublic
		if strings.EqualFold(m[3], "privateDnsZones") {
			connect = connectPrivate
		}
		if in.records, err = connect(m[1], token, reached.ARM()); err != nil {
			return nil, fmt.Errorf("azuredns: %w", err)
		}
		z.zones = append(z.zones, in)
	}
	return z, nil
}

var zoneID = regexp.MustCompile(`(?i)^/subscriptions/([0-9a-z-]+)/resourceGroups/([^/]+)/providers/Microsoft\.Network/(dnsZones|privateDnsZones)/([0-9a-z._-]*[0-9a-z_-])$`)

// zoneOf returns the zone that a name is in: that with the longest name.
func (z *Zones) zoneOf(name string) (zone, error) {
	var best zone
	for _, in := range z.zones {
		if (name == in.name || strings.HasSuffix(name, "."+in.name)) && len(in.name) > len(best.name) {
			best = in
		}
	}
	if best.name == "" {
		return zone{}, fmt.Errorf("%s is in none of the %d zones of Config.Zones", name, len(z.zones))
	}
	return best, nil
}

// relative is a name as the service has it within its zone.
func (in zone) relative(name string) string {
	if name == in.name {
		return "@"
	}
	return strings.TrimSuffix(name, "."+in.name)
}

// Get implements [provider.DNSProvider].
func (z *Zones) Get(ctx context.Context, name, typ string) (provider.RecordSet, error) {
	rs, err := z.get(ctx, name, typ)
	if err != nil {
		return provider.RecordSet{}, fail(ctx, "dns get", name+" "+typ, err)
	}
	return rs, nil
}

func (z *Zones) get(ctx context.Context, name, typ string) (provider.RecordSet, error) {
	if err := errors.Join(rules.CheckName(name), dnsrecord.CheckType(typ)); err != nil {
		return provider.RecordSet{}, err
	}
	in, err := z.zoneOf(name)
	if err != nil {
		return provider.RecordSet{}, err
	}
	if err := in.uncut(ctx, name); err != nil {
		return provider.RecordSet{}, err
	}
	held, err := in.read(ctx, name, typ)
	switch {
	case err != nil:
		return provider.RecordSet{}, err
	case held.set == nil:
		return provider.RecordSet{}, provider.ErrNotFound
	}
	return *held.set, nil
}

// Atomicity implements [provider.DNSProvider].
func (z *Zones) Atomicity() provider.Atomicity { return provider.RecordSetAtomic }

// unknown is an error that means none of those of package provider, whatever
// the vendor's error in it would mean: callers take those for certain.
type unknown struct{ error }

func (u *unknown) Unwrap() error { return u.error }

func uncertain(format string, args ...any) error { return &unknown{fmt.Errorf(format, args...)} }

// fail makes a [provider.Error] of what a call returned.
func fail(ctx context.Context, op, key string, err error) error {
	meaning := conn.Permission(err)
	if _, ok := errors.AsType[*unknown](err); ok {
		meaning = nil
	}
	return conn.Wrap(ctx, providerName, op, key, err, meaning)
}

// isMissing: the zone is there, and no such record set in it.
func isMissing(err error) bool {
	switch conn.CodeOf(err) {
	case "ResourceNotFound", "ParentResourceNotFound", "ResourceGroupNotFound", "SubscriptionNotFound":
		return false // the zone, or what it is in
	}
	return conn.StatusOf(err) == 404
}
