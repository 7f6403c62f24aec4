package route53

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/route53"
	"github.com/aws/aws-sdk-go-v2/service/route53/types"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/aws/internal/conn"
	"github.com/holdfast-go/holdfast/provider/internal/dnsrecord"
)

// Config says which zones, and how Route 53 is reached. The zero value is the
// public zones of the account whose credentials the environment has.
type Config struct {
	// Zones are the IDs of the hosted zones to work in ("Z0123456789"), public
	// or private. Empty means all of the account that Private says.
	Zones []string

	// Private looks for a name in the private zones of the account, and not in
	// the public ones. Not together with Zones.
	Private bool

	// Region decides the partition, and nothing else. Empty means what the
	// environment says, or us-east-1.
	Region string

	// FIPS uses the endpoint that is validated by FIPS 140. Not together with
	// Endpoint.
	FIPS bool

	// Endpoint is the URL of a service other than AWS's own. Empty means AWS.
	Endpoint string

	// Credentials sign the requests. Nil means the standard chain: environment,
	// shared files, web identity, container and instance roles.
	Credentials aws.CredentialsProvider

	// CA is a list of certificates in PEM that are trusted in place of the
	// system's. Empty means the system's.
	CA []byte

	// Attempts is how often a request is made before it fails; 0 means 8:
	// Route 53 takes five requests a second of an account, and one change of a
	// zone at a time. Between them the client waits as the SDK's standard mode
	// does, and it stops trying again when most requests fail.
	Attempts int
}

const defaultAttempts = 8

// Zones are hosted zones as a [provider.DNSProvider]. It is safe for
// concurrent use.
type Zones struct {
	c      Config
	client *route53.Client

	mu    sync.Mutex
	known []zone // nil: not yet listed
}

var _ provider.DNSProvider = (*Zones)(nil)

// Open returns the zones of c. It reads the configuration of the environment
// and makes no request.
func Open(ctx context.Context, c Config) (*Zones, error) {
	var errs []error
	fault := func(field, format string, args ...any) {
		errs = append(errs, conn.Fault("route53", field, format, args...))
	}
	if c.Attempts == 0 {
		c.Attempts = defaultAttempts
	}
	reached := conn.Config{
		Region: c.Region, Fallback: "us-east-1", Endpoint: c.Endpoint, Credentials: c.Credentials, CA: c.CA, Attempts: c.Attempts, FIPS: c.FIPS,
		Answer: conn.ControlAnswer,
	}
	reached.Complete(fault)
	for _, id := range c.Zones {
		if !zoneID.MatchString(id) {
			fault("Zones", "%q is not the ID of a hosted zone", id)
		}
	}
	if c.Private && len(c.Zones) > 0 {
		fault("Private", "set together with Zones")
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	loaded, err := reached.Load(ctx)
	if err != nil {
		return nil, fmt.Errorf("route53: %w", err)
	}
	return &Zones{c: c, client: route53.NewFromConfig(loaded)}, nil
}

var zoneID = regexp.MustCompile(`^[A-Z0-9]{1,32}$`)

// Get implements [provider.DNSProvider].
func (z *Zones) Get(ctx context.Context, name, typ string) (provider.RecordSet, error) {
	rs, err := z.get(ctx, name, typ)
	if err != nil {
		return provider.RecordSet{}, z.wrap(ctx, "dns get", name+" "+typ, err)
	}
	return rs, nil
}

func (z *Zones) get(ctx context.Context, name, typ string) (provider.RecordSet, error) {
	if err := errors.Join(rules.CheckName(name), dnsrecord.CheckType(typ)); err != nil {
		return provider.RecordSet{}, err
	}
	in, err := z.zoneOf(ctx, name)
	if err != nil {
		return provider.RecordSet{}, err
	}
	all, err := z.read(ctx, in, name)
	if err != nil {
		return provider.RecordSet{}, err
	}
	if err := z.uncut(ctx, in, map[string]sets{name: all}); err != nil {
		return provider.RecordSet{}, err
	}
	held, err := all.simple(typ)
	if err != nil {
		return provider.RecordSet{}, err
	}
	if held == nil {
		return provider.RecordSet{}, provider.ErrNotFound
	}
	return recordSet(name, *held)
}

// Status implements [provider.DNSProvider]: pending until all servers of
// Route 53 have the change, which it calls INSYNC.
func (z *Zones) Status(ctx context.Context, ref provider.ChangeRef) (provider.ChangeStatus, error) {
	status, err := z.status(ctx, ref)
	if err != nil {
		return "", z.wrap(ctx, "dns status", fmt.Sprintf("%q", ref), err)
	}
	return status, nil
}

func (z *Zones) status(ctx context.Context, ref provider.ChangeRef) (provider.ChangeStatus, error) {
	if !changeID.MatchString(string(ref)) {
		return "", provider.ErrNotFound
	}
	out, err := z.client.GetChange(ctx, &route53.GetChangeInput{Id: aws.String(string(ref))})
	if err != nil {
		return "", err
	}
	if out.ChangeInfo.Status == types.ChangeStatusInsync {
		return provider.ChangeInSync, nil
	}
	return provider.ChangePending, nil
}

var changeID = regexp.MustCompile(`^[A-Za-z0-9]{1,64}$`)

// Atomicity implements [provider.DNSProvider].
func (z *Zones) Atomicity() provider.Atomicity { return provider.ZoneAtomic }

// wrap makes a [provider.Error] of what a call to the SDK returned.
func (z *Zones) wrap(ctx context.Context, op, key string, err error) error {
	meaning := conn.Permission(err)
	if conn.CodeOf(err) == "NoSuchChange" {
		meaning = provider.ErrNotFound
	}
	if conn.CodeOf(err) == "NoSuchHostedZone" { // never ErrNotFound
		z.forget()
	}
	if _, ok := errors.AsType[*unknown](err); ok {
		meaning = nil
	}
	return conn.Wrap(ctx, provider.Error{Op: op, Provider: "route53", Key: key, Err: err}, meaning)
}

func id(path *string) string {
	s := aws.ToString(path)
	return s[strings.LastIndexByte(s, '/')+1:]
}
