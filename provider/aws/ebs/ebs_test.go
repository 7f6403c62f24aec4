package ebs_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/holdfast-go/holdfast/internal/testenv"
	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/aws/ebs"
	"github.com/holdfast-go/holdfast/provider/aws/internal/wire"
	"github.com/holdfast-go/holdfast/provider/providertest"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// service is moto behind what AWS documents.
type service struct {
	*wire.Proxy
	*documented
	owner *ec2.Client
}

func newService(t *testing.T) *service {
	t.Helper()
	endpoint := testenv.StartMoto(t).Endpoint
	s := &service{wire.New(t, endpoint), newDocumented(t), client(endpoint)}
	s.Add(s.rule)
	return s
}

func (s *service) open(t *testing.T, change func(*ebs.Config)) *ebs.Snapshots {
	t.Helper()
	c := ebs.Config{Region: home, Zone: home + "a", Endpoint: s.URL, Attempts: 3, Settle: 20 * time.Millisecond,
		Credentials: credentials.NewStaticCredentialsProvider("key", "secret", "")}
	if change != nil {
		change(&c)
	}
	e, err := ebs.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func inAway(c *ebs.Config) { c.Region, c.Zone = away, away+"a" }

// volumes makes and deletes volumes for the suite, and attaches them to an
// instance.
type volumes struct {
	*ec2.Client
	zone     string
	regions  []string
	instance string
}

func (v volumes) make(ctx context.Context, _ []byte) (string, error) {
	out, err := v.CreateVolume(ctx, &ec2.CreateVolumeInput{AvailabilityZone: &v.zone, Size: aws.Int32(1), VolumeType: "gp3", Encrypted: aws.Bool(true)})
	if err != nil {
		return "", err
	}
	return *out.VolumeId, ec2.NewVolumeAvailableWaiter(v).Wait(ctx, &ec2.DescribeVolumesInput{VolumeIds: []string{*out.VolumeId}}, 5*time.Minute)
}

// remove deletes a volume, wherever it is. One that is gone is no error.
func (v volumes) remove(ctx context.Context, id string) error {
	if err := v.detach(ctx, id); err != nil {
		return err
	}
	for _, region := range v.regions {
		_, err := v.DeleteVolume(ctx, &ec2.DeleteVolumeInput{VolumeId: &id}, func(o *ec2.Options) { o.Region = region })
		if err != nil && !strings.Contains(err.Error(), "InvalidVolume.NotFound") {
			return err
		}
	}
	return nil
}

// attach attaches volumes to the instance, at the first devices that are free.
func (v volumes) attach(ctx context.Context, ids []string) error {
	out, err := v.DescribeInstances(ctx, &ec2.DescribeInstancesInput{InstanceIds: []string{v.instance}})
	if err != nil {
		return err
	}
	taken := map[string]bool{}
	for _, d := range out.Reservations[0].Instances[0].BlockDeviceMappings {
		taken[*d.DeviceName] = true
	}
	for _, id := range ids {
		device := "/dev/sdf"
		for taken[device] {
			device = device[:len(device)-1] + string(device[len(device)-1]+1)
		}
		taken[device] = true
		if _, err := v.AttachVolume(ctx, &ec2.AttachVolumeInput{InstanceId: &v.instance, VolumeId: &id, Device: &device}); err != nil {
			return err
		}
		if err := ec2.NewVolumeInUseWaiter(v).Wait(ctx, &ec2.DescribeVolumesInput{VolumeIds: []string{id}}, 5*time.Minute); err != nil {
			return err
		}
	}
	return nil
}

// detach takes a volume from the instance. One that is not there is no error.
func (v volumes) detach(ctx context.Context, id string) error {
	if v.instance == "" {
		return nil
	}
	_, err := v.DetachVolume(ctx, &ec2.DetachVolumeInput{InstanceId: &v.instance, VolumeId: &id})
	if err != nil && (strings.Contains(err.Error(), "InvalidVolume.NotFound") || strings.Contains(err.Error(), "InvalidAttachment.NotFound") || strings.Contains(err.Error(), "IncorrectState")) {
		return nil
	}
	if err != nil {
		return err
	}
	return ec2.NewVolumeAvailableWaiter(v).Wait(ctx, &ec2.DescribeVolumesInput{VolumeIds: []string{id}}, 5*time.Minute)
}

func (v volumes) sharedWith(ctx context.Context, ref provider.SnapshotRef) (users []string, err error) {
	out, err := v.DescribeSnapshotAttribute(ctx, &ec2.DescribeSnapshotAttributeInput{SnapshotId: &ref.ID, Attribute: types.SnapshotAttributeNameCreateVolumePermission})
	if err != nil {
		return nil, err
	}
	for _, p := range out.CreateVolumePermissions {
		users = append(users, aws.ToString(p.UserId)+string(p.Group))
	}
	return users, nil
}

var others = []string{"210987654321", "109876543210"}

func (s *service) volume(t *testing.T) string {
	t.Helper()
	id, err := volumes{Client: s.owner, zone: home + "a"}.make(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func TestSnapshotter(t *testing.T) {
	s := newService(t)
	v := volumes{s.owner, home + "a", []string{home, away}, s.instance(t)}
	s.Add(func(r *wire.Request, next func() (*http.Response, error)) (*http.Response, error) {
		answer, err := next()
		if r.Action == "CreateSnapshots" && err == nil {
			s.pass(time.Minute) // else it is half a minute until what is deleted of a group is taken for deleted
		}
		return answer, err
	})
	providertest.TestSnapshotter(t, func(t *testing.T) provider.Snapshotter { return s.open(t, nil) }, providertest.SnapshotterOptions{
		NewVolume: v.make, DeleteVolume: v.remove,
		Second:   func() (provider.Snapshotter, error) { return s.open(t, nil), nil },
		Together: v.attach, Others: others, SharedWith: v.sharedWith,
		Region: away, InRegion: func() (provider.Snapshotter, error) { return s.open(t, inAway), nil },
	})
}

// The same suite on AWS: HOLDFAST_AWS_VOLUME is a zone in which volumes may be
// made, HOLDFAST_AWS_REGION a region to copy to, HOLDFAST_AWS_INSTANCE an instance
// in the zone to which they may be attached.
func TestAWS(t *testing.T) {
	zone, region := os.Getenv("HOLDFAST_AWS_VOLUME"), os.Getenv("HOLDFAST_AWS_REGION")
	if zone == "" {
		t.Skip("HOLDFAST_AWS_VOLUME names no zone")
	}
	own := strings.TrimRight(zone, "abcdef")
	open := func(region string) func() (provider.Snapshotter, error) {
		return func() (provider.Snapshotter, error) {
			return ebs.Open(t.Context(), ebs.Config{Region: region, Zone: region + "a"})
		}
	}
	v := volumes{ec2.New(ec2.Options{Region: own, Credentials: awsCredentials(t)}), zone, []string{own}, os.Getenv("HOLDFAST_AWS_INSTANCE")}
	if region != "" {
		v.regions = append(v.regions, region)
	}
	o := providertest.SnapshotterOptions{NewVolume: v.make, DeleteVolume: v.remove, Second: open(own), Region: region, InRegion: open(region), Patience: time.Hour}
	if v.instance != "" {
		o.Together = v.attach
	}
	providertest.TestSnapshotter(t, func(t *testing.T) provider.Snapshotter {
		e, err := ebs.Open(t.Context(), ebs.Config{Region: own, Zone: zone})
		if err != nil {
			t.Fatal(err)
		}
		return e
	}, o)
}

// create makes a snapshot for a token of the volume's own: all tests share one
// account.
func create(t *testing.T, e *ebs.Snapshots, volume, token string) provider.Snapshot {
	t.Helper()
	snap, err := e.Create(t.Context(), volume, provider.SnapshotOptions{Token: token + " of " + volume, Tags: map[string]string{"for": volume}})
	if err != nil {
		t.Fatal(err)
	}
	return snap
}

func ready(t *testing.T, e *ebs.Snapshots, ref provider.SnapshotRef) {
	t.Helper()
	for range 5 {
		snap, err := e.Get(t.Context(), ref)
		if err != nil {
			t.Fatal(err)
		}
		if snap.State == provider.Ready {
			return
		}
	}
	t.Fatalf("%s is not ready", ref.ID)
}

func count(t *testing.T, e *ebs.Snapshots, volume string) (n int) {
	t.Helper()
	for _, err := range e.List(t.Context(), map[string]string{"for": volume}) {
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	return n
}

// A reference says where it is good.
func TestRefs(t *testing.T) {
	s := newService(t)
	e, other := s.open(t, nil), s.open(t, inAway)
	snap := create(t, e, s.volume(t), "refs")
	ready(t, e, snap.Ref)
	if want := (provider.SnapshotRef{Provider: "ebs", Account: testenv.MotoAccount, Region: home, ID: snap.Ref.ID}); snap.Ref != want {
		t.Errorf("%+v, want %+v", snap.Ref, want)
	}
	wrong := func(change func(*provider.SnapshotRef)) provider.SnapshotRef {
		ref := snap.Ref
		change(&ref)
		return ref
	}
	for what, call := range map[string]struct {
		ref provider.SnapshotRef
		e   *ebs.Snapshots
	}{
		"another region":   {snap.Ref, other},
		"another account":  {wrong(func(r *provider.SnapshotRef) { r.Account = "210987654321" }), e},
		"another provider": {wrong(func(r *provider.SnapshotRef) { r.Provider = "local" }), e},
		"no ID":            {wrong(func(r *provider.SnapshotRef) { r.ID = "" }), e},
	} {
		_, getErr := call.e.Get(t.Context(), call.ref)
		_, restoreErr := call.e.Restore(t.Context(), call.ref, provider.RestoreOptions{Token: "r"})
		_, copyErr := call.e.CopySnapshot(t.Context(), call.ref, away, provider.SnapshotOptions{Token: "r"})
		for i, err := range []error{getErr, restoreErr, copyErr, call.e.Delete(t.Context(), call.ref), call.e.Share(t.Context(), call.ref, "210987654321")} {
			if err == nil || errors.Is(err, provider.ErrNotFound) {
				t.Errorf("%s: call %d: %v", what, i, err)
			}
		}
	}
	if _, err := e.Get(t.Context(), snap.Ref); err != nil {
		t.Errorf("after all that: %v", err)
	}
	s.lost[snap.Ref.ID] = true // an empty answer, and no error
	if _, err := e.Get(t.Context(), snap.Ref); !errors.Is(err, provider.ErrNotFound) {
		t.Errorf("one that EC2 does not show: %v", err)
	}
}

// What is made is encrypted, with the key of its region, tagged, and asked for
// by client token.
func TestRequests(t *testing.T) {
	s := newService(t)
	e := s.open(t, func(c *ebs.Config) {
		c.Keys, c.IOPS, c.Throughput = map[string]string{home: "alias/home", away: "alias/away"}, 4000, 200
	})
	snap := create(t, e, s.volume(t), "requests")
	ready(t, e, snap.Ref)
	if _, err := e.CopySnapshot(t.Context(), snap.Ref, away, provider.SnapshotOptions{Token: "requests"}); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Restore(t.Context(), snap.Ref, provider.RestoreOptions{Token: "requests", Zone: home + "b"}); err != nil {
		t.Fatal(err)
	}
	for action, wants := range map[string][]string{
		"CreateSnapshot": {"TagSpecification.1.Tag.2.Key=holdfast%3Atoken"},
		"CopySnapshot":   {"Encrypted=true", "KmsKeyId=alias%2Faway", "SourceRegion=" + home, "SourceSnapshotId=" + snap.Ref.ID, "holdfast%3Asource", "PresignedUrl="},
		"CreateVolume":   {"Encrypted=true", "KmsKeyId=alias%2Fhome", "ClientToken=", "AvailabilityZone=" + home + "b", "VolumeType=gp3", "Iops=4000", "Throughput=200", "holdfast%3Atoken"},
	} {
		seen := s.Seen(action)
		if len(seen) != 1 {
			t.Errorf("%d requests of %s", len(seen), action)
			continue
		}
		for _, want := range wants {
			if !strings.Contains(string(seen[0].Content), want) {
				t.Errorf("%s without %s: %s", action, want, seen[0].Content)
			}
		}
	}
	if r := s.Seen("CopySnapshot"); len(r) > 0 && r[0].Region() != away {
		t.Errorf("a copy is asked of %s", r[0].Region())
	}
	if _, err := s.open(t, func(c *ebs.Config) { c.Zone = "" }).Restore(t.Context(), snap.Ref, provider.RestoreOptions{Token: "z"}); err == nil || !strings.Contains(err.Error(), "Config.Zone") {
		t.Errorf("without a zone: %v", err)
	}
}

// A region that the account has not enabled is there, and takes no copy.
func TestRegionNotEnabled(t *testing.T) {
	s := newService(t)
	e := s.open(t, nil)
	snap := create(t, e, s.volume(t), "region")
	ready(t, e, snap.Ref)
	s.Add(func(r *wire.Request, next func() (*http.Response, error)) (*http.Response, error) {
		if r.Action != "DescribeRegions" {
			return next()
		}
		return wire.Answer(http.StatusOK, "text/xml", `<DescribeRegionsResponse `+xmlns+`><regionInfo><item><regionName>af-south-1</regionName>`+
			`<optInStatus>not-opted-in</optInStatus></item></regionInfo></DescribeRegionsResponse>`), nil
	})
	_, err := e.CopySnapshot(t.Context(), snap.Ref, "af-south-1", provider.SnapshotOptions{Token: "region"})
	if err == nil || errors.Is(err, provider.ErrNotFound) || !strings.Contains(err.Error(), "not enabled") {
		t.Errorf("%v", err)
	}
}

// Only accounts are shared with; the suite tests the rest.
func TestShareWithAccounts(t *testing.T) {
	s := newService(t)
	e := s.open(t, nil)
	snap := create(t, e, s.volume(t), "share")
	for _, bad := range []string{"21098765432", "2109876543210", "210987654321 ", "arn:aws:iam::210987654321:root"} {
		if err := e.Share(t.Context(), snap.Ref, others[0], bad); err == nil || !strings.Contains(err.Error(), "12 digits") {
			t.Errorf("%q: %v", bad, err)
		}
	}
	if n := len(s.Seen("ModifySnapshotAttribute")); n != 0 {
		t.Errorf("%d requests were sent", n)
	}
}

// What something needs is not deleted, and the error says by what.
func TestDeleteRefused(t *testing.T) {
	s := newService(t)
	e := s.open(t, nil)
	snap := create(t, e, s.volume(t), "locked")
	for _, state := range []string{"compliance", "governance", "compliance-cooloff"} {
		s.locked[snap.Ref.ID] = state
		if err := e.Delete(t.Context(), snap.Ref); !errors.Is(err, provider.ErrLocked) || !strings.Contains(err.Error(), "2030-01-02") {
			t.Errorf("%s: %v", state, err)
		}
	}
	s.locked[snap.Ref.ID] = "expired"
	if err := e.Delete(t.Context(), snap.Ref); err == nil || errors.Is(err, provider.ErrLocked) {
		t.Errorf("refused for another reason: %v", err)
	}
	delete(s.locked, snap.Ref.ID)
	image, err := s.owner.RegisterImage(t.Context(), &ec2.RegisterImageInput{Name: aws.String(snap.Ref.ID), RootDeviceName: aws.String("/dev/xvda"),
		BlockDeviceMappings: []types.BlockDeviceMapping{{DeviceName: aws.String("/dev/xvda"), Ebs: &types.EbsBlockDevice{SnapshotId: &snap.Ref.ID}}}})
	if err != nil {
		t.Fatal(err)
	}
	first, _ := wire.First(1, "DeleteSnapshot", refuse("InvalidSnapshot.InUse", "The snapshot "+snap.Ref.ID+" is currently in use by "+*image.ImageId))
	s.Add(first) // moto knows only of images that it made itself
	if err := e.Delete(t.Context(), snap.Ref); err == nil || errors.Is(err, provider.ErrLocked) || !strings.Contains(err.Error(), *image.ImageId) || !strings.Contains(err.Error(), "deregister") {
		t.Errorf("in use: %v", err)
	}
	if err := e.Delete(t.Context(), snap.Ref); err != nil {
		t.Errorf("%v", err)
	}
}

// States that moto never shows.
func TestStates(t *testing.T) {
	s := newService(t)
	e := s.open(t, nil)
	snap := create(t, e, s.volume(t), "states")
	ready(t, e, snap.Ref) // EC2 itself would make a volume of it
	describe := func(inner string) {
		always, _ := wire.First(1<<20, "DescribeSnapshots", wire.Answers(200, "text/xml", `<DescribeSnapshotsResponse `+xmlns+`><snapshotSet><item><snapshotId>`+snap.Ref.ID+`</snapshotId><ownerId>`+testenv.MotoAccount+
			`</ownerId><volumeId>vol-1</volumeId><volumeSize>3</volumeSize><startTime>2026-01-02T03:04:05.678Z</startTime>`+inner+`</item></snapshotSet></DescribeSnapshotsResponse>`))
		s.Add(always)
	}
	for inner, want := range map[string]provider.Snapshot{
		`<status>pending</status><progress>63%</progress>`:                                      {State: provider.Pending, Progress: 0.63},
		`<status>pending</status><progress>100%</progress>`:                                     {State: provider.Pending, Progress: 0.99},
		`<status>pending</status><progress></progress>`:                                         {State: provider.Pending},
		`<status>completed</status><progress>99%</progress>`:                                    {State: provider.Ready, Progress: 1},
		`<status>completed</status><progress>100%</progress><storageTier>archive</storageTier>`: {State: provider.Pending},
		`<status>error</status><progress>12%</progress><statusMessage>key</statusMessage>`:      {State: provider.Failed, Progress: 0.12, Reason: "key"},
	} {
		describe(inner)
		got, err := e.Get(t.Context(), snap.Ref)
		if err != nil || got.State != want.State || got.Progress != want.Progress || got.Reason != want.Reason || got.Size != 3<<30 {
			t.Errorf("%s: %+v, %v", inner, got, err)
		}
		if want.State != provider.Ready {
			if _, err := e.Restore(t.Context(), snap.Ref, provider.RestoreOptions{Token: fmt.Sprint(inner)}); !errors.Is(err, provider.ErrConflict) {
				t.Errorf("%s: restore: %v", inner, err)
			}
		}
	}
	describe(`<status>error</status>`)
	if got, err := e.Get(t.Context(), snap.Ref); err != nil || got.State != provider.Failed || got.Reason == "" {
		t.Errorf("an error without a message: %+v, %v", got, err)
	}
}

func TestTags(t *testing.T) {
	s := newService(t)
	e, v := s.open(t, nil), s.volume(t)
	many := map[string]string{}
	for i := range 50 {
		many[fmt.Sprint("k", i)] = "v"
	}
	for name, tags := range map[string]map[string]string{
		"own": {"holdfast:token": "x"}, "aws": {"aws:x": "x"}, "empty": {"": "x"}, "long": {"k": strings.Repeat("x", 257)}, "many": many,
	} {
		if _, err := e.Create(t.Context(), v, provider.SnapshotOptions{Token: name, Tags: tags}); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if n := len(s.Seen("")); n != 0 {
		t.Errorf("%d requests were sent", n)
	}
	// Wildcards of EC2 are plain characters here.
	if _, err := e.Create(t.Context(), v, provider.SnapshotOptions{Token: v, Tags: map[string]string{"for": v}}); err != nil {
		t.Fatal(err)
	}
	for snap, err := range e.List(t.Context(), map[string]string{"for": "vol-*"}) {
		t.Errorf("a wildcard finds %v, %v", snap.Ref.ID, err)
	}
	last := s.Seen("DescribeSnapshots")
	if sent := string(last[len(last)-1].Content); !strings.Contains(sent, "vol-%5C%2A") {
		t.Errorf("sent %s", sent)
	}
}

func TestConfig(t *testing.T) {
	_, err := ebs.Open(t.Context(), ebs.Config{Region: "r", Endpoint: "x", FIPS: true, Attempts: -1, Settle: -1, IOPS: -1, Throughput: -1, Keys: map[string]string{"": "k"}, CA: []byte("none")})
	if err == nil {
		t.Fatal("no error")
	}
	for _, field := range []string{"Endpoint", "FIPS", "Attempts", "Settle", "IOPS", "Throughput", "Keys", "CA"} {
		if !strings.Contains(err.Error(), "ebs: Config."+field+":") {
			t.Errorf("%v does not name %s", err, field)
		}
	}
}

// awsCredentials are those of the standard chain.
func awsCredentials(t *testing.T) aws.CredentialsProvider {
	t.Helper()
	c, err := config.LoadDefaultConfig(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return c.Credentials
}
