package disks_test

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/compute/armcompute/v8"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/azure/disks"
	"github.com/holdfast-go/holdfast/provider/azure/internal/wire"
	"github.com/holdfast-go/holdfast/provider/providertest"
)

func TestSnapshots(t *testing.T) {
	t.Parallel()
	s := newService()
	open := func(region string) func() (provider.Snapshotter, error) {
		return func() (provider.Snapshotter, error) {
			return s.open(t, func(c *disks.Config) { c.Region = region }), nil
		}
	}
	providertest.TestSnapshotter(t, func(t *testing.T) provider.Snapshotter { return s.open(t, nil) }, providertest.SnapshotterOptions{
		NewVolume: func(_ context.Context, content []byte) (string, error) { return s.newDisk(content), nil },
		DeleteVolume: func(_ context.Context, id string) error {
			s.mu.Lock()
			defer s.mu.Unlock()
			delete(s.disks, base(id))
			return nil
		},
		WriteVolume: func(_ context.Context, id string, content []byte) error {
			return s.content(id, func(r *resource) { r.content = slices.Clone(content) })
		},
		ReadVolume: func(_ context.Context, id string) (content []byte, err error) {
			err = s.content(id, func(r *resource) { content = slices.Clone(r.content) })
			return content, err
		},
		Together: func(_ context.Context, ids []string) error {
			s.machine(append(ids, s.newDisk(nil))...)
			return nil
		},
		Second: open(here), Region: there, InRegion: open(there), Patience: 10 * time.Second,
	})
}

// The same suite on disks that it makes in a group of yours.
func TestAzure(t *testing.T) {
	where, region := os.Getenv("HOLDFAST_AZURE_DISK"), os.Getenv("HOLDFAST_AZURE_REGION")
	parts := strings.Split(where, "/")
	if len(parts) != 5 || region == "" {
		t.Skip("HOLDFAST_AZURE_DISK is not /subscriptions/S/resourceGroups/G, or HOLDFAST_AZURE_REGION is empty")
	}
	token, err := azidentity.NewDefaultAzureCredential(nil)
	if err != nil {
		t.Fatal(err)
	}
	client, err := armcompute.NewDisksClient(parts[2], token, nil)
	if err != nil {
		t.Fatal(err)
	}
	open := func(region string) func() (provider.Snapshotter, error) {
		return func() (provider.Snapshotter, error) {
			return disks.Open(t.Context(), disks.Config{Subscription: parts[2], ResourceGroup: parts[4], Region: region})
		}
	}
	other := os.Getenv("HOLDFAST_AZURE_COPY_REGION")
	var together func(context.Context, []string) error
	machine := strings.Split(os.Getenv("HOLDFAST_AZURE_MACHINE"), "/") // /subscriptions/S/resourceGroups/G/providers/Microsoft.Compute/virtualMachines/M
	machines, err := armcompute.NewVirtualMachinesClient(parts[2], token, nil)
	if err != nil {
		t.Fatal(err)
	}
	change := func(ctx context.Context, r armcompute.AttachDetachDataDisksRequest) error {
		poller, err := machines.BeginAttachDetachDataDisks(ctx, machine[4], machine[8], r, nil)
		if err == nil {
			_, err = poller.PollUntilDone(ctx, nil)
		}
		return err
	}
	if len(machine) == 9 {
		together = func(ctx context.Context, ids []string) error {
			var r armcompute.AttachDetachDataDisksRequest
			for _, id := range ids {
				r.DataDisksToAttach = append(r.DataDisksToAttach, &armcompute.DataDisksToAttach{DiskID: &id})
			}
			return change(ctx, r)
		}
	}
	providertest.TestSnapshotter(t, func(t *testing.T) provider.Snapshotter {
		s, err := open(region)()
		if err != nil {
			t.Fatal(err)
		}
		return s
	}, providertest.SnapshotterOptions{
		NewVolume: func(ctx context.Context, _ []byte) (string, error) {
			name := base(where + "/holdfast-check-" + time.Now().UTC().Format("20060102150405.000000000"))
			poller, err := client.BeginCreateOrUpdate(ctx, parts[4], strings.ReplaceAll(name, ".", "-"), armcompute.Disk{
				Location: &region, SKU: &armcompute.DiskSKU{Name: p(armcompute.DiskStorageAccountTypesStandardSSDLRS)},
				Properties: &armcompute.DiskProperties{DiskSizeGB: p(int32(4)), CreationData: &armcompute.CreationData{CreateOption: p(armcompute.DiskCreateOptionEmpty)}},
			}, nil)
			if err != nil {
				return "", err
			}
			out, err := poller.PollUntilDone(ctx, nil)
			if err != nil {
				return "", err
			}
			return *out.ID, nil
		},
		Together: together,
		DeleteVolume: func(ctx context.Context, id string) error {
			name := id[strings.LastIndexByte(id, '/')+1:]
			if disk, err := client.Get(ctx, parts[4], name, nil); err == nil && disk.ManagedBy != nil {
				if err := change(ctx, armcompute.AttachDetachDataDisksRequest{DataDisksToDetach: []*armcompute.DataDisksToDetach{{DiskID: &id}}}); err != nil {
					return err
				}
			}
			poller, err := client.BeginDelete(ctx, parts[4], name, nil)
			if err == nil {
				_, err = poller.PollUntilDone(ctx, nil)
			}
			return err
		},
		Second: open(region), Region: other, InRegion: open(other), Patience: time.Hour,
	})
}

