package ebs

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/aws/internal/conn"
)

// Config says in which region, and how volumes are made. The zero value takes
// region and credentials from the environment.
type Config struct {
	// Region of the volumes and their snapshots. Empty means what the
	// environment and the shared configuration say, or us-east-1 if Endpoint
	// is set and they say nothing.
	Region string

	// Zone of restored volumes, where RestoreOptions name none:
	// "eu-central-1a". Empty means that they must.
	Zone string

	// Keys are the KMS keys that encrypt copies and volumes, by region: an ID,
	// an ARN, or an alias. A region that is missing uses the key that the
	// account has chosen for EBS there.
	Keys map[string]string

	// VolumeType of restored volumes; empty means gp3. IOPS and Throughput
	// (MiB/s) go with it; 0 means its default.
	VolumeType string
	IOPS       int32
	Throughput int32

	// Settle is how long EC2 may take to show a new snapshot to everybody:
	// only then duplicates are looked for. 0 means 2 seconds. Every Create
	// and CopySnapshot that makes something takes so long.
	Settle time.Duration

	// FIPS uses the endpoints that are validated by FIPS 140. Not every
	// region has one. Not together with Endpoint.
	FIPS bool

	// Endpoint is the URL of a service other than AWS's own, for all regions.
	// Empty means AWS.
	Endpoint string

	// Credentials sign the requests. Nil means the standard chain: environment,
	// shared files, web identity, container and instance roles.
	Credentials aws.CredentialsProvider

	// CA is a list of certificates in PEM that are trusted in place of the
	// system's. Empty means the system's.
	CA []byte

	// Attempts is how often a request is made before it fails; 0 means 5.
	// Between them the client waits as the SDK's standard mode does, and it
	// stops trying again when most requests fail.
	Attempts int
}

const (
	providerName  = "ebs"
	defaultSettle = 2 * time.Second
	defaultType   = "gp3"
)

// Snapshots are the snapshots of one region as a [provider.Snapshotter], with
// groups, copies and sharing. It is safe for concurrent use.
type Snapshots struct {
	c      Config
	region string
	client *ec2.Client
}

var (
	_ provider.Snapshotter      = (*Snapshots)(nil)
	_ provider.GroupSnapshotter = (*Snapshots)(nil)
	_ provider.SnapshotCopier   = (*Snapshots)(nil)
	_ provider.SnapshotSharer   = (*Snapshots)(nil)
)

// Open returns the snapshots of the region of c. It reads the configuration of
// the environment and makes no request.
func Open(ctx context.Context, c Config) (*Snapshots, error) {
	var errs []error
	fault := func(field, format string, args ...any) {
		errs = append(errs, conn.Fault("ebs", field, format, args...))
	}
	reached := conn.Config{
		Region: c.Region, Endpoint: c.Endpoint, Credentials: c.Credentials, CA: c.CA, Attempts: c.Attempts, FIPS: c.FIPS,
		Answer: conn.ControlAnswer,
	}
	reached.Complete(fault)
	if c.Settle == 0 {
		c.Settle = defaultSettle
	}
	if c.Settle < 0 {
		fault("Settle", "%v, want more than 0", c.Settle)
	}
	if c.VolumeType == "" {
		c.VolumeType = defaultType
	}
	if c.IOPS < 0 {
		fault("IOPS", "%d", c.IOPS)
	}
	if c.Throughput < 0 {
		fault("Throughput", "%d", c.Throughput)
	}
	for region, key := range c.Keys {
		if region == "" || key == "" {
			fault("Keys", "an empty region or key")
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	loaded, err := reached.Load(ctx)
	if err != nil {
		return nil, fmt.Errorf("ebs: %w", err)
	}
	return &Snapshots{c: c, region: loaded.Region, client: ec2.NewFromConfig(loaded)}, nil
}

// Create implements [provider.Snapshotter].
func (s *Snapshots) Create(ctx context.Context, volume string, o provider.SnapshotOptions) (provider.Snapshot, error) {
	snap, err := s.create(ctx, volume, o)
	return snap, s.wrap(ctx, "snapshot create", volume, err)
}

func (s *Snapshots) create(ctx context.Context, volume string, o provider.SnapshotOptions) (provider.Snapshot, error) {
	m, err := newMaking("create", s.region, o.Token, o.Tags)
	if err != nil {
		return provider.Snapshot{}, err
	}
	m.matches = func(held set) error {
		if of := aws.ToString(held[0].VolumeId); of != volume {
			return fmt.Errorf("the Token was used for volume %s: %w", of, provider.ErrConflict)
		}
		return nil
	}
	m.begin = func(ctx context.Context, o ...func(*ec2.Options)) (string, error) {
		out, err := s.client.CreateSnapshot(ctx, &ec2.CreateSnapshotInput{VolumeId: &volume, TagSpecifications: specify(types.ResourceTypeSnapshot, m.tags)}, o...)
		if err != nil {
			return "", err
		}
		return aws.ToString(out.SnapshotId), nil
	}
	held, err := s.once(ctx, m)
	if err != nil {
		return provider.Snapshot{}, err
	}
	return snapshot(s.region, held[0]), nil
}

// Get implements [provider.Snapshotter].
func (s *Snapshots) Get(ctx context.Context, ref provider.SnapshotRef) (provider.Snapshot, error) {
	held, err := s.describe(ctx, ref)
	if err != nil {
		return provider.Snapshot{}, s.wrap(ctx, "snapshot get", ref.ID, err)
	}
	return snapshot(s.region, held), nil
}

// describe asks for the snapshot of a reference to this region.
func (s *Snapshots) describe(ctx context.Context, ref provider.SnapshotRef) (types.Snapshot, error) {
	switch {
	case ref.Provider != providerName:
		return types.Snapshot{}, fmt.Errorf("a reference of %q, not of %q", ref.Provider, providerName)
	case ref.Region != s.region:
		return types.Snapshot{}, fmt.Errorf("a snapshot of region %q: it is had through Snapshots opened for that, these are for %q", ref.Region, s.region)
	case ref.ID == "":
		return types.Snapshot{}, errors.New("a reference without an ID") // which would mean all of them
	}
	out, err := s.client.DescribeSnapshots(ctx, &ec2.DescribeSnapshotsInput{SnapshotIds: []string{ref.ID}})
	switch {
	case err != nil:
		return types.Snapshot{}, err
	case len(out.Snapshots) != 1:
		return types.Snapshot{}, provider.ErrNotFound
	}
	held := out.Snapshots[0]
	if owner := aws.ToString(held.OwnerId); ref.Account != "" && owner != ref.Account {
		return types.Snapshot{}, fmt.Errorf("the snapshot is of account %s, and the reference says %s", owner, ref.Account)
	}
	return held, nil
}

// ready is describe for what needs a Ready snapshot.
func (s *Snapshots) ready(ctx context.Context, ref provider.SnapshotRef) (provider.Snapshot, error) {
	held, err := s.describe(ctx, ref)
	if err != nil {
		return provider.Snapshot{}, err
	}
	snap := snapshot(s.region, held)
	if snap.State != provider.Ready {
		return provider.Snapshot{}, fmt.Errorf("the snapshot is %s, not %s: %w", snap.State, provider.Ready, provider.ErrConflict)
	}
	return snap, nil
}
