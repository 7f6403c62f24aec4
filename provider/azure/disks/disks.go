package disks

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/compute/armcompute/v8"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/azure/internal/conn"
)

// Config says where snapshots and disks are made. Required are Subscription,
// ResourceGroup and Region.
type Config struct {
	// Subscription is the ID of the subscription of disks and snapshots.
	Subscription string

	// ResourceGroup is where snapshots, copies and restored disks are made,
	// in any region. It exists. Disks may be in other groups.
	ResourceGroup string

	// Region of the disks and their snapshots: "westeurope".
	Region string

	// Zone of restored disks, where RestoreOptions name none: "1". Empty
	// means none.
	Zone string

	// DiskType of restored disks; empty means "Premium_LRS".
	DiskType string

	// EncryptionSets are the resource IDs of disk encryption sets that encrypt
	// copies, restored disks and the snapshots of groups, by region. A region that is missing uses keys
	// of the platform.
	EncryptionSets map[string]string

	// Poll is how often Create, CreateGroup and Delete ask whether the service
	// has made or removed something; 0 means a second.
	Poll time.Duration

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

const (
	providerName    = "azuredisk"
	defaultDiskType = "Premium_LRS"
	defaultPoll     = time.Second
)

// Snapshots are the snapshots of one region as a [provider.Snapshotter], a
// [provider.SnapshotCopier] and a [provider.GroupSnapshotter]. It is safe for concurrent use.
type Snapshots struct {
	c           Config
	snapshots   *armcompute.SnapshotsClient
	disks       *armcompute.DisksClient
	machines    *armcompute.VirtualMachinesClient // these three for groups
	collections *armcompute.RestorePointCollectionsClient
	points      *armcompute.RestorePointsClient
}

var (
	_ provider.Snapshotter      = (*Snapshots)(nil)
	_ provider.SnapshotCopier   = (*Snapshots)(nil)
	_ provider.GroupSnapshotter = (*Snapshots)(nil)
)

// Open returns the snapshots of the region of c. It reads what the environment
// says of credentials and makes no request.
func Open(ctx context.Context, c Config) (*Snapshots, error) { return open(ctx, c, nil) }

func open(ctx context.Context, c Config, transport policy.Transporter) (*Snapshots, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	var errs []error
	fault := func(field, format string, args ...any) {
		errs = append(errs, conn.Fault("disks", field, format, args...))
	}
	reached := conn.Config{Credential: c.Credential, Cloud: c.Cloud, CA: c.CA, Attempts: c.Attempts, Transport: transport}
	reached.Complete(fault)
	for field, v := range map[string]string{"Subscription": c.Subscription, "ResourceGroup": c.ResourceGroup, "Region": c.Region} {
		if v == "" || strings.ContainsAny(v, "/ ") {
			fault(field, "%q", v)
		}
	}
	c.Region = strings.ToLower(c.Region)
	for region, set := range c.EncryptionSets {
		if m := resourceID.FindStringSubmatch(set); m == nil || !strings.EqualFold(m[3], "diskEncryptionSets") || region != strings.ToLower(region) {
			fault("EncryptionSets", "%q: %q is not the resource ID of a disk encryption set, or the region is not in lower case", region, set)
		}
	}
	if c.DiskType == "" {
		c.DiskType = defaultDiskType
	}
	if c.Poll == 0 {
		c.Poll = defaultPoll
	}
	if c.Poll < 0 {
		fault("Poll", "%v, want more than 0", c.Poll)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	token, err := reached.Token()
	if err != nil {
		return nil, fmt.Errorf("disks: %w", err)
	}
	factory, err := armcompute.NewClientFactory(c.Subscription, token, reached.ARM())
	if err != nil {
		return nil, fmt.Errorf("disks: %w", err)
	}
	return &Snapshots{
		c: c, snapshots: factory.NewSnapshotsClient(), disks: factory.NewDisksClient(), machines: factory.NewVirtualMachinesClient(),
		collections: factory.NewRestorePointCollectionsClient(), points: factory.NewRestorePointsClient(),
	}, nil
}

var resourceID = regexp.MustCompile(`(?i)^/subscriptions/([^/]+)/resourceGroups/([^/]+)/providers/Microsoft\.Compute/([a-z]+)/([^/]+)$`)

// split reads the resource ID of a disk or a snapshot.
func (s *Snapshots) split(id, kind string) (group, name string, err error) {
	m := resourceID.FindStringSubmatch(id)
	switch {
	case m == nil || !strings.EqualFold(m[3], kind):
		return "", "", fmt.Errorf("%q is not the resource ID of one of Microsoft.Compute/%s", id, kind)
	case !strings.EqualFold(m[1], s.c.Subscription):
		return "", "", fmt.Errorf("it is in subscription %s, and these are of %s", m[1], s.c.Subscription)
	}
	return m[2], m[4], nil
}

// id is the resource ID of what this package has made. The service is not
// consistent in the case of groups.
func (s *Snapshots) id(kind, name string) string {
	return fmt.Sprintf("/subscriptions/%s/resourceGroups/%s/providers/Microsoft.Compute/%s/%s", s.c.Subscription, s.c.ResourceGroup, kind, name)
}

func (s *Snapshots) encryption(region string) *armcompute.Encryption {
	set := s.c.EncryptionSets[region]
	if set == "" {
		return nil
	}
	return &armcompute.Encryption{DiskEncryptionSetID: &set, Type: pointer(armcompute.EncryptionTypeEncryptionAtRestWithCustomerKey)}
}

// fail makes a [provider.Error] of what a call returned; nil stays nil.
func fail(ctx context.Context, op, key string, err error) error {
	if err == nil {
		return nil
	}
	meaning := conn.Permission(err)
	switch conn.CodeOf(err) {
	case "ScopeLocked":
		meaning = provider.ErrLocked
	case "LocationNotAvailableForResourceType", "InvalidLocation", "NoRegisteredProviderFound":
		meaning = provider.ErrNotFound // of the region
	}
	return conn.Wrap(ctx, providerName, op, key, err, meaning)
}

// isMissing: there is no such disk or snapshot. A group or a subscription that
// is not there is another thing.
func isMissing(err error) bool {
	code := conn.CodeOf(err)
	return conn.StatusOf(err) == http.StatusNotFound && code != "ResourceGroupNotFound" && code != "SubscriptionNotFound"
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func pointer[T any](v T) *T { return &v }

// value is what p points to, or the zero value.
func value[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}
