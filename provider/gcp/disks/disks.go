package disks

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"sync"
	"time"

	"cloud.google.com/go/auth"
	"google.golang.org/api/compute/v1"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/gcp/internal/conn"
)

// Config says where snapshots are, and how volumes are made. Only Location is
// required.
type Config struct {
	// Project of the disks and their snapshots. Empty means that of the
	// credentials.
	Project string

	// Location that snapshots are stored in: a region ("europe-west3") or a
	// multi-region ("eu", "us", "asia").
	Location string

	// Zone of restored volumes, where RestoreOptions name none, and of the disks
	// that copies pass through: "europe-west3-a". Empty means that RestoreOptions
	// must name one, and that nothing is copied.
	Zone string

	// Keys are the keys of Cloud KMS that encrypt snapshots, by location:
	// "projects/P/locations/L/keyRings/R/cryptoKeys/K". In a location that is
	// missing a snapshot has the key of its disk.
	Keys map[string]string

	// DiskKey encrypts restored volumes. Empty means a key of Google's.
	DiskKey string

	// DiskType of restored volumes; empty means "pd-balanced".
	DiskType string

	// ShareRole is the role that Share gives on a snapshot, with the permissions
	// compute.snapshots.get and compute.snapshots.useReadOnly: best one of your
	// own, "projects/P/roles/R". The one of Google's that has them,
	// "roles/compute.storageAdmin", lets others delete the snapshot. Empty means
	// that nothing can be shared.
	ShareRole string

	// Poll is how often Compute Engine is asked whether what it was told to make
	// is there; 0 means a second.
	Poll time.Duration

	// Endpoint is the URL of a service other than https://compute.googleapis.com.
	Endpoint string

	// Credentials sign the requests. Nil means Application Default Credentials:
	// the file of GOOGLE_APPLICATION_CREDENTIALS, gcloud's, or the metadata
	// server of the machine. The scope is https://www.googleapis.com/auth/compute
	// or cloud-platform.
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

const (
	providerName = "pd"
	defaultType  = "pd-balanced"
)

// Snapshots are the snapshots of one location as a [provider.Snapshotter], with
// copies, groups and sharing. It is safe for concurrent use.
type Snapshots struct {
	c       Config
	service *conn.Service
	client  *compute.Service

	mu      sync.Mutex
	cleared map[string]bool // IDs of copies whose disk, and of groups whose instant group, is known to be gone
}

var (
	_ provider.Snapshotter      = (*Snapshots)(nil)
	_ provider.SnapshotCopier   = (*Snapshots)(nil)
	_ provider.GroupSnapshotter = (*Snapshots)(nil)
	_ provider.SnapshotSharer   = (*Snapshots)(nil)
)

var (
	placeName = regexp.MustCompile(`^[a-z][a-z0-9-]*$`)
	roleName  = regexp.MustCompile(`^((projects|organizations)/[^/]+/)?roles/[^/]+$`)
	keyName   = regexp.MustCompile(`^projects/[^/]+/locations/[^/]+/keyRings/[^/]+/cryptoKeys/[^/]+$`)
)

// Open returns the snapshots of the location of c. It looks for credentials in
// the environment and asks the service nothing.
func Open(ctx context.Context, c Config) (*Snapshots, error) {
	var errs []error
	fault := func(field, format string, args ...any) {
		errs = append(errs, conn.Fault("disks", field, format, args...))
	}
	reached := conn.Config{
		Endpoint: c.Endpoint, Credentials: c.Credentials, CA: c.CA, Attempts: c.Attempts,
		Public: "https://compute.googleapis.com", Scope: compute.ComputeScope,
	}
	reached.Complete(fault)
	c.complete(fault)
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	service, err := reached.Load(ctx)
	if err != nil {
		return nil, fmt.Errorf("disks: %w", err)
	}
	if c.Project == "" {
		if c.Project, err = service.Project(ctx); err != nil {
			return nil, conn.Fault("disks", "Project", "empty, and %v", err)
		}
	}
	client, err := compute.NewService(ctx, service.Options()...)
	if err != nil {
		return nil, fmt.Errorf("disks: %w", err)
	}
	// Other than those of the siblings, the endpoint of this API has a path.
	client.BasePath = reached.Endpoint + "/compute/v1/"
	return &Snapshots{c: c, service: service, client: client, cleared: map[string]bool{}}, nil
}

func (c *Config) complete(fault func(field, format string, args ...any)) {
	if !placeName.MatchString(c.Location) {
		fault("Location", "%q is not a region or multi-region", c.Location)
	}
	if c.Zone != "" && !placeName.MatchString(c.Zone) {
		fault("Zone", "%q is not a zone", c.Zone)
	}
	for location, key := range c.Keys {
		if !placeName.MatchString(location) || !keyName.MatchString(key) {
			fault("Keys", "%q: want a location, and projects/P/locations/L/keyRings/R/cryptoKeys/K", location)
		}
	}
	if c.DiskKey != "" && !keyName.MatchString(c.DiskKey) {
		fault("DiskKey", "want projects/P/locations/L/keyRings/R/cryptoKeys/K")
	}
	if c.DiskType == "" {
		c.DiskType = defaultType
	}
	if !placeName.MatchString(c.DiskType) {
		fault("DiskType", "%q is not a type of disks", c.DiskType)
	}
	if c.ShareRole != "" && !roleName.MatchString(c.ShareRole) {
		fault("ShareRole", "%q is not roles/R, projects/P/roles/R or organizations/O/roles/R", c.ShareRole)
	}
	if c.Poll == 0 {
		c.Poll = time.Second
	}
	if c.Poll < 0 {
		fault("Poll", "%v, want more than 0", c.Poll)
	}
}

// ask makes a request until there is an answer.
func ask[T any](ctx context.Context, s *Snapshots, f func(context.Context) (T, error)) (T, error) {
	return conn.Do(ctx, s.service, &conn.Attempts{}, f)
}

// wrap makes a [provider.Error] of what a call to the SDK returned; nil stays
// nil.
func wrap(ctx context.Context, op, key string, err error) error {
	if err == nil {
		return nil
	}
	return conn.Wrap(ctx, providerName, op, key, err, meaning(err))
}

func (s *Snapshots) pause(ctx context.Context) error {
	select {
	case <-time.After(s.c.Poll):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// key is how a resource is encrypted; nil leaves it to Compute Engine.
func key(name string) *compute.CustomerEncryptionKey {
	if name == "" {
		return nil
	}
	return &compute.CustomerEncryptionKey{KmsKeyName: name}
}