func create(t *testing.T, d *disks.Snapshots, volume, token string) provider.Snapshot {
	t.Helper()
	snap, err := d.Create(t.Context(), volume, provider.SnapshotOptions{Token: token, Tags: map[string]string{"a": "b"}})
	if err != nil {
		t.Fatal(err)
	}
	return snap
}

// What goes to Azure: incremental snapshots, copies by CopyStart with the
// encryption set of their region, disks in a zone.
func TestRequests(t *testing.T) {
	t.Parallel()
	s := newService()
	set := group + "/providers/Microsoft.Compute/diskEncryptionSets/"
	d := s.open(t, func(c *disks.Config) {
		c.Zone, c.EncryptionSets = "2", map[string]string{there: set + "there", here: set + "here"}
	})
	volume := s.newDisk([]byte("content"))
	snap := create(t, d, volume, "x")
	if _, err := d.CopySnapshot(t.Context(), snap.Ref, there, provider.SnapshotOptions{Token: "x"}); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Restore(t.Context(), snap.Ref, provider.RestoreOptions{Token: "x"}); err != nil {
		t.Fatal(err)
	}
	puts := s.Seen("PUT", "")
	if len(puts) != 3 {
		t.Fatalf("%d puts", len(puts))
	}
	for i, want := range []string{
		`{"location":"westeurope","properties":{"creationData":{"createOption":"Copy","sourceResourceId":"` + volume + `"},"incremental":true},"tags":{"a":"b","holdfast:volume":"` + volume + `"}}`,
		`{"location":"northeurope","properties":{"creationData":{"createOption":"CopyStart","sourceResourceId":"` + snap.Ref.ID + `"},"encryption":{"diskEncryptionSetId":"` + set + `there","type":"EncryptionAtRestWithCustomerKey"},"incremental":true},"tags":{"holdfast:volume":"` + volume + `"}}`,
		`{"location":"westeurope","properties":{"creationData":{"createOption":"Copy","sourceResourceId":"` + snap.Ref.ID + `"},"encryption":{"diskEncryptionSetId":"` + set + `here","type":"EncryptionAtRestWithCustomerKey"}},"sku":{"name":"Premium_LRS"},"tags":{},"zones":["2"]}`,
	} {
		if got := string(puts[i].Content); got != want {
			t.Errorf("put %d\n%s, want\n%s", i, got, want)
		}
	}
}

