package clouddns

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"sync"

	"cloud.google.com/go/auth"
	"google.golang.org/api/dns/v1"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/gcp/internal/conn"
	"github.com/holdfast-go/holdfast/provider/internal/dnsrecord"
)

// Config says which zones, and how Cloud DNS is reached. The zero value is the
// public zones of the project whose credentials the environment has.
type Config struct {
	// Project that the zones are in. Empty means that of the credentials.
	Project string

	// Zones are the names of the managed zones to work in ("example-com"),
	// public or private. Empty means all of the project that Private says.
	Zones []string

	// Private looks for a name in the private zones of the project, and not in
	// the public ones. Not together with Zones.
	Private bool

	// Endpoint is the URL of a service other than https://dns.googleapis.com.
	Endpoint string

	// Credentials sign the requests. Nil means Application Default Credentials:
	// the file of GOOGLE_APPLICATION_CREDENTIALS, gcloud's, or the metadata
	// server of the machine. The scope is
	// https://www.googleapis.com/auth/ndev.clouddns.readwrite or cloud-platform.
	Credentials *auth.Credentials

	// CA is a list of certificates in PEM that are trusted in place of the
	// system's. Empty means the system's.
	CA []byte

	// Attempts is how often a request is made before it fails; 0 means 5.
	// Between them the client waits as long as the service asks it to, but no
	// longer than a minute, and else up to a quarter of a second, twice as long
	// each time.
	Attempts int
}

// Zones are managed zones as a [provider.DNSProvider]. It is safe for
// concurrent use.
type Zones struct {
	c       Config
	service *conn.Service
	client  *dns.Service

	mu    sync.Mutex
	known []zone // nil: not yet listed
}

var _ provider.DNSProvider = (*Zones)(nil)

// Open returns the zones of c. It looks for credentials in the environment and
// asks the service nothing.
func Open(ctx context.Context, c Config) (*Zones, error) {
	var errs []error
	fault := func(field, format string, args ...any) {
		errs = append(errs, conn.Fault("clouddns", field, format, args...))
	}
	reached := conn.Config{
		Endpoint: c.Endpoint, Credentials: c.Credentials, CA: c.CA, Attempts: c.Attempts,
		Public: "https://dns.googleapis.com", Scope: dns.NdevClouddnsReadwriteScope,
	}
	reached.Complete(fault)
	for _, name := range c.Zones {
		if !zoneName.MatchString(name) {
			fault("Zones", "%q is not the name of a managed zone", name)
		}
	}
	if c.Private && len(c.Zones) > 0 {
		fault("Private", "set together with Zones")
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	service, err := reached.Load(ctx)
	if err != nil {
		return nil, fmt.Errorf("clouddns: %w", err)
	}
	if c.Project == "" {
		if c.Project, err = service.Project(ctx); err != nil {
			return nil, conn.Fault("clouddns", "Project", "empty, and %v", err)
		}
	}
	client, err := dns.NewService(ctx, service.Options()...)
	if err != nil {
		return nil, fmt.Errorf("clouddns: %w", err)
	}
	return &Zones{c: c, service: service, client: client}, nil
}

var zoneName = regexp.MustCompile(`^[a-z]([-a-z0-9]{0,61}[a-z0-9])?$`)

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
	return recordSet(held)
}

// Status implements [provider.DNSProvider]: pending until Cloud DNS calls the
// Change done, which is when all its servers have it.
func (z *Zones) Status(ctx context.Context, ref provider.ChangeRef) (provider.ChangeStatus, error) {
	status, err := z.status(ctx, ref)
	if err != nil {
		return "", z.wrap(ctx, "dns status", fmt.Sprintf("%q", ref), err)
	}
	return status, nil
}

func (z *Zones) status(ctx context.Context, ref provider.ChangeRef) (provider.ChangeStatus, error) {
	if !changeRef.MatchString(string(ref)) {
		return "", provider.ErrNotFound
	}
	zone, id, _ := strings.Cut(string(ref), "/")
	c, err := conn.Do(ctx, z.service, &conn.Attempts{}, func(ctx context.Context) (*dns.Change, error) {
		return z.client.Changes.Get(z.c.Project, zone, id).Context(ctx).Do()
	})
	switch {
	case conn.StatusOf(err) == http.StatusNotFound:
		return "", fmt.Errorf("%w: %w", provider.ErrNotFound, err)
	case err != nil:
		return "", err
	case c.Status == "done":
		return provider.ChangeInSync, nil
	}
	return provider.ChangePending, nil
}

// changeRef is "zone/id".
var changeRef = regexp.MustCompile(`^[a-z][-a-z0-9]{0,62}/[A-Za-z0-9-]{1,64}$`)

// Atomicity implements [provider.DNSProvider].
func (z *Zones) Atomicity() provider.Atomicity { return provider.ZoneAtomic }

// wrap makes a [provider.Error] of what a call to the SDK returned. That a zone
// is not there is never ErrNotFound, which would be said of a record set.
func (z *Zones) wrap(ctx context.Context, op, key string, err error) error {
	meaning := conn.Permission(err)
	if _, ok := errors.AsType[*unknown](err); ok {
		meaning = nil
	}
	if conn.StatusOf(err) == http.StatusNotFound {
		z.forget()
	}
	return conn.Wrap(ctx, "clouddns", op, key, err, meaning)
}
