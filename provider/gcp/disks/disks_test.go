package disks_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"google.golang.org/api/compute/v1"
	"google.golang.org/api/googleapi"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/gcp/disks"
	"github.com/holdfast-go/holdfast/provider/gcp/internal/fakegcp"
	"github.com/holdfast-go/holdfast/provider/providertest"
)

const (
	home, away = "europe-west3", "europe-west1"
	zone       = home + "-a"
	insert     = "compute.snapshots.insert"
	insertDisk = "compute.disks.insert"
	kmsKey     = "projects/p/locations/europe/keyRings/r/cryptoKeys/"
)

func open(t *testing.T, s *fakegcp.Compute, change func(*disks.Config)) *disks.Snapshots {
	t.Helper()
	c := disks.Config{Location: home, Zone: zone, Endpoint: s.URL, Attempts: 3, Poll: time.Millisecond, ShareRole: role,
		Credentials: fakegcp.Token("p", func() string { return "token" })}
	if change != nil {
		change(&c)
	}
	e, err := disks.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func inAway(c *disks.Config) { c.Location, c.Zone = away, away+"-b" }

func TestSnapshotter(t *testing.T) {
	t.Parallel()
	s := fakegcp.NewCompute(t)
	providertest.TestSnapshotter(t, func(t *testing.T) provider.Snapshotter { return open(t, s, nil) }, providertest.SnapshotterOptions{
		NewVolume:    func(_ context.Context, content []byte) (string, error) { return s.Disk(zone, content), nil },
		DeleteVolume: func(_ context.Context, id string) error { s.DeleteDisk(id); return nil },
		WriteVolume:  func(_ context.Context, id string, content []byte) error { s.Write(id, content); return nil },
		ReadVolume: func(_ context.Context, id string) ([]byte, error) {
			content, ok := s.Content(id)
			if !ok {
				return nil, fmt.Errorf("no disk %s", id)
			}
			return content, nil
		},
		Second: func() (provider.Snapshotter, error) { return open(t, s, nil), nil },
		Together: func(_ context.Context, ids []string) error {
			s.Set("resourcePolicies", []string{s.ResourcePolicy(home, nil)}, ids...)
			return nil
		},
		Region: away, InRegion: func() (provider.Snapshotter, error) { return open(t, s, inAway), nil },
		Others:     []string{"serviceAccount:a@standby.iam.gserviceaccount.com", "user:B@example.com"},
		SharedWith: func(_ context.Context, ref provider.SnapshotRef) ([]string, error) { return sharedWith(s, ref.ID), nil },
		Size:       100,
	})
	if left := s.Disks(); len(left) > 0 {
		t.Errorf("left are the disks %q", left)
	}
	if left := s.InstantGroups(); len(left) > 0 {
		t.Errorf("left are the instant snapshot groups %q", left)
	}
}

// The same suite on Google: HOLDFAST_GCP_DISK is a zone in which disks may be
// made, HOLDFAST_GCP_LOCATION a region to copy to, HOLDFAST_GCP_PROJECT the
// project, if not that of the credentials.
func TestGCP(t *testing.T) {
	zone, region, project := os.Getenv("HOLDFAST_GCP_DISK"), os.Getenv("HOLDFAST_GCP_LOCATION"), os.Getenv("HOLDFAST_GCP_PROJECT")
	if zone == "" {
		t.Skip("HOLDFAST_GCP_DISK names no zone")
	}
	client, err := compute.NewService(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	open := func(location string) func() (provider.Snapshotter, error) {
		return func() (provider.Snapshotter, error) {
			return disks.Open(t.Context(), disks.Config{Project: project, Location: location, Zone: zone})
		}
	}
	own := zone[:strings.LastIndexByte(zone, '-')]
	v := &volumes{Service: client, project: project, zone: zone}
	t.Cleanup(func() {
		for _, policy := range v.policies { // their disks are gone
			if _, err := client.ResourcePolicies.Delete(project, own, policy).Do(); err != nil {
				t.Errorf("left is the policy %s: %v", policy, err)
			}
		}
	})
	providertest.TestSnapshotter(t, func(t *testing.T) provider.Snapshotter {
		e, err := open(own)()
		if err != nil {
			t.Fatal(err)
		}
		return e
	}, providertest.SnapshotterOptions{NewVolume: v.make, DeleteVolume: v.remove, Second: open(own), Together: v.together,
		Region: region, InRegion: open(region), Patience: time.Hour})
}

// volumes makes and deletes disks at Google.
type volumes struct {
	*compute.Service
	project, zone string
	policies      []string
}

// together gives disks a policy that they have in common.
func (v *volumes) together(ctx context.Context, ids []string) error {
	region, name := v.zone[:strings.LastIndexByte(v.zone, '-')], fmt.Sprintf("holdfast-check-%d", time.Now().UnixNano())
	op, err := v.ResourcePolicies.Insert(v.project, region, &compute.ResourcePolicy{Name: name, DiskConsistencyGroupPolicy: &compute.ResourcePolicyDiskConsistencyGroupPolicy{}}).Context(ctx).Do()
	for err == nil && op.Status != "DONE" {
		op, err = v.RegionOperations.Wait(v.project, region, op.Name).Context(ctx).Do()
	}
	if err != nil {
		return err
	}
	v.policies = append(v.policies, name)
	for _, id := range ids {
		op, err := v.Disks.AddResourcePolicies(v.project, v.zone, id[strings.LastIndexByte(id, '/')+1:],
			&compute.DisksAddResourcePoliciesRequest{ResourcePolicies: []string{"projects/" + v.project + "/regions/" + region + "/resourcePolicies/" + name}}).Context(ctx).Do()
		for err == nil && op.Status != "DONE" {
			op, err = v.ZoneOperations.Wait(v.project, v.zone, op.Name).Context(ctx).Do()
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (v *volumes) make(ctx context.Context, _ []byte) (string, error) {
	name := fmt.Sprintf("holdfast-check-%d", time.Now().UnixNano())
	op, err := v.Disks.Insert(v.project, v.zone, &compute.Disk{Name: name, SizeGb: 10}).Context(ctx).Do()
	for err == nil && op.Status != "DONE" {
		op, err = v.ZoneOperations.Wait(v.project, v.zone, op.Name).Context(ctx).Do()
	}
	return "zones/" + v.zone + "/disks/" + name, err
}

func (v *volumes) remove(ctx context.Context, id string) error {
	_, err := v.Disks.Delete(v.project, v.zone, id[strings.LastIndexByte(id, '/')+1:]).Context(ctx).Do()
	if e, ok := errors.AsType[*googleapi.Error](err); ok && e.Code == 404 {
		return nil
	}
	return err
}

func ready(t *testing.T, e *disks.Snapshots, volume, token string) provider.Snapshot {
	t.Helper()
	snap, err := e.Create(t.Context(), volume, provider.SnapshotOptions{Token: token})
	for range 20 {
		if err != nil {
			t.Fatal(err)
		}
		if snap.State == provider.Ready {
			return snap
		}
		snap, err = e.Get(t.Context(), snap.Ref)
	}
	t.Fatalf("%+v", snap)
	return snap
}

// isUnknown: nobody may take the error for a certain answer.
func isUnknown(t *testing.T, err error) {
	t.Helper()
	for _, sentinel := range []error{provider.ErrConflict, provider.ErrNotFound, fs.ErrPermission, errors.ErrUnsupported} {
		if err == nil || errors.Is(err, sentinel) {
			t.Errorf("%v is %v", err, sentinel)
		}
	}
}

// What is sent: the location, the keys, the type, names that are hashes.
func TestRequests(t *testing.T) {
	s := fakegcp.NewCompute(t)
	e := open(t, s, func(c *disks.Config) {
		c.Keys = map[string]string{home: kmsKey + "home", away: kmsKey + "away"}
		c.DiskKey, c.DiskType = kmsKey+"disk", "hyperdisk-balanced"
	})
	v := s.Disk(zone, nil)
	snap := ready(t, e, v, "a token")
	if _, err := e.Restore(t.Context(), snap.Ref, provider.RestoreOptions{Token: "a token", Zone: home + "-c"}); err != nil {
		t.Fatal(err)
	}
	if _, err := e.CopySnapshot(t.Context(), snap.Ref, away, provider.SnapshotOptions{Token: "a token"}); err != nil {
		t.Fatal(err)
	}
	contains := func(method string, i int, all ...string) {
		t.Helper()
		for _, want := range all {
			if sent := s.Seen(method); len(sent) <= i || !strings.Contains(string(sent[i].Content), want) {
				t.Errorf("%d requests of %s, want number %d with %s", len(sent), method, i, want)
			}
		}
	}
	contains(insert, 0, `"storageLocations":["`+home+`"]`, `"snapshotEncryptionKey":{"kmsKeyName":"`+kmsKey+`home"}`, `"sourceDisk":"projects/p/`+v+`"`)
	contains(insert, 1, `"storageLocations":["`+away+`"]`, `"snapshotEncryptionKey":{"kmsKeyName":"`+kmsKey+`away"}`)
	contains(insertDisk, 0, `"diskEncryptionKey":{"kmsKeyName":"`+kmsKey+`disk"}`, `"type":"projects/p/zones/`+home+`-c/diskTypes/hyperdisk-balanced"`)
	contains(insertDisk, 1, `"diskEncryptionKey":{"kmsKeyName":"`+kmsKey+`disk"}`)
	if strings.Contains(snap.Ref.ID, "token") || snap.Size != 10<<30 || snap.Ref.Account != "p" || snap.Ref.Region != home {
		t.Errorf("%+v", snap)
	}
}

// Tags are kept whatever is in them, up to what there is room for.
func TestTags(t *testing.T) {
	s := fakegcp.NewCompute(t)
	e, v := open(t, s, nil), s.Disk(zone, nil)
	tags := map[string]string{"Name With Spaces": "Ünïcode \"quoted\" <&>", "aws:x": "", "k": strings.Repeat("v", 1000)}
	snap, err := e.Create(t.Context(), v, provider.SnapshotOptions{Token: "t", Tags: tags})
	if err != nil || fmt.Sprint(snap.Tags) != fmt.Sprint(tags) {
		t.Errorf("%v, %v", snap.Tags, err)
	}
	for k, v := range tags {
		n := 0
		for range e.List(t.Context(), map[string]string{k: v}) {
			n++
		}
		if n != 1 {
			t.Errorf("%d are found by %q", n, k)
		}
	}
	many := map[string]string{}
	for i := range 61 {
		many[fmt.Sprint(i)] = ""
	}
	before := len(s.Seen(""))
	for _, tags := range []map[string]string{{"": "x"}, {"k": strings.Repeat("x", 2048)}, many} {
		if _, err := e.Create(t.Context(), v, provider.SnapshotOptions{Token: "u", Tags: tags}); err == nil {
			t.Errorf("%d tags are accepted", len(tags))
		}
	}
	if len(s.Seen("")) != before {
		t.Error("requests were sent")
	}
}

// What Compute Engine calls FAILED has failed; what is archived, deleted or of
// somebody else is told apart.
func TestStates(t *testing.T) {
	s := fakegcp.NewCompute(t)
	e, v := open(t, s, nil), s.Disk(zone, nil)
	snap := ready(t, e, v, "t")
	s.Sticks(snap.Ref.ID, "FAILED")
	if got, err := e.Get(t.Context(), snap.Ref); err != nil || got.State != provider.Failed || got.Reason == "" || got.Progress == 1 {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := e.Restore(t.Context(), snap.Ref, provider.RestoreOptions{Token: "t"}); !errors.Is(err, provider.ErrConflict) {
		t.Errorf("restore of what has failed: %v", err)
	}
	s.Sticks(snap.Ref.ID, "DELETING")
	if _, err := e.Get(t.Context(), snap.Ref); !errors.Is(err, provider.ErrNotFound) {
		t.Errorf("one that is being deleted: %v", err)
	}
	for snap := range e.List(t.Context(), nil) {
		t.Errorf("%s is listed", snap.Ref.ID)
	}
	_, err := e.Create(t.Context(), v, provider.SnapshotOptions{Token: "t"})
	isUnknown(t, err)
	for _, ref := range []provider.SnapshotRef{
		{Provider: "ebs", Account: "p", Region: home, ID: snap.Ref.ID}, {Provider: "pd", Account: "q", Region: home, ID: snap.Ref.ID},
		{Provider: "pd", Account: "p", Region: home, ID: ""}, {Provider: "pd", Account: "p", Region: home, ID: "../x"},
	} {
		_, err := e.Get(t.Context(), ref)
		isUnknown(t, err)
	}
	s.Sticks(snap.Ref.ID, "READY")
	ref := snap.Ref
	ref.Region = away
	_, err = e.Get(t.Context(), ref)
	isUnknown(t, err)
	// The project itself is not there: nothing is said about a snapshot.
	other := open(t, s, func(c *disks.Config) { c.Project = "q" })
	ref = snap.Ref
	ref.Account = "q"
	_, err = other.Get(t.Context(), ref)
	isUnknown(t, err)
	isUnknown(t, other.Delete(t.Context(), ref))
}

func TestConfig(t *testing.T) {
	_, err := disks.Open(t.Context(), disks.Config{Location: "EU", Zone: "/", Endpoint: "x", Attempts: -1, Poll: -1, Keys: map[string]string{"": "k"},
		DiskKey: "k", DiskType: "?", ShareRole: "r", CA: []byte("none")})
	if err == nil {
		t.Fatal("no error")
	}
	for _, field := range []string{"Location", "Zone", "Endpoint", "Attempts", "Poll", "Keys", "DiskKey", "DiskType", "ShareRole", "CA"} {
		if !strings.Contains(err.Error(), "disks: Config."+field+":") {
			t.Errorf("%v does not name %s", err, field)
		}
	}
}

// The disk that a snapshot was made of is somebody's data, unless it is the one
// that a copy has passed through, which has the copy's name: no other is deleted,
// whatever the description says.
func TestDisksOfOthersStay(t *testing.T) {
	s := fakegcp.NewCompute(t)
	e, v := open(t, s, nil), s.Disk(zone, nil)
	snap := ready(t, e, v, "t")
	s.Add(func(r *fakegcp.Request, next func() (*http.Response, error)) (*http.Response, error) {
		answer, err := next()
		if r.Method != "compute.snapshots.get" || err != nil {
			return answer, err
		}
		body, err := io.ReadAll(answer.Body)
		return fakegcp.Answer(http.StatusOK, strings.Replace(string(body), `{\"holdfast\":{}}`, `{\"holdfast\":{\"source\":\"x\",\"volume\":\"y\"}}`, 1)), err
	})
	got, err := e.Get(t.Context(), snap.Ref)
	if err != nil || got.State != provider.Ready || got.Volume != "y" {
		t.Fatalf("%+v, %v, want one that looks like a copy", got, err)
	}
	if err := e.Delete(t.Context(), snap.Ref); err != nil {
		t.Fatal(err)
	}
	if left := s.Disks(); len(left) != 1 || left[0] != v || len(s.Seen("compute.disks.delete")) != 0 {
		t.Errorf("left are %q after %d requests to delete one", left, len(s.Seen("compute.disks.delete")))
	}
}