// 32 Creates with one token make one snapshot; those of another disk are told.
func TestRace(t *testing.T) {
	t.Parallel()
	s := newService()
	v, w := s.newDisk([]byte("v")), s.newDisk([]byte("w"))
	var wg sync.WaitGroup
	volumes := make([]string, 32)
	for i := range volumes {
		d, volume := s.open(t, nil), v
		if i%2 == 1 {
			volume = w
		}
		wg.Go(func() {
			snap, err := d.Create(t.Context(), volume, provider.SnapshotOptions{Token: "x"})
			if err == nil && snap.Volume != volume {
				t.Errorf("asked for a snapshot of %s, got one of %s", volume, snap.Volume)
			}
			if err != nil && !errors.Is(err, provider.ErrConflict) {
				t.Error(err)
			}
			volumes[i] = snap.Volume
		})
	}
	wg.Wait()
	slices.Sort(volumes)
	if got := slices.Compact(volumes); s.n != 1 || len(got) != 2 || got[0] != "" {
		t.Errorf("%d made; snapshots of %q", s.n, got)
	}
}

// What passes is tried again, and a reply that is lost costs nothing: one
// snapshot, one copy, one disk.
func TestTriesAgain(t *testing.T) {
	t.Parallel()
	for name, rule := range map[string]wire.Rule{
		"lost": wire.Lost, "cut": wire.Cut,
		"429": wire.Answers(429, `{"error":{"code":"TooManyRequests","message":"later"}}`, "Retry-After", "1"),
		"500": wire.Answers(500, `{"error":{"code":"InternalServerError","message":"later"}}`),
		"503": wire.Answers(503, `<html>`),
	} {
		for _, attempts := range []int{1, 2} {
			if attempts == 1 && name != "lost" {
				continue
			}
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				s := newService()
				d := s.open(t, func(c *disks.Config) { c.Attempts = attempts })
				once := func() {
					first, _ := wire.First(1, "PUT", "", rule)
					s.Add(first)
				}
				once()
				snap := create(t, d, s.newDisk([]byte("content")), "x")
				once()
				if _, err := d.CopySnapshot(t.Context(), snap.Ref, there, provider.SnapshotOptions{Token: "x"}); err != nil {
					t.Error(err)
				}
				once()
				if _, err := d.Restore(t.Context(), snap.Ref, provider.RestoreOptions{Token: "x"}); err != nil {
					t.Error(err)
				}
				if len(s.snapshots) != 2 || len(s.disks) != 2 {
					t.Errorf("%d snapshots, %d disks", len(s.snapshots), len(s.disks))
				}
				first, _ := wire.First(1, "DELETE", "", rule)
				s.Add(first)
				if err := d.Delete(t.Context(), snap.Ref); err != nil && attempts > 1 {
					t.Error(err)
				}
			})
		}
	}
}

// A snapshot that was made and is not yet shown is no disk that is not there.
func TestNotYetShown(t *testing.T) {
	t.Parallel()
	hidden := wire.Answers(404, `{"error":{"code":"ResourceNotFound","message":"not found"}}`)
	for looks, ok := range map[int32]bool{3: true, 1000: false} {
		s := newService()
		first, _ := wire.First(looks, "GET", "/snapshots/", hidden)
		s.Add(first)
		snap, err := s.open(t, nil).Create(t.Context(), s.newDisk([]byte("v")), provider.SnapshotOptions{Token: "x"})
		if ok != (err == nil) || errors.Is(err, provider.ErrNotFound) || s.n != 1 {
			t.Errorf("%d looks: %+v, %v", looks, snap, err)
		}
	}
}

