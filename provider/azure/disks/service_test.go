package disks_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	azfake "github.com/Azure/azure-sdk-for-go/sdk/azcore/fake"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/compute/armcompute/v8"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/compute/armcompute/v8/fake"

	"github.com/holdfast-go/holdfast/provider/azure/disks"
	"github.com/holdfast-go/holdfast/provider/azure/internal/wire"
)

const (
	group    = "/subscriptions/s1/resourceGroups/g1"
	diskPath = group + "/providers/Microsoft.Compute/disks/"
	snapPath = group + "/providers/Microsoft.Compute/snapshots/"
	here     = "westeurope"
	there    = "northeurope"
)

// service is the SDK's fake server with disks that have a content, snapshots
// that take several looks to begin and copies that take several more, and what
// Azure documents of names, properties that cannot change, and locks.
type service struct {
	*wire.Proxy

	mu          sync.Mutex
	snapshots   map[string]*resource
	disks       map[string]*resource
	machines    map[string]*armcompute.VirtualMachine
	collections map[string]*collection
	scopeLock   bool
	n           int // snapshots made
	points      int // restore points made
}

// A resource is a snapshot or a disk.
type resource struct {
	snap    armcompute.Snapshot
	disk    armcompute.Disk
	content []byte
	looks   int // until it is begun
	percent float32
	copying bool
	removed int // looks until it is gone; 0: not removed
}

func newService() *service {
	s := &service{
		snapshots: map[string]*resource{}, disks: map[string]*resource{},
		machines: map[string]*armcompute.VirtualMachine{}, collections: map[string]*collection{},
	}
	s.Proxy = &wire.Proxy{Server: &accepting{server: fake.NewServerFactoryTransport(&fake.ServerFactory{
		SnapshotsServer:       fake.SnapshotsServer{Get: s.getSnapshot, BeginCreateOrUpdate: s.putSnapshot, BeginDelete: s.deleteSnapshot, NewListByResourceGroupPager: s.listSnapshots},
		DisksServer:           fake.DisksServer{Get: s.getDisk, BeginCreateOrUpdate: s.putDisk, BeginDelete: s.deleteDisk},
		VirtualMachinesServer: fake.VirtualMachinesServer{Get: s.getMachine},
		RestorePointCollectionsServer: fake.RestorePointCollectionsServer{
			Get: s.getCollection, CreateOrUpdate: s.putCollection, BeginDelete: s.deleteCollection,
		},
		RestorePointsServer: fake.RestorePointsServer{Get: s.getPoint, BeginCreate: s.putPoint},
	})}}
	return s
}

// accepting answers writes with 202 and where to ask, as Azure does. The fakes
// do that, too, but then take a second write of a name for a question about the
// first, and bear no two at a time. Lists of one path share their pages, so each
// gets a path of its own.
type accepting struct {
	mu     sync.Mutex
	server *fake.ServerFactoryTransport
	lists  int
}

func (a *accepting) Do(r *http.Request) (*http.Response, error) {
	r = r.WithContext(context.WithoutCancel(r.Context())) // or the fake answers before it has done what was asked
	if r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, "/snapshots") {
		a.mu.Lock()
		a.lists++
		r.URL = r.URL.JoinPath(fmt.Sprintf("list-%d", a.lists))
		a.mu.Unlock()
	}
	if r.Method == http.MethodGet {
		return a.server.Do(r)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	resp, err := a.server.Do(r)
	if err == nil && resp.StatusCode == http.StatusOK { // of restore points, and of collections that are made, it is 201
		resp.StatusCode = http.StatusAccepted
		resp.Header.Set("Azure-AsyncOperation", "https://management.azure.com/operations/1")
	}
	return resp, err
}

func (s *service) open(t *testing.T, change func(*disks.Config)) *disks.Snapshots {
	t.Helper()
	c := disks.Config{Subscription: "s1", ResourceGroup: "g1", Region: here, Attempts: 2, Poll: time.Millisecond, Credential: &wire.Tokens{Prefix: "owner"}}
	if change != nil {
		change(&c)
	}
	d, err := disks.OpenOn(t.Context(), c, s)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func base(id string) string { return strings.ToLower(id[strings.LastIndexByte(id, '/')+1:]) }

// newDisk is what the suite uses as a volume.
func (s *service) newDisk(content []byte) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	name := "disk-" + strings.ToLower(rand.Text()[:8])
	s.disks[name] = &resource{disk: armcompute.Disk{Location: p(here), Name: p(name), Properties: &armcompute.DiskProperties{ProvisioningState: p("Succeeded")}}, content: slices.Clone(content)}
	return diskPath + name
}

func (s *service) getDisk(_ context.Context, _, name string, _ *armcompute.DisksClientGetOptions) (resp azfake.Responder[armcompute.DisksClientGetResponse], errResp azfake.ErrorResponder) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.disks[strings.ToLower(name)]
	if r != nil && r.removed > 0 {
		if r.removed--; r.removed == 0 {
			delete(s.disks, strings.ToLower(name))
			r = nil
		}
	}
	if r == nil {
		errResp.SetResponseError(404, "ResourceNotFound")
		return
	}
	if r.looks > 0 {
		if r.looks--; r.looks == 0 {
			r.disk.Properties.ProvisioningState = p("Succeeded")
		}
	}
	disk, props := r.disk, *r.disk.Properties
	disk.Properties = &props
	resp.SetResponse(200, armcompute.DisksClientGetResponse{Disk: disk}, nil)
	return
}

func (s *service) putDisk(_ context.Context, _, name string, in armcompute.Disk, _ *armcompute.DisksClientBeginCreateOrUpdateOptions) (resp azfake.PollerResponder[armcompute.DisksClientCreateOrUpdateResponse], errResp azfake.ErrorResponder) {
	s.mu.Lock()
	defer s.mu.Unlock()
	of := *in.Properties.CreationData.SourceResourceID
	if now := s.disks[name]; now != nil {
		if *now.disk.Properties.CreationData.SourceResourceID != of {
			errResp.SetResponseError(409, "PropertyChangeNotAllowed")
			return
		}
	} else {
		content, ok := s.frozen(of)
		if source := s.snapshots[base(of)]; source != nil && *in.Properties.CreationData.CreateOption == armcompute.DiskCreateOptionCopy {
			content, ok = source.content, true
		}
		if !ok {
			errResp.SetResponseError(404, "NotFound")
			return
		}
		in.Name = p(name)
		in.Properties.ProvisioningState = p("Creating")
		s.disks[name] = &resource{disk: in, content: slices.Clone(content), looks: 2}
	}
	resp.SetTerminalResponse(200, armcompute.DisksClientCreateOrUpdateResponse{}, nil)
	return
}

func (s *service) getSnapshot(_ context.Context, _, name string, _ *armcompute.SnapshotsClientGetOptions) (resp azfake.Responder[armcompute.SnapshotsClientGetResponse], errResp azfake.ErrorResponder) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.snapshots[strings.ToLower(name)]
	if r != nil && r.removed > 0 {
		if r.removed--; r.removed == 0 {
			delete(s.snapshots, strings.ToLower(name))
			r = nil
		}
	}
	if r == nil {
		errResp.SetResponseError(404, "ResourceNotFound")
		return
	}
	snap := r.snap
	props := *snap.Properties
	snap.Properties = &props
	switch {
	case r.removed > 0:
		props.ProvisioningState = p("Deleting")
	case r.looks > 0:
		r.looks--
		props.ProvisioningState = p("Creating")
	case r.copying:
		props.CompletionPercent = p(r.percent)
		r.percent = min(r.percent+34, 100)
	}
	resp.SetResponse(200, armcompute.SnapshotsClientGetResponse{Snapshot: snap}, nil)
	return
}