// A failure that stays is no sentinel.
func TestGivesUp(t *testing.T) {
	t.Parallel()
	s := newService()
	d := s.open(t, func(c *disks.Config) { c.Attempts = 1 })
	v := s.newDisk([]byte("v"))
	s.Add(func(r *wire.Request, next func() (*http.Response, error)) (*http.Response, error) {
		if r.Method == "PUT" {
			return wire.Fault(r, 500, "InternalServerError", "later", ""), nil
		}
		return next()
	})
	_, err := d.Create(t.Context(), v, provider.SnapshotOptions{Token: "x"})
	if err == nil || !strings.Contains(err.Error(), "500 InternalServerError: later") {
		t.Error(err)
	}
	for _, sentinel := range []error{provider.ErrNotFound, provider.ErrConflict, fs.ErrPermission} {
		if errors.Is(err, sentinel) {
			t.Errorf("%v is %v", err, sentinel)
		}
	}
	s.Clear()
	s.Add(wire.Answers(403, `{"error":{"code":"AuthorizationFailed","message":"no"}}`))
	if _, err := d.Create(t.Context(), v, provider.SnapshotOptions{Token: "x"}); !errors.Is(err, fs.ErrPermission) {
		t.Error(err)
	}
	s.Clear()
	s.Add(wire.Hole)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := d.Create(ctx, v, provider.SnapshotOptions{Token: "x"}); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	s.Clear()
	s.Add(wire.Answers(404, `{"error":{"code":"ResourceGroupNotFound","message":"gone"}}`))
	if _, err := d.Create(t.Context(), v, provider.SnapshotOptions{Token: "x"}); err == nil || errors.Is(err, provider.ErrNotFound) {
		t.Errorf("a group that is gone: %v", err)
	}
}

// Locks and immutability policies are ErrLocked, and the snapshot stays.
func TestLocked(t *testing.T) {
	t.Parallel()
	s := newService()
	d := s.open(t, nil)
	snap := create(t, d, s.newDisk([]byte("v")), "x")
	s.scopeLock = true
	if err := d.Delete(t.Context(), snap.Ref); !errors.Is(err, provider.ErrLocked) {
		t.Error(err)
	}
	s.scopeLock = false
	end := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	s.snapshots[base(snap.Ref.ID)].snap.Properties.ImmutabilityPolicy = &armcompute.ImmutabilityPolicy{PolicyExpirationTime: &end}
	if err := d.Delete(t.Context(), snap.Ref); !errors.Is(err, provider.ErrLocked) || !strings.Contains(err.Error(), "2030-01-02T03:04:05Z") {
		t.Error(err)
	}
	if _, err := d.Get(t.Context(), snap.Ref); err != nil {
		t.Error(err)
	}
}

// What Azure says of progress and failure.
func TestStates(t *testing.T) {
	t.Parallel()
	s := newService()
	d := s.open(t, nil)
	snap := create(t, d, s.newDisk([]byte("v")), "x")
	props := s.snapshots[base(snap.Ref.ID)].snap.Properties
	check := func(state provider.State, progress float64, reason string) {
		t.Helper()
		got, err := d.Get(t.Context(), snap.Ref)
		if err != nil || got.State != state || got.Progress != progress || (reason == "") != (got.Reason == "") || !strings.Contains(got.Reason, reason) {
			t.Errorf("%+v, %v, want %s, %v, %q", got, err, state, progress, reason)
		}
	}
	check(provider.Ready, 1, "")
	props.CompletionPercent = p(float32(25)) // of a disk of Premium SSD v2
	check(provider.Pending, 0.25, "")
	_, restoreErr := d.Restore(t.Context(), snap.Ref, provider.RestoreOptions{Token: "r"})
	_, copyErr := d.CopySnapshot(t.Context(), snap.Ref, there, provider.SnapshotOptions{Token: "c"})
	for _, err := range []error{restoreErr, copyErr} {
		if !errors.Is(err, provider.ErrConflict) || len(s.disks) != 1 || len(s.snapshots) != 1 {
			t.Errorf("of a snapshot that is not Ready: %v, %d disks, %d snapshots", err, len(s.disks), len(s.snapshots))
		}
	}
	props.CreationData.CreateOption, props.CompletionPercent = p(armcompute.DiskCreateOptionCopyStart), nil
	check(provider.Pending, 0, "") // not yet told
	props.CopyCompletionError = &armcompute.CopyCompletionError{ErrorCode: p(armcompute.CopyCompletionErrorReasonCopySourceNotFound), ErrorMessage: p("gone")}
	check(provider.Failed, 0, "CopySourceNotFound: gone")
	props.CopyCompletionError, props.ProvisioningState = nil, p("Failed")
	check(provider.Failed, 0, "Failed")
}