func (s *service) putSnapshot(_ context.Context, _, name string, in armcompute.Snapshot, _ *armcompute.SnapshotsClientBeginCreateOrUpdateOptions) (resp azfake.PollerResponder[armcompute.SnapshotsClientCreateOrUpdateResponse], errResp azfake.ErrorResponder) {
	s.mu.Lock()
	defer s.mu.Unlock()
	of := *in.Properties.CreationData.SourceResourceID
	copying := *in.Properties.CreationData.CreateOption == armcompute.DiskCreateOptionCopyStart
	source := s.disks[base(of)]
	if copying {
		source = s.snapshots[base(of)]
	}
	switch now := s.snapshots[name]; {
	case *in.Location != here && *in.Location != there:
		errResp.SetResponseError(400, "LocationNotAvailableForResourceType")
		return
	case now != nil && *now.snap.Properties.CreationData.SourceResourceID != of:
		errResp.SetResponseError(409, "PropertyChangeNotAllowed")
		return
	case now != nil && now.looks > 0:
		errResp.SetResponseError(409, "OperationNotAllowed") // one is under way
		return
	case now == nil && (source == nil || source.removed > 0):
		errResp.SetResponseError(404, "NotFound")
		return
	case now == nil && !copying && source.looks > 0: // a disk that is being made
		errResp.SetResponseError(409, "OperationNotAllowed")
		return
	case now == nil:
		in.Name = p(name)
		in.Properties.ProvisioningState, in.Properties.TimeCreated = p("Succeeded"), p(time.Now().UTC().Round(time.Microsecond))
		in.Properties.DiskSizeBytes = p(int64(len(source.content)))
		s.snapshots[name] = &resource{snap: in, content: slices.Clone(source.content), looks: 2, copying: copying}
		s.n++
	}
	resp.SetTerminalResponse(200, armcompute.SnapshotsClientCreateOrUpdateResponse{}, nil)
	return
}

func (s *service) deleteSnapshot(_ context.Context, _, name string, _ *armcompute.SnapshotsClientBeginDeleteOptions) (resp azfake.PollerResponder[armcompute.SnapshotsClientDeleteResponse], errResp azfake.ErrorResponder) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.snapshots[strings.ToLower(name)]
	switch {
	case s.scopeLock:
		errResp.SetResponseError(409, "ScopeLocked")
		return
	case r != nil && r.snap.Properties.ImmutabilityPolicy != nil:
		errResp.SetResponseError(409, "OperationNotAllowed")
		return
	case r != nil:
		r.removed = 3
	}
	resp.SetTerminalResponse(200, armcompute.SnapshotsClientDeleteResponse{}, nil)
	return
}

// listSnapshots delivers two to a page, and the group in capitals.
func (s *service) listSnapshots(string, *armcompute.SnapshotsClientListByResourceGroupOptions) (resp azfake.PagerResponder[armcompute.SnapshotsClientListByResourceGroupResponse]) {
	s.mu.Lock()
	names := slices.Sorted(maps.Keys(s.snapshots))
	s.mu.Unlock()
	slices.Reverse(names)
	var page []*armcompute.Snapshot
	add := func() {
		resp.AddPage(200, armcompute.SnapshotsClientListByResourceGroupResponse{SnapshotList: armcompute.SnapshotList{Value: page}}, nil)
		page = nil
	}
	for _, name := range names {
		one, _ := s.getSnapshot(context.Background(), "g1", name, nil)
		if snap, ok := s.peek(name, one); ok {
			snap.ID = p(strings.ToUpper(snapPath) + name)
			page = append(page, &snap)
		}
		if len(page) == 2 {
			add()
		}
	}
	add()
	return
}

// peek is what getSnapshot has answered.
func (s *service) peek(name string, _ azfake.Responder[armcompute.SnapshotsClientGetResponse]) (armcompute.Snapshot, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.snapshots[name]
	if r == nil {
		return armcompute.Snapshot{}, false
	}
	snap, props := r.snap, *r.snap.Properties
	snap.Properties = &props
	switch {
	case r.removed > 0:
		props.ProvisioningState = p("Deleting")
	case r.looks > 0:
		props.ProvisioningState = p("Creating")
	case r.copying:
		props.CompletionPercent = p(r.percent)
	}
	return snap, true
}

var errNoDisk = errors.New("no such disk")

func (s *service) content(id string, f func(*resource)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.disks[base(id)]
	if r == nil {
		return errNoDisk
	}
	f(r)
	return nil
}

func p[T any](v T) *T { return &v }