// References and names of elsewhere are refused before anything is asked.
func TestElsewhere(t *testing.T) {
	t.Parallel()
	s := newService()
	d := s.open(t, nil)
	good := provider.SnapshotRef{Provider: "azuredisk", Region: here, ID: snapPath + "x"}
	for text, change := range map[string]func(*provider.SnapshotRef){
		"not of":             func(r *provider.SnapshotRef) { r.Provider = "ebs" },
		"a snapshot of":      func(r *provider.SnapshotRef) { r.Region = there },
		"not the resource":   func(r *provider.SnapshotRef) { r.ID = diskPath + "x" },
		"is in subscription": func(r *provider.SnapshotRef) { r.ID = strings.ReplaceAll(snapPath, "s1", "s2") + "x" },
	} {
		ref := good
		change(&ref)
		_, err := d.Get(t.Context(), ref)
		for _, err := range []error{err, d.Delete(t.Context(), ref)} {
			if err == nil || errors.Is(err, provider.ErrNotFound) || !strings.Contains(err.Error(), text) {
				t.Errorf("%v does not say %q", err, text)
			}
		}
	}
	for _, tags := range []map[string]string{{"holdfast:volume": "x"}, {"HOLDFAST:x": "y"}, {"a/b": "c"}, {"a": strings.Repeat("x", 257)}} {
		if _, err := d.Create(t.Context(), diskPath+"x", provider.SnapshotOptions{Token: "x", Tags: tags}); err == nil || !strings.Contains(err.Error(), "tag") {
			t.Errorf("tags %v: %v", tags, err)
		}
	}
	if n := len(s.Seen("", "")); n != 0 {
		t.Errorf("%d requests", n)
	}
	v := s.newDisk(nil)
	if _, err := s.open(t, func(c *disks.Config) { c.Region = there }).Create(t.Context(), v, provider.SnapshotOptions{Token: "x"}); err == nil || !strings.Contains(err.Error(), "in region "+here) {
		t.Errorf("a disk of another region: %v", err)
	}
}

func TestConfig(t *testing.T) {
	_, err := disks.Open(t.Context(), disks.Config{Subscription: "a/b", EncryptionSets: map[string]string{"x": "y"}, Poll: -1, Attempts: -1, CA: []byte("none")})
	for _, field := range []string{"Subscription", "ResourceGroup", "Region", "EncryptionSets", "Poll", "Attempts", "CA"} {
		if err == nil || !strings.Contains(err.Error(), "disks: Config."+field+":") {
			t.Errorf("%v does not name %s", err, field)
		}
	}
}

// References are plain data.
func TestReference(t *testing.T) {
	t.Parallel()
	s := newService()
	snap := create(t, s.open(t, nil), s.newDisk([]byte("v")), "x")
	b, err := json.Marshal(snap.Ref)
	if err != nil || !strings.HasPrefix(string(b), `{"provider":"azuredisk","account":"s1","region":"westeurope","id":"`+snapPath+`holdfast-`) {
		t.Errorf("%s, %v", b, err)
	}
}

// Who makes snapshots in Azure compiles no other service and no other cloud.
func TestBringsNothingElse(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	for pkg := range strings.Lines(string(out)) {
		for _, other := range []string{"github.com/aws/", "cloud.google.com/", "google.golang.org/", "k8s.io/", "armdns", "/azblob", "azkeys"} {
			if strings.Contains(pkg, other) {
				t.Errorf("brings %s", pkg)
			}
		}
	}
	if !strings.Contains(string(out), "armcompute") {
		t.Error("go list does not name the SDK")
	}
}
